"""Stage 6 of a run: who is measured, on what, under which prompts; and the sampling of one model,
which starts its engine once.

6-evals/<benchmark>/problems
6-evals/<benchmark>/<model>/{traces,verdicts}                    under its own prompt
6-evals/<benchmark>/<model>/latency.json                         [evals] latency
6-evals/<benchmark>/<model>@<prompt>/{traces,verdicts}           [evals] prompts
6-evals/<benchmark>/<student>@step@<n>/{traces,verdicts}         [evals.checkpoints]
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from reasondistill.config import (
    CONTROLS,
    Benchmark,
    EvalModel,
    SampledModel,
    SamplingSettings,
    StudentSettings,
    TraceSettings,
)
from reasondistill.errors import ConfigError
from reasondistill.grading import GradingPool
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers import make_ready
from reasondistill.models.samplers.opening import OpenSampler, kept_open
from reasondistill.models.weights import count_parameters, made_for, weight_bytes
from reasondistill.pipeline import latency
from reasondistill.pipeline.runs import Run, benchmarks, located, with_environment
from reasondistill.records import STEP, VARIANT, MeasuredModel, Problem
from reasondistill.runs import layout
from reasondistill.runs.layout import BenchmarkFolder, StudentFolder
from reasondistill.runs.store import (
    Manifest,
    StopSignal,
    read_manifest,
    read_records,
    require_complete,
)
from reasondistill.runs.work_sharing import Share
from reasondistill.stages import evals, problems, students, traces

log = logging.getLogger(__name__)

Grade = Callable[[Path, Path, Path], Manifest]

_SAMPLING = set(SamplingSettings.model_fields)


# ---- who is measured -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """A model to measure: how it is served, the prompt it was made for (None: the benchmark's),
    sampling keys of its own.
    """

    served: SampledModel
    prompt: str | None
    sampling: EvalModel | None = None


def eval_models(run: Run) -> dict[str, Measured]:
    """Name → model: students and baselines from the run folder, the teachers, then the models that
    [evals] names.
    """
    models: dict[str, Measured] = {}
    for student in run.pipeline.all_students():
        folder = run.stage("students") / student.name
        manifest = read_manifest(folder)
        done = manifest is not None and manifest.status == "complete"
        path = students.read_student(folder).path if done else str(StudentFolder(folder).model)
        revision = (
            student.revision if path == student.base else None
        )  # a folder of our own has none
        served = SampledModel(
            name=student.name,
            model=path,
            revision=revision,
            trust_remote_code=student.trust_remote_code,
        )
        models[student.name] = Measured(served, run.pipeline.student_prompt)
    if run.pipeline.evals.teacher and run.pipeline.traces is not None:
        prompt = run.pipeline.traces.prompt
        models |= {
            name: Measured(teacher, prompt) for name, teacher in served_teachers(run).items()
        }
    for model in run.pipeline.evals.models:
        served = located(model.as_sampled_model())
        prompt = made_for(served.model) if served.capabilities.has_weights else None
        models[model.name] = Measured(served, prompt, model)
    return models


def served_teachers(run: Run) -> dict[str, SampledModel]:
    """The teachers that can be asked anything: not the reference solutions, not a script."""
    asked = [teacher for teacher in run.pipeline.teachers if teacher.capabilities.answers_anything]
    single = len(asked) == 1
    return {
        teacher.name or ("teacher" if single else _model_name(teacher.model)): located(teacher)
        for teacher in asked
    }


def teacher_of(run: Run, student: StudentSettings) -> SampledModel | None:
    """Whose distributions a student learns: the one it names, else the only teacher of the traces
    that vLLM serves.
    """
    if not student.distils():
        return None
    if student.teacher is not None:
        return located(SampledModel(model=student.teacher, revision=student.teacher_revision))
    asked = [teacher for teacher in run.pipeline.teachers if teacher.capabilities.has_weights]
    return located(asked[0]) if len(asked) == 1 else None


def _model_name(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model.rpartition("/")[2]) or "teacher"


def baselines(run: Run) -> Mapping[str, list[str]]:
    """Who is compared with whom: each trained student with its untouched base, its twins and the
    teachers; all with `against`.
    """
    models, every = (
        list(eval_models(run)),
        {student.name: student for student in run.pipeline.all_students()},
    )
    groups = run.pipeline.seed_groups()
    named = {
        name
        for student in run.pipeline.students
        for name in groups.get(student.name, (student.name,))
    }
    rest = [student for student in every.values() if student.method in CONTROLS]

    def is_baseline(other: StudentSettings, student: StudentSettings) -> bool:
        """A twin that came by itself belongs to the student that trains like it; one that the file
        names, to all of its base.
        """
        if other.method != "base" and other.name not in named:
            return other.recipe() in (student.recipe(), _first(every, student).recipe())
        return _first(every, other).start() == _first(every, student).start()

    compared: dict[str, list[str]] = {}
    for student in (student for student in every.values() if student.method not in CONTROLS):
        own = [other.name for other in rest if is_baseline(other, student)]
        compared[student.name] = [name for name in [*own, *served_teachers(run)] if name in models]
    for model, other in _same_seed(groups, run.pipeline.against()):
        if model != other and other not in compared.setdefault(model, []):
            compared[model].append(other)
    for other in run.pipeline.against():
        if other in groups:
            continue
        if other not in models:
            raise ConfigError(
                f"[evals] against: {other!r} is not among the models that are measured: "
                f"{', '.join(models)}."
            )
        for model in models:
            if model != other and other not in compared.setdefault(model, []):
                compared[model].append(other)
    return {model: others for model, others in compared.items() if others}


def _first(made: Mapping[str, StudentSettings], student: StudentSettings) -> StudentSettings:
    """Where a student that goes on from others began."""
    return _first(made, made[student.starts_from]) if student.starts_from is not None else student


def _same_seed(
    groups: Mapping[str, tuple[str, ...]], against: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Each student of several seeds with the one of the same seed that is made of another block of
    the file.
    """
    seeds = {
        single: single.removeprefix(name) for name, singles in groups.items() for single in singles
    }
    for other in (name for name in against if name in groups):
        yield from (
            (single, f"{other}{seed}")
            for single, seed in seeds.items()
            if f"{other}{seed}" in groups[other]
        )


# ---- how -----------------------------------------------------------------------------------------


def samples_of(run: Run, benchmark: Benchmark) -> int:
    """Samples per problem: what [evals] says, or what the benchmark recommends; one where greedy
    sampling would repeat itself.
    """
    asked = run.pipeline.evals.n
    if asked == "recommended":
        return 1 if run.pipeline.evals.resolve().temperature == 0 else benchmark.n
    return asked


def sampling_of(
    run: Run,
    measured: Measured,
    benchmark: Benchmark,
    *,
    prompt: str | None = None,
    n: int | None = None,
) -> TraceSettings:
    """How a model is sampled: as the traces were, but for what [evals] says, and above it the
    model's own keys.

    The prompt: the one asked for, else that of [evals], else the one that the model was made for,
    else the benchmark's.
    """
    settings, written = run.pipeline.evals, run.pipeline.traces
    own = settings.model_dump(include=_SAMPLING, exclude_none=True)
    inherited = (
        written.model_dump(include=_SAMPLING, exclude_none=True)
        if written is not None and "settings" not in own
        else {}
    )
    keys = inherited | own
    if measured.sampling is not None:
        theirs = measured.sampling.model_dump(include=_SAMPLING, exclude_none=True)
        keys = theirs if "settings" in theirs else keys | theirs
    chosen = (
        prompt
        or (measured.sampling.prompt if measured.sampling is not None else None)
        or settings.prompt
        or measured.prompt
    )
    return TraceSettings(
        **keys,
        prompt=chosen or benchmark.prompt or "question",
        n=n or samples_of(run, benchmark),
        teachers=(measured.served,),
        failures_allowed=settings.failures_allowed,
    )


def prepare(run: Run, benchmark: Benchmark, pool: GradingPool) -> Manifest:
    """The problems of a benchmark in 6-evals, checked against what its file promises; nothing is
    done when they are there.
    """
    folder = run.layout.benchmark(benchmark.name).problems_folder
    return problems.run_benchmark(
        benchmark, folder, pool=pool, keep_old=run.keep_old, base=run.source.parent
    )


def measure(
    run: Run, model: str, grade: Grade, stop: StopSignal, share: Share | None = None
) -> None:
    """Draw and grade all samples of one model on every benchmark: under its own prompt, under the
    others, at its checkpoints.

    One engine serves all of it that has the same weights, and is closed before the grading. Of
    several workers each draws the chunks that it claims; who closes the folders grades.
    """
    measured = eval_models(run)[model]
    cells = [
        (benchmark, model, sampling_of(run, measured, benchmark), run.pipeline.evals.limit)
        for benchmark in benchmarks(run)
    ]
    for prompt in run.pipeline.evals.prompts:
        name = f"{model}{VARIANT}{load_prompt(prompt).name}"
        cells += [
            (b, name, sampling_of(run, measured, b, prompt=prompt), run.pipeline.evals.limit)
            for b in benchmarks(run)
        ]
    engines = [cells]
    for step, folder in _snapshots(run, model):
        served = Measured(
            measured.served.model_copy(update={"model": str(folder), "revision": None}),
            measured.prompt,
        )
        checkpoint = list(_checkpoint_cells(run, f"{model}{STEP}{step}", served))
        if str(folder) == measured.served.model:  # the last one is the finished student
            cells += checkpoint
        else:
            engines.append(checkpoint)
    for cells in engines:
        _sample(run, cells, stop, share)
        if share is None or share.role == "close":
            _grade(run, cells, grade)


_Cell = tuple[Benchmark, str, TraceSettings, int | None]


def _sample(run: Run, cells: list[_Cell], stop: StopSignal, share: Share | None) -> None:
    with kept_open() as open_sampler:
        for benchmark, name, settings, limit in cells:
            folder = run.stage("evals") / benchmark.name
            log.info("%s on %s", name, benchmark.name)
            manifest = traces.run_traces(
                settings,
                folder / "problems",
                folder / name / "traces",
                cluster=run.cluster,
                open_sampler=open_sampler,
                stop=stop,
                limit=limit,
                keep_old=run.keep_old,
                first_samples=True,
                share=share,
            )
            if manifest.status == "complete":
                with_environment(folder / name / "traces", manifest)
        if cells and VARIANT not in cells[0][1] and (share is None or share.role == "close"):
            _time_alone(run, cells[0], open_sampler, stop)


def _time_alone(run: Run, cell: _Cell, open_sampler: OpenSampler, stop: StopSignal) -> None:
    """[evals] latency: the first problems of the first benchmark, one at a time, on the engine that
    is open.
    """
    benchmark, name, settings, _ = cell
    folder, count = run.stage("evals") / benchmark.name, run.pipeline.evals.latency
    if not count or stop.requested or latency.is_measured(folder / name, count):
        return
    asked = list(islice(read_records(BenchmarkFolder(folder).problems, Problem), count))
    with open_sampler(settings.teachers[0], run.cluster, asked) as sampler:
        make_ready(sampler, lambda: stop.requested)
        latency.measure_latency(sampler, asked, load_prompt(settings.prompt), folder / name, count)


def _grade(run: Run, cells: list[_Cell], grade: Grade) -> None:
    for benchmark, name, _, _ in cells:
        folder = run.stage("evals") / benchmark.name
        grade(folder / "problems", folder / name / "traces", folder / name / "verdicts")


# ---- checkpoints ---------------------------------------------------------------------------------


def _snapshots(run: Run, model: str) -> list[tuple[int, Path]]:
    """Step and folder of the snapshots of a student; none for other models, or when none are asked
    for. Raises StageError as they do.
    """
    count = run.pipeline.evals.checkpoints.count
    student = next(
        (s for s in run.pipeline.all_students() if s.name == model and s.method != "base"), None
    )
    if not count or student is None:
        return []
    found = students.snapshots(run.stage("students") / model)
    if len(found) < count:
        log.warning(
            "%s: %d snapshots were kept while it was trained, not %d; these are measured",
            model,
            len(found),
            count,
        )
    # Fewer than were kept: evenly spaced ones, the last is the finished student.
    return (
        [
            found[round((place + 1) * len(found) / count) - 1]
            for place in range(min(count, len(found)))
        ]
        if len(found) > count
        else found
    )


def step_benchmarks(run: Run) -> list[Benchmark]:
    """The benchmarks that checkpoints are measured on. Raises ConfigError for one that [evals] does
    not name.
    """
    wanted, known = run.pipeline.evals.checkpoints.benchmarks, benchmarks(run)
    strangers = set(wanted) - {benchmark.name for benchmark in known}
    if strangers:
        raise ConfigError(
            f"[evals.checkpoints] benchmarks: {sorted(strangers)[0]!r} is not among those "
            "of [evals]."
        )
    return [benchmark for benchmark in known if not wanted or benchmark.name in wanted]


def _checkpoint_cells(run: Run, name: str, served: Measured) -> Iterator[_Cell]:
    settings = run.pipeline.evals.checkpoints
    limits = [limit for limit in (settings.limit, run.pipeline.evals.limit) if limit is not None]
    for benchmark in step_benchmarks(run):
        yield (
            benchmark,
            name,
            sampling_of(run, served, benchmark, n=settings.n),
            min(limits, default=None),
        )


# ---- together ------------------------------------------------------------------------------------


def collect(run: Run, pool: GradingPool) -> Manifest:
    """Put the tables together from everything that was sampled and graded."""
    models = list(eval_models(run))
    has_steps = run.pipeline.evals.checkpoints.count > 0
    variants = evals.Variants(
        prompts=tuple(load_prompt(prompt).name for prompt in run.pipeline.evals.prompts),
        steps={
            model: tuple(step for step, _ in found)
            for model in models
            if (found := _snapshots(run, model))
        },
        step_benchmarks=tuple(benchmark.name for benchmark in step_benchmarks(run))
        if has_steps
        else (),
        step_n=run.pipeline.evals.checkpoints.n,
    )
    training = run.stage("problems") if run.pipeline.students else None
    if training is not None:
        require_complete(training)
    return evals.collect(
        run.stage("evals"),
        benchmarks={benchmark.name: samples_of(run, benchmark) for benchmark in benchmarks(run)},
        models=models,
        baselines=baselines(run),
        pool=pool,
        variants=variants,
        training=training / layout.PROBLEMS if training is not None else None,
        groups={
            name: singles
            for name, singles in run.pipeline.seed_groups().items()
            if set(singles) <= set(models)
        },
        about=[_about(run, name, measured) for name, measured in eval_models(run).items()],
        reference=next(iter(run.pipeline.against()), None),
        failures_allowed=run.pipeline.evals.failures_allowed,
    )


def _about(run: Run, name: str, measured: Measured) -> MeasuredModel:
    """Who a model is, and how large, where its weights are on this machine."""
    served = measured.served
    path = Path(served.model).expanduser()
    is_here = served.capabilities.has_weights and (path / "config.json").is_file()
    return MeasuredModel(
        name=name,
        is_teacher=name in served_teachers(run)
        and name not in {model.name for model in run.pipeline.evals.models},
        base=_untouched(run, name),
        parameters=count_parameters(path) if is_here else None,
        size_bytes=weight_bytes(path) if is_here else None,
    )


def _untouched(run: Run, name: str) -> str | None:
    """The untouched model that the training of a student began with, through all students that it
    continues.
    """
    made = {student.name: student for student in run.pipeline.all_students()}
    if name not in made:
        return None
    start = _first(made, made[name]).start()
    return next(
        (
            other.name
            for other in made.values()
            if other.method == "base" and other.start() == start
        ),
        None,
    )
