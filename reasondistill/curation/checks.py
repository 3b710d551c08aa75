"""What is looked at of problems before they are trained on: questions that benchmarks have, and
golds that the samples of their problems speak against.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reasondistill.checks import Advice, Fault, check
from reasondistill.curation.benchmarks import HeldOut
from reasondistill.errors import DataError
from reasondistill.records import Problem, SuspectGold
from reasondistill.runs.limits import FAULTY_SHARE
from reasondistill.runs.store import read_records

_MOST_NAMES = 3


@dataclass(frozen=True)
class Training:
    """The problems of a run as they are now, each time anew, beside the questions of its
    benchmarks. `is_searched` says that the file has them looked for when problems are made.
    """

    problems: Callable[[], Iterable[Problem]]
    held_out: Callable[[], Iterable[HeldOut]]
    is_searched: bool = False


@check(
    Training,
    "overlap",
    cost="data",
    remedy="reasondistill run FILE --set 'problems.decontaminate={}'",
)
def holds_no_benchmark(training: Training) -> Iterator[Fault | Advice]:
    """At most 5 % of the problems hold a question of a benchmark that is measured, in other words
    or with more around it. Equal ones are always set aside.
    """
    if training.is_searched:
        return
    from reasondistill.curation.instructions import common_sentences
    from reasondistill.curation.leaks import LeakIndex
    from reasondistill.curation.shingles import Text

    questions = {problem.id: problem.question for problem in training.problems()}
    index = LeakIndex(training.held_out(), common=common_sentences(questions.values()))
    if not index.questions:
        return
    texts = (Text(name, question) for name, question in questions.items())
    found: Counter[str] = Counter()
    first: list[str] = []
    for text, leaks in index.search(texts):
        of_others = [leak for leak in leaks if leak.kind == "leak" and leak.method != "equal"]
        if of_others:
            found[of_others[0].benchmark] += 1
            first.append(f"{text.id} has {of_others[0].question_id}")
    if not found:
        return
    counts = ", ".join(f"{count:,} of {name}" for name, count in found.items())
    said = (
        f"[problems]: {len(first):,} of {len(questions):,} problems hold questions that are "
        f"measured ({counts}): {'; '.join(first[:_MOST_NAMES])}. A [problems.decontaminate] table "
        "sets them aside."
    )
    if len(first) > FAULTY_SHARE * len(questions):
        yield Fault(DataError(said), stops=False)
    else:
        yield Advice(said)


@dataclass(frozen=True)
class Golds:
    """The file of golds under suspicion that stage 4 has written, and of how many problems."""

    suspects: Path
    problems: int


@check(
    Golds,
    "golds",
    cost="data",
    remedy="reasondistill run FILE --set name=ANOTHER --set examples.suspect_golds=leave_out",
)
def samples_agree_with_golds(golds: Golds) -> Iterator[Fault | Advice]:
    """Few golds are spoken against by most samples of their problems."""
    suspects = list(read_records(golds.suspects, SuspectGold))
    if not suspects:
        return
    shown = "; ".join(
        f"{one.problem_id} says {one.gold[:40]!r}, {one.votes} of {one.n} samples "
        f"{one.answer[:40]!r}"
        for one in suspects[:_MOST_NAMES]
    )
    text = (
        f"{golds.suspects}: {len(suspects):,} of {golds.problems:,} golds contradict most samples "
        f"of their problems: {shown}."
    )
    if len(suspects) > FAULTY_SHARE * golds.problems:
        yield Fault(DataError(text), stops=False)
    else:
        yield Advice(text)
