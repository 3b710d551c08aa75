"""The cost of students: examples × tokens × epochs, or steps × batch, at the speed of an earlier
training like theirs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reasondistill.config import StudentSettings
from reasondistill.forecast.costs import (
    CALIBRATE,
    HOW_MANY,
    Context,
    Cost,
    State,
    finished,
    stand_in,
    without_seed,
)
from reasondistill.forecast.evidence import (
    Evidence,
    GradedTraces,
    Speed,
    Trained,
    pool_speeds,
    short_name,
)
from reasondistill.forecast.monte_carlo import ONCE, Draws, Floats, exact
from reasondistill.forecast.on_paper import (
    ASSUMED_YIELD,
    LENGTH_SHARE,
    LENGTH_SPREAD,
    NEVER_RUN,
    PROMPT_TOKENS,
    RIGHT_HIGH,
    RIGHT_LOW,
    RIGHT_SHARE,
    shape_unknown,
)
from reasondistill.launch.launcher import launcher_of
from reasondistill.models.shapes import ModelShape
from reasondistill.pipeline import located, plan
from reasondistill.stages.students.footprint import (
    DeviceKind,
    Footprint,
    device_here,
    footprint,
    gib,
    memory_words,
    start_shape,
    ways_to_less,
)

# Tokens of a boxed gold answer, for students that learn nothing else.
_BOXED_TOKENS = 8
# An interval of 90 % reaches so many standard deviations to either side.
_IN_90_PERCENT = 1.645
# Methods with equal training speed: plain cross-entropy on different rows.
_PLAIN = ("sft", "unverified", "answer_only")
# The longest row of a micro-batch, in mean rows.
_LONGEST = 2.5
# How far the memory of a training may be off (standard deviation / mean).
_MEMORY_SPREAD = 0.15


# ---- examples ------------------------------------------------------------------------------------


def examples_draws(context: Context) -> Draws | None:
    """How many examples the traces will become; None when no traces like them were graded yet."""
    done = context.this_run.manifests.get("examples")
    if (
        done is not None
        and done.status == "complete"
        and done.counts.get("in", 0) >= (context.samples or 0)
    ):
        return exact(done.count("out"))
    if context.problems is None or context.run.pipeline.traces is None:
        return None
    if context.graded is None:
        return _examples_on_paper(context, context.problems, context.run.pipeline.traces.samples)
    settings, n = context.run.pipeline.examples, context.run.pipeline.traces.samples
    top = n
    if settings.select != "all":
        top = min(settings.k, n)
    values = examples_kept(context.graded[1], n, top)
    return context.problems * context.dice.bounded_mean(
        "yield", values, float(top), context.problems
    )


def _examples_on_paper(context: Context, problems: int, n: int) -> Draws | None:
    """Examples by the assumed share of right traces; None where nothing is assumed."""
    if context.paper is None:
        return None
    spread = (RIGHT_HIGH - RIGHT_LOW) / 2 / RIGHT_SHARE / _IN_90_PERCENT
    share = np.minimum(1.0, RIGHT_SHARE * context.dice.factor("yield", spread))
    settings = context.run.pipeline.examples
    kept = share * n
    if settings.select != "all":
        kept = np.minimum(kept, settings.k)
    return problems * kept


def examples_kept(graded: GradedTraces, n: int, top: int) -> Floats:
    """Examples of each problem when n samples are drawn and at most `top` are taken."""
    from scipy import stats

    exactly = graded.samples == n
    shares = graded.usable / graded.samples
    counts = np.arange(n + 1)
    chances = stats.binom.pmf(counts[None, :], n, shares[:, None])
    return np.where(exactly, np.minimum(graded.usable, top), chances @ np.minimum(counts, top))


# ---- students ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """The known speed and row length of a student's training, with their sources."""

    speed: Speed | None
    speed_spread: float
    row_tokens: Draws | None
    model: Trained | None
    sources: tuple[str, ...]
    notes: tuple[str, ...]


def students_costs(context: Context) -> Iterator[Cost]:
    """One cost for each student, in the order in which they are trained."""
    every = {student.name: student for student in context.run.pipeline.all_students()}
    parents = (
        {
            task.units[0]: task.after
            for task in plan(context.run, ["students"], share_engine_process=True)
        }
        if every
        else {}
    )
    for student in every.values():
        after = [every[name.partition(":")[2]] for name in parents[student.name]]
        steps_like = next((other for other in after if other.name != student.starts_from), None)
        yield student_cost(context, student, steps_like)


def students_wall(context: Context, costs: Mapping[str, Cost]) -> tuple[Draws | None, Draws | None]:
    """Wall time of all students together, and what is left of it: in parallel as far as the cluster
    file allows.

    At least that of the longest chain of students that start from each other.
    """
    resources = launcher_of(context.run).resources("students")
    parallel = resources.max_concurrent or max(1, len(costs))
    after = {
        task.units[0]: task.after
        for task in plan(context.run, ["students"], share_engine_process=True)
    }
    wall = _scheduled({name: cost.wall_s for name, cost in costs.items()}, after, parallel)
    return wall, _scheduled({name: cost.left_s for name, cost in costs.items()}, after, parallel)


def _scheduled(
    times: Mapping[str, Draws | None], after: Mapping[str, tuple[str, ...]], parallel: int
) -> Draws | None:
    ends: dict[str, Draws] = {}
    for name, seconds in times.items():
        if seconds is None:
            continue
        waits = [
            ends[other.partition(":")[2]]
            for other in after[name]
            if other.partition(":")[2] in ends
        ]
        ends[name] = seconds
        if waits:
            ends[name] = seconds + np.maximum.reduce(waits)
    if not ends:
        return None
    work = sum((seconds for seconds in times.values() if seconds is not None), exact(0.0))
    return np.maximum(work / parallel, np.maximum.reduce(list(ends.values())))


def student_cost(
    context: Context, student: StudentSettings, steps_like: StudentSettings | None
) -> Cost:
    """The cost of one student; a control takes as many steps as the student `steps_like`."""
    stage = f"students/{student.name}"
    trained = context.this_run.students.get(student.name)
    if trained is not None and trained.is_complete:
        tokens = trained.tokens
        if student.method == "base":
            tokens = None
        work = "not trained"
        if trained.done:
            work = f"{trained.done:,} steps"
        return finished(stage, work, seconds=trained.seconds, size=trained.bytes, tokens=tokens)
    known = on_gpus(context, student, _known(context, student))
    if student.method == "base":
        return base_cost(context, student, known)
    state: State = "new"
    if trained is not None:
        state = "partial"
    cost = Cost(stage, state, "", sources=known.sources, notes=known.notes)
    row_tokens = known.row_tokens
    examples = _train_examples(context, student)
    if examples is None or row_tokens is None:
        unknown = CALIBRATE
        if context.problems is None:
            unknown = HOW_MANY
        work = f"{student.epochs:g} epochs"
        if student.max_steps:
            work = f"{student.max_steps:,} steps"
        return replace(cost, work=work, unknown=unknown)
    steps, tokens = steps_and_tokens(
        student, steps_to_match(context, steps_like), examples, row_tokens
    )
    if student.method == "answer_only" and student.packing and steps_like is not None:
        tokens = _unpacked_tokens(context, student, steps_like, row_tokens, tokens)
    work = f"{steps[0]:,.0f} steps, {examples[0]:,.0f} examples"
    cost = replace(cost, work=work, tokens=tokens)
    cost = with_footprint(context, cost, student, known, steps)
    return at_speed(context, cost, student, known, trained, steps)


def at_speed(
    context: Context,
    cost: Cost,
    student: StudentSettings,
    known: _Known,
    trained: Trained | None,
    steps: Draws,
) -> Cost:
    """The cost with its seconds: what the training has taken so far, and what the rest of its
    tokens will take.
    """
    if known.speed is None or cost.tokens is None:
        return replace(cost, unknown=CALIBRATE)
    base = ""
    if known.model is not None:
        base = known.model.base
    spread = math.hypot(known.speed.spread, known.speed_spread)
    factor = context.dice.factor(f"training {student.method} {base}", spread)
    rate = known.speed.tokens_per_s * factor
    tokens, spent = cost.tokens, 0.0
    if trained is not None and trained.done:
        spent = trained.seconds
        tokens = tokens * np.maximum(0.0, 1 - trained.done / steps)
    left = tokens / rate + known.speed.start_s
    state: State = "new"
    if spent:
        state = "partial"
    return replace(cost, state=state, wall_s=spent + left, left_s=left, worker_s=spent + left)


def base_cost(context: Context, student: StudentSettings, known: _Known) -> Cost:
    """An untouched base is read or built, and written once."""
    measured, notes = 0.0, ("untouched: nothing is trained",)
    if known.model is not None:
        measured, notes = known.model.seconds, known.notes
    seconds = measured * context.dice.factor("base", known.speed_spread or ONCE)
    size: Draws | None = exact(0.0)
    if student.base is None or student.shrink is not None:
        plan = plan_of_training(context, student, known)
        size = None
        if plan is not None:
            size = exact(plan.left)
    return Cost(
        f"students/{student.name}",
        "new",
        "not trained",
        None,
        seconds,
        seconds,
        seconds,
        size,
        sources=known.sources,
        notes=notes,
    )


def _train_examples(context: Context, student: StudentSettings) -> Draws | None:
    """Training rows: one for each problem that has an example where only the answer is learnt,
    every usable text for `unverified`.
    """
    problems, settings = context.problems, context.run.pipeline.examples
    share = 1 - settings.validation
    if student.method == "unverified" and context.samples is not None and problems is not None:
        top = context.samples
        if settings.select != "all":
            top = problems * settings.k
        return exact(share * min(top, context.samples))
    examples = examples_draws(context)
    if examples is None:
        return None
    if student.method != "answer_only" or problems is None or context.graded is None:
        return share * examples
    solved = float(np.mean(context.graded[1].usable > 0))
    return share * np.minimum(examples, problems * solved)


def steps_and_tokens(
    student: StudentSettings, steps: Draws | None, examples: Draws, row_tokens: Draws
) -> tuple[Draws, Draws]:
    """Steps and tokens; `steps` where they are not the student's own."""
    in_epoch, rows = _in_epoch(student, examples, row_tokens)
    if steps is None:
        steps = _steps(student, in_epoch)
    per_row = np.minimum(row_tokens, student.max_length)
    if student.packing:
        per_row = exact(student.max_length)
    return steps, steps * rows / in_epoch * per_row


def _unpacked_tokens(
    context: Context,
    student: StudentSettings,
    steps_like: StudentSettings,
    row_tokens: Draws,
    packed: Draws,
) -> Draws:
    """The tokens of an answer-only control of a packed student: it is not packed, and sees as many
    rows as that one has examples (making.py).
    """
    rows = _train_examples(context, steps_like)
    if rows is None or steps_like.max_steps:
        return packed
    return steps_like.epochs * rows * np.minimum(row_tokens, student.max_length)


def _steps(student: StudentSettings, in_epoch: Draws) -> Draws:
    if student.max_steps:
        return exact(student.max_steps)
    return np.maximum(1.0, np.ceil(student.epochs * in_epoch))


def _in_epoch(student: StudentSettings, examples: Draws, row_tokens: Draws) -> tuple[Draws, Draws]:
    """Steps of an epoch, and the rows that they share."""
    rows = examples
    if student.packing:
        rows = examples * row_tokens / student.max_length
    rows = np.maximum(1.0, rows)
    return np.ceil(rows / student.batch_size), rows


def steps_to_match(context: Context, steps_like: StudentSettings | None) -> Draws | None:
    """The steps of the student that a control is compared with, which the control copies."""
    if steps_like is None:
        return None
    examples = _train_examples(context, steps_like)
    rows = on_gpus(context, steps_like, _known(context, steps_like)).row_tokens
    if examples is None or rows is None:
        return None
    in_epoch, _ = _in_epoch(steps_like, examples, rows)
    return _steps(steps_like, in_epoch)


# ---- evidence ------------------------------------------------------------------------------------


def _known(context: Context, student: StudentSettings) -> _Known:
    """Evidence of the student itself, of a seed of it or of one like it in other folders; else of
    the same method; plain methods stand in for each other.
    """
    start = start_of(context, student)
    ranks: list[Callable[[Trained], bool]] = [
        lambda trained: _is_seed(trained, student) and is_alike(trained, start),
        lambda trained: _is_seed(trained, student),
        lambda trained: trained.method == student.method and is_alike(trained, start),
        lambda trained: trained.method == student.method,
        lambda trained: (
            trained.method in _PLAIN and student.method in _PLAIN and is_alike(trained, start)
        ),
    ]
    for rank in ranks:
        basis = context.first(lambda evidence, rank=rank: trainings_like(evidence, rank, student))
        if basis is not None:
            return _from(context, student, start, *basis)
    rows = _rows_from_traces(context, student)
    sources: tuple[str, ...] = ()
    graded = None
    if context.graded is not None:
        evidence, graded = context.graded
        if rows is not None:
            sources = (evidence.source,)
    return _Known(None, 0.0, _row_draws(context, rows, graded), None, sources, ())


def _from(
    context: Context,
    student: StudentSettings,
    start: str,
    evidence: Evidence,
    measured: Sequence[Trained],
) -> _Known:
    trained = measured[0]
    is_same = trained.method == student.method and is_alike(trained, start)
    notes: list[str] = []
    if not is_same:
        size = ""
        if trained.parameters:
            size = f", {trained.parameters:,} parameters"
        notes.append(
            f"{without_seed(student.name)} by {without_seed(trained.name)} of "
            f"{evidence.label} ({trained.method}{size})"
        )
    is_counted_alike = _is_seed(trained, student) or trained.method == student.method
    is_counted = is_counted_alike and trained.row_tokens is not None
    rows, graded = trained.row_tokens, evidence.graded
    if not is_counted:
        rows, graded = _rows_from_traces(context, student), None
        if context.graded is not None:
            graded = context.graded[1]
    sources = (evidence.source,)
    speed = pool_speeds([other.speed for other in measured if other.speed is not None])
    return _Known(
        speed, stand_in(is_same), _row_draws(context, rows, graded), trained, sources, tuple(notes)
    )


def trainings_like(
    evidence: Evidence, rank: Callable[[Trained], bool], student: StudentSettings
) -> list[Trained] | None:
    """The trainings of a folder that fit and have a speed: all seeds of one student."""
    trainings: list[Trained] = []
    for trained in evidence.students.values():
        if rank(trained) and (trained.speed is not None or student.method == "base"):
            trainings.append(trained)
    if not trainings:
        return None
    name = without_seed(trainings[0].name)
    return [trained for trained in trainings if without_seed(trained.name) == name]


def _is_seed(trained: Trained, student: StudentSettings) -> bool:
    return (
        without_seed(trained.name) == without_seed(student.name)
        and trained.method == student.method
    )


def start_of(context: Context, student: StudentSettings) -> str:
    """The shape that a student starts from, through all students that it continues."""
    every = {other.name: other for other in context.run.pipeline.all_students()}
    while student.starts_from is not None:
        student = every[student.starts_from]
    if student.architecture is not None:
        return json.dumps(student.architecture.model_dump(mode="json"), sort_keys=True)
    return short_name(student.base or "")


def is_alike(trained: Trained, start: str) -> bool:
    """Whether a training began with the same shape."""
    # A student that continues another one starts from a folder `model`, whatever that other one is
    # called.
    return trained.base in (start, "model")


def _row_draws(
    context: Context, row_tokens: float | None, graded: GradedTraces | None
) -> Draws | None:
    """Draws of the mean row of the examples to come, with the uncertainty of those measured."""
    if row_tokens is None:
        return None
    if graded is None:
        return exact(row_tokens)
    drawn = context.dice.mean(
        "rows", graded.row_tokens, graded.rows, context.problems or len(graded.rows)
    )
    return row_tokens * drawn / drawn[0]


def on_gpus(context: Context, student: StudentSettings, known: _Known) -> _Known:
    """Of GPUs that nobody has run it on: the speed that their data sheet allows, and rows as long
    as the traces are assumed to be, where no run tells it. Raises ConfigError for a student whose
    shape is not known.
    """
    paper = context.paper
    if paper is None or student.method == "base":
        return known
    shape = root_shape(context, student)
    if shape is None:
        raise shape_unknown(student.base or student.name)
    rows, notes = known.row_tokens, list(known.notes)
    if rows is None:
        rows = _rows_on_paper(context, student)
    if context.graded is None:
        notes.append(ASSUMED_YIELD)
    if rows is None:
        return known
    settings = context.run.cluster.train
    speed = paper.training_speed(student, settings, shape, float(rows[0]))
    notes.append(
        f"{shape.parameters / 1e9:,.3g}G parameters on {paper.count} GPUs: "
        f"{speed.tokens_per_s:,.0f} tokens/s in all"
    )
    if student.distils():
        notes.append("without its teacher, and without what it writes itself")
    sources = tuple(dict.fromkeys((*known.sources, NEVER_RUN)))
    return replace(
        known, speed=speed, speed_spread=0.0, row_tokens=rows, sources=sources, notes=tuple(notes)
    )


def _rows_on_paper(context: Context, student: StudentSettings) -> Draws | None:
    """A prompt, and an answer or a trace of the assumed or given length."""
    written = context.run.pipeline.traces
    if student.method == "answer_only":
        return exact(PROMPT_TOKENS + _BOXED_TOKENS)
    if context.given.tokens_per_trace is not None:
        return exact(PROMPT_TOKENS + context.given.tokens_per_trace)
    if written is None:
        return None
    mean = LENGTH_SHARE * written.resolve().max_tokens
    name = short_name(located(written.teachers[0]).model)
    # The same draws as of the traces: rows are long where these are.
    return PROMPT_TOKENS + mean * context.dice.factor(
        f"stand-in lengths of teacher {name}", LENGTH_SPREAD
    )


def _rows_from_traces(context: Context, student: StudentSettings) -> float | None:
    """Tokens of a row by the teacher's own count, its prompt and its end of text included."""
    if student.method == "answer_only":
        basis = context.first(lambda evidence: next(iter(evidence.teachers.values()), None))
        if basis is None:
            return None
        _, teacher = basis
        return teacher.prompt_tokens + _BOXED_TOKENS
    if context.graded is None:
        return None
    graded = context.graded[1]
    if student.method == "unverified":
        return 1 + graded.all_row_tokens
    return 1 + graded.mean_row_tokens


# ---- disk and memory -----------------------------------------------------------------------------


def root_shape(context: Context, student: StudentSettings) -> ModelShape | None:
    """The shape of a student, through all students that it goes on from."""
    every = {other.name: other for other in context.run.pipeline.all_students()}
    while student.starts_from is not None:
        student = every[student.starts_from]
    return start_shape(student)


def plan_of_training(context: Context, student: StudentSettings, known: _Known) -> Footprint | None:
    """What the student's training takes; None where its shape is not known."""
    shape = root_shape(context, student)
    counted = known.model
    is_counted = counted is not None and counted.parameters and not known.speed_spread
    trained = None
    if counted is not None and counted.parameters and is_counted:
        if shape is None:
            shape = ModelShape(counted.parameters, 0, 0, 0, 0, 0, 0)
        shape = replace(shape, parameters=counted.parameters)
        trained = counted.trained_parameters
    if shape is None:
        return None
    device = device_here()
    if context.paper is not None:
        device = DeviceKind(computes_in_bf16=True, is_gpu=True)
    longest = None
    if known.row_tokens is not None:
        longest = int(_LONGEST * known.row_tokens[0])
    return footprint(
        student,
        context.run.cluster.train,
        shape,
        device,
        longest=longest,
        snapshots=context.run.pipeline.evals.checkpoints.count,
        trained=trained,
    )


def with_footprint(
    context: Context, cost: Cost, student: StudentSettings, known: _Known, steps: Draws
) -> Cost:
    """The cost with what the student leaves on disk, the memory of its training, and a note."""
    plan = plan_of_training(context, student, known)
    if plan is None:
        return cost
    memory = plan.memory * context.dice.factor("memory of a training", _MEMORY_SPREAD)
    most = plan.disk(int(steps[0]))
    note = f"while it is trained: {memory_words(plan)} of memory, {gib(most)} on disk at most"
    notes = (*cost.notes, note)
    paper = context.paper
    if paper is not None and plan.memory > paper.gpu.memory:
        way = ways_to_less(student, context.run.cluster.train)
        notes = (*notes, f"does not fit into {gib(paper.gpu.memory)} of a GPU. Less: {way}")
    return replace(cost, bytes=exact(plan.left), memory=memory, notes=notes)
