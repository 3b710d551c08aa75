"""How hard a problem is for a model: its pass rate there, and the band that this is in.

pass_rate(verdict.grade.outcome for verdict in verdicts_of_one_problem)     # 0.25, or None
band_of(0.25)                                                               # "seldom"
"""

from __future__ import annotations

from collections.abc import Iterable

from reasondistill.records import Outcome

# How often a model solves a problem, and the highest pass rate of that band. Every pass rate but 1
# is below 1 by a whole sample.
BANDS = {"never": 0.0, "seldom": 0.5, "mostly": 1 - 1e-9, "always": 1.0}
UNKNOWN = "unknown"


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


def band_of(rate: float | None) -> str:
    """The band of a pass rate: solved `never`, `seldom` (in half of the samples or fewer), `mostly`
    or `always`; `unknown` where none was decided.

    >>> band_of(0.0), band_of(0.5), band_of(0.75), band_of(1.0), band_of(None)
    ('never', 'seldom', 'mostly', 'always', 'unknown')
    """
    if rate is None:
        return UNKNOWN
    return next(name for name, most in BANDS.items() if rate <= most)
