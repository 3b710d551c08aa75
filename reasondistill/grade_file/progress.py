"""How far a file of answers is."""

from __future__ import annotations

import logging
import time

_TELL_SECONDS = 5.0

log = logging.getLogger(__name__)


class Progress:
    """A line every five seconds, and one at the end."""

    def __init__(self, total: int, done: int = 0) -> None:
        self._total, self._before = total, done
        self._start = self._told = time.monotonic()

    def tell(self, done: int, shares: dict[str, int]) -> None:
        """`done` of all, and which part of those each of `shares` is."""
        now = time.monotonic()
        if now - self._told < _TELL_SECONDS and done < self._total:
            return
        self._told = now
        speed = (done - self._before) / max(now - self._start, 1e-9)
        left = (
            ""
            if done >= self._total
            else f" · {(self._total - done) / max(speed, 1e-9):,.0f} s left"
        )
        words = ", ".join(
            f"{100 * count / max(done, 1):.1f} % {name}" for name, count in shares.items()
        )
        log.info(
            "%s/%s · %s/s · %s%s", f"{done:,}", f"{self._total:,}", f"{speed:,.0f}", words, left
        )
