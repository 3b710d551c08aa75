"""What there is to do for the traces of a run, and which model does which part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasondistill.config import AlsoSampled, SampledModel, TraceSettings
from reasondistill.models.prompts import NamedPrompt, load_prompt
from reasondistill.models.samplers import problem_and_sample
from reasondistill.models.samplers.opening import Serving, identity_of
from reasondistill.records import Problem, Sampling
from reasondistill.runs import layout
from reasondistill.runs.figures import TracesFigures
from reasondistill.runs.growth import asked_in, stood_in
from reasondistill.runs.missing import UNTIL
from reasondistill.runs.session import Session
from reasondistill.runs.store import HasGrown, Manifest, read_manifest, require_complete
from reasondistill.stages.traces import capture, on_disk
from reasondistill.stages.traces.failures import Allowance
from reasondistill.stages.traces.ledger import Ledger
from reasondistill.stages.traces.teachers import deal_by_domain
from reasondistill.stages.traces.unfinished import Unfinished


@dataclass(frozen=True)
class TraceJob:
    """What stays the same for all models of a run. `part` is the folder of one of `workers`,
    `unfinished` what is begun of its samples (None: whole samples only). With a `ledger` a problem
    is drawn until enough of its samples are correct, else each gets `n`.
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
    ledger: Ledger | None = None

    @property
    def allowance(self) -> Allowance:
        """How many samples of the whole stage may fail: a share of those that are surely drawn."""
        return Allowance(self.total, len(self.problems), self.traces.failures_allowed)

    @property
    def target(self) -> Path:
        """Where this process writes: a worker's own folder, or that of the stage."""
        return self.part or self.folder

    @property
    def total(self) -> int:
        """How many samples are drawn, whatever comes of them."""
        return len(self.problems) * self.traces.first_round

    def missing(self, finished: Set[str]) -> dict[str, tuple[int, ...]]:
        """The numbers of the samples that are to be drawn now, by problem."""
        if self.ledger is not None:
            return self.ledger.plan().missing
        missing: dict[str, tuple[int, ...]] = {}
        for problem in self.problems:
            numbers = range(self.traces.samples)
            lacking = [number for number in numbers if f"{problem.id}:{number}" not in finished]
            if lacking:
                missing[problem.id] = tuple(lacking)
        return missing

    def is_fresh(
        self, hand: Sequence[Problem], missing: Mapping[str, tuple[int, ...]], n: int
    ) -> bool:
        """Whether no sample of these problems stands yet that is among the `n` of this writer;
        `missing` is what they lack of these.
        """
        if self.ledger is not None:
            return not any(self.ledger.is_begun(problem.id) for problem in hand)
        return sum(map(len, missing.values())) == n * len(hand)

    def count_asked(self, trace_ids: Set[str]) -> int:
        """How many of these are among the samples of their problem that are wanted: a larger n may
        have drawn others before.
        """
        samples = (problem_and_sample(trace_id)[1] for trace_id in trace_ids)
        return sum(sample < self.traces.samples for sample in samples)

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

    `hand` are all problems of this model, `number` is its place among the models; `is_fresh` says
    that no sample of it stands yet. `unscored` are traces that it has drawn and whose top K are
    wanted now.
    """

    model: SampledModel
    prompt: NamedPrompt
    sampling: Sampling
    number: int
    hand: tuple[Problem, ...]
    is_fresh: bool
    missing: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    unscored: frozenset[str] = frozenset()
    # What its traces say that they are by, in the place of the model's own name.
    writer: str | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Those that lack samples."""
        return tuple(problem for problem in self.hand if problem.id in self.missing)

    @property
    def samples(self) -> int:
        return sum(len(numbers) for numbers in self.missing.values())

    def ids(self) -> set[str]:
        """The ids of all traces that this model has to draw."""
        ids: set[str] = set()
        for problem_id, samples in self.missing.items():
            ids.update(f"{problem_id}:{sample}" for sample in samples)
        return ids


def plan_work(
    job: TraceJob, missing: Mapping[str, tuple[int, ...]], unscored: Set[str]
) -> list[ModelWork]:
    """What each model has to draw, of what is `missing`, and to score; models with nothing to do
    are left out, so that their engine never starts.
    """
    works: list[ModelWork] = []
    hands = deal_problems(job)
    traces = job.traces
    sampling = traces.resolve()
    for number, model in enumerate(traces.teachers):
        hand = hands[number]
        its_own = _among(range(traces.n), hand, missing)
        to_score: frozenset[str] = frozenset()
        if unscored and model.capabilities.gives_logprobs:
            to_score = _traces_of(hand, unscored)
        if its_own or to_score:
            is_fresh = job.is_fresh(hand, its_own, traces.n)
            works.append(
                ModelWork(
                    model, job.prompt, sampling, number, tuple(hand), is_fresh, its_own, to_score
                )
            )
    for place, also in enumerate(traces.also):
        its_own = _among(traces.numbers_of(place), job.problems, missing)
        if its_own:
            is_fresh = job.is_fresh(job.problems, its_own, also.n)
            works.append(
                ModelWork(
                    also.as_sampled_model(),
                    prompt_of(traces, also),
                    traces.sampling_of(also),
                    len(traces.teachers) + place,
                    job.problems,
                    is_fresh,
                    its_own,
                    writer=also.name,
                )
            )
    return works


def prompt_of(traces: TraceSettings, also: AlsoSampled) -> NamedPrompt:
    """What a model of `also` is asked with."""
    return load_prompt(also.prompt or traces.prompt)


def _among(
    numbers: range, hand: Iterable[Problem], missing: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Of what these problems lack the samples with these numbers."""
    its_own: dict[str, tuple[int, ...]] = {}
    for problem in hand:
        lacking = tuple(number for number in missing.get(problem.id, ()) if number in numbers)
        if lacking:
            its_own[problem.id] = lacking
    return its_own


def deal_problems(job: TraceJob) -> list[list[Problem]]:
    """Each model's own problems: those that it has drawn, and its share of those that nobody has. A
    teacher that was added later takes no drawn problem away.
    """
    teachers = job.traces.teachers
    hands: list[list[Problem]] = [[] for _ in teachers]
    drawn_by: Mapping[str, str] = {}
    if len(teachers) > 1:
        first = None
        if job.traces.also:
            first = job.traces.n
        drawn_by = on_disk.drawn_by(job.folder / layout.TRACES, first)
    places: dict[str, int] = {}
    if drawn_by:
        places = _places(teachers)
    for problem in job.problems:
        place = places.get(drawn_by.get(problem.id, ""))
        if place is None:
            place = deal_by_domain(problem, teachers)
        hands[place].append(problem)
    return hands


def _places(teachers: Sequence[SampledModel]) -> dict[str, int]:
    """Which teacher a model is; those that sample the same weights are not told apart."""
    names = [identity_of(model) for model in teachers]
    return {name: place for place, name in enumerate(names) if names.count(name) == 1}


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


def grows_in(traces: TraceSettings) -> tuple[str, ...]:
    """The keys of a section of which a larger number leaves all traces what they are. Where a
    budget is spent in the order of the problems, what one gets more another gets less.
    """
    if traces.budget_tokens is not None:
        return (f"{UNTIL}.budget_tokens",)
    others = [f"also.{place + 1}.n" for place in range(len(traces.also))]
    return ("n", "limit", f"{UNTIL}.accepted", f"{UNTIL}.first", *others)


def has_grown(traces: TraceSettings, problems_folder: Path, folder: Path) -> HasGrown:
    """Whether a changed key leaves all traces of a folder what they are: other problems, and those
    that have traces are all among them; another teacher behind the others; a lower `n`, of which no
    more are drawn; a budget that is there no more, or a rule, of which `n` is then the most that it
    drew or more.

    The folder of the problems knows what it was; where it has been made anew since, its first
    problems may be those that the traces are of. A teacher of the same weights as another one is no
    growth: which of them has drawn a problem is not known.
    """
    stood = stood_in(problems_folder)
    before = read_manifest(folder)

    had_rule = before is not None and UNTIL in before.section

    def begins_with(old: Any) -> bool:
        if before is None:
            return False
        first = before.section.get("limit")
        return old == asked_in(problems_folder / layout.PROBLEMS, first=first)

    def is_growth(name: str, old: Any, new: Any) -> bool:
        if name in (f"section.{UNTIL}", f"section.{UNTIL}.budget_tokens"):
            return new is None
        if traces.budget_tokens is not None:
            return False
        if name in ("inputs.questions", "inputs.problems"):
            return new is not None and (old in stood or begins_with(old))
        if name == "section.n":
            return traces.accepted is None and not had_rule
        if name == "section.limit":
            return bool(stood)  # all that have traces are there, whatever their number is now
        if name == "section.also" or name.removeprefix("section.also.").isdigit():
            # Its samples are numbered behind the first n, where nobody else's may stand.
            return old is None and not _has_more(before, traces.n)
        is_teacher = name.removeprefix("section.teachers.").isdigit()
        return is_teacher and old is None and len(_places(traces.teachers)) == len(traces.teachers)

    return is_growth


def _has_more(before: Manifest | None, n: int) -> bool:
    """Whether a folder may hold more than `n` samples of a problem by its teachers."""
    if before is None:
        return False
    drawn = before.section.get("n")
    return TracesFigures.of(before).beyond > 0 or (isinstance(drawn, int) and drawn > n)


def section_of(
    traces: TraceSettings, prompt: NamedPrompt, problems: int, policy: str
) -> dict[str, Any]:
    """The settings of a folder's identity. `problems` is how many of them are sampled, `policy`
    that of the grader, by whose grades problems may end. Its version is no part of it: samples stay
    valid when it changes.
    """
    models = enumerate(traces.teachers, start=1)
    section = {
        "prompt": prompt.tag,
        "n": traces.n,
        "limit": problems,
        "sampling": traces.resolve().model_dump(mode="json"),
        "teachers": {str(number): model_section(model) for number, model in models},
    }
    if traces.also:
        section["also"] = {
            str(place + 1): also_section(traces, place) for place in range(len(traces.also))
        }
    until = until_of(traces, policy)
    if until is None:
        return section
    return section | {UNTIL: until}


def until_of(traces: TraceSettings, policy: str) -> dict[str, Any] | None:
    """The part of this section that says until when problems are drawn; None where each gets n."""
    if traces.accepted is None:
        return None
    until: dict[str, Any] = {
        "accepted": traces.accepted,
        "first": traces.first_round,
        "policy": policy,
    }
    if traces.budget_tokens is not None:
        until["budget_tokens"] = traces.budget_tokens
    return until


def also_section(traces: TraceSettings, place: int) -> dict[str, Any]:
    """What the samples of the model at this place of `also` depend on, besides the prompt. With
    another first number they would be other samples.
    """
    model = traces.also[place]
    section = model_section(model.as_sampled_model())
    for key in ("share", "tags"):
        section.pop(key, None)
    sampling = traces.sampling_of(model).model_dump(mode="json")
    section |= {"first": traces.numbers_of(place).start, "n": model.n, "sampling": sampling}
    for key in ("name", "of_round"):
        value = getattr(model, key)
        if value is not None:
            section[key] = value
    return section | {"prompt": prompt_of(traces, model).tag}


def model_section(model: SampledModel) -> dict[str, Any]:
    """What a model's samples depend on, besides the prompt and the sampling."""
    depends_on = {"sampler", "share", "tags", "template_options"}
    section = model.model_dump(mode="json", include=depends_on)
    return {"model": identity_of(model)} | section | model.shaping()
