"""How far a file of answers is."""

from __future__ import annotations

import logging
import time

_TELL_SECONDS = 5.0

log = logging.getLogger(__name__)


class Progress:
    """A line every five seconds, and one at the end."""

    def __init__(self, total: int, done: int = 0) -> None:
        self._total = total
        self._before = done
        self._start = time.monotonic()
        self._last_line = self._start

    def tell(self, done: int, shares: dict[str, int]) -> None:
        """`done` of all, and which part of those each of `shares` is."""
        now = time.monotonic()
        is_over = done >= self._total
        if now - self._last_line < _TELL_SECONDS and not is_over:
            return
        self._last_line = now
        speed = (done - self._before) / max(now - self._start, 1e-9)
        parts: list[str] = []
        for name, count in shares.items():
            percent = 100 * count / max(done, 1)
            parts.append(f"{percent:.1f} % {name}")
        left = ""
        if not is_over:
            left_s = (self._total - done) / max(speed, 1e-9)
            left = f" · {left_s:,.0f} s left"
        counts = f"{done:,}/{self._total:,}"
        log.info("%s · %s/s · %s%s", counts, f"{speed:,.0f}", ", ".join(parts), left)
