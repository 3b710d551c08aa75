"""Formulas of propositional logic, compared by their truth table: ¬(p ∧ q) is ¬p ∨ ¬q, and p ⇒ q is
not q ⇒ p.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product

from reasondistill.grading.decide.decision import OPEN, SAME, Decision, different
from reasondistill.grading.read.syntax import Node, Unsupported, parse

_MOST_LETTERS = 8
_MOST_CHARACTERS = 300
_CONNECTIVES = (
    r"neg|lnot|land|wedge|lor|vee|implies|(?:Long|long)?[Rr]ightarrow|iff|"
    r"(?:Long|long)?[Ll]eftrightarrow|to|Leftarrow"
)
_HAS_CONNECTIVE = re.compile(rf"\\(?:{_CONNECTIVES})(?![A-Za-z])")
# Letters, connectives and brackets; what holds a digit or a sign of arithmetic is none.
_PROPOSITION = re.compile(
    rf"(?:\s|[()\[\]]|\\(?:{_CONNECTIVES}|top|bot)(?![A-Za-z])|"
    r"[A-Za-z](?:_\{?\w\}?)?'?(?![A-Za-z]))+"
)


def is_proposition(text: str) -> bool:
    """Whether a text is single letters joined by ¬ ∧ ∨ ⇒ ⇔, with at least one of these."""
    if "\\" not in text or len(text) > _MOST_CHARACTERS:
        return False
    return _HAS_CONNECTIVE.search(text) is not None and _PROPOSITION.fullmatch(text) is not None


def same_proposition(a: str, b: str) -> Decision:
    """Whether two propositions are true together; open when one is none, or letters are many."""
    if not is_proposition(a) and not is_proposition(b):
        return OPEN
    try:
        first = parse(a, frozenset())
        second = parse(b, frozenset())
        letters = sorted(letters_of(first) | letters_of(second))
    except Unsupported:
        return OPEN
    if len(letters) > _MOST_LETTERS:
        return OPEN
    for values in product((False, True), repeat=len(letters)):
        world = dict(zip(letters, values, strict=True))
        if is_true(first, world) != is_true(second, world):
            return different("different_truth")
    return SAME


def letters_of(node: Node) -> set[str]:
    """The propositions that a formula is made of. Raises Unsupported for anything but logic."""
    name = str(node[1])
    if node[0] in ("name", "const"):
        return {name} - _FIXED.keys()
    if name not in _MEANINGS:
        raise Unsupported("no logic")
    letters: set[str] = set()
    for part in node[2:]:
        letters |= letters_of(part)
    return letters


_FIXED = {"top": True, "bot": False}
_MEANINGS = frozenset([r"\neg", r"\land", r"\lor", r"\Rightarrow", r"\Leftrightarrow"])


def is_true(node: Node, world: Mapping[str, bool]) -> bool:
    """Whether a formula holds where each letter has this value."""
    name = str(node[1])
    if node[0] in ("name", "const"):
        if name in _FIXED:
            return _FIXED[name]
        return world[name]
    values = [is_true(part, world) for part in node[2:]]
    if name == r"\neg":
        return not values[0]
    if name == r"\land":
        return all(values)
    if name == r"\lor":
        return any(values)
    if name == r"\Rightarrow":
        return values[1] or not values[0]
    return values[0] == values[1]
