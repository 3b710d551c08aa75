"""maj@k: how often the majority of k samples is right, with answers counted by equivalence.

All correct answers of a problem equal its gold, so they are one class; only the others have to be
compared with each other, cheaply where that decides, the rest of all problems together in the
grader's processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from reasondistill.grading import GradeItem, GradingPool, find_policy
from reasondistill.grading.equivalence import decide_cheaply
from reasondistill.grading.majority import Same, clusters, maj_at_k
from reasondistill.stages.evals.outcomes import Sheet

Pair = tuple[str, str]


def wrong_classes(sheets: Sequence[Sheet], pool: GradingPool) -> list[list[tuple[int, ...]]]:
    """For each sheet and each of its problems, the sizes of the classes of equivalent answers that
    are not correct.
    """
    known: dict[Pair, bool] = {}
    open_pairs: set[Pair] = set()
    policy = find_policy(pool.policy)

    def same(a: str, b: str) -> bool:
        if (a, b) not in known:
            decision = decide_cheaply(a, b, policy)
            if decision is None:
                open_pairs.add((a, b))
                return False
            known[a, b] = decision.outcome == "correct"
        return known[a, b]

    first = [[_sizes(answers, same) for answers in sheet.wrong] for sheet in sheets]
    if not open_pairs:
        return first
    asked = sorted(open_pairs)
    items = (
        GradeItem(str(i), f"\\boxed{{{a}}}", f"\\boxed{{{b}}}") for i, (a, b) in enumerate(asked)
    )
    # Classes that now fall together are compared with others than before; such a pair, if open
    # again, counts as different.
    known |= {
        pair: grade.is_correct
        for pair, (_, grade) in zip(asked, pool.grade_many(items), strict=True)
    }
    return [[_sizes(answers, same) for answers in sheet.wrong] for sheet in sheets]


def _sizes(answers: Counter[str], same: Same) -> tuple[int, ...]:
    if len(answers) < 2:
        return tuple(answers.values())
    distinct = list(answers)
    return tuple(
        sorted(
            (sum(answers[distinct[i]] for i in members) for members in clusters(distinct, same)),
            reverse=True,
        )
    )


def majority_rates(sheet: Sheet, wrong: Sequence[tuple[int, ...]], k: int) -> NDArray[np.float64]:
    """maj@k of each problem, exact over all subsets of k of its samples; a tie is broken by chance."""
    hits = sheet.correct.sum(axis=1).tolist()
    return np.array(
        [_rate(right, classes, sheet.k, k) for right, classes in zip(hits, wrong, strict=True)]
    )


@lru_cache(maxsize=100_000)
def _rate(right: int, wrong: tuple[int, ...], n: int, k: int) -> float:
    return maj_at_k((right, *wrong), 0, n, k) if right else 0.0
