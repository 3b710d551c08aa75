"""The stages in which models write: traces by teachers, answers to benchmarks by everybody who is
measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from reasondistill.config import Benchmark, SampledModel, StudentSettings, TraceSettings
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
from reasondistill.forecast.training_cost import is_alike, start_of
from reasondistill.models import topk
from reasondistill.models.prompts import load_prompt
from reasondistill.pipeline import evaluating
from reasondistill.pipeline.runs import Run, benchmarks, located
from reasondistill.records import STEP, VARIANT
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import read_manifest

AS_GIVEN = "as given"
# An index line of the top-K cache.
_INDEX_BYTES = 140
# The first texts of a run are few, and short: those that take long are not there yet.
_ENOUGH = 10

# ---- traces --------------------------------------------------------------------------------------


def traces_cost(context: Context) -> Cost:
    """All teachers one after the other on each worker."""
    written = context.run.pipeline.traces
    assert written is not None
    if context.problems is None or context.samples is None:
        return Cost("traces", "new", f"{written.n} for each problem", unknown=HOW_MANY)
    work = f"{context.samples:,} traces"
    if context.is_only_a_limit:
        work = f"at most {work}"
    done = context.own.manifests.get("traces")
    if (
        done is not None
        and done.status == "complete"
        and done.counts.get("out", 0) >= context.samples
    ):
        size, together = (
            folder_bytes(context.run.stage("traces")),
            done.figures.get("workers", 1) > 1,
        )
        seconds = done.seconds if together else max(done.seconds, _sessions(context.own))
        return finished(
            "traces", work, seconds=seconds, size=size, tokens=done.figures.get("tokens", 0)
        )
    pieces = list(_teacher_pieces(context, written, context.problems))
    cost = sampled(context, "traces", pieces, work)
    return replace(cost, bytes=_with_top_k(context, cost.bytes, cost.tokens, written))


def _sessions(own: Evidence) -> float:
    return sum(teacher.seconds for teacher in own.teachers.values())


def _teacher_pieces(context: Context, written: TraceSettings, problems: int) -> Iterator[Piece]:
    shares = sum(teacher.share for teacher in written.teachers)
    own = {short_name(located(teacher).model): teacher for teacher in written.teachers}
    for teacher in written.teachers:
        name = short_name(located(teacher).model)
        done = context.own.teachers.get(name)
        if done is None and len(own) == 1:
            done = next(iter(context.own.teachers.values()), None)
        wanted = round(problems * teacher.share / shares) * written.n
        basis = _teacher_basis(context, teacher, name)
        yield Piece(f"teacher {name}", wanted, written.n, written.resolve().max_tokens, done, basis)


def _teacher_basis(context: Context, teacher: SampledModel, name: str) -> Basis:
    """The same teacher in any folder, before another teacher in any."""
    found = context.first(
        lambda e: (
            w if (w := e.teachers.get(name)) is not None and len(w.tokens) >= _ENOUGH else None
        )
    )
    if found is None:
        found = context.first(lambda evidence: evidence.teachers.get(name))
    if found is None:
        found = context.first(lambda evidence: next(iter(evidence.teachers.values()), None))
    basis = Basis()
    if found is not None:
        evidence, written = found
        is_same = written.model == name or evidence is context.own or evidence.is_calibration
        notes = (
            []
            if is_same
            else [
                f"{name} was never measured: {written.model} of {evidence.label} stands in for it"
            ]
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
    return _with_given(context, basis)


def _at_once(context: Context, teacher: SampledModel, written: Written) -> int | None:
    """How many samples the engine had, where that was too few to fill it."""
    is_few = written.together < context.run.cluster.vllm.max_num_seqs
    if not (teacher.capabilities.is_engine and is_few):
        return None
    return written.together


def _with_given(context: Context, basis: Basis) -> Basis:
    """What the user says stands over what was measured."""
    given = context.given
    if given.tokens_per_trace is not None:
        basis = replace(basis, tokens_per_sample=given.tokens_per_trace, length_spread=0.0)
    if (speed := given.speed()) is not None:
        start = basis.speed.start_s if basis.speed is not None else 0.0
        basis = replace(basis, speed=replace(speed, start_s=start), speed_spread=0.0, at_once=None)
    if given.tokens_per_trace is None and given.tokens_per_s is None:
        return basis
    measured = basis.sources if given.tokens_per_trace is None or given.tokens_per_s is None else ()
    return replace(basis, sources=(*measured, AS_GIVEN))


def _with_top_k(
    context: Context, size: Draws | None, tokens: Draws | None, written: TraceSettings
) -> Draws | None:
    """The traces and their top-K cache: 2 + 4K bytes a token, or 3 + 5K with a vocabulary above
    65,536.
    """
    if size is None or tokens is None or written.logprobs is None or context.samples is None:
        return size
    found = context.first(_id_bytes)
    id_bytes = 3
    if found is not None:
        _, id_bytes = found
    return (
        size
        + tokens * (id_bytes + written.logprobs * (id_bytes + 2))
        + context.samples * _INDEX_BYTES
    )


def _id_bytes(evidence: Evidence) -> int | None:
    folder = RunFolder(evidence.folder).stage("traces") / topk.FOLDER
    if not (folder / topk.HEADER).exists():
        return None
    return topk.read_header(folder).id_bytes


# ---- evals ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """What one model is asked: samples on one benchmark, under one prompt or at one checkpoint."""

    benchmark: str
    label: str
    problems: int
    n: int
    cap: int


def evals_costs(context: Context) -> Iterator[Cost]:
    """One cost for each measured model: all that it is asked, by one engine for each of its
    weights.
    """
    run = context.run
    students = {student.name: student for student in run.pipeline.all_students()}
    sizes = {benchmark.name: _size(context, benchmark) for benchmark in benchmarks(run)}
    for model, measured in evaluating.eval_models(run).items() if sizes else ():
        missing = [name for name, size in sizes.items() if size is None]
        if missing:
            unknown = f"unknown how many problems {missing[0]} has: set evals.limit"
            yield Cost(f"evals/{model}", "new", f"{len(sizes)} benchmarks", unknown=unknown)
            continue
        known = {name: size for name, size in sizes.items() if size is not None}
        asked = list(_asked(run, model, measured, known, students.get(model)))
        pieces = [
            _answer_piece(context, question, model, measured, students.get(model))
            for question in asked
        ]
        work = (
            f"{sum(piece.wanted for piece in pieces):,} answers to {len(known)} "
            f"benchmark{'s' * (len(known) > 1)}"
        )
        # One engine for all that has the same weights; the last checkpoint is the finished student.
        snapshots = max(
            (
                int(question.label.partition(STEP)[2])
                for question in asked
                if STEP in question.label
            ),
            default=1,
        )
        yield sampled(context, f"evals/{model}", pieces, work, engines=snapshots)


def _size(context: Context, benchmark: Benchmark) -> int | None:
    """How many of its problems are asked."""
    limit = context.run.pipeline.evals.limit
    for evidence in context.everything:
        done = read_manifest(RunFolder(evidence.folder).benchmark(benchmark.name).problems_folder)
        if done is not None and done.status == "complete":
            return min(done.counts["out"], limit or done.counts["out"])
    rows = benchmark.rows or benchmark.problems.limit
    if rows is None:
        return limit
    return min(rows, limit or rows)


def _asked(
    run: Run,
    model: str,
    measured: evaluating.Measured,
    sizes: dict[str, int],
    student: StudentSettings | None,
) -> Iterator[_Asked]:
    settings, found = (
        run.pipeline.evals,
        {benchmark.name: benchmark for benchmark in benchmarks(run)},
    )
    for name, problems in sizes.items():
        drawn = evaluating.sampling_of(run, measured, found[name])
        cap = drawn.resolve().max_tokens
        labels = [
            model,
            *(f"{model}{VARIANT}{load_prompt(prompt).name}" for prompt in settings.prompts),
        ]
        yield from (_Asked(name, label, problems, drawn.n, cap) for label in labels)
        steps = settings.checkpoints
        if (
            steps.count
            and student is not None
            and student.method != "base"
            and name in _step_names(run)
        ):
            fewer = min(problems, steps.limit or problems)
            yield from (
                _Asked(name, f"{model}{STEP}{number}", fewer, steps.n, cap)
                for number in range(1, steps.count + 1)
            )


def _step_names(run: Run) -> list[str]:
    return [benchmark.name for benchmark in evaluating.step_benchmarks(run)]


def _answer_piece(
    context: Context,
    asked: _Asked,
    model: str,
    measured: evaluating.Measured,
    student: StudentSettings | None,
) -> Piece:
    done = context.own.answers.get((asked.benchmark, asked.label))
    if (
        STEP in asked.label
    ):  # which steps they were is known only afterwards; the numbers of their samples are alike
        number = int(asked.label.partition(STEP)[2])
        steps = sorted(
            key
            for key in context.own.answers
            if key[0] == asked.benchmark and key[1].startswith(f"{model}{STEP}")
        )
        done = context.own.answers[steps[number - 1]] if number <= len(steps) else None
    basis = _answer_basis(context, asked.benchmark, model, measured, student)
    return Piece(
        f"{without_seed(model)} on {asked.benchmark}",
        asked.problems * asked.n,
        asked.n,
        asked.cap,
        done,
        basis,
    )


def _answer_basis(
    context: Context,
    benchmark: str,
    model: str,
    measured: evaluating.Measured,
    student: StudentSettings | None,
) -> Basis:
    """Lengths and speed, each from the model itself, else from who is most like it, and told."""
    is_teacher = model in evaluating.served_teachers(context.run)
    lengths = _lengths(context, benchmark, model, measured, student)
    speed = (
        None
        if is_teacher and context.given.tokens_per_s is not None
        else _speed(context, model, measured, student, benchmark)
    )
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
        basis, sources = (
            replace(basis, tokens_per_sample=context.given.tokens_per_trace),
            [*sources, AS_GIVEN],
        )
    if speed is not None:
        at_once = _at_once(context, measured.served, speed.written)
        basis = replace(
            basis, speed=speed.written.speed, speed_spread=speed.spread, at_once=at_once
        )
    elif is_teacher and (said := context.given.speed()) is not None:
        basis, sources = replace(basis, speed=said), [*sources, AS_GIVEN]
    notes = tuple(dict.fromkeys(hint.note for hint in hints if hint.note))
    return replace(basis, sources=tuple(dict.fromkeys(sources)), notes=notes)


@dataclass(frozen=True)
class _Hint:
    """What somebody wrote, how far it may be off for who is asked, and why it was taken; `tokens`
    stands over its mean length.
    """

    written: Written
    source: str
    spread: float = 0.0
    note: str = ""
    tokens: float | None = None


def _lengths(
    context: Context,
    benchmark: str,
    model: str,
    measured: evaluating.Measured,
    student: StudentSettings | None,
) -> _Hint | None:
    """The model's own lengths; for a student that learns to reason its teacher's.

    Students of ten methods wrote 64.7 to 66.2 tokens an answer where their teacher wrote 64.7
    (compare_methods; short texts). A calibration trains for a few steps only: what such a student
    writes is no measure of the finished one, what it learns is.
    """
    is_trained = student is not None and student.method != "base"
    reasons = _reasons(student)
    for evidence in context.everything:
        if not (is_trained and evidence.is_calibration) and (
            hint := _own_answers(context, evidence, benchmark, model, measured, student)
        ):
            return hint
    is_teacher = model in evaluating.served_teachers(context.run)
    if (is_teacher or reasons) and (hint := _teachers(context, benchmark)) is not None:
        return (
            replace(
                hint, spread=STAND_IN, note=f"students as long as their teacher ({hint.source})"
            )
            if reasons
            else hint
        )
    for evidence in context.everything:
        hint = _own_answers(context, evidence, benchmark, model, measured, student)
        if hint is None:
            continue
        learnt = _learnt(evidence, model)
        if not learnt:
            return hint
        note = f"{without_seed(model)} as long as what it learns"
        return replace(hint, spread=STAND_IN, note=note, tokens=learnt)
    return None


def _learnt(evidence: Evidence, model: str) -> float | None:
    """The mean tokens that a student was taught to write."""
    for name, student in evidence.students.items():
        if without_seed(name) == without_seed(model):
            return student.loss_tokens
    return None


def _reasons(student: StudentSettings | None) -> bool:
    """Whether it is a student that learns to write as its teacher does."""
    return student is not None and student.method not in ("base", "answer_only")


def _own_answers(
    context: Context,
    evidence: Evidence,
    benchmark: str,
    model: str,
    measured: evaluating.Measured,
    student: StudentSettings | None,
) -> _Hint | None:
    """What the model, or one of the same name, wrote on this benchmark, else on another."""
    name = without_seed(model)
    found: dict[str, list[Written]] = {}
    for (place, who), written in evidence.answers.items():
        if without_seed(who) == name:
            found.setdefault(place, []).append(written)
    if not found:
        return None
    where = benchmark
    if benchmark not in found:
        where = next(iter(found))
    written = pool_written(found[where])
    is_same = where == benchmark and _is_same(context, evidence, written, measured, student)
    note = (
        ""
        if is_same
        else f"{name} of {evidence.label} on {where} stands in for {name} on {benchmark}"
    )
    return _Hint(written, evidence.source, stand_in(is_same), note)


def _is_same(
    context: Context,
    evidence: Evidence,
    written: Written,
    measured: evaluating.Measured,
    student: StudentSettings | None,
) -> bool:
    """Whether a model of the same name in another folder is the same, as far as can be told."""
    if evidence is context.own or evidence.is_calibration:
        return True
    if student is None:
        return written.model == short_name(measured.served.model)
    return _has_alike(context, evidence, student, student.name)


def _has_alike(context: Context, evidence: Evidence, student: StudentSettings, name: str) -> bool:
    """Whether a student of that name there began with the same shape as this one."""
    start = start_of(context, student)
    return any(
        without_seed(other) == without_seed(name) and is_alike(made, start)
        for other, made in evidence.students.items()
    )


def _teachers(context: Context, benchmark: str) -> _Hint | None:
    """The teacher's lengths on the benchmark, else in its traces."""
    names = list(evaluating.served_teachers(context.run))
    for evidence in context.everything:
        for name in names:
            written = evidence.answers.get((benchmark, name))
            if written is not None:
                return _Hint(written, evidence.source)
    found = context.first(lambda evidence: next(iter(evidence.teachers.values()), None))
    if found is None:
        return None
    return _Hint(
        found[1],
        found[0].source,
        STAND_IN,
        f"answers to {benchmark} as long as traces ({found[0].source})",
    )


def _speed(
    context: Context,
    model: str,
    measured: evaluating.Measured,
    student: StudentSettings | None,
    benchmark: str,
) -> _Hint | None:
    """The model's own speed, else that of another student of this file, else (for a teacher) of its
    traces.
    """
    for evidence in context.everything:
        hint = _own_answers(context, evidence, benchmark, model, measured, student)
        if hint is not None and hint.written.speed is not None:
            return hint
    if student is None:
        teacher = short_name(measured.served.model)
        found = context.first(lambda evidence: evidence.teachers.get(teacher))
        return (
            _Hint(found[1], found[0].source)
            if found is not None and found[1].speed is not None
            else None
        )
    return _sibling_speed(context, student)


def _sibling_speed(context: Context, student: StudentSettings) -> _Hint | None:
    """Students that start alike are equally large, and so equally fast."""
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
                note = (
                    f"{without_seed(student.name)} as fast as {without_seed(who)}, which is as "
                    "large"
                )
                return _Hint(written, evidence.source, note=note)
    return None
