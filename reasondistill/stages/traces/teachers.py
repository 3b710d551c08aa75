"""Which problems are a teacher's own."""

from __future__ import annotations

from collections.abc import Sequence

from reasondistill.config import SampledModel
from reasondistill.errors import StageError
from reasondistill.hashing import stable_share
from reasondistill.records import Problem


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


def deal_by_domain(problem: Problem, teachers: Sequence[SampledModel]) -> int:
    """Which teacher gets this problem: among those that name its tag, by share; where none does,
    among those that name no tags. Raises StageError where there are none.
    """
    tag = problem.origin.tag
    own = [place for place, teacher in enumerate(teachers) if tag in teacher.tags]
    if not own:
        own = [place for place, teacher in enumerate(teachers) if not teacher.tags]
    if not own:
        raise StageError(
            f"[traces.teachers] tags: {problem.id} is tagged {tag!r}, which no teacher names, and "
            "each names some. Leave the tags of one out: it gets all other problems."
        )
    return own[deal(problem.id, [teachers[place].share for place in own])]
