"""Two models over the same problems: the mean difference with an interval, an exact test, and the
word for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

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

    One sample each: Tango's score interval and exact McNemar. More: the interval of
    `shrunken_t_interval` over per-problem differences and the exact sign-flip test. Raises
    ValueError when the problems differ in number.
    """
    steps, scale = step_differences(ours, theirs)
    n, our_samples = shape_of(ours)
    k = min(our_samples, theirs.shape[1])
    mean = float(steps.mean()) / scale
    if our_samples == theirs.shape[1] == 1:
        only_ours = int((steps > 0).sum())
        only_theirs = int((steps < 0).sum())
        low, high = tango_interval(only_ours, only_theirs, n, level=level)
        method = "tango; mcnemar exact"
    else:
        low, high = shrunken_t_interval(steps / scale, level=level)
        method = "agresti-min t; sign flip exact"
    p_value = sign_flip_p_value(steps)
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
    only_ours: int, only_theirs: int, n: int, *, level: float = LEVEL
) -> tuple[float, float]:
    """Score interval for the difference of paired proportions from the discordant counts: Tango
    1998 (Stat Med 17:891).

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


def shrunken_t_interval(differences: Floats, *, level: float = LEVEL) -> tuple[float, float]:
    """t interval for the mean of per-problem differences in [−1, 1], with two pseudo-problems so
    that it never has zero width.

    Agresti & Min 2005 (Stat Med 24:729) add ½ to each cell of the paired table: weight ½ at −1, ½
    at +1, 1 at 0. With several samples per problem differences are smaller than 1, and so are the
    pseudo ones: their square is the mean square of the differences seen and one of size 1. With one
    sample per problem this is Agresti and Min's interval again (with t for z).
    """
    n = differences.size
    squares = float(differences @ differences)
    size = (squares + 1) / (np.count_nonzero(differences) + 1)
    centre = float(differences.sum()) / (n + 2)
    variance = (squares + size) / (n + 2) - centre**2
    half = student_quantile(level, n) * math.sqrt(variance / (n + 2))
    mean = float(differences.mean())
    low = min(centre - half, mean)
    high = max(centre + half, mean)
    return max(-1.0, low), min(1.0, high)


def verdict_word(gap: Gap, *, level: float = LEVEL) -> Word:
    """`better` or `worse` when both the interval excludes 0 and the exact test agrees; `tied` (at
    this n) otherwise.
    """
    if gap.p_value > 1 - level or gap.low <= 0 <= gap.high:
        return "tied"
    if gap.low > 0:
        return "better"
    return "worse"
