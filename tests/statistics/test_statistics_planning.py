"""What the formula of power promises is what our interval and test do to simulated experiments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from reasondistill.statistics import (
    Population,
    difference_variance,
    estimate_population,
    needed_problems,
    needed_samples,
    power,
    simulate_power,
    smallest_effect,
)

CELLS = [
    (30, 1, 0.15, Population()),
    (30, 4, 0.1, Population()),
    (30, 16, 0.1, Population()),
    (100, 1, 0.1, Population()),
    (100, 4, 0.06, Population(0.5, 0.3, 0.5)),
    (200, 8, 0.03, Population()),
    (300, 4, 0.06, Population(0.15, 0.8, 0.6)),
    (60, 64, 0.06, Population()),
    (500, 1, 0.03, Population(0.8, 0.5, 0.9)),
]


@pytest.mark.parametrize(("n", "k", "effect", "population"), CELLS)
def test_the_formula_agrees_with_our_own_test_on_simulated_experiments(
    n: int, k: int, effect: float, population: Population
) -> None:
    simulated = simulate_power(n, k, effect, population, runs=800, seed=2)
    assert power(n, k, effect, population) == pytest.approx(simulated, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 4, 16])
@pytest.mark.parametrize("n", [30, 100])
@pytest.mark.parametrize(
    "population",
    [
        Population(),
        Population(0.5, 0.3, 0.5),
        Population(0.8, 0.5, 0.9),
        Population(0.15, 0.8, 0.6),
    ],
)
def test_the_formula_agrees_in_other_populations(n: int, k: int, population: Population) -> None:
    for effect in (0.06, 0.15):
        simulated = simulate_power(n, k, effect, population, runs=1500, seed=3)
        assert power(n, k, effect, population) == pytest.approx(
            simulated, abs=0.055
        )  # 4 points and one standard error


def test_variance_by_hand() -> None:
    """base 0.5, no effect: 0.25 each, of which 0.2 · 0.25 is between problems and half of it
    shared.
    """
    population = Population(0.5, rho=0.2, alike=0.5)
    assert difference_variance(4, 0.0, population) == pytest.approx(
        2 * 0.05 - 2 * 0.5 * 0.05 + (0.2 + 0.2) / 4
    )
    assert difference_variance(math.inf, 0.0, population) == pytest.approx(0.05)


def test_one_sample_is_mcnemar_summed_by_hand() -> None:
    population, n, effect = Population(0.4, 0.5, 0.6), 12, 0.3
    both = 0.7 * 0.4 + 0.6 * 0.5 * math.sqrt(0.21 * 0.24)  # E[pq]
    ours, theirs = 0.7 - both, 0.4 - both
    by_hand = sum(
        float(stats.multinomial.pmf([b, c, n - b - c], n, [ours, theirs, 1 - ours - theirs]))
        for b in range(n + 1)
        for c in range(n + 1 - b)
        if b + c and stats.binomtest(b, b + c).pvalue <= 0.05
    )
    assert power(n, 1, effect, population) == pytest.approx(by_hand)


@pytest.mark.parametrize("k", [1, 4, 64])
def test_no_effect_is_shown_in_at_most_five_percent(k: int) -> None:
    assert power(100, k, 0.0) <= 0.0505


def test_more_problems_samples_and_effect_show_more() -> None:
    for values in (
        [power(n, 4, 0.05) for n in (30, 60, 120, 500, 5000)],
        [power(100, k, 0.05) for k in (1, 4, 16, 64, math.inf)],
        [power(100, 4, effect) for effect in (0.01, 0.03, 0.1, 0.3, 0.6)],
    ):
        assert all(a < b or b > 0.999 for a, b in zip(values, values[1:], strict=False))


def test_thirty_problems_cannot_show_three_points_with_any_number_of_samples() -> None:
    assert needed_samples(0.03, 30) is None
    assert power(30, math.inf, 0.03) < 0.2
    assert (smallest_effect(30, 10**6) or 0) > 0.1


def test_what_is_needed_is_enough_and_one_less_is_not() -> None:
    problems, samples, effect = (
        needed_problems(0.05, 4),
        needed_samples(0.1, 100),
        smallest_effect(100, 4),
    )
    assert problems and samples and effect
    assert power(problems, 4, 0.05) >= 0.8 > power(problems - 1, 4, 0.05)
    assert power(100, samples, 0.1) >= 0.8 > power(100, samples - 1, 0.1)
    assert power(100, 4, effect) >= 0.8 > power(100, 4, effect - 1e-4)


def test_an_effect_that_cannot_be_shown_is_none() -> None:
    assert needed_problems(0.0, 4) is None
    assert smallest_effect(3, 1) is None


# ---- estimating


@pytest.mark.parametrize("truth", [Population(0.3, 0.6, 0.8), Population(0.6, 0.2, 0.3)])
def test_the_population_behind_a_run_is_found_again(truth: Population) -> None:
    found = [estimate_population(*sheets(truth, 400, 8, 6, seed)) for seed in range(20)]
    for name in ("base", "rho", "alike"):
        assert np.mean([getattr(one, name) for one in found]) == pytest.approx(
            getattr(truth, name), abs=0.03
        )


def sheets(truth: Population, n: int, k: int, m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rates that share a Beta draw with probability `alike` are correlated by it and have the same
    distribution.
    """
    random = np.random.default_rng(seed)
    size = 1 / truth.rho - 1
    first, second = random.beta(truth.base * size, (1 - truth.base) * size, (2, n))
    theirs = np.where(random.random(n) < truth.alike, first, second)
    return random.random((n, k)) < first[:, None], random.random((n, m)) < theirs[:, None]


def test_single_samples_leave_it_open_and_promise_nothing_from_more_of_them() -> None:
    ours, theirs = sheets(Population(), 300, 1, 1, 0)
    found = estimate_population(ours, theirs)
    assert found.rho == 1 and not found.within_known
    assert power(300, 64, 0.05, found) <= power(300, 64, 0.05)
    gap = float(ours.mean() - theirs.mean())
    seen = np.var(ours.astype(float) - theirs.astype(float), ddof=1)
    assert difference_variance(1, gap, found) == pytest.approx(seen, rel=0.01)
    assert difference_variance(64, gap, found) == difference_variance(1, gap, found)


def test_one_sheet_of_several_samples_is_enough_to_tell_rates_from_noise() -> None:
    found = estimate_population(*sheets(Population(), 2000, 8, 1, 1))
    assert found.within_known and found.rho == pytest.approx(0.6, abs=0.04)


def test_nothing_solved_is_still_a_population() -> None:
    nothing = np.zeros((30, 4), dtype=bool)
    found = estimate_population(nothing, nothing)
    assert 0 < found.base < 0.05 and not found.within_known
    assert 0 <= power(30, 4, 0.1, found) <= 1


def test_impossible_populations_effects_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="base"):
        Population(base=1.0)
    with pytest.raises(ValueError, match="leaves"):
        power(30, 4, 0.8)
    with pytest.raises(ValueError, match="k ≥ 1"):
        power(30, 0, 0.1)
    with pytest.raises(ValueError, match="two problems"):
        power(1, 4, 0.1)
    with pytest.raises(ValueError, match="same two"):
        estimate_population(np.ones((4, 2)), np.ones((5, 2)))
