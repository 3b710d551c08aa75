"""Which of the examples one student is trained on: `[students.examples]`. Of a chain of students,
each of which goes on from the one before, this is a curriculum.

    chosen_ids(job, examples)       # of those to train on

Examples to validate on stay, so that the losses of all students are of the same texts.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from reasondistill.config import StudentExamples
from reasondistill.curation.difficulty import pass_rate
from reasondistill.curation.mixing import UNNAMED, UNTAGGED
from reasondistill.errors import StageError
from reasondistill.hashing import stable_share
from reasondistill.models.samplers import problem_and_sample
from reasondistill.records import Example, Origin, Outcome, Problem, Trace, Verdict
from reasondistill.runs import layout
from reasondistill.runs.samples import counted_samples
from reasondistill.runs.store import read_records
from reasondistill.sections import listed
from reasondistill.stages.students.job import StudentJob

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Facts:
    """What is known of an example besides its text; None where it is not known."""

    source: str | None = None
    tag: str | None = None
    teacher: str | None = None
    temperature: float | None = None
    pass_rate: float | None = None


def chosen_ids(job: StudentJob, examples: Iterable[Example]) -> frozenset[str]:
    """The ids of the examples that the student is trained on.

    Raises StageError, naming the key, where nothing is left, and for a source, tag or teacher that
    no example to train on has.
    """
    settings = job.student.examples
    assert settings is not None
    known = KnownFacts(job, settings)
    there: dict[str, set[str]] = {"sources": set(), "tags": set(), "teachers": set()}
    chosen: list[str] = []
    total = 0
    for example in examples:
        if example.split != "train":
            continue
        facts = known.of(example)
        total += 1
        for key, name in zip(there, (facts.source, facts.tag, facts.teacher), strict=True):
            if name is not None:
                there[key].add(name)
        if fits(example, facts, settings):
            chosen.append(example.id)
    for key, names in there.items():
        _require_known(key, getattr(settings, key), names, job)
    if settings.limit is not None:
        chosen = heapq.nsmallest(
            settings.limit,
            chosen,
            key=lambda name: (stable_share(f"{settings.seed}:student:{name}"), name),
        )
    if not chosen:
        raise StageError(
            f"[students] {job.student.name} examples: none of the {total:,} training "
            f"examples is as [students.examples] says ({settings.words})."
        )
    log.info("%s: %d of %d training examples are chosen", job.student.name, len(chosen), total)
    return frozenset(chosen)


def fits(example: Example, facts: Facts, settings: StudentExamples) -> bool:
    """Whether an example is as the settings say. What is not known fits no bound."""
    named = (
        (settings.sources, facts.source),
        (settings.tags, facts.tag),
        (settings.teachers, facts.teacher),
    )
    if any(wanted and found not in wanted for wanted, found in named):
        return False
    bounded = (
        (example.tokens, settings.min_tokens, settings.max_tokens),
        (facts.temperature, settings.min_temperature, settings.max_temperature),
        (facts.pass_rate, settings.min_pass_rate, settings.max_pass_rate),
    )
    return all(_is_within(value, low, high) for value, low, high in bounded)


def _is_within(value: float | None, low: float | None, high: float | None) -> bool:
    if low is None and high is None:
        return True
    if value is None:
        return False
    return (low is None or value >= low) and (high is None or value <= high)


def _require_known(key: str, wanted: Sequence[str], there: Set[str], job: StudentJob) -> None:
    for name in wanted:
        if name not in there:
            raise StageError(
                f"[students] {job.student.name} examples.{key}: no training example has "
                f"{name!r}. There are: {listed(there)}."
            )


class KnownFacts:
    """What the settings ask of examples, from the records of the stages before; nothing is read
    that nobody asks for. Memory is that of names and numbers.
    """

    def __init__(self, job: StudentJob, settings: StudentExamples) -> None:
        self._origins: dict[str, Origin] = {}
        self._rates: dict[str, float | None] = {}
        self._traces: dict[str, tuple[str | None, float | None]] = {}
        if settings.sources or settings.tags:
            problems = read_records(job.problems / layout.PROBLEMS, Problem)
            self._origins = {problem.id: problem.origin for problem in problems}
        if settings.min_pass_rate is not None or settings.max_pass_rate is not None:
            verdicts = _folder(job.verdicts, "verdicts") / layout.VERDICTS
            self._rates = _pass_rates(verdicts, counted_samples(job.examples))
        temperatures = (settings.min_temperature, settings.max_temperature)
        if settings.teachers or temperatures != (None, None):
            path = _folder(job.traces, "traces") / layout.TRACES
            self._traces = {trace.id: _of_trace(trace) for trace in read_records(path, Trace)}

    def of(self, example: Example) -> Facts:
        """What is known of one example."""
        source = tag = None
        origin = self._origins.get(example.problem_id)
        if origin is not None:
            source, tag = origin.source or origin.dataset, origin.tag or UNTAGGED
        teacher, temperature = self._traces.get(example.trace_id or example.id, (None, None))
        return Facts(source, tag, teacher, temperature, self._rates.get(example.problem_id))


def _of_trace(trace: Trace) -> tuple[str | None, float | None]:
    """Teacher, without a revision, and temperature."""
    temperature = None
    if trace.sampling is not None:
        temperature = trace.sampling.temperature
    if trace.published is not None:
        return trace.published.teacher or UNNAMED, temperature
    return trace.model.partition("@")[0], temperature


def _folder(folder: Path | None, stage: str) -> Path:
    if folder is None:
        raise StageError(f"[students.examples] needs the {stage}, and nobody says where they are.")
    return folder


def _pass_rates(path: Path, samples: int | None) -> dict[str, float | None]:
    """The teacher's pass rate on each problem, over its first `samples`; the verdicts of a problem
    stand together.
    """
    rates: dict[str, float | None] = {}
    for problem_id, group in groupby(read_records(path, Verdict), lambda one: one.problem_id):
        outcomes: list[Outcome] = []
        for verdict in group:
            if samples is None or problem_and_sample(verdict.trace_id)[1] < samples:
                outcomes.append(verdict.grade.outcome)
        rates[problem_id] = pass_rate(outcomes)
    return rates
