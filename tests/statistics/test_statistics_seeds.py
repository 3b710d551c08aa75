"""A comparison of recipes counts seeds: by hand, at its edges, and by how often it cries wolf."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reasondistill.statistics import (
    needed_size,
    paired_difference,
    seeded_difference,
    verdict_word,
)
from reasondistill.statistics.seeds import seed_variance


def sheets(*rates: float, problems: int = 20, samples: int = 1) -> list[np.ndarray]:
    """A sheet for each rate: the first problems are solved."""
    made: list[np.ndarray] = []
    for rate in rates:
        sheet = np.zeros((problems, samples), dtype=bool)
        sheet[: round(rate * problems)] = True
        made.append(sheet)
    return made


def test_one_seed_is_the_paired_difference_and_says_so() -> None:
    dice = np.random.default_rng(0)
    ours, theirs = dice.random((40, 2)) < 0.6, dice.random((40, 2)) < 0.4
    gap, alone = seeded_difference([[ours]], [[theirs]]), paired_difference(ours, theirs)
    assert (gap.mean, gap.low, gap.high) == (alone.mean, alone.low, alone.high)
    assert gap.p_value == alone.p_value and gap.deviation is None and "one seed" in gap.method


def test_the_variance_of_seeds_is_that_of_their_means_less_what_problems_explain() -> None:
    """Two problems, two seeds, one sample. Ours: seed 0 solves both, seed 1 none: means 1 and 0,
    variance ½, over two seeds ¼, and no interaction. Theirs: each solves the other problem: equal
    means, all interaction.
    """
    ours = [np.array([[True], [True]]), np.array([[False], [False]])]
    theirs = [np.array([[True], [False]]), np.array([[False], [True]])]
    assert seed_variance([ours], [ours[:1] * 2]).own == pytest.approx(0.25)
    found = seed_variance([ours], [theirs])
    # The interaction of theirs is (4 · ¼) / (1 · 1) = 1, over 2 problems and 2 seeds ¼: it takes
    # off all that the seeds of ours have, since both sides are counted together.
    assert found.total == pytest.approx(0.25) and found.own == 0.0 and found.freedom == 1


def test_the_degrees_of_freedom_are_those_of_the_recipe_whose_seeds_differ() -> None:
    """Two sides as variable as each other: twice two. One alone: two."""
    apart, alike = sheets(0.2, 0.5, 0.8), sheets(0.5, 0.5, 0.5)
    assert seed_variance([apart], [apart]).freedom == pytest.approx(4)
    assert seed_variance([apart], [alike]).freedom == pytest.approx(2)
    assert seed_variance([alike], [apart, alike]).freedom == pytest.approx(2)
    assert seed_variance([alike], [alike]).freedom == 0


def test_seeds_that_differ_widen_the_interval_and_raise_the_p_value() -> None:
    ours, theirs = sheets(0.9, 0.4, 0.8), sheets(0.5, 0.3, 0.1)
    gap = seeded_difference([ours], [theirs])
    alone = gap.of_these_models
    assert gap.mean == pytest.approx(0.4) == pytest.approx(alone.mean)
    assert verdict_word(alone) == "better" and verdict_word(gap) == "tied"
    assert gap.low <= 0 < alone.low and gap.high > alone.high and gap.p_value > alone.p_value
    # Both sides' variances, ours 0.07, theirs 0.04, with no more problems than these.
    assert gap.variance.total == pytest.approx((0.07 + 0.04) / 3)
    assert gap.deviation == pytest.approx(math.sqrt(gap.variance.own * 3 / 2))


def test_equal_seeds_leave_the_interval_as_it_is() -> None:
    ours, theirs = sheets(0.7, 0.7), sheets(0.3, 0.3)
    gap = seeded_difference([ours], [theirs])
    assert gap.deviation == 0.0
    assert (gap.low, gap.high) == (gap.of_these_models.low, gap.of_these_models.high)


def test_cells_are_averaged_and_their_differences_are_no_spread_of_seeds() -> None:
    """A key that lifts all by as much, whatever another key does."""
    ours = [sheets(0.3, 0.3), sheets(0.9, 0.9)]
    theirs = [sheets(0.2, 0.2), sheets(0.8, 0.8)]
    gap = seeded_difference(ours, theirs)
    assert gap.mean == pytest.approx(0.1) and gap.variance.total == 0.0


def test_sheets_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        seeded_difference([sheets(0.5)], [sheets(0.5, problems=10)])
    with pytest.raises(ValueError, match="one shape"):
        seeded_difference([sheets(0.5, 0.5)], [sheets(0.5)])
    with pytest.raises(ValueError, match="no sheets"):
        seeded_difference([[]], [sheets(0.5)])


def test_interval_and_test_agree_about_no_difference() -> None:
    dice = np.random.default_rng(2)
    for _ in range(20):
        rates = dice.random(4)
        cells = [[dice.random((30, 1)) < rate for rate in pair] for pair in (rates[:2], rates[2:])]
        gap = seeded_difference(cells[:1], cells[1:])
        assert (gap.p_value <= 0.05) == (not gap.low <= 0 <= gap.high)
        assert gap.low <= gap.mean <= gap.high


def test_equal_recipes_whose_seeds_differ_are_seldom_told_apart() -> None:
    """150 pairs of equal recipes, 3 seeds that differ by some 7 points. Ours may cry wolf in 5 to 6
    of 100; more than 17 of 150 would come about once in 1,000 times. Without the seeds it is a
    third.
    """
    dice = np.random.default_rng(5)
    alarms = alone = 0
    for _ in range(150):
        problems = dice.normal(0, 1.5, (60, 1))
        sides: list[list[np.ndarray]] = []
        for _ in range(2):
            logits = problems + dice.normal(0, 0.5, (1, 3))
            solved = dice.random((60, 3)) < 1 / (1 + np.exp(-logits))
            sides.append([solved[:, [seed]] for seed in range(3)])
        gap = seeded_difference([sides[0]], [sides[1]])
        alarms += gap.p_value <= 0.05
        alone += gap.of_these_models.p_value <= 0.05
    assert alarms <= 17 < 30 < alone


def test_a_recipe_whose_seeds_alone_differ_is_seldom_told_from_a_steady_one() -> None:
    """As above, but all of the spread is ours. With the degrees of freedom of both it is 25 of 200
    and more.
    """
    dice = np.random.default_rng(11)
    alarms = 0
    for _ in range(200):
        problems = dice.normal(0, 1.5, (100, 1))
        sides: list[list[np.ndarray]] = []
        for spread in (0.8, 0.0):
            logits = problems + dice.normal(0, spread, (1, 3))
            solved = dice.random((100, 3)) < 1 / (1 + np.exp(-logits))
            sides.append([solved[:, [seed]] for seed in range(3)])
        alarms += seeded_difference([sides[0]], [sides[1]]).p_value <= 0.05
    assert alarms <= 20


def test_what_cannot_be_told_takes_more_than_is_at_hand() -> None:
    """Not fewer problems and as many seeds: that is what has just not told it."""
    ours, theirs = sheets(0.9, 0.7, problems=200), sheets(0.55, 0.54, problems=200)
    gap = seeded_difference([ours], [theirs])
    assert verdict_word(gap) == "tied" and gap.variance.own > 0
    assert needed_size(gap, [ours], [theirs]).seeds > 2
    # And of twenty comparisons one takes more than if it stood alone.
    dice = np.random.default_rng(4)
    ours, theirs = ([dice.random((300, 4)) < rate] for rate in (0.55, 0.5))
    gap = seeded_difference([ours], [theirs])
    alone = needed_size(gap, [ours], [theirs])
    among = needed_size(gap, [ours], [theirs], level=1 - 0.05 / 20)
    assert alone.problems and among.problems and among.problems > 1.5 * alone.problems
    assert alone.smallest and among.smallest and among.smallest > alone.smallest


def test_what_it_would_take_counts_problems_and_where_they_differ_seeds() -> None:
    dice = np.random.default_rng(1)
    ours = [dice.random((100, 1)) < 0.52 for _ in range(3)]
    theirs = [dice.random((100, 1)) < 0.50 for _ in range(3)]
    gap = seeded_difference([ours], [theirs])
    size = needed_size(gap, [ours], [theirs])
    assert size.problems is not None and size.problems > 100
    assert size.smallest is not None and size.smallest > abs(gap.mean)
    ours, theirs = sheets(0.9, 0.4, 0.8), sheets(0.5, 0.3, 0.1)
    more = needed_size(seeded_difference([ours], [theirs]), [ours], [theirs])
    assert more.seeds > 3


def test_a_gain_up_to_the_last_problem_takes_a_size_too() -> None:
    ours, theirs = sheets(1.0, problems=30), sheets(28 / 30, problems=30)
    size = needed_size(seeded_difference([ours], [theirs]), [ours], [theirs])
    assert size.problems is not None and size.problems > 30 and size.smallest is None


def test_nothing_seen_takes_no_size() -> None:
    same = sheets(0.5, 0.5)
    size = needed_size(seeded_difference([same], [same]), [same], [same])
    assert size.problems is None and size.seeds == 2
