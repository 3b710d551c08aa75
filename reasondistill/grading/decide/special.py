"""Single values with a notation of their own: clock times, dates, ratios, numbers in another base,
congruences, functions by cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Protocol

from reasondistill.grading.decide.decision import (
    DIFFERENT,
    OPEN,
    SAME,
    Decision,
    different,
    same_if,
)
from reasondistill.grading.policies import Policy
from reasondistill.grading.read.clean import string_key
from reasondistill.grading.read.dates import Day, read_days
from reasondistill.grading.read.quantity import read_quantity
from reasondistill.grading.read.structure import Answer, read

_CASES = re.compile(r"\\begin\s*\{cases\}(.*)\\end\s*\{cases\}", re.DOTALL)
_HALF_OF_DAY = r"\s*(?:\\text\s*\{\s*)?([AaPp])\.?\s*[Mm]\.?\s*\}?"
_CLOCK = re.compile(
    r"(\d{1,2})(?::(\d\d))?(?::(\d\d))?" + _HALF_OF_DAY + r"|(\d{1,2}):(\d\d)(?::(\d\d))?"
)
_RATIO_SIGN = r"(?::|\s+(?:\\text\s*\{\s*)?to(?:\s*\})?\s+)"
_RATIO = re.compile(r"([^:=,]+)" + _RATIO_SIGN + r"([^:=,]+)(?::([^:=,]+))?")
_ISO = re.compile(r"\d{4}-\d\d-\d\d")
_BASED = re.compile(
    r"\(?((?=[0-9A-Fa-f]*\d)[0-9A-Fa-f]+|[A-Fa-f]{2,}(?=\)?\s*_\s*\{?\s*16))\)?"
    r"\s*_\s*\{?\s*(?:\\text\s*\{)?\s*(\d+|[a-z]+)\s*\}?\}?"
)
_BASE_NAMES = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_BASES = {name: str(base) for base, name in enumerate(_BASE_NAMES, start=2)}
_MOD = (
    r"(?:\\pmod|\\bmod|\\mod|\(\s*(?:\\text\s*\{)?\s*\\?mod|\\pod|"
    r"\\text\s*\{\s*\(?mod\s*\})"
)
_CONGRUENCE = re.compile(r"(?:(.*?)\\equiv)?(.*?)" + _MOD + r"\s*\{?\s*([^{}()]+?)\s*\}?\)?")
_PRIME = r"(?:'|\^\s*\{?\s*\\prime\s*\}?)"
_SECOND = r"(?:''|\"|\^\s*\{?\s*\\prime\s*\\prime\s*\}?)"
_ARC = re.compile(
    r"(?=\d)(?:(\d+(?:\.\d+)?)\s*\^\s*\\circ\s*)?"
    rf"(?:(\d+(?:\.\d+)?)\s*{_PRIME}(?!')\s*)?(?:(\d+(?:\.\d+)?)\s*{_SECOND}\s*)?"
)
_IF = re.compile(
    r"\\text\s*\{\s*(?:if|for|when|,)?\s*\}|\\text\s*\{\s*(?:if|for|when)\b|"
    r"\b(?:if|is|when)\b|\\text|[{}\s]"
)


class Comparing(Protocol):
    """What this module needs of a comparison."""

    policy: Policy

    def answers(self, a: Answer, b: Answer) -> Decision:
        """Whether two answers are the same."""
        ...

    def trees(self, a: str, b: str) -> Decision:
        """Whether two expressions are the same."""
        ...


def same_special(comparing: Comparing, a: str, b: str) -> Decision:
    """Compare two values of one such notation; open when they are none."""
    for pattern, decide in _NOTATIONS:
        first = pattern.fullmatch(a)
        second = pattern.fullmatch(b)
        if first and second:
            return decide(comparing, first, second)
    return based_and_bare(comparing.policy, a, b)


DAY_OR_MONTH_FIRST = Decision("undecided", "structural", "day_or_month_first")
YEAR_MISSING = Decision("undecided", "structural", "year_missing")


def same_date(a: str, b: str) -> Decision:
    """Two dates in any notation; open where one is none. `03/04/2020` beside a named month can mean
    either day; beside another of its kind the numbers must stand in the same places.
    """
    days_a = read_days(a)
    days_b = read_days(b)
    if not days_a or not days_b:
        is_beside_number = (_ISO.fullmatch(a) and read_quantity(b)) or (
            _ISO.fullmatch(b) and read_quantity(a)
        )
        if is_beside_number:  # 2024-05-05 is no difference
            return different("different_date")
        return OPEN
    if len(days_a) == len(days_b) == 2:
        return same_if(days_a == days_b, "different_date")
    agreeing = [x for x in days_a for y in days_b if may_be_same_day(x, y)]
    if not agreeing:
        return different("different_date")
    if len(days_a) + len(days_b) > 2:
        return DAY_OR_MONTH_FIRST
    if days_a[0].year != days_b[0].year:
        return YEAR_MISSING
    return SAME


def may_be_same_day(a: Day, b: Day) -> bool:
    """Whether nothing that both sides write differs."""
    if (a.month, a.day) != (b.month, b.day):
        return False
    if a.year is not None and b.year is not None and a.year != b.year:
        return False
    return a.weekday == b.weekday or not a.weekday or not b.weekday


def same_clock(_: Comparing, a: re.Match[str], b: re.Match[str]) -> Decision:
    """12:00 and 1:00 differ, 3:30 pm is 15:30; a half of the day that only one side names decides
    nothing for 3:30.
    """
    if not a[4] and not b[4]:
        return same_if(_time_of_day(a) == _time_of_day(b), "different_time")
    return same_if(bool(times_of_day(a) & times_of_day(b)), "different_time")


def _time_of_day(match: re.Match[str]) -> tuple[int, int, int]:
    """Hour, minute and second, whichever way they were written."""
    hour = match[1] or match[5]
    minute = match[2] or match[6] or 0
    second = match[3] or match[7] or 0
    return int(hour), int(minute), int(second)


def times_of_day(match: re.Match[str]) -> set[tuple[int, int, int]]:
    """The times on a clock of 24 hours: two for an hour up to 12 without a half of the day."""
    hour, minute, second = _time_of_day(match)
    if hour == 0 or hour > 12:
        return {(hour, minute, second)}
    morning = (hour % 12, minute, second)
    evening = (hour % 12 + 12, minute, second)
    half = (match[4] or "").lower()
    if half == "a":
        return {morning}
    if half == "p":
        return {evening}
    return {morning, evening}


def same_ratio(comparing: Comparing, a: re.Match[str], b: re.Match[str]) -> Decision:
    """Two or three parts in proportion."""
    has_third = a[3] is not None
    if has_third != (b[3] is not None):
        return different("different_length")
    same = comparing.trees(f"({a[1]})*({b[2]})", f"({b[1]})*({a[2]})")
    if same.is_correct and has_third:
        return comparing.trees(f"({a[2]})*({b[3]})", f"({b[2]})*({a[3]})")
    return same


def same_based(_: Comparing, a: re.Match[str], b: re.Match[str]) -> Decision:
    """The same digits in the same base: 101_2 is not 101_3, and not 5 either. Beside the base ten
    that one side writes, the same value: 1011_2 is 11_{10}.
    """
    if (_base(a) == "10") != (_base(b) == "10"):
        first = based_value(a)
        second = based_value(b)
        return same_if(first is not None and first == second, "different_value")
    if a[1].upper().lstrip("0") != b[1].upper().lstrip("0"):
        return different("different_digits")
    return same_if(_base(a) == _base(b), "different_base")


def _base(based: re.Match[str]) -> str:
    """The base in digits: `_{five}` is 5."""
    written = based[2]
    return _BASES.get(written, written)


def based_and_bare(policy: Policy, a: str, b: str) -> Decision:
    """`11_5` beside 11 (its digits) or beside 6 (its value), as the policy says; open when
    neither side names a base.
    """
    based = _BASED.fullmatch(a)
    other = b
    if based is None:
        based = _BASED.fullmatch(b)
        other = a
    if based is None or based[1].isalpha():
        return OPEN
    if policy.bare_base and based[1] == other.strip():
        return SAME
    if not policy.based_value:
        return DIFFERENT
    value = based_value(based)
    written = read_quantity(other)
    if value is None or written is None:
        return DIFFERENT
    return same_if(value == written.value)


def based_value(based: re.Match[str]) -> Fraction | None:
    """The value of a number in a base up to 36; None when it has other digits."""
    try:
        return Fraction(int(based[1], int(_base(based))))
    except ValueError:
        return None


def same_congruence(_: Comparing, a: re.Match[str], b: re.Match[str]) -> Decision:
    """The same residues; which side of ≡ they stand on does not matter."""
    modulus_a = read_quantity(a[3].strip())
    modulus_b = read_quantity(b[3].strip())
    name_a = string_key(a[1] or "")
    name_b = string_key(b[1] or "")
    names_differ = name_a != name_b and name_a != "" and name_b != ""
    if names_differ or modulus_a is None or modulus_b is None:
        crossed = name_a == string_key(b[2]) and string_key(a[2]) == name_b
        if crossed and string_key(a[3]) == string_key(b[3]):
            return SAME
        return OPEN
    modulus = modulus_a.value
    if modulus != modulus_b.value or modulus == 0:
        return different("different_modulus")
    residues_a = residues(a[2], modulus)
    residues_b = residues(b[2], modulus)
    if residues_a is None or residues_b is None:
        return OPEN
    return same_if(residues_a == residues_b, "different_residues")


def same_arc(_: Comparing, a: re.Match[str], b: re.Match[str]) -> Decision:
    """Degrees, minutes and seconds of arc: 5° 30' is 5.5°. Without degrees the marks may be of feet
    and inches, too.
    """
    if (a[1], a[2], a[3]) == (b[1], b[2], b[3]):
        return SAME
    if _seconds_of_arc(a) != _seconds_of_arc(b):
        return different("different_value")
    if a[1] or b[1]:
        return SAME
    return ARC_OR_LENGTH


def _seconds_of_arc(match: re.Match[str]) -> Fraction:
    degrees = Fraction(match[1] or 0)
    minutes = Fraction(match[2] or 0)
    return degrees * 3600 + minutes * 60 + Fraction(match[3] or 0)


ARC_OR_LENGTH = Decision("undecided", "structural", "arc_or_length")


def residues(text: str, modulus: Fraction) -> frozenset[Fraction] | None:
    """What `1, 4` and `\\pm 1` leave, modulo 5; None when something in the list is no number."""
    signed: list[str] = []
    for item in text.split(","):
        signed.append(item.replace("\\pm", ""))
        if "\\pm" in item:
            signed.append(item.replace("\\pm", "-"))
    values: set[Fraction] = set()
    for part in signed:
        quantity = read_quantity(part.strip().replace("- ", "-"))
        if quantity is None:
            return None
        values.add(quantity.value % modulus)
    return frozenset(values)


def same_cases(comparing: Comparing, a: re.Match[str], b: re.Match[str]) -> Decision:
    """Functions by cases: the same pieces with the same conditions, in any order."""
    rows_a = _case_rows(a[1])
    rows_b = _case_rows(b[1])
    if len(rows_a) != len(rows_b):
        return different("different_length")
    if any(len(row) != 2 for row in (*rows_a, *rows_b)):
        return OPEN
    left = list(rows_b)
    for value, condition in rows_a:
        for place, (other, other_condition) in enumerate(left):
            if not same_condition(comparing, condition, other_condition):
                continue
            if comparing.answers(read(value), read(other)).is_correct:
                left.pop(place)
                break
        else:
            return different("missing_element")
    return SAME


def _case_rows(inside: str) -> list[tuple[str, ...]]:
    """The rows of a `cases` environment: a value and, behind the `&`, its condition."""
    rows: list[tuple[str, ...]] = []
    for row in inside.split("\\\\"):
        if row.strip():
            parts = row.split("&", 1)
            rows.append(tuple(part.strip().rstrip(",") for part in parts))
    return rows


def same_condition(comparing: Comparing, a: str, b: str) -> bool:
    """`\\text{if } x > 0` and `x > 0` are one condition."""
    if _IF.sub("", a) == _IF.sub("", b):
        return True
    first = read(a.replace("\\text{if }", "").strip())
    second = read(b.replace("\\text{if }", "").strip())
    return comparing.answers(first, second).is_correct


_Decide = Callable[[Comparing, re.Match[str], re.Match[str]], Decision]
_NOTATIONS: tuple[tuple[re.Pattern[str], _Decide], ...] = (
    (_CLOCK, same_clock),
    (_RATIO, same_ratio),
    (_BASED, same_based),
    (_CONGRUENCE, same_congruence),
    (_CASES, same_cases),
    (_ARC, same_arc),
)
