"""Grade an answer against a gold answer: extraction, layered equivalence, five outcomes, killable
workers.

    verify("0.5", "The answer is $\\\\frac12$.")               # True, False, or None: undecided
    grade("The answer is $\\\\frac12$.", "0.5").outcome        # "correct"

    with GradingPool(deadline_s=5.0) as pool:
        for name, result in pool.grade_many(GradeItem("a", text, gold) for …):
            ...

A name is imported when it is first asked for: the workers need none of them, and start faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reasondistill.imports import late

if TYPE_CHECKING:
    from reasondistill.grading.policies import POLICIES, Policy, find_policy
    from reasondistill.grading.serve.items import (
        ENGINE_ERROR,
        INPUT_FAULT,
        LONGEST_SHOWN,
        GradeItem,
        grade,
    )
    from reasondistill.grading.serve.pool import GradingPool
    from reasondistill.grading.serve.rewards import accuracy_reward, compute_score
    from reasondistill.grading.serve.verify import verify
    from reasondistill.grading.version import GRADER, VERSION

__all__ = [
    "ENGINE_ERROR",
    "GRADER",
    "INPUT_FAULT",
    "LONGEST_SHOWN",
    "POLICIES",
    "VERSION",
    "GradeItem",
    "GradingPool",
    "Policy",
    "accuracy_reward",
    "compute_score",
    "find_policy",
    "grade",
    "verify",
]

_HOMES = {
    "policies": ("POLICIES", "Policy", "find_policy"),
    "version": ("GRADER", "VERSION"),
    "serve.items": (
        "ENGINE_ERROR",
        "INPUT_FAULT",
        "LONGEST_SHOWN",
        "GradeItem",
        "grade",
    ),
    "serve.pool": ("GradingPool",),
    "serve.rewards": ("accuracy_reward", "compute_score"),
    "serve.verify": ("verify",),
}

__getattr__ = late(__name__, _HOMES)
