"""What every launcher can do, and which one a cluster file names.

    launcher = launcher_of(run)                     # by `kind` of the cluster file
    jobs = launcher.start(tasks, watcher)           # empty when all is done on return
    launcher.follow(watcher)                        # until the jobs are over
    launcher.states(), launcher.unfinished(), launcher.cancel(jobs)

A launcher is one class in one module of this package: `@register` makes it known under its `kind`.
`local.py` does the tasks in processes of this machine, `slurm.py` sends jobs, `ray.py` does the
tasks on Ray, `ray_jobs.py` hands the whole run in to a Ray cluster far away.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol, TypeVar

from reasondistill.config import ResourceSettings
from reasondistill.errors import ConfigError, MissingDependencyError, StageError
from reasondistill.nearest import nearest
from reasondistill.pipeline import Run, Task
from reasondistill.sections import S, check_section

log = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class JobState:
    """A job that was sent, and what has become of it.

    `counts`: how many of its elements are in each state; a job that is no array has one element.
    `stage` is None where a job does several stages. `reason` is the scheduler's word for why it
    waits, `errors` one message for each element that failed, `place` where it runs when that is not
    obvious.
    """

    name: str
    job_id: str
    counts: Mapping[State, int]
    stage: str | None = None
    is_array: bool = False
    reason: str = ""
    errors: tuple[str, ...] = ()
    place: str = ""

    @property
    def state(self) -> State:
        """One word for all elements: the worst that has happened, else what still goes on."""
        for state in ("failed", "cancelled", "running", "waiting"):
            if self.counts.get(state):
                return state
        return "done"

    @property
    def is_over(self) -> bool:
        return not (self.counts.get("waiting") or self.counts.get("running"))


class Watcher(Protocol):
    """Who is told how a run goes on: the terminal, or a test."""

    def line(self, task: Task, text: str) -> None:
        """A task has printed a line that is meant for people."""
        ...

    def done(self, task: Task, seconds: float) -> None:
        """A task has ended well, so many seconds after it began."""
        ...

    def changed(self, state: JobState) -> None:
        """A job that is followed has another state than before."""
        ...

    def printed(self, text: str) -> None:
        """A job that is followed and does a whole run has printed a line."""
        ...


class Launcher(ABC):
    """Where the tasks of one run are done. Only `start` has to be written.

    What stands here fits a launcher whose work ends with the command that began it: there are no
    jobs to look at. One whose jobs go on by themselves sets `is_detached` and writes `states`,
    `follow` and `cancel` too.
    """

    # The word in the cluster file.
    kind: ClassVar[str]
    # The work goes on when the command that began it has ended.
    is_detached: ClassVar[bool] = False
    # What is printed while it is followed ends with the scores of the run.
    prints_result: ClassVar[bool] = False

    def __init__(self, run: Run) -> None:
        self.run = run

    @classmethod
    def takes(cls, run: Run) -> bool:
        """Whether this one of several launchers with the same `kind` is meant."""
        return True

    def check(self, stages: Sequence[str]) -> None:
        """Raise ConfigError for what the cluster file asks for these stages and cannot be had."""
        return

    def resources(self, stage: str) -> ResourceSettings:
        """What a task of this stage gets, and how many such tasks run side by side."""
        return self.run.cluster.stages.of(stage)

    def shares_engine_process(self) -> bool:
        """Whether one process measures all models of the evals, one after the other."""
        return False

    def preview(self, tasks: Sequence[Task]) -> list[Path]:
        """Files that show what would be sent, written for `--dry-run`."""
        return []

    @abstractmethod
    def start(self, tasks: Sequence[Task], watcher: Watcher) -> list[JobState]:
        """Do the tasks, or send the jobs that do them and return these.

        The tasks stand in an order in which they may be done one by one; those that are finished
        already do nothing and may be left out (`pipeline.remaining`). Raises the first error of a
        task, Interrupted when it was asked to stop.
        """

    def states(self) -> list[JobState]:
        """The jobs that were sent last, in order; empty when nothing was sent.

        Raises StageError when the scheduler does not answer.
        """
        return []

    def follow(self, watcher: Watcher) -> None:
        """Tell the watcher every change until all jobs are over.

        Raises StageError when one failed.
        """
        return

    def cancel(self, jobs: Sequence[JobState]) -> list[str]:
        """Stop those of these jobs, as `states` told them, that are not over; return their ids.
        What was finished is on disk.
        """
        return []

    def unfinished(self) -> list[JobState]:
        """The jobs of this run that are not over yet: while there are any it is not started again.
        Raises StageError as `states` does.

        Of two commands on one machine the second is refused by the folder's lock (`only_one`).
        """
        return [state for state in self.states() if not state.is_over]

    def settings(self, section: type[S]) -> S:
        """The cluster file's table `[launcher]` as this section. Raises ConfigError.

        For a launcher that has no table of its own in `config.Cluster`.
        """
        return check_section(Path("cluster file [launcher]"), section, self.run.cluster.launcher)


# ---- which one -----------------------------------------------------------------------------------

_launchers: list[type[Launcher]] = []
AnyLauncher = TypeVar("AnyLauncher", bound=type[Launcher])


def register(launcher: AnyLauncher) -> AnyLauncher:
    """Make a launcher known under its `kind`."""
    _launchers.append(launcher)
    return launcher


def known_launchers() -> list[type[Launcher]]:
    """Every launcher: those of this package, and those that were registered beside them."""
    folders = importlib.import_module("reasondistill.launch").__path__
    for module in pkgutil.iter_modules(folders):
        importlib.import_module(f"reasondistill.launch.{module.name}")
    return list(_launchers)


def launcher_of(run: Run) -> Launcher:
    """The launcher that the run's cluster file names. Raises ConfigError for an unknown `kind`."""
    kind = run.cluster.kind
    launchers = known_launchers()
    for launcher in launchers:
        if launcher.kind == kind and launcher.takes(run):
            return launcher(run)
    kinds = list(dict.fromkeys(launcher.kind for launcher in launchers))
    advice = nearest(kind, kinds)
    raise ConfigError(f"cluster file kind = {kind!r}: there is no such launcher. {advice}")


def _every_launcher(run: Run) -> list[Launcher]:
    """The run's own launcher first, then the others: jobs may have been sent by another one."""
    current = launcher_of(run)
    others = [launcher(run) for launcher in known_launchers() if launcher is not type(current)]
    return [current, *others]


@dataclass(frozen=True)
class SentJobs:
    """The jobs of a run that were sent last, as their launcher told them just now."""

    launcher: Launcher
    states: Sequence[JobState]


def sent_jobs(run: Run) -> SentJobs | None:
    """The jobs of this run, of the launcher that has sent any; None when nothing was sent.

    Each launcher is asked once. The run's own is asked first and must answer. Of the others, one
    that cannot be asked from here (its cluster is gone, its package is not installed) is passed
    over with a warning.
    """
    current, *others = _every_launcher(run)
    states = current.states()
    if states:
        return SentJobs(current, states)
    for launcher in others:
        try:
            states = launcher.states()
        except (StageError, MissingDependencyError) as error:
            log.warning("%s: %s cannot be asked (%s)", run.folder, launcher.kind, error)
            continue
        if states:
            return SentJobs(launcher, states)
    return None


def refuse_if_busy(run: Run) -> None:
    """Raise StageError while jobs of this run are not over, whichever launcher has sent them: two
    at once would share the run's files.

    Where a scheduler cannot be asked from here, a warning says so.
    """
    for launcher in _every_launcher(run):
        try:
            unfinished = launcher.unfinished()
        except StageError as error:
            log.warning(
                "%s: jobs were sent to %s, which cannot be asked whether they still run (%s)",
                run.folder,
                launcher.kind,
                error,
            )
            continue
        if unfinished:
            raise StageError(_busy_message(run, unfinished))


def _busy_message(run: Run, states: Sequence[JobState]) -> str:
    name = shlex.quote(run.folder.name)
    ways_out = f"`reasondistill status {name}` shows more, `reasondistill cancel {name}` stops it."
    if len(states) == 1:
        job = states[0]
        return f"{run.folder}: its job {job.job_id} is {job.state}. {ways_out}"
    ids = ", ".join(state.job_id for state in states)
    return f"{run.folder}: its jobs {ids} are still in the queue. {ways_out}"
