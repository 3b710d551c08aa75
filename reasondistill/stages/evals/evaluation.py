"""One model on one benchmark without a folder: samples and verdicts in, records and scores out.

found = evaluate("distilled", "gsm8k", problems, graded, pool=pool)
found.scores[0].mean, found.scores[0].low, found.scores[0].high     # pass@1 with its interval
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reasondistill.errors import DataError
from reasondistill.grading import GradingPool
from reasondistill.records import EvalRecord, Graded, Problem, Score
from reasondistill.stages.evals.outcomes import Sheet, enter_samples
from reasondistill.stages.evals.scoring import score_sheet
from reasondistill.stages.evals.votes import wrong_classes


@dataclass(frozen=True)
class Evaluation:
    """Every graded sample, the scores over them, and the same as arrays: two of these `sheet`s can
    be compared (`comparing.differences`).
    """

    records: tuple[EvalRecord, ...]
    scores: tuple[Score, ...]
    sheet: Sheet


def evaluate(
    model: str,
    benchmark: str,
    problems: Sequence[Problem],
    graded: Iterable[Graded],
    *,
    samples: int = 1,
    pool: GradingPool,
    failures_allowed: float = 0.0,
) -> Evaluation:
    """The scores of a model on some problems: pass@1, and with several `samples` of each problem
    pass@k, maj@k and mG-Pass@k, each with its 95 % interval.

    `graded` holds each sample beside its verdict, a problem's samples one after another; more than
    `samples` are left aside. The `pool` groups equivalent answers for maj@k. Raises DataError
    without problems, StageError unless all problems × samples are there; the share
    `failures_allowed` of them may be lost.
    """
    if not problems:
        raise DataError(f"{benchmark}: no problems; there is nothing to score.")
    names = [problem.id for problem in problems]
    sheet = Sheet.empty(model, benchmark, names, samples)
    label = f"{model} on {benchmark}"
    records = tuple(enter_samples(sheet, graded, where=label, failures_allowed=failures_allowed))
    (wrong,) = wrong_classes([sheet], pool)
    return Evaluation(records, tuple(score_sheet(sheet, wrong)), sheet)
