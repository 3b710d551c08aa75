"""Which problems are a teacher's own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def deal(problem_id: str, shares: Sequence[float]) -> int:
    """Which teacher gets this problem: a stable hash of its id against the cumulative shares.

    >>> deal("gsm8k/train/12", [1.0])
    0
    """
    digest = hashlib.sha256(f"deal:{problem_id}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64 * sum(shares)
    for index, share in enumerate(shares):
        point -= share
        if point < 0:
            return index
    return len(shares) - 1
