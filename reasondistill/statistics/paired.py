"""Two models over the same problems: the mean difference with an interval, an exact test, and the
word for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from reasondistill.statistics.basics import (
    LEVEL,
    Floats,
    Ints,
    hits_of,
    normal_quantile,
    shape_of,
    student_quantile,
)

Word = Literal["better", "worse", "tied"]

# How much of a problem the unseen one of size 1 counts, which sets the size of pseudo-problems.
# With 1 the interval of hard sets covers 98 to 99 % (n = 30, k = 64), with ½ that of a gain from a
# few problems loses a point: tests/perf/bench_intervals.py.
_UNSEEN = 2 / 3
_LEAST_P = 1e-9


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
    """Mean difference of two models over the same problems. `k` is the smaller of the two sample
    counts.
    """

    mean: float
    low: float
    high: float
    n: int
    k: int
    p_value: float
    method: str


def paired_difference(
    ours: NDArray[Any], theirs: NDArray[Any], *, level: float = LEVEL
) -> PairedEstimate:
    """Mean of `ours − theirs` over the same problems, row by row; both (problems, samples), sample
    counts may differ.

    One sample each: Tango's score interval and exact McNemar. More: `skewed_t_interval` over
    per-problem differences and the exact sign-flip test. More samples never give a wider interval
    than Tango's for problems that are all or nothing. Interval and test agree about 0, see
    `agreeing_interval`. Raises ValueError when the problems differ in number.
    """
    steps, scale = step_differences(ours, theirs)
    n, our_samples = shape_of(ours)
    k = min(our_samples, theirs.shape[1])
    differences = steps / scale
    mean = float(steps.mean()) / scale
    # A difference inside [−1, 1] varies no more than one of −1, 0 and 1 with the same gains and
    # losses, so Tango's interval holds for it as well.
    gains = float(differences[steps > 0].sum())
    losses = -float(differences[steps < 0].sum())
    low, high = tango_interval(gains, losses, n, level=level)
    method = "tango; mcnemar exact"
    if not our_samples == theirs.shape[1] == 1:
        skewed_low, skewed_high = skewed_t_interval(differences, level=level)
        low, high = max(low, skewed_low), min(high, skewed_high)
        method = "skewed agresti-min t; sign flip exact"
    p_value = sign_flip_p_value(steps)
    low, high = agreeing_interval(mean, low, high, p_value, level=level)
    return PairedEstimate(mean, low, high, n, k, p_value, method)


def step_differences(ours: NDArray[Any], theirs: NDArray[Any]) -> tuple[Ints, int]:
    """Each problem's difference as a whole number of steps, and how many steps are 1: the least
    common multiple of the sample counts.

    Both (problems, samples). Whole numbers, so that exact tests compare exactly. Raises ValueError
    when the problems differ in number.
    """
    n, k = shape_of(ours)
    other, m = shape_of(theirs)
    if n != other:
        raise ValueError(f"not the same problems: {n} rows against {other}")
    scale = math.lcm(k, m)
    our_steps = hits_of(ours) * (scale // k)
    their_steps = hits_of(theirs) * (scale // m)
    return our_steps - their_steps, scale


def sign_flip_p_value(differences: Ints) -> float:
    """Exact two-sided p-value of the sum of integer differences when each one's sign is a fair
    coin.

    That is the permutation test of "both models are the same", labels swapped within each problem;
    with differences in {−1, 0, 1} it is exact McNemar (binomial test over the discordant ones).
    Computed by convolution, not by sampling.
    """
    from scipy import signal  # a second to import, and every process of a run imports us

    discordant = differences[differences != 0]
    sizes, counts = np.unique(np.abs(discordant), return_counts=True)
    if sizes.size == 0:
        return 1.0
    null = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        null = signal.convolve(null, coin_sums(size, count))
    sums = np.arange(null.size) - null.size // 2
    observed = abs(int(differences.sum()))
    as_extreme = null[np.abs(sums) >= observed]
    return float(np.clip(as_extreme.sum(), 0.0, 1.0))


def coin_sums(size: int, count: int) -> Floats:
    """Probabilities of the sum of `count` fair ±`size` coins, at −count·size … count·size."""
    from scipy import special

    heads = np.arange(count + 1)
    probabilities = np.zeros(2 * size * count + 1)
    # The binomial in logarithms: with scipy.stats' own, checking its arguments took two thirds of
    # the test's time.
    ways = (
        special.gammaln(count + 1) - special.gammaln(heads + 1) - special.gammaln(count - heads + 1)
    )
    probabilities[:: 2 * size] = np.exp(ways - count * math.log(2))
    return probabilities


def tango_interval(
    only_ours: float, only_theirs: float, n: int, *, level: float = LEVEL
) -> tuple[float, float]:
    """Score interval for the difference of paired proportions from the discordant counts: Tango
    1998 (Stat Med 17:891). The counts may be sums of shares.

    Keeps its coverage with few or no discordant pairs, where Wald's interval shrinks to nothing: 0
    and 0 of n=300 gives ± 1.3 points. The bounds are where |score(δ)| meets the normal quantile;
    found by bisection.
    """
    quantile = normal_quantile(level)
    lead = only_ours - only_theirs

    def outside(gap: float) -> bool:
        # `loss`, the probability of only theirs at this gap, is the larger root of ax² + bx + c.
        a = 2 * n
        b = (a - only_ours + only_theirs) * gap - only_ours - only_theirs
        c = -only_theirs * gap * (1 - gap)
        discriminant = max(0.0, b * b - 4 * a * c)
        loss = (math.sqrt(discriminant) - b) / (2 * a)
        variance = n * (2 * loss + gap * (1 - gap))
        distance = lead - n * gap
        return distance**2 > quantile**2 * max(variance, 0.0)

    def edge(end: float) -> float:
        inner, outer = lead / n, end
        for _ in range(60):
            middle = (inner + outer) / 2
            if outside(middle):
                outer = middle
            else:
                inner = middle
        return inner

    return edge(-1.0), edge(1.0)


@dataclass(frozen=True)
class ShrunkenMoments:
    """Mean, variance and third central moment of differences in [−1, 1] and some pseudo-problems;
    `problems` counts all of them.
    """

    mean: float
    variance: float
    third: float
    problems: float

    @classmethod
    def of(cls, differences: Floats, square: float, pseudo_problems: float = 2) -> ShrunkenMoments:
        """A quarter of the pseudo-problems each has a difference of ± √square, half of them 0."""
        problems = differences.size + pseudo_problems
        mean = float(differences.sum()) / problems
        squares = float(differences @ differences) + square * pseudo_problems / 2
        variance = squares / problems - mean**2
        cubes = float(np.sum((differences - mean) ** 3))
        size = math.sqrt(square)
        pseudo_cubes = (size - mean) ** 3 - (size + mean) ** 3 - 2 * mean**3
        third = (cubes + pseudo_cubes * pseudo_problems / 4) / problems
        return cls(mean, variance, third, problems)


def pseudo_square(differences: Floats) -> float:
    """The square of a pseudo-problem's difference: the mean over the nonzero differences and one of
    size 1, which counts _UNSEEN of a problem.
    """
    squares = float(differences @ differences)
    nonzero = int(np.count_nonzero(differences))
    return (squares + _UNSEEN) / (nonzero + _UNSEEN)


def shrunken_t_interval(differences: Floats, *, level: float = LEVEL) -> tuple[float, float]:
    """t interval for the mean of per-problem differences in [−1, 1], with two pseudo-problems so
    that it never has zero width.

    Agresti & Min 2005 (Stat Med 24:729) add ½ to each cell of the paired table: weight ½ at −1, ½
    at +1, 1 at 0. With several samples per problem differences are smaller than 1, and so are the
    pseudo ones, see `pseudo_square`. With one sample per problem this is Agresti and Min's interval
    again (with t for z).
    """
    moments = ShrunkenMoments.of(differences, pseudo_square(differences))
    deviation = math.sqrt(moments.variance / moments.problems)
    half = student_quantile(level, differences.size) * deviation
    mean = float(differences.mean())
    low = min(moments.mean - half, mean)
    high = max(moments.mean + half, mean)
    return max(-1.0, low), min(1.0, high)


def skewed_t_interval(differences: Floats, *, level: float = LEVEL) -> tuple[float, float]:
    """`shrunken_t_interval`, its end on the long side moved out by what the skewness of the
    differences asks for.

    On hard sets a gain sits in a few problems, and a sample that holds too few of them has a small
    mean and a small spread at once: a plain t interval then covers 84 to 91 %. The end moves by
    (2t² + 1) / 6 · third moment / (variance · n), the second-order term of the bootstrap-t (Hall
    1988, Ann Stat 16:927; Johnson 1978, JASA 73:536). The other end stays: moved in, it would trust
    the skewness of 30 problems too far.
    """
    low, high = shrunken_t_interval(differences, level=level)
    moments = ShrunkenMoments.of(differences, pseudo_square(differences))
    quantile = student_quantile(level, differences.size)
    shift = skewness_shift(moments.third / moments.variance / moments.problems, quantile)
    low += min(0.0, shift)
    high += max(0.0, shift)
    return max(-1.0, low), min(1.0, high)


def skewness_shift(third_by_variance: float, quantile: float) -> float:
    """How far an end at `quantile` standard errors moves: third cumulant by variance of the mean,
    times (2q² + 1) / 6.
    """
    return third_by_variance * (2 * quantile**2 + 1) / 6


def agreeing_interval(
    mean: float, low: float, high: float, p_value: float, *, level: float = LEVEL
) -> tuple[float, float]:
    """The interval, with 0 inside it exactly where the test does not reject 0.

    Not rejected: an end that stops short of 0 is moved to 0. Rejected: the end nearer to 0 is at
    least mean · (1 − z / z_p), z_p the normal quantile of the p-value, which is 0 at p = 1 − level:
    the test-based limit (Miettinen 1976, Am J Epidemiol 103:226). It is the test inverted with the
    spread that it has at 0, so it keeps its distance where the spread is smaller. The far end is
    left to the interval.
    """
    from scipy import special

    if p_value > 1 - level:
        return min(low, 0.0), max(high, 0.0)
    # Sums of probabilities are exact to 1e-15 or so; far below that the interval's own end is
    # farther from 0 in any case.
    strength = -float(special.ndtri(max(p_value, _LEAST_P) / 2))
    nearest = mean * (1 - normal_quantile(level) / strength)
    if mean > 0:
        return max(low, nearest), high
    return low, min(high, nearest)


def verdict_word(gap: Gap, *, level: float = LEVEL) -> Word:
    """`better` or `worse` when both the interval excludes 0 and the exact test agrees; `tied` (at
    this n) otherwise. A p-value that was adjusted for several comparisons may stand in for the own.
    """
    if gap.p_value > 1 - level or gap.low <= 0 <= gap.high:
        return "tied"
    if gap.low > 0:
        return "better"
    return "worse"
