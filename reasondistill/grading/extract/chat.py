"""The part of a text that answers its question: without chat tokens, other turns and tags."""

from __future__ import annotations

import re

from reasondistill.grading.extract.found import TAIL, holds_any, last_match
from reasondistill.grading.extract.phrases import PHRASE
from reasondistill.thinking import shape_of, split

# What chat tokens, tags and marks of reasoning hold; other texts are spared the search for them.
SIGNS = ("<", "[", "◁", "analysis")
_SPEAKER = re.compile(r"\s*\w{1,12}:\s*")
_NEXT_QUESTION = re.compile(
    r"\n[ \t]*(?:#{1,6} ?|\*\*)?"
    r"(?:Q|Question|Problem|Human|User|Instruction|Exercise)[ \t]{0,3}\d{0,3}[ \t]{0,3}[:.]"
)
_TURN_END = re.compile(
    r"<\|(?:im_end|endoftext|end_of_text|eot_id|end|return|im_start)\|>|"
    r"<｜end▁of▁sentence｜>|</s>|<end_of_turn>|<eos>|\[/INST\]"
)
_HEADER = re.compile(
    r"(?:\s*(?:<s>|<\|(?:begin_of_text|im_start|start_header_id|end_header_id|"
    r"start)\|>|<start_of_turn>)(?:assistant|model)?\s*)+"
)
_TAGS = re.compile(
    r"[<\[](answer|final_answer|solution)[>\]]\s*(.*?)\s*(?:[<\[]/\1[>\]]|\Z)",
    re.DOTALL | re.IGNORECASE,
)


def without_chat_tokens(text: str) -> str:
    """Without chat tokens before the answer, and without what follows the end of the turn."""
    header = _HEADER.match(text)
    if header:
        text = text[header.end() :]
    if shape_of(text) == "harmony":  # several messages, each with an end
        return text
    end = _TURN_END.search(text)
    if end:
        return text[: end.start()]
    return text


def is_open_behind_a_name(text: str) -> bool:
    """`Assistant: <think>…` without an end."""
    speaker = _SPEAKER.match(text)
    return speaker is not None and split(text[speaker.end() :]).think == "open"


def before_next_question(text: str) -> str:
    """Without the questions that a model goes on to ask itself once it has answered its own."""
    if not holds_any(text, _QUESTION_OPENERS):
        return text
    answered = _first_answer(text)
    if answered is None:
        return text
    question = _NEXT_QUESTION.search(text, answered)
    if question is None:
        return text
    head = text[: question.start()]
    rest = text[question.start() :]
    if _has_mark(rest) and not _has_mark(head):
        return text
    return head


_QUESTION_OPENERS = ("Q:", "Question", "Problem", "Human:", "User:")


def _first_answer(text: str) -> int | None:
    """Where the first box, mark or "answer is" stands."""
    places = [text.find("boxed{"), text.find("####")]
    phrase = PHRASE.search(text)
    if phrase:
        places.append(phrase.start())
    return min((place for place in places if place >= 0), default=None)


def _has_mark(text: str) -> bool:
    return "boxed{" in text or "####" in text


def inside_tags(text: str) -> str:
    """What stands in the last answer tags."""
    if "<|begin_of_box|>" in text:
        return text.rpartition("<|begin_of_box|>")[2].partition("<|end_of_box|>")[0]
    if "<answer>" in text:
        return text.rpartition("<answer>")[2].partition("</answer>")[0]
    tagged = last_match(_TAGS.finditer(text[-TAIL:]))
    if tagged:
        return tagged[2]
    return text
