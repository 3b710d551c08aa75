"""Uncertain quantities as arrays of draws: a small Monte Carlo with numpy's sums, products and
maxima.

    dice = Dice(seed=0)
    tokens = 8_000 * dice.mean("lengths", sums, counts, future=2_000)
    seconds = tokens / (1_700 * dice.factor("speed", 0.08))
    in_hours(seconds)                                # Range(expected=…, low=…, high=…)

The first element of every array is the expected value, computed like all the others; the rest are
simulated runs. A quantity has a name, and the same name always gives the same draws, so that three
seeds of a student are slow together.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

from reasondistill.records import Range

Draws = NDArray[np.float64]
Floats = NDArray[np.float64]

RUNS = 4_000
# The interval: of 100 simulated runs 5 are below and 5 above.
LEVEL = 0.90
# How far (standard deviation / mean) a speed that was measured once may be off. Three seeds of one
# method took 88 to 89 s (topk_kd), 117 to 121 s (skew_kl), 171 to 190 s (gkd), but also 120 to 198
# s (kd), on two cores shared with other work.
ONCE = 0.2
# Two equal runs differ by at least this much: the same engine served models of one
# size with a deviation of 8 %.
LEAST = 0.05
# For values of another model: a guess, and the report names the model.
STAND_IN = 0.3
# Student's t of few problems has tails that no run has: they are cut here.
_FAR = 5.0
# The largest variance of log lengths that is accepted.
_SKEWED = 1.5


def exact(value: float) -> Draws:
    """A known quantity, without spread."""
    return np.full(RUNS + 1, float(value))


class Dice:
    """Draws by name."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def _random(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(name.encode())])

    def factor(self, name: str, spread: float) -> Draws:
        """Log-normal around 1 with a standard deviation of about `spread`."""
        deviates = np.concatenate([[0.0], self._random(name).standard_normal(RUNS)])
        return np.exp(math.sqrt(math.log1p(spread**2)) * deviates)

    def between(self, name: str, most: float) -> Draws:
        """A factor between 1 and `most` of which nothing more is known: log-uniform, with the
        geometric mean as the expected value.
        """
        return max(1.0, most) ** np.concatenate([[0.5], self._random(name).random(RUNS)])

    def mean(self, name: str, sums: Floats, counts: Floats, future: float) -> Draws:
        """The mean of samples that come in groups (problems), over `future` further groups: `sums`
        and `counts` by group.

        Ratio estimator with the variance over groups (Cochran 1977, section 2.11), for groups seen
        and groups to come, Student's t of n − 1 degrees of freedom, on a log scale: lengths are
        skewed. With one or two groups the spread is unknown, and `ONCE` is used.
        """
        mean, n = float(sums.sum() / counts.sum()), len(sums)
        if mean <= 0:
            return exact(0.0)
        residuals = (sums - mean * counts) / counts.mean() / mean
        logs = np.log(np.maximum(sums / counts, 1.0))
        # The variance of few skewed values is mostly too small, that of their logarithms is not
        # (measured by simulation, see tests).
        variance = max(
            float(residuals @ residuals) / max(1, n - 1),
            math.expm1(min(_SKEWED, float(np.var(logs, ddof=min(1, n - 1))))),
        )
        spread = math.sqrt(variance * (1 / n + 1 / max(1.0, future)))
        if n < 3:
            return mean * self.factor(name, max(ONCE, spread))
        deviates = np.clip(self._random(name).standard_t(n - 1, RUNS), -_FAR, _FAR)
        return mean * np.exp(spread * np.concatenate([[0.0], deviates]))

    def bounded_mean(self, name: str, values: Floats, top: float, future: float) -> Draws:
        """The mean of values in [0, `top`] over `future` further ones.

        The variance counts one value more at either end: twenty right of twenty is no promise that
        all will be.
        """
        mean, n = float(values.mean()), len(values)
        variance = float(np.var(np.concatenate([values, [0.0, top]]), ddof=1))
        spread = math.sqrt(variance * (1 / n + 1 / max(1.0, future)))
        deviates = np.concatenate(
            [[0.0], np.clip(self._random(name).standard_t(max(1, n - 1), RUNS), -_FAR, _FAR)]
        )
        return np.clip(mean + spread * deviates, 0.0, top)


def in_range(draws: Draws | None, unit: float = 1.0) -> Range | None:
    """Expected value and interval, divided by `unit`; the expected value is always inside."""
    if draws is None:
        return None
    expected = float(draws[0])
    low, high = np.quantile(draws[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Range(
        expected=expected / unit,
        low=min(float(low), expected) / unit,
        high=max(float(high), expected) / unit,
    )


def in_hours(seconds: Draws | None) -> Range | None:
    return in_range(seconds, 3600.0)
