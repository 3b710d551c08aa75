"""Majority voting over answers clustered by equivalence, not by string: `0.5`, `\\\\frac12` and
`1/2` are one vote each for one answer.

    vote = majority(["0.5", r"\\\\frac12", "3"], same=lambda a, b: grade(a, b).is_correct)
    vote.answer, vote.share      # "0.5", 2/3
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

from reasondistill.grading.decide.layers import decide_cheaply
from reasondistill.grading.policies import find_policy
from reasondistill.grading.read.clean import clean, string_key
from reasondistill.grading.serve.items import GradeItem
from reasondistill.grading.serve.pool import GradingPool

Same = Callable[[str, str], bool]


@dataclass(frozen=True)
class Vote:
    """The answer that most samples gave, as first written. `votes` of `n` samples; samples without
    an answer, refusals among them, count in n. With `is_tie` others have as many votes, and it is
    only the first of them.
    """

    answer: str
    votes: int
    n: int
    members: tuple[int, ...]
    is_tie: bool = False

    @property
    def share(self) -> float:
        """Votes over all samples."""
        return self.votes / self.n


def clusters(answers: Sequence[str | None], same: Same) -> list[list[int]]:
    """Indices of equivalent answers, in order of first appearance; None (no answer) belongs to no
    cluster.

    Each answer is compared with the first of each cluster, so `same` is asked at most answers ×
    clusters times; equal strings are never asked about.
    """
    groups: list[list[int]] = []
    by_key: dict[str, list[int]] = {}
    for i, answer in enumerate(answers):
        if answer is None:
            continue
        key = string_key(clean(answer))
        cluster = by_key.get(key)
        if cluster is None:
            for members in groups:
                if same(answer, answers[members[0]] or ""):
                    cluster = members
                    break
        if cluster is None:
            cluster = []
            groups.append(cluster)
        cluster.append(i)
        by_key[key] = cluster
    return groups


def majority(answers: Sequence[str | None], *, same: Same) -> Vote | None:
    """The vote, or None when no sample has an answer. A tie names the answer that was given first
    and says that it is one.
    """
    groups = clusters(answers, same)
    if not groups:
        return None
    best = max(groups, key=len)
    as_large = sum(len(group) == len(best) for group in groups)
    answer = answers[best[0]] or ""
    return Vote(answer, len(best), len(answers), tuple(best), is_tie=as_large > 1)


def same_in(pool: GradingPool) -> Same:
    """Equivalence decided by a pool, cheap layers here; what is undecided counts as different."""
    policy = find_policy(pool.policy)

    def same(a: str, b: str) -> bool:
        decision = decide_cheaply(a, b, policy)
        if not decision.is_open:
            return decision.is_correct
        return pool.grade_one(GradeItem("", f"\\boxed{{{a}}}", f"\\boxed{{{b}}}")).is_correct

    return same


def maj_at_k(sizes: Sequence[int], right: int | None, n: int, k: int) -> float:
    """The chance that the majority of k samples, drawn without replacement from n, is the right
    answer; exact, over all subsets.

    `sizes` are the cluster sizes, `right` the index of the cluster that is correct (None: no sample
    is), `n` counts samples without an answer too. A tie is broken by chance: this
    is a rate, and not a label (`majority` makes none of a tie). k = 1 is the mean.
    Raises ValueError for k outside 1..n. Self-consistency: Wang et al. 2022.
    """
    if not 1 <= k <= n or sum(sizes) > n:
        raise ValueError(
            f"k = {k}: not between 1 and the {n} samples, or more answers than samples"
        )
    if right is None:
        return 0.0
    others = [size for i, size in enumerate(sizes) if i != right]
    favourable = Fraction(0)
    for votes in range(1, min(k, sizes[right]) + 1):
        ways = ways_to_tie(others, n - sum(sizes), k - votes, votes)
        favourable += comb(sizes[right], votes) * sum(
            (Fraction(count, ties + 1) for ties, count in ways.items()), Fraction(0)
        )
    return float(favourable / comb(n, k))


def ways_to_tie(others: Sequence[int], silent: int, drawn: int, votes: int) -> dict[int, int]:
    """For each number of clusters that tie with `votes`, in how many ways `drawn` samples come from
    the others, none above `votes`.
    """
    counts: dict[tuple[int, int], int] = {(0, 0): 1}  # (samples drawn, ties) → ways
    for size in others:
        following: dict[tuple[int, int], int] = {}
        for (taken, ties), count in counts.items():
            for more in range(min(size, votes, drawn - taken) + 1):
                place = (taken + more, ties + (more == votes))
                following[place] = following.get(place, 0) + count * comb(size, more)
        counts = following
    ways: dict[int, int] = {}
    for (taken, ties), count in counts.items():
        ways[ties] = ways.get(ties, 0) + count * comb(silent, drawn - taken)
    return ways
