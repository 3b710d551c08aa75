"""Models against baselines over the same problems: paired differences, Holm's correction, and the
problems that flipped.

for row in differences(sheets, {"distilled": ["base", "answer-only"]}):
    print(row.model, row.word, "than", row.baseline, row.mean, row.p_adjusted)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reasondistill import statistics
from reasondistill.errors import StageError
from reasondistill.records import Difference
from reasondistill.stages.evals.outcomes import Sheet
from reasondistill.statistics.several import holm

Sheets = Mapping[tuple[str, str], Sheet]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """Two sheets with the same problems in the same order; `left_out` says of each problem that one
    of the two lacks why.
    """

    ours: Sheet
    theirs: Sheet
    left_out: Mapping[str, str]


def paired(ours: Sheet, theirs: Sheet) -> Pair:
    """What both models have: a problem that was refused or lost for one of them is left out of
    both.

    Raises StageError when they differ by other problems than these.
    """
    reasons: dict[str, list[str]] = {}
    for sheet in (ours, theirs):
        for name in sorted(sheet.lost_problems):
            reasons.setdefault(name, []).append(f"lost for {sheet.model}")
        for name, reason in sheet.refused.items():
            reasons.setdefault(name, []).append(f"refused for {sheet.model}: {reason}")
    left_out = {name: ", ".join(words) for name, words in reasons.items()}
    common = [name for name in ours.problems if name not in left_out]
    if set(common) != set(theirs.problems) - left_out.keys():
        raise StageError(
            f"{ours.benchmark}: {ours.model} and {theirs.model} did not answer the same problems."
        )
    return Pair(ours.only(common), theirs.only(common), left_out)


def differences(sheets: Sheets, baselines: Mapping[str, Sequence[str]]) -> list[Difference]:
    """Each model against each of its baselines on each benchmark, in that order, over the problems
    that both have.

    Two families are corrected for on each benchmark (Holm 1979): all models that are compared with
    one baseline, and all baselines that one model is compared with. A comparison stands in one of
    each; the larger of its two adjusted p-values counts. Two models that have no problem in common
    are passed over. Raises StageError when a model or baseline did not answer the benchmark.
    """
    pairs: list[tuple[str, str, str]] = []
    for benchmark in dict.fromkeys(benchmark for benchmark, _ in sheets):
        for model, others in baselines.items():
            pairs += [(benchmark, model, other) for other in others]
    gaps: dict[tuple[str, str, str], tuple[Pair, statistics.PairedEstimate]] = {}
    for benchmark, model, other in pairs:
        both = paired(_sheet(sheets, benchmark, model), _sheet(sheets, benchmark, other))
        if not both.ours.problems:
            log.warning(
                "%s: %s and %s have no problem in common; they are not compared",
                benchmark,
                model,
                other,
            )
            continue
        gap = statistics.paired_difference(both.ours.correct, both.theirs.correct)
        gaps[benchmark, model, other] = (both, gap)
    p_values = {names: gap.p_value for names, (_, gap) in gaps.items()}
    p_adjusted = adjusted_in_families(p_values)
    return [
        difference(both.ours, both.theirs, gap, p_adjusted[names])
        for names, (both, gap) in gaps.items()
    ]


def adjusted_in_families(
    p_values: Mapping[tuple[str, str, str], float],
) -> dict[tuple[str, str, str], float]:
    """p-values of comparisons (benchmark, model, baseline), corrected within each family that a
    comparison stands in: that of its baseline and that of its model. The larger one counts.
    """
    families: dict[tuple[str, str, str], list[tuple[str, str, str]]] = {}
    for names in p_values:
        benchmark, model, baseline = names
        families.setdefault((benchmark, "against", baseline), []).append(names)
        families.setdefault((benchmark, "of", model), []).append(names)
    adjusted = dict.fromkeys(p_values, 0.0)
    for family in families.values():
        corrected = holm([p_values[names] for names in family]).tolist()
        for names, p_value in zip(family, corrected, strict=True):
            adjusted[names] = max(adjusted[names], p_value)
    return adjusted


def _sheet(sheets: Sheets, benchmark: str, model: str) -> Sheet:
    if (benchmark, model) not in sheets:
        raise StageError(
            f"{model}: is to be compared on {benchmark} but is not among the models that "
            "answered it."
        )
    return sheets[benchmark, model]


def difference(
    ours: Sheet, theirs: Sheet, gap: statistics.PairedEstimate, p_adjusted: float
) -> Difference:
    """The record of a comparison of paired sheets; the word is that of the adjusted p-value."""
    gained, lost = None, None
    if ours.k == theirs.k == 1:
        mine, other = ours.correct[:, 0], theirs.correct[:, 0]
        gained = int((mine & ~other).sum())
        lost = int((other & ~mine).sum())
    return Difference(
        model=ours.model,
        baseline=theirs.model,
        benchmark=ours.benchmark,
        metric="pass@1",
        mean=gap.mean,
        low=gap.low,
        high=gap.high,
        n=gap.n,
        k=gap.k,
        p_value=gap.p_value,
        p_adjusted=p_adjusted,
        word=statistics.verdict_word(replace(gap, p_value=p_adjusted)),
        gained=gained,
        lost=lost,
    )


# ---- flips ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flip:
    """A problem that one model solves more often: shares of correct samples."""

    problem_id: str
    ours: float
    theirs: float


def flips(ours: Sheet, theirs: Sheet) -> list[Flip]:
    """The problems on which two models differ, the largest differences first; ours worse before
    ours better at equal size.

    Of the problems that both have.
    """
    both = paired(ours, theirs)
    our_shares = both.ours.correct.mean(axis=1)
    their_shares = both.theirs.correct.mean(axis=1)
    gaps = our_shares - their_shares
    order = np.lexsort((gaps, -np.abs(gaps)))
    flipped: list[Flip] = []
    for row in order.tolist():
        if gaps[row] != 0:
            name = both.ours.problems[row]
            flipped.append(Flip(name, float(our_shares[row]), float(their_shares[row])))
    return flipped
