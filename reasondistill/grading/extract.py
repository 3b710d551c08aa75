"""Find the answer in what a model wrote, and say where it came from. Linear in the text; all but the boxes looks at the tail only.

The order: the last box; `#### x`; `answer is x`; the whole text when it is nothing but an answer; the last formula; the last number.
A malformed last box never falls back to an earlier one: the model did not finish its answer.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from reasondistill.grading.clean import matching_brace

Where = Literal["boxed", "marker", "phrase", "whole", "formula", "number", "none", "malformed", "open_think"]

_TAIL = 4_000
_LONGEST = 20_000
_THINK_CLOSE = "</think>"


@dataclass(frozen=True, slots=True)
class Extracted:
    """An answer and where it stood; `text` is None when there is none (`where` says why)."""

    text: str | None
    where: Where


_BOX = re.compile(r"\\+(?:begin|f|x08)?boxed\s*|\\+fbox\s*")
_BARE_TOKEN = re.compile(r"\\[A-Za-z]+|[-+]?[\w.]+")
_MATH = re.compile(
    r"\$\$([^$]{1,2000})\$\$|\$([^$]{1,2000})\$|\\\\?\[((?:[^\\]|\\(?![\[\]])){1,2000})\\\\?\]|\\\\?\(((?:[^\\]|\\(?![()])){1,2000})\\\\?\)"
)
_LINK = re.compile(r"\s*[,;]?\s*(?:and|or|[,;&])?\s*\Z|\s*for part \(?\w\)?,? and\s*\Z")
_NOISE = re.compile(r"\\(?:quad|qquad|text(?:rm|bf|normal)?|mathrm|hspace\{[^{}]*\}|[,;:! ()\[\]])|[${}\s]+|\.(?=\s*\$?\s*\Z)")


def extract(text: str, *, join: str = "linked", gold: bool = False) -> Extracted:
    """The answer in a completion, a bare answer or (with `gold`) a gold text.

    `join` says how several boxes are read: `last`, `linked` (those joined by "and", "or" or a comma), `all`.
    """
    if _THINK_CLOSE in text:
        text = text.rpartition(_THINK_CLOSE)[2]
    elif text.lstrip().startswith("<think>"):
        return Extracted(None, "open_think")
    text = _cut_chatter(text)
    if (boxed := last_boxes(text, "all" if gold and join == "linked" else join, gold=gold)) is not None:
        return boxed
    tail = text[-_TAIL:]
    for find in (_marked, _said):
        if (found := find(tail)) is not None:
            return found
    if gold or looks_bare(text):
        return _whole(text)
    return _last_formula(tail) or _last_number(tail) or Extracted(None, "none")


def _cut_chatter(text: str) -> str:
    """Without a chat token and what follows it, without answer tags around the answer."""
    for token in ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>"):
        if token in text:
            text = text.partition(token)[0]
    if "<answer>" in text:
        text = text.rpartition("<answer>")[2].partition("</answer>")[0]
    return text


def _last(matches: Iterator[re.Match[str]]) -> re.Match[str] | None:
    found = deque(matches, maxlen=1)
    return found[0] if found else None


# ---- boxes ----------------------------------------------------------------------------------------------------------


def last_boxes(text: str, join: str, *, gold: bool) -> Extracted | None:
    """The last box, with those linked to it before it; None when there is no box at all."""
    text = text.replace("\x08oxed", "\\boxed") if "\x08" in text else text
    start = _last_box_start(text)
    if start is None:
        return None
    last = _box_at(text, start)
    if last is None:
        return Extracted(None, "malformed")
    contents = [last.content]
    if join != "last":
        contents = _linked_before(text, last.start, join, gold) + contents
    distinct = list(dict.fromkeys(content.strip() for content in contents))
    return Extracted(", ".join(distinct), "boxed") if "".join(distinct) else Extracted(None, "none")


@dataclass(frozen=True, slots=True)
class _Box:
    start: int
    end: int
    content: str


def _last_box_start(text: str) -> int | None:
    """Where the last `\\boxed` begins, searched from the end: a long trace costs its tail."""
    boxed, framed = text.rfind("boxed"), text.rfind("fbox")
    while boxed >= 0 or framed >= 0:
        place = max(boxed, framed + 1)
        start = text.rfind("\\", max(0, place - 6), place)
        if start >= 0 and _BOX.match(text, start):
            while start > 0 and text[start - 1] == "\\":
                start -= 1
            return start
        if boxed == place:
            boxed = text.rfind("boxed", 0, place)
        else:
            framed = text.rfind("fbox", 0, framed)
    return None


def _box_at(text: str, start: int) -> _Box | None:
    """The complete box that begins here. `\\boxed 5` without braces is one token."""
    head = _BOX.match(text, start)
    if head is None or head.end() >= len(text):
        return None
    if text[head.end()] != "{":
        token = _BARE_TOKEN.match(text, head.end())
        return _Box(start, token.end(), token[0]) if token else None
    end = matching_brace(text, head.end(), _LONGEST)
    return None if end < 0 else _Box(start, end + 1, text[head.end() + 1 : end])


def _linked_before(text: str, start: int, join: str, gold: bool) -> list[str]:
    """Contents of the boxes before `start` that belong to the same answer, first to last; at most 20."""
    window = max(0, start - _TAIL)
    if text.find("boxed", window, start) < 0 and text.find("fbox", window, start) < 0:
        return []
    boxes: list[_Box] = []
    for head in list(_BOX.finditer(text, window, start))[-20:]:
        if (not boxes or head.start() >= boxes[-1].end) and (box := _box_at(text, head.start())) is not None and box.end <= start:
            boxes.append(box)
    contents: list[str] = []
    for box in reversed(boxes):
        between = _NOISE.sub(" ", text[box.end : start])
        empty = not between.strip()
        linked = len(between) <= 60 and _LINK.match(between) is not None and (gold or not empty)
        if not (linked or (join == "all" and not gold)):
            break
        contents.append(box.content)
        start = box.start
    return contents[::-1]


# ---- marks and phrases ----------------------------------------------------------------------------------------------

_PHRASE = re.compile(
    r"(?:\b(?:final\s+)?answers?|\bresult|\breply|\bsolution|答案|réponse|respuesta|antwort|ответ)\W{0,4}\s*"
    r"(?:(?:is|are|est|es|ist|should\s+be|must\s+be|would\s+be|to\s+be|是|为|equals)\b|[:：=是为])\s*[:：]?\s*",
    re.IGNORECASE,
)
_PHRASE_WORDS = re.compile(
    r"\W*(?:(?:final|the|answer|is|therefore|thus|so|simply|just|indeed|equal\s+to|approximately|about)\b[\s:]*)+", re.IGNORECASE
)
_BOLD = re.compile(r"(?<!\w)\*\*([^*\n]{1,200})\*\*(?!\w)")
_CHOICE = re.compile(r"\(?([A-J])(?:\)|\b)(?!\s*(?:[-=+*/^_<>|&\\(]|and\b|or\b|,\s*(?:[A-J]\b|[\d\\$])))(?=\s|[,.:;。]|\Z)")
_SENTENCE_END = re.compile(r"[.!?。](?=\s|\Z)|\n")


def _marked(tail: str) -> Extracted | None:
    """What follows the last `####`, up to the end of its line."""
    _, mark, rest = tail.rpartition("####")
    line = rest.strip().split("\n", 1)[0].strip()
    return Extracted(line, "marker") if mark and line else None


def _said(tail: str) -> Extracted | None:
    """What follows the last "answer is", when anything does."""
    last = _last(_PHRASE.finditer(tail))
    if last is None:
        return None
    rest = _BOLD.sub(r"\1", tail[last.end() :]).lstrip().removeprefix("**").lstrip()
    if (words := _PHRASE_WORDS.match(rest)) and words.end() < len(rest.rstrip()) and len(words[0].split()) > 1:
        rest = rest[words.end() :]
    return Extracted(found, "phrase") if rest and (found := _from_sentence(rest)) else None


def _from_sentence(rest: str) -> str | None:
    """The answer that a sentence begins with: a formula (and those linked to it), a number, a choice letter, or its words."""
    if (formula := _MATH.match(rest)) is not None:
        return _linked_formulas(rest, formula)
    end = _SENTENCE_END.search(rest)
    sentence = (rest[: end.start()] if end else rest)[:500].removesuffix("**").strip()
    if (choice := _CHOICE.match(sentence)) is not None:
        return choice[1]
    if looks_bare(sentence):
        return sentence.strip("* ") or None
    if (number := _NUMBER.match(sentence.lstrip("$€£ ("))) is not None:
        return number[0].strip()
    if (formula := _MATH.search(sentence)) is not None:
        return _linked_formulas(sentence, formula)
    numbers = _NUMBER.findall(sentence)
    return (numbers[-1] if "=" in sentence else numbers[0]).strip() if numbers else sentence or None


def _linked_formulas(text: str, first: re.Match[str]) -> str:
    """A formula and those joined to it by "and" or a comma, as one list; a unit or percent after it stays with it."""
    parts = [_inner(first)]
    end = first.end()
    while (following := _MATH.search(text, end, end + 200)) is not None and len(parts) < 20:
        between = text[end : following.start()].strip()
        if between not in {",", "and", "or", ";", ", and", ", or"}:
            break
        parts.append(_inner(following))
        end = following.end()
    unit = re.match(r"\s*(%|percent\b|pct\b|degrees\b|°)", text[end:])
    return ", ".join(parts) + (f" {unit[1]}" if unit else "")


def _inner(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None).strip()


# ---- what is left ---------------------------------------------------------------------------------------------------

_NUMBER = re.compile(
    r"[-+−–]?\\[dt]?frac\s*\{[^{}]{1,60}\}\s*\{[^{}]{1,60}\}|[-+−–]?[$€£]?(?<![A-Za-z0-9_.])(?:\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?![\d])(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
    r"(?:\s*/\s*\d+)?(?:\s*(?:\\?%|percent\b|pct\b))?(?![A-Za-z0-9_])"
)
_WORDS = re.compile(r"[^\W\d_]{2,}")
_COMMANDS = re.compile(r"\\(?:text|textbf|textrm|textit|textnormal|mathrm|mathbf|mbox|operatorname|begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+")
_NAMES = {
    "sqrt",
    "sin",
    "cos",
    "tan",
    "log",
    "ln",
    "pi",
    "exp",
    "arctan",
    "arcsin",
    "arccos",
    "and",
    "or",
    "percent",
    "pct",
    "percentage",
    "nan",
    "inf",
}


def looks_bare(text: str) -> bool:
    """True when the text is nothing but an answer: a formula, or a few words without a sentence around them."""
    text = text.strip()
    if not text or len(text) > 2_000:
        return False
    if (formula := _MATH.fullmatch(text)) is not None:
        return len(_WORDS.findall(_COMMANDS.sub(" ", _inner(formula)))) < 12
    if "\n\n" in text:
        return False
    outside = re.sub(r"\{[^{}]*\}", " ", _COMMANDS.sub(" ", text)) if "\\" in text else text
    words = [word for word in _WORDS.findall(outside) if word.lower() not in _NAMES]
    numbers = bool(re.search(r"\d", text))
    if words and (_MATH.search(text) or any(not word.isascii() for word in words) and numbers):
        return False
    if numbers and re.search(r"[=:]", text) and (len(words) > 1 or re.search(r"[^\W\d_]{3,}\s*[:：]", text)):
        return False
    return len(words) <= (2 if numbers else 6) and not re.search(r"[.!?]\s+\S", text)


def _whole(text: str) -> Extracted:
    text = text.strip()
    return Extracted(text, "whole") if text else Extracted(None, "none")


def _last_formula(tail: str) -> Extracted | None:
    """The last formula in dollars or brackets, with those linked before it; an equation's unit stays with it."""
    formulas = list(_MATH.finditer(tail))
    if not formulas:
        return None
    first = len(formulas) - 1
    while first > 0 and tail[formulas[first - 1].end() : formulas[first].start()].strip() in {",", "and", "or", ";", ", and"}:
        first -= 1
    after = tail[formulas[-1].end() :]
    if _NUMBER.search(after):
        return None
    return Extracted(_linked_formulas(tail, formulas[first]), "formula")


def _last_number(tail: str) -> Extracted | None:
    """The last number that is no part of a word."""
    last = _last(_NUMBER.finditer(tail))
    return Extracted(last[0].strip(), "number") if last else None
