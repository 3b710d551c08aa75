"""The answer in `\\boxed{}`, with the boxes that belong to it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reasondistill.grading.extract.bare import VERBS
from reasondistill.grading.extract.found import TAIL, Extracted
from reasondistill.grading.extract.phrases import said, stated
from reasondistill.grading.read.clean import matching_brace

LONGEST = 20_000
_BOX = re.compile(r"\\+(?:begin|f|x08)?boxed\s*|\\+fbox\s*")
_BARE_TOKEN = re.compile(
    r"\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)|\\sqrt\s*(?:\{[^{}]*\}|\d)|"
    r"\\[A-Za-z]+|[-+]?[\w.]+"
)
_LINK = re.compile(
    r"\s*[,;]?\s*(?:and|or|[,;&])?\s*(?:[A-Za-z](?:_\w)?\s*=)?\s*\Z|\s*for part \(?\w\)?,? and\s*\Z"
)
_NOISE = re.compile(
    r"\\(?:quad|qquad|text(?:rm|bf|normal)?|mathrm|hspace\{[^{}]*\}|[,;:! "
    r"()\[\]])|[${}\s]+|\.(?=\s*\$?\s*\Z)"
)


def last_boxes(text: str, join: str, *, gold: bool) -> Extracted | None:
    """The last box, with those linked to it before it; None when there is no box at all."""
    if "\x08" in text:
        text = text.replace("\x08oxed", "\\boxed")
    start = last_box_start(text)
    if start is None:
        return None
    last = _box_at(text, start)
    if last is None:
        return Extracted(None, "malformed")
    contents = [last.content]
    if join != "last":
        contents = linked_before(text, last.start, join, gold) + contents
    distinct = list(dict.fromkeys(without_sentence(content.strip()) for content in contents))
    if "".join(distinct):
        return Extracted(", ".join(distinct), "boxed")
    return Extracted(None, "none")


def without_sentence(content: str) -> str:
    """What a box says that holds a sentence, `There are 12 apples`; else the box as it is."""
    if " " not in content:
        return content
    whole = re.fullmatch(r"\\(?:text|mbox|textbf|mathrm)\s*\{([^{}]*)\}", content)
    words = content.strip()
    if whole:
        words = whole[1].strip()
    if len(words) > 300 or not re.search(r"\d", words):
        return content
    if "\\" in words.replace("\\$", ""):
        return content
    if VERBS.isdisjoint(words.lower().split()):
        return content
    answer = said(words, False)
    if answer is None:
        answer = stated(words, "boxed")
    return answer.text or content


@dataclass(frozen=True, slots=True)
class _Box:
    start: int
    end: int
    content: str


def last_box_start(text: str) -> int | None:
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
    if text[head.end()] == "{":
        end = matching_brace(text, head.end(), LONGEST)
        if end < 0:
            return None
        return _Box(start, end + 1, text[head.end() + 1 : end])
    token = _BARE_TOKEN.match(text, head.end())
    if token:
        return _Box(start, token.end(), token[0])
    return None


def linked_before(text: str, start: int, join: str, gold: bool) -> list[str]:
    """Contents of the boxes before `start` that belong to the same answer, first to last; at most
    20.
    """
    window = max(0, start - TAIL)
    if text.find("boxed", window, start) < 0 and text.find("fbox", window, start) < 0:
        return []
    boxes: list[_Box] = []
    for head in list(_BOX.finditer(text, window, start))[-20:]:
        if boxes and head.start() < boxes[-1].end:
            continue  # a box inside a box
        box = _box_at(text, head.start())
        if box is not None and box.end <= start:
            boxes.append(box)
    joins_all = join == "all" and not gold
    contents: list[str] = []
    for box in reversed(boxes):
        between = _NOISE.sub(" ", text[box.end : start])
        if not joins_all and not _is_link(between, gold):
            break
        contents.append(box.content)
        start = box.start
    return contents[::-1]


def _is_link(between: str, gold: bool) -> bool:
    """Whether the text between two boxes joins them; nothing at all does so only in a gold."""
    if len(between) > 60 or _LINK.match(between) is None:
        return False
    return gold or bool(between.strip())
