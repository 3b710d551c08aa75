"""From tasks to what a scheduler is asked for: jobs that do some tasks in order, and arrays whose
elements run side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
        first, last = self.tasks[0], self.tasks[-1]
        name = f"{self.number:02d}-{first.stage}"
        if first.share is not None and first.share.role != "work":
            name += f"-{first.share.role}"
        if last.stage != first.stage:
            name += f"-to-{last.stage}"
        return name

    @property
    def stage(self) -> str:
        return self.tasks[0].stage


def steps_of(run: Run, tasks: Sequence[Task]) -> list[Step]:
    """The jobs of these tasks, each to be started when the one before it has ended well.

    Workers of a stage, the models of the evals and students of one generation become arrays. Other
    tasks that follow each other and want the same resources share a job.
    """
    steps: list[Step] = []
    for number, group in enumerate(_groups(run, tasks), start=1):
        first = group[0]
        resources, environment = _resources(run, first), _environment(run, first)
        steps.append(Step(number, group, resources, environment, spreads(first)))
    return steps


def _groups(run: Run, tasks: Sequence[Task]) -> Iterator[tuple[Task, ...]]:
    """Tasks that one job does, in order."""
    generations = _generations(tasks)

    def likeness(task: Task) -> tuple[object, ...]:
        if spreads(task):
            return task.stage, generations.get(task.name, 0)
        return _resources(run, task), _environment(run, task)

    for _, group in groupby(_by_generation(tasks, generations), likeness):
        yield tuple(group)


def _by_generation(tasks: Sequence[Task], generations: Mapping[str, int]) -> list[Task]:
    """Tasks stay in order, but students stand generation by generation, where the first one was."""
    students = [task for task in tasks if task.stage == "students"]
    students.sort(key=lambda student: generations[student.name])
    ordered: list[Task] = []
    for task in tasks:
        if task.stage != "students":
            ordered.append(task)
        elif students:
            ordered += students
            students = []
    return ordered


def spreads(task: Task) -> bool:
    """Whether others of its kind run beside it on a cluster."""
    is_model = task.stage == "evals" and bool(task.units) and task.share is None
    return task.is_parallel or is_model


def _resources(run: Run, task: Task) -> ResourceSettings:
    """What a task gets. Opening and closing a stage is a matter of files: no GPU, unless an engine
    is asked at the end.
    """
    stages = run.cluster.stages
    if task.stage == "evals" and not task.units:  # puts tables together
        return stages.default
    if task.share is None or task.share.role == "work":
        return stages.of(task.stage)
    if task.share.role == "close" and asks_an_engine(run, task):
        return stages.of(task.stage)
    return stages.default


def _environment(run: Run, task: Task) -> EnvironmentSettings:
    if _resources(run, task) == run.cluster.stages.default:
        return run.cluster.environment("default")
    return run.cluster.environment(task.stage)


def asks_an_engine(run: Run, task: Task) -> bool:
    """Whether closing a stage wants an engine: for log-probabilities of traces that stand already,
    samples that a budget still pays for, the time of a single answer, a judge.
    """
    traces, evals = run.pipeline.traces, run.pipeline.evals
    if task.stage == "traces":
        wants = traces is not None and (traces.logprobs or traces.budget_tokens)
        return bool(wants)
    has_judge = run.pipeline.verdicts.judge is not None
    return has_judge or (task.stage == "evals" and evals.latency > 0)


def _generations(tasks: Iterable[Task]) -> dict[str, int]:
    """Name of a student's task → how many others come before it, one after the other."""
    generations: dict[str, int] = {}
    for task in tasks:
        if task.stage == "students":
            before = [generations.get(name, 0) for name in task.after]
            generations[task.name] = 1 + max(before, default=0)
    return generations
