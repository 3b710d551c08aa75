"""Checks before a run starts, without loading weights, and estimates of what each task will make.

    check(run)                     # raises what would otherwise fail hours later
    all_checks()                   # each with its name and description
    estimate(run, task)            # "40,000 traces, at most 320,000,000 tokens"

A further check is one function, which registers itself with `run_check` (checks.py).
"""

from reasondistill.doctor.checks import check
from reasondistill.doctor.estimates import estimate
from reasondistill.doctor.registry import RunCheck, all_checks, run_check

__all__ = ["RunCheck", "all_checks", "check", "estimate", "run_check"]
