"""How many problems and samples it takes to show a difference, before any GPU hour is spent on
them.

    # chance that 30 problems × 16 samples show +3 points
    power(30, 16, 0.03)
    needed_problems(0.03, k=16)                       # problems that show it in 80 % of all runs
    # None: no number of samples makes up for 30 problems
    needed_samples(0.03, n=30)
    smallest_effect(30, 16)                           # what 30 × 16 can show
    # from a past run: two sheets (problems, samples)
    population = estimate_population(ours, theirs)

"Show" is what this package calls it: `verdict_word(paired_difference(…))` is not `tied`, two-sided
at 5 %.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasondistill.statistics.basics import LEVEL, Floats, hits_of, shape_of
from reasondistill.statistics.paired import paired_difference, verdict_word

_MOST_PROBLEMS = 10_000_000
_MOST_SAMPLES = 1_000_000


@dataclass(frozen=True)
class Population:
    """Two models on one population of problems. Model i solves problem j with its own rate; samples
    are draws with that rate.

    * `base`: the baseline's mean rate; the other model's is `base + effect`.
    * `rho`: the variance of a model's rates over problems, as a share of base (1 − base): also the
      correlation of two samples of one problem. 0: all problems equally hard; 1: each is always or
      never solved, and more samples tell nothing.
    * `alike`: correlation of the two models' rates over problems.
    * `within_known`: False where the data could not tell rho apart from sampling noise and it was
      set to 1 (see `estimate_population`).

    The defaults are a reasonable guess and not a measurement: a small reasoning model on a
    competition (30 % of AIME), problems that are mostly almost always or almost never solved (Beta
    rates with rho = 0.6 have pass@64 = 69 %), and a baseline of the same kind, often the same base
    model, that finds hard what the other one does. Estimate your own as soon as there is a run to
    do so.
    """

    base: float = 0.3
    rho: float = 0.6
    alike: float = 0.8
    within_known: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.base < 1 and 0 <= self.rho <= 1 and -1 <= self.alike <= 1):
            raise ValueError(f"want 0 < base < 1, 0 ≤ rho ≤ 1, −1 ≤ alike ≤ 1, found {self}")


def difference_variance(k: float, effect: float, population: Population = Population()) -> float:
    """Variance over problems of the difference of the two models' means of k samples; divided by n,
    that of the mean difference.

    Var(p − q) + (E[p(1 − p)] + E[q(1 − q)]) / k: Miller 2024 (arXiv 2411.00640), section 3. `k` may
    be infinite. Raises ValueError for k < 1 and for an effect that takes the mean rate out of [0,
    1].
    """
    if k < 1:
        raise ValueError(f"want k ≥ 1 samples, found {k}")
    ours, theirs, covariance = mean_moments(effect, population)
    rho = population.rho
    total = ours + theirs
    between = max(0.0, rho * total - 2 * covariance)
    return between + (1 - rho) * total / k


def mean_moments(effect: float, population: Population) -> tuple[float, float, float]:
    """mean · (1 − mean) of ours and of theirs, and the covariance of the two rates."""
    base = population.base
    if not 0 <= base + effect <= 1:
        raise ValueError(f"an effect of {effect:+g} on a base of {base:g} leaves [0, 1]")
    # Of a base and an effect that add up to 1 the difference may be −1e-17.
    ours = max(0.0, (base + effect) * (1 - base - effect))
    theirs = base * (1 - base)
    covariance = population.alike * population.rho * math.sqrt(ours * theirs)
    return ours, theirs, covariance


def power(
    n: int, k: float, effect: float, population: Population = Population(), *, level: float = LEVEL
) -> float:
    """Chance that `n` problems × `k` samples of both models show a difference whose true size is
    `effect`, either way.

    k = 1: exact McNemar, summed over the possible numbers of discordant problems. k > 1 (may be
    infinite): the sign-flip test's statistic Σd / √Σd² is nearly normal, with the mean and variance
    of the delta method at the moments that d has when rates are Beta distributed and tied by a
    Gaussian copula; it has to pass the normal quantile by half a step of its lattice. Agrees with
    `simulate_power` to about 4 points for n ≥ 30 and effects of 3 to 15 points; below n = 30 it is
    a rough guide. Raises ValueError for n < 2, k < 1 and an effect that takes the mean rate out of
    [0, 1].
    """
    if n < 2:
        raise ValueError(f"want at least two problems, found {n}")
    variance = difference_variance(k, effect, population)
    if k == 1:
        return power_of_mcnemar(n, effect, variance, level)
    return power_of_flips(n, k, effect, variance, population, level)


def power_of_mcnemar(n: int, effect: float, variance: float, level: float) -> float:
    """Binomial over the number of discordant problems, binomial over who won them."""
    from scipy import stats

    discordant = min(1.0, variance + effect**2)  # E[d²] of d in {−1, 0, 1}
    only_ours = 0.5
    if discordant > 0:
        only_ours = min(max((1 + effect / discordant) / 2, 0.0), 1.0)
    counts = np.arange(n + 1)
    tail = (1 - level) / 2
    # The least c with P(X ≤ c) ≥ tail: one less where that is more than tail.
    critical = stats.binom.ppf(tail, counts, 0.5)
    is_within = stats.binom.cdf(critical, counts, 0.5) <= tail
    critical = np.where(is_within, critical, critical - 1)
    few_ours = stats.binom.cdf(critical, counts, only_ours)
    few_theirs = stats.binom.cdf(critical, counts, 1 - only_ours)
    rejected = few_ours + few_theirs
    chances = stats.binom.pmf(counts, n, discordant)
    return float(np.clip(chances @ rejected, 0.0, 1.0))


def power_of_flips(
    n: int, k: float, effect: float, variance: float, population: Population, level: float
) -> float:
    """Delta method on Σd / √Σd², in both directions."""
    from scipy import special

    square = variance + effect**2
    if square == 0:
        return 0.0
    skew, kurtosis = shape_of_differences(k, effect, population)
    third = skew * variance**1.5
    fourth = kurtosis * variance**2
    # Cov(d, d²) and Var(d²), from central moments.
    covariance = third + 2 * effect * variance
    square_variance = fourth - variance**2 + 4 * effect * third + 4 * effect**2 * variance
    first_order = variance - effect * covariance / square
    second_order = effect**2 * square_variance / (4 * square**2)
    spread = math.sqrt(max((first_order + second_order) / square, 1e-6))
    # The median, not the mean: what the mean loses to skewness (second order) the statistic's own
    # skewness gives back at its middle.
    mean = effect * math.sqrt(n / square)
    raw_fourth = fourth + 4 * effect * third + 6 * effect**2 * variance + effect**4
    bound = critical_value(n, k, square, raw_fourth / square**2, level)
    above = special.ndtr((mean - bound) / spread)
    below = special.ndtr((-mean - bound) / spread)
    return float(np.clip(above + below, 0.0, 1.0))


def critical_value(n: int, k: float, square: float, tails: float, level: float) -> float:
    """What Σd / √Σd² has to reach for signs that are fair coins; `square` is E[d²], `tails` E[d⁴] /
    E[d²]².

    The normal quantile, less what the lighter tails of such sums take off (Cornish & Fisher 1938;
    their excess kurtosis is −2 Σd⁴ / (Σd²)²), and half a step: the sums lie 2/k apart and the one
    seen counts as extreme.
    """
    from scipy import special

    z = float(special.ndtri((1 + level) / 2))
    light_tails = (z**3 - 3 * z) / 12 * tails / n
    half_step = 1 / k / math.sqrt(n * square)
    return z - light_tails + half_step


def needed_problems(
    effect: float,
    k: float,
    population: Population = Population(),
    *,
    chance: float = 0.8,
    level: float = LEVEL,
) -> int | None:
    """The fewest problems that show `effect` with probability `chance`; None if ten million do not
    (an effect of 0). Errors as `power`.
    """

    def is_enough(n: int) -> bool:
        return power(n, k, effect, population, level=level) >= chance

    most = _MOST_PROBLEMS
    if k <= 1:
        most = 1_000_000
    return _least(is_enough, 2, most)


def needed_samples(
    effect: float,
    n: int,
    population: Population = Population(),
    *,
    chance: float = 0.8,
    level: float = LEVEL,
) -> int | None:
    """The fewest samples of both models that show `effect` on `n` problems; None when no number
    does. Errors as `power`.

    Samples only take away the noise within problems. What problems differ among each other stays,
    and 30 may be too few for ever.
    """
    if power(n, math.inf, effect, population, level=level) < chance:
        return None

    def is_enough(k: int) -> bool:
        return power(n, k, effect, population, level=level) >= chance

    return _least(is_enough, 1, _MOST_SAMPLES)


def smallest_effect(
    n: int,
    k: float,
    population: Population = Population(),
    *,
    chance: float = 0.8,
    level: float = LEVEL,
) -> float | None:
    """The smallest gain over the base that `n` problems × `k` samples show with probability
    `chance`, to a hundredth of a point.

    None where not even reaching 100 % would be shown. Errors as `power`.
    """
    largest = 1 - population.base

    def is_enough(step: int) -> bool:
        effect = min(step / 10_000, largest)
        return power(n, k, effect, population, level=level) >= chance

    step = _least(is_enough, 1, math.floor(largest * 10_000))
    if step is None:
        return None
    return step / 10_000


def _least(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The first number from low to high that is enough: doubling, then halving; None when high is
    not.
    """
    below, step = low - 1, 1
    while not enough(min(below + step, high)):
        if below + step >= high:
            return None
        below, step = below + step, 2 * step
    above = min(below + step, high)
    while above - below > 1:
        middle = (below + above) // 2
        if enough(middle):
            above = middle
        else:
            below = middle
    return above


def estimate_population(ours: NDArray[Any], theirs: NDArray[Any]) -> Population:
    """The population that a past run of two models on the same problems speaks for: moment
    estimates, clipped to what is possible.

    Both (problems, samples), sample counts may differ; `theirs` is the baseline. rho is pooled over
    the sheets with several samples (variance of problem means less its sampling noise); the
    covariance of the two models' rates needs no correction, since their samples are independent.
    With one sample each, rates and noise cannot be told apart: all is taken for difference between
    problems (rho = 1, `within_known` False), which never promises that more samples will help. A
    base of 0 or 1 is moved in by half a problem. Estimates from 30 problems are rough. Raises
    ValueError for less than two problems or two different numbers of them.
    """
    (n, k), (other, m) = shape_of(ours), shape_of(theirs)
    if n != other or n < 2:
        raise ValueError(f"want the same two or more problems, found {n} rows against {other}")
    rates = [hits_of(ours) / k, hits_of(theirs) / m]
    totals = [float(rate.mean() * (1 - rate.mean())) for rate in rates]
    covariance = float(np.cov(rates[0], rates[1])[0, 1])
    several = [(rate, samples) for rate, samples in zip(rates, (k, m), strict=True) if samples > 1]
    within = sum(
        float(np.mean(rate * (1 - rate))) * samples / (samples - 1) for rate, samples in several
    )
    total = sum(float(rate.mean() * (1 - rate.mean())) for rate, _ in several)
    rho = min(max(1 - within / total, 0.0), 1.0) if total > 0 else 1.0
    scale = rho * math.sqrt(totals[0] * totals[1])
    return Population(
        base=min(max(float(rates[1].mean()), 0.5 / n), 1 - 0.5 / n),
        rho=rho,
        alike=min(max(covariance / scale, -1.0), 1.0) if scale > 0 else 0.0,
        within_known=total > 0,
    )


# ---- simulation ----------------------------------------------------------------------------------


def simulate_power(
    n: int,
    k: int,
    effect: float,
    population: Population = Population(),
    *,
    runs: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> float:
    """The same by drawing `runs` such experiments and putting each through `paired_difference` and
    `verdict_word`.

    Rates are Beta distributed with the population's mean and rho, tied by a Gaussian copula whose
    parameter is found so that the *rates* correlate as `alike` says, or as nearly as two Beta
    distributions of different means can.
    """
    random = np.random.default_rng(seed)
    rates = _rates(effect, population)
    shown = 0
    for _ in range(runs):
        sheets = [
            random.random((n, k), dtype=np.float32) < rate[:, None]
            for rate in rates.draw(random, n)
        ]
        shown += (
            verdict_word(paired_difference(sheets[0], sheets[1], level=level), level=level)
            != "tied"
        )
    return shown / runs


@dataclass(frozen=True)
class _Rates:
    """Rates as functions of two normal scores that correlate as `tie`: tables over `normal`."""

    normal: Floats
    ours: Floats
    theirs: Floats
    tie: float

    def draw(self, random: np.random.Generator, n: int) -> tuple[Floats, Floats]:
        return self.at(random.standard_normal(n), random.standard_normal(n))

    def at(self, first: Floats, other: Floats) -> tuple[Floats, Floats]:
        """Rates of ours and theirs at two independent normal scores."""
        second = self.tie * first + math.sqrt(1 - self.tie**2) * other
        return np.interp(first, self.normal, self.ours), np.interp(second, self.normal, self.theirs)


@functools.cache
def _even_steps() -> Floats:
    """Even steps through the normal distribution: their means stand for expectations, a hundred by
    a hundred to 1 in 1,000.
    """
    from scipy import special

    return np.asarray(special.ndtri((np.arange(100) + 0.5) / 100), dtype=np.float64)


@functools.lru_cache(maxsize=256)
def _rates(effect: float, population: Population) -> _Rates:
    """Beta rates whose tie makes them correlate as `alike`; by bisection."""
    normal = np.linspace(-7, 7, 2_801)
    ours = _beta_quantiles(population.base + effect, population.rho, normal)
    theirs = _beta_quantiles(population.base, population.rho, normal)

    points = _even_steps()

    def correlation(tie: float) -> float:
        a, b = _Rates(normal, ours, theirs, tie).at(points[:, None], points[None, :])
        spread = float(np.std(a) * np.std(b))
        if spread <= 0:
            return 0.0
        products = (a - a.mean()) * (b - b.mean())
        return float(np.mean(products)) / spread

    low, high = -1.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if correlation(middle) < population.alike:
            low = middle
        else:
            high = middle
    return _Rates(normal, ours, theirs, (low + high) / 2)


def _beta_quantiles(mean: float, rho: float, normal: Floats) -> Floats:
    """The Beta distribution's value at each normal score; almost all or almost nothing where rho is
    at its end.
    """
    from scipy import special

    rho = min(max(rho, 1e-4), 1 - 1e-4)
    mean = min(max(mean, 1e-9), 1 - 1e-9)
    size = 1 / rho - 1
    quantiles = special.betaincinv(mean * size, (1 - mean) * size, special.ndtr(normal))
    return np.asarray(quantiles, dtype=np.float64)


def shape_of_differences(k: float, effect: float, population: Population) -> tuple[float, float]:
    """Skewness and kurtosis of one problem's difference: that of the rates and of two binomials
    around them.
    """
    points = _even_steps()
    p, q = _rates(effect, population).at(points[:, None], points[None, :])
    gap = p - q - np.mean(p - q)
    # `second` to `fourth`: central moments of the noise, from the variances of one draw of each.
    ours, theirs = p * (1 - p), q * (1 - q)
    second = (ours + theirs) / k
    third = (ours * (1 - 2 * p) - theirs * (1 - 2 * q)) / k**2
    our_excess = ours * (1 - 6 * p * (1 - p))
    their_excess = theirs * (1 - 6 * q * (1 - q))
    fourth = 3 * second**2 + (our_excess + their_excess) / k**3
    variance = float(np.mean(gap**2 + second))
    if variance < 1e-12:
        return 0.0, 3.0
    cubes = gap**3 + 3 * gap * second + third
    fourth_powers = gap**4 + 6 * gap**2 * second + 4 * gap * third + fourth
    skew = float(np.mean(cubes)) / variance**1.5
    kurtosis = float(np.mean(fourth_powers)) / variance**2
    return skew, kurtosis
