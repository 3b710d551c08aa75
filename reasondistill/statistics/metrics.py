"""Metrics of a problem with several samples, from counts alone: exact over all subsets of
the samples.

correct = np.array([0, 3, 16])                    # correct ones among 16 samples of three problems
pass_at_k(correct, 16, 4).mean()                  # at least one of four
g_pass_at_k(correct, 16, 4, 0.75).mean()          # at least three of four
# how well solving once carries over to solving always
mg_pass_at_k(correct, 16, 4).mean()
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasondistill.statistics.basics import LEVEL, Floats, shape_of
from reasondistill.statistics.means import Estimate, mean_interval


@dataclass(frozen=True)
class BudgetPoint:
    """Accuracy when every sample may use `budget` tokens, and the share of samples that fit into
    it.
    """

    budget: int
    accuracy: Estimate
    finished: float


def pass_at_k(correct: NDArray[Any], n: int, k: int) -> Floats:
    """The unbiased estimate of P(at least one of k samples is correct), for each problem with
    `correct` of `n` samples.

    1 − C(n−c, k) / C(n, k), Chen et al. 2021 (arXiv 2107.03374), eq. 1. Any shape in, the same
    shape out. Raises ValueError unless 1 ≤ k ≤ n and every count is in 0 … n.
    """
    counts = _counts(correct, n, k, "pass")
    draws = np.arange(k, dtype=np.float64)
    # C(n−c, k) / C(n, k) is a product of k ratios: never overflows. A negative factor means fewer
    # than k wrong ones.
    wrong = (n - counts)[..., None]
    ratios = np.clip((wrong - draws) / (n - draws), 0.0, None)
    all_wrong = np.prod(ratios, axis=-1)
    return 1.0 - all_wrong


def g_pass_at_k(correct: NDArray[Any], n: int, k: int, tau: float) -> Floats:
    """The unbiased estimate of P(at least a share tau of k samples is correct): G-Pass@k_tau, for
    each problem.

    Σ_{j=⌈tau·k⌉}^{k} C(c, j) C(n−c, k−j) / C(n, k), Liu et al. 2024, "Are Your LLMs Capable of
    Stable Reasoning?" (arXiv 2412.13147). tau = 1: all k correct. tau = 0 is their limit tau → 0,
    at least one: pass@k. Any shape in, the same shape out. Raises ValueError unless 1 ≤ k ≤ n, 0 ≤
    tau ≤ 1 and every count is in 0 … n.
    """
    counts = _counts(correct, n, k, "G-Pass")
    if not 0 <= tau <= 1:
        raise ValueError(f"G-Pass@{k} needs 0 ≤ tau ≤ 1, found {tau}")
    # 0.07 · 100 is 7.000000000000001 and must not ask for eight.
    needed = math.ceil(tau * k - 1e-9)
    tails = _at_least(counts, n, k)
    return tails[..., max(1, needed)]


def mg_pass_at_k(correct: NDArray[Any], n: int, k: int) -> Floats:
    """The mean of G-Pass@k_tau over tau in [½, 1], as its paper sums it: 2/k · Σ_{i=⌈k/2⌉+1}^{k}
    G-Pass@k_{i/k}.

    Liu et al. 2024 (arXiv 2412.13147). For even k it reaches 1; for odd k the paper's sum has (k −
    1)/2 terms and ends at (k − 1)/k, so compare odd k only with itself. Shapes and errors as in
    `g_pass_at_k`; k = 1 would sum nothing and is refused.
    """
    counts = _counts(correct, n, k, "mG-Pass")
    if k == 1:
        raise ValueError("mG-Pass@1 sums nothing: it needs k ≥ 2")
    first = math.ceil(k / 2) + 1
    tails = _at_least(counts, n, k)
    summed = tails[..., first:].sum(axis=-1)
    return 2 / k * summed


def _counts(correct: NDArray[Any], n: int, k: int, metric: str) -> Floats:
    """The counts as floats, once k and they are possible."""
    if not 1 <= k <= n:
        raise ValueError(f"{metric}@{k} needs 1 ≤ k ≤ samples = {n}")
    counts = np.asarray(correct, dtype=np.float64)
    if counts.size == 0:
        return counts
    lowest, highest = counts.min(), counts.max()
    are_possible = lowest >= 0 and highest <= n
    if not are_possible:  # NaN is not possible either
        raise ValueError(
            f"{metric}@{k}: correct counts reach from {lowest:g} to {highest:g}, "
            f"but there are {n} samples"
        )
    return counts


def _at_least(counts: Floats, n: int, k: int) -> Floats:
    """P(at least j of k samples drawn without return are correct), (…, k + 1) for j = 0 … k:
    hypergeometric, in logarithms.
    """
    levels, place = np.unique(counts, return_inverse=True)
    right = levels[:, None]
    wrong = n - right
    right_drawn = np.arange(k + 1, dtype=np.float64)
    wrong_drawn = k - right_drawn
    is_possible = (right_drawn <= right) & (wrong_drawn <= wrong)
    right_ways = _log_choose(right, np.minimum(right_drawn, right))
    wrong_ways = _log_choose(wrong, np.clip(wrong_drawn, 0, wrong))
    all_ways = _log_choose(np.float64(n), np.float64(k))
    log_chances = right_ways + wrong_ways - all_ways
    chances = np.where(is_possible, np.exp(log_chances), 0.0)
    sums_from_the_top = np.cumsum(chances[:, ::-1], axis=1)
    tails = np.clip(sums_from_the_top[:, ::-1], 0.0, 1.0)
    return tails[place.reshape(counts.shape)]


def _log_choose(n: Any, k: Any) -> Any:
    from scipy import special

    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


def within_budget(
    correct: NDArray[Any], tokens: NDArray[Any], budgets: Sequence[int], *, level: float = LEVEL
) -> tuple[BudgetPoint, ...]:
    """Accuracy under each token budget, from one run with a long one: a sample counts when it is
    correct and fits.

    `correct` and `tokens`, the tokens that each sample took, are (problems, samples). A run with a
    shorter limit would write the same first tokens, as far as chance is the same: a sample that
    ended within the budget is unchanged, and one that did not would have been cut off: counted as
    wrong. That is a lower bound where the answer already stood in the text before the cut and the
    grader would have found it, or where a run is told its budget. `finished` counts samples of at
    most `budget` tokens, right or wrong. One point per budget, in their order. Raises ValueError
    for a shape other than (problems, samples) or two different ones.
    """
    shape_of(correct)
    if correct.shape != tokens.shape:
        raise ValueError(
            f"correct is {correct.shape} and tokens {tokens.shape}: want the same "
            "(problems, samples)"
        )
    points: list[BudgetPoint] = []
    for budget in budgets:
        fits = tokens <= budget
        accuracy = mean_interval(correct.astype(bool) & fits, level=level)
        finished = float(fits.mean())
        points.append(BudgetPoint(budget, accuracy, finished))
    return tuple(points)
