"""Majority voting over answers clustered by equivalence, not by string: `0.5`, `\\\\frac12` and `1/2` are one vote each for one answer.

vote = majority(["0.5", r"\\\\frac12", "3"], same=lambda a, b: grade(a, b).is_correct)
vote.answer, vote.share      # "0.5", 2/3
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reasondistill.grading.clean import clean, string_key
from reasondistill.grading.equivalence import decide_cheaply
from reasondistill.grading.items import GradeItem
from reasondistill.grading.policies import find_policy
from reasondistill.grading.pool import GradingPool

Same = Callable[[str, str], bool]


@dataclass(frozen=True)
class Vote:
    """The answer that most samples gave, as first written. `votes` of `n` samples; samples without an answer count in n."""

    answer: str
    votes: int
    n: int
    members: tuple[int, ...]

    @property
    def share(self) -> float:
        """Votes over all samples."""
        return self.votes / self.n


def clusters(answers: Sequence[str | None], same: Same) -> list[list[int]]:
    """Indices of equivalent answers, in order of first appearance; None (no answer) belongs to no cluster.

    Each answer is compared with the first of each cluster, so `same` is asked at most answers × clusters times; equal strings are
    never asked about.
    """
    found: list[list[int]] = []
    by_key: dict[str, list[int]] = {}
    for i, answer in enumerate(answers):
        if answer is None:
            continue
        key = string_key(clean(answer))
        cluster = by_key.get(key) or next((members for members in found if same(answer, answers[members[0]] or "")), None)
        if cluster is None:
            cluster = []
            found.append(cluster)
        cluster.append(i)
        by_key[key] = cluster
    return found


def majority(answers: Sequence[str | None], *, same: Same) -> Vote | None:
    """The vote, or None when no sample has an answer. A tie goes to the answer that was given first."""
    found = clusters(answers, same)
    if not found:
        return None
    best = max(found, key=len)
    return Vote(answers[best[0]] or "", len(best), len(answers), tuple(best))


def same_in(pool: GradingPool) -> Same:
    """Equivalence decided by a pool, cheap layers here; whatever is undecided counts as different."""
    policy = find_policy(pool.policy)

    def same(a: str, b: str) -> bool:
        decision = decide_cheaply(a, b, policy)
        if decision is not None:
            return decision.outcome == "correct"
        return pool.grade_one(GradeItem("", f"\\boxed{{{a}}}", f"\\boxed{{{b}}}")).is_correct

    return same
