"""Corrections and pooling: several comparisons, several prompts of one question, several benchmarks
of one pair of models.

    # adjusted p-values: compare them with 0.05 all together
    holm([0.01, 0.04, 0.03])
    # hits: (problems, variants); does the wording of the prompt matter?
    variant_spread(hits, samples=4)
    pooled = pooled_difference([(ours_aime, theirs_aime), (ours_amc, theirs_amc)])
    verdict_word(pooled.by_problem)

What draws random numbers takes a seed and says so in its `method`; the same seed gives the same
number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasondistill.statistics.basics import LEVEL, Floats, Ints
from reasondistill.statistics.paired import (
    PairedEstimate,
    ShrunkenMoments,
    agreeing_interval,
    pseudo_square,
    sign_flip_p_value,
    skewness_shift,
    step_differences,
)

# The exact sign-flip test convolves over every possible sum. Beyond this many it is drawn instead,
# in about 0.1 s.
_EXACT_SUMS = 500_000
# Drawn p-values resolve 1 in 100,000.
_FLIPS = 100_000
# Counts held at once while permuting, in numbers: 32 MB of int64.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Spread:
    """How far apart the variants of a prompt are: `low_variant` and `high_variant` are column
    numbers, `low` and `high` their means.

    No interval: the largest of several differences is biased upwards by its choice. `p_value` is
    what to go by.
    """

    low_variant: int
    low: float
    high_variant: int
    high: float
    spread: float
    p_value: float
    n: int
    k: int
    variants: int


@dataclass(frozen=True)
class PooledEstimate:
    """The difference over several benchmarks: every problem counts alike, or every benchmark does.
    `n` is of all problems.
    """

    by_problem: PairedEstimate
    by_benchmark: PairedEstimate


# ---- several comparisons -------------------------------------------------------------------------


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Adjusted p-values, in the order given: rejecting those ≤ 0.05 makes a single false rejection
    among all at most 5 % likely.

    Holm 1979 (Scand J Stat 6:65): the i-th smallest of m times m − i + 1, never below a smaller
    one's, at most 1. Holds for any dependence between the tests. Raises ValueError for what is no
    p-value.
    """
    values = np.asarray(p_values, dtype=np.float64).ravel()
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"p-values lie in [0, 1], found {values.tolist()}")
    order = np.argsort(values, kind="stable")
    multiplied = values[order] * np.arange(values.size, 0, -1)
    stepped = np.maximum.accumulate(multiplied)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


# ---- several prompts -----------------------------------------------------------------------------


def exchangeable_p_value(hits: NDArray[Any], seed: int = 0, *, permutations: int = 10_000) -> float:
    """p-value of "the variants do the same on every problem", by shuffling each problem's counts
    between the variants.

    `hits` is (problems, variants): correct samples under each prompt, the same number of samples
    everywhere. The statistic is the spread, the highest variant's total minus the lowest's, so
    looking for the most different pair is paid for already. Monte Carlo: (1 + shuffles as extreme)
    / (1 + permutations), never 0 and valid at any number of them (Davison & Hinkley 1997, section
    4.3). Samples of one prompt may agree with each other: only the counts are exchanged. Raises
    ValueError for another shape, fewer than two variants, or counts that are no whole numbers.
    """
    counts = _variant_counts(hits)
    observed = np.ptp(counts.sum(axis=0))
    # A problem with equal counts stays as it is under every shuffle and moves all variants alike.
    counts = counts[np.ptp(counts, axis=1) > 0]
    if counts.size == 0:
        return 1.0
    random = np.random.default_rng(seed)
    chunk = max(1, _AT_ONCE // counts.size)
    extreme = 0
    for start in range(0, permutations, chunk):
        copies = np.broadcast_to(counts, (min(chunk, permutations - start), *counts.shape))
        totals = random.permuted(copies, axis=2).sum(axis=1)
        spreads = np.ptp(totals, axis=1)
        extreme += int(np.count_nonzero(spreads >= observed))
    return (1 + extreme) / (1 + permutations)


def variant_spread(
    hits: NDArray[Any], samples: int, seed: int = 0, *, permutations: int = 10_000
) -> Spread:
    """Lowest and highest variant, how far apart, and `exchangeable_p_value` of it. `hits`
    (problems, variants) of `samples` each.

    Raises ValueError as `exchangeable_p_value` does, and for counts outside 0 … samples.
    """
    counts = _variant_counts(hits)
    if counts.min() < 0 or counts.max() > samples:
        raise ValueError(
            f"counts reach from {counts.min()} to {counts.max()}, but there are {samples} samples"
        )
    means = counts.mean(axis=0) / samples
    low, high = int(means.argmin()), int(means.argmax())
    return Spread(
        low_variant=low,
        low=float(means[low]),
        high_variant=high,
        high=float(means[high]),
        spread=float(means[high] - means[low]),
        p_value=exchangeable_p_value(counts, seed, permutations=permutations),
        n=counts.shape[0],
        k=samples,
        variants=counts.shape[1],
    )


def _variant_counts(hits: NDArray[Any]) -> Ints:
    if hits.ndim != 2 or hits.shape[0] < 1 or hits.shape[1] < 2:
        raise ValueError(
            f"want (problems, variants) with at least two variants, found shape {hits.shape}"
        )
    counts = np.asarray(hits, dtype=np.int64)
    if not np.array_equal(counts, hits):
        raise ValueError("want counts of correct samples, found fractions")
    return counts


# ---- several benchmarks --------------------------------------------------------------------------


def pooled_difference(
    pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]],
    *,
    seed: int = 0,
    level: float = LEVEL,
    exact_up_to: int = _EXACT_SUMS,
) -> PooledEstimate:
    """Mean of `ours − theirs` over several benchmarks, each a pair of (problems, samples) as
    `paired_difference` takes them.

    `by_problem` weighs every problem alike (the benchmarks laid end to end), `by_benchmark` every
    benchmark alike (the mean of the benchmarks' differences, where a small benchmark's problems
    weigh more). Sample counts may differ between benchmarks.

    The benchmarks are fixed, their problems are draws: the variance is the stratified one, Σ w² s²
    / n, which leaves out how far the benchmarks are apart (Cochran 1977, section 5.4), with the two
    pseudo-problems and the skewness of `skewed_t_interval` divided among them and Satterthwaite's
    degrees of freedom; about 0 it agrees with the test. The p-value flips the sign of each
    problem's weighted difference: exact where the possible sums are at most `exact_up_to` (`sign
    flip exact` in `method`), else 100,000 seeded draws of it, (1 + b) / (1 + B).

    It says whether ours is better *on these benchmarks together*, not on which one, nor that it
    would be on another one. Raises ValueError without benchmarks, and where one has fewer than two
    problems or two different numbers of them.
    """
    strata = [_stratum(ours, theirs) for ours, theirs in pairs]
    if not strata:
        raise ValueError("no benchmarks to pool")
    n = sum(steps.size for steps, _ in strata)
    k = min(min(ours.shape[1], theirs.shape[1]) for ours, theirs in pairs)
    by_problem = [(steps, scale * n) for steps, scale in strata]
    by_benchmark = [(steps, scale * steps.size * len(strata)) for steps, scale in strata]

    def pooled(weighted: Sequence[tuple[Ints, int]]) -> PairedEstimate:
        mean = sum(float(steps.sum()) / size for steps, size in weighted)
        weights = [
            steps.size * scale / size
            for (steps, scale), (_, size) in zip(strata, weighted, strict=True)
        ]
        low, high = _stratified_bounds([steps / scale for steps, scale in strata], weights, level)
        p_value, how = _weighted_flip(weighted, seed, exact_up_to)
        low, high = min(low, mean), max(high, mean)
        low, high = agreeing_interval(mean, low, high, p_value, level=level)
        method = f"stratified skewed agresti-min t; {how}"
        return PairedEstimate(mean, low, high, n, k, p_value, method)

    return PooledEstimate(pooled(by_problem), pooled(by_benchmark))


def _stratum(ours: NDArray[Any], theirs: NDArray[Any]) -> tuple[Ints, int]:
    steps, scale = step_differences(ours, theirs)
    if steps.size < 2:
        raise ValueError("a benchmark of one problem has no spread of its own: it cannot be pooled")
    return steps, scale


def _stratified_bounds(
    strata: Sequence[Floats], weights: Sequence[float], level: float
) -> tuple[float, float]:
    """Bounds of Σ weight · mean. Two pseudo-problems and the skewness as in `skewed_t_interval`,
    each stratum has its share by its size.
    """
    from scipy import special

    together = np.concatenate(strata)
    square = pseudo_square(together)
    centre, thirds, terms = 0.0, 0.0, list[float]()
    for part, weight in zip(strata, weights, strict=True):
        moments = ShrunkenMoments.of(part, square, 2 * part.size / together.size)
        centre += weight * moments.mean
        thirds += weight**3 * moments.third / moments.problems**2
        # Small strata would add up their bias of (n − 1) / n, which one stratum leaves to the
        # pseudo-problems.
        unbiased = moments.variance / moments.problems * part.size / (part.size - 1)
        terms.append(weight**2 * unbiased)
    total = sum(terms)
    weighted_squares = sum(
        term**2 / (part.size - 1) for term, part in zip(terms, strata, strict=True)
    )
    freedom = total**2 / weighted_squares
    quantile = float(special.stdtrit(freedom, (1 + level) / 2))
    half = quantile * math.sqrt(total)
    shift = skewness_shift(thirds / total, quantile)
    low = centre - half + min(0.0, shift)
    high = centre + half + max(0.0, shift)
    return max(-1.0, low), min(1.0, high)


def _weighted_flip(
    weighted: Sequence[tuple[Ints, int]], seed: int, exact_up_to: int
) -> tuple[float, str]:
    """Sign-flip p-value of Σ steps / size over all parts, and how it was found."""
    common = math.lcm(*(size for _, size in weighted))
    factors = [common // size for _, size in weighted]
    shared = math.gcd(*factors)
    parts = [
        (steps, factor // shared) for (steps, _), factor in zip(weighted, factors, strict=True)
    ]
    # Python integers: the least common multiple of many sizes can be beyond 64 bits.
    largest_sum = sum(int(np.abs(steps).sum()) * factor for steps, factor in parts)
    if largest_sum <= exact_up_to:
        scaled = np.concatenate([steps * factor for steps, factor in parts])
        return sign_flip_p_value(scaled), "sign flip exact"
    return drawn_flip(weighted, seed), f"sign flip, {_FLIPS:,} draws"


def drawn_flip(weighted: Sequence[tuple[Ints, int]], seed: int) -> float:
    """The same p-value from seeded draws of the signs."""
    random = np.random.default_rng(seed)
    sums, observed = np.zeros(_FLIPS), 0.0
    for steps, size in weighted:
        observed += float(steps.sum()) / size
        discordant = steps[steps != 0]
        sizes, counts = np.unique(np.abs(discordant), return_counts=True)
        for step, count in zip(sizes.tolist(), counts.tolist(), strict=True):
            heads = random.binomial(count, 0.5, _FLIPS)
            sums += step / size * (2 * heads - count)
    # The same sum in another order differs in its last bits and is still as extreme.
    is_extreme = np.abs(sums) >= abs(observed) - 1e-12
    extreme = int(np.count_nonzero(is_extreme))
    return (1 + extreme) / (1 + _FLIPS)
