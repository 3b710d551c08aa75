"""What the forecast of each stage has in common: what it stands on, and what it comes to."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np

from reasondistill.config import Cluster, ResourceSettings
from reasondistill.forecast.evidence import Evidence, Kept, Speed, Written, short_name
from reasondistill.forecast.monte_carlo import (
    ONCE,
    STAND_IN,
    Dice,
    Draws,
    exact,
    in_hours,
    in_range,
)
from reasondistill.pipeline.runs import Run
from reasondistill.records import StageForecast
from reasondistill.runs.store import read_manifest

T = TypeVar("T")
State = Literal["new", "partial", "done"]

CALIBRATE = "unknown: use --calibrate 20"
# So many graded problems of its own tell a run more than any other run does.
_MANY_GRADED = 50
HOW_MANY = "unknown how many problems: run with --only problems, or set problems.limit"


@dataclass(frozen=True)
class Given:
    """What the user says instead of measuring: mean tokens of a trace, tokens per second of one
    worker. Taken as they are.
    """

    tokens_per_trace: float | None = None
    tokens_per_s: float | None = None

    def speed(self) -> Speed | None:
        return Speed(self.tokens_per_s, 0.0) if self.tokens_per_s is not None else None


@dataclass(frozen=True)
class Context:
    """A run and what is known of its like: its `own` folder first, then the `others` in the order
    in which they are believed.
    """

    run: Run
    own: Evidence
    others: tuple[Evidence, ...] = ()
    given: Given = Given()
    dice: Dice = field(default_factory=Dice)

    @property
    def everything(self) -> tuple[Evidence, ...]:
        return (self.own, *self.others)

    def first(self, find: Callable[[Evidence], T | None]) -> tuple[Evidence, T] | None:
        """The first folder that has it."""
        return next(
            (
                (evidence, found)
                for evidence in self.everything
                if (found := find(evidence)) is not None
            ),
            None,
        )

    @cached_property
    def problems(self) -> int | None:
        """How many problems there are: as stage 1 found them, else at most `limit`."""
        done = read_manifest(self.run.stage("problems"))
        if done is not None and done.status == "complete":
            return done.counts["out"]
        return self.run.pipeline.problems.limit if self.run.pipeline.problems is not None else None

    @property
    def is_only_a_limit(self) -> bool:
        done = self.own.manifests.get("problems")
        return done is None or done.status != "complete"

    @property
    def samples(self) -> int | None:
        """How many traces there will be."""
        written = self.run.pipeline.traces
        return (
            self.problems * written.n if self.problems is not None and written is not None else None
        )

    @cached_property
    def kept(self) -> tuple[Evidence, Kept] | None:
        """The best body of graded traces: the run's own where they are many, those of the same
        teacher, the largest.
        """
        graded = [
            (evidence, evidence.kept) for evidence in self.everything if evidence.kept is not None
        ]
        return max(graded, key=lambda pair: self._worth(*pair), default=None)

    def _worth(self, evidence: Evidence, kept: Kept) -> tuple[bool, bool, int]:
        many = len(kept.usable) >= min(_MANY_GRADED, (self.problems or _MANY_GRADED) / 2)
        asked = {
            short_name(teacher.model.removeprefix("shipped:"))
            for teacher in self.run.pipeline.teachers
        }
        return (
            evidence is self.own and many,
            evidence.is_calibration or bool(asked & evidence.teachers.keys()),
            len(kept.usable),
        )


@dataclass(frozen=True)
class Basis:
    """Whose lengths and whose speed a model's samples are forecast by; `spread` is added where it
    is another's.

    `at_once` is how many samples the speed was measured with, where the engine takes more: None
    where that makes no difference.
    """

    lengths: Written | None = None
    speed: Speed | None = None
    length_spread: float = 0.0
    speed_spread: float = 0.0
    tokens_per_sample: float | None = None
    at_once: int | None = None
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cost:
    """Draws of what a stage takes, in seconds, tokens and bytes; None is not known. `left_s` is
    what is still to come of `wall_s`.
    """

    stage: str
    state: State
    work: str
    tokens: Draws | None = None
    wall_s: Draws | None = None
    left_s: Draws | None = None
    worker_s: Draws | None = None
    bytes: Draws | None = None
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unknown: str | None = None

    @property
    def resources(self) -> str:
        """The stage whose resources its workers get."""
        return self.stage.partition("/")[0]


def finished(
    stage: str, work: str, *, seconds: float, size: float, tokens: float | None = None
) -> Cost:
    """The cost of a stage that is complete: nothing is uncertain."""
    spent = exact(seconds)
    own = exact(tokens) if tokens is not None else None
    return Cost(stage, "done", work, own, spent, exact(0.0), spent, exact(size), ("this run",))


# ---- samples -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Samples that one engine writes: `wanted` of `n` per problem, at most `cap` tokens each;
    `done` is there already.
    """

    name: str
    wanted: int
    n: int
    cap: int
    done: Written | None
    basis: Basis

    @property
    def rest(self) -> int:
        return max(0, self.wanted - (self.done.total_samples if self.done is not None else 0))


@dataclass(frozen=True)
class Drawn:
    """What a piece comes to: tokens and engine seconds of what is left, and what was spent."""

    tokens: Draws | None
    rest_s: Draws | None
    spent_s: float
    bytes: Draws | None


def draw_piece(context: Context, piece: Piece) -> Drawn:
    """Lengths × samples, divided by the speed; done samples count as they are."""
    made = piece.done.total_tokens if piece.done is not None else 0.0
    spent = piece.done.seconds if piece.done is not None else 0.0
    per_token = next(
        (w.bytes_per_token for w in (piece.done, piece.basis.lengths) if w is not None), None
    )
    if not piece.rest:
        return Drawn(exact(made), exact(0.0), spent, exact(made * (per_token or 0.0)))
    mean = _mean_tokens(context, piece)
    if mean is None:
        return Drawn(None, None, spent, None)
    rest, speed = piece.rest * mean, piece.basis.speed
    seconds = None
    if speed is not None:
        factor = context.dice.factor(
            f"speed of {piece.name}", math.hypot(speed.spread, piece.basis.speed_spread)
        )
        seconds = rest / (
            speed.tokens_per_s
            * factor
            * context.dice.between(f"batch of {piece.name}", _fuller(context, piece))
        )
    total = made + rest
    return Drawn(total, seconds, spent, total * per_token if per_token is not None else None)


def _fuller(context: Context, piece: Piece) -> float:
    """How much fuller the engine will be than when its speed was measured: so many times faster it
    is at most, and no slower.
    """
    return (
        min(context.run.cluster.vllm.max_num_seqs, piece.rest) / piece.basis.at_once
        if piece.basis.at_once
        else 1.0
    )


def _mean_tokens(context: Context, piece: Piece) -> Draws | None:
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

    No worker is done before its longest text is: the clock never shows less than that one at its
    own speed.
    """
    shards, rounds = workers(context.run.cluster.stages.of(stage.partition("/")[0]))
    drawn = [draw_piece(context, piece) for piece in pieces]
    rest = sum(piece.rest for piece in pieces)
    starts = [p.basis.speed.start_s if p.basis.speed is not None else 0.0 for p in pieces if p.rest]
    start = (
        sum(starts) if engines is None else engines * max(starts, default=0.0)
    ) * context.dice.factor(f"start of {stage}", ONCE)
    tokens, size = total([d.tokens for d in drawn]), total([d.bytes for d in drawn])
    work_s, spent = total([d.rest_s for d in drawn]), sum(d.spent_s for d in drawn)
    wall = left = worker = None
    if work_s is not None:
        left = (
            np.maximum(work_s * rounds / shards, max(map(_longest_s, pieces), default=0.0))
            + start * rounds
            if rest
            else exact(0.0)
        )
        wall = spent + left
        worker = spent + (work_s + start * shards if rest else exact(0.0))
    done = any(piece.done is not None for piece in pieces)
    state: State = "new" if not done else "partial" if rest else "done"
    own = ("this run",) if done else ()
    sources = tuple(dict.fromkeys((*own, *(s for p in pieces if p.rest for s in p.basis.sources))))
    notes = tuple(
        dict.fromkeys(
            note
            for p in pieces
            if p.rest
            for note in (*p.basis.notes, *_batch_note(context, p), *tail(p))
        )
    )
    return Cost(
        stage,
        state,
        work,
        tokens,
        wall,
        left,
        worker,
        size,
        sources,
        notes,
        CALIBRATE if wall is None or tokens is None else None,
    )


def _longest_s(piece: Piece) -> float:
    lengths = piece.basis.lengths
    return lengths.longest_s if piece.rest and lengths is not None else 0.0


def _batch_note(context: Context, piece: Piece) -> Iterator[str]:
    if _fuller(context, piece) > 1:
        seats = context.run.cluster.vllm.max_num_seqs
        yield (
            f"speed measured on {piece.basis.at_once} samples at once, the engine takes "
            f"{seats}: more --calibrate narrows the interval"
        )


def tail(piece: Piece) -> Iterator[str]:
    """What the last text alone may take."""
    if (seconds := _longest_s(piece)) >= 60:
        longest = piece.basis.lengths.longest_tokens if piece.basis.lengths is not None else 0
        yield (
            f"tail: the longest text seen, {longest:,} tokens, took {seconds / 60:,.0f} min "
            "by itself"
        )


def workers(resources: ResourceSettings) -> tuple[int, int]:
    """How many workers share the work, and in how many rounds, when no more than `max_concurrent`
    run at a time.
    """
    return resources.shards, math.ceil(
        resources.shards / min(resources.shards, resources.max_concurrent or resources.shards)
    )


# ---- together ------------------------------------------------------------------------------------


def total(parts: Sequence[Draws | None]) -> Draws | None:
    """The sum; unknown when any part is."""
    known = [part for part in parts if part is not None]
    return sum(known, exact(0.0)) if len(known) == len(parts) else None


@dataclass(frozen=True)
class Charge:
    """What the workers of a stage hold, in seconds of GPUs and cores, and what that costs: GPUs and
    cores are charged side by side.
    """

    gpu_s: Draws | None = None
    cpu_s: Draws | None = None
    money: Draws | None = None


def charge(cost: Cost, cluster: Cluster) -> Charge:
    """By the resources of the stage and the prices of the cluster file; no money where it names no
    price.
    """
    if cost.worker_s is None:
        return Charge()
    resources, prices = cluster.stages.of(cost.resources), cluster.prices
    gpu_s, cpu_s = (
        cost.worker_s * count * resources.nodes for count in (resources.gpus, resources.cpus)
    )
    is_priced = prices.gpu_hour or prices.cpu_hour
    return Charge(
        gpu_s,
        cpu_s,
        (gpu_s * prices.gpu_hour + cpu_s * prices.cpu_hour) / 3600 if is_priced else None,
    )


def known_sum(parts: Iterable[Draws | None]) -> Draws | None:
    """The sum of what is known; None when nothing is."""
    known = [part for part in parts if part is not None]
    return total(known) if known else None


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
        money=in_range(charged.money),
        source=", ".join(cost.sources),
        notes=cost.notes,
        unknown=cost.unknown,
    )


def without_seed(name: str) -> str:
    """`kd-seed2` → `kd`: what seeds of one student have in common."""
    return re.sub(r"-seed\d+$", "", name)


def stand_in(is_same: bool) -> float:
    """The spread that is added for what another model did."""
    return 0.0 if is_same else STAND_IN
