"""Checks of a benchmark before it is measured: the rows, texts and gold answers must be those of
its file; its errata, and answers that nobody can grade by rules.

    entries = list(read_entries(...))
    content = check_content(benchmark, entries)
    entries = list(set_ungraded_aside(benchmark, apply_errata(benchmark, entries)))
    check_answer_kind(benchmark, entries)

Nothing here reads or writes files.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reasondistill.config import AnswerKind, Benchmark, Erratum
from reasondistill.curation.filter_rules import linear_search
from reasondistill.errors import ConfigError, DataError
from reasondistill.hashing import stable_digest
from reasondistill.records import Problem, SetAside


class HeldOut(NamedTuple):
    """A question that training must not hold: of a benchmark, or of a file that is named."""

    benchmark: str
    id: str
    question: str


# Copies write a whole number as 45, 045 or "45.0".
_WHOLE = re.compile(r"^(-?)0*(\d+)(?:\.0+)?$")


def content_of(entries: Iterable[Problem | SetAside]) -> str:
    """16 hex digits for the questions and gold answers of a set, the same for any file format and
    order.

    Copies differ in blanks and in how they encode an accent or a whole number, so runs of white
    space are one blank, text is NFC and a gold 045.0 is 45; case and every other sign count. A
    repeated problem counts each time. Rows without question or answer are not in the hash, but in
    `rows`.
    """
    pairs = sorted(_digest(entry) for entry in entries if isinstance(entry, Problem))
    return hashlib.sha256(b"".join(pairs)).hexdigest()[:16]


def _digest(problem: Problem) -> bytes:
    gold = _WHOLE.sub(r"\1\2", _folded(problem.answer))
    return stable_digest(f"{_folded(problem.question)}\0{gold}")


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def check_content(benchmark: Benchmark, entries: Sequence[Problem | SetAside]) -> str:
    """The content hash of the entries. Raises DataError when rows or hash are not those of the
    benchmark file.
    """
    content = content_of(entries)
    check_found(benchmark, len(entries), content)
    return content


def check_found(benchmark: Benchmark, rows: int, content: str) -> None:
    """Raise DataError when the set that was read is not the one that the file describes."""
    faults: list[str] = []
    if benchmark.rows is not None and rows != benchmark.rows:
        faults.append(f"rows = {benchmark.rows:,} expected, {rows:,} found")
    if benchmark.content is not None and content != benchmark.content:
        faults.append(f'content = "{benchmark.content}" expected, "{content}" found')
    if faults:
        raise DataError(
            f"benchmark {benchmark.name} ({benchmark.problems.dataset}): "
            f"{'; '.join(faults)}. {_remedy(benchmark)}"
        )


def _remedy(benchmark: Benchmark) -> str:
    chosen = [key for key in ("filter", "limit") if getattr(benchmark.problems, key)]
    cause = "Another revision, another split, or the set was edited."
    if chosen and benchmark.problems.source != "procedural":
        cause = (
            f"The file selects rows ({', '.join(chosen)}), and `rows` and `content` describe "
            "what is left."
        )
    elif benchmark.problems.source == "procedural":
        cause = "Another seed, limit, filter or version of reasoning-gym makes other rows."
    return (
        f"{cause} If you want this version, copy the benchmark file, remove its keys `rows` and "
        "`content` and rename it."
    )


# ---- errata --------------------------------------------------------------------------------------


def apply_errata(
    benchmark: Benchmark, entries: Iterable[Problem | SetAside]
) -> Iterator[Problem | SetAside]:
    """The entries with corrected gold answers; a dropped problem is set aside as `erratum`.

    Raises ConfigError for an erratum without a problem, or whose problem has another question.
    """
    errata = {erratum.id: erratum for erratum in benchmark.errata}
    for entry in entries:
        erratum = errata.pop(last_part(entry.id), None)
        if erratum is None:
            yield entry
        elif not isinstance(entry, Problem):
            raise ConfigError(
                f"benchmark {benchmark.name}: erratum {erratum.id!r}: the row is not a problem "
                f"({entry.reason}). Remove the erratum."
            )
        else:
            yield _corrected(benchmark, entry, erratum)
    if errata:
        raise ConfigError(
            f"benchmark {benchmark.name}: erratum {next(iter(errata))!r}: there is no problem "
            f"with that id. "
            "It is the last part of a problem's id: the row's own id where `problems.id` "
            "names one, else its number counted from 0."
        )


def _corrected(benchmark: Benchmark, problem: Problem, erratum: Erratum) -> Problem | SetAside:
    starts = _folded(erratum.question_starts or "")
    if not _folded(problem.question).startswith(starts):
        raise ConfigError(
            f"benchmark {benchmark.name}: erratum {erratum.id!r} is about a question that "
            f"starts {starts!r}, but {problem.id} starts "
            f"{_folded(problem.question)[:60]!r}. This copy has another order: give the "
            "errata the ids of this one."
        )
    if erratum.answer is None:
        return SetAside(
            id=problem.id, reason="erratum", detail=erratum.reason[:200], origin=problem.origin
        )
    return problem.model_copy(update={"answer": erratum.answer.strip()})


def last_part(problem_id: str) -> str:
    """`12` of `gsm8k/test/12`."""
    return problem_id.rpartition("/")[2]


def errata_identity(benchmark: Benchmark) -> list[Mapping[str, Any]]:
    """The parts of the errata that change the problems; the reasons may be reworded."""
    return [
        erratum.model_dump(include={"id", "answer", "drop"})
        for erratum in sorted(benchmark.errata, key=lambda e: e.id)
    ]


def set_ungraded_aside(
    benchmark: Benchmark, entries: Iterable[Problem | SetAside]
) -> Iterator[Problem | SetAside]:
    """The entries; those whose gold answers have a form that the benchmark says nobody can grade by
    rules are set aside, by its reason. Raises ConfigError for a pattern that RE2 does not read.
    """
    rules = [
        (rule.reason, linear_search(f"benchmark {benchmark.name}: set_aside.answer", rule.answer))
        for rule in benchmark.set_aside
    ]
    for entry in entries:
        if isinstance(entry, SetAside):
            yield entry
            continue
        reason = next((reason for reason, holds in rules if holds(entry.answer)), None)
        if reason is None:
            yield entry
            continue
        detail = f"gold {entry.answer[:150]}"
        yield SetAside(id=entry.id, reason=reason, detail=detail, origin=entry.origin)


def ungraded_identity(benchmark: Benchmark) -> list[list[str]]:
    """The rules as far as they change the problems."""
    return [[rule.answer, rule.reason] for rule in benchmark.set_aside]


# ---- kinds of answers ----------------------------------------------------------------------------

_GROUPED = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_NUMBER = rf"[+-]?(?:{_GROUPED}(?:\.\d*)?|\.\d+)"
_KINDS: dict[AnswerKind, re.Pattern[str]] = {
    "integer": re.compile(rf"[+-]?{_GROUPED}"),
    "number": re.compile(
        rf"{_NUMBER}(?:[eE][+-]?\d+)?%?"
        rf"|[+-]?{_GROUPED}\s*/\s*{_GROUPED}"
        r"|[+-]?\\[dt]?frac\{-?\d+\}\{\d+\}"
    ),
    "expression": re.compile(r".+", re.S),
    "choice": re.compile(r"\(?[A-J]\)?"),
}


def is_of_kind(answer: str, kind: AnswerKind) -> bool:
    """Whether a gold answer has the form of its kind; `$…$` around it does not matter."""
    return (
        _KINDS[kind].fullmatch(answer.strip().removeprefix("$").removesuffix("$").strip())
        is not None
    )


def check_answer_kind(benchmark: Benchmark, entries: Iterable[Problem | SetAside]) -> None:
    """Raise DataError, naming the problems, when a gold answer is not of the benchmark's kind."""
    kind = benchmark.answer_kind
    if kind is None:
        return
    wrong = [
        entry
        for entry in entries
        if isinstance(entry, Problem) and not is_of_kind(entry.answer, kind)
    ]
    if wrong:
        shown = "; ".join(f"{problem.id} has {problem.answer[:60]!r}" for problem in wrong[:3])
        raise DataError(
            f'benchmark {benchmark.name}: answer_kind = "{kind}", but {len(wrong):,} gold '
            f"answers are not of that kind: {shown}. "
            "Another field may hold the answer (`problems.answer`), or the kind is wrong."
        )
