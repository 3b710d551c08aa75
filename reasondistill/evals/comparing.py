"""Models against baselines over the same problems: paired differences, Holm's correction, and the problems that flipped.

for row in differences(sheets, {"distilled": ["base", "answer-only"]}):
    print(row.model, row.word, "than", row.baseline, row.mean, row.p_adjusted)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reasondistill import statistics
from reasondistill.errors import StageError
from reasondistill.evals.sheets import Sheet
from reasondistill.records import Difference
from reasondistill.statistics.several import holm

Sheets = Mapping[tuple[str, str], Sheet]


def differences(sheets: Sheets, baselines: Mapping[str, Sequence[str]]) -> list[Difference]:
    """Each model against each of its baselines on each benchmark, in that order.

    All models that share a baseline on a benchmark are one family: their p-values are adjusted together (Holm 1979).
    Raises StageError when a model or baseline did not answer the benchmark.
    """
    pairs = [
        (benchmark, model, other)
        for benchmark in dict.fromkeys(benchmark for benchmark, _ in sheets)
        for model, others in baselines.items()
        for other in others
    ]
    families: dict[tuple[str, str], list[tuple[str, statistics.PairedEstimate]]] = {}
    for benchmark, model, other in pairs:
        gap = statistics.paired_difference(_sheet(sheets, benchmark, model).correct, _sheet(sheets, benchmark, other).correct)
        families.setdefault((benchmark, other), []).append((model, gap))
    made: dict[tuple[str, str, str], Difference] = {}
    for (benchmark, other), family in families.items():
        adjusted = holm([gap.p_value for _, gap in family])
        for (model, gap), p_adjusted in zip(family, adjusted, strict=True):
            made[benchmark, model, other] = difference(sheets[benchmark, model], sheets[benchmark, other], gap, p_adjusted)
    return [made[pair] for pair in pairs]


def _sheet(sheets: Sheets, benchmark: str, model: str) -> Sheet:
    if (benchmark, model) not in sheets:
        raise StageError(f"{model}: is to be compared on {benchmark} but is not among the models that answered it.")
    return sheets[benchmark, model]


def difference(ours: Sheet, theirs: Sheet, gap: statistics.PairedEstimate, p_adjusted: float) -> Difference:
    """The record of a paired comparison; the word is that of the adjusted p-value."""
    flips = ours.correct[:, 0].astype(int) - theirs.correct[:, 0].astype(int) if ours.k == theirs.k == 1 else None
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
        gained=None if flips is None else int((flips > 0).sum()),
        lost=None if flips is None else int((flips < 0).sum()),
    )


# ---- flips --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flip:
    """A problem that one model solves more often: shares of correct samples."""

    problem_id: str
    ours: float
    theirs: float


def flips(ours: Sheet, theirs: Sheet) -> list[Flip]:
    """The problems on which two models differ, the largest differences first; ours worse before ours better at equal size."""
    a, b = ours.correct.mean(axis=1), theirs.correct.mean(axis=1)
    order = np.lexsort((a - b, -np.abs(a - b)))
    return [Flip(ours.problems[row], float(a[row]), float(b[row])) for row in order.tolist() if a[row] != b[row]]
