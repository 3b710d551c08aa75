"""Common parts of every stage's forecast: the evidence that it is based on, and its cost."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np

from reasondistill.config import Cluster, ResourceSettings
from reasondistill.forecast.evidence import Evidence, GradedTraces, Speed, Written, short_name
from reasondistill.forecast.monte_carlo import (
    ONCE,
    STAND_IN,
    Dice,
    Draws,
    exact,
    in_hours,
    in_range,
)
from reasondistill.forecast.on_paper import BYTES_PER_TOKEN, Paper
from reasondistill.pipeline.runs import Run
from reasondistill.records import StageForecast
from reasondistill.runs.missing import UNTIL
from reasondistill.runs.store import read_manifest
from reasondistill.stages.traces import until_of

T = TypeVar("T")
State = Literal["new", "partial", "done"]

CALIBRATE = "unknown: use --calibrate 20"
# With so many graded problems of its own, a run needs no other run's.
_MANY_GRADED = 50
HOW_MANY = "unknown how many problems: run with --only problems, or set problems.limit"


@dataclass(frozen=True)
class Given:
    """Values that the user gives instead of measured ones: mean tokens of a trace, tokens per
    second of one worker. Used as exact.
    """

    tokens_per_trace: float | None = None
    tokens_per_s: float | None = None

    def speed(self) -> Speed | None:
        if self.tokens_per_s is None:
            return None
        return Speed(self.tokens_per_s, 0.0)


@dataclass(frozen=True)
class Context:
    """A run, and the evidence for its forecast: its own folder (`this_run`), then the `others`, the
    most trusted first.
    """

    run: Run
    this_run: Evidence
    others: tuple[Evidence, ...] = ()
    given: Given = Given()
    dice: Dice = field(default_factory=Dice)
    # The GPUs of a forecast that stands on their data sheet.
    paper: Paper | None = None

    @property
    def everything(self) -> tuple[Evidence, ...]:
        return (self.this_run, *self.others)

    def first(self, find: Callable[[Evidence], T | None]) -> tuple[Evidence, T] | None:
        """The first folder in which `find` finds a value, and the value."""
        for evidence in self.everything:
            value = find(evidence)
            if value is not None:
                return evidence, value
        return None

    @cached_property
    def problems(self) -> int | None:
        """How many problems there are: as counted by stage 1, else at most `limit`."""
        done = read_manifest(self.run.stage("problems"))
        if done is not None and done.status == "complete":
            return done.count("out")
        if self.run.pipeline.problems is None:
            return None
        return self.run.pipeline.problems.most_problems

    @property
    def is_only_a_limit(self) -> bool:
        done = self.this_run.manifests.get("problems")
        return done is None or done.status != "complete"

    @property
    def samples(self) -> int | None:
        """How many traces there will be: at most so many where problems are drawn until enough
        samples are correct, which is known when it is done.
        """
        written = self.run.pipeline.traces
        if self.problems is None or written is None:
            return None
        if self.has_drawn_enough:
            return self.this_run.manifests["traces"].counts.get("out", 0)
        return self.problems * written.samples

    @property
    def has_drawn_enough(self) -> bool:
        """Whether all these problems are drawn until enough samples are correct, as this file says
        it.
        """
        written, done = self.run.pipeline.traces, self.this_run.manifests.get("traces")
        if written is None or written.accepted is None or done is None or done.status != "complete":
            return False
        asked = {
            "n": written.n,
            "limit": self.problems,
            UNTIL: until_of(written, self.run.pipeline.verdicts.policy),
        }
        return all(done.section.get(key) == value for key, value in asked.items())

    @cached_property
    def graded(self) -> tuple[Evidence, GradedTraces] | None:
        """The best set of graded traces: the run's own where they are many, else the same
        teacher's, else the largest.
        """
        graded = [
            (evidence, evidence.graded)
            for evidence in self.everything
            if evidence.graded is not None
        ]
        return max(graded, key=lambda pair: self._worth(*pair), default=None)

    def _worth(self, evidence: Evidence, graded: GradedTraces) -> tuple[bool, bool, int]:
        many = len(graded.usable) >= min(_MANY_GRADED, (self.problems or _MANY_GRADED) / 2)
        teachers = {
            short_name(teacher.model.removeprefix("shipped:"))
            for teacher in self.run.pipeline.teachers
        }
        return (
            evidence is self.this_run and many,
            evidence.is_calibration or bool(teachers & evidence.teachers.keys()),
            len(graded.usable),
        )


@dataclass(frozen=True)
class Basis:
    """The measured lengths and speed on which the forecast of a model's samples is based; `spread`
    is added where they are another model's.

    `at_once` is how many samples at once the speed was measured with, where the engine takes more:
    None where that makes no difference. `is_read`: the samples stand in a data set, and to read
    them counts as no time.
    """

    lengths: Written | None = None
    speed: Speed | None = None
    length_spread: float = 0.0
    speed_spread: float = 0.0
    tokens_per_sample: float | None = None
    at_once: int | None = None
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_read: bool = False


@dataclass(frozen=True)
class Cost:
    """Draws of what a stage takes, in seconds, tokens and bytes; None is unknown. `left_s` is the
    part of `wall_s` that is still to come, `bytes` is what it leaves on disk, `memory` the most
    bytes that one of its processes holds, on a GPU where it has one.
    """

    stage: str
    state: State
    work: str
    tokens: Draws | None = None
    wall_s: Draws | None = None
    left_s: Draws | None = None
    worker_s: Draws | None = None
    bytes: Draws | None = None
    memory: Draws | None = None
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unknown: str | None = None

    @property
    def resources(self) -> str:
        """The stage of the cluster file whose resources the workers get."""
        return self.stage.partition("/")[0]


def finished(
    stage: str, work: str, *, seconds: float, size: float, tokens: float | None = None
) -> Cost:
    """The cost of a stage that is complete: nothing is uncertain."""
    spent = exact(seconds)
    drawn = None
    if tokens is not None:
        drawn = exact(tokens)
    return Cost(
        stage,
        "done",
        work,
        drawn,
        spent,
        exact(0.0),
        spent,
        exact(size),
        sources=("this run",),
    )


# ---- samples -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Samples that one engine writes: `wanted` of `n` per problem, at most `cap` tokens each;
    `done` exist already.
    """

    name: str
    wanted: int
    n: int
    cap: int
    done: Written | None
    basis: Basis

    @property
    def rest(self) -> int:
        if self.done is None:
            return self.wanted
        return max(0, self.wanted - self.done.total_samples)


@dataclass(frozen=True)
class Drawn:
    """The cost of a piece: tokens and engine seconds that are left, and those that were spent."""

    tokens: Draws | None
    rest_s: Draws | None
    spent_s: float
    bytes: Draws | None


def draw_piece(context: Context, piece: Piece) -> Drawn:
    """Lengths × samples, divided by the speed; finished samples count with their true lengths."""
    drawn_tokens = spent = 0.0
    if piece.done is not None:
        drawn_tokens, spent = piece.done.total_tokens, piece.done.seconds
    measured = piece.done or piece.basis.lengths
    if not piece.rest:
        per_token = 0.0
        if measured is not None:
            per_token = measured.bytes_per_token
        return Drawn(exact(drawn_tokens), exact(0.0), spent, exact(drawn_tokens * per_token))
    mean = mean_tokens(context, piece)
    if mean is None:
        rest_s = exact(0.0) if piece.basis.is_read else None
        return Drawn(None, rest_s, spent, None)
    rest = piece.rest * mean
    tokens = drawn_tokens + rest
    size = None
    if measured is not None:
        size = tokens * measured.bytes_per_token
    elif context.paper is not None:
        size = tokens * BYTES_PER_TOKEN
    if piece.basis.is_read:
        return Drawn(tokens, exact(0.0), spent, size)
    speed = piece.basis.speed
    if speed is None:
        return Drawn(tokens, None, spent, size)
    spread = math.hypot(speed.spread, piece.basis.speed_spread)
    factor = context.dice.factor(f"speed of {piece.name}", spread)
    fuller = context.dice.between(f"batch of {piece.name}", _fuller(context, piece))
    seconds = rest / (speed.tokens_per_s * factor * fuller)
    return Drawn(tokens, seconds, spent, size)


def _fuller(context: Context, piece: Piece) -> float:
    """A factor on the measured speed, because the engine will be fuller: at most as many times
    faster as it has more samples, and no slower.
    """
    if not piece.basis.at_once:
        return 1.0
    return min(context.run.cluster.vllm.max_num_seqs, piece.rest) / piece.basis.at_once


def mean_tokens(context: Context, piece: Piece) -> Draws | None:
    """The mean length of the samples to come; None where no model wrote any like them."""
    basis = piece.basis
    if basis.tokens_per_sample is not None:
        mean = exact(basis.tokens_per_sample)
    elif basis.lengths is not None:
        mean = context.dice.mean(
            f"lengths of {piece.name}",
            basis.lengths.tokens,
            basis.lengths.samples,
            piece.rest / piece.n,
        )
    else:
        return None
    if basis.length_spread:
        mean = mean * context.dice.factor(f"stand-in lengths of {piece.name}", basis.length_spread)
    return np.minimum(mean, piece.cap)


def sampled(
    context: Context, stage: str, pieces: Sequence[Piece], work: str, *, engines: int | None = None
) -> Cost:
    """The cost of samples: work divided among the workers, and the start of each engine: `engines`,
    or one for each piece.

    No worker ends before its longest text: the time is never less than that text takes at its own
    speed.
    """
    drawn = [draw_piece(context, piece) for piece in pieces]
    unfinished = [piece for piece in pieces if piece.rest]
    has_begun = any(piece.done is not None for piece in pieces)
    state: State = "new"
    if has_begun:
        state = "done"
        if unfinished:
            state = "partial"
    tokens = total([piece.tokens for piece in drawn])
    spent = sum(piece.spent_s for piece in drawn)
    work_s = total([piece.rest_s for piece in drawn])
    cost = Cost(
        stage,
        state,
        work,
        tokens=tokens,
        bytes=total([piece.bytes for piece in drawn]),
        sources=sources_of(unfinished, has_begun),
        notes=_notes(context, unfinished),
    )
    if work_s is None or tokens is None:
        cost = replace(cost, unknown=CALIBRATE)
    if work_s is None:
        return cost
    if not unfinished:
        return replace(cost, wall_s=exact(spent), left_s=exact(0.0), worker_s=exact(spent))
    shards, rounds = workers(context.run.cluster.stages.of(cost.resources))
    start = starting_s(unfinished, engines) * context.dice.factor(f"start of {stage}", ONCE)
    longest = max(_longest_s(piece) for piece in pieces)
    left = np.maximum(work_s * rounds / shards, longest) + start * rounds
    worker = work_s + start * shards
    return replace(cost, wall_s=spent + left, left_s=left, worker_s=spent + worker)


def starting_s(pieces: Sequence[Piece], engines: int | None) -> float:
    """Seconds until the engines of these pieces have started: one for each piece, or `engines`."""
    starts = [piece.basis.speed.start_s for piece in pieces if piece.basis.speed is not None]
    if engines is None:
        return sum(starts)
    return engines * max(starts, default=0.0)


def sources_of(pieces: Sequence[Piece], has_begun: bool) -> tuple[str, ...]:
    sources: list[str] = []
    if has_begun:
        sources.append("this run")
    for piece in pieces:
        sources += piece.basis.sources
    return tuple(dict.fromkeys(sources))


def _notes(context: Context, pieces: Sequence[Piece]) -> tuple[str, ...]:
    notes: list[str] = []
    for piece in pieces:
        notes += piece.basis.notes
        notes += batch_note(context, piece)
        notes += tail(piece)
    return tuple(dict.fromkeys(notes))


def _longest_s(piece: Piece) -> float:
    lengths = piece.basis.lengths
    if lengths is None or not piece.rest or piece.basis.is_read:
        return 0.0
    return lengths.longest_s


def batch_note(context: Context, piece: Piece) -> Iterator[str]:
    """A note where the speed was measured on fewer samples than the engine takes."""
    if _fuller(context, piece) > 1:
        seats = context.run.cluster.vllm.max_num_seqs
        yield (
            f"speed measured on {piece.basis.at_once} samples at once, the engine takes "
            f"{seats}: more --calibrate narrows the interval"
        )


def tail(piece: Piece) -> Iterator[str]:
    """A note on how long the last text alone may take."""
    seconds = _longest_s(piece)
    lengths = piece.basis.lengths
    if seconds >= 60 and lengths is not None:
        yield (
            f"tail: the longest text seen, {lengths.longest_tokens:,} tokens, took "
            f"{seconds / 60:,.0f} min by itself"
        )


def workers(resources: ResourceSettings) -> tuple[int, int]:
    """How many workers share the work, and in how many rounds, when no more than `max_concurrent`
    run at a time.
    """
    shards = resources.shards
    at_a_time = min(shards, resources.max_concurrent or shards)
    return shards, math.ceil(shards / at_a_time)


# ---- sums ----------------------------------------------------------------------------------------


def total(parts: Sequence[Draws | None]) -> Draws | None:
    """The sum; unknown when any part is."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return sum(known, exact(0.0))


@dataclass(frozen=True)
class Charge:
    """The seconds of GPUs and cores that the workers of a stage occupy, and their price: GPUs and
    cores are both charged.
    """

    gpu_s: Draws | None = None
    cpu_s: Draws | None = None
    money: Draws | None = None


def charge(cost: Cost, cluster: Cluster) -> Charge:
    """The cost by the resources of the stage and the prices of the cluster file; no money where the
    file has no price.
    """
    if cost.worker_s is None:
        return Charge()
    resources, prices = cluster.stages.of(cost.resources), cluster.prices
    gpu_s = cost.worker_s * resources.gpus * resources.nodes
    cpu_s = cost.worker_s * resources.cpus * resources.nodes
    if not (prices.gpu_hour or prices.cpu_hour):
        return Charge(gpu_s, cpu_s)
    money = (gpu_s * prices.gpu_hour + cpu_s * prices.cpu_hour) / 3600
    return Charge(gpu_s, cpu_s, money)


def known_sum(parts: Iterable[Draws | None]) -> Draws | None:
    """The sum of what is known; None when nothing is."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return total(known)


def to_record(cost: Cost, charged: Charge) -> StageForecast:
    """Draws → intervals."""
    return StageForecast(
        stage=cost.stage,
        state=cost.state,
        work=cost.work,
        tokens=in_range(cost.tokens),
        wall_hours=in_hours(cost.wall_s),
        left_hours=in_hours(cost.left_s),
        worker_hours=in_hours(cost.worker_s),
        gpu_hours=in_hours(charged.gpu_s),
        cpu_hours=in_hours(charged.cpu_s),
        bytes=in_range(cost.bytes),
        memory_bytes=in_range(cost.memory),
        money=in_range(charged.money),
        source=", ".join(cost.sources),
        notes=cost.notes,
        unknown=cost.unknown,
    )


def without_seed(name: str) -> str:
    """`kd-seed2` → `kd`: the common name of a student's seeds."""
    return re.sub(r"-seed\d+$", "", name)


def stand_in(is_same: bool) -> float:
    """The spread that is added where another model was measured."""
    if is_same:
        return 0.0
    return STAND_IN
