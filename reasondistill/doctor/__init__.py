"""Lists the checks before a run, each of which stands beside what it judges, and estimates what
each task will make.

    check(run)                     # raises what would otherwise fail hours later
    examine(run, COSTS)            # all of them, with what they found
    estimate(run, task)            # "40,000 traces, at most 320,000,000 tokens"

A further check is one function, which registers itself with `reasondistill.checks.check`.
"""

from reasondistill.checks import all_checks
from reasondistill.doctor.estimates import estimate
from reasondistill.doctor.examining import Examined, batches_in, check, examine

__all__ = ["Examined", "all_checks", "batches_in", "check", "estimate", "examine"]
