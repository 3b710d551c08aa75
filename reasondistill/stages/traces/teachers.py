"""Which problems are a teacher's own."""

from __future__ import annotations

from collections.abc import Sequence

from reasondistill.hashing import stable_share


def deal(problem_id: str, shares: Sequence[float]) -> int:
    """Which teacher gets this problem: a stable hash of its id against the cumulative shares.

    >>> deal("gsm8k/train/12", [1.0])
    0
    """
    point = stable_share(f"deal:{problem_id}") * sum(shares)
    for index, share in enumerate(shares):
        point -= share
        if point < 0:
            return index
    return len(shares) - 1
