"""Find the answer in what a model wrote, and say where it came from. Linear in the text; all but
the boxes looks at the tail only.

The order: the last box; `#### x`; `answer is x`; the whole text when it is nothing but an answer; a
choice that is named; then what the last telling sentence has in bold, as a formula, as a number. A
malformed last box, or an "answer is" with nothing behind it, never falls back to an earlier one:
the model did not finish its answer.
"""

from __future__ import annotations

import re

from reasondistill.grading.extract import prose
from reasondistill.grading.extract.bare import looks_bare
from reasondistill.grading.extract.boxes import behind_last_box, last_boxes
from reasondistill.grading.extract.chat import (
    SIGNS,
    before_next_question,
    inside_tags,
    is_open_behind_a_name,
    without_chat_tokens,
)
from reasondistill.grading.extract.conclusion import FIRST_LABEL, chosen_letter, concluded
from reasondistill.grading.extract.found import TAIL, Extracted, holds_any
from reasondistill.grading.extract.modifiers import read_whole
from reasondistill.grading.extract.phrases import behind_mark, corrected, in_value, said
from reasondistill.grading.extract.plain import told_plainly
from reasondistill.grading.extract.refusals import refuses
from reasondistill.grading.extract.sentence import from_sentence, sentences
from reasondistill.thinking import split


def extract(
    text: str, *, join: str = "linked", gold: bool = False, stated: bool = False
) -> Extracted:
    """The answer in a completion, a bare answer or (with `gold`) a gold text.

    `join` says how several boxes are read: `last`, `linked` (those joined by "and", "or" or a
    comma), `all`. `stated`: only a box, a mark or "the answer is" counts, as in a text that was cut
    off.
    """
    if holds_any(text, SIGNS):
        text = without_chat_tokens(text)
        written = split(text, is_cut=stated)
        if written.think == "open" or is_open_behind_a_name(text):
            return Extracted(None, "open_think")
        text = inside_tags(written.answer)
    if not gold:
        text = before_next_question(text)
        plain = told_plainly(text)
        if plain is not None:
            return plain
    if gold and join == "linked":
        join = "all"
    found = find_in(text, join=join, gold=gold, stated=stated)
    if not gold and found.text is not None and refuses(found.text):
        return Extracted(found.text, "refusal")
    if found.has_value and found.where != "boxed" and "\\boxed" in (found.text or ""):
        return Extracted(None, "none")
    return found


def find_in(text: str, *, join: str, gold: bool, stated: bool) -> Extracted:
    """The answer in a text that is nothing but the answer to its question."""
    boxed = last_boxes(text, join, gold=gold)
    if boxed is not None and not gold:
        boxed = answer_behind_box(text, boxed)
    if boxed is not None:
        return boxed
    if "```" in text and not gold:
        text = without_code(text)
    tail = text[-TAIL:]
    for find in (behind_mark, said):
        extracted = find(tail, gold)
        if extracted is not None:
            return extracted
    if stated:
        return Extracted(None, "none")
    if gold:
        return stated_in_gold(text) or worded_gold(text) or whole(text)
    if prose.is_unfinished(tail):
        return Extracted(None, "malformed")
    chosen = chosen_letter(tail)
    if chosen is not None:
        return chosen
    if len(text) < _LONGEST_BARE:
        reading = read_whole(text)
        if reading is not None:
            return in_value(reading, text, "whole")
    if looks_bare(text):
        return whole(text)
    label = FIRST_LABEL.match(tail)
    if label is not None and len(tail) < 400:
        return Extracted(label[1] or label[2], "choice")
    conclusion = concluded(tail)
    if conclusion is not None:
        return conclusion
    if len(text) < 60 and not re.search(r"\d", text) and len(text.split()) <= 6:
        return whole(text)
    return Extracted(None, "none")


def without_code(text: str) -> str:
    """Without the blocks of code in it, whose `answer = 10` answers nothing; one line stays."""
    return _CODE.sub("\n", text)


_CODE = re.compile(
    r"```[ \t]*(?:python\w*|py|sympy|c|cpp|c\+\+|java|javascript|js|rust|go|julia|sage|"
    r"matlab|r|bash|sh)[ \t]*\n[^\n]*\S[^\n]*\n(?!\s*```)(?:(?!```)[\s\S])*(?:```|\Z)",
    re.IGNORECASE,
)
_LONGEST_BARE = 80


def answer_behind_box(text: str, boxed: Extracted) -> Extracted:
    """The answer of a text with a box: a final answer that is told behind the box wins. Where the
    box is denied, what is announced without it.
    """
    if boxed.where == "denied":
        tail = text[-TAIL:]
        for find in (behind_mark, said):
            extracted = find(tail, False)
            if extracted is None or not extracted.has_value:
                continue
            if "boxed" not in (extracted.text or ""):
                return extracted
        return boxed
    parts = behind_last_box(text)
    if parts is None or not boxed.has_value:
        return boxed
    content, behind = parts
    return corrected(content, behind[-TAIL:]) or boxed


def stated_in_gold(gold: str) -> Extracted | None:
    """`The probability is $x$.` as a gold says x; formulas with a few words between them stay as
    they are.
    """
    if not gold.rstrip(". \n\t").endswith(("$", "\\)", "\\]")):
        return None
    words = set(gold.lower().split())
    if not {"is", "are", "equals"} & words or "where" in words:
        return None
    if "\n" in gold:
        return from_sentence(sentences(gold[-TAIL:])[-1])
    return from_sentence(prose.clause(gold[-TAIL:]))


def worded_gold(gold: str) -> Extracted | None:
    """`at least 3` as a gold says what the same words say in an answer."""
    reading = None
    if len(gold) < _LONGEST_BARE:
        reading = read_whole(gold)
    if reading is None or reading.kind != "value":
        return None
    return in_value(reading, gold, "whole")


def whole(text: str) -> Extracted:
    """A text that is nothing but its answer; an empty one has none."""
    text = text.strip()
    if text:
        return Extracted(text, "whole")
    return Extracted(None, "none")
