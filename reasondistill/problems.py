"""Stage 1: rows of a hub dataset, a file or a procedural set → Problem, or SetAside with a reason.

    with GradingPool() as pool:
        run_problems(pipeline.problems, Path("runs/demo/1-problems"), pool=pool)

A problem has a question, and a gold answer that grades itself correct: a gold that the grader cannot read would count every right
trace as wrong.

Fields are named (`question = "problem"`), dotted (`answer = "final_answer.0"`), or, for the question, put together
(`question = "{Body} {Question}"`). `answer_after = "####"` takes what follows the last such mark; `answer_after = '\\boxed'` the
content of the last box.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
import re
import time
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from reasondistill import store
from reasondistill.config import ProblemSource
from reasondistill.curation.rows import (
    OpenedRows,
    Row,
    as_text,
    content_hash,
    field_names,
    find_path,
    open_file,
    open_hub,
    open_procedural,
    procedural_version,
    value_at,
)
from reasondistill.errors import ConfigError, DataError
from reasondistill.grading import GRADER, GradeItem
from reasondistill.grading.extract import last_boxes
from reasondistill.records import Grade, Origin, Problem, SetAside, fingerprint
from reasondistill.sections import nearest

VERSION = 1

PROBLEMS, SET_ASIDE = "problems.jsonl", "set_aside.jsonl"

# {field} inside a `question` key.
_TEMPLATE = re.compile(r"\{([^{}]+)\}")

logger = logging.getLogger(__name__)


class Grader(Protocol):
    """What this stage needs of a grading.GradingPool."""

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[tuple[str, Grade]]:
        """Grades in the order of the items."""
        ...


def run_problems(
    source: ProblemSource,
    folder: Path,
    *,
    pool: Grader,
    held_out: Mapping[str, str] | None = None,
    keep_old: bool = False,
    base: Path | None = None,
) -> store.Manifest:
    """Write problems.jsonl and set_aside.jsonl; in = out + dropped.

    `held_out` maps normalised question texts to the benchmark that has them: such a problem is set aside.
    Raises ConfigError and DataError for a source that cannot be used, also when no row of it makes a problem.
    """
    started = time.monotonic()
    held_out = held_out or {}
    place = locate(source, base)
    if store.open_stage(folder, _identity(source, place, held_out), keep_old=keep_old) == "complete":
        return store.require_complete(folder)
    opened = open_source(source, place)
    set_aside: list[SetAside] = []
    kept = _kept(check_golds(without_held_out(_problems(source, opened), held_out), pool), set_aside)
    out = store.write_records(folder / PROBLEMS, kept)
    store.write_records(folder / SET_ASIDE, set_aside)
    dropped = Counter(aside.reason for aside in set_aside)
    if out == 0:
        raise DataError(_nothing_left(source, set_aside, dropped, folder))
    logger.info("%s: %d problems, %d set aside", folder, out, len(set_aside))
    # The grader is told, not part of the identity: a better grader must not throw away the traces.
    figures = {"dataset": opened.dataset, "revision": opened.revision, "split": opened.split, "grader": GRADER}
    counts = {"in": out + len(set_aside), "out": out}
    seconds = time.monotonic() - started
    return store.finish_stage(folder, counts=counts, dropped=dropped, figures=figures, seconds=seconds, files=[PROBLEMS])


def read_problems(source: ProblemSource, *, base: Path | None = None) -> Iterator[Problem | SetAside]:
    """Yield what each selected row became, in order. Golds are not checked here.

    A relative path is looked up from the working directory, then from `base`.
    """
    yield from _problems(source, open_source(source, locate(source, base)))


def normalise_question(text: str) -> str:
    """The text by which two questions are the same: lower case, spaces folded, prose punctuation dropped.

    Signs that carry meaning stay: `3+4` and `3-4`, `3.5` and `35`, `f(1,2)` and `f(12)` are different questions.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"[\"'`´‘’“”$]", "", text)
    text = re.sub(r"[.,;:!?…]+(?=\s|$)", " ", text)
    return " ".join(text.split())


# ---- opening ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a source was found. `inputs` is what its rows are a function of besides the settings: a content hash, a package version."""

    path: Path | None
    inputs: Mapping[str, str]


def locate(source: ProblemSource, base: Path | None) -> Place:
    """Find the source without the network and without reading rows: a finished stage needs no hub. Raises ConfigError."""
    if source.source == "procedural":
        return Place(None, {"reasoning-gym": procedural_version()})
    path = find_path(source.dataset, base)
    if source.source == "hub" and (path is None or path.is_file()):
        return Place(None, {})  # a hub revision counts as it was asked for
    if path is None:
        places = "the working directory" if base is None else f"the working directory and {base}"
        raise ConfigError(f'dataset = "{source.dataset}": no such file (looked in {places}).')
    return Place(path, {"content": content_hash(path)})


def open_source(source: ProblemSource, place: Place) -> OpenedRows:
    """Open what was located. Raises ConfigError when it cannot be read as what the section says it is."""
    if source.source == "procedural":
        return open_procedural(source.dataset, seed=source.seed, options=source.options)
    if source.source == "file" and place.path is not None:
        return open_file(place.path, revision=place.inputs["content"], split=source.split)
    return open_hub(
        source.dataset,
        place.path,
        config=source.config,
        split=source.split,
        revision=place.inputs.get("content", source.revision),
        streaming=source.limit is not None and not source.shuffle,
        trust_remote_code=source.trust_remote_code,
    )


def _identity(source: ProblemSource, place: Place, held_out: Mapping[str, str]) -> store.Identity:
    """A local file counts by name and content, not by the folder that it lies in."""
    section = source.model_dump(mode="json")
    if place.path is not None:
        section["dataset"] = place.path.name
    inputs = dict(place.inputs) | ({"held_out": fingerprint(dict(held_out))} if held_out else {})
    return store.Identity("problems", VERSION, section, inputs)


# ---- choosing rows ------------------------------------------------------------------------------------------------

_PEEK = 100
# A procedural stream has no end: a filter that matches this rarely is taken for one that never does.
_PATIENCE_ROWS, _PATIENCE_PER_PROBLEM = 20_000, 2_000


def _selected(source: ProblemSource, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows that the filter keeps, shuffled when asked, at most `limit` of them."""
    rows = _matching(source, _checked(source, rows))
    if source.source == "procedural":
        rows = islice(rows, source.limit)
    if not source.shuffle:
        return islice(rows, source.limit)
    # Rows rank by a hash of seed and place: memory is `limit` rows, and the order owes nothing to the length of the file.
    ranked = ((_rank(source.seed, row.index), row.index, row) for row in rows)
    chosen = sorted(ranked) if source.limit is None else heapq.nsmallest(source.limit, ranked)
    return (row for _, _, row in chosen)


def _rank(seed: int, index: int) -> bytes:
    return hashlib.sha256(f"{seed}:{index}".encode()).digest()[:8]


def _checked(source: ProblemSource, rows: Iterator[Row]) -> Iterator[Row]:
    """The same rows; raises when there is none, or when a mapped field stands in none of the first hundred."""
    head = list(islice(rows, _PEEK))
    if not head:
        raise DataError(f"{source.dataset}: no rows.")
    known = list(dict.fromkeys(name for row in head for name in field_names(row.fields)))
    for key, name in _wanted(source):
        if name not in known and not any(_has(row.fields, name) for row in head):
            listed = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
            raise ConfigError(f'{key} = "{name}": {source.dataset} has no such field. {_close(name, known)}Fields: {listed}.')
    return chain(head, rows)


def _close(name: str, known: list[str]) -> str:
    hint = nearest(name, known)
    return f"{hint} " if hint.startswith("Did you mean") else ""


def _wanted(source: ProblemSource) -> list[tuple[str, str]]:
    """Key of the section and field of the rows, for each field that the section names."""
    named = [(key, getattr(source, key)) for key in ("answer", "solution", "id", "subject", "level")]
    parts = [("question", name) for name in _TEMPLATE.findall(source.question) or [source.question]]
    return [*parts, *((key, name) for key, name in named if name), *((f"filter.{name}", name) for name in source.filter)]


def _has(fields: Mapping[str, Any], name: str) -> bool:
    try:
        value_at(fields, name)
    except KeyError:
        return False
    return True


def _get(fields: Mapping[str, Any], name: str | None) -> Any:
    """The value, or None where this row lacks it."""
    return value_at(fields, name) if name is not None and _has(fields, name) else None


def _matching(source: ProblemSource, rows: Iterator[Row]) -> Iterator[Row]:
    if not source.filter:
        yield from rows
        return
    wanted = {name: {_filter_key(value) for value in values} for name, values in source.filter.items()}
    seen: dict[str, Counter[str]] = {name: Counter() for name in wanted}
    found = 0
    for scanned, row in enumerate(rows):
        keys = {name: _filter_keys(_get(row.fields, name)) for name in wanted}
        if all(keys[name] & wanted[name] for name in wanted):
            found += 1
            yield row
            continue
        for name, values in keys.items():
            if len(seen[name]) < 100:
                seen[name].update(values)
        if source.source == "procedural" and scanned > _PATIENCE_ROWS + _PATIENCE_PER_PROBLEM * found:
            raise ConfigError(f"filter: {found} of the first {scanned + 1:,} rows match. {_values_seen(seen)}")
    if found == 0:
        raise ConfigError(f"filter: no row of {source.dataset} matches. {_values_seen(seen)}")


def _filter_keys(value: Any) -> set[str]:
    """A list matches by any of its items (a row with several tags)."""
    return {_filter_key(item) for item in value} if isinstance(value, list) else {_filter_key(value)}


def _filter_key(value: Any) -> str:
    """5 and "5" are the same; so are true and the "True" of a CSV file."""
    text = as_text(value).strip()
    return text.lower() if text in ("True", "False") else text


def _values_seen(seen: Mapping[str, Counter[str]]) -> str:
    shown = (f"{name} is one of {', '.join(repr(value) for value in sorted(values)[:12])}" for name, values in seen.items() if values)
    return "Found: " + "; ".join(shown) + "."


# ---- rows to problems ---------------------------------------------------------------------------------------------


def _problems(source: ProblemSource, opened: OpenedRows) -> Iterator[Problem | SetAside]:
    ids: set[str] = set()
    questions: dict[bytes, str] = {}
    for row in _selected(source, opened.rows):
        made = _problem(source, opened, row, _new_id(source, opened, row, ids))
        if isinstance(made, SetAside):
            yield made
            continue
        text = hashlib.sha256(normalise_question(made.question).encode("utf-8", "surrogatepass")).digest()[:16]
        first = questions.setdefault(text, made.id)
        yield made if first == made.id else _aside(made, "duplicate question", f"the same question as {first}")


def _new_id(source: ProblemSource, opened: OpenedRows, row: Row, taken: set[str]) -> str:
    """`<name>/<split>/<row or id>`, safe in a file name and on one line, and used once."""
    name = source.name or _safe(Path(opened.dataset).stem if source.source == "file" else opened.dataset.rstrip("/").split("/")[-1])
    own = _safe(as_text(_get(row.fields, source.id))) or str(row.index)
    place = f"{name}/{_safe(opened.split)}/{own}"
    if place in taken:
        place = f"{place}-row{row.index}"
    while place in taken:
        place += "-again"
    taken.add(place)
    return place


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:120]


def _problem(source: ProblemSource, opened: OpenedRows, row: Row, name: str) -> Problem | SetAside:
    origin = Origin(dataset=opened.dataset, revision=opened.revision, split=opened.split, row=row.index)

    def aside(reason: str, detail: str = "") -> SetAside:
        return SetAside(id=name, reason=reason, detail=detail[:200], origin=origin)

    question, answer = _question(row, source.question), _get(row.fields, source.answer) if source.answer else ""
    for key, value in (("question", question), ("answer", answer)) if source.answer else (("question", question),):
        if isinstance(value, (list, Mapping)):
            return aside(f"{key} is not text", f"found {type(value).__name__}: {value}")
        if not as_text(value).strip():
            return aside(f"no {key}")
    gold = as_text(answer).strip()
    if (mark := source.answer_after) is not None and source.answer:
        if mark not in gold:
            return aside("no answer mark", f"no {mark!r} in {gold[-80:]!r}")
        if not (gold := _after(gold, mark)):
            return aside("no answer", f"nothing after {mark!r}")
    solution = _optional_text(row, source.solution)
    if not _is_unicode(f"{question}{gold}{solution}"):
        return aside("broken text", "holds lone surrogates, which no tokenizer takes")
    return Problem(
        id=name,
        question=as_text(question).strip(),
        answer=gold,
        reference_solution=solution,
        subject=_optional_text(row, source.subject),
        level=_optional_text(row, source.level),
        origin=origin,
    )


def _question(row: Row, named: str) -> Any:
    """The field, or the template with its fields put in."""
    if _TEMPLATE.search(named):
        return _TEMPLATE.sub(lambda match: as_text(_get(row.fields, match[1])), named)
    return _get(row.fields, named)


def _after(text: str, mark: str) -> str:
    """What follows the last mark; of a box, what is in it."""
    if mark.rstrip("{") == "\\boxed":
        boxes = last_boxes(text, "linked", gold=True)
        return (boxes.text or "").strip() if boxes is not None else ""
    return text.rpartition(mark)[2].strip()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _optional_text(row: Row, name: str | None) -> str | None:
    return as_text(_get(row.fields, name)) or None


def _aside(problem: Problem, reason: str, detail: str) -> SetAside:
    return SetAside(id=problem.id, reason=reason, detail=detail[:200], origin=problem.origin)


# ---- keeping ------------------------------------------------------------------------------------------------------


def without_held_out(entries: Iterable[Problem | SetAside], held_out: Mapping[str, str]) -> Iterator[Problem | SetAside]:
    """Set aside each problem whose question stands in a benchmark."""
    for entry in entries:
        benchmark = held_out.get(normalise_question(entry.question)) if isinstance(entry, Problem) else None
        if isinstance(entry, Problem) and benchmark is not None:
            yield _aside(entry, f"held out: in benchmark {benchmark}", "")
        else:
            yield entry


def check_golds(entries: Iterable[Problem | SetAside], pool: Grader) -> Iterator[Problem | SetAside]:
    """Set aside each problem whose gold answer does not grade itself correct; order is kept, memory is what the pool has in hand."""
    waiting: deque[Problem | SetAside] = deque()

    def items() -> Iterator[GradeItem]:
        for entry in entries:
            waiting.append(entry)
            if _has_gold(entry):
                assert isinstance(entry, Problem)
                yield GradeItem(id=entry.id, answer_text=f"\\boxed{{{entry.answer}}}", gold=entry.answer)

    for name, grade in pool.grade_many(items()):
        while not _has_gold(waiting[0]):
            yield waiting.popleft()
        problem = waiting.popleft()
        assert isinstance(problem, Problem) and problem.id == name, f"the pool answered {name} for {problem.id}"
        if grade.is_correct:
            yield problem
        else:
            yield _aside(problem, "gold does not grade itself", f"{grade.outcome}: {grade.reason} (gold {problem.answer!r})")
    yield from waiting


def _has_gold(entry: Problem | SetAside) -> bool:
    return isinstance(entry, Problem) and entry.answer != ""


def _kept(entries: Iterable[Problem | SetAside], set_aside: list[SetAside]) -> Iterator[Problem]:
    """The problems; what was set aside goes into the list."""
    for entry in entries:
        if isinstance(entry, Problem):
            yield entry
        else:
            set_aside.append(entry)


def _nothing_left(source: ProblemSource, set_aside: list[SetAside], dropped: Mapping[str, int], folder: Path) -> str:
    reasons = "; ".join(f"{reason} ({count:,})" for reason, count in dropped.items())
    first = set_aside[0]
    return (
        f"{source.dataset}: all {len(set_aside):,} rows were set aside: {reasons}. The first, {first.id}: "
        f"{first.reason}. {first.detail} See {folder / SET_ASIDE}."
    )
