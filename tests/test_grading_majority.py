"""Votes are counted by equivalence."""

from __future__ import annotations

from reasondistill.grading import GradingPool, grade
from reasondistill.grading.majority import clusters, majority, same_in


def same(a: str, b: str) -> bool:
    return grade(a, b).is_correct


def test_different_spellings_of_one_answer_are_one_cluster() -> None:
    assert clusters(["0.5", "3", r"\frac12", None, "1/2", "3.0"], same) == [[0, 2, 4], [1, 5]]


def test_the_share_counts_samples_without_an_answer() -> None:
    vote = majority(["0.5", None, r"\frac12", "3"], same=same)
    assert vote is not None
    assert (vote.answer, vote.votes, vote.share, vote.members) == ("0.5", 2, 0.5, (0, 2))


def test_a_tie_goes_to_the_answer_given_first() -> None:
    vote = majority(["7", "8", "8", "7"], same=same)
    assert vote is not None
    assert vote.answer == "7"


def test_no_answers_no_vote() -> None:
    assert majority([None, None], same=same) is None


def test_a_pool_decides_what_needs_algebra() -> None:
    with GradingPool(workers=1, deadline_s=60.0) as pool:
        assert clusters([r"\sqrt{8}", r"2\sqrt2", "3"], same_in(pool)) == [[0, 1], [2]]
