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

from reasondistill.statistics.basics import LEVEL
from reasondistill.statistics.means import Estimate, bootstrap_interval, mean_interval, wilson
from reasondistill.statistics.metrics import BudgetPoint, g_pass_at_k, mg_pass_at_k, pass_at_k, within_budget
from reasondistill.statistics.paired import (
    Gap,
    PairedEstimate,
    Word,
    paired_difference,
    shrunken_t_interval,
    sign_flip_p_value,
    tango_interval,
    verdict_word,
)
from reasondistill.statistics.several import PooledEstimate, Spread, exchangeable_p_value, holm, pooled_difference, variant_spread

__all__ = [
    "BudgetPoint",
    "Estimate",
    "Gap",
    "LEVEL",
    "PairedEstimate",
    "PooledEstimate",
    "Spread",
    "Word",
    "bootstrap_interval",
    "exchangeable_p_value",
    "g_pass_at_k",
    "holm",
    "mean_interval",
    "mg_pass_at_k",
    "paired_difference",
    "pass_at_k",
    "pooled_difference",
    "shrunken_t_interval",
    "sign_flip_p_value",
    "tango_interval",
    "variant_spread",
    "verdict_word",
    "wilson",
    "within_budget",
]
