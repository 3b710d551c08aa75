"""What there is to do for the traces of a run, and which model does which part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasondistill.config import SampledModel, TraceSettings
from reasondistill.models.prompts import NamedPrompt
from reasondistill.models.samplers import problem_and_sample
from reasondistill.models.samplers.opening import Serving, identity_of
from reasondistill.records import Problem
from reasondistill.runs import layout
from reasondistill.runs.growth import asked_in, stood_in
from reasondistill.runs.session import Session
from reasondistill.runs.store import HasGrown, read_manifest, require_complete
from reasondistill.stages.traces import capture, on_disk
from reasondistill.stages.traces.failures import Allowance
from reasondistill.stages.traces.teachers import deal
from reasondistill.stages.traces.unfinished import Unfinished


@dataclass(frozen=True)
class TraceJob:
    """What stays the same for all models of a run. `part` is the folder of one of `workers`,
    `unfinished` what is begun of its samples (None: whole samples only).
    """

    traces: TraceSettings
    problems: tuple[Problem, ...]
    prompt: NamedPrompt
    folder: Path
    serving: Serving
    session: Session
    part: Path | None = None
    workers: int = 1
    unfinished: Unfinished | None = None

    @property
    def allowance(self) -> Allowance:
        """How many samples of the whole stage may fail."""
        return Allowance(self.total, len(self.problems), self.traces.failures_allowed)

    @property
    def target(self) -> Path:
        """Where this process writes: a worker's own folder, or that of the stage."""
        return self.part or self.folder

    @property
    def total(self) -> int:
        return len(self.problems) * self.traces.n

    def count_asked(self, trace_ids: Set[str]) -> int:
        """How many of these are among the first `n` of their problem: a larger n may have drawn
        others before.
        """
        samples = (problem_and_sample(trace_id)[1] for trace_id in trace_ids)
        return sum(sample < self.traces.n for sample in samples)

    @property
    def is_stopped(self) -> bool:
        """Nobody waits for what is in flight any more."""
        stop = self.session.stop
        return stop is not None and stop.is_urgent

    @property
    def takes_no_more(self) -> bool:
        """Nothing new is begun; what is in flight may still end."""
        stop = self.session.stop
        return stop is not None and stop.requested

    def unfinished_of(self, model: SampledModel) -> Unfinished | None:
        """What is begun of a model's samples, where it can go on in their middle."""
        if not model.capabilities.goes_on:
            return None
        return self.unfinished

    def check_stop(self) -> None:
        """Raises Interrupted when somebody asked to stop."""
        also = ""
        if self.unfinished is not None and self.unfinished.kept.samples:
            also = self.unfinished.kept.words()
        if self.session.stop is not None:
            self.session.stop.check(also)

    def logprobs_of(self, model: SampledModel) -> int:
        """K for a model that can give its log-probabilities, else 0."""
        if not model.capabilities.gives_logprobs:
            return 0
        return self.traces.logprobs or 0

    def unscored(self) -> set[str]:
        """The traces on disk whose top K are wanted and not there."""
        if self.traces.logprobs is None:
            return set()
        return capture.unscored(self.folder, self.traces.logprobs)


@dataclass(frozen=True)
class ModelWork:
    """What one model still has to draw: the sample numbers that are missing, by problem.

    `hand` are all problems of this model, `number` is its place among the models. `unscored`
    are traces that it has drawn and whose top K are wanted now.
    """

    model: SampledModel
    number: int
    hand: tuple[Problem, ...]
    n: int
    missing: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    unscored: frozenset[str] = frozenset()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Those that lack samples."""
        return tuple(problem for problem in self.hand if problem.id in self.missing)

    @property
    def samples(self) -> int:
        return sum(len(numbers) for numbers in self.missing.values())

    @property
    def is_fresh(self) -> bool:
        """No sample of this model stands yet."""
        return self.samples == self.n * len(self.hand)

    def ids(self) -> set[str]:
        """The ids of all traces that this model has to draw."""
        ids: set[str] = set()
        for problem_id, samples in self.missing.items():
            ids.update(f"{problem_id}:{sample}" for sample in samples)
        return ids


def plan_work(job: TraceJob, finished: Set[str], unscored: Set[str]) -> list[ModelWork]:
    """What each model has to draw and to score; models with nothing to do are left out, so that
    their engine never starts.
    """
    works: list[ModelWork] = []
    hands = deal_problems(job)
    for number, model in enumerate(job.traces.teachers):
        hand = hands[number]
        missing = _missing(hand, job.traces.n, finished)
        to_score: frozenset[str] = frozenset()
        if unscored and model.capabilities.gives_logprobs:
            to_score = _traces_of(hand, unscored)
        if missing or to_score:
            works.append(ModelWork(model, number, tuple(hand), job.traces.n, missing, to_score))
    return works


def deal_problems(job: TraceJob) -> list[list[Problem]]:
    """Each model's own problems: those that it has drawn, and its share of those that nobody has. A
    teacher that was added later takes no drawn problem away.
    """
    teachers = job.traces.teachers
    hands: list[list[Problem]] = [[] for _ in teachers]
    shares = [model.share for model in teachers]
    drawn_by: Mapping[str, str] = {}
    if len(teachers) > 1:
        drawn_by = on_disk.drawn_by(job.folder / layout.TRACES)
    places: dict[str, int] = {}
    if drawn_by:
        places = _places(teachers)
    for problem in job.problems:
        place = places.get(drawn_by.get(problem.id, ""))
        if place is None:
            place = deal(problem.id, shares)
        hands[place].append(problem)
    return hands


def _places(teachers: Sequence[SampledModel]) -> dict[str, int]:
    """Which teacher a model is; those that sample the same weights are not told apart."""
    names = [identity_of(model) for model in teachers]
    return {name: place for place, name in enumerate(names) if names.count(name) == 1}


def _missing(hand: Sequence[Problem], n: int, finished: Set[str]) -> dict[str, tuple[int, ...]]:
    missing: dict[str, tuple[int, ...]] = {}
    for problem in hand:
        samples = [sample for sample in range(n) if f"{problem.id}:{sample}" not in finished]
        if samples:
            missing[problem.id] = tuple(samples)
    return missing


def _traces_of(hand: Sequence[Problem], trace_ids: Set[str]) -> frozenset[str]:
    problem_ids = {problem.id for problem in hand}
    return frozenset(
        trace_id for trace_id in trace_ids if problem_and_sample(trace_id)[0] in problem_ids
    )


# ---- what the traces are a function of -----------------------------------------------------------


def inputs_of(traces: TraceSettings, problems_folder: Path) -> dict[str, str]:
    """What a model is asked: ids and questions. A gold answer that is put right changes grades,
    never samples.

    Reference solutions are traces themselves: then the whole problems count.
    """
    output = require_complete(problems_folder).output
    if any(model.capabilities.reads_solutions for model in traces.teachers):
        return {"problems": output}
    return {"questions": asked_in(problems_folder / layout.PROBLEMS)}


def has_grown(traces: TraceSettings, problems_folder: Path, folder: Path) -> HasGrown:
    """Whether a changed key leaves all traces of a folder what they are: other problems, and those
    that have traces are all among them; another teacher behind the others; a lower `n`, of which no
    more are drawn.

    The folder of the problems knows what it was; where it has been made anew since, its first
    problems may be those that the traces are of. A teacher of the same weights as another one is no
    growth: which of them has drawn a problem is not known.
    """
    stood = stood_in(problems_folder)
    before = read_manifest(folder)

    def begins_with(old: Any) -> bool:
        if before is None:
            return False
        first = before.section.get("limit")
        return old == asked_in(problems_folder / layout.PROBLEMS, first=first)

    def is_growth(name: str, old: Any, new: Any) -> bool:
        if name in ("inputs.questions", "inputs.problems"):
            return new is not None and (old in stood or begins_with(old))
        if name == "section.n":
            return True
        if name == "section.limit":
            return bool(stood)  # all that have traces are there, whatever their number is now
        is_teacher = name.removeprefix("section.teachers.").isdigit()
        return is_teacher and old is None and len(_places(traces.teachers)) == len(traces.teachers)

    return is_growth


def section_of(traces: TraceSettings, prompt: NamedPrompt, problems: int) -> dict[str, Any]:
    """The settings of a folder's identity. `problems` is how many of them are sampled."""
    models = enumerate(traces.teachers, start=1)
    return {
        "prompt": prompt.tag,
        "n": traces.n,
        "limit": problems,
        "sampling": traces.resolve().model_dump(mode="json"),
        "teachers": {str(number): model_section(model) for number, model in models},
    }


def model_section(model: SampledModel) -> dict[str, Any]:
    """What a model's samples depend on, besides the prompt and the sampling."""
    section = model.model_dump(mode="json", include={"sampler", "share", "template_options"})
    return {"model": identity_of(model)} | section | model.shaping()
