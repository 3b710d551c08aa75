"""Means with honest intervals and paired comparisons, for graded samples of `n` problems × `k` samples.

Problems are draws from a population of problems, samples are draws from the model: every interval here counts both
sources. Nothing returns an interval of zero width, and nothing says more than its data can: 0 of 30 is [0, 11 %].

    score = mean_interval(correct)                    # correct: bool (problems, samples)
    gap = paired_difference(ours, baseline)           # same problems, row by row
    print(score.mean, score.low, score.high, gap.p_value, verdict_word(gap))

Everything is deterministic; what draws random numbers takes a seed. What is *not* covered: several comparisons at once
(correct for them outside), and problems that are not independent of each other (templates, translations).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.95

# How many minority outcomes (successes or failures, whichever is fewer) it takes before the samples' own estimate of their
# correlation outweighs the cautious guess that all samples of a problem agree. Measured by simulation, see tests.
_CAUTION = 2.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Word = Literal["better", "worse", "tied"]


@dataclass(frozen=True)
class Estimate:
    """A mean with the bounds of its interval; `n` problems, `k` samples each."""

    mean: float
    low: float
    high: float
    n: int
    k: int
    method: str


class Gap(Protocol):
    """What a verdict needs to know of a difference."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def p_value(self) -> float: ...


@dataclass(frozen=True)
class PairedEstimate:
    """Mean difference of two models over the same problems. `k` is the smaller of the two sample counts."""

    mean: float
    low: float
    high: float
    n: int
    k: int
    p_value: float
    method: str


# ---- pass@k -------------------------------------------------------------------------------------------------------


def pass_at_k(correct: NDArray[Any], n: int, k: int) -> Floats:
    """The unbiased estimate of P(at least one of k samples is correct), for each problem with `correct` of `n` samples.

    1 − C(n−c, k) / C(n, k), Chen et al. 2021 (arXiv 2107.03374), eq. 1. Raises ValueError unless 1 ≤ k ≤ n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs 1 ≤ k ≤ samples = {n}")
    wrong = n - np.asarray(correct, dtype=np.float64)
    draws = np.arange(k, dtype=np.float64)
    # C(n−c, k) / C(n, k) is a product of k ratios: never overflows. A negative factor means fewer than k wrong ones.
    ratios = np.clip((wrong[..., None] - draws) / (n - draws), 0.0, None)
    return 1.0 - np.prod(ratios, axis=-1)


# ---- one model ----------------------------------------------------------------------------------------------------


def wilson(mean: float, n: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval (1927) for a proportion seen in `n` independent trials; `n` may be an effective number."""
    return _score_bounds(mean, n, _normal(level))


def mean_interval(correct: NDArray[Any], *, level: float = LEVEL) -> Estimate:
    """Mean pass@1 of `correct` (problems, samples) with its interval, in closed form.

    k = 1: Wilson. k > 1: Wilson with the effective number of samples nk / (1 + (k − 1)ρ), ρ the correlation of samples of
    one problem (Kish 1965; Korn & Graubard 1998), and Student's t for the uncertainty of ρ. It is the variance over problem
    means, which holds both sources (Miller 2024, arXiv 2411.00640), in a form that stays inside [0, 1].
    """
    n, k = _shape(correct)
    mean = float(np.mean(correct))
    if k == 1:
        low, high = wilson(mean, n, level=level)
        return Estimate(mean, low, high, n, k, "wilson")
    samples = n * k / (1 + (k - 1) * _correlation(correct))
    low, high = _score_bounds(mean, samples, _student(level, n))
    return Estimate(mean, low, high, n, k, "wilson, effective n")


def bootstrap_interval(correct: NDArray[Any], *, seed: int = 0, resamples: int = 10_000, level: float = LEVEL) -> Estimate:
    """The same by hierarchical bootstrap: draw problems, then draw each one's samples anew; percentile interval.

    Observed problem means carry sampling noise already, so drawing from them again would count it twice (Davison & Hinkley
    1997, section 3.8): the rates are first drawn together until mean and variance come out right. All samples alike: Wilson,
    since resampling a constant says nothing.
    """
    n, k = _shape(correct)
    mean = float(np.mean(correct))
    if mean in (0.0, 1.0):
        low, high = wilson(mean, n, level=level)
        return Estimate(mean, low, high, n, k, "wilson")
    hits, problems = np.unique(_hits(correct), return_counts=True)
    rates = _shrunken_rates(hits / k, problems, k)
    random = np.random.default_rng(seed)
    # Problems with equal hits are alike: draw how many of each level, then all their samples at once.
    drawn = random.multinomial(n, problems / n, size=resamples)
    means = random.binomial(drawn * k, rates).sum(axis=1) / (n * k)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(mean, min(float(low), mean), max(float(high), mean), n, k, "hierarchical bootstrap")


def _shrunken_rates(rates: Floats, problems: Ints, k: int) -> Floats:
    """Problem rates moved towards their mean until their spread is that of the true rates, without sampling noise."""
    if k == 1:
        return rates  # one sample: a 0/1 rate redrawn is itself, nothing is counted twice
    n = int(problems.sum())
    mean = float(rates @ problems) / n
    spread = float((rates - mean) ** 2 @ problems) / n
    noise = float(rates * (1 - rates) @ problems) / n / (k - 1)
    between = max(0.0, spread * n / max(1, n - 1) - noise)
    return np.clip(mean + math.sqrt(between / spread if spread > 0 else 0.0) * (rates - mean), 0.0, 1.0)


def _correlation(correct: NDArray[Any]) -> float:
    """Correlation ρ of two samples of one problem, in [0, 1]: the ANOVA estimate, cautious where there is little to see.

    With no success at all ρ is unknown, and 1 (every problem is all or nothing) is the guess that never overstates.
    """
    n, k = _shape(correct)
    rates = np.mean(correct, axis=1)
    mean = float(rates.mean())
    within = float(np.mean(rates * (1 - rates))) * k / (k - 1)
    between = float(np.sum((rates - mean) ** 2)) / max(1, n - 1) - within / k
    total = between + within
    seen = min(max(between / total, 0.0), 1.0) if total > 0 else 1.0
    weight = n * k * min(mean, 1 - mean)
    return (weight * seen + _CAUTION) / (weight + _CAUTION)


# ---- two models ---------------------------------------------------------------------------------------------------


def paired_difference(ours: NDArray[Any], theirs: NDArray[Any], *, level: float = LEVEL) -> PairedEstimate:
    """Mean of `ours − theirs` over the same problems, row by row; both (problems, samples), sample counts may differ.

    One sample each: Tango's score interval and exact McNemar. More: the interval of `shrunken_t_interval` over per-problem
    differences and the exact sign-flip test. Raises ValueError when the problems differ in number.
    """
    (n, k), (other, m) = _shape(ours), _shape(theirs)
    if n != other:
        raise ValueError(f"not the same problems: {n} rows against {other}")
    scale = math.lcm(k, m)
    steps = _hits(ours) * (scale // k) - _hits(theirs) * (scale // m)  # integers: 1 step = 1 / scale
    mean = float(steps.mean()) / scale
    if k == m == 1:
        low, high = tango_interval(int((steps > 0).sum()), int((steps < 0).sum()), n, level=level)
        return PairedEstimate(mean, low, high, n, 1, sign_flip_p_value(steps), "tango; mcnemar exact")
    low, high = shrunken_t_interval(steps / scale, level=level)
    return PairedEstimate(mean, low, high, n, min(k, m), sign_flip_p_value(steps), "agresti-min t; sign flip exact")


def sign_flip_p_value(differences: Ints) -> float:
    """Exact two-sided p-value of the sum of integer differences when each one's sign is a fair coin.

    That is the permutation test of "both models are the same", labels swapped within each problem; with differences in
    {−1, 0, 1} it is exact McNemar (binomial test over the discordant ones). Computed by convolution, not by sampling.
    """
    from scipy import signal  # a second to import, and every process of a run imports us

    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    if sizes.size == 0:
        return 1.0
    null = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        null = signal.convolve(null, _coin_sums(size, count))
    sums = np.arange(null.size) - null.size // 2
    return float(np.clip(null[np.abs(sums) >= abs(int(differences.sum()))].sum(), 0.0, 1.0))


def _coin_sums(size: int, count: int) -> Floats:
    """Probabilities of the sum of `count` fair ±`size` coins, at −count·size … count·size."""
    from scipy import stats

    probabilities = np.zeros(2 * size * count + 1)
    probabilities[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
    return probabilities


def tango_interval(only_ours: int, only_theirs: int, n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Score interval for the difference of paired proportions from the discordant counts: Tango 1998 (Stat Med 17:891).

    Keeps its coverage with few or no discordant pairs, where Wald's interval shrinks to nothing: 0 and 0 of n=300 gives
    ± 1.3 points. The bounds are where |score(δ)| meets the normal quantile; found by bisection.
    """
    quantile, seen = _normal(level), (only_ours - only_theirs) / n

    def outside(gap: float) -> bool:
        a, b, c = 2 * n, (2 * n - only_ours + only_theirs) * gap - only_ours - only_theirs, -only_theirs * gap * (1 - gap)
        loss = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * (2 * loss + gap * (1 - gap))
        return (only_ours - only_theirs - n * gap) ** 2 > quantile**2 * max(variance, 0.0)

    def edge(end: float) -> float:
        inner, outer = seen, end
        for _ in range(60):
            middle = (inner + outer) / 2
            inner, outer = (inner, middle) if outside(middle) else (middle, outer)
        return inner

    return edge(-1.0), edge(1.0)


def shrunken_t_interval(differences: Floats, *, level: float = LEVEL) -> tuple[float, float]:
    """t interval for the mean of per-problem differences in [−1, 1], with two pseudo-problems so that it never has zero width.

    Agresti & Min 2005 (Stat Med 24:729) add ½ to each cell of the paired table: weight ½ at −1, ½ at +1, 1 at 0. With several
    samples per problem differences are smaller than 1, and so are the pseudo ones: their square is the mean square of the
    differences seen and one of size 1. With one sample per problem this is Agresti and Min's interval again (with t for z).
    """
    n = differences.size
    squares = float(differences @ differences)
    size = (squares + 1) / (np.count_nonzero(differences) + 1)
    centre = float(differences.sum()) / (n + 2)
    variance = (squares + size) / (n + 2) - centre**2
    half = _student(level, n) * math.sqrt(variance / (n + 2))
    mean = float(differences.mean())
    return max(-1.0, min(centre - half, mean)), min(1.0, max(centre + half, mean))


def verdict_word(gap: Gap, *, level: float = LEVEL) -> Word:
    """`better` or `worse` when both the interval excludes 0 and the exact test agrees; `tied` (at this n) otherwise."""
    if gap.p_value > 1 - level or gap.low <= 0 <= gap.high:
        return "tied"
    return "better" if gap.low > 0 else "worse"


# ---- shared -------------------------------------------------------------------------------------------------------


def _shape(correct: NDArray[Any]) -> tuple[int, int]:
    if correct.ndim != 2 or 0 in correct.shape:
        raise ValueError(f"want a (problems, samples) array with at least one of each, found shape {correct.shape}")
    return int(correct.shape[0]), int(correct.shape[1])


def _hits(correct: NDArray[Any]) -> Ints:
    """Correct samples of each problem."""
    return np.asarray(np.sum(correct, axis=1), dtype=np.int64)


def _normal(level: float) -> float:
    return float(special.ndtri((1 + level) / 2))


def _student(level: float, n: int) -> float:
    return float(special.stdtrit(max(1, n - 1), (1 + level) / 2))


def _score_bounds(mean: float, n: float, quantile: float) -> tuple[float, float]:
    """Where |p̂ − p| = quantile · √(p(1−p)/n)."""
    square = quantile**2 / n
    centre = (mean + square / 2) / (1 + square)
    half = quantile / (1 + square) * math.sqrt(mean * (1 - mean) / n + square / (4 * n))
    # Rounding must not push a bound past the mean at 0 or 1.
    return max(0.0, min(centre - half, mean)), min(1.0, max(centre + half, mean))
