"""Run tasks on Ray: every task is a Ray task that asks for the CPUs and GPUs of its stage, in a
process and an environment of its own.

    run_tasks(run, tasks, on_line, on_done)      on the cluster of [ray] address, or on one that is started here for the time of the run

Ray does what it is good at: it places tasks where there is room, waits for nodes that the
autoscaler brings, and starts the tasks of a lost node or process again. Workers of a stage claim
their chunks (crew.py), so it does not matter how many of them run, when they come, or whether one
is started twice. Files go through the shared run folder, or the URL of `storage`; nothing through
Ray's object store.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasondistill.config import EnvironmentSettings
from reasondistill.errors import (
    ConfigError,
    Interrupted,
    MissingDependencyError,
    ReasonDistillError,
    StageError,
)
from reasondistill.launch import ray_jobs
from reasondistill.launch.local import (
    ERROR_FILE,
    KEEP_MARKS,
    MARK,
    STOPPED,
    arguments,
    die_with_parent,
    log_of,
    only_one,
    reported_error,
)
from reasondistill.launch.scripts import python_of, setting
from reasondistill.launch.steps import Step, steps_of
from reasondistill.pipeline import Run, Task, save_run
from reasondistill.runs.remote import exchange
from reasondistill.runs.store import StopSignal

OnLine = Callable[[Task, str], None]
FOLDER = "ray"
_POLL_S = 0.5
_UNITS = {
    "": 20,
    "K": 10,
    "M": 20,
    "G": 30,
    "T": 40,
}  # Slurm's memory is in MiB where no unit is given


class WorkerDied(Exception):
    """A task's process ended with something else than a user's error: Ray starts it again."""


@dataclass
class _Running:
    """A task that Ray has, and how far its log was read."""

    task: Task
    reference: Any
    log: Path
    read: int
    began: float


def run_tasks(
    run: Run, tasks: Sequence[Task], on_line: OnLine, on_done: Callable[[Task, float], None]
) -> None:
    """Run tasks step by step, those of an array side by side as far as there is room.

    Raises the first task's error after the others of its step have ended, Interrupted after SIGINT
    or SIGTERM, ConfigError for what Ray cannot do, MissingDependencyError.
    """
    steps = steps_of(run, tasks)
    for step in steps:
        if step.resources.nodes > 1:
            raise ConfigError(
                f"[stages.{step.stage}] nodes = {step.resources.nodes}: on Ray a task has "
                "one node. Use kind = 'slurm'."
            )
    with only_one(run.folder), StopSignal() as stop, _connected(run) as ray:
        save_run(run)
        exchange(run.folder, must=True)
        for step in steps:
            _run_step(ray, run, step, on_line, on_done, stop)
            stop.check()


@contextmanager
def _connected(run: Run) -> Generator[Any]:
    """Ray, connected to the cluster that the file names, or to one that lives as long as this run."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # a task without GPUs keeps the variables that it came with
    # Inside a job that was handed in, Ray says itself where it is.
    address = None if ray_jobs.is_far(run) else run.cluster.ray.address
    address = address or os.environ.get("RAY_ADDRESS")
    if not address and "RAY_AUTH_TOKEN" not in os.environ:
        # Else Ray would put a token into the home folder, readable for all.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("ray", "ray") from error
    options: dict[str, Any] = {
        "logging_level": "ERROR",
        "log_to_driver": False,
        "namespace": "reasondistill",
    }
    try:
        options |= {"address": address} if address else {"include_dashboard": False}
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise StageError(
            f"[ray] address = {address!r}: cannot connect: {str(error).splitlines()[0]}"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _run_step(
    ray: Any,
    run: Run,
    step: Step,
    on_line: OnLine,
    on_done: Callable[[Task, float], None],
    stop: StopSignal,
) -> None:
    """Send the tasks of a step and wait for all of them; one that fails does not stop the others."""
    pending, running, failed = list(step.tasks), list[_Running](), list[ReasonDistillError]()
    most = (step.resources.max_concurrent or len(pending)) if step.is_array else 1
    asked = False
    while running or (pending and not asked and not (failed and not step.is_array)):
        while pending and not asked and len(running) < most and not (failed and not step.is_array):
            running.append(_send(ray, run, step, pending.pop(0)))
        done = _ended(ray, running)
        for one in running:
            _tell(one, on_line)
        if done:
            exchange(run.folder)
        for one in done:
            running.remove(one)
            try:
                _result(ray, one)
                on_done(one.task, time.monotonic() - one.began)
            except ReasonDistillError as error:
                failed.append(error)
        if stop.requested and not asked:
            asked = True
            for one in running:
                ray.cancel(one.reference, force=False)
    exchange(run.folder, must=True)
    crashed = [error for error in failed if not isinstance(error, Interrupted)]
    if crashed:
        raise crashed[0]
    stop.check()  # which signal came to us, not how it went on to the tasks
    if failed:
        raise failed[0]


def _send(ray: Any, run: Run, step: Step, task: Task) -> _Running:
    resources, restarts = step.resources, run.cluster.ray.restarts
    wanted: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
    if resources.memory is not None:
        number, unit = resources.memory.rstrip("KMGT"), resources.memory.lstrip("0123456789")
        wanted["memory"] = int(number) << _UNITS[unit]
    log = log_of(run, task)
    log.parent.mkdir(parents=True, exist_ok=True)
    marks = run.folder.resolve() / FOLDER
    marks.mkdir(exist_ok=True)
    error = marks / f"{log.stem}.error"
    error.unlink(missing_ok=True)
    remote = ray.remote(max_retries=restarts, retry_exceptions=[WorkerDied], **wanted)(_do)
    command = _command(run, step.environment, task)
    reference = remote.remote(command, str(Path.cwd()), str(log.resolve()), str(error))
    return _Running(
        task, reference, log, log.stat().st_size if log.exists() else 0, time.monotonic()
    )


def _command(run: Run, environment: EnvironmentSettings, task: Task) -> str:
    """One shell line: the environment's own lines, then the task in the place of the shell."""
    python = python_of(environment)
    words = [python, "-m", "reasondistill", *arguments(run, task, resolved=True)]
    return "\n".join(
        [*setting(environment), f"exec {environment.container or ''} {shlex.join(words)}"]
    )


def _do(command: str, folder: str, log: str, error: str) -> tuple[int, str | None]:
    """On a node: run a task's process to its end; return its exit code and the error that it
    reported.

    Raises WorkerDied when it crashed; 2 is an end that it chose, and so are 130 and 143 when it
    says that it was stopped.
    """
    environment = os.environ | {ERROR_FILE: error, KEEP_MARKS: "1", "PYTHONUNBUFFERED": "1"}
    Path(log).parent.mkdir(
        parents=True, exist_ok=True
    )  # another machine, perhaps, that has no folder in common with the driver
    Path(error).parent.mkdir(parents=True, exist_ok=True)
    Path(error).unlink(missing_ok=True)  # of an earlier try
    with open(log, "ab") as output:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder if Path(folder).is_dir() else None,
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
    said = Path(error).read_text(encoding="utf-8") if Path(error).exists() else None
    is_chosen = code in (0, 2) or (code in STOPPED and said is not None)
    if not is_chosen:
        raise WorkerDied(f"exit code {code}" + (f": {json.loads(said)['message']}" if said else ""))
    return code, said


def _ended(ray: Any, running: Sequence[_Running]) -> list[_Running]:
    if not running:
        return []
    ready, _ = ray.wait(
        [one.reference for one in running], num_returns=len(running), timeout=_POLL_S
    )
    return [one for one in running if one.reference in ready]


def _result(ray: Any, one: _Running) -> None:
    """Nothing when a task did its work; else its own error, or StageError naming the log."""
    try:
        code, error = ray.get(one.reference)
    except ray.exceptions.TaskCancelledError:
        code, error = STOPPED[0], None
    except ray.exceptions.RayError as lost:
        raise StageError(
            f"{one.task.name} was lost: {str(lost).splitlines()[-1]}. Log: {one.log}. The "
            "same command goes on."
        ) from lost
    if code == 0:
        return
    if code in STOPPED:
        raise Interrupted(
            "Stopped on request; everything finished so far is saved. Run the same command "
            "to go on."
        )
    if error is None:
        raise StageError(
            f"{one.task.name} ended with exit code {code}. Log: {one.log}. The same command "
            "goes on."
        )
    raise reported_error(error, f"{one.task.name}: ")


def _tell(one: _Running, on_line: OnLine) -> None:
    """Hand on what a task has written for people since we last looked."""
    if not one.log.exists():
        return
    with open(one.log, "rb") as file:
        file.seek(one.read)
        added = file.read()
    whole = added[: added.rfind(b"\n") + 1]
    one.read += len(whole)
    for line in whole.decode("utf-8", "replace").split(
        "\n"
    ):  # the mark itself would be taken for the end of a line
        if MARK in line:
            on_line(one.task, line.partition(MARK)[2])
