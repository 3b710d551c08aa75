"""Which of one problem's usable traces become examples: the rules of `[examples] select`.

    selection = select([Usable("p:0", tokens=30, sample=0), Usable("p:1", tokens=10, sample=1)],
                       ExampleSettings(select="shortest"))
    selection.chosen, selection.reasons       # [the second], {"p:0": "select: passed over by …"}

Each rule puts traces in an order, of which the first `k` are taken; what it cannot use has a reason
of its own. Equal ones stand in the order of a hash of `seed` and trace id, which is the same in
every process. docs/selection.md has the formula, the source and the cost of each rule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf
from typing import TYPE_CHECKING

from reasondistill.config import ExampleSettings, ScoreRule, ScoreSettings
from reasondistill.hashing import stable_share
from reasondistill.records import TraceScore

if TYPE_CHECKING:
    from reasondistill.curation.shingles import Words32

# Every reason of this module begins so.
SELECT = "select: "
NO_SCORE = f"{SELECT}no score"
NO_MAJORITY = f"{SELECT}not the majority's answer"
OTHER_TEACHER = f"{SELECT}another teacher is better"

# Runs of words by which texts are told apart.
DIVERSE_WORDS = 4


@dataclass(frozen=True)
class Usable:
    """The parts of a usable trace that `select` needs. The larger a `score`, the better. `answer`
    is the number of the answer that it gives among those of its problem, `runs` the hashes of its
    text's runs of words, ascending; None where the rule does not ask.
    """

    trace_id: str
    tokens: int
    sample: int
    prompt_tokens: int = 0
    teacher: str = ""
    score: float | None = None
    answer: int | None = None
    runs: Words32 | None = None

    @property
    def row_tokens(self) -> int:
        """The tokens of the training row: prompt and completion."""
        return self.prompt_tokens + self.tokens


@dataclass(frozen=True)
class Selection:
    """The traces that become examples, best first, and why each of the others does not."""

    chosen: tuple[Usable, ...]
    reasons: Mapping[str, str]


def select(usable: Sequence[Usable], examples: ExampleSettings) -> Selection:
    """The `k` traces of one problem that `select` chooses."""
    rule = examples.select
    if rule == "all":
        return Selection(tuple(usable), {})
    unusable = _UNUSABLE.get(rule, _nothing)(usable, examples)
    left = [one for one in usable if one.trace_id not in unusable]
    order = _ORDERS[rule]
    chosen = tuple(order(left, examples)[: examples.k])
    taken = {one.trace_id for one in chosen}
    reasons = dict(unusable)
    for one in left:
        if one.trace_id not in taken:
            reasons[one.trace_id] = f"{SELECT}passed over by {rule}"
    return Selection(chosen, reasons)


def chance(one: Usable, examples: ExampleSettings) -> float:
    """The place of a trace in [0, 1) that decides between equal ones, and random choices."""
    return stable_share(f"{examples.seed}:{one.trace_id}", size=6)


# ---- what a rule cannot use ----------------------------------------------------------------------


def _nothing(usable: Sequence[Usable], examples: ExampleSettings) -> dict[str, str]:
    return {}


def _without_score(usable: Sequence[Usable], examples: ExampleSettings) -> dict[str, str]:
    return {one.trace_id: NO_SCORE for one in usable if one.score is None}


def _of_other_answers(usable: Sequence[Usable], examples: ExampleSettings) -> dict[str, str]:
    """All but those that give the most frequent answer; of equally frequent ones the one that came
    first. A trace without an answer agrees with nobody.
    """
    samples: dict[int, list[int]] = defaultdict(list)
    for one in usable:
        if one.answer is not None:
            samples[one.answer].append(one.sample)
    if not samples:
        return {one.trace_id: NO_MAJORITY for one in usable}
    most = min(samples, key=lambda answer: (-len(samples[answer]), min(samples[answer])))
    return {one.trace_id: NO_MAJORITY for one in usable if one.answer != most}


def _of_other_teachers(usable: Sequence[Usable], examples: ExampleSettings) -> dict[str, str]:
    """All but those of the teacher whose traces of this problem have the best mean score; of equal
    ones the first by name.
    """
    unusable = _without_score(usable, examples)
    scores: dict[str, list[float]] = defaultdict(list)
    for one in usable:
        if one.score is not None:
            scores[one.teacher].append(one.score)
    means = {teacher: sum(of_one) / len(of_one) for teacher, of_one in scores.items()}
    best = min(means, key=lambda teacher: (-means[teacher], teacher), default=None)
    for one in usable:
        if one.score is not None and one.teacher != best:
            unusable[one.trace_id] = OTHER_TEACHER
    return unusable


# ---- the order of the others ---------------------------------------------------------------------


def _by_key(
    key: Callable[[Usable], float],
) -> Callable[[Sequence[Usable], ExampleSettings], list[Usable]]:
    def order(usable: Sequence[Usable], examples: ExampleSettings) -> list[Usable]:
        return sorted(usable, key=lambda one: (key(one), chance(one, examples)))

    return order


def _by_score(one: Usable) -> float:
    return inf if one.score is None else -one.score


def _most_different(usable: Sequence[Usable], examples: ExampleSettings) -> list[Usable]:
    """One by chance, then again and again the one whose nearest neighbour among those taken is
    farthest away (greedy max-min; Gonzalez 1985). The distance is 1 − Jaccard of runs of 4 words.
    """
    left = sorted(usable, key=lambda one: chance(one, examples))
    nearest = {one.trace_id: inf for one in left}
    taken: list[Usable] = []
    while left and len(taken) < examples.k:
        # Of equally far ones the first: they stand in the order of chance.
        farthest = max(left, key=lambda one: nearest[one.trace_id])
        left.remove(farthest)
        taken.append(farthest)
        for one in left:
            distance = jaccard_distance(one, farthest)
            nearest[one.trace_id] = min(nearest[one.trace_id], distance)
    return taken


def jaccard_distance(one: Usable, other: Usable) -> float:
    """1 − the share of runs of words that two texts have in common."""
    import numpy as np

    assert one.runs is not None and other.runs is not None
    shared = len(np.intersect1d(one.runs, other.runs, assume_unique=True))
    either = len(one.runs) + len(other.runs) - shared
    return 1 - shared / max(1, either)


_UNUSABLE: Mapping[str, Callable[[Sequence[Usable], ExampleSettings], dict[str, str]]] = {
    "majority": _of_other_answers,
    "best_teacher": _of_other_teachers,
    **dict.fromkeys(("rsr", "ln", "gn", "das"), _without_score),
}
_ORDERS: Mapping[str, Callable[[Sequence[Usable], ExampleSettings], list[Usable]]] = {
    "shortest": _by_key(lambda one: one.tokens),
    "longest": _by_key(lambda one: -one.tokens),
    "random": _by_key(lambda one: 0),
    "first": _by_key(lambda one: one.sample),
    "diverse": _most_different,
    "majority": _by_key(lambda one: 0),
    **dict.fromkeys(("rsr", "ln", "gn", "das", "best_teacher"), _by_key(_by_score)),
}


# ---- scores --------------------------------------------------------------------------------------


def score_of(measured: TraceScore, rule: ScoreRule, settings: ScoreSettings) -> float | None:
    """The score of a trace by a rule, the larger the better; None where it has none."""
    if measured.fault is not None or not measured.tokens:
        return None
    return _SCORES[rule](measured, settings)


def _rsr(measured: TraceScore, settings: ScoreSettings) -> float | None:
    """−Σ min(rank, rank_limit) / Σ −log q: a rank-surprisal ratio, of which the smallest is best. A
    text without any surprise teaches nothing: it comes last.
    """
    if measured.ranks is None:
        return None
    if measured.surprisal <= 0:
        return -inf
    return -measured.ranks / measured.surprisal


def _gn(measured: TraceScore, settings: ScoreSettings) -> float | None:
    """Global naturalness: the mean of log q."""
    return -measured.surprisal / measured.tokens


def _ln(measured: TraceScore, settings: ScoreSettings) -> float | None:
    """Local naturalness: the mean over steps of the mean of log q in a step."""
    steps = list(zip(measured.step_log_probs, measured.step_tokens, strict=True))
    if not steps:
        return None
    return sum(log_prob / tokens for log_prob, tokens in steps) / len(steps)


def _das(measured: TraceScore, settings: ScoreSettings) -> float | None:
    """The share of steps that are likelier to the teacher than to the model by more than `margin`,
    by the geometric mean of the probabilities of their tokens.
    """
    if not measured.teacher_log_probs:
        return None
    steps = zip(
        measured.teacher_log_probs, measured.step_log_probs, measured.step_tokens, strict=True
    )
    count = 0
    for teacher, model, tokens in steps:
        if exp(teacher / tokens) - exp(model / tokens) > settings.margin:
            count += 1
    return count / len(measured.step_tokens)


_SCORES: Mapping[ScoreRule, Callable[[TraceScore, ScoreSettings], float | None]] = {
    "rsr": _rsr,
    "gn": _gn,
    "ln": _ln,
    "das": _das,
}
