"""Formulas of propositional logic, compared by their truth table: ¬(p ∧ q) is ¬p ∨ ¬q, and p ⇒ q is
not q ⇒ p.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product

from reasondistill.grading.decide.decision import OPEN, SAME, Decision, different, same_if
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
    sets = same_set_formula(a, b)
    if not sets.is_open:
        return sets
    if "\\exists" in a + b and "\\neg" in a + b:
        return same_quantified(a, b)
    if not is_proposition(a) and not is_proposition(b):
        return OPEN
    try:
        first = parse(a, frozenset())
        second = parse(b, frozenset())
        return same_if(have_same_truth(first, second), "different_truth")
    except Unsupported:
        return OPEN


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


# ---- sets and quantifiers ------------------------------------------------------------------------

_SET_NAME = r"[A-Z](?:_\{?\w\}?)?"
_COMPLEMENT = r"\^\s*\{?\s*(?:c|C|\\complement)\s*\}?|'"
_SET_TOKEN = re.compile(
    rf"\s*(?:({_SET_NAME})(?![A-Za-z])|(\\cap|\\cup|\\setminus)(?![A-Za-z])|({_COMPLEMENT})|"
    r"(\\overline|\\bar)(?![A-Za-z])|([({])|([)}]))"
)
_SET_FORMULA = re.compile(rf"(?:{_SET_TOKEN.pattern})+\s*")
_SET_OPERATORS = {"\\cap": r"\land", "\\cup": r"\lor"}


def is_set_formula(text: str) -> bool:
    """Whether a text is capital letters joined by ∩, ∪ and ∖, perhaps with complements."""
    if len(text) > _MOST_CHARACTERS:
        return False
    return _SET_FORMULA.fullmatch(text) is not None


_SET_OPERATION = re.compile(r"\\(?:cap|cup|setminus)(?![A-Za-z])")


def same_set_formula(a: str, b: str) -> Decision:
    """The same set whatever the sets are: A ∩ Bᶜ is A ∖ B. Open when they differ and
    have bars, which may be closures.
    """
    if not is_set_formula(a) or not is_set_formula(b) or not _SET_OPERATION.search(a + b):
        return OPEN
    try:
        first = SetReader(a).whole()
        second = SetReader(b).whole()
    except Unsupported:
        return OPEN
    if have_same_truth(first, second):
        return SAME
    if _BAR.search(a) or _BAR.search(b):
        return OPEN
    return different("different_sets")


_BAR = re.compile(r"\\(?:overline|bar)(?![A-Za-z])")


def have_same_truth(first: Node, second: Node) -> bool:
    """Whether two formulas are true together. Raises Unsupported for anything but logic."""
    letters = sorted(letters_of(first) | letters_of(second))
    if len(letters) > _MOST_LETTERS:
        raise Unsupported("too many letters")
    for values in product((False, True), repeat=len(letters)):
        world = dict(zip(letters, values, strict=True))
        if is_true(first, world) != is_true(second, world):
            return False
    return True


class SetReader:
    """Reads a formula of sets as the proposition that an element lies in it."""

    def __init__(self, text: str) -> None:
        self.tokens = [match.groups() for match in _SET_TOKEN.finditer(text)]
        self.position = 0

    def whole(self) -> Node:
        """The whole text. Raises Unsupported where brackets are missing."""
        node = self.joined()
        if self.position < len(self.tokens):
            raise Unsupported("no set")
        return node

    def peek(self) -> tuple[str | None, ...]:
        """The next token, by its sort: name, operator, complement, bar, opening, closing."""
        if self.position < len(self.tokens):
            return self.tokens[self.position]
        return (None,) * 6

    def joined(self) -> Node:
        """Sets joined by one operator; different ones need brackets between them."""
        node = self.factor()
        before = ""
        while operator := self.peek()[1]:
            if before and (operator != before or operator == "\\setminus"):
                raise Unsupported("order of operations")
            self.position += 1
            other = self.factor()
            if operator == "\\setminus":
                node = ("call", r"\land", node, ("call", r"\neg", other))
            else:
                node = ("call", _SET_OPERATORS[operator], node, other)
            before = operator
        return node

    def factor(self) -> Node:
        """A letter, a bracket or what a bar covers, with the complement signs behind it."""
        name, _, _, bar, opening, _ = self.peek()
        self.position += 1
        if name:
            node: Node = ("name", name)
        elif bar:
            node = ("call", r"\neg", self.factor())
        elif opening:
            node = self.joined()
            if not self.peek()[5]:
                raise Unsupported("no closing bracket")
            self.position += 1
        else:
            raise Unsupported("no set")
        while self.peek()[2]:
            self.position += 1
            node = ("call", r"\neg", node)
        return node


_QUANTIFIED = re.compile(r"\s*(\\neg(?![A-Za-z]))?\s*\\(exists|forall)\s*([a-z])(?![A-Za-z(])\s*:?")
_PREDICATE = re.compile(r"([A-Z])\(\s*[a-z](?:\s*,\s*[a-z])*\s*\)")
_OTHER_QUANTIFIER = {"exists": "forall", "forall": "exists"}


def same_quantified(a: str, b: str) -> Decision:
    """¬∃x P(x) is ∀x ¬P(x): the same quantifiers when the negation has moved inwards, before the
    same statement. Open when they are not shown to be one.
    """
    if max(len(a), len(b)) > _MOST_CHARACTERS:
        return OPEN
    quantifiers_a, statement_a = moved_inwards(a)
    quantifiers_b, statement_b = moved_inwards(b)
    if not quantifiers_a or quantifiers_a != quantifiers_b:
        return OPEN
    predicates = {match[0] for match in _PREDICATE.finditer(statement_a + " " + statement_b)}
    letters = "pqrstuvw"
    if len(predicates) > len(letters):
        return OPEN
    for predicate, letter in zip(sorted(predicates), letters, strict=False):
        statement_a = statement_a.replace(predicate, f" {letter} ")
        statement_b = statement_b.replace(predicate, f" {letter} ")
    if not _PROPOSITION.fullmatch(statement_a) or not _PROPOSITION.fullmatch(statement_b):
        return OPEN
    try:
        first = parse(statement_a, frozenset())
        second = parse(statement_b, frozenset())
        if have_same_truth(first, second):
            return SAME
    except Unsupported:
        pass  # no logic
    return OPEN


def moved_inwards(text: str) -> tuple[list[str], str]:
    """The quantifiers that a formula begins with, no negation between them, and what follows."""
    quantifiers: list[str] = []
    is_negated = False
    match = _QUANTIFIED.match(text)
    while match is not None:
        if match[1]:
            is_negated = not is_negated
        quantifier = match[2]
        if is_negated:
            quantifier = _OTHER_QUANTIFIER[quantifier]
        quantifiers.append(f"{quantifier} {match[3]}")
        text = text[match.end() :]
        match = _QUANTIFIED.match(text)
    if is_negated:
        text = rf"\neg ({text})"
    return quantifiers, text
