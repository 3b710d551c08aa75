"""Stopping at a safe point when a person or a scheduler requests it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any

from reasondistill.errors import Interrupted, Stopped
from reasondistill.signals import STOPS, is_importing, tell_watcher

# The environment variable with the seconds that remain after SIGUSR1.
GRACE = "REASONDISTILL_GRACE_S"


class StopSignal:
    """While open, SIGINT and SIGTERM only set a flag: `check()` then raises Interrupted at the next
    safe point.

    A second signal acts at once, as usual. SIGUSR1, by which schedulers announce the time limit,
    requests a stop too, but leaves `grace_s` seconds until it `is_urgent`: time to end the work in
    progress, not to begin more. Outside the main thread this does nothing.

    Within `at_once()` the first signal ends the work where it is: for stages whose files appear
    whole or not at all, and while a library loads a model.
    """

    def __init__(self, how_to_resume: str = "Run the same command to go on.") -> None:
        self.requested = False
        self._how = how_to_resume
        self.signal_number: int = (
            signal.SIGTERM
        )  # the signal that came; also set for SIGUSR1 and for another process's request
        self._urgent_at = 0.0
        self._is_at_once = False
        self._old: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.is_urgent:
            signal.signal(number, self._old[number])
            signal.raise_signal(number)
        self.requested, self._urgent_at, self.signal_number = True, 0.0, number
        if self._is_at_once:
            if is_importing(frame):  # an exception may be lost in it
                os._exit(128 + number)
            raise Stopped(number)

    def _announce(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._urgent_at = (
                True,
                time.monotonic() + float(os.environ.get(GRACE, "60")),
            )

    @contextmanager
    def at_once(self) -> Generator[None]:
        """Nothing is in hand that a stop could spoil: a signal raises Interrupted from wherever it
        finds the main thread.
        """
        self.check()
        before = self._is_at_once
        self._is_at_once = True
        try:
            yield
        except Stopped:
            self.check()
            raise
        finally:
            self._is_at_once = before

    @property
    def is_urgent(self) -> bool:
        """A stop was requested, and work in progress is to be dropped."""
        return self.requested and time.monotonic() >= self._urgent_at

    def check(self, also: str = "") -> None:
        """Raise Interrupted, which has the signal, when a stop was requested. `also` says what is
        saved besides what has finished: `12 unfinished samples, 8,412 tokens`.
        """
        if self.requested:
            saved = "is saved"
            if also:
                saved += f", and so are {also}: they are gone on with in their middle"
            raise Interrupted(
                f"Stopped on request; everything finished so far {saved}. {self._how}",
                self.signal_number,
            )

    def __enter__(self) -> StopSignal:
        for number in STOPS:
            try:
                self._old[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread
                return self
        self._old[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._announce)
        tell_watcher()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


def ends_at_once(stop: StopSignal | None) -> AbstractContextManager[None]:
    """`at_once()` where somebody listens: around what may take minutes, with nothing in hand."""
    if stop is None:
        return nullcontext()
    return stop.at_once()
