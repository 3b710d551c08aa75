"""How many failures a stage accepts before it stops: one rule for every stage."""

from __future__ import annotations

# More faults than this share, and at least so many: it is the settings that are wrong (a prompt, a
# template, a tokenizer), not the problems.
FAULTY_SHARE, FAULTY_LEAST = 0.05, 5


def allowed_losses(share: float, samples: int) -> int:
    """How many of `samples` a service may lose where `failures_allowed` is `share`.

    >>> allowed_losses(0.07, 100)       # 0.07 · 100 is 7.000000000000001, 0.29 · 100 below 29
    7
    """
    return int(share * samples + 1e-9)


def are_too_many_faulty(faulty: int, total: int) -> bool:
    """Whether so many inputs fail that the settings must be wrong."""
    return faulty >= FAULTY_LEAST and faulty > FAULTY_SHARE * total
