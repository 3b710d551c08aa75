"""Stage 6 of a run: the sampling of one model on all that it is measured on, which starts its
engine once, and the tables of all. Who is measured stands in measured.py.

6-evals/<benchmark>/problems
6-evals/<benchmark>/<model>/{traces,verdicts}                    under its own prompt
6-evals/<benchmark>/<model>/latency.json                         [evals] latency
6-evals/<benchmark>/<model>@<prompt>/{traces,verdicts}           [evals] prompts
6-evals/<benchmark>/<student>@step@<n>/{traces,verdicts}         [evals.checkpoints]
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from reasondistill.config import Benchmark, SampledModel, TraceSettings
from reasondistill.grading import GradingPool
from reasondistill.models.adapters import adapter_of
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers import make_ready
from reasondistill.models.samplers.opening import Serving, kept_open
from reasondistill.models.weights import (
    count_parameters,
    is_adapter_alone,
    named_folder,
    weight_bytes,
)
from reasondistill.pipeline import latency
from reasondistill.pipeline.measured import (
    Measured,
    baselines,
    eval_models,
    greedy_models,
    most_samples,
    samples_of,
    sampling_of,
    served_teachers,
    step_benchmarks,
    untouched_base,
)
from reasondistill.pipeline.merging import merging_opener
from reasondistill.pipeline.runs import Run, benchmarks, with_environment
from reasondistill.records import STEP, VARIANT, MeasuredModel, Problem
from reasondistill.runs.layout import CellFolder
from reasondistill.runs.session import Session
from reasondistill.runs.store import (
    Manifest,
    StopSignal,
    read_records,
    require_complete,
)
from reasondistill.runs.work_sharing import Share
from reasondistill.stages import evals, problems, students, traces

log = logging.getLogger(__name__)

Grade = Callable[[Path, Path, Path], Manifest]


def prepare(run: Run, benchmark: Benchmark, pool: GradingPool) -> Manifest:
    """The problems of a benchmark in 6-evals, checked against what its file promises; nothing is
    done when they are there.
    """
    folder = run.layout.benchmark(benchmark.name).problems_folder
    return problems.run_benchmark(
        benchmark, folder, pool=pool, keep_old=run.keep_old, base=run.source.parent
    )


@dataclass(frozen=True)
class Cell:
    """One model on one benchmark: under which name, how it is sampled, on how many problems."""

    benchmark: Benchmark
    name: str
    settings: TraceSettings
    limit: int | None

    def folder_in(self, run: Run) -> CellFolder:
        return run.layout.benchmark(self.benchmark.name).cell(self.name)


def measure(
    run: Run, model: str, grade: Grade, stop: StopSignal, share: Share | None = None
) -> None:
    """Draw and grade all samples of one model on every benchmark: under its own prompt, under the
    others, at its checkpoints.

    One engine serves all of it that has the same weights, and is closed before the grading. Of
    several workers each draws the chunks that it claims; who closes the folders grades.
    """
    if greedy_models(run, {model: eval_models(run)[model]}):
        log.warning(
            "%s: temperature = 0 gives the same answer again and again; each problem is asked "
            "once, not %d times, and n = 1 is recorded",
            model,
            most_samples(run),
        )
    for cells in cells_by_engine(run, model):
        _sample(run, cells, stop, share)
        if share is None or share.role == "close":
            for cell in cells:
                problems_folder = run.layout.benchmark(cell.benchmark.name).problems_folder
                folder = cell.folder_in(run)
                grade(problems_folder, folder.traces_folder, folder.verdicts_folder)


def cells_by_engine(run: Run, model: str) -> list[list[Cell]]:
    """What of a model is measured; each list holds what the same weights answer."""
    measured = eval_models(run)[model]
    asked_on = benchmarks(run)
    limit = run.pipeline.evals.limit
    finished: list[Cell] = []
    for benchmark in asked_on:
        settings = sampling_of(run, measured, benchmark)
        finished.append(Cell(benchmark, model, settings, limit))
    for prompt in run.pipeline.evals.prompts:
        name = f"{model}{VARIANT}{load_prompt(prompt).name}"
        for benchmark in asked_on:
            settings = sampling_of(run, measured, benchmark, prompt=prompt)
            finished.append(Cell(benchmark, name, settings, limit))
    engines = [finished]
    for step, folder in _snapshots(run, model):
        weights = {"model": str(folder), "revision": None}
        served = Measured(measured.served.model_copy(update=weights), measured.prompt)
        cells = _checkpoint_cells(run, f"{model}{STEP}{step}", served)
        if str(folder) == measured.served.model:  # the last one is the finished student
            finished += cells
        else:
            engines.append(cells)
    return engines


def _checkpoint_cells(run: Run, name: str, served: Measured) -> list[Cell]:
    checkpoints = run.pipeline.evals.checkpoints
    limits = [limit for limit in (checkpoints.limit, run.pipeline.evals.limit) if limit is not None]
    cells: list[Cell] = []
    for benchmark in step_benchmarks(run):
        settings = sampling_of(run, served, benchmark, n=checkpoints.n)
        cells.append(Cell(benchmark, name, settings, min(limits, default=None)))
    return cells


def _sample(run: Run, cells: list[Cell], stop: StopSignal, share: Share | None) -> None:
    session = Session(share=share, stop=stop, keep_old=run.keep_old)
    with kept_open(merging_opener(stop)) as open_sampler:
        serving = Serving(run.cluster, open_sampler)
        for cell in cells:
            log.info("%s on %s", cell.name, cell.benchmark.name)
            folder = cell.folder_in(run).traces_folder
            manifest = traces.run_traces(
                traces.as_many_as_stand(cell.settings, folder),
                run.layout.benchmark(cell.benchmark.name).problems_folder,
                folder,
                serving,
                session,
                limit=traces.as_many_problems_as_stand(cell.limit, folder),
            )
            if manifest.status == "complete":
                with_environment(folder, manifest)
        # Alone, once for each model: not by workers, nor for its other prompts.
        is_last = share is None or share.role == "close"
        if is_last and cells and VARIANT not in cells[0].name:
            _time_alone(run, cells[0], serving, stop)


def _time_alone(run: Run, cell: Cell, serving: Serving, stop: StopSignal) -> None:
    """[evals] latency: the first problems of the first benchmark, one at a time, on the engine that
    is open.
    """
    count = run.pipeline.evals.latency
    folder = cell.folder_in(run).path
    if not count or stop.requested or latency.is_measured(folder, count):
        return
    rows = read_records(run.layout.benchmark(cell.benchmark.name).problems, Problem)
    problems = list(islice(rows, count))
    prompt = load_prompt(cell.settings.prompt)
    with ExitStack() as opened:
        with stop.at_once():
            sampler = opened.enter_context(serving.open(cell.settings.teachers[0], problems))
            make_ready(sampler, lambda: stop.requested)
        latency.measure_latency(sampler, problems, prompt, folder, count)


# ---- checkpoints ---------------------------------------------------------------------------------


def _snapshots(run: Run, model: str) -> list[tuple[int, Path]]:
    """Step and folder of the snapshots of a student; none for other models, or when none are asked
    for. Raises StageError as they do.
    """
    count = run.pipeline.evals.checkpoints.count
    trained = {s.name for s in run.pipeline.all_students() if s.method != "base"}
    if not count or model not in trained:
        return []
    snapshots = students.snapshots(run.layout.student(model).path)
    if len(snapshots) < count:
        log.warning(
            "%s: %d snapshots were kept while it was trained, not %d; these are measured",
            model,
            len(snapshots),
            count,
        )
    if len(snapshots) <= count:
        return snapshots
    # Fewer than were kept: evenly spaced ones, the last is the finished student.
    ends = [round(place * len(snapshots) / count) for place in range(1, count + 1)]
    return [snapshots[end - 1] for end in ends]


# ---- together ------------------------------------------------------------------------------------


def collect(run: Run, pool: GradingPool) -> Manifest:
    """Put the tables together from everything that was sampled and graded."""
    measured = eval_models(run)
    training = None
    if run.pipeline.students:
        require_complete(run.stage("problems"))
        training = run.layout.problems
    groups: dict[str, Sequence[str]] = {}
    for name, members in run.pipeline.seed_groups().items():
        if set(members) <= set(measured):
            groups[name] = members
    plan = evals.EvalPlan(
        benchmarks={benchmark.name: samples_of(run, benchmark) for benchmark in benchmarks(run)},
        models=list(measured),
        baselines=baselines(run),
        variants=variants_of(run, measured),
        training=training,
        groups=groups,
        about=[about_model(run, name, model) for name, model in measured.items()],
        reference=next(iter(run.pipeline.against()), None),
        difficulty=run.pipeline.evals.difficulty,
        greedy=greedy_models(run, measured),
        limit=run.pipeline.evals.limit,
    )
    failures_allowed = run.pipeline.evals.failures_allowed
    return evals.collect(run.stage("evals"), plan, pool, failures_allowed=failures_allowed)


def variants_of(run: Run, models: Iterable[str]) -> evals.Variants:
    """What was measured besides each model under its own prompt."""
    checkpoints = run.pipeline.evals.checkpoints
    steps: dict[str, tuple[int, ...]] = {}
    for model in models:
        snapshots = _snapshots(run, model)
        if snapshots:
            steps[model] = tuple(step for step, _ in snapshots)
    asked_on: list[Benchmark] = []
    if checkpoints.count > 0:
        asked_on = step_benchmarks(run)
    return evals.Variants(
        prompts=tuple(load_prompt(prompt).name for prompt in run.pipeline.evals.prompts),
        steps=steps,
        step_benchmarks=tuple(benchmark.name for benchmark in asked_on),
        step_n=checkpoints.n,
    )


def weights_of(served: SampledModel) -> Path:
    """The folder of a model's weights, there or not; of an adapter that of the merged model."""
    folder = named_folder(served.model)
    if not is_adapter_alone(folder):
        return folder
    adapter = adapter_of(served)
    if adapter is None:
        return folder
    return adapter.merged


def about_model(run: Run, name: str, measured: Measured) -> MeasuredModel:
    """Who a model is, and how large, where its weights are on this machine."""
    parameters = size = None
    if measured.served.capabilities.has_weights:
        path = weights_of(measured.served)
        if (path / "config.json").is_file():
            parameters, size = count_parameters(path), weight_bytes(path)
    named = {model.name for model in run.pipeline.evals.models}
    return MeasuredModel(
        name=name,
        is_teacher=name in served_teachers(run) and name not in named,
        base=untouched_base(run, name),
        parameters=parameters,
        size_bytes=size,
    )
