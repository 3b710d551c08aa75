"""Run tasks on this machine, each in a process of its own, so that GPU memory is free between
stages.

A task process writes everything to `<run>/logs/<task>.log`; the lines that are meant for people
carry a mark and are handed on. When this process dies, its task processes die with it, so a run
folder never has two writers.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import IO

from reasondistill import errors
from reasondistill.errors import ConfigError, Interrupted, ReasonDistillError, StageError
from reasondistill.launch.training import environment, is_shared, training_command
from reasondistill.pipeline import Run, Task, save_run
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import StopSignal, disk_errors, remove_all_leftovers

MARK = "\x1e"  # begins a line that is meant for people; what libraries print has none
ERROR_WORD = "error "  # begins a marked line that is an error as JSON
ERROR_FILE = (
    "REASONDISTILL_ERROR"  # a file that takes the error instead, where nobody reads the lines
)
KEEP_MARKS = "REASONDISTILL_MARKS"  # lines for people are marked all the same
# How a process ends that SIGINT or SIGTERM has stopped: by itself.
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
# What a crash may mean.
_HINTS: dict[int, str] = {
    signal.SIGKILL: " (out of memory, perhaps)",
    signal.SIGBUS: " (a full disk or a full /dev/shm, perhaps)",
}
# So many lines of what a task printed last stand in the message of its crash.
_TAIL_LINES = 8

log = logging.getLogger(__name__)
_held: set[Path] = set()
OnLine = Callable[[Task, str], None]


@dataclass
class Handle:
    """A task that runs: its process, its log, what it printed `last`, and the error it reported, if
    any.

    `place` is none of those beside it. `is_shared`: the process only starts others, which do the
    task together.
    """

    task: Task
    process: subprocess.Popen[str]
    log: Path
    reader: threading.Thread
    started: float
    error: ReasonDistillError | None = None
    cancelled: bool = False
    is_shared: bool = False
    place: int = 0
    last: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))


def submit(run: Run, task: Task, on_line: OnLine, place: int = 0) -> Handle:
    """Start one task in its own process and session; `place` counts those beside it."""
    log = log_of(run, task)
    with disk_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
    together = is_shared(run, task)
    alone = [sys.executable, "-m", "reasondistill", *arguments(run, task)]
    command = training_command(run.cluster, run.folder, task.units[0]) if together else alone
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches us alone; we pass it on once
        preexec_fn=die_with_parent,
        env=environment() | {"PYTHONUNBUFFERED": "1"} | _own_gpus(run, task, place),
    )
    handle = Handle(
        task, process, log, threading.Thread(), time.monotonic(), is_shared=together, place=place
    )
    handle.reader = threading.Thread(target=_read, args=(handle, on_line), daemon=True)
    handle.reader.start()
    return handle


def do_together(run: Run, task: Task, stop: StopSignal) -> None:
    """Start the processes that do a task together, and wait for them: what they print is printed
    here, a request to stop is passed on.

    Raises the error that one of them reported; exits with 1 when one crashed.
    """
    with tempfile.TemporaryDirectory(prefix="reasondistill-") as place:
        report = Path(place, "error.json")
        told = {ERROR_FILE: str(report)} | ({} if ERROR_FILE in os.environ else {KEEP_MARKS: "1"})
        command = training_command(run.cluster, run.folder, task.units[0])
        stop.check()
        process = subprocess.Popen(command, env=environment() | told, preexec_fn=die_with_parent)
        asked = False
        try:
            while process.poll() is None:
                if stop.requested and not asked:
                    asked = True
                    process.send_signal(signal.SIGTERM)
                time.sleep(0.1)
        finally:  # a second signal
            process.kill()
            process.wait()
        if process.returncode == 0:
            return
        text = report.read_text(encoding="utf-8") if report.exists() else None
    if text is None and asked:  # they had only just begun
        stop.check()
    if text is None or json.loads(text).get("crashed"):
        sys.exit(1)
    error = reported_error(text)
    if isinstance(error, Interrupted):
        stop.check()  # which signal came to us, not how it went on to them
    raise error


def arguments(run: Run, task: Task, *, resolved: bool = False) -> list[str]:
    """What to call reasondistill with so that it does a task; `resolved`: from any folder."""
    share = ["--share", task.share.text] if task.share is not None else []
    folder = str(run.folder.resolve() if resolved else run.folder)
    if run.cluster.kind == "ray":  # whose nodes may have no folder in common
        folder = url_of(run) or folder
    return ["task", folder, task.stage, *task.units, *share]


def url_of(run: Run) -> str | None:
    """Where the run lives, when that is not the folder here."""
    return (
        f"{run.cluster.storage.rstrip('/')}/{run.folder.name}"
        if run.cluster.storage is not None
        else None
    )


def log_of(run: Run, task: Task) -> Path:
    """Where a task's output goes."""
    return run.layout.logs / f"{re.sub(r'[^A-Za-z0-9._+-]+', '-', task.name)[:100].strip('-')}.log"


def _own_gpus(run: Run, task: Task, place: int) -> dict[str, str]:
    """Workers beside each other on one machine share its GPUs out: `gpus` of the stage for each, by
    the place that is free.

    Raises ConfigError when there are not so many.
    """
    if (
        task.share is None
        or task.share.role != "work"
        or not (gpus := run.cluster.stages.of(task.stage).gpus)
    ):
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = visible.split(",") if visible else None
    first = gpus * place
    mine = (
        known[first : first + gpus]
        if known is not None
        else [str(number) for number in range(first, first + gpus)]
    )
    if len(mine) < gpus:
        how = "Lower gpus, shards or max_concurrent."
        raise ConfigError(
            f"[stages.{task.stage}] workers beside each other × gpus is more than "
            f"CUDA_VISIBLE_DEVICES={visible}. {how}"
        )
    return {"CUDA_VISIBLE_DEVICES": ",".join(mine)}


def wait(handle: Handle) -> None:
    """Wait for a task to end. Raises its own error, Interrupted, or StageError naming the log when
    it crashed.
    """
    code = handle.process.wait()
    handle.reader.join(timeout=10)
    if code == 0:
        return
    if handle.error is not None:
        raise handle.error
    has_just_begun = code in (-signal.SIGTERM, *STOPPED)  # too early to say more
    if handle.cancelled and (has_just_begun or handle.is_shared):
        raise Interrupted(
            "Stopped on request; everything finished so far is saved. Run the same command "
            "to go on."
        )
    raise StageError(_crash(handle, code))


def _crash(handle: Handle, code: int) -> str:
    """How a task ended, and what it printed last: the log holds what earlier sessions printed, too."""
    number = -code if code < 0 else code - 128 if code in STOPPED else 0
    names = {int(one): one.name for one in signal.Signals}
    how = (
        f"exit code {code}"
        if number == 0
        else names.get(number, f"signal {number}") + _HINTS.get(number, "")
    )
    said = "\n".join(f"  | {line}" for line in handle.last)
    printed = f"Log: {handle.log}\n{said}" if handle.last else "It had printed nothing yet."
    return f"{handle.task.name} crashed: {how}. {printed}\nRun the same command to go on."


def cancel(handle: Handle) -> None:
    """Ask a task to finish the chunk in hand and stop; it says how to resume."""
    if handle.process.poll() is None:
        handle.cancelled = True
        handle.process.send_signal(signal.SIGTERM)


def run_tasks(
    run: Run, tasks: Sequence[Task], on_line: OnLine, on_done: Callable[[Task, float], None]
) -> None:
    """Run tasks in order, independent students side by side as far as the cluster file allows.

    Raises the first task's error after the others have been stopped, and Interrupted after SIGINT
    or SIGTERM.
    """
    pending, running, failed = list(tasks), list[Handle](), list[ReasonDistillError]()
    with only_one(run.folder), StopSignal() as stop:
        save_run(run)
        asked = False
        while running or (pending and not failed and not asked):
            if not failed and not stop.requested:
                for task in _startable(pending, running, run):
                    place = next(
                        number
                        for number in range(len(running) + 1)
                        if all(number != handle.place for handle in running)
                    )
                    pending.remove(task)
                    running.append(submit(run, task, on_line, place))
            for handle in [h for h in running if h.process.poll() is not None]:
                running.remove(handle)
                try:
                    wait(handle)
                    with suppress(BrokenPipeError):
                        on_done(handle.task, time.monotonic() - handle.started)
                except ReasonDistillError as error:
                    failed.append(error)
            if (failed or stop.requested) and not asked:
                asked = True
                for handle in running:
                    cancel(handle)
            time.sleep(0.05)
        crashed = [error for error in failed if not isinstance(error, Interrupted)]
        if crashed:
            raise crashed[0]
        stop.check()  # which signal came to us, not how it went on to the tasks
        if failed:
            raise failed[0]


def shares_engine_process() -> bool:
    """One process for all eval models where there is no GPU: nothing has to be freed but RAM, and
    start-up is paid once.
    """
    return shutil.which("nvidia-smi") is None


def _startable(pending: Sequence[Task], running: Sequence[Handle], run: Run) -> list[Task]:
    """The tasks that may start now: stages one after the other, workers of a stage and students
    (after their parents) beside each other.
    """
    if not pending or (running and not (pending[0].is_parallel and running[0].task.is_parallel)):
        return []
    stage = running[0].task.stage if running else pending[0].stage
    if not pending[0].is_parallel:
        return [pending[0]]
    unfinished = {task.name for task in pending} | {handle.task.name for handle in running}
    beside = list(takewhile(lambda task: task.is_parallel and task.stage == stage, pending))
    ready = [task for task in beside if not unfinished & set(task.after)]
    most = (
        run.cluster.train.parallel
        if stage == "students"
        else run.cluster.stages.of(stage).max_concurrent or len(ready) + len(running)
    )
    return ready[: max(0, most - len(running))]


def _read(handle: Handle, on_line: OnLine) -> None:
    """Copy the task's output to its log and hand the marked lines on.

    Goes on whatever happens to log and terminal (disk full, pipe closed): a pipe that nobody reads
    would stop the task for good.
    """
    stream: IO[str] | None = handle.process.stdout
    assert stream is not None
    for line in stream:
        _, mark, rest = line.partition(MARK)  # behind an unfinished progress bar, perhaps
        if mark and rest.startswith(ERROR_WORD):
            # The first is the cause: when one of several processes fails, the others lose it.
            handle.error = handle.error or reported_error(rest.removeprefix(ERROR_WORD))
        elif mark:
            with suppress(OSError, ValueError):
                on_line(handle.task, rest.rstrip("\n"))
        plain = line.replace(MARK, "")
        if plain.strip():
            handle.last.append(plain.rstrip())
        with suppress(OSError), open(handle.log, "a", encoding="utf-8") as log:
            log.write(plain)


def reported_error(text: str, prefix: str = "") -> ReasonDistillError:
    """The error that a task process reported, of its own kind again."""
    value = json.loads(text)
    kind = getattr(errors, value["kind"], StageError)
    error = ReasonDistillError.__new__(kind)
    error.args = (prefix + value["message"],)
    return error


def die_with_parent() -> None:
    """Linux: be killed when the process that started this one is, even by SIGKILL.

    Other systems have no such call: there the task runs to its end.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@contextmanager
def only_one(folder: Path) -> Generator[None]:
    """Refuse a second launcher on the same machine and folder; the lock is gone with its process,
    however that ends.

    A process that has it already may ask again. What killed processes left half written in the
    folder is removed.
    """
    if folder.resolve() in _held:
        yield
        return
    path = RunFolder(folder).lock
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - disk_errors is not for what is done under the lock
    with file:
        _lock(file, folder)
        _held.add(folder.resolve())
        try:
            remove_all_leftovers(folder)
            yield
        finally:
            _held.discard(folder.resolve())


def _lock(file: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StageError(
            f"{folder}: another `reasondistill run` is working in this folder. Wait for it, "
            "or stop it."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise
        log.warning(
            "%s: its file system knows no locks; see to it yourself that nothing else "
            "works in this folder",
            folder,
        )
