"""One task in a process of its own on this machine, so that GPU memory is free between stages.

    process = begin(run, task, on_line)
    cancel(process)                  # it finishes the chunk in hand, and says how to resume
    wait(process)

What the process prints is in `<run>/logs/<task>.log`; its lines for people are messages
(reporting.py) and are handed on. When this process dies, its task processes die with it, so a run
folder never has two writers.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import BufferedWriter
from pathlib import Path

from reasondistill.bounds import TASK_LINE_BYTES
from reasondistill.errors import ConfigError, Interrupted, ReasonDistillError, StageError
from reasondistill.interpreter import safe_python
from reasondistill.launch.noise import behind_bar, is_verbose, noise_of
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
)
from reasondistill.launch.training import environment, is_shared, training_command
from reasondistill.pipeline import Run, Task
from reasondistill.runs.store import StopSignal, disk_errors, open_to_write
from reasondistill.stages.students.footprint import memory_words, plan_of, ways_to_less

# What a crash may mean.
_HINTS: dict[int, str] = {
    signal.SIGKILL: " (out of memory, perhaps)",
    signal.SIGBUS: " (a full disk or a full /dev/shm, perhaps)",
}
_SIGNAL_NAMES = {int(number): number.name for number in signal.Signals}
# So many lines of what a task printed last stand in the message of its crash.
_TAIL_LINES = 8
# So many blank lines one after the other are logged.
_MOST_BLANKS = 10
# So many lines of what engines printed are kept for the log of a crash.
_MOST_LEFT_OUT = 200

OnLine = Callable[[Task, str], None]


@dataclass
class TaskProcess:
    """A task that runs: its process, its log, what it printed `last`, and the error it reported, if
    any. What engines talked last is in `talk`; both number the lines.

    `place` counts the tasks beside it: no other one has the same. `remedy` says what takes less
    memory, for one that was killed. `is_shared`: the process only starts others, which do the task
    together. `word` begins its messages. `left_out` is what engines printed last and no log has.
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
    word: str = ""
    remedy: Callable[[], str] = str
    left_out: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_LEFT_OUT))
    last: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    talk: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))


def begin(run: Run, task: Task, on_line: OnLine, place: int = 0) -> TaskProcess:
    """Start one task in its own process and session; `place` counts those beside it."""
    log = log_of(run, task)
    with disk_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
    open_to_write(log, "ab").close()  # a log that is a link is refused now, not in silence
    together = is_shared(run, task)
    if together:
        command = training_command(run.cluster, run.folder, task.units[0])
    else:
        words = arguments(task, str(run.folder))
        command = [*safe_python(), "-m", "reasondistill", *words]
    word = new_word()
    variables = environment() | {"PYTHONUNBUFFERED": "1", CHANNEL: word}
    variables |= own_gpus(run, task, place)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches us alone; we pass it on once
        preexec_fn=die_with_parent,
        env=variables,
    )
    started = time.monotonic()
    running = TaskProcess(
        task, process, log, threading.Thread(), started, is_shared=together, place=place, word=word
    )
    running.remedy = partial(less_memory, run, task)
    running.reader = threading.Thread(target=_read, args=(running, on_line), daemon=True)
    running.reader.start()
    return running


def own_gpus(run: Run, task: Task, place: int) -> dict[str, str]:
    """Workers beside each other on one machine share its GPUs out: `gpus` of the stage for each, by
    the place that is free.

    Raises ConfigError when there are not so many.
    """
    if task.share is None or task.share.role != "work":
        return {}
    gpus = run.cluster.stages.of(task.stage).gpus
    if not gpus:
        return {}
    first = gpus * place
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        chosen = visible.split(",")[first : first + gpus]
    else:
        chosen = [str(number) for number in range(first, first + gpus)]
    if len(chosen) < gpus:
        raise ConfigError(
            f"[stages.{task.stage}] workers beside each other × gpus is more than "
            f"CUDA_VISIBLE_DEVICES={visible}. Lower gpus, shards or max_concurrent."
        )
    return {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}


def wait(running: TaskProcess) -> None:
    """Wait for a task to end. Raises its own error, Interrupted, or StageError naming the log when
    it crashed.
    """
    code = running.process.wait()
    running.reader.join(timeout=10)
    if code == 0:
        return
    if running.error is not None:
        raise running.error
    has_just_begun = code in (-signal.SIGTERM, *STOPPED)  # too early to say more
    if running.cancelled and (has_just_begun or running.is_shared):
        raise Interrupted(STOPPED_ON_REQUEST)
    how = _how_it_ended(code)
    _log_left_out(running)
    # The log holds what earlier sessions printed, too.
    printed = "It had printed nothing yet."
    if running.last or running.talk:
        lines = "\n".join(f"  | {line}" for line in _last_lines(running))
        printed = f"Log: {running.log}\n{lines}"
    remedy = ""
    if -code == signal.SIGKILL or code - 128 == signal.SIGKILL:
        remedy = running.remedy()
    raise StageError(
        f"{running.task.name} crashed: {how}. {printed}\n{remedy}Run the same command to go on."
    )


def _last_lines(running: TaskProcess) -> list[str]:
    """What a task printed last, in its order. Engines talk on behind a traceback: their lines only
    fill what the others leave free.
    """
    room = _TAIL_LINES - len(running.last)
    talk = list(running.talk)[-room:] if room > 0 else []
    return [line for _, line in sorted([*running.last, *talk])]


def less_memory(run: Run, task: Task) -> str:
    """What the training of a student was expected to hold, and what lowers that: the kernel kills
    the largest process when memory is out, and says nothing. Empty for other tasks, and where the
    model is not known.
    """
    if task.stage != "students":
        return ""
    student = next(s for s in run.pipeline.all_students() if s.name == task.units[0])
    if student.method == "base":
        return ""
    plan = None
    with suppress(ReasonDistillError):  # of a folder that is no good: the task has said so
        plan = plan_of(student, run.cluster.train)
    expected = ""
    if plan is not None:
        expected = f"At max_length it was expected to hold {memory_words(plan)}. "
    checkpoint = "What its checkpoints hold is not lost. "
    return f"{expected}{checkpoint}Less is taken by: {ways_to_less(student, run.cluster.train)}.\n"


def _how_it_ended(code: int) -> str:
    """The exit code, or the signal with what it may mean."""
    if code < 0:
        number = -code
    elif code in STOPPED:
        number = code - 128
    else:
        return f"exit code {code}"
    name = _SIGNAL_NAMES.get(number, f"signal {number}")
    return name + _HINTS.get(number, "")


def cancel(running: TaskProcess) -> None:
    """Ask a task to finish the chunk in hand and stop; it says how to resume."""
    if running.process.poll() is None:
        running.cancelled = True
        running.process.send_signal(signal.SIGTERM)


def _read(running: TaskProcess, on_line: OnLine) -> None:
    """Copy the task's output to its log and hand the marked lines on.

    Goes on whatever happens to log and terminal (disk full, pipe closed) and whatever a line holds:
    a pipe that nobody reads would stop the task for good. What engines print beside it is not
    logged, unless somebody wants it.
    """
    stream = running.process.stdout
    assert stream is not None
    # A longer line is read, shown and logged in parts: what never ends fills no memory.
    most = TASK_LINE_BYTES.most
    keeps_all = is_verbose()
    blanks, follows_noise = 0, False
    numbers = itertools.count()
    while line := stream.readline(most):
        said = parsed(line.rstrip("\n"), running.word)
        # The first is the cause: when one of several processes fails, the others lose it.
        if running.error is None:
            running.error = said.error
        if said.is_for_people:
            with suppress(OSError, ValueError):
                on_line(running.task, said.text)
        text, noise = said.text, None
        if not said.is_for_people and not keeps_all:
            noise = noise_of(text)
        rest = behind_bar(text) if noise == "bar" else ""
        if rest:
            text, noise = rest, noise_of(rest)
        is_blank = not text.strip()
        if not is_blank and noise != "bar":
            of_its_kind = running.last if noise is None else running.talk
            of_its_kind.append((next(numbers), text.rstrip()))
        if is_blank:
            blanks = min(blanks + 1, _MOST_BLANKS)
            continue
        # Blank lines beside noise are a part of it.
        if noise is None:
            if not follows_noise:
                text = "\n" * blanks + text
            _write_log(running.log, text)
        elif noise == "talk":
            running.left_out.append(text)
        blanks, follows_noise = 0, noise is not None


def _log_left_out(running: TaskProcess) -> None:
    """Of a task that crashed the log has, last, what engines printed."""
    if not running.left_out:
        return
    _write_log(running.log, "What engines and libraries printed last:")
    while running.left_out:
        _write_log(running.log, f"  | {running.left_out.popleft()}")


def _write_log(path: Path, text: str) -> None:
    with suppress(OSError, StageError), BufferedWriter(open_to_write(path, "ab")) as log:
        log.write(f"{text}\n".encode("utf-8", "backslashreplace"))


def do_together(run: Run, task: Task, stop: StopSignal) -> None:
    """Start the processes that do a task together, and wait for them: what they print is printed
    here, a request to stop is passed on.

    Raises the error that one of them reported; exits with 1 when one crashed.
    """
    with tempfile.TemporaryDirectory(prefix="reasondistill-") as place:
        report = Path(place, "error.json")
        variables = environment() | {ERROR_FILE: str(report)}
        command = training_command(run.cluster, run.folder, task.units[0])
        stop.check()
        process = subprocess.Popen(command, env=variables, preexec_fn=die_with_parent)
        was_stopped = False
        try:
            while process.poll() is None:
                if stop.requested and not was_stopped:
                    was_stopped = True
                    process.send_signal(signal.SIGTERM)
                time.sleep(0.1)
        finally:  # a second signal
            process.kill()
            process.wait()
        if process.returncode == 0:
            return
        reported: dict[str, object] = {}
        if report.exists():
            reported = json.loads(report.read_text(encoding="utf-8"))
    if not reported and was_stopped:  # they had only just begun
        stop.check()
    if not reported or reported.get("crashed"):
        sys.exit(1)
    error = reported_error(reported)
    if isinstance(error, Interrupted):
        stop.check()  # which signal came to us, not how it went on to them
    raise error


def die_with_parent() -> None:
    """Linux: be killed when the process that started this one is, even by SIGKILL.

    Other systems have no such call: there the task runs to its end.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
