"""The one result of every comparison: correct, wrong or undecided, by which layer, and why.

    same = all_of(answers(x, y) for x, y in zip(a, b))
    if not same.is_open:
        return same

A comparison is a row of readers, cheap ones first. One that cannot tell is `OPEN`: the next reader,
or a deeper layer, must look. Every other decision is final, `undecided` ones too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from reasondistill.records import Outcome

_NEEDS_DEEPER_LAYER = "needs_deeper_layer"


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, the layer that came to it and a short stable reason code.

    Two answers are `correct`, `wrong` or `undecided`; an item without an answer is `no_answer` or
    `truncated`.
    """

    outcome: Outcome
    layer: str
    reason: str

    @property
    def is_correct(self) -> bool:
        """Whether the two are the same."""
        return self.outcome == "correct"

    @property
    def is_wrong(self) -> bool:
        """Whether the two differ for certain."""
        return self.outcome == "wrong"

    @property
    def is_undecided(self) -> bool:
        """Whether nobody could tell, for good or so far."""
        return self.outcome == "undecided"

    @property
    def is_open(self) -> bool:
        """Whether the next reader, or a deeper layer, must look."""
        return self.reason == _NEEDS_DEEPER_LAYER

    def __bool__(self) -> NoReturn:
        raise TypeError("a decision has three outcomes: ask is_correct, is_wrong or is_undecided")


SAME = Decision("correct", "structural", "equal_parts")
DIFFERENT = Decision("wrong", "structural", "different_parts")
OPEN = Decision("undecided", "structural", _NEEDS_DEEPER_LAYER)


def different(reason: str) -> Decision:
    """Wrong, by the parts of two answers, for a reason that says more than "different parts"."""
    return Decision("wrong", "structural", reason)


def same_if(is_same: bool, reason: str = DIFFERENT.reason) -> Decision:
    """Correct when two answers are the same, else wrong for this reason."""
    if is_same:
        return SAME
    return different(reason)


def best_of(decisions: Iterable[Decision]) -> Decision:
    """Correct as soon as one is correct; else open when one is, else undecided when one is, else
    wrong: the decision beside several right answers. There must be one at least.
    """
    best: Decision | None = None
    for decision in decisions:
        if decision.is_correct:
            return decision
        if best is None or decision.is_open or (best.is_wrong and decision.is_undecided):
            best = decision
    assert best is not None, "no decision to choose from"
    return best


def all_of(decisions: Iterable[Decision]) -> Decision:
    """Wrong as soon as one is wrong; else undecided when one is, for good rather than open; else
    correct.
    """
    together = SAME
    for decision in decisions:
        if decision.is_wrong:
            return decision
        if decision.is_undecided and (together.is_correct or together.is_open):
            together = decision
    return together
