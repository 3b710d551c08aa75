"""Single values with a notation of their own: clock times, dates, ratios, numbers in another base,
congruences, functions by cases.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Protocol

from reasondistill.grading.clean import string_key
from reasondistill.grading.policies import Policy
from reasondistill.grading.quantity import Quantity, read_quantity
from reasondistill.grading.structure import Answer, read

Verdict = bool | None

_CASES = re.compile(r"\\begin\s*\{cases\}(.*)\\end\s*\{cases\}", re.DOTALL)
_CLOCK = re.compile(
    r"(\d{1,2})(?::(\d\d))?(?::(\d\d))?\s*(?:\\text\s*\{\s*)?([AaPp])\.?\s*[Mm]\.?\s*\}?|(\d{1,2}):(\d\d)(?::(\d\d))?"
)
_RATIO = re.compile(r"([^:=,]+)(?::|\s+(?:\\text\s*\{\s*)?to(?:\s*\})?\s+)([^:=,]+)(?::([^:=,]+))?")
_DATE = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})|(\d{1,2})([-/.])(\d{1,2})\6(\d{4})")
_BASED = re.compile(
    r"\(?((?=[0-9A-Fa-f]*\d)[0-9A-Fa-f]+)\)?\s*_\s*\{?\s*(?:\\text\s*\{)?\s*(\d+|[a-z]+)\s*\}?\}?"
)
_BASES = {
    name: str(i)
    for i, name in enumerate(
        ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), start=2
    )
}
_CONGRUENCE = re.compile(
    r"(?:(.*?)\\equiv)?(.*?)(?:\\pmod|\\bmod|\\mod|\(\s*(?:\\text\s*\{)?\s*\\?mod|\\pod|\\text\s*\{\s*\(?mod\s*\})\s*\{?\s*([^{}()]+?)\s*\}?\)?"
)
_IF = re.compile(
    r"\\text\s*\{\s*(?:if|for|when|,)?\s*\}|\\text\s*\{\s*(?:if|for|when)\b|\b(?:if|is|when)\b|\\text|[{}\s]"
)


class Comparing(Protocol):
    """What this module needs of a comparison."""

    policy: Policy

    def answers(self, a: Answer, b: Answer) -> Verdict:
        """Whether two answers are the same."""
        ...

    def trees(self, a: str, b: str) -> Verdict:
        """Whether two expressions are the same."""
        ...


def same_special(comparing: Comparing, a: str, b: str) -> Verdict:
    """Compare two values of one such notation; None when they are none."""
    for pattern, decide in (
        (_DATE, _same_date),
        (_CLOCK, _same_clock),
        (_RATIO, _same_ratio),
        (_BASED, _same_based),
        (_CONGRUENCE, _same_congruence),
        (_CASES, _same_cases),
    ):
        first, second = pattern.fullmatch(a), pattern.fullmatch(b)
        if first and second:
            return decide(comparing, first, second)
    return _based_and_bare(comparing.policy, a, b)


def _same_clock(_: Comparing, a: re.Match[str], b: re.Match[str]) -> bool:
    """12:00 and 1:00 differ; a half of the day that only one side names decides nothing."""
    halves = {(match[4] or "").lower() for match in (a, b)} - {""}
    first, second = (
        (int(m[1] or m[5]), int(m[2] or m[6] or 0), int(m[3] or m[7] or 0)) for m in (a, b)
    )
    return first == second and len(halves) < 2


def _same_date(_: Comparing, a: re.Match[str], b: re.Match[str]) -> bool:
    """3/4/2020 and 6/8/2020 are no fractions."""
    first, second = (
        [int(part) for part in match.groups() if part and part.isdecimal()] for match in (a, b)
    )
    return first == second


def _same_ratio(comparing: Comparing, a: re.Match[str], b: re.Match[str]) -> Verdict:
    """Two or three parts in proportion."""
    if (a[3] is None) != (b[3] is None):
        return False
    same = comparing.trees(f"({a[1]})*({b[2]})", f"({b[1]})*({a[2]})")
    return (
        comparing.trees(f"({a[2]})*({b[3]})", f"({b[2]})*({a[3]})")
        if same and a[3] is not None
        else same
    )


def _same_based(_: Comparing, a: re.Match[str], b: re.Match[str]) -> bool:
    return (a[1].lstrip("0"), _BASES.get(a[2], a[2])) == (b[1].lstrip("0"), _BASES.get(b[2], b[2]))


def _based_and_bare(policy: Policy, a: str, b: str) -> Verdict:
    """`11_5` beside 11 (its digits) or beside 6 (its value), as the policy says."""
    based, other = (_BASED.fullmatch(a), b) if _BASED.fullmatch(a) else (_BASED.fullmatch(b), a)
    if based is None:
        return None
    if policy.bare_base and based[1] == other.strip():
        return True
    value, written = _based_value(based), read_quantity(other)
    return (
        policy.based_value
        and value is not None
        and written is not None
        and value.value == written.value
    )


def _based_value(based: re.Match[str]) -> Quantity | None:
    """The value of a number in a base up to 16; None when it has other digits."""
    try:
        return Quantity(Fraction(int(based[1], int(_BASES.get(based[2], based[2])))))
    except ValueError:
        return None


def _same_congruence(_: Comparing, a: re.Match[str], b: re.Match[str]) -> Verdict:
    """The same residues; which side of ≡ they stand on does not matter."""
    moduli = [read_quantity(match[3].strip()) for match in (a, b)]
    named = string_key(a[1] or ""), string_key(b[1] or "")
    if (named[0] != named[1] and "" not in named) or None in moduli:
        crossed = named[0] == string_key(b[2]) and string_key(a[2]) == named[1]
        return True if crossed and string_key(a[3]) == string_key(b[3]) else None
    values = [found.value for found in moduli if found is not None]
    if values[0] != values[1] or values[0] == 0:
        return False
    rests = [_residues(match[2], values[0]) for match in (a, b)]
    return None if None in rests else rests[0] == rests[1]


def _residues(text: str, modulus: Fraction) -> frozenset[Fraction] | None:
    """What `1, 4` and `\\pm 1` leave, modulo 5."""
    signed = [
        part
        for item in text.split(",")
        for part in (
            (item.replace("\\pm", ""), item.replace("\\pm", "-")) if "\\pm" in item else (item,)
        )
    ]
    found = [read_quantity(part.strip().replace("- ", "-")) for part in signed]
    return (
        None
        if None in found
        else frozenset(quantity.value % modulus for quantity in found if quantity is not None)
    )


def _same_cases(comparing: Comparing, a: re.Match[str], b: re.Match[str]) -> Verdict:
    """Functions by cases: the same pieces with the same conditions, in any order."""
    rows_a, rows_b = (
        [
            tuple(part.strip().rstrip(",") for part in row.split("&", 1))
            for row in match[1].split("\\\\")
            if row.strip()
        ]
        for match in (a, b)
    )
    if len(rows_a) != len(rows_b):
        return False
    if any(len(row) != 2 for row in (*rows_a, *rows_b)):
        return None
    left = list(rows_b)
    for value, condition in rows_a:
        places = (i for i, row in enumerate(left) if _same_condition(comparing, condition, row[1]))
        same = next((i for i in places if comparing.answers(read(value), read(left[i][0]))), None)
        if same is None:
            return False
        left.pop(same)
    return True


def _same_condition(comparing: Comparing, a: str, b: str) -> bool:
    first, second = _IF.sub("", a), _IF.sub("", b)
    return first == second or bool(
        comparing.answers(
            read(a.replace("\\text{if }", "").strip()), read(b.replace("\\text{if }", "").strip())
        )
    )
