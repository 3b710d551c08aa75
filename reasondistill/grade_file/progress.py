"""How far a file of answers is."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from reasondistill.progress import Progress

# Seconds between two lines.
EVERY_S = 5.0

log = logging.getLogger(__name__)


def tell(progress: Progress, done: int, counts: Mapping[str, int]) -> None:
    """A line when it is time, and one at the end: `done` answers, and which part of those each of
    `counts` is.
    """
    is_over = done >= progress.total
    if not progress.is_due(now=is_over):
        return
    speed = (done - progress.done_before) / max(progress.seconds, 1e-9)
    shares: list[str] = []
    for name, count in counts.items():
        percent = 100 * count / max(done, 1)
        shares.append(f"{percent:.1f} % {name}")
    left_s = None
    if not is_over:
        left_s = (progress.total - done) / max(speed, 1e-9)
    log.info("%s", progress.words(done, [f"{speed:,.0f}/s", ", ".join(shares)], left_s))
