"""Metrics from counts equal brute force over all subsets; a budget cuts what does not fit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from reasondistill.statistics import (
    g_pass_at_k,
    mean_interval,
    mg_pass_at_k,
    pass_at_k,
    within_budget,
)


def over_all_subsets(c: int, n: int, k: int, value: Callable[[int], float]) -> float:
    """Mean of a function of how many are right, over every choice of k of the n samples."""
    found = [value(sum(subset)) for subset in itertools.combinations([1] * c + [0] * (n - c), k)]
    return sum(found) / len(found)


def test_g_pass_equals_the_mean_over_all_subsets() -> None:
    for n in range(1, 8):
        for c, k, tau in itertools.product(
            range(n + 1), range(1, n + 1), (0.0, 0.25, 0.5, 2 / 3, 0.75, 1.0)
        ):
            need = max(1, math.ceil(round(tau * k, 6)))
            brute = over_all_subsets(c, n, k, lambda right, need=need: right >= need)
            assert g_pass_at_k(np.array([c]), n, k, tau)[0] == pytest.approx(brute, abs=1e-12)


def test_mg_pass_equals_the_papers_sum_over_all_subsets() -> None:
    for n in range(2, 8):
        for c, k in itertools.product(range(n + 1), range(2, n + 1)):
            sizes = range(math.ceil(k / 2) + 1, k + 1)
            brute = over_all_subsets(
                c, n, k, lambda right, k=k, sizes=sizes: 2 / k * sum(right >= i for i in sizes)
            )
            assert mg_pass_at_k(np.array([c]), n, k)[0] == pytest.approx(brute, abs=1e-12)


def test_g_pass_by_hand_two_right_of_four() -> None:
    """Of the six pairs one is right twice and one wrong twice."""
    assert g_pass_at_k(np.array([2]), 4, 2, 1.0)[0] == pytest.approx(1 / 6)
    assert g_pass_at_k(np.array([2]), 4, 2, 0.5)[0] == pytest.approx(5 / 6)
    assert mg_pass_at_k(np.array([2]), 4, 2)[0] == pytest.approx(1 / 6)


def test_a_vanishing_tau_is_pass_at_k() -> None:
    correct = np.arange(65)
    for tau in (0.0, 1e-6):
        assert g_pass_at_k(correct, 64, 16, tau) == pytest.approx(
            pass_at_k(correct, 64, 16), abs=1e-12
        )


def test_a_share_that_floats_cannot_hold_asks_for_no_sample_more() -> None:
    assert 0.07 * 100 > 7
    assert g_pass_at_k(np.array([7]), 100, 100, 0.07)[0] == pytest.approx(1.0)


def test_always_right_is_one_for_even_k_and_short_of_one_for_odd_k() -> None:
    assert mg_pass_at_k(np.array([16, 0]), 16, 8) == pytest.approx([1.0, 0.0])
    assert mg_pass_at_k(np.array([16]), 16, 5)[0] == pytest.approx(4 / 5)


def test_thousands_of_samples_neither_overflow_nor_leave_scipys_hypergeometric() -> None:
    correct = np.array([0, 3, 700, 1000, 1999, 2000])
    found = g_pass_at_k(correct, 2000, 1000, 0.5)
    assert found == pytest.approx(stats.hypergeom.sf(499, 2000, correct, 1000), abs=1e-9)
    assert np.all(
        (mg_pass_at_k(correct, 2000, 1000) >= 0) & (mg_pass_at_k(correct, 2000, 1000) <= 1)
    )


def test_the_shape_of_the_counts_is_kept() -> None:
    correct = np.arange(12).reshape(3, 4)
    for found in (
        pass_at_k(correct, 12, 3),
        g_pass_at_k(correct, 12, 3, 0.5),
        mg_pass_at_k(correct, 12, 4),
    ):
        assert found.shape == (3, 4)


def test_impossible_counts_shares_and_subsets_are_refused() -> None:
    with pytest.raises(ValueError, match="G-Pass@5"):
        g_pass_at_k(np.array([1]), 4, 5, 0.5)
    with pytest.raises(ValueError, match="tau"):
        g_pass_at_k(np.array([1]), 4, 2, 1.5)
    with pytest.raises(ValueError, match="k ≥ 2"):
        mg_pass_at_k(np.array([1]), 4, 1)
    for metric in (pass_at_k, mg_pass_at_k):
        with pytest.raises(ValueError, match="there are 4 samples"):
            metric(np.array([0, 5]), 4, 2)


# ---- token budgets


def test_a_budget_counts_what_is_right_and_fits() -> None:
    correct = np.array([[True, True], [False, True]])
    tokens = np.array([[100, 900], [50, 400]])
    points = within_budget(correct, tokens, [40, 100, 400, 1000])
    assert [point.accuracy.mean for point in points] == [0, 0.25, 0.5, 0.75]
    assert [point.finished for point in points] == [0, 0.5, 0.75, 1]
    assert [point.budget for point in points] == [40, 100, 400, 1000]


def test_a_budget_that_holds_everything_changes_nothing() -> None:
    random = np.random.default_rng(0)
    correct, tokens = random.random((40, 4)) < 0.4, random.integers(1, 5000, (40, 4))
    assert within_budget(correct, tokens, [5000])[0].accuracy == mean_interval(correct)


def test_a_seeded_sampler_cut_short_is_what_the_budget_says() -> None:
    """Samples as prefixes: the answer counts once the last token is out, with whatever limit it is
    run.
    """
    random = np.random.default_rng(1)
    lengths, right = random.integers(1, 200, (30, 8)), random.random((30, 8)) < 0.6

    def run(limit: int) -> float:
        return float(
            np.mean(
                [
                    length <= limit and ok
                    for length, ok in zip(lengths.ravel(), right.ravel(), strict=True)
                ]
            )
        )

    long_run = right & (lengths <= 150)
    points = within_budget(long_run, np.minimum(lengths, 150), [20, 80, 149, 150])
    assert [point.accuracy.mean for point in points] == pytest.approx(
        [run(20), run(80), run(149), run(150)]
    )


def test_tokens_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="same"):
        within_budget(np.ones((2, 3), dtype=bool), np.ones((2, 2)), [10])
