"""Two recipes, each trained with several seeds: their difference with an interval that holds
problems, samples and seeds.

    # one sheet (problems, samples) for each seed
    gap = seeded_difference([[ours_0, ours_1, ours_2]], [[theirs_0, theirs_1, theirs_2]])
    gap.mean, gap.low, gap.high, gap.p_value
    gap.of_these_models            # the same for the models that were trained: without seeds
    size = needed_size(gap, ours, theirs)
    size.problems, size.seeds, size.smallest

`paired_difference` over the samples of all seeds side by side is right about the models that were
trained, and wrong about the recipe: another seed makes another model. In simulations of two equal
recipes whose seeds differ by a standard deviation of 2.7 points (300 problems × 4 samples, 3 seeds)
it calls one of them better 47 times of 100; this interval does so 5 times.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasondistill.statistics.basics import LEVEL, normal_quantile
from reasondistill.statistics.paired import (
    PairedEstimate,
    agreeing_interval,
    paired_difference,
)
from reasondistill.statistics.planning import (
    Population,
    difference_variance,
    estimate_population,
    needed_problems,
    smallest_effect,
)

# Of one cell of a comparison: a sheet (problems, samples) for each seed.
Seeds = Sequence[NDArray[Any]]

# Of a p-value that is 0 to double precision the normal quantile is not known.
_LEAST_P = 1e-15
# A difference that takes more problems than this is none for anybody's purposes.
MOST_PROBLEMS = 1_000_000
_LARGE = 10_000
_MOST_SEEDS = 1_000_000


@dataclass(frozen=True)
class SeedVariance:
    """What the draw of seeds adds to the variance of a difference. `total` is the variance that the
    means of the seeds have among each other; `own` is what of it their problems and samples do not
    explain. `freedom` are the degrees of freedom of `total`, few where one recipe has most of it.
    """

    total: float
    own: float
    freedom: float


@dataclass(frozen=True)
class SeededEstimate:
    """Mean difference of two recipes. `n` problems, `k` samples of each by each model, `seeds` of
    each recipe. `deviation` is how far two seeds of one recipe are apart beyond what their samples
    explain, as a standard deviation; None with one seed, when `low` and `high` hold problems and
    samples alone, as `of_these_models` does in any case.
    """

    mean: float
    low: float
    high: float
    n: int
    k: int
    seeds: int
    p_value: float
    deviation: float | None
    of_these_models: PairedEstimate
    variance: SeedVariance
    method: str


def seeded_difference(
    ours: Sequence[Seeds], theirs: Sequence[Seeds], *, level: float = LEVEL
) -> SeededEstimate:
    """Mean of `ours − theirs` over the same problems, seeds and cells.

    A cell is a recipe: one on each side, or several that differ in something else, over which the
    difference is then averaged. Each has a sheet (problems, samples) for each seed, all of the same
    shape. Problems are paired; seeds are not: seed 0 of one recipe has nothing in common with seed
    0 of another but a number.

    Variances add up: that over problems, with the samples of all seeds and cells side by side
    (`paired_difference`), and what seeds add (`seed_variance`), which is 0 where the seeds differ
    no more than their samples explain. The bounds are those of `paired_difference`, each moved out
    by the root of the sum of squares (MOVER: Zou & Donner 2008, Stat Med 27:1693), with Student's t
    of Satterthwaite's degrees of freedom (1946, Biometrics Bull 2:110); the p-value is the exact
    one made larger in the same way, and about 0 both agree. Simulated with two equal recipes (100
    problems × 1 sample and 300 × 4, seeds that differ by 0 to 8 points): 3 to 4 % false alarms
    where seeds make no difference, 4 to 6 % with three seeds and 5 to 7 % with two where they do,
    and where those of one recipe alone differ 5 to 7 % with three and more, 10 % with two;
    `paired_difference` has up to 64 %. With one seed the result is that of `paired_difference`.

    Raises ValueError for sheets of different shapes, and without any.
    """
    our_samples, their_samples = _side_by_side(ours), _side_by_side(theirs)
    shapes = {sheet.shape for sheet in chain(*ours, *theirs)}
    numbers = {len(cell) for cell in (*ours, *theirs)}
    if len(shapes) != 1 or len(numbers) != 1:
        raise ValueError(f"want sheets of one shape and as many of each, found {sorted(shapes)}")
    alone = paired_difference(our_samples, their_samples, level=level)
    variance = seed_variance(ours, theirs)
    (n, k), seeds = shapes.pop(), numbers.pop()
    low, high, p_value = alone.low, alone.high, alone.p_value
    deviation, method = None, f"{alone.method}; one seed"
    if seeds > 1:
        method = f"{alone.method}; mover with {seeds} seeds"
        cells = len(ours) * len(theirs) * 2 / (len(ours) + len(theirs))
        deviation = math.sqrt(variance.own * seeds * cells / 2)
    if variance.own > 0:
        p_value = _test(alone, variance)
        low = alone.mean - _widened(alone.mean - alone.low, variance, level)
        high = alone.mean + _widened(alone.high - alone.mean, variance, level)
        low, high = max(-1.0, low), min(1.0, high)
        low, high = agreeing_interval(alone.mean, low, high, p_value, level=level)
    return SeededEstimate(
        alone.mean, low, high, n, k, seeds, p_value, deviation, alone, variance, method
    )


def _side_by_side(cells: Sequence[Seeds]) -> NDArray[Any]:
    """(problems, cells × seeds × samples)."""
    sheets = list(chain(*cells))
    if not sheets:
        raise ValueError("no sheets to compare")
    return np.hstack(sheets)


def seed_variance(ours: Sequence[Seeds], theirs: Sequence[Seeds]) -> SeedVariance:
    """The part of the variance of a difference that other seeds would change.

    In each cell the variance of the seeds' means (n − 1) divided by their number, averaged over the
    cells of a side, both sides added up. Of that the noise of samples, and what a seed does to
    single problems, stand in the variance over problems already: the interaction of problems and
    seeds of a two-way layout is taken off, not below 0 (Cameron, Gelbach & Miller 2011, J Bus Econ
    Stat 29:238, count two clusters so). All 0 with one seed. Seeds of one recipe may be farther
    apart than those of the other, so that the degrees of freedom are Welch's (1947, Biometrika
    34:28).
    """
    total = explained = squares = 0.0
    for side in (ours, theirs):
        for cell in side:
            rates = np.stack([sheet.mean(axis=1) for sheet in cell], axis=1)  # (problems, seeds)
            n, seeds = rates.shape
            if seeds < 2:
                continue
            means = rates.mean(axis=0)
            weight = 1 / (seeds * len(side) ** 2)
            part = weight * float(means.var(ddof=1))
            total += part
            squares += part**2 / (seeds - 1)
            if n > 1:
                rest = rates - rates.mean(axis=1, keepdims=True) - means + rates.mean()
                interaction = float((rest**2).sum()) / ((n - 1) * (seeds - 1))
                explained += weight * interaction / n
    freedom = 0.0
    if squares > 0:
        freedom = total**2 / squares
    return SeedVariance(total, max(0.0, total - explained), freedom)


def _freedom(problems: float, variance: SeedVariance) -> float:
    """Satterthwaite's degrees of freedom of a sum of variances, of which that over problems is
    nearly normal.
    """
    return (problems + variance.own) ** 2 / (variance.total**2 / variance.freedom)


def _test(alone: PairedEstimate, variance: SeedVariance) -> float:
    """The exact p-value with the seeds' variance added to that which it implies."""
    from scipy import special

    if alone.p_value >= 1 or alone.mean == 0:
        return 1.0
    strength = -float(special.ndtri(max(alone.p_value, _LEAST_P) / 2))
    problems = (alone.mean / strength) ** 2
    statistic = abs(alone.mean) / math.sqrt(problems + variance.own)
    freedom = max(1.0, _freedom(problems, variance))
    return float(2 * special.stdtr(freedom, -statistic))


def _widened(distance: float, variance: SeedVariance, level: float) -> float:
    """How far a bound is from the mean with the seeds' variance."""
    from scipy import special

    problems = (distance / normal_quantile(level)) ** 2
    freedom = max(1.0, _freedom(problems, variance))
    quantile = float(special.stdtrit(freedom, (1 + level) / 2))
    return max(distance, quantile * math.sqrt(problems + variance.own))


# ---- what it would take --------------------------------------------------------------------------


@dataclass(frozen=True)
class NeededSize:
    """How much it takes to show a difference as large as the one that was seen, four times of five:
    about so many `problems` (None: more than a million) with so many `seeds` of each recipe.
    `smallest` is the smallest difference that the size at hand shows (None: none).
    """

    problems: int | None
    seeds: int
    smallest: float | None


def needed_size(
    gap: SeededEstimate,
    ours: Sequence[Seeds],
    theirs: Sequence[Seeds],
    *,
    chance: float = 0.8,
    level: float = LEVEL,
) -> NeededSize:
    """What it would take to show `gap`, and what its own size shows, for models like these
    (`estimate_population`; `needed_problems` and `smallest_effect` say the rest). Of several
    comparisons `level` is what one of them has to pass.

    Where seeds differ, half of the variance that may be left is theirs: more problems take nothing
    off it. A rough guide: the population is estimated from the same samples.
    """
    population = estimate_population(_side_by_side(ours), _side_by_side(theirs))
    samples = gap.k * gap.seeds * len(ours)
    smallest = smallest_effect(gap.n, samples, population, chance=chance, level=level)
    if smallest is not None and gap.variance.own > 0:
        reach = _reach(gap, gap.seeds, chance, level)
        smallest = math.hypot(smallest, reach * math.sqrt(gap.variance.own))
        if population.base + smallest > 1:
            smallest = None
    effect, seeds = gap.mean, gap.seeds
    if gap.variance.own > 0 and effect != 0:
        effect /= math.sqrt(2)

        def is_enough(seeds: int) -> bool:
            deviation = math.sqrt(gap.seeds * gap.variance.own / seeds)
            return _reach(gap, seeds, chance, level) * deviation <= abs(effect)

        numbers = range(seeds, _MOST_SEEDS)
        seeds += bisect_left(numbers, True, key=is_enough)
    problems = _problems_for(effect, samples, population, chance, level)
    return NeededSize(problems, seeds, smallest)


def _reach(gap: SeededEstimate, seeds: int, chance: float, level: float) -> float:
    """How many standard deviations of so many seeds show a difference with this chance."""
    from scipy import special

    freedom = max(1.0, gap.variance.freedom) * (seeds - 1) / (gap.seeds - 1)
    return float(special.stdtrit(freedom, (1 + level) / 2) + special.ndtri(chance))


def _problems_for(
    effect: float, samples: int, population: Population, chance: float, level: float
) -> int | None:
    """None where a million problems do not do, or nothing was seen."""
    from scipy import special

    if effect == 0 or not 0 <= population.base + effect <= 1:
        return None
    # The exact number takes minutes where it is large, and then it is all but this one.
    reach = normal_quantile(level) + float(special.ndtri(chance))
    about = (reach / effect) ** 2 * difference_variance(samples, effect, population)
    if about > MOST_PROBLEMS:
        return None
    if about > _LARGE:
        return math.ceil(about)
    return needed_problems(effect, samples, population, chance=chance, level=level)
