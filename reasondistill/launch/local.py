"""This machine: every task in a process of its own, one after the other, or side by side as far as
the cluster file allows.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile

from reasondistill.config import ResourceSettings
from reasondistill.errors import Interrupted, ReasonDistillError
from reasondistill.launch.exclusive import only_one
from reasondistill.launch.launcher import JobState, Launcher, Watcher, register
from reasondistill.launch.task_process import TaskProcess, begin, cancel, wait
from reasondistill.pipeline import Task, save_run
from reasondistill.runs.store import StopSignal

_POLL_S = 0.05


@register
class LocalLauncher(Launcher):
    """Tasks are processes of this machine, and the command waits for them."""

    kind = "local"

    def resources(self, stage: str) -> ResourceSettings:
        """All of this machine, for `[train] parallel` students or `max_concurrent` workers."""
        settings = self.run.cluster.stages.of(stage)
        side_by_side = settings.max_concurrent
        if stage == "students":
            side_by_side = self.run.cluster.train.parallel
        here = {"nodes": 1, "cpus": os.cpu_count() or 1, "max_concurrent": side_by_side}
        return settings.model_copy(update=here)

    def shares_engine_process(self) -> bool:
        """Where there is no GPU: nothing has to be freed but RAM, and start-up is paid once."""
        return shutil.which("nvidia-smi") is None

    def start(self, tasks: Sequence[Task], watcher: Watcher) -> list[JobState]:
        """Do all tasks; those that are finished already end at once.

        Raises the first task's error after the others have been stopped, and Interrupted after
        SIGINT or SIGTERM.
        """
        pending = list(tasks)
        running: list[TaskProcess] = []
        failed: list[ReasonDistillError] = []
        is_stopping = False
        with only_one(self.run.folder), StopSignal() as stop:
            save_run(self.run)
            while running or (pending and not is_stopping):
                if not failed and not stop.requested:
                    for task in self.startable(pending, running):
                        pending.remove(task)
                        place = _free_place(running)
                        running.append(begin(self.run, task, watcher.line, place))
                ended = [process for process in running if process.process.poll() is not None]
                for process in ended:
                    running.remove(process)
                    try:
                        wait(process)
                        with suppress(BrokenPipeError):
                            watcher.done(process.task, time.monotonic() - process.started)
                    except ReasonDistillError as error:
                        failed.append(error)
                if (failed or stop.requested) and not is_stopping:
                    is_stopping = True
                    for process in running:
                        cancel(process)
                time.sleep(_POLL_S)
            raise_first(failed, stop)
        return []

    def startable(self, pending: Sequence[Task], running: Sequence[TaskProcess]) -> list[Task]:
        """The tasks that may start now: stages one after the other, workers of a stage and students
        (after their parents) beside each other.
        """
        if not pending:
            return []
        first = pending[0]
        if running and not (first.is_parallel and running[0].task.is_parallel):
            return []
        if not first.is_parallel:
            return [first]
        stage = first.stage
        if running:
            stage = running[0].task.stage
        unfinished = {task.name for task in pending} | {process.task.name for process in running}
        beside = takewhile(lambda task: task.is_parallel and task.stage == stage, pending)
        ready = [task for task in beside if not unfinished & set(task.after)]
        most = self.resources(stage).max_concurrent
        if most is None:
            return ready
        return ready[: max(0, most - len(running))]


def _free_place(running: Sequence[TaskProcess]) -> int:
    """The lowest number that none of these has."""
    taken = {process.place for process in running}
    place = 0
    while place in taken:
        place += 1
    return place


def raise_first(failed: Sequence[ReasonDistillError], stop: StopSignal) -> None:
    """Raise the error that began it: a task that crashed, else the request to stop."""
    for error in failed:
        if not isinstance(error, Interrupted):
            raise error
    stop.check()  # which signal came to us, not how it went on to the tasks
    if failed:
        raise failed[0]
