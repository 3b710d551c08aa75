"""What a gold text holds: one answer, several alternatives, or none.

alternatives('["34", "68/2"]')     →  ("34", "68/2"): any of them is right
alternatives("['34']")             →  ("34",)
is_no_answer("see solution")       →  True
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import cast

_LONGEST_LIST = 20_000
_QUOTED = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_LIST_OF_TEXTS = re.compile(rf"\[\s*{_QUOTED}(?:\s*,\s*{_QUOTED})*\s*,?\s*\]", re.DOTALL)


def alternatives(gold: str) -> tuple[str, ...]:
    """The answers any of which is right: the elements of a list of texts as JSON or Python writes
    it, else the gold itself. A list without quotes, `[1, 2]`, is one answer.
    """
    written = gold.strip()
    if not written.startswith("[") or len(written) > _LONGEST_LIST:
        return (gold,)
    if _LIST_OF_TEXTS.fullmatch(written) is None:
        return (gold,)
    try:
        return tuple(cast("list[str]", json.loads(written)))
    except ValueError:
        pass  # Python writes single quotes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `\sqrt` is no escape, and stays as it is
            return tuple(cast("list[str]", ast.literal_eval(written)))
    except (ValueError, SyntaxError):
        return (gold,)


# What a data set says where it has no answer.
_NO_ANSWER = re.compile(
    r"(?:the\s+)?(?:"
    r"proof(?:\s+(?:is\s+)?(?:omitted|problem|question|required|needed))?|proved|proven|q\s?e\s?d|"
    r"(?:please\s+)?(?:see|refer\s+to)\s+(?:the\s+)?"
    r"(?:solutions?|proof|above|below|explanation|text|figure|picture|image|diagram|answer)"
    r"(?:\s+(?:above|below))?|"
    r"(?:solution|answer)\s+(?:is\s+)?"
    r"(?:omitted|not\s+(?:found|given|available|provided)|missing)|"
    r"not\s?found|not\s+(?:given|available|provided)|no\s+answer(?:\s+(?:given|found|provided))?|"
    r"omitted|n/a|todo|tbd|error|null|answer|\?+|"
    r"i\s+(?:do\s+not|don['’\s]?t)\s+know|idk"
    r")",
    re.IGNORECASE,
)
_WRAPPING = re.compile(r"\\(?:text|mathrm|textbf|mbox)\s*(?=\{)|[${}\[\]()<>*_`\"'.!:\s]+")
_OPENS_A_SOLUTION = re.compile(
    r"\s*[*_#\s]*(?:<think|proof\b\s*[.:*]|solution\b\s*[.:*]|step\s*1\b)", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|\Z)")
_SHORTEST_SOLUTION = 400


def is_no_answer(gold: str) -> bool:
    """Whether a gold says that there is no answer to compare with: "proof", "see solution", "not
    found", or a text that is a whole solution and states no answer.
    """
    if len(gold) < 80 and _NO_ANSWER.fullmatch(_WRAPPING.sub(" ", gold).strip()):
        return True
    return is_solution(gold)


def is_solution(gold: str) -> bool:
    """Whether a text derives something in several sentences with formulas, as no answer does."""
    if _OPENS_A_SOLUTION.match(gold):
        return True
    if len(gold) < _SHORTEST_SOLUTION or not ("=" in gold or "$" in gold or "\\" in gold):
        return False
    return len(_SENTENCE_END.findall(gold)) >= 3 and len(gold.split()) >= 40
