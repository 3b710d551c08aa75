"""What the intervals cover, how wide they are and whether they agree with their own test, by
simulation.

    python tests/perf/bench_intervals.py                                  # 30 × 64, every cell
    python tests/perf/bench_intervals.py --problems 100 --samples 16 --draws 4000 --only beta

A cell is a population of problems and of two models. Rates of the baseline are drawn from a
distribution; the other model's come from them: by one factor of the odds of each problem ("odds"),
by factors that differ from problem to problem ("uneven odds"), by the same number of points, or by
a few problems that become certain. Both answer every problem `samples` times.

One line a cell: coverage of the true difference; how often it lies below and above the interval;
the mean width in points; how often the word is better and worse; how often interval and exact test
disagree about 0; and the coverage of a plain t interval. Then the same for one model alone. 4,000
draws are ± 0.7. The same numbers come out for the same arguments.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from reasondistill.statistics import mean_interval, paired_difference, verdict_word

Floats = NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True)
class Pairs:
    """Rates of two models on problems of a population, and the true mean difference."""

    name: str
    gap: float
    draw: Callable[[Random, int], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Rates:
    """Rates of one model on problems of a population, and their mean."""

    name: str
    mean: float
    draw: Callable[[Random, int], Floats]


def with_odds(rates: Floats, factor: float | Floats) -> Floats:
    """Rates whose odds are multiplied."""
    return factor * rates / (1 - rates + factor * rates)


def beta_grid(a: float, b: float, points: int) -> Floats:
    """Quantiles in even steps: their mean stands for an expectation."""
    return np.asarray(stats.beta.ppf((np.arange(points) + 0.5) / points, a, b), dtype=np.float64)


def log_factor(gain: Callable[[float], float], wanted: float) -> float:
    """Where a gain that grows with the log factor is the wanted one; by bisection."""
    low, high = -5.0, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        if gain(middle) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def odds(a: float, b: float, gap: float) -> Pairs:
    """Every problem's odds are multiplied by one factor; none at a gap of 0."""
    grid = beta_grid(a, b, 100_000)
    log = 0.0
    if gap:
        log = log_factor(lambda one: float(np.mean(with_odds(grid, math.exp(one)) - grid)), gap)

    def draw(random: Random, n: int) -> tuple[Floats, Floats]:
        rates = random.beta(a, b, n)
        return with_odds(rates, math.exp(log)), rates

    return Pairs(f"beta({a:g}, {b:g}), odds, {100 * gap:+.1f}", gap, draw)


def uneven_odds(a: float, b: float, gap: float) -> Pairs:
    """Log factors are normal with a deviation of 2: some problems gain, some lose."""
    grid = beta_grid(a, b, 2_000)
    normal = 2 * np.asarray(special.ndtri((np.arange(200) + 0.5) / 200), dtype=np.float64)

    def gain(log: float) -> float:
        return float(np.mean(with_odds(grid[:, None], np.exp(log + normal)))) - float(grid.mean())

    log = log_factor(gain, gap)

    def draw(random: Random, n: int) -> tuple[Floats, Floats]:
        rates = random.beta(a, b, n)
        return with_odds(rates, np.exp(log + 2 * random.standard_normal(n))), rates

    return Pairs(f"beta({a:g}, {b:g}), uneven odds, {100 * gap:+.1f}", gap, draw)


def unrelated(a: float, b: float) -> Pairs:
    """Two models that are equal on average and find other problems hard."""
    return Pairs(
        f"beta({a:g}, {b:g}), unrelated, +0.0",
        0.0,
        lambda random, n: (random.beta(a, b, n), random.beta(a, b, n)),
    )


def ten_points() -> Pairs:
    """Ten points more on every problem."""

    def draw(random: Random, n: int) -> tuple[Floats, Floats]:
        rates = 0.9 * random.beta(2, 2, n)
        return rates + 0.1, rates

    return Pairs("0.9 beta(2, 2), +10 on every problem", 0.1, draw)


def certain(share: float, a: float, b: float) -> Pairs:
    """A share of the problems becomes certain, the others stay."""

    def draw(random: Random, n: int) -> tuple[Floats, Floats]:
        rates = random.beta(a, b, n)
        return np.where(random.random(n) < share, 1.0, rates), rates

    gap = share * b / (a + b)
    return Pairs(f"beta({a:g}, {b:g}), {100 * share:g} % become certain", gap, draw)


HARD = ((0.1, 1.0), (0.03, 1.0), (0.3, 0.7))
PAIRS = [
    *(odds(a, b, gap) for a, b in (*HARD, (2.0, 2.0)) for gap in (0.0, 0.033, 0.1)),
    *(uneven_odds(a, b, gap) for a, b in ((0.1, 1.0), (0.3, 0.7)) for gap in (0.033, 0.1)),
    *(unrelated(a, b) for a, b in ((0.1, 1.0), (0.3, 0.3))),
    ten_points(),
    *(certain(0.1, a, b) for a, b in ((0.2, 1.0), (0.3, 0.3), (2.0, 2.0))),
    certain(0.2, 0.2, 1.0),
    certain(0.05, 0.2, 1.0),
]
RATES = [
    Rates("beta(2, 2)", 0.5, lambda random, n: random.beta(2, 2, n)),
    Rates("beta(0.3, 0.3)", 0.5, lambda random, n: random.beta(0.3, 0.3, n)),
    Rates("all 0.5", 0.5, lambda random, n: np.full(n, 0.5)),
    Rates("beta(0.2, 1)", 0.2 / 1.2, lambda random, n: random.beta(0.2, 1, n)),
    Rates(
        "5 % always, the rest 1 in 100",
        0.05 + 0.95 * 0.01,
        lambda random, n: np.where(random.random(n) < 0.05, 1.0, 0.01),
    ),
]


def answers(random: Random, rates: Floats, k: int) -> NDArray[np.bool_]:
    return random.random((rates.size, k)) < rates[:, None]


def plain_t(differences: Floats) -> tuple[float, float]:
    n = differences.size
    half = float(stats.t.ppf(0.975, n - 1)) * float(np.std(differences, ddof=1)) / math.sqrt(n)
    mean = float(differences.mean())
    return mean - half, mean + half


def paired_line(pairs: Pairs, n: int, k: int, draws: int) -> str:
    random = np.random.default_rng(1)
    rows: list[tuple[float, ...]] = []
    for _ in range(draws):
        our_rates, their_rates = pairs.draw(random, n)
        ours, theirs = answers(random, our_rates, k), answers(random, their_rates, k)
        gap = paired_difference(ours, theirs)
        word = verdict_word(gap)
        is_rejected = gap.p_value <= 0.05
        is_without_zero = not gap.low <= 0 <= gap.high
        low, high = plain_t(ours.mean(axis=1) - theirs.mean(axis=1))
        rows.append(
            (
                gap.low <= pairs.gap <= gap.high,
                pairs.gap < gap.low,
                pairs.gap > gap.high,
                gap.high - gap.low,
                word == "better",
                word == "worse",
                is_rejected != is_without_zero,
                low <= pairs.gap <= high,
            )
        )
    return line(pairs.name, rows)


def single_line(rates: Rates, n: int, k: int, draws: int) -> str:
    random = np.random.default_rng(1)
    rows: list[tuple[float, ...]] = []
    for _ in range(draws):
        score = mean_interval(answers(random, rates.draw(random, n), k))
        rows.append(
            (
                score.low <= rates.mean <= score.high,
                rates.mean < score.low,
                rates.mean > score.high,
                score.high - score.low,
            )
        )
    return line(rates.name, rows)


def line(name: str, rows: list[tuple[float, ...]]) -> str:
    means = 100 * np.mean(np.asarray(rows, dtype=np.float64), axis=0)
    cells = "".join(f"{mean:10.1f}" for mean in means)
    return f"{name:42}{cells}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--problems", type=int, default=30)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", default="", help="cells whose name holds this")
    asked = parser.parse_args()
    size = (asked.problems, asked.samples, asked.draws)
    print(
        f"{asked.problems} problems × {asked.samples} samples, {asked.draws:,} draws a cell, in %"
    )
    heads = ("covered", "below", "above", "width", "better", "worse", "disagree", "plain t")
    print(f"{'two models':42}" + "".join(f"{head:>10}" for head in heads))
    for pairs in PAIRS:
        if asked.only in pairs.name:
            print(paired_line(pairs, *size), flush=True)
    print(f"{'one model':42}" + "".join(f"{head:>10}" for head in heads[:4]))
    for rates in RATES:
        if asked.only in rates.name:
            print(single_line(rates, *size), flush=True)


if __name__ == "__main__":
    main()
