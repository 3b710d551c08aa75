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
from reasondistill.grading.decide.layers import decide_cheaply
from reasondistill.grading.serve.majority import Same, clusters, maj_at_k
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
            if decision.is_open:
                open_pairs.add((a, b))
                return False
            known[a, b] = decision.is_correct
        return known[a, b]

    first = _all_sizes(sheets, same)
    if not open_pairs:
        return first
    in_order = sorted(open_pairs)
    items = [
        GradeItem(str(place), f"\\boxed{{{a}}}", f"\\boxed{{{b}}}")
        for place, (a, b) in enumerate(in_order)
    ]
    # Classes that now fall together are compared with others than before; such a pair, if open
    # again, counts as different.
    for pair, (_, grade) in zip(in_order, pool.grade_many(items), strict=True):
        known[pair] = grade.is_correct
    return _all_sizes(sheets, same)


def _all_sizes(sheets: Sequence[Sheet], same: Same) -> list[list[tuple[int, ...]]]:
    """Sheet by sheet and problem by problem."""
    sizes: list[list[tuple[int, ...]]] = []
    for sheet in sheets:
        sizes.append([_sizes(answers, same) for answers in sheet.wrong])
    return sizes


def _sizes(answers: Counter[str], same: Same) -> tuple[int, ...]:
    if len(answers) < 2:
        return tuple(answers.values())
    distinct = list(answers)
    sizes: list[int] = []
    for members in clusters(distinct, same):
        sizes.append(sum(answers[distinct[place]] for place in members))
    return tuple(sorted(sizes, reverse=True))


def majority_rates(sheet: Sheet, wrong: Sequence[tuple[int, ...]], k: int) -> NDArray[np.float64]:
    """maj@k of each problem, exact over all subsets of k of its samples; chance breaks a tie."""
    hits = sheet.correct.sum(axis=1).tolist()
    rates: list[float] = []
    for right, classes in zip(hits, wrong, strict=True):
        rates.append(majority_rate(right, classes, sheet.k, k))
    return np.array(rates)


@lru_cache(maxsize=100_000)
def majority_rate(right: int, wrong: tuple[int, ...], n: int, k: int) -> float:
    """maj@k of a problem with `right` correct samples among n; 0 where there is none."""
    if not right:
        return 0.0
    return maj_at_k((right, *wrong), 0, n, k)
