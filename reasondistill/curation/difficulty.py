"""How hard a problem is for a model: its pass rate there.

pass_rate(verdict.grade.outcome for verdict in verdicts_of_one_problem)     # 0.25, or None
"""

from __future__ import annotations

from collections.abc import Iterable

from reasondistill.records import Outcome


def pass_rate(outcomes: Iterable[Outcome]) -> float | None:
    """The share of correct samples among those that were decided; None where none was. What failed
    is undecided too.

    Of a problem that was drawn until enough samples are correct the share is larger than what it
    would be of a fixed number of samples: the last one is always correct.
    """
    decided = [outcome for outcome in outcomes if outcome != "undecided"]
    if not decided:
        return None
    return decided.count("correct") / len(decided)
