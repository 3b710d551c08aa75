"""Votes are counted by equivalence."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest

from reasondistill.grading import GradingPool, grade
from reasondistill.grading.serve.majority import clusters, maj_at_k, majority, same_in


def same(a: str, b: str) -> bool:
    return grade(a, b).is_correct


def test_different_spellings_of_one_answer_are_one_cluster() -> None:
    assert clusters(["0.5", "3", r"\frac12", None, "1/2", "3.0"], same) == [[0, 2, 4], [1, 5]]


def test_the_share_counts_samples_without_an_answer() -> None:
    vote = majority(["0.5", None, r"\frac12", "3"], same=same)
    assert vote is not None
    assert (vote.answer, vote.votes, vote.share, vote.members) == ("0.5", 2, 0.5, (0, 2))


def test_a_tie_says_so_and_names_the_answer_given_first() -> None:
    vote = majority(["7", "8", "8", "7"], same=same)
    assert vote is not None
    assert (vote.answer, vote.is_tie) == ("7", True)


def test_no_answers_no_vote() -> None:
    assert majority([None, None], same=same) is None


def test_a_pool_decides_what_needs_algebra() -> None:
    with GradingPool(workers=1, deadline_s=60.0) as pool:
        assert clusters([r"\sqrt{8}", r"2\sqrt2", "3"], same_in(pool)) == [[0, 1], [2]]


@pytest.mark.parametrize(
    ("sizes", "right", "n"),
    [
        ((3, 2, 1), 0, 6),
        ((3, 2, 1), 1, 7),
        ((2, 2, 2), 2, 6),
        ((1,), 0, 4),
        ((4, 3), None, 8),
        ((2, 3), 0, 8),
    ],
)
def test_maj_at_k_is_the_mean_over_all_subsets(
    sizes: tuple[int, ...], right: int | None, n: int
) -> None:
    answers: list[int | None] = [i for i, size in enumerate(sizes) for _ in range(size)] + [
        None
    ] * (n - sum(sizes))
    for k in range(1, n + 1):
        scores: list[float] = []
        for subset in combinations(answers, k):
            votes = Counter(answer for answer in subset if answer is not None)
            best = [answer for answer, count in votes.items() if count == max(votes.values())]
            scores.append(1 / len(best) if right in best else 0.0)
        assert maj_at_k(sizes, right, n, k) == pytest.approx(sum(scores) / len(scores), abs=1e-12)


def test_maj_at_k_refuses_more_samples_than_there_are() -> None:
    with pytest.raises(ValueError, match="k = 5"):
        maj_at_k((2, 1), 0, 4, 5)
