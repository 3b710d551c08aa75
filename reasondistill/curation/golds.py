"""What is wrong with a gold answer that does not grade itself, and what to do about it.

fault = fault_in_gold("48 + 24 = 72 clips.\\n#### 72", grade)
fault.reason              "gold is a whole solution"
fault.found               "behind '####' stands '72'"
REMEDIES[fault.reason]    "answer_after takes …"
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reasondistill.foreign_text import shortened
from reasondistill.grading.extract.boxes import last_boxes
from reasondistill.grading.read.golds import is_solution
from reasondistill.grading.serve.items import GOLD_IS_NO_ANSWER
from reasondistill.records import Grade

SOLUTION = "gold is a whole solution"
SENTENCE = "gold is a sentence"
TWO_ANSWERS = "gold holds two answers"
NO_ANSWER = "gold is no answer"
BROKEN_OFF = "gold is broken off"
TOO_MUCH = "gold is too much for the checker"
OTHER = "gold does not grade itself"

# What to do about rows that were set aside, by the reason.
REMEDIES = {
    SOLUTION: "answer_after takes what follows a mark (answer_after = '####', or '\\boxed'); "
    "without one, name the field that has the answer alone. A whole solution is for the key "
    "solution.",
    SENTENCE: "Name the field that has the value alone; or, where each of these sentences has the "
    "same words before the value, answer_after = those words.",
    TWO_ANSWERS: 'Where any of them is right, let the field hold a list of texts, ["10", "12"]; '
    'where all belong to the answer, a text that lists them, "10, 12".',
    NO_ANSWER: 'Leave these rows out with filter; or, where no row has an answer, answer = "" and '
    "[verdicts] majority labels problems by their samples.",
    BROKEN_OFF: "A bracket or brace is not closed, or not opened: look whether the field, or "
    "answer_after, cuts the answer.",
    TOO_MUCH: "The checker gave up on comparing it with itself: write its value out, or raise "
    "deadline_s of [verdicts].",
    OTHER: "The grader cannot read it as an answer: want a number, an expression, a list, a choice "
    "or a few words.",
}

_SHOWN = 60
_PHRASES = re.compile(
    r"(?:the\s+)?(?:final\s+)?\banswer\s*:|\bthe\s+(?:final\s+)?answer\s+is\b:?", re.IGNORECASE
)
_BOX = "\\boxed"
_SENTENCE_END = re.compile(r"[.!?](?=\s|\Z)")
_WORD = re.compile(r"[^\W\d_]{2,}")
# From the last digit of the first number: from each of them it would take n² steps.
_ONE_OR_ANOTHER = re.compile(r"\d[.,]*[^.;\d]{0,30}\bor\b[^.;\d]{0,30}\d")
_OUT_OF_MEANS = frozenset(
    {"timeout", "memory", "too_deep", "too_large", "too_long", "not_evaluated"}
)
_SAYS_NOTHING = frozenset({GOLD_IS_NO_ANSWER, "gold_says_nothing", "says_nothing", "refusal"})


@dataclass(frozen=True)
class GoldFault:
    """Why a gold is set aside, and what was found in it (nothing where the reason says it all)."""

    reason: str
    found: str = ""


def fault_in_gold(gold: str, grade: Grade) -> GoldFault:
    """What is wrong with a gold whose grade against itself is not `correct`."""
    mark = mark_in(gold)
    if mark is not None:
        after = shortened(text_after(gold, mark), _SHOWN)
        return GoldFault(SOLUTION, f"behind {mark!r} stands {after!r}")
    sentences = len(_SENTENCE_END.findall(gold.strip()))
    words = len(gold.split())
    if is_solution(gold) or (words >= 8 and max(sentences, count_lines(gold)) >= 2):
        return GoldFault(SOLUTION)
    if grade.reason in _SAYS_NOTHING:
        return GoldFault(NO_ANSWER)
    if grade.reason == "malformed_box" or not is_balanced(gold):
        return GoldFault(BROKEN_OFF)
    if _ONE_OR_ANOTHER.search(gold):
        return GoldFault(TWO_ANSWERS)
    if grade.reason in _OUT_OF_MEANS:
        return GoldFault(TOO_MUCH)
    if len(_WORD.findall(gold)) >= 4:
        return GoldFault(SENTENCE)
    return GoldFault(OTHER)


def mark_in(gold: str) -> str | None:
    """The mark behind which a text says its answer, as it stands there, for `answer_after`: `####`,
    a box, "the answer is". None where there is none, or nothing before or behind it.
    """
    # Each once: a long text may repeat one on and on.
    marks = dict.fromkeys(["####", _BOX])
    marks |= dict.fromkeys(found[0] for found in _PHRASES.finditer(gold))
    for mark in marks:
        has_text_before = bool(gold.rpartition(mark)[0].strip())
        if has_text_before and text_after(gold, mark):
            return mark
    return None


def text_after(text: str, mark: str) -> str:
    """What follows the last mark; of a box, what is in it."""
    if mark.rstrip("{") == _BOX:
        boxes = last_boxes(text, "linked", gold=True)
        if boxes is None or boxes.text is None:
            return ""
        return boxes.text.strip()
    return text.rpartition(mark)[2].strip()


def count_lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


def is_balanced(text: str) -> bool:
    """Whether braces close what they open; of round and square brackets, which intervals mix, only
    the numbers are compared.
    """
    depth = 0
    for sign in text.replace("\\{", "").replace("\\}", ""):
        if sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
        if depth < 0:
            return False
    opened = sum(text.count(sign) for sign in "([")
    closed = sum(text.count(sign) for sign in ")]")
    return depth == 0 and opened == closed
