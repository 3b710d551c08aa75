"""SIGINT and SIGTERM: the first is heard, and a second one always ends the process, also where a
library written in another language holds it.

    watch()                                # the second ends what does not end by itself
    signal.signal(signal.SIGINT, stop)     # from the first moment on

Python runs a handler between two of its own instructions in the main thread: a library that does
not come back to Python makes it deaf, all its threads too where it keeps the interpreter to itself.
But the bare signal still writes its number into a pipe, and at the other end a small process waits.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

from reasondistill.errors import Stopped

STOPS = (signal.SIGINT, signal.SIGTERM)
# What a second signal leaves to close what is open.
GRACE_S = 5.0
# How often the watcher looks whether there is something to watch.
_LOOKS_S = 2.0
# Where the numbers of this process's signals go to, for its watcher; -1 where there is none.
_tells = -1


def stop(number: int, frame: FrameType | None) -> None:
    """End at once in an import, where an exception may be lost or come out as another one; else
    unwind by raising Stopped.
    """
    if is_importing(frame):
        os.write(2, b"Stopped.\n")
        os._exit(128 + number)
    raise Stopped(number)


def is_importing(frame: FrameType | None) -> bool:
    """Whether this frame, or one that called it, runs an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def watch(grace_s: float = GRACE_S) -> None:
    """From now on a second SIGINT or SIGTERM ends this process within `grace_s`, whatever it does
    in the meantime. For the main thread of a program that has no other threads yet, before it
    answers signals.
    """
    global _tells
    if not hasattr(os, "fork"):
        return
    heard, tells = os.pipe()
    parent = os.getpid()
    # None comes before the child has learnt to ignore it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    if os.fork() == 0:
        try:
            _let_go(heard)
            _end_at_second(heard, parent, grace_s)
        finally:
            os._exit(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(heard)
    os.set_blocking(tells, False)
    _tells = tells
    tell_watcher()
    # The signals of a forked child are none of ours.
    os.register_at_fork(after_in_child=_forget)


def tell_watcher() -> None:
    """Have the watcher told of signals, in a main thread: a loop of asyncio, which is told in its
    place, leaves nobody told when it ends. One that runs keeps its place.
    """
    if _tells < 0 or threading.current_thread() is not threading.main_thread():
        return
    before = signal.set_wakeup_fd(_tells, warn_on_full_buffer=False)
    if before not in (-1, _tells):
        signal.set_wakeup_fd(before)


def _forget() -> None:
    global _tells
    _tells = -1
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


def _let_go(heard: int) -> None:
    """Keep nothing open that somebody waits for, and stay when the terminal's Ctrl-C comes here."""
    for number in (*STOPS, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    os.closerange(3, heard)
    os.closerange(heard + 1, 256)


def _end_at_second(heard: int, parent: int, grace_s: float) -> None:
    """Wait for the parent's second signal, or its end."""
    count = 0
    numbers_come = select.poll()  # of any descriptor; select knows the first 1,024
    numbers_come.register(heard, select.POLLIN)
    while count < 2:
        is_there = numbers_come.poll(1000 * _LOOKS_S)
        if os.getppid() != parent:
            return
        if is_there:
            numbers = os.read(heard, 64)
            if not numbers:
                return
            count += sum(number in STOPS for number in numbers)
    end = time.monotonic() + grace_s
    while time.monotonic() < end:
        time.sleep(0.1)
        if os.getppid() != parent:
            return
    with suppress(ProcessLookupError):
        os.kill(parent, signal.SIGKILL)
