"""From an item to its grade: the five outcomes around the comparison of two answers."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from reasondistill.grading.decide.decision import OPEN, Decision, best_of
from reasondistill.grading.decide.layers import decide_cheaply, decide_deeply
from reasondistill.grading.extract.answer import Extracted, extract
from reasondistill.grading.extract.refusals import is_undetermined
from reasondistill.grading.policies import Policy, find_policy
from reasondistill.grading.read.clean import clean, string_key
from reasondistill.grading.read.golds import alternatives, is_no_answer
from reasondistill.grading.version import GRADER
from reasondistill.records import Fault, Finish, Grade, Outcome, Trace

LONGEST_SHOWN = 2_000
# The reasons of samples that failed: the service lost it, or the model could not be asked.
ENGINE_ERROR, INPUT_FAULT = "engine_error", "input_fault"
# The reason where a gold is a remark ("see solution") or a whole solution without an answer.
GOLD_IS_NO_ANSWER = "gold_is_no_answer"


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
class Question:
    """Whether an answer is the gold answer, and the decision so far. A worker decides where that is
    open. `answer` is None where the text holds none; any of `golds` is right.
    """

    decision: Decision
    answer: str | None = None
    golds: tuple[str, ...] = ()


def begin(item: GradeItem, policy: Policy) -> Question:
    """Extract the two answers, and decide if the cheap layers can. Never raises."""
    if item.finish == "error":
        reason = ENGINE_ERROR
        if item.fault == "input":
            reason = INPUT_FAULT
        return Question(Decision("undecided", "engine", reason))
    is_cut = item.finish in ("length", "repetition")
    unanswered: Outcome = "truncated" if is_cut else "no_answer"
    if item.think == "open":
        return Question(Decision(unanswered, "extract", "think_not_closed"))
    extracted = find_answer(item, policy, is_cut=is_cut)
    if extracted.text is None:
        reason = _REASONS.get(extracted.where, "no_answer")
        return Question(Decision(unanswered, "extract", reason))
    answer = extracted.text
    golds = gold_answers(item.gold)
    if not extracted.has_value:
        return Question(decide_in_words(extracted, golds, unanswered), answer, golds)
    if extracted.other is not None and any(is_of_form(extracted, gold) for gold in golds):
        answer = extracted.other
    if not golds:
        reason = "gold_empty"
        if item.gold.strip():
            reason = GOLD_IS_NO_ANSWER
        return Question(Decision("undecided", "gold", reason), answer)
    if policy.engine != "layered":
        return Question(OPEN, answer, golds)
    if extracted.where not in ("boxed", "marker", "whole"):
        answer = _right_side(answer, golds[0]) or answer
    decision = decide_cheaply(answer, golds[0], policy)
    if len(golds) > 1:
        others = [decide_cheaply(answer, gold, policy) for gold in golds[1:]]
        decision = best_of([decision, *others])
    if decision.is_open:
        decision = decide_as_whole(item, extracted, golds, policy)
    return Question(decision, answer, golds)


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
    if _UNEQUAL.search(text):
        return None
    return text.rpartition("=")[2].strip() or None


_UNEQUAL = re.compile(r"\\not(?![A-Za-z])|(?:\s|[A-Za-z])!=")
_RELATES = re.compile(r"[=<>]|\\(?:leq?|geq?|neq?|in|equiv|approx|to|pm)(?![A-Za-z])| or | and ")


def decide_as_whole(
    item: GradeItem, extracted: Extracted, golds: Sequence[str], policy: Policy
) -> Decision:
    """A short text that equals the gold's whole text is right, whatever was extracted from
    either; else open.
    """
    if extracted.where in ("boxed", "marker") or len(item.answer_text) > 500:
        return OPEN
    if extracted.is_worded:
        return OPEN
    # `42` is not the gold `42 factorial`, which only reads like 42 of something.
    wholes = [gold for gold in alternatives(item.gold) if not extract(gold, gold=True).is_worded]
    for gold in (*wholes, *golds):
        decision = decide_cheaply(item.answer_text, gold, policy)
        if decision.is_correct:
            return decision
    return OPEN


def is_of_form(extracted: Extracted, gold: str) -> bool:
    """Whether a gold asks for the other form of an answer: for one part, or for decimals."""
    if "," in (extracted.text or ""):
        return re.search(r"[,;]|\band\b|\\\\", gold) is None
    return re.fullmatch(r"[-\\$ \d,]*\.\d+\$?", gold.strip()) is not None


def decide_in_words(extracted: Extracted, golds: tuple[str, ...], unanswered: Outcome) -> Decision:
    """Where the words of an answer give no value, it is right only if a gold says the same. A
    refusal and a denied answer are no answer; words that nobody can read for sure are undecided.
    """
    answer = extracted.text or ""
    for gold in golds:
        if string_key(clean(answer)) == string_key(clean(gold)):
            return Decision("correct", "string", "equal_string")
        if is_undetermined(answer) and is_undetermined(gold):
            return Decision("correct", "string", "equal_words")
    if extracted.where == "unread":
        return Decision("undecided", "extract", "unread_words")
    return Decision(unanswered, "extract", extracted.where)


_REASONS = {"malformed": "malformed_box", "open_think": "think_not_closed", "none": "no_answer"}


@lru_cache(maxsize=8192)
def gold_answers(gold: str) -> tuple[str, ...]:
    """The answers inside a gold text, any of which is right: bare, `$…$`, `\\boxed{}` or a text
    that ends in one; of a list of texts (`["34", "68/2"]`) each. Empty where it holds none.
    """
    answers: list[str] = []
    for alternative in alternatives(gold):
        extracted = extract(alternative, gold=True)
        if extracted.text is None:
            continue
        if extracted.where == "whole" and is_no_answer(alternative):
            continue
        answers.append(extracted.text)
    return tuple(answers)


def finish(question: Question, decision: Decision, seconds: float) -> Grade:
    """The grade of a question with its final decision."""
    answer = question.answer
    if answer is not None and len(answer) > LONGEST_SHOWN:
        answer = answer[:LONGEST_SHOWN] + "…"
    return Grade(
        outcome=decision.outcome,
        extracted=answer,
        layer=decision.layer,
        reason=decision.reason,
        grader=GRADER,
        seconds=round(seconds, 6),
    )


def grade(prediction: str, gold: str, policy: str = "default") -> Grade:
    """Grade one answer in this process, without a deadline: for tests and small trusted inputs."""
    started = time.perf_counter()
    rules = find_policy(policy)
    question = begin(GradeItem("", prediction, gold), rules)
    decision = question.decision
    if decision.is_open:
        decision = best_of(
            decide_deeply(question.answer or "", gold, rules) for gold in question.golds
        )
    return finish(question, decision, time.perf_counter() - started)
