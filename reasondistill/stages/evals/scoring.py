"""A sheet of graded samples → scores: pass@k, maj@k, mG-Pass@k, by subject and level, within token
budgets, on clean problems.

Every score is a mean over problems with a 95 % interval. pass@1 is the mean over all samples
(others call it avg@k); its interval counts problems and samples. The other metrics are per-problem
values in [0, 1]: Wilson's interval, which holds for any of them and is wide for those that are not
0 or 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from reasondistill import statistics
from reasondistill.curation.difficulty import band_of, pass_rate
from reasondistill.records import OUTCOMES, Outcome, Problem, Score
from reasondistill.stages.evals.outcomes import Sheet
from reasondistill.stages.evals.votes import majority_rates
from reasondistill.statistics.metrics import mg_pass_at_k, within_budget

# A group of fewer problems than this says nothing by itself; it is listed among "other".
SMALLEST_GROUP = 5
MOST_GROUPS = 40
BUDGETS = 6


def score_sheet(sheet: Sheet, wrong: Sequence[tuple[int, ...]]) -> Iterator[Score]:
    """pass@1; with several samples also pass@k and maj@k for k = 2, 4, 8, … and all of them, and
    mG-Pass@k.

    `wrong` holds the sizes of each problem's classes of equivalent wrong answers.
    """
    yield pass_at_1(sheet)
    hits, n = sheet.correct.sum(axis=1), sheet.k
    for k in sample_counts(n):
        yield _rate_score(sheet, f"pass@{k}", statistics.pass_at_k(hits, n, k))
        yield _rate_score(sheet, f"maj@{k}", majority_rates(sheet, wrong, k))
    if n > 1:
        yield _rate_score(sheet, f"mg-pass@{n}", mg_pass_at_k(hits, n, n))


def pass_at_1(sheet: Sheet) -> Score:
    """The mean over all samples of all problems."""
    return _score(sheet, "pass@1", statistics.mean_interval(sheet.correct))


def sample_counts(n: int) -> list[int]:
    """2, 4, 8, … and n itself: the k of pass@k and maj@k; none for a single sample."""
    if n < 2:
        return []
    powers = [2**power for power in range(1, n.bit_length()) if 2**power < n]
    return [*powers, n]


def score_parts(
    sheet: Sheet, problems: Mapping[str, Problem], suspects: frozenset[str] | None
) -> Iterator[Score]:
    """pass@1 by subject and by level, on clean and on suspect problems, and within token budgets.

    `suspects` are the problems that the training set may have given away; None where there is no
    training set.
    """
    subjects = {name: problem.subject for name, problem in problems.items()}
    levels = {name: problem.level for name, problem in problems.items()}
    for kind, value_of in (("subject", subjects), ("level", levels)):
        for value, members in _groups(sheet.problems, value_of).items():
            yield _part(sheet, f"{kind}: {value}", sheet.rows(members.__contains__))
    if suspects:
        halves = {
            "clean": sheet.rows(lambda name: name not in suspects),
            "suspect": sheet.rows(suspects.__contains__),
        }
        for name, correct in halves.items():
            if len(correct):
                yield _part(sheet, f"overlap: {name}", correct)
    for point in within_budget(sheet.correct, sheet.tokens, token_budgets(sheet.max_tokens)):
        yield _score(sheet, "pass@1", point.accuracy, f"tokens: {point.budget}")


# The bands of difficulty as scores name them, in percent of a model's decided samples.
_DIFFICULTIES = {"never": "0 %", "seldom": "to 50 %", "mostly": "to 99 %", "always": "100 %"}


def score_by_difficulty(sheet: Sheet, of: Sheet) -> Iterator[Score]:
    """pass@1 on the problems that another model never, seldom, mostly and always solved. Not of
    that model itself: its own luck has sorted them.

    Problems of which none of its samples was decided are in no part; nor is anything where all are
    in one.
    """
    parts: dict[str, set[str]] = {name: set() for name in _DIFFICULTIES.values()}
    for problem, outcomes in zip(of.problems, of.outcomes, strict=True):
        asked = (outcome for outcome in outcomes.elements() if outcome in OUTCOMES)
        rate = pass_rate(cast("Iterator[Outcome]", asked))
        if rate is not None:
            parts[_DIFFICULTIES[band_of(rate)]].add(problem)
    there = {name: sheet.rows(members.__contains__) for name, members in parts.items()}
    scored = {name: correct for name, correct in there.items() if len(correct)}
    if len(scored) < 2:
        return
    for name, correct in scored.items():
        yield _part(sheet, f"difficulty: {of.model} solved {name}", correct)


def token_budgets(max_tokens: int) -> list[int]:
    """The budgets at which one long run is cut again: powers of two below `max_tokens`, and itself
    (32,768: from 1,024 on).
    """
    if max_tokens < 2:
        return []
    top = max_tokens.bit_length() - 1
    powers = [2**power for power in range(max(0, top - BUDGETS + 1), top + 1)]
    return [budget for budget in powers if budget < max_tokens] + [max_tokens]


def _groups(names: Sequence[str], value_of: Mapping[str, str | None]) -> dict[str, set[str]]:
    """Value → problems; small groups stand together as "other". Nothing when all problems are of
    one kind, or of too many.
    """
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(value_of[name] or "other", set()).add(name)
    small = [value for value, members in groups.items() if len(members) < SMALLEST_GROUP]
    for value in small:
        members = groups.pop(value)
        groups.setdefault("other", set()).update(members)
    if not 1 < len(groups) <= MOST_GROUPS:
        return {}
    return {value: groups[value] for value in sorted(groups, key=_natural)}


def _natural(value: str) -> tuple[int, float, str]:
    """Numbers by size, then words; "other" last."""
    if value == "other":
        return 2, 0.0, value
    if value.replace(".", "", 1).isdecimal():  # ² is a digit, and no number
        return 0, float(value), value
    return 1, 0.0, value


def _part(sheet: Sheet, part: str, correct: NDArray[np.bool_]) -> Score:
    return _score(sheet, "pass@1", statistics.mean_interval(correct), part)


def _rate_score(sheet: Sheet, metric: str, rates: NDArray[np.float64]) -> Score:
    """A mean of per-problem values; n problems, k samples behind each."""
    return _score(sheet, metric, statistics.mean_interval(rates[:, None]))


def _score(sheet: Sheet, metric: str, estimate: statistics.Estimate, part: str = "") -> Score:
    return Score(
        model=sheet.model,
        benchmark=sheet.benchmark,
        metric=metric,
        mean=estimate.mean,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        k=sheet.k,
        method=estimate.method,
        part=part,
    )
