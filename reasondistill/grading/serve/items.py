"""From an item to its grade: the five outcomes around the comparison of two answers."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from reasondistill.grading.decide.layers import Decision, decide_cheaply, decide_deeply
from reasondistill.grading.extract.answer import Extracted, extract
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
    early = decide_early(item, policy)
    if isinstance(early, Pair):
        return early
    return _grade(early.decision, early.extracted, time.perf_counter() - started)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is written in a grade: an outcome, the layer that came to it, and why."""

    outcome: Outcome
    layer: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Early:
    """A verdict without a worker, on the answer that was extracted."""

    decision: _Verdict | Decision
    extracted: str | None = None


def decide_early(item: GradeItem, policy: Policy) -> _Early | Pair:
    """Extract the answer and decide on it if the cheap layers can."""
    if item.finish == "error":
        reason = ENGINE_ERROR
        if item.fault == "input":
            reason = INPUT_FAULT
        return _Early(_Verdict("undecided", "engine", reason))
    is_cut = item.finish in ("length", "repetition")
    unanswered: Outcome = "truncated" if is_cut else "no_answer"
    if item.think == "open":
        return _Early(_Verdict(unanswered, "extract", "think_not_closed"))
    extracted = find_answer(item, policy, is_cut=is_cut)
    if extracted.text is None:
        reason = _REASONS.get(extracted.where, "no_answer")
        return _Early(_Verdict(unanswered, "extract", reason))
    answer = extracted.text
    gold = gold_answer(item.gold)
    if gold is None:
        return _Early(_Verdict("undecided", "gold", "gold_empty"), answer)
    if policy.engine != "layered":
        return Pair(answer, gold, extracted.where)
    if extracted.where not in ("boxed", "marker", "whole"):
        answer = _right_side(answer, gold) or answer
    decision = decide_cheaply(answer, gold, policy) or decide_as_whole(item, extracted, policy)
    if decision is not None:
        return _Early(decision, answer)
    return Pair(answer, gold, extracted.where)


def find_answer(item: GradeItem, policy: Policy, *, is_cut: bool) -> Extracted:
    """The answer that counts under a policy. Where the tokens ran out is no answer: of a text that
    was cut off only a stated one counts, and not at its very end, where there was perhaps more to
    come.
    """
    extracted = extract(item.answer_text, join=policy.join_boxes, stated=is_cut)
    if is_cut and extracted.where == "phrase":
        end = (extracted.text or "")[-20:]
        if item.answer_text.rstrip().endswith(end):
            return Extracted(None, "none")
    if policy.anchored_only and extracted.where in ("bold", "formula", "number"):
        return Extracted(None, "none")
    return extracted


def _right_side(text: str, gold: str) -> str | None:
    """In a sentence `so m + n = 55` the answer is 55, unless an equation is asked for. A box says
    exactly what it says.
    """
    if "=" not in text or "," in text or "\\begin" in text:
        return None
    if _RELATES.search(gold) or _RELATES.search(text.replace("=", "")):
        return None
    return text.rpartition("=")[2].strip() or None


_RELATES = re.compile(r"[=<>]|\\(?:leq?|geq?|neq?|in|equiv|approx|to|pm)(?![A-Za-z])| or | and ")


def decide_as_whole(item: GradeItem, extracted: Extracted, policy: Policy) -> Decision | None:
    """A short text that equals the gold's whole text is right, whatever was extracted from
    either.
    """
    if extracted.where in ("boxed", "marker") or len(item.answer_text) > 500:
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
    return _grade(decision, pair.pred, seconds)


def _grade(decision: _Verdict | Decision, extracted: str | None, seconds: float) -> Grade:
    if extracted is not None and len(extracted) > LONGEST_SHOWN:
        extracted = extracted[:LONGEST_SHOWN] + "…"
    return Grade(
        outcome=decision.outcome,
        extracted=extracted,
        layer=decision.layer,
        reason=decision.reason,
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
    decision = decide_deeply(begun.pred, begun.gold, rules)
    return finish(begun, decision, time.perf_counter() - started)
