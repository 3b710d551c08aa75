"""From tasks to what a scheduler is asked for: jobs that do some tasks in order, and arrays whose
elements run side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from reasondistill.config import EnvironmentSettings, ResourceSettings
from reasondistill.pipeline import Run, Task


@dataclass(frozen=True)
class Step:
    """One job, which waits for the one before. With `is_array` each task is an element of its own,
    else they are done in order.
    """

    number: int
    tasks: tuple[Task, ...]
    resources: ResourceSettings
    environment: EnvironmentSettings
    is_array: bool

    @property
    def name(self) -> str:
        """`02-traces`, `03-traces-close`: as files and jobs are called."""
        first = self.tasks[0]
        role = (
            f"-{first.share.role}" if first.share is not None and first.share.role != "work" else ""
        )
        last = f"-to-{self.tasks[-1].stage}" if self.tasks[-1].stage != first.stage else ""
        return f"{self.number:02d}-{first.stage}{role}{last}"

    @property
    def stage(self) -> str:
        return self.tasks[0].stage


def steps_of(run: Run, tasks: Sequence[Task]) -> list[Step]:
    """The jobs of these tasks, each to be started when the one before it has ended well.

    Workers of a stage, the models of the evals and students of one generation become arrays. Other
    tasks that follow each other and want the same resources share a job.
    """
    return [
        Step(
            number,
            group,
            _resources(run, group[0]),
            _environment(run, group[0]),
            _spreads(group[0]),
        )
        for number, group in enumerate(_groups(run, tasks), start=1)
    ]


def _groups(run: Run, tasks: Sequence[Task]) -> Iterator[tuple[Task, ...]]:
    """Tasks that one job does, in order."""
    generations = _generations(tasks)

    def likeness(task: Task) -> tuple[object, ...]:
        if _spreads(task):
            return task.stage, generations.get(task.name, 0)
        return _resources(run, task), _environment(run, task)

    ordered = sorted(enumerate(tasks), key=lambda item: _place(item, tasks, generations))
    for _, group in groupby((task for _, task in ordered), likeness):
        yield tuple(group)


def _spreads(task: Task) -> bool:
    """Whether others of its kind run beside it on a cluster."""
    return task.is_parallel or (task.stage == "evals" and bool(task.units) and task.share is None)


def _resources(run: Run, task: Task) -> ResourceSettings:
    """What a task gets. Opening and closing a stage is a matter of files: no GPU, unless an engine
    is asked at the end.
    """
    if task.stage == "evals" and not task.units:  # puts tables together
        return run.cluster.stages.default
    if (
        task.share is None
        or task.share.role == "work"
        or (task.share.role == "close" and _asks_an_engine(run, task))
    ):
        return run.cluster.stages.of(task.stage)
    return run.cluster.stages.default


def _environment(run: Run, task: Task) -> EnvironmentSettings:
    return run.cluster.environment(
        task.stage if _resources(run, task) != run.cluster.stages.default else "default"
    )


def _asks_an_engine(run: Run, task: Task) -> bool:
    """Log-probabilities of traces that stand already, the time of a single answer, a judge."""
    traces, evals = run.pipeline.traces, run.pipeline.evals
    if task.stage == "traces":
        return traces is not None and traces.logprobs is not None
    return run.pipeline.verdicts.judge is not None or (task.stage == "evals" and evals.latency > 0)


def _generations(tasks: Iterable[Task]) -> dict[str, int]:
    """Name of a student's task → how many others come before it, one after the other."""
    found: dict[str, int] = {}
    for task in tasks:
        if task.stage == "students":
            found[task.name] = 1 + max((found.get(name, 0) for name in task.after), default=0)
    return found


def _place(
    item: tuple[int, Task], tasks: Sequence[Task], generations: dict[str, int]
) -> tuple[int, int, int]:
    """Tasks stay in order, but students stand generation by generation."""
    place, task = item
    if task.stage != "students":
        return place, 0, 0
    return (
        next(number for number, other in enumerate(tasks) if other.stage == "students"),
        generations[task.name],
        place,
    )
