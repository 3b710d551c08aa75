"""From an item to its grade: the five outcomes around the comparison of two answers."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from reasondistill.grading.equivalence import Decision, decide_cheaply, decide_deeply
from reasondistill.grading.extract import Extracted, extract
from reasondistill.grading.policies import Policy, find_policy
from reasondistill.records import Fault, Finish, Grade, Outcome, Trace

VERSION = 4
GRADER = f"reasondistill-grader@{VERSION}"

LONGEST_SHOWN = 2_000
# The reasons of samples that failed: the service lost it, or the model could not be asked.
ENGINE_ERROR, INPUT_FAULT = "engine_error", "input_fault"


@dataclass(frozen=True, slots=True)
class GradeItem:
    """What a model answered (the part after its think block, or a whole completion) and the gold
    answer.
    """

    id: str
    answer_text: str
    gold: str
    finish: Finish = "stop"
    think: Literal["closed", "open", "none"] = "none"
    fault: Fault | None = None

    @classmethod
    def of(cls, trace: Trace, gold: str) -> GradeItem:
        """What the grader needs of a trace."""
        completion = trace.completion
        return cls(
            trace.id,
            completion.answer_text,
            gold,
            completion.finish,
            completion.think,
            completion.fault,
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """Two extracted answers that a worker must compare, and where the prediction was found."""

    pred: str
    gold: str
    where: str


def begin(item: GradeItem, policy: Policy) -> Grade | Pair:
    """The grade when no worker is needed, else the pair to compare. Never raises."""
    started = time.perf_counter()
    outcome = _decide(item, policy)
    if isinstance(outcome, Pair):
        return outcome
    decision, extracted = outcome
    return _grade(decision[0], extracted, decision[1], decision[2], time.perf_counter() - started)


_Early = tuple[tuple[Outcome, str, str], str | None]


def _decide(item: GradeItem, policy: Policy) -> _Early | Pair:
    if item.finish == "error" and item.fault == "input":
        return ("undecided", "engine", INPUT_FAULT), None
    if item.finish == "error":
        return ("undecided", "engine", ENGINE_ERROR), None
    cut = item.finish in ("length", "repetition")
    if item.think == "open":
        return ("truncated" if cut else "no_answer", "extract", "think_not_closed"), None
    found = extract(
        item.answer_text, join=policy.join_boxes, stated=cut
    )  # where the tokens ran out is no answer
    if (
        cut
        and found.where == "phrase"
        and item.answer_text.rstrip().endswith((found.text or "")[-20:])
    ):  # perhaps there was more to come
        found = Extracted(None, "none")
    if policy.anchored_only and found.where in ("bold", "formula", "number"):
        found = Extracted(None, "none")
    if found.text is None:
        outcome: Outcome = "truncated" if cut else "no_answer"
        return (outcome, "extract", _REASONS.get(found.where, "no_answer")), None
    gold, answer = gold_answer(item.gold), found.text
    if gold is None:
        return ("undecided", "gold", "gold_empty"), answer
    if policy.engine == "layered" and found.where not in ("boxed", "marker", "whole"):
        answer = _right_side(answer, gold) or answer
    if policy.engine == "layered":
        decision = decide_cheaply(answer, gold, policy) or _as_whole(item, found, policy)
        if decision is not None:
            return (decision.outcome, decision.layer, decision.reason), answer
    return Pair(answer, gold, found.where)


def _right_side(text: str, gold: str) -> str | None:
    """In a sentence `so m + n = 55` the answer is 55, unless an equation is asked for. A box says
    exactly what it says.
    """
    if (
        "=" not in text
        or _RELATES.search(gold)
        or _RELATES.search(text.replace("=", ""))
        or "," in text
        or "\\begin" in text
    ):
        return None
    return text.rpartition("=")[2].strip() or None


_RELATES = re.compile(r"[=<>]|\\(?:leq?|geq?|neq?|in|equiv|approx|to|pm)(?![A-Za-z])| or | and ")


def _as_whole(item: GradeItem, found: Extracted, policy: Policy) -> Decision | None:
    """A short text that equals the gold's whole text is right, whatever was extracted from either."""
    if found.where in ("boxed", "marker") or len(item.answer_text) > 500:
        return None
    for gold in (item.gold, gold_answer(item.gold) or ""):
        decision = decide_cheaply(item.answer_text, gold, policy)
        if decision is not None and decision.outcome == "correct":
            return decision
    return None


_REASONS = {"malformed": "malformed_box", "open_think": "think_not_closed", "none": "no_answer"}


@lru_cache(maxsize=8192)
def gold_answer(gold: str) -> str | None:
    """The answer inside a gold text: bare, `$…$`, `\\boxed{}` or a text that ends in one."""
    return extract(gold, gold=True).text


def finish(pair: Pair, decision: Decision, seconds: float) -> Grade:
    """The grade of a pair that was compared."""
    return _grade(decision.outcome, pair.pred, decision.layer, decision.reason, seconds)


def _grade(
    outcome: Outcome, extracted: str | None, layer: str, reason: str, seconds: float
) -> Grade:
    shown = (
        extracted
        if extracted is None or len(extracted) <= LONGEST_SHOWN
        else extracted[:LONGEST_SHOWN] + "…"
    )
    return Grade(
        outcome=outcome,
        extracted=shown,
        layer=layer,
        reason=reason,
        grader=GRADER,
        seconds=round(seconds, 6),
    )


def grade(prediction: str, gold: str, policy: str = "default") -> Grade:
    """Grade one answer in this process, without a deadline: for tests and small trusted inputs."""
    started = time.perf_counter()
    rules = find_policy(policy)
    begun = begin(GradeItem("", prediction, gold), rules)
    if isinstance(begun, Grade):
        return begun
    return finish(
        begun, decide_deeply(begun.pred, begun.gold, rules), time.perf_counter() - started
    )
