"""Means with honest intervals and paired comparisons, for graded samples of `n` problems × `k`
samples.

Problems are draws from a population of problems, samples are draws from the model: every interval
here counts both sources. Nothing returns an interval of zero width, and nothing says more than its
data can: 0 of 30 is [0, 11 %].

    score = mean_interval(correct)                    # correct: bool (problems, samples)
    gap = paired_difference(ours, baseline)           # same problems, row by row
    print(score.mean, score.low, score.high, gap.p_value, verdict_word(gap))

    # several comparisons at once are corrected here, and only where asked
    holm([gap.p_value, …])
    # before the run: how many problems show +3 points?
    needed_problems(0.03, k=16)

Everything is deterministic; what draws random numbers takes a seed. What is *not* covered: problems
that are not independent of each other (templates, translations), and kinds of problems too rare to
be among those asked.
"""

from __future__ import annotations

from reasondistill.statistics.basics import LEVEL
from reasondistill.statistics.means import Estimate, bootstrap_interval, mean_interval, wilson
from reasondistill.statistics.metrics import (
    BudgetPoint,
    g_pass_at_k,
    mg_pass_at_k,
    pass_at_k,
    within_budget,
)
from reasondistill.statistics.paired import (
    Gap,
    PairedEstimate,
    Word,
    agreeing_interval,
    paired_difference,
    shrunken_t_interval,
    sign_flip_p_value,
    skewed_t_interval,
    tango_interval,
    verdict_word,
)
from reasondistill.statistics.planning import (
    Population,
    difference_variance,
    estimate_population,
    needed_problems,
    needed_samples,
    power,
    simulate_power,
    smallest_effect,
)
from reasondistill.statistics.seeds import (
    NeededSize,
    SeededEstimate,
    needed_size,
    seeded_difference,
)
from reasondistill.statistics.several import (
    PooledEstimate,
    Spread,
    exchangeable_p_value,
    holm,
    pooled_difference,
    variant_spread,
)

__all__ = [
    "BudgetPoint",
    "Estimate",
    "Gap",
    "LEVEL",
    "NeededSize",
    "PairedEstimate",
    "PooledEstimate",
    "Population",
    "SeededEstimate",
    "Spread",
    "Word",
    "agreeing_interval",
    "bootstrap_interval",
    "difference_variance",
    "estimate_population",
    "exchangeable_p_value",
    "g_pass_at_k",
    "holm",
    "mean_interval",
    "mg_pass_at_k",
    "needed_problems",
    "needed_samples",
    "needed_size",
    "paired_difference",
    "pass_at_k",
    "pooled_difference",
    "power",
    "seeded_difference",
    "shrunken_t_interval",
    "sign_flip_p_value",
    "simulate_power",
    "skewed_t_interval",
    "smallest_effect",
    "tango_interval",
    "variant_spread",
    "verdict_word",
    "wilson",
    "within_budget",
]
