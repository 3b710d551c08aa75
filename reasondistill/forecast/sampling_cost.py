"""The stages in which models are sampled: traces by teachers, answers to benchmarks by every
measured model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from reasondistill.config import (
    Benchmark,
    ModelSettings,
    SampledModel,
    StudentSettings,
    TraceSettings,
)
from reasondistill.errors import ConfigError
from reasondistill.forecast.costs import (
    HOW_MANY,
    Basis,
    Context,
    Cost,
    Piece,
    finished,
    sampled,
    stand_in,
    without_seed,
)
from reasondistill.forecast.evidence import (
    Evidence,
    Written,
    folder_bytes,
    pool_written,
    short_name,
)
from reasondistill.forecast.monte_carlo import STAND_IN, Draws
from reasondistill.forecast.on_paper import (
    ASSUMED_LENGTHS,
    LENGTH_SHARE,
    LENGTH_SPREAD,
    NEVER_RUN,
    shape_unknown,
)
from reasondistill.forecast.training_cost import is_alike, root_shape, start_of
from reasondistill.models import topk
from reasondistill.models.adapters import config_source
from reasondistill.models.prompts import load_prompt
from reasondistill.models.shapes import ModelShape, shape_of
from reasondistill.pipeline.measured import (
    Measured,
    eval_models,
    sampling_of,
    served_teachers,
    step_benchmarks,
)
from reasondistill.pipeline.runs import Run, benchmarks, located
from reasondistill.records import STEP, VARIANT
from reasondistill.runs.figures import TracesFigures
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import read_manifest
from reasondistill.stages.students.footprint import gib

AS_GIVEN = "as given"
# Bytes of an index line of the top-K cache.
_INDEX_BYTES = 140
# Of what is not drawn nothing is cut.
_NO_CAP = 1 << 40
# The first texts of a run are few and short: long ones are still being written.
_ENOUGH = 10

# ---- traces --------------------------------------------------------------------------------------


def traces_cost(context: Context) -> Cost:
    """All teachers one after the other on each worker."""
    written = context.run.pipeline.traces
    assert written is not None
    if context.problems is None or context.samples is None:
        return Cost("traces", "new", f"{written.samples} for each problem", unknown=HOW_MANY)
    work = f"{context.samples:,} traces"
    # Until enough are correct: nobody knows how soon that will be.
    is_most = written.accepted is not None and not context.has_drawn_enough
    if context.is_only_a_limit or is_most:
        work = f"at most {work}"
    done = context.this_run.manifests.get("traces")
    drawn = 0
    if done is not None:
        drawn = done.counts.get("out", 0) + done.counts.get("absent", 0)
    if done is not None and done.status == "complete" and not is_most and drawn >= context.samples:
        size = folder_bytes(context.run.stage("traces"))
        seconds = done.seconds
        figures = TracesFigures.of(done)
        if figures.workers <= 1:
            sessions_s = sum(teacher.seconds for teacher in context.this_run.teachers.values())
            seconds = max(seconds, sessions_s)
        return finished("traces", work, seconds=seconds, size=size, tokens=figures.worked_tokens)
    pieces = list(teacher_pieces(context, written, context.problems))
    cost = sampled(context, "traces", pieces, work)
    return replace(cost, bytes=with_top_k(context, cost.bytes, cost.tokens, written))


def teacher_pieces(context: Context, written: TraceSettings, problems: int) -> Iterator[Piece]:
    """The samples of each teacher: its share of the problems, `n` samples for each."""
    shares = sum(teacher.share for teacher in written.teachers)
    by_model = {short_name(located(teacher).model): teacher for teacher in written.teachers}
    for teacher in written.teachers:
        name = short_name(located(teacher).model)
        done = context.this_run.teachers.get(name)
        if done is None and len(by_model) == 1:
            done = next(iter(context.this_run.teachers.values()), None)
        wanted = round(problems * teacher.share / shares) * written.n
        cap = written.resolve().max_tokens
        basis = with_given(context, teacher_basis(context, teacher, name, cap))
        if teacher.capabilities.reads_dataset:
            cap = _NO_CAP
            note = f"{name}: published traces are read, not drawn"
            basis = replace(
                basis, speed=None, at_once=None, is_read=True, notes=(*basis.notes, note)
            )
        yield Piece(f"teacher {name}", wanted, written.n, cap, done, basis)
    for also in written.also:
        model = located(also.as_sampled_model())
        name = also.name or short_name(model.model)
        cap = written.sampling_of(also).max_tokens
        done = context.this_run.teachers.get(name)
        basis = with_given(context, teacher_basis(context, model, name, cap))
        yield Piece(f"also {name}", problems * also.n, also.n, cap, done, basis)


def teacher_basis(context: Context, teacher: SampledModel, name: str, cap: int) -> Basis:
    """The same teacher in any folder, else another teacher in any."""

    def with_enough(evidence: Evidence) -> Written | None:
        written = evidence.teachers.get(name)
        if written is None or len(written.tokens) < _ENOUGH:
            return None
        return written

    first_fit = context.first(with_enough)
    if first_fit is None:
        first_fit = context.first(lambda evidence: evidence.teachers.get(name))
    if first_fit is None:
        first_fit = context.first(lambda evidence: next(iter(evidence.teachers.values()), None))
    basis = Basis()
    if first_fit is not None:
        evidence, written = first_fit
        is_same = written.model == name or evidence is context.this_run or evidence.is_calibration
        notes: list[str] = []
        if not is_same:
            notes.append(
                f"{name} was never measured: {written.model} of {evidence.label} stands in for it"
            )
        spread, at_once = stand_in(is_same), _at_once(context, teacher, written)
        basis = Basis(
            written,
            written.speed,
            spread,
            spread,
            at_once=at_once,
            sources=(evidence.source,),
            notes=tuple(notes),
        )
    if not teacher.capabilities.is_engine:
        return basis
    return with_paper(context, basis, name, shape_of_model(context, teacher), cap)


def shape_of_model(context: Context, model: ModelSettings) -> ModelShape | None:
    """The shape of a model that vLLM serves, where the forecast stands on it."""
    if context.paper is None:
        return None
    source = config_source(located(model))
    return shape_of(source.model, source.revision)


def with_paper(
    context: Context, basis: Basis, name: str, shape: ModelShape | None, cap: int
) -> Basis:
    """Of GPUs that nobody has run it on: the speed that their data sheet allows, whatever was
    measured elsewhere; and an assumed length where no run tells one.

    Raises ConfigError for a model whose shape is not known, and for one that does not fit.
    """
    paper = context.paper
    if paper is None:
        return basis
    notes = list(basis.notes)
    mean = basis.tokens_per_sample
    if mean is None and basis.lengths is not None:
        mean = basis.lengths.total_tokens / max(1, basis.lengths.total_samples)
    if mean is None:
        mean = LENGTH_SHARE * cap
        basis = replace(basis, tokens_per_sample=mean, length_spread=LENGTH_SPREAD)
        if context.given.tokens_per_trace is None:
            notes.append(ASSUMED_LENGTHS)
    mean = context.given.tokens_per_trace or mean
    if shape is None:
        raise shape_unknown(name)
    seats = context.run.cluster.vllm.max_num_seqs
    speed = paper.writing_speed(shape, mean, seats)
    if speed is None:
        raise ConfigError(
            f"--gpus: {name} has {shape.parameters / 1e9:,.1f}G parameters, "
            f"{gib(2.0 * shape.parameters)} in bfloat16: more than {paper.title} hold beside one "
            f"text of {mean:,.0f} tokens. Take more or larger GPUs, or a smaller model."
        )
    each = paper.engine_gpus(shape, mean, seats)
    notes.append(
        f"{name}: {shape.parameters / 1e9:,.3g}G parameters in bfloat16, "
        f"{paper.count // each} × {each} GPUs, {gib(paper.engine_memory(shape, each))} of "
        f"weights on each, {speed.tokens_per_s:,.0f} tokens/s in all"
    )
    return replace(
        basis,
        speed=speed,
        speed_spread=0.0,
        at_once=None,
        sources=(*basis.sources, NEVER_RUN),
        notes=tuple(notes),
    )


def _at_once(context: Context, teacher: SampledModel, written: Written) -> int | None:
    """How many samples the engine had, where that was too few to fill it."""
    is_few = written.together < context.run.cluster.vllm.max_num_seqs
    if not (teacher.capabilities.is_engine and is_few):
        return None
    return written.together


def with_given(context: Context, basis: Basis) -> Basis:
    """The user's values override measured ones."""
    given = context.given
    if given.tokens_per_trace is not None:
        basis = replace(basis, tokens_per_sample=given.tokens_per_trace, length_spread=0.0)
    speed = given.speed()
    if speed is not None:
        start = 0.0
        if basis.speed is not None:
            start = basis.speed.start_s
        basis = replace(basis, speed=replace(speed, start_s=start), speed_spread=0.0, at_once=None)
    if given.tokens_per_trace is None and given.tokens_per_s is None:
        return basis
    measured = basis.sources
    if given.tokens_per_trace is not None and given.tokens_per_s is not None:
        measured = ()
    return replace(basis, sources=(*measured, AS_GIVEN))


def with_top_k(
    context: Context, size: Draws | None, tokens: Draws | None, written: TraceSettings
) -> Draws | None:
    """The traces and their top-K cache: 2 + 4K bytes a token, or 3 + 5K with a vocabulary above
    65,536.
    """
    if size is None or tokens is None or written.logprobs is None or context.samples is None:
        return size
    entry = context.first(id_bytes_of)
    id_bytes = 3
    if entry is not None:
        _, id_bytes = entry
    bytes_per_token = topk.bytes_of_token(written.logprobs, id_bytes)
    return size + tokens * bytes_per_token + context.samples * _INDEX_BYTES


def id_bytes_of(evidence: Evidence) -> int | None:
    """The bytes of a token's id in the run's top-K cache; None where it has none."""
    folder = RunFolder(evidence.folder).stage("traces") / topk.FOLDER
    if not (folder / topk.HEADER).exists():
        return None
    return topk.read_header(folder).id_bytes


# ---- evals ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """Samples of one model on one benchmark, under one prompt or at one checkpoint."""

    benchmark: str
    label: str
    problems: int
    n: int
    cap: int


def evals_costs(context: Context) -> Iterator[Cost]:
    """One cost for each measured model: all of its samples, with one engine for each of its
    weights.
    """
    run = context.run
    students = {student.name: student for student in run.pipeline.all_students()}
    sizes = {benchmark.name: problems_asked(context, benchmark) for benchmark in benchmarks(run)}
    for model, measured in eval_models(run).items() if sizes else ():
        missing = [name for name, size in sizes.items() if size is None]
        if missing:
            unknown = f"unknown how many problems {missing[0]} has: set evals.limit"
            yield Cost(f"evals/{model}", "new", f"{len(sizes)} benchmarks", unknown=unknown)
            continue
        known = {name: size for name, size in sizes.items() if size is not None}
        questions = list(questions_of(run, model, measured, known, students.get(model)))
        pieces = [
            answer_piece(context, question, model, measured, students.get(model))
            for question in questions
        ]
        answers = sum(piece.wanted for piece in pieces)
        work = f"{answers:,} answers to {len(known)} benchmark"
        if len(known) > 1:
            work += "s"
        # One engine for all that has the same weights; the last checkpoint is the finished student.
        labels = [question.label for question in questions if STEP in question.label]
        snapshots = max((int(label.partition(STEP)[2]) for label in labels), default=1)
        yield sampled(context, f"evals/{model}", pieces, work, engines=snapshots)


def problems_asked(context: Context, benchmark: Benchmark) -> int | None:
    """How many of the benchmark's problems are used."""
    limit = context.run.pipeline.evals.limit
    for evidence in context.everything:
        done = read_manifest(RunFolder(evidence.folder).benchmark(benchmark.name).problems_folder)
        if done is not None and done.status == "complete":
            return min(done.count("out"), limit or done.count("out"))
    rows = benchmark.rows or benchmark.problems.limit
    if rows is None:
        return limit
    return min(rows, limit or rows)


def questions_of(
    run: Run,
    model: str,
    measured: Measured,
    sizes: dict[str, int],
    student: StudentSettings | None,
) -> Iterator[Question]:
    """On each benchmark: under its own prompt, under the others of [evals], at its checkpoints."""
    settings = run.pipeline.evals
    by_name = {benchmark.name: benchmark for benchmark in benchmarks(run)}
    for name, problems in sizes.items():
        drawn = sampling_of(run, measured, by_name[name])
        cap = drawn.resolve().max_tokens
        yield Question(name, model, problems, drawn.n, cap)
        for prompt in settings.prompts:
            label = f"{model}{VARIANT}{load_prompt(prompt).name}"
            yield Question(name, label, problems, drawn.n, cap)
        steps = settings.checkpoints
        if not steps.count or student is None or student.method == "base":
            continue
        if name in [benchmark.name for benchmark in step_benchmarks(run)]:
            fewer = min(problems, steps.limit or problems)
            samples = steps.n
            if drawn.resolve().temperature == 0:
                samples = 1
            for number in range(1, steps.count + 1):
                yield Question(name, f"{model}{STEP}{number}", fewer, samples, cap)


def answer_piece(
    context: Context,
    question: Question,
    model: str,
    measured: Measured,
    student: StudentSettings | None,
) -> Piece:
    """The samples that one question needs, and those of them that exist already."""
    done = context.this_run.answers.get((question.benchmark, question.label))
    if STEP in question.label:
        # The steps are known only afterwards; each has the same number of samples.
        number = int(question.label.partition(STEP)[2])
        steps = sorted(
            key
            for key in context.this_run.answers
            if key[0] == question.benchmark and key[1].startswith(f"{model}{STEP}")
        )
        done = None
        if number <= len(steps):
            done = context.this_run.answers[steps[number - 1]]
    basis = answer_basis(context, question.benchmark, model, measured, student, question.cap)
    return Piece(
        f"{without_seed(model)} on {question.benchmark}",
        question.problems * question.n,
        question.n,
        question.cap,
        done,
        basis,
    )


def answer_basis(
    context: Context,
    benchmark: str,
    model: str,
    measured: Measured,
    student: StudentSettings | None,
    cap: int,
) -> Basis:
    """Lengths and speed, each from the model itself, else from the model most like it, with a
    note.
    """
    is_teacher = model in served_teachers(context.run)
    lengths = answer_lengths(context, benchmark, model, measured, student)
    speed: Hint | None = None
    if not is_teacher or context.given.tokens_per_s is None:
        speed = answer_speed(context, model, measured, student, benchmark)
    hints = [hint for hint in (lengths, speed) if hint is not None]
    basis, sources = Basis(), [hint.source for hint in hints]
    if lengths is not None:
        basis = replace(
            basis,
            lengths=lengths.written,
            length_spread=lengths.spread,
            tokens_per_sample=lengths.tokens,
        )
    elif context.given.tokens_per_trace is not None and (is_teacher or _reasons(student)):
        basis = replace(basis, tokens_per_sample=context.given.tokens_per_trace)
        sources.append(AS_GIVEN)
    if speed is not None:
        at_once = _at_once(context, measured.served, speed.written)
        basis = replace(
            basis, speed=speed.written.speed, speed_spread=speed.spread, at_once=at_once
        )
    elif is_teacher:
        given_speed = context.given.speed()
        if given_speed is not None:
            basis = replace(basis, speed=given_speed)
            sources.append(AS_GIVEN)
    notes = tuple(dict.fromkeys(hint.note for hint in hints if hint.note))
    basis = replace(basis, sources=tuple(dict.fromkeys(sources)), notes=notes)
    is_given = is_teacher and context.given.tokens_per_s is not None
    if context.paper is None or is_given or not measured.served.capabilities.is_engine:
        return basis
    if student is not None:
        shape = root_shape(context, student)
    else:
        shape = shape_of_model(context, measured.served)
    return with_paper(context, basis, without_seed(model), shape, cap)


@dataclass(frozen=True)
class Hint:
    """What a model wrote, how far this may be off for the forecast model, and why it was chosen;
    `tokens` overrides its mean length.
    """

    written: Written
    source: str
    spread: float = 0.0
    note: str = ""
    tokens: float | None = None


def answer_lengths(
    context: Context,
    benchmark: str,
    model: str,
    measured: Measured,
    student: StudentSettings | None,
) -> Hint | None:
    """The model's own lengths; for a student that learns to reason its teacher's.

    Students of ten methods wrote 64.7 to 66.2 tokens an answer where their teacher wrote 64.7
    (compare_methods; short texts). A calibration trains for a few steps only: the texts of such
    a student say nothing about the finished one, but the texts that it learns do.
    """
    is_trained = student is not None and student.method != "base"
    reasons = _reasons(student)
    for evidence in context.everything:
        if is_trained and evidence.is_calibration:
            continue
        hint = _own_answers(context, evidence, benchmark, model, measured, student)
        if hint is not None:
            return hint
    is_teacher = model in served_teachers(context.run)
    if is_teacher or reasons:
        hint = teacher_lengths(context, benchmark)
        if hint is not None and reasons:
            note = f"students as long as their teacher ({hint.source})"
            return replace(hint, spread=STAND_IN, note=note)
        if hint is not None:
            return hint
    for evidence in context.everything:
        hint = _own_answers(context, evidence, benchmark, model, measured, student)
        if hint is None:
            continue
        learnt = learnt_tokens(evidence, model)
        if not learnt:
            return hint
        note = f"{without_seed(model)} as long as what it learns"
        return replace(hint, spread=STAND_IN, note=note, tokens=learnt)
    return None


def learnt_tokens(evidence: Evidence, model: str) -> float | None:
    """The mean tokens that a student was taught to write."""
    for name, student in evidence.students.items():
        if without_seed(name) == without_seed(model):
            return student.loss_tokens
    return None


def _reasons(student: StudentSettings | None) -> bool:
    """Whether the model is a student that learns to write as its teacher does."""
    return student is not None and student.method not in ("base", "answer_only")


def _own_answers(
    context: Context,
    evidence: Evidence,
    benchmark: str,
    model: str,
    measured: Measured,
    student: StudentSettings | None,
) -> Hint | None:
    """What the model, or one of the same name, wrote on this benchmark, else on another."""
    name = without_seed(model)
    answers: dict[str, list[Written]] = {}
    for (place, who), written in evidence.answers.items():
        if without_seed(who) == name:
            answers.setdefault(place, []).append(written)
    if not answers:
        return None
    where = benchmark
    if benchmark not in answers:
        where = next(iter(answers))
    written = pool_written(answers[where])
    is_same = where == benchmark and is_same_model(context, evidence, written, measured, student)
    note = ""
    if not is_same:
        note = f"{name} of {evidence.label} on {where} stands in for {name} on {benchmark}"
    return Hint(written, evidence.source, stand_in(is_same), note)


def is_same_model(
    context: Context,
    evidence: Evidence,
    written: Written,
    measured: Measured,
    student: StudentSettings | None,
) -> bool:
    """Whether a model of the same name in another folder is the same, as far as is known."""
    if evidence is context.this_run or evidence.is_calibration:
        return True
    if student is None:
        return written.model == short_name(measured.served.model)
    return _has_alike(context, evidence, student, student.name)


def _has_alike(context: Context, evidence: Evidence, student: StudentSettings, name: str) -> bool:
    """Whether the student of that name in the other folder has the same shape as this one."""
    start = start_of(context, student)
    return any(
        without_seed(other) == without_seed(name) and is_alike(trained, start)
        for other, trained in evidence.students.items()
    )


def teacher_lengths(context: Context, benchmark: str) -> Hint | None:
    """The teacher's lengths on the benchmark, else in its traces."""
    names = list(served_teachers(context.run))
    for evidence in context.everything:
        for name in names:
            written = evidence.answers.get((benchmark, name))
            if written is not None:
                return Hint(written, evidence.source)
    basis = context.first(lambda evidence: next(iter(evidence.teachers.values()), None))
    if basis is None:
        return None
    evidence, written = basis
    note = f"answers to {benchmark} as long as traces ({evidence.source})"
    return Hint(written, evidence.source, STAND_IN, note)


def answer_speed(
    context: Context,
    model: str,
    measured: Measured,
    student: StudentSettings | None,
    benchmark: str,
) -> Hint | None:
    """The model's own speed, else that of another student of this file, else (for a teacher) of its
    traces.
    """
    for evidence in context.everything:
        hint = _own_answers(context, evidence, benchmark, model, measured, student)
        if hint is not None and hint.written.speed is not None:
            return hint
    if student is None:
        teacher = short_name(measured.served.model)
        basis = context.first(lambda evidence: evidence.teachers.get(teacher))
        if basis is None:
            return None
        evidence, written = basis
        if written.speed is None:
            return None
        return Hint(written, evidence.source)
    return sibling_speed(context, student)


def sibling_speed(context: Context, student: StudentSettings) -> Hint | None:
    """The speed of a student with the same start, which is as large and so as fast."""
    start = start_of(context, student)
    siblings = [
        other.name
        for other in context.run.pipeline.all_students()
        if start_of(context, other) == start
    ]
    for evidence in context.everything:
        known = [
            name
            for name in siblings
            if not evidence.students or _has_alike(context, evidence, student, name)
        ]
        for (_, who), written in evidence.answers.items():
            if written.speed is not None and without_seed(who) in map(without_seed, known):
                ours, theirs = without_seed(student.name), without_seed(who)
                note = f"{ours} as fast as {theirs}, which is as large"
                return Hint(written, evidence.source, note=note)
    return None
