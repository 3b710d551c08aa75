"""The shortest way: a text that ends in one box with an integer, or in `#### 42`.

Most completions of word problems do. What the other modules look for around an answer (a denial, a
unit, another box, words that change the value) cannot stand in such a text, or sends it to them.
"""

from __future__ import annotations

import re

from reasondistill.grading.extract.found import Extracted
from reasondistill.grading.extract.modifiers import may_change_next, may_deny_next

_BOX = re.compile(r"\\boxed\{(-?\d{1,15})\}[\s.$]*\Z")
_MARK = re.compile(r"#### ?(-?\d[\d,]{0,20})\s*\Z")
_BEFORE = re.compile(r"(?:\A|[A-Za-z.:]\s?)\$?\Z")


def told_plainly(text: str) -> Extracted | None:
    """The answer of such a text; None for any other one."""
    start = text.rfind("\\boxed{")
    if start < 0:
        mark = text.rfind("####")
        if mark < 0 or "boxed" in text or "fbox" in text:
            return None
        match = _MARK.match(text, mark)
        if match is None or text.find("####") < mark:
            return None
        return Extracted(match[1], "marker")
    match = _BOX.match(text, start)
    is_other = text.find("boxed") != start + 1 or "fbox" in text or "####" in text
    if match is None or is_other:
        return None
    before = text[max(0, start - 60) : start]
    if "\\" in before or _BEFORE.search(before[-3:]) is None:
        return None
    if may_deny_next(before) or may_change_next(before):
        return None
    return Extracted(match[1], "boxed")
