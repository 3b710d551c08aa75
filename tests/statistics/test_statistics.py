"""Intervals cover what they promise, tests reject as rarely as they promise, small cases equal
brute force.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from reasondistill.statistics import (
    PairedEstimate,
    agreeing_interval,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    pass_at_k,
    shrunken_t_interval,
    sign_flip_p_value,
    skewed_t_interval,
    tango_interval,
    verdict_word,
    wilson,
)

Rates = Callable[[np.random.Generator, int], NDArray[np.float64]]

# Populations of problems: the chance to solve each one. Name → (draw, mean).
POPULATIONS: dict[str, tuple[Rates, float]] = {
    "middling": (lambda random, n: random.beta(2, 2, n), 0.5),
    "easy or hard": (lambda random, n: random.beta(0.3, 0.3, n), 0.5),
    "all alike": (lambda random, n: np.full(n, 0.5), 0.5),
    "mostly hard": (lambda random, n: random.beta(0.2, 1, n), 0.2 / 1.2),
}


def draw(random: np.random.Generator, rates: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    return random.random((rates.size, k)) < rates[:, None]


# ---- pass@k


def test_pass_at_k_equals_the_mean_over_all_subsets() -> None:
    for n in range(1, 7):
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            outcomes = [True] * c + [False] * (n - c)
            subsets = [any(subset) for subset in itertools.combinations(outcomes, k)]
            assert pass_at_k(np.array([c]), n, k)[0] == pytest.approx(sum(subsets) / len(subsets))


def test_pass_at_k_does_not_overflow_and_refuses_k_above_n() -> None:
    assert pass_at_k(np.array([3]), 2000, 1000)[0] == pytest.approx(
        1 - math.comb(1997, 1000) / math.comb(2000, 1000)
    )
    with pytest.raises(ValueError, match="pass@5"):
        pass_at_k(np.array([1]), 4, 5)


# ---- one model


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (1, 30), (17, 30), (30, 30), (124, 300)])
def test_one_sample_gives_the_wilson_interval_of_scipy(hits: int, n: int) -> None:
    reference = stats.binomtest(hits, n).proportion_ci(method="wilson")
    estimate = mean_interval(np.arange(n)[:, None] < hits)
    assert (estimate.low, estimate.high) == pytest.approx(
        (reference.low, reference.high), abs=1e-12
    )
    assert (estimate.mean, estimate.n, estimate.k, estimate.method) == (hits / n, n, 1, "wilson")


@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize("k", [1, 4, 16])
@pytest.mark.parametrize("n", [30, 500])
def test_interval_covers_the_population_mean_in_95_percent_of_draws(
    n: int, k: int, name: str
) -> None:
    rates, mean = POPULATIONS[name]
    random = np.random.default_rng(7)
    estimates = [mean_interval(draw(random, rates(random, n), k)) for _ in range(2000)]
    covered = np.mean([e.low <= mean <= e.high for e in estimates])
    # One sample: the number of hits is binomial whatever the rates are, and steps of 1/30 let no
    # interval cover 95 % evenly.
    most = wilson_coverage(n, mean) if k == 1 else 0.965
    assert (
        0.93 <= covered <= most + 0.01
    )  # 2000 draws: ± 1 point; 4000 by hand stay in 93 to 97, but for 97.5 of 30 × 1, mostly hard


def wilson_coverage(n: int, mean: float) -> float:
    """Exactly, summed over the binomial."""
    hits = np.arange(n + 1)
    covers = [low <= mean <= high for low, high in (wilson(h / n, n) for h in hits)]
    return float(stats.binom.pmf(hits, n, mean)[covers].sum())


@pytest.mark.parametrize("k", [4, 16])
def test_problems_that_are_all_alike_get_no_wider_interval_than_they_need(k: int) -> None:
    """An estimate of ρ that may not fall below 0 is above it on average and widened this interval
    by 4 to 5 % (n = 30).
    """
    random = np.random.default_rng(17)
    widths = [
        e.high - e.low
        for e in (mean_interval(draw(random, np.full(30, 0.5), k)) for _ in range(500))
    ]
    independent = 2 * stats.t.ppf(0.975, 29) * 0.5 / math.sqrt(30 * k)
    assert 0.98 * independent <= np.mean(widths) <= 1.06 * independent


@pytest.mark.parametrize("name", ["middling", "all alike"])
@pytest.mark.parametrize("k", [4, 16])
def test_bootstrap_agrees_with_the_closed_form(k: int, name: str) -> None:
    random = np.random.default_rng(3)
    correct = draw(random, POPULATIONS[name][0](random, 500), k)
    closed, bootstrap = mean_interval(correct), bootstrap_interval(correct)
    assert bootstrap.mean == closed.mean
    assert (bootstrap.low, bootstrap.high) == pytest.approx(
        (closed.low, closed.high), abs=0.15 * (closed.high - closed.low)
    )


@pytest.mark.parametrize("k", [4, 16])
def test_bootstrap_does_not_count_sampling_noise_twice(k: int) -> None:
    """Drawing samples anew from observed rates would widen the interval by up to √2 when all
    problems are alike.
    """
    random = np.random.default_rng(5)
    widths = [
        (e.high - e.low)
        for e in (
            bootstrap_interval(draw(random, np.full(200, 0.5), k), resamples=800)
            for _ in range(100)
        )
    ]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(200 * k), rel=0.06)


def test_bootstrap_of_one_sample_equals_wilson_for_many_problems() -> None:
    correct = np.arange(1000)[:, None] < 413
    assert bootstrap_interval(correct).low == pytest.approx(wilson(0.413, 1000)[0], abs=0.003)


def test_samples_of_one_problem_do_not_count_as_independent() -> None:
    """Every problem all-or-nothing: 16 samples say no more than one."""
    correct = np.repeat(np.arange(50)[:, None] < 20, 16, axis=1)
    estimate = mean_interval(correct)
    assert estimate.high - estimate.low >= np.diff(wilson(0.4, 50))[0]


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (30, 1), (30, 16), (1, 4)])
def test_all_alike_is_never_an_interval_of_zero_width(n: int, k: int, value: bool) -> None:
    correct = np.full((n, k), value)
    for estimate in (mean_interval(correct), bootstrap_interval(correct, resamples=100)):
        assert estimate.mean == float(value)
        assert estimate.low <= estimate.mean <= estimate.high
        assert estimate.high - estimate.low >= min(0.11, 3.84 / (n + 3.84))


def test_rare_all_or_nothing_problems_behind_a_single_hit_are_still_covered() -> None:
    """Five percent of problems always solved, the rest 1 in 100: a lone hit must not be taken for
    proof of independence.
    """
    random = np.random.default_rng(11)
    estimates = [
        mean_interval(draw(random, np.where(random.random(30) < 0.05, 1.0, 0.01), 16))
        for _ in range(500)
    ]
    assert np.mean([e.low <= 0.05 + 0.95 * 0.01 <= e.high for e in estimates]) >= 0.93


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 30, 200])
@pytest.mark.parametrize("k", [2, 4, 64])
def test_several_samples_never_give_a_wider_interval_than_one(n: int, k: int) -> None:
    """All right, all wrong, all-or-nothing problems, and anything between: Wilson's interval of n
    trials with the same mean is as wide as it gets.
    """
    random = np.random.default_rng(19)
    sheets = [np.full((n, k), value) for value in (False, True)]
    for hits in {1, n // 2, max(1, n - 1)}:
        all_or_nothing = np.repeat(np.arange(n)[:, None] < hits, k, axis=1)
        one_slip = np.ones((n, k), dtype=bool)
        one_slip[0, 0] = False
        sheets += [all_or_nothing, one_slip, draw(random, random.beta(0.3, 0.3, n), k)]
    for correct in sheets:
        estimate = mean_interval(correct)
        low, high = wilson(estimate.mean, n)
        assert low <= estimate.low <= estimate.mean <= estimate.high <= high
    for value in (False, True):
        one, several = (mean_interval(np.full((n, samples), value)) for samples in (1, k))
        assert (several.low, several.high) == pytest.approx((one.low, one.high), abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 10, 30])
@pytest.mark.parametrize("k", [2, 16])
def test_several_samples_never_give_a_wider_difference_than_all_or_nothing_ones(
    n: int, k: int
) -> None:
    """The same samples k times over: Tango's interval of single samples is as wide as it gets."""
    random = np.random.default_rng(23)
    for _ in range(20):
        ours, theirs = random.random((2, n, 1)) < random.choice([0.0, 0.2, 0.8])
        once = paired_difference(ours, theirs)
        repeated = paired_difference(np.repeat(ours, k, axis=1), np.repeat(theirs, k, axis=1))
        assert repeated.p_value == pytest.approx(once.p_value)
        assert once.low - 1e-12 <= repeated.low <= repeated.high <= once.high + 1e-12


def test_empty_and_flat_arrays_are_refused() -> None:
    for shape in ((0, 4), (3, 0), (5,)):
        with pytest.raises(ValueError, match="problems, samples"):
            mean_interval(np.zeros(shape, dtype=bool))


# ---- two models


def flip_by_hand(differences: list[int]) -> float:
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(value >= observed for value in sums) / len(sums)


@pytest.mark.parametrize(
    "differences",
    [
        [1],
        [1, 1, -1],
        [3, -1, 2, 2, 0, 1],
        [4, 4, 4, -4, 1, 0, 0],
        [2, -2],
        [5, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    ],
)
def test_sign_flip_equals_all_sign_flips_by_hand(differences: list[int]) -> None:
    assert sign_flip_p_value(np.array(differences)) == pytest.approx(flip_by_hand(differences))


def test_sign_flip_of_single_samples_is_exact_mcnemar() -> None:
    differences = np.array([1] * 24 + [-1] * 9 + [0] * 267)
    assert sign_flip_p_value(differences) == pytest.approx(stats.binomtest(24, 33).pvalue)


def test_no_difference_at_all_has_p_one() -> None:
    assert sign_flip_p_value(np.zeros(40, dtype=np.int64)) == 1.0


def test_sign_flip_is_fast_and_finite_for_many_problems() -> None:
    differences = np.random.default_rng(0).integers(-16, 17, 20_000)
    assert 0.0 <= sign_flip_p_value(differences) <= 1.0


def test_tango_bounds_are_where_the_score_meets_the_quantile() -> None:
    """The bounds of a table with 12 and 2 discordant of 44 solve Tango's equation, written out
    again here.
    """
    low, high = tango_interval(12, 2, 44)

    def score(gap: float) -> float:
        b, c, n = 12, 2, 44
        middle = (2 * n - b + c) * gap - b - c
        loss = (math.sqrt(middle**2 + 8 * n * c * gap * (1 - gap)) - middle) / (4 * n)
        return (b - c - n * gap) / math.sqrt(n * (2 * loss + gap * (1 - gap)))

    assert (score(low), score(high)) == pytest.approx((1.959964, -1.959964), abs=1e-5)


def test_tango_without_discordant_problems_is_z_square_over_n_plus_z_square() -> None:
    assert tango_interval(0, 0, 300) == pytest.approx(
        (-3.8415 / 303.8415, 3.8415 / 303.8415), abs=1e-6
    )


def test_tango_of_total_disagreement_stays_inside_the_possible() -> None:
    low, high = tango_interval(30, 0, 30)
    assert 0.7 < low < 1.0 and high == pytest.approx(1.0)
    assert tango_interval(0, 30, 30) == pytest.approx((-high, -low))


def test_shrunken_t_interval_is_agresti_and_mins_with_t_for_z() -> None:
    differences = np.array([1.0] * 12 + [-1.0] * 2 + [0.0] * 30)
    n, b, c = 46.0, 12.5, 2.5
    half = stats.t.ppf(0.975, 43) * math.sqrt((b + c) - (b - c) ** 2 / n) / n
    assert shrunken_t_interval(differences) == pytest.approx(
        ((b - c) / n - half, (b - c) / n + half)
    )


def test_the_end_on_the_long_side_is_the_second_order_term_of_the_bootstrap_t() -> None:
    """Written out once more, with scipy's skewness of the differences and pseudo-problems: two
    large gains among 30. Mirrored differences give the mirrored interval.
    """
    differences = np.array([1.0, 0.5] + [1 / 16, -1 / 16] * 4 + [0.0] * 20)
    size = math.sqrt((1 + 0.25 + 8 / 256 + 2 / 3) / (10 + 2 / 3))
    # Half of the two pseudo-problems is 0, a quarter each is won and lost.
    fourfold = np.repeat(differences, 4)
    padded = np.concatenate([fourfold, [size, size, -size, -size], np.zeros(4)])
    skewness, t = float(stats.skew(padded)), float(stats.t.ppf(0.975, 29))
    error = float(padded.std()) / math.sqrt(32)
    mean = float(padded.mean())
    low, high = skewed_t_interval(differences)
    assert low == pytest.approx(mean - t * error)
    assert high == pytest.approx(
        mean + error * (t + skewness * (2 * t * t + 1) / (6 * math.sqrt(32)))
    )
    assert skewed_t_interval(-differences) == pytest.approx((-high, -low))


def counted(only_ours: Sequence[int], n: int, k: int) -> PairedEstimate:
    """So many samples more right of the first problems, none of the others."""
    differences = np.zeros(n, dtype=np.int64)
    differences[: len(only_ours)] = only_ours
    ours, theirs = np.maximum(differences, 0), np.maximum(-differences, 0)
    samples = np.arange(k)
    return paired_difference(samples < ours[:, None], samples < theirs[:, None])


def test_eight_problems_up_and_none_down_is_better() -> None:
    """2.9 points on 30 × 64, exact p = 2/2⁸: an interval that reaches below 0 would be no interval
    of this test.
    """
    gap = counted([9, 8, 7, 7, 6, 7, 6, 6], 30, 64)
    assert gap.mean == pytest.approx(0.0292, abs=1e-4) and gap.p_value == pytest.approx(1 / 128)
    assert verdict_word(gap) == "better" and 0 < gap.low < gap.mean < gap.high < 0.06


@pytest.mark.parametrize("k", [1, 4])
def test_five_problems_up_and_none_down_are_tied_and_so_is_the_interval(k: int) -> None:
    """p = 2/2⁵. Tango's score alone would leave 0 out."""
    gap = counted([k] * 5, 30, k)
    assert gap.p_value == pytest.approx(1 / 16) and verdict_word(gap) == "tied"
    assert gap.low <= 0 < gap.high


@pytest.mark.parametrize(("k", "m"), [(1, 1), (4, 4), (64, 64), (4, 6)])
@pytest.mark.parametrize("n", [1, 6, 10, 30, 300])
def test_interval_and_exact_test_never_disagree_about_zero(n: int, k: int, m: int) -> None:
    random = np.random.default_rng(29)
    rejected = 0
    for _ in range(150):
        theirs = random.beta(0.1, 1, n)
        ours = np.minimum(1, theirs * random.choice([1, 2, 3]))
        if random.random() < 0.5:
            ours, theirs = theirs, ours
        gap = paired_difference(draw(random, ours, k), draw(random, theirs, m))
        is_rejected = gap.p_value <= 0.05
        assert is_rejected == (not gap.low <= 0 <= gap.high)
        assert (verdict_word(gap) != "tied") == is_rejected
        assert -1 <= gap.low <= gap.mean <= gap.high <= 1
        rejected += is_rejected
    assert n < 30 or k == 1 or rejected > 10


def test_the_near_end_is_zero_at_the_level_and_close_to_the_mean_far_below_it() -> None:
    low, high = agreeing_interval(0.1, -0.05, 0.25, 0.05 - 1e-12)
    assert 0 < low < 1e-6 and high == 0.25
    assert agreeing_interval(0.1, 0.02, 0.25, 0.051) == (0.0, 0.25)
    assert agreeing_interval(-0.1, -0.25, 0.05, 0.01)[1] == pytest.approx(
        -0.1 * (1 - stats.norm.ppf(0.975) / stats.norm.ppf(0.995))
    )
    # An interval that is farther from 0 than the test-based limit is left alone.
    assert agreeing_interval(0.9, 0.8, 0.95, 1e-12) == (0.8, 0.95)


def test_the_exact_test_equals_scipys_permutation_test() -> None:
    differences = np.array([3, -1, 2, 2, 0, 1, 4, -2, 1])
    found = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_p_value(differences) == pytest.approx(found.pvalue)


HARD_CELLS = [
    # Rates of the baseline and the factor of the odds that makes 3.3 points on average.
    ((0.1, 1.0), 2.0038),
    ((0.03, 1.0), 6.1359),
    ((0.3, 0.7), 1.3614),
]


@pytest.mark.parametrize(("shape", "factor"), HARD_CELLS)
def test_hard_sets_are_covered_and_a_gain_on_them_is_seen(
    shape: tuple[float, float], factor: float
) -> None:
    """30 × 64; all cells and sizes: tests/perf/bench_intervals.py. Agresti-Min's t covered 98 to 99
    % of these and saw half of what its test saw.
    """
    random = np.random.default_rng(31)
    gaps: list[PairedEstimate] = []
    for _ in range(1000):
        theirs = random.beta(*shape, 30)
        ours = factor * theirs / (1 - theirs + factor * theirs)
        gaps.append(paired_difference(draw(random, ours, 64), draw(random, theirs, 64)))
    covered = np.mean([gap.low <= 0.033 <= gap.high for gap in gaps])
    assert 0.94 - 0.01 <= covered <= 0.98 + 0.01  # 1000 draws: ± 1 point and a half
    better = np.mean([verdict_word(gap) == "better" for gap in gaps])
    assert better == np.mean([gap.p_value <= 0.05 and gap.mean > 0 for gap in gaps])


def test_a_gain_from_a_few_problems_that_become_certain_is_covered_in_nine_of_ten() -> None:
    random = np.random.default_rng(37)
    covered = 0
    for _ in range(1000):
        theirs = random.beta(0.2, 1, 30)
        ours = np.where(random.random(30) < 0.1, 1.0, theirs)
        gap = paired_difference(draw(random, ours, 16), draw(random, theirs, 16))
        covered += gap.low <= 0.1 / 1.2 <= gap.high
    assert covered >= 900


PAIRS: dict[
    str,
    tuple[
        Callable[[np.random.Generator, int], tuple[NDArray[np.float64], NDArray[np.float64]]], float
    ],
] = {
    "same model": (lambda random, n: (lambda rates: (rates, rates))(random.beta(2, 2, n)), 0.0),
    "equal on average": (
        lambda random, n: (random.beta(0.3, 0.3, n), random.beta(0.3, 0.3, n)),
        0.0,
    ),
    "ten points apart": (
        lambda random, n: (lambda rates: (rates + 0.1, rates))(0.9 * random.beta(2, 2, n)),
        0.1,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("k", "m"), [(1, 1), (4, 4), (16, 16), (16, 4), (1, 4)])
@pytest.mark.parametrize("n", [30, 500])
def test_paired_interval_covers_and_the_test_rejects_no_true_null(
    n: int, k: int, m: int, name: str
) -> None:
    pair, gap = PAIRS[name]
    random = np.random.default_rng(13)
    drawn = [pair(random, n) for _ in range(500)]
    estimates = [
        paired_difference(draw(random, ours, k), draw(random, theirs, m)) for ours, theirs in drawn
    ]
    assert 0.925 <= np.mean([e.low <= gap <= e.high for e in estimates]) <= 0.99
    if gap == 0:
        assert (
            np.mean([e.p_value <= 0.05 for e in estimates]) <= 0.07
        )  # 5 % and two standard errors of 500 draws
        assert np.mean([verdict_word(e) != "tied" for e in estimates]) <= 0.07


@pytest.mark.parametrize("k", [1, 4])
def test_identical_answers_are_tied_with_an_interval_around_zero(k: int) -> None:
    correct = np.tile([[True], [False], [True]], (10, k))
    gap = paired_difference(correct, correct)
    assert gap.mean == 0 and gap.low < 0 < gap.high and gap.p_value == 1.0
    assert verdict_word(gap) == "tied"


@pytest.mark.parametrize("k", [1, 8])
def test_winning_everywhere_is_better_with_room_for_doubt(k: int) -> None:
    gap = paired_difference(np.ones((40, k), dtype=bool), np.zeros((40, k), dtype=bool))
    assert gap.mean == 1.0 and 0.7 < gap.low < 1.0
    assert verdict_word(gap) == "better"
    assert (
        verdict_word(paired_difference(np.zeros((40, k), dtype=bool), np.ones((40, k), dtype=bool)))
        == "worse"
    )


def test_three_problems_more_of_thirty_are_tied() -> None:
    ours, theirs = np.arange(30)[:, None] < 14, np.arange(30)[:, None] < 11
    assert verdict_word(paired_difference(ours, theirs)) == "tied"


def test_sample_counts_may_differ_between_the_two() -> None:
    ours, theirs = (
        np.array([[1, 0, 1, 1], [0, 0, 0, 1]], dtype=bool),
        np.array([[1, 0, 0], [0, 1, 1]], dtype=bool),
    )
    gap = paired_difference(ours, theirs)
    assert gap.mean == pytest.approx((3 / 4 - 1 / 3 + 1 / 4 - 2 / 3) / 2)
    assert gap.k == 3
    with pytest.raises(ValueError, match="not the same problems"):
        paired_difference(ours, theirs[:1])


def test_one_problem_says_next_to_nothing() -> None:
    gap = paired_difference(np.ones((1, 4), dtype=bool), np.zeros((1, 4), dtype=bool))
    assert gap.low <= 0 and verdict_word(gap) == "tied"


def test_the_same_seed_gives_the_same_bootstrap() -> None:
    correct = draw(np.random.default_rng(1), np.linspace(0, 1, 50), 4)
    assert bootstrap_interval(correct, seed=4) == bootstrap_interval(correct, seed=4)
