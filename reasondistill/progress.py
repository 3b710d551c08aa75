"""How far a long work is, as a line in the log from time to time."""

from __future__ import annotations

import time
from collections.abc import Sequence

from reasondistill.durations import short_duration


class Progress:
    """`done` of `total`, told every `every_s` seconds and at the end.

    What was done before this session counts in neither its speed nor its seconds.
    """

    def __init__(self, total: int, done: int = 0, *, every_s: float) -> None:
        self.total = total
        self.done_before = done
        self._every_s = every_s
        self._start = self._last_line = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since this session began."""
        return time.monotonic() - self._start

    def is_due(self, *, now: bool = False) -> bool:
        """Whether it is time for the next line, or it is wanted `now`; the wait for another one
        begins then.
        """
        moment = time.monotonic()
        if not now and moment - self._last_line < self._every_s:
            return False
        self._last_line = moment
        return True

    def words(self, done: int, details: Sequence[str], left_s: float | None = None) -> str:
        """`1,240/8,000 · 312 tok/s · 2.1 % truncated · 1h12m left`; `left_s` is None where nothing
        is left, or nobody knows how long it takes.
        """
        parts = [f"{done:,}/{self.total:,}", *details]
        if left_s is not None:
            parts.append(f"{short_duration(left_s)} left")
        return " · ".join(parts)
