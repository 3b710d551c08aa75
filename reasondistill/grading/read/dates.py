"""Read a day: ISO `2024-05-05`, `May 5, 2024`, `5 May 2024`, `5/31/2024`. English months.

read_days("03/04/2020")  →  4 March and 3 April 2020: nobody can tell which
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MONTHS = (
    "january|jan",
    "february|feb",
    "march|mar",
    "april|apr",
    "may",
    "june|jun",
    "july|jul",
    "august|aug",
    "september|sept|sep",
    "october|oct",
    "november|nov",
    "december|dec",
)
_NUMBER_OF_MONTH = {
    name: number for number, names in enumerate(_MONTHS, start=1) for name in names.split("|")
}
_WEEKDAY = r"(?:(?P<weekday>mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?(?:the\s+)?"
_MONTH = rf"(?P<month>{'|'.join(_NUMBER_OF_MONTH)})\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:\s*,?\s*(?P<year>\d{4}))?"
_NAMED = (
    re.compile(rf"{_WEEKDAY}{_MONTH}\s+(?:the\s+)?{_DAY}{_YEAR}"),
    re.compile(rf"{_WEEKDAY}{_DAY}\s+(?:of\s+)?{_MONTH}{_YEAR}"),
)
_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Day:
    """A day; `year` is None and `weekday` empty where none is written."""

    year: int | None
    month: int
    day: int
    weekday: str = ""


def read_days(text: str) -> tuple[Day, ...]:
    """The days that a cleaned answer can mean, month first; empty when it is no date."""
    if len(text) > _LONGEST or not any(character.isdecimal() for character in text):
        return ()
    plain = _TEXT.sub(r"\1", text).replace("~", " ").strip().lower()
    for pattern in _NAMED:
        match = pattern.fullmatch(plain)
        if match is None:
            continue
        year = None
        if match["year"]:
            year = int(match["year"])
        month = _NUMBER_OF_MONTH[match["month"]]
        return real_days(Day(year, month, int(match["day"]), match["weekday"] or ""))
    match = _YEAR_FIRST.fullmatch(plain)
    if match is not None:
        return real_days(Day(int(match[1]), int(match[3]), int(match[4])))
    match = _YEAR_LAST.fullmatch(plain)
    if match is None:
        return ()
    first = int(match[1])
    second = int(match[3])
    year = int(match[4])
    if first == second:
        return real_days(Day(year, first, second))
    return real_days(Day(year, first, second), Day(year, second, first))


def real_days(*days: Day) -> tuple[Day, ...]:
    """Those that a calendar can hold."""
    return tuple(day for day in days if 1 <= day.month <= 12 and 1 <= day.day <= 31)
