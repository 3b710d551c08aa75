"""The curve of a cascade: by hand, at its edges, and how often its intervals hold the truth."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from reasondistill.statistics.cascade import (
    FOLDS,
    Route,
    Sides,
    cascade_curve,
    cascade_word,
    chosen_by_others,
    gap_of,
)

HAND = Sides(
    k=4,
    votes=np.array([4, 4, 2, 1]),
    student=np.array([1.0, 1.0, 0.0, 0.5]),
    teacher=np.array([1.0, 0.5, 1.0, 1.0]),
    student_cost=np.array([3.0, 5.0, 4.0, 4.0]),
    teacher_cost=np.array([10.0, 10.0, 8.0, 12.0]),
)


def drawn(n: int, seed: int, *, k: int = 4, looks: bool = True) -> Sides:
    """Problems that are easy or hard for a student; where `looks` is false its votes are shuffled,
    so that they say nothing.
    """
    dice = np.random.default_rng([seed, n])
    is_hard = dice.random(n) < 0.35
    rate = np.where(is_hard, dice.beta(1, 6, n), dice.beta(8, 1.2, n))
    hits = dice.binomial(k, rate)
    others = dice.binomial(k - hits, 0.4)
    votes = np.maximum(hits, np.maximum(others, (k - hits > others).astype(np.int64)))
    ties = 1 + ((others == hits) & (hits > 0))
    student = np.where((hits == votes) & (hits > 0), 1 / ties, 0.0)
    if not looks:
        votes = dice.permutation(votes)
    teacher = dice.binomial(1, np.where(is_hard, 0.65, 0.95)).astype(float)
    length = dice.lognormal(4, 0.4, n)
    return Sides(k, votes, student, teacher, length * k, 4 * k * length * dice.lognormal(0, 0.3, n))


def truth_of(sides: Sides, votes: int) -> float:
    route = Route.of(sides, sides.votes < votes)
    means = [route.right, route.cost, sides.student, sides.student_cost]
    means += [sides.teacher, sides.teacher_cost]
    return float(gap_of(np.array([one.mean() for one in means])))


def test_four_problems_by_hand() -> None:
    """C_s = 4, C_t = 10, a_s = 0.625, a_t = 0.875. Two votes needed: the last problem is asked,
    0.75 right at 4 + 12/4 = 7, where the line has 0.625 + 3/6 · 0.25. Three or four needed: the
    last two, all right at 4 + 20/4 = 9, where the line has 0.625 + 5/6 · 0.25.
    """
    first, second = cascade_curve(HAND).steps
    assert (first.votes, first.asked, second.votes, second.asked) == (2, 0.25, 3, 0.5)
    assert first.accuracy.mean == 0.75 and first.cost.mean == 7
    assert first.gap.mean == pytest.approx(0.75 - 0.75)
    assert second.accuracy.mean == 1 and second.cost.mean == 9
    assert second.gap.mean == pytest.approx(1 - (0.625 + 5 / 6 * 0.25))
    assert first.gap.low < first.gap.mean < first.gap.high
    assert cascade_curve(HAND).chosen is None  # four problems are too few


def test_the_line_ends_at_the_teacher_and_never_falls() -> None:
    def gap(right: float, cost: float, student: float, teacher: float, prices: tuple) -> float:
        return float(gap_of(np.array([right, cost, student, prices[0], teacher, prices[1]])))

    assert gap(0.7, 12, 0.5, 0.9, (4, 10)) == pytest.approx(-0.2)  # more than the teacher alone
    assert gap(0.7, 12, 0.5, 0.9, (10, 4)) == pytest.approx(-0.2)  # votes cost more than it
    assert gap(0.7, 7, 0.5, 0.4, (4, 10)) == pytest.approx(0.2)  # it is worse: keep the student
    assert gap(0.5, 4, 0.5, 0.9, (4, 10)) == 0  # nobody is asked


def test_the_same_numbers_give_the_same_curve_and_a_unit_of_cost_changes_no_gap() -> None:
    sides = drawn(40, 3)
    assert cascade_curve(sides) == cascade_curve(sides)
    dearer = replace(
        sides, student_cost=10 * sides.student_cost, teacher_cost=10 * sides.teacher_cost
    )
    for one, ten in zip(cascade_curve(sides).steps, cascade_curve(dearer).steps, strict=True):
        assert one.gap.mean == pytest.approx(ten.gap.mean)
        assert (one.gap.low, one.gap.high) == pytest.approx((ten.gap.low, ten.gap.high))


def test_an_interval_is_never_a_point() -> None:
    """Ten problems are asked and the teacher says what the student said: that it always does is
    more than thirty problems can show.
    """
    votes = np.array([2] * 10 + [4] * 20)
    right = (np.arange(30) % 3 > 0).astype(float)
    price = np.full(30, 4.0)
    (step,) = cascade_curve(Sides(4, votes, right, right, price, 5 * price)).steps
    assert step.gap.mean == 0 and step.gap.low < -0.005 and step.gap.high > 0.005
    assert cascade_word(step.gap) == "cannot be told"


def test_where_all_samples_agree_there_is_no_threshold() -> None:
    sides = replace(HAND, votes=np.full(4, 4))
    assert cascade_curve(sides).steps == ()
    assert cascade_curve(replace(HAND, votes=np.zeros(4, np.int64))).steps[-1].asked == 1


@pytest.mark.parametrize(
    "changes",
    [{"k": 1}, {"k": 3}, {"votes": np.array([4, 4, 2])}, {"teacher": np.ones((4, 1))}],
)
def test_what_is_no_pair_of_models_is_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match="want"):
        replace(HAND, **changes)


def test_a_threshold_is_chosen_without_the_problems_that_it_is_measured_on() -> None:
    """Whatever the problems of a fold turn out to be, the threshold of these problems stays."""
    sides = drawn(60, 1)
    thresholds = sides.thresholds()
    before = chosen_by_others(sides, thresholds, seed=0)
    assert before is not None
    fold = np.random.default_rng(0).permutation(60) % FOLDS == 2
    other = np.where(fold, 1 - sides.teacher, sides.teacher)
    after = chosen_by_others(replace(sides, teacher=other), thresholds, seed=0)
    assert after is not None and (after[fold] == before[fold]).all()
    assert chosen_by_others(drawn(9, 1), [2], seed=0) is None


def test_intervals_of_the_gap_hold_the_truth() -> None:
    """150 samples of 50 problems: of 95 %, chance alone leaves at least 90 %."""
    world = drawn(200_000, 99)
    truth = {votes: truth_of(world, votes) for votes in (2, 3, 4)}
    assert min(truth.values()) > 0.02
    held: Counter[int] = Counter()
    for seed in range(150):
        for step in cascade_curve(drawn(50, seed), resamples=400).steps:
            if step.votes in truth:
                held[step.votes] += step.gap.low <= truth[step.votes] <= step.gap.high
    assert min(held[votes] for votes in truth) >= 0.9 * 150


def test_votes_that_say_nothing_seldom_pass_for_help_and_those_that_do_mostly() -> None:
    """The chosen cascade, of 150 problems: of useless votes 2.5 % would be chance."""
    useless: Counter[str] = Counter()
    useful: Counter[str] = Counter()
    for seed in range(40):
        for words, looks in ((useless, False), (useful, True)):
            chosen = cascade_curve(drawn(150, seed, looks=looks), resamples=400).chosen
            assert chosen is not None
            words[chosen.word] += 1
    assert useless["helps"] <= 3 and useful["helps"] >= 28 and useful["hurts"] == 0
