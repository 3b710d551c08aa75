"""Several tests, prompts and benchmarks at once: hand values, brute force, and false alarms counted
under the null.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from reasondistill.statistics import (
    exchangeable_p_value,
    holm,
    paired_difference,
    pooled_difference,
    sign_flip_p_value,
    variant_spread,
    verdict_word,
)

# ---- holm


def test_holm_by_hand() -> None:
    """4 · 0.005, 3 · 0.01, 2 · 0.03, and 1 · 0.04 lifted to its smaller neighbour's 0.06: the
    example of textbooks.
    """
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_is_clipped_keeps_the_order_and_leaves_one_alone() -> None:
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([0.04]) == pytest.approx([0.04])
    assert holm([]).size == 0
    p_values = np.random.default_rng(0).random(40) ** 3
    adjusted = holm(p_values)
    assert np.all(adjusted >= p_values) and np.all(np.diff(adjusted[np.argsort(p_values)]) >= 0)


def test_holm_rejects_as_the_step_down_procedure_does() -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        p_values = np.round(random.random(6) ** 2 * 0.1, 4)
        rejected = np.zeros(6, dtype=bool)
        for step, place in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[place] > 0.05 / (6 - step):
                break
            rejected[place] = True
        assert np.array_equal(holm(p_values) <= 0.05, rejected)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_holm_refuses_what_is_no_p_value(bad: float) -> None:
    with pytest.raises(ValueError, match="p-values"):
        holm([0.5, bad])


# ---- prompts


def spread_by_hand(hits: list[list[int]]) -> float:
    """Share of all shuffles within problems whose spread is at least the one seen."""
    observed = np.ptp(np.sum(hits, axis=0))
    shuffles = itertools.product(*(itertools.permutations(row) for row in hits))
    return float(np.mean([np.ptp(np.sum(shuffle, axis=0)) >= observed for shuffle in shuffles]))


@pytest.mark.parametrize(
    "hits",
    [
        [[4, 1, 0], [3, 3, 1], [2, 0, 0], [4, 4, 4]],
        [[1, 0], [1, 0], [1, 0], [0, 1]],
        [[4, 2, 1], [4, 0, 1]],
    ],
)
def test_shuffles_within_problems_equal_all_of_them_by_hand(hits: list[list[int]]) -> None:
    assert exchangeable_p_value(np.array(hits), 0, permutations=40_000) == pytest.approx(
        spread_by_hand(hits), abs=0.01
    )


def test_equal_variants_have_p_one_and_no_spread() -> None:
    spread = variant_spread(np.tile([[3], [0], [4]], (10, 5)), samples=4)
    assert (spread.spread, spread.p_value) == (0, 1.0)


def test_the_spread_names_the_lowest_and_the_highest_variant() -> None:
    spread = variant_spread(np.array([[2, 4, 0, 2], [2, 3, 1, 2]]), samples=4)
    assert (spread.low_variant, spread.high_variant) == (2, 1)
    assert (spread.low, spread.high, spread.spread) == pytest.approx((1 / 8, 7 / 8, 6 / 8))
    assert (spread.n, spread.k, spread.variants) == (2, 4, 4)


def test_wording_that_does_not_matter_rarely_alarms() -> None:
    """Problems from hopeless to sure, five prompts, four samples: at most 5 % of the p-values are
    at most 0.05.
    """
    random = np.random.default_rng(5)
    found = [
        exchangeable_p_value(
            random.binomial(4, np.repeat(random.beta(0.5, 0.5, (40, 1)), 5, axis=1)),
            seed,
            permutations=400,
        )
        for seed in range(500)
    ]
    assert np.mean(np.array(found) <= 0.05) <= 0.07  # 5 % and two standard errors of 500 draws
    assert 0.4 < np.mean(found) < 0.62


def test_one_prompt_that_costs_fifteen_points_is_found() -> None:
    random = np.random.default_rng(6)
    rates = np.repeat(random.uniform(0.2, 0.9, (200, 1)), 5, axis=1) - np.array([0, 0, 0.15, 0, 0])
    spread = variant_spread(random.binomial(4, rates), samples=4)
    assert spread.low_variant == 2 and spread.p_value < 0.001


def test_five_hundred_problems_and_ten_thousand_shuffles_take_seconds() -> None:
    hits = np.random.default_rng(7).integers(0, 5, (500, 5))
    start = time.process_time()
    first = exchangeable_p_value(hits, seed=3)
    assert time.process_time() - start < 10
    assert first == exchangeable_p_value(hits, seed=3)


def test_a_lone_variant_fractions_and_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="two variants"):
        exchangeable_p_value(np.ones((5, 1), dtype=int))
    with pytest.raises(ValueError, match="fractions"):
        exchangeable_p_value(np.full((5, 2), 0.5))
    with pytest.raises(ValueError, match="4 samples"):
        variant_spread(np.full((5, 2), 5), samples=4)


# ---- benchmarks

Pair = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def benchmarks(
    random: np.random.Generator, gaps: dict[int, float], samples: dict[int, int]
) -> list[Pair]:
    """One benchmark per number of problems: rates of U shape, ours higher by the gap, samples as
    given.
    """
    pairs: list[Pair] = []
    for n, gap in gaps.items():
        theirs = random.beta(0.5, 0.8, n) * (1 - abs(gap))
        rates = (theirs + gap, theirs)
        pairs.append(tuple(random.random((n, samples[n])) < rate[:, None] for rate in rates))  # pyright: ignore
    return pairs


def test_the_two_means_weigh_problems_and_benchmarks() -> None:
    first = (np.array([[1], [1], [0], [1]], dtype=bool), np.zeros((4, 1), dtype=bool))
    second = (np.zeros((2, 2), dtype=bool), np.array([[1, 0], [0, 0]], dtype=bool))
    pooled = pooled_difference([first, second])
    assert pooled.by_problem.mean == pytest.approx((3 - 0.5) / 6)
    assert pooled.by_benchmark.mean == pytest.approx((3 / 4 - 1 / 4) / 2)
    assert (pooled.by_problem.n, pooled.by_problem.k) == (6, 1)


def test_flips_of_weighted_problems_equal_all_flips_by_hand() -> None:
    random = np.random.default_rng(2)
    pairs: list[Pair] = [
        (random.random((n, k)) < 0.7, random.random((n, k)) < 0.4)
        for n, k in ((4, 2), (3, 1), (5, 3))
    ]
    parts = [ours.mean(axis=1) - theirs.mean(axis=1) for ours, theirs in pairs]
    pooled = pooled_difference(pairs)
    for found, weights in (
        (pooled.by_problem, [1 / 12] * 3),
        (pooled.by_benchmark, [1 / (3 * part.size) for part in parts]),
    ):
        weighted = np.concatenate(
            [part * weight for part, weight in zip(parts, weights, strict=True)]
        )
        sums = np.array(list(itertools.product((1, -1), repeat=weighted.size))) @ weighted
        assert found.mean == pytest.approx(weighted.sum())
        assert found.p_value == pytest.approx(np.mean(np.abs(sums) >= abs(weighted.sum()) - 1e-9))


def test_drawn_flips_agree_with_exact_ones() -> None:
    pairs = benchmarks(np.random.default_rng(3), {30: 0.04, 40: 0.04}, {30: 16, 40: 4})
    exact = pooled_difference(pairs)
    drawn = pooled_difference(pairs, seed=1, exact_up_to=0)
    assert "exact" in exact.by_benchmark.method and "draws" in drawn.by_benchmark.method
    assert drawn.by_problem.p_value == pytest.approx(exact.by_problem.p_value, abs=0.01)
    assert drawn.by_benchmark.p_value == pytest.approx(exact.by_benchmark.p_value, abs=0.01)
    assert drawn == pooled_difference(pairs, seed=1, exact_up_to=0)


def test_one_benchmark_alone_is_its_paired_difference() -> None:
    pair = benchmarks(np.random.default_rng(4), {60: 0.1}, {60: 4})[0]
    pooled, alone = pooled_difference([pair]), paired_difference(*pair)
    for found in (pooled.by_problem, pooled.by_benchmark):
        assert (found.mean, found.p_value) == pytest.approx((alone.mean, alone.p_value))
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.002)


@pytest.mark.parametrize("samples", [{30: 1, 40: 1, 60: 1}, {30: 16, 40: 16, 60: 4}])
def test_pooled_intervals_cover_and_reject_no_true_null(samples: dict[int, int]) -> None:
    """Gaps of −5, 0 and +10 points cover their two means; no gap at all alarms in at most 5 % of
    the draws.
    """
    random = np.random.default_rng(8)
    gaps = {30: -0.05, 40: 0.0, 60: 0.1}
    found = [pooled_difference(benchmarks(random, gaps, samples)) for _ in range(300)]
    by_problem, by_benchmark = sum(n * gap for n, gap in gaps.items()) / 130, sum(gaps.values()) / 3
    assert (
        0.92
        <= np.mean([e.by_problem.low <= by_problem <= e.by_problem.high for e in found])
        <= 0.985
    )
    assert (
        0.92
        <= np.mean([e.by_benchmark.low <= by_benchmark <= e.by_benchmark.high for e in found])
        <= 0.985
    )
    null = [
        pooled_difference(benchmarks(random, dict.fromkeys(gaps, 0.0), samples)) for _ in range(300)
    ]
    for one in ([e.by_problem for e in null], [e.by_benchmark for e in null]):
        assert (
            np.mean([e.p_value <= 0.05 for e in one]) <= 0.075
        )  # 5 % and two standard errors of 300 draws


@pytest.mark.parametrize("exact_up_to", [500_000, 0])
def test_pooled_intervals_agree_with_their_tests_about_zero(exact_up_to: int) -> None:
    """On hard problems, exact and drawn."""
    random = np.random.default_rng(12)
    words: set[str] = set()
    for _ in range(20):
        pairs: list[Pair] = []
        for n in (8, 20, 30):
            theirs = random.beta(0.1, 1, n)[:, None]
            ours = np.minimum(1, 1.6 * theirs)
            pairs.append((random.random((n, 16)) < ours, random.random((n, 16)) < theirs))
        pooled = pooled_difference(pairs, exact_up_to=exact_up_to)
        for gap in (pooled.by_problem, pooled.by_benchmark):
            is_rejected = gap.p_value <= 0.05
            assert is_rejected == (not gap.low <= 0 <= gap.high)
            words.add(verdict_word(gap))
    assert "better" in words and "worse" not in words


def test_four_small_benchmarks_together_show_what_each_alone_rarely_does() -> None:
    random = np.random.default_rng(9)
    sizes = (28, 29, 30, 31)
    drawn = [
        benchmarks(random, dict.fromkeys(sizes, 0.08), dict.fromkeys(sizes, 4)) for _ in range(60)
    ]
    alone = np.mean(
        [verdict_word(paired_difference(*pair)) == "better" for pairs in drawn for pair in pairs]
    )
    together = np.mean(
        [verdict_word(pooled_difference(pairs).by_problem) == "better" for pairs in drawn]
    )
    assert alone < 0.5 < 0.75 < together


def test_pooling_identical_answers_is_tied_with_an_interval_around_zero() -> None:
    correct = np.tile([[True], [False]], (15, 1))
    pooled = pooled_difference([(correct, correct), (correct[:4], correct[:4])])
    for found in (pooled.by_problem, pooled.by_benchmark):
        assert found.low < 0 < found.high and found.p_value == 1.0 and verdict_word(found) == "tied"


def test_nothing_to_pool_and_lone_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="no benchmarks"):
        pooled_difference([])
    with pytest.raises(ValueError, match="one problem"):
        pooled_difference([(np.ones((1, 4), dtype=bool), np.ones((1, 4), dtype=bool))])


def test_sums_beyond_64_bits_are_drawn() -> None:
    """Benchmarks with sizes that share no factor have no small common unit."""
    random = np.random.default_rng(10)
    pairs: list[Pair] = [
        (random.random((n, 7)) < 0.5, random.random((n, 11)) < 0.5)
        for n in (997, 991, 983, 977, 971, 967)
    ]
    found = pooled_difference(pairs).by_benchmark
    assert "draws" in found.method and 0 < found.p_value <= 1


def test_exact_flips_of_pooled_single_samples_are_mcnemar_over_all_problems() -> None:
    pairs: list[Pair] = [
        (np.arange(n)[:, None] < n // 2, np.arange(n)[:, None] < n // 3) for n in (30, 50)
    ]
    steps = np.concatenate(
        [ours.astype(int)[:, 0] - theirs.astype(int)[:, 0] for ours, theirs in pairs]
    )
    assert pooled_difference(pairs).by_problem.p_value == pytest.approx(sign_flip_p_value(steps))
