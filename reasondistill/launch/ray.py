"""Ray here: every task is a Ray task that asks for the CPUs and GPUs of its stage, in a process and
an environment of its own.

The cluster is that of `[ray] address`, or one that is started here for the time of the run. Ray
does what it is good at: it places tasks where there is room, waits for nodes that the autoscaler
brings, and starts the tasks of a lost node or process again. Workers of a stage claim their chunks
(runs/work_sharing.py), so it does not matter how many of them run, when they come, or whether one
is started twice. Files go through the shared run folder, or the URL of `storage`; nothing through
Ray's object store.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasondistill.bounds import TASK_LINE_BYTES
from reasondistill.config import ResourceSettings
from reasondistill.errors import (
    ConfigError,
    Interrupted,
    MissingDependencyError,
    ReasonDistillError,
    StageError,
)
from reasondistill.foreign_files import regular
from reasondistill.launch import ray_jobs
from reasondistill.launch.exclusive import only_one
from reasondistill.launch.launcher import JobState, Launcher, Watcher, register
from reasondistill.launch.local import raise_first
from reasondistill.launch.reporting import (
    CHANNEL,
    ERROR_FILE,
    STOPPED,
    STOPPED_ON_REQUEST,
    arguments,
    log_of,
    new_word,
    parsed,
    reported_error,
    url_of,
)
from reasondistill.launch.scripts import command_lines
from reasondistill.launch.steps import Step, steps_of
from reasondistill.launch.task_process import die_with_parent
from reasondistill.pipeline import Run, Task, remaining, save_run
from reasondistill.runs.layout import RAY as FOLDER
from reasondistill.runs.remote import exchange
from reasondistill.runs.seals import handed_on
from reasondistill.runs.store import StopSignal, open_to_write, require_no_links
from reasondistill.secrets import look_again

_POLL_S = 0.5
# Read when Ray is imported.
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# Powers of two. Slurm's memory is in MiB where no unit is given.
_UNITS = {"": 20, "K": 10, "M": 20, "G": 30, "T": 40}


class WorkerDied(Exception):
    """A task's process ended with something else than a user's error: Ray starts it again."""


@dataclass
class RayTask:
    """A task that Ray has, how far its log was read, and the word that begins its messages."""

    task: Task
    reference: Any
    log: Path
    read: int
    began: float
    word: str


@register
class RayLauncher(Launcher):
    """Tasks are placed by Ray, and the command waits for them."""

    kind = "ray"

    @classmethod
    def takes(cls, run: Run) -> bool:
        """Any Ray but one that is spoken to through its dashboard."""
        return not ray_jobs.RayJobLauncher.takes(run)

    def check(self, stages: Sequence[str]) -> None:
        for stage in self.run.stages:
            # What the file does not have is not done, whatever the cluster file says of it.
            if stage not in stages:
                continue
            nodes = self.resources(stage).nodes
            if nodes > 1:
                raise ConfigError(
                    f"[stages.{stage}] nodes = {nodes}: on Ray a task has one node. "
                    "Use kind = 'slurm'."
                )

    def start(self, tasks: Sequence[Task], watcher: Watcher) -> list[JobState]:
        """Do the tasks step by step, those of an array side by side as far as there is room.

        Raises the first task's error after the others of its step have ended, Interrupted after
        SIGINT or SIGTERM, MissingDependencyError.
        """
        run = self.run
        steps = steps_of(run, remaining(run, tasks))
        with only_one(run.folder), StopSignal() as stop, connected(run) as ray:
            save_run(run)
            exchange(run.folder, must=True)
            for step in steps:
                _do_step(ray, run, step, watcher, stop)
                stop.check()
        return []


@contextmanager
def connected(run: Run) -> Generator[Any]:
    """Ray, connected to the cluster that the file names, or to one that lives as long as this run.

    Raises StageError when the cluster does not answer, MissingDependencyError.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A task without GPUs keeps the variables that it came with.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = run.cluster.ray.address
    if ray_jobs.has_dashboard(run):
        # Inside a job that was handed in, Ray says itself where it is.
        address = None
    address = address or os.environ.get("RAY_ADDRESS")
    if not address and "RAY_AUTH_TOKEN" not in os.environ:
        # Else Ray would put a token into the home folder, readable for all.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        look_again()
    if not address:
        # A Ray of our own is for this machine. So told, it listens on loopback alone, as it does by
        # itself on macOS and Windows; it takes no 127.0.0.1 for the address of its node.
        os.environ[_CLUSTERS] = "0"
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("ray", "ray") from error
    options: dict[str, Any] = {
        "logging_level": "ERROR",
        "log_to_driver": False,
        "namespace": "reasondistill",
    }
    if address:
        options["address"] = address
    else:
        options["include_dashboard"] = False
    try:
        # Ray puts the folder in which it is joined on the path of its workers, before all modules.
        with chdir("/"):
            ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise StageError(f"[ray] address = {address!r}: cannot connect: {reason}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _do_step(ray: Any, run: Run, step: Step, watcher: Watcher, stop: StopSignal) -> None:
    """Send the tasks of a step and wait for all of them.

    In an array one that fails does not stop the others; elsewhere nothing follows it.
    """
    pending = list(step.tasks)
    running: list[RayTask] = []
    failed: list[ReasonDistillError] = []
    side_by_side = 1
    if step.is_array:
        side_by_side = step.resources.max_concurrent or len(pending)
    is_stopping = False
    while running or pending:
        if is_stopping or (failed and not step.is_array):
            pending.clear()
        while pending and len(running) < side_by_side:
            running.append(send(ray, run, step, pending.pop(0)))
        ended = _ended(ray, running)
        for sent in running:
            hand_on_lines(sent, watcher)
        if ended:
            exchange(run.folder)
        for sent in ended:
            running.remove(sent)
            try:
                _raise_failure(ray, sent)
                watcher.done(sent.task, time.monotonic() - sent.began)
            except ReasonDistillError as error:
                failed.append(error)
        if stop.requested and not is_stopping:
            is_stopping = True
            for sent in running:
                ray.cancel(sent.reference, force=False)
    exchange(run.folder, must=True)
    raise_first(failed, stop)


def send(ray: Any, run: Run, step: Step, task: Task) -> RayTask:
    """Give Ray a task with what it asks for."""
    log = log_of(run, task)
    require_no_links(log.parent)
    log.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    if log.exists():
        size = log.stat().st_size
    marks = run.folder.resolve() / FOLDER
    require_no_links(marks)
    marks.mkdir(exist_ok=True)
    error = marks / f"{log.stem}.error"
    error.unlink(missing_ok=True)
    remote = ray.remote(
        max_retries=run.cluster.ray.restarts,
        retry_exceptions=[WorkerDied],
        **ray_resources(step.resources),
    )(do_task)
    # Nodes may have no folder in common: then the run lives at a URL.
    folder = url_of(run) or str(run.folder.resolve())
    command = "\n".join(command_lines(step.environment, arguments(task, folder)))
    word = new_word()
    places = (str(Path.cwd()), str(log.resolve()), str(error))
    reference = remote.remote(command, *places, word, handed_on())
    return RayTask(task, reference, log, size, time.monotonic(), word)


def ray_resources(resources: ResourceSettings) -> dict[str, int]:
    """What Ray is asked for, in its own words; memory in bytes."""
    wanted = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
    if resources.memory is not None:
        number = resources.memory.rstrip("KMGT")
        unit = resources.memory.lstrip("0123456789")
        wanted["memory"] = int(number) << _UNITS[unit]
    return wanted


def do_task(
    command: str, folder: str, log: str, error: str, word: str, told: Mapping[str, str]
) -> tuple[int, str | None]:
    """On a node: run a task's process to its end; return its exit code and the error that it
    reported. `word` begins its messages in the log; `told` are variables that it is given.

    Raises WorkerDied when it crashed; 2 is an end that it chose, and so are 130 and 143 when it
    says that it was stopped.
    """
    environment = os.environ | {ERROR_FILE: error, CHANNEL: word, "PYTHONUNBUFFERED": "1", **told}
    # Another machine, perhaps, that has no folder in common with the driver.
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    report = Path(error)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)  # of an earlier try
    place = None
    if Path(folder).is_dir():
        place = folder
    with open_to_write(Path(log), "ab") as output:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:  # how ray.cancel speaks to a task
            process.send_signal(signal.SIGTERM)
            code = process.wait()
    text = None
    if report.exists():
        text = report.read_text(encoding="utf-8")
    is_chosen = code in (0, 2) or (code in STOPPED and text is not None)
    if is_chosen:
        return code, text
    cause = f"exit code {code}"
    if text:
        message = json.loads(text)["message"]
        cause = f"{cause}: {message}"
    raise WorkerDied(cause)


def _ended(ray: Any, running: Sequence[RayTask]) -> list[RayTask]:
    """Those that have ended, after at most half a second."""
    if not running:
        return []
    references = [sent.reference for sent in running]
    ready, _ = ray.wait(references, num_returns=len(references), timeout=_POLL_S)
    return [sent for sent in running if sent.reference in ready]


def _raise_failure(ray: Any, sent: RayTask) -> None:
    """Nothing when a task did its work; else its own error, or StageError naming the log."""
    name = sent.task.name
    try:
        code, error = ray.get(sent.reference)
    except ray.exceptions.TaskCancelledError:
        code, error = STOPPED[0], None
    except ray.exceptions.RayError as lost:
        reason = str(lost).splitlines()[-1]
        raise StageError(
            f"{name} was lost: {reason}. Log: {sent.log}. The same command goes on."
        ) from lost
    if code == 0:
        return
    if code in STOPPED:
        raise Interrupted(STOPPED_ON_REQUEST)
    if error is None:
        raise StageError(
            f"{name} ended with exit code {code}. Log: {sent.log}. The same command goes on."
        )
    raise reported_error(json.loads(error), f"{name}: ")


def hand_on_lines(sent: RayTask, watcher: Watcher) -> None:
    """Tell the watcher what a task has written for people since we last looked."""
    if not sent.log.exists():
        return
    with open(sent.log, "rb", opener=regular) as file:
        file.seek(sent.read)
        while added := file.read(TASK_LINE_BYTES.most):
            whole = added[: added.rfind(b"\n") + 1]
            if len(added) == TASK_LINE_BYTES.most:
                whole = whole or added  # a longer line comes in parts
            if not whole:
                return
            sent.read += len(whole)
            file.seek(sent.read)
            for line in whole.decode("utf-8", "replace").split("\n"):
                said = parsed(line, sent.word)
                if said.is_for_people:
                    watcher.line(sent.task, said.text)
