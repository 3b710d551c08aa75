"""What there is to do: the stages that a command names, as tasks in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reasondistill.errors import ConfigError
from reasondistill.nearest import nearest
from reasondistill.pipeline.measured import eval_models
from reasondistill.pipeline.runs import Run, Task, parents_of
from reasondistill.runs.layout import STAGES
from reasondistill.runs.work_sharing import Share


def plan(run: Run, stages: Iterable[str], *, share_engine_process: bool) -> list[Task]:
    """The tasks of these stages in order. With `share_engine_process` one process serves all eval
    models, one after the other.
    """
    wanted = set(stages)
    if not wanted & set(run.stages):
        stranger = sorted(wanted)[0]
        known = ", ".join(run.stages)
        raise ConfigError(
            f"{run.source}: only measures, there is no stage {stranger}. Stages: {known}."
        )
    tasks: list[Task] = []
    for stage in run.stages:
        if stage not in wanted:
            continue
        if stage == "students":
            tasks += student_tasks(run)
        elif stage == "evals":
            tasks += eval_tasks(run, share_engine_process=share_engine_process)
        elif stage in ("traces", "verdicts") or (stage == "examples" and scores_traces(run)):
            tasks += shared(Task(stage), run.cluster.stages.of(stage).shards)
        else:
            tasks.append(Task(stage))
    return tasks


def scores_traces(run: Run) -> bool:
    """Whether a model reads the traces before examples are made of them."""
    return run.pipeline.examples.scored_by is not None


def student_tasks(run: Run) -> Iterator[Task]:
    """One task for each student, after those whose steps it copies or whose weights it takes."""
    for student in run.pipeline.all_students():
        parents = tuple(f"students:{name}" for name in parents_of(run, student))
        yield Task("students", (student.name,), parents)


def eval_tasks(run: Run, *, share_engine_process: bool) -> list[Task]:
    """The sampling of every model that is measured, and one task that puts the tables together;
    one that measures them all does that too, since a process takes seconds to start.
    """
    if not run.pipeline.evals.benchmarks:
        return []
    models = tuple(eval_models(run))
    if not models:
        return []
    shards = run.cluster.stages.of("evals").shards
    groups = [(model,) for model in models]
    if share_engine_process or shards > 1:
        groups = [models]
    tasks: list[Task] = []
    for group in groups:
        tasks += shared(Task("evals", group), shards)
    if any(measures_all(run, task) for task in tasks):
        return tasks
    return [*tasks, Task("evals")]


def measures_all(run: Run, task: Task) -> bool:
    """Whether one task of the evals measures every model, and so puts the tables together too."""
    return task.stage == "evals" and task.share is None and set(task.units) == set(eval_models(run))


def shared(task: Task, workers: int) -> list[Task]:
    """The same done by several workers: one process opens the stage, workers fill it side by side,
    one closes it.
    """
    if workers <= 1:
        return [task]
    shares = [Share("open", of=workers)]
    shares += [Share("work", number, workers) for number in range(workers)]
    shares.append(Share("close", of=workers))
    return [Task(task.stage, task.units, share=share) for share in shares]


def select_stages(only: str | None, first: str | None, last: str | None) -> list[str]:
    """The stage names between `first` and `last`, or just `only`. Raises ConfigError for an unknown
    name or an empty range.
    """
    for name in (only, first, last):
        if name is not None and name not in STAGES:
            raise ConfigError(f"no stage is called {name!r}. {nearest(name, STAGES)}")
    if only is not None:
        return [only]
    begin = STAGES.index(first or STAGES[0])
    end = STAGES.index(last or STAGES[-1])
    if begin > end:
        raise ConfigError(f"--from {first} comes after --until {last}.")
    return list(STAGES[begin : end + 1])
