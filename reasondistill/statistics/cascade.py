"""A cascade of two models from what both have answered: the student first, the teacher where the
student's samples disagree. Accuracy against cost, for every threshold.

    sides = Sides(k, votes, student, teacher, student_cost, teacher_cost)
    curve = cascade_curve(sides)
    curve.steps[0].gap.mean           # above random routing at the same cost
    curve.chosen.word                 # "helps", "cannot be told" or "hurts"

The rule is that of Yue et al. 2023, "Large Language Model Cascades with Mixture of Thoughts
Representations for Cost-efficient Reasoning" (arXiv 2310.03094), section 3: k samples of the weaker
model vote, and their agreement says whether its answer is taken. Asking cheap models first and
learning when to stop is older: FrugalGPT, Chen et al. 2023 (arXiv 2305.05176). Both choose the
threshold on problems that are not those of the test; so does `chosen` here, by cross-validation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasondistill.records import Bounded, CascadeStep, ChosenCascade, HelpWord
from reasondistill.statistics.basics import LEVEL, Floats, Ints, student_quantile
from reasondistill.statistics.means import mean_interval
from reasondistill.statistics.paired import pseudo_square, skewed_t_interval

RESAMPLES = 4_000
FOLDS = 5
# Problems below which nothing is cross-validated.
FEWEST = 2 * FOLDS
# Of resamples that are in memory at once, times problems.
_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Sides:
    """What two models did with the same problems; every array is (problems,).

    `votes` counts the student's samples, of `k`, that gave its most frequent answer: 0 where none
    gave one. `student` is the chance that this answer is right, a tie broken by chance, `teacher`
    that the teacher's is. The costs are in one unit, and those of the student are of all k samples.
    """

    k: int
    votes: Ints
    student: Floats
    teacher: Floats
    student_cost: Floats
    teacher_cost: Floats

    def __post_init__(self) -> None:
        n = self.votes.size
        arrays = (self.student, self.teacher, self.student_cost, self.teacher_cost)
        if n < 2 or any(array.shape != (n,) for array in arrays):
            raise ValueError("want the same problems of both models, at least two")
        if self.k < 2 or self.votes.min() < 0 or self.votes.max() > self.k:
            raise ValueError(f"want votes of k ≥ 2 samples in 0 … k, found k = {self.k}")

    @property
    def n(self) -> int:
        return int(self.votes.size)

    def thresholds(self) -> list[int]:
        """The votes that an answer needs, fewest first; of several that ask the teacher the same
        problems the lowest. None of them asks nothing; the last may ask all.
        """
        needed = range(1, self.k + 1)
        asked = {int(np.sum(self.votes < votes)): votes for votes in reversed(needed)}
        return sorted(votes for count, votes in asked.items() if count)


@dataclass(frozen=True)
class Curve:
    """The cascade at every threshold, and what a threshold that was chosen on other problems comes
    to: None for fewer than FEWEST problems.
    """

    steps: tuple[CascadeStep, ...]
    chosen: ChosenCascade | None


def cascade_word(gap: Bounded) -> HelpWord:
    """The word for a gap to random routing: by whether its interval holds 0."""
    if gap.low > 0:
        return "helps"
    if gap.high < 0:
        return "hurts"
    return "cannot be told"


def cascade_curve(
    sides: Sides, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Curve:
    """The whole curve. Deterministic for the same numbers and seed.

    Accuracies have the interval of a mean (`mean_interval`); costs and gaps that of a bootstrap
    over problems (`resampled`), both models and all thresholds on the same draws, so that they are
    paired. Whether the problems of a benchmark say anything of other problems, it cannot know.
    """
    thresholds = sides.thresholds()
    routes = [Route.of(sides, sides.votes < votes) for votes in thresholds]
    chosen_votes = chosen_by_others(sides, thresholds, seed=seed)
    if chosen_votes is not None:
        routes.append(Route.of(sides, sides.votes < chosen_votes))
    measured = measure_routes(sides, routes, seed=seed, resamples=resamples, level=level)
    steps: list[CascadeStep] = []
    for votes, route, found in zip(thresholds, routes, measured, strict=False):
        steps.append(
            CascadeStep(
                votes=votes,
                asked=route.share,
                accuracy=accuracy(route.right),
                cost=found.cost,
                gap=found.gap,
            )
        )
    chosen = None
    if chosen_votes is not None:
        route, found = routes[-1], measured[-1]
        chosen = ChosenCascade(
            votes=tuple(np.unique(chosen_votes).tolist()),
            asked=route.share,
            accuracy=accuracy(route.right),
            cost=found.cost,
            gap=found.gap,
            over_student=paired_mean(route.right - sides.student, level=level),
            over_teacher=paired_mean(route.right - sides.teacher, level=level),
            cost_share=found.cost_share,
            word=cascade_word(found.gap),
        )
    return Curve(tuple(steps), chosen)


def accuracy(right: Floats) -> Bounded:
    """The mean of chances with its interval: that of an outcome, which varies more."""
    estimate = mean_interval(right[:, None])
    return Bounded(mean=estimate.mean, low=estimate.low, high=estimate.high)


def paired_mean(differences: Floats, *, level: float = LEVEL) -> Bounded:
    """The mean of differences over problems, with the interval of `paired_difference`."""
    low, high = skewed_t_interval(differences, level=level)
    return Bounded(mean=float(differences.mean()), low=low, high=high)


# ---- which problems the teacher is asked ---------------------------------------------------------


@dataclass(frozen=True)
class Route:
    """A cascade on these problems, each array (problems,): the chance to be right, and the cost."""

    right: Floats
    cost: Floats
    share: float

    @classmethod
    def of(cls, sides: Sides, is_asked: NDArray[np.bool_]) -> Route:
        """The teacher's answer where it is asked, at the cost of both; else the student's."""
        right = np.where(is_asked, sides.teacher, sides.student)
        cost = sides.student_cost + np.where(is_asked, sides.teacher_cost, 0.0)
        return cls(right, cost, float(is_asked.mean()))


def chosen_by_others(sides: Sides, thresholds: list[int], *, seed: int) -> Ints | None:
    """The threshold of each problem: that of the largest gap on the problems of all other folds.
    Equal gaps: the one that asks less. None where there are too few problems, or no threshold asks
    anything.
    """
    if sides.n < FEWEST or not thresholds:
        return None
    fold = np.random.default_rng(seed).permutation(sides.n) % FOLDS
    chosen = np.zeros(sides.n, dtype=np.int64)
    for place in range(FOLDS):
        others = fold != place
        gaps: list[float] = []
        for votes in thresholds:
            route = Route.of(sides, sides.votes < votes)
            columns = _columns(sides, route)[others].mean(axis=0)
            gaps.append(float(gap_of(columns)))
        chosen[fold == place] = thresholds[int(np.argmax(gaps))]
    return chosen


# ---- intervals -----------------------------------------------------------------------------------


def gap_of(means: Floats) -> Floats:
    """Accuracy above random routing at the same cost; `means` (…, 6) as `_columns` orders them.

    Who sends a share λ of all problems to the teacher, whatever the student says, and the others to
    the student's vote, pays C_s + λ·(C_t − C_s) and is right in a_s + λ·(a_t − a_s) of them: the
    straight line between the two. At the cost of the cascade λ = (C − C_s) / (C_t − C_s), at most
    1: more than the teacher alone nobody needs to pay, and where it is cheaper than the votes λ is
    1 at once. Where the teacher is no better, the line stays at a_s.
    """
    right, cost, student, student_cost, teacher, teacher_cost = np.moveaxis(means, -1, 0)
    rise = teacher_cost - student_cost
    more = cost - student_cost
    share = np.where(rise > 0, more / np.where(rise > 0, rise, 1.0), 1.0)
    line = student + np.clip(share, 0.0, 1.0) * np.maximum(teacher - student, 0.0)
    return right - line


def _columns(sides: Sides, route: Route) -> Floats:
    """(problems, 6): what the means of a gap are taken of."""
    both = (route.right, route.cost, sides.student, sides.student_cost)
    return np.stack([*both, sides.teacher, sides.teacher_cost], axis=1)


@dataclass(frozen=True)
class MeasuredRoute:
    """Cost, gap and the share of the teacher's cost, each with its interval."""

    cost: Bounded
    gap: Bounded
    cost_share: Bounded


def measure_routes(
    sides: Sides, routes: list[Route], *, seed: int, resamples: int, level: float
) -> list[MeasuredRoute]:
    """Several routes on the same draws of problems: bootstrap intervals, percentiles widened for
    small n (`widened_tails`).

    Two pseudo-problems are among those that are drawn, for the gap alone: where few problems are
    asked and none of them changed sides, resampling them would say that none ever does. They are
    as the mean problem, but ½ of the usual square of a change (`pseudo_square`) right or wrong:
    the idea of Agresti & Min 2005 (Stat Med 24:729).
    """
    n = sides.n
    tables: list[Floats] = []
    for route in routes:
        columns = _columns(sides, route)
        square = pseudo_square(route.right - sides.student)
        pseudo = np.repeat(columns.mean(axis=0)[None], 2, axis=0)
        pseudo[:, 0] += math.sqrt(square / 2) * np.array([1.0, -1.0])
        tables.append(np.concatenate([columns, pseudo]))
    random = np.random.default_rng(seed)
    chances = np.full(n + 2, 1 / (n + 2))
    draws: list[list[Floats]] = [[] for _ in routes]
    at_once = max(1, _AT_ONCE // (n + 2))
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        weights = random.multinomial(n + 2, chances, size=count) / (n + 2)
        for table, means in zip(tables, draws, strict=True):
            means.append(weights @ table)
    tails = widened_tails(n, level)
    found: list[MeasuredRoute] = []
    for route, means in zip(routes, draws, strict=True):
        own = _columns(sides, route).mean(axis=0)
        drawn = np.concatenate(means)
        shares = drawn[:, 1] / np.maximum(drawn[:, 5], np.finfo(float).tiny)
        share = float(own[1] / max(own[5], np.finfo(float).tiny))
        found.append(
            MeasuredRoute(
                cost=_between(float(own[1]), drawn[:, 1], tails),
                gap=_between(float(gap_of(own)), gap_of(drawn), tails),
                cost_share=_between(share, shares, tails),
            )
        )
    return found


def widened_tails(n: int, level: float) -> tuple[float, float]:
    """The percentiles of a bootstrap interval of n problems: Hesterberg 2015, "What Teachers Should
    Know About the Bootstrap" (Am Stat 69:371), section 5.2: the tail Φ(−t √(n/(n−1))) for α/2,
    since a percentile interval is narrow by √((n−1)/n) and has normal tails for Student's.
    """
    from scipy import special

    reach = student_quantile(level, n) * math.sqrt(n / (n - 1))
    tail = float(special.ndtr(-reach))
    return tail, 1 - tail


def _between(mean: float, draws: Floats, tails: tuple[float, float]) -> Bounded:
    low, high = np.quantile(draws, tails)
    return Bounded(mean=mean, low=min(float(low), mean), high=max(float(high), mean))
