"""Read a number exactly, with its percent sign, currency or unit; compare two of them under a
policy.

`read_quantity("\\\\$1,000.50")` is 2001/2. Never a float: `1/2004!`-sized differences and 7th
decimals must count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from reasondistill.grading.policies import Policy
from reasondistill.grading.units import CURRENCIES, Unit, read_short_unit, read_unit, units_agree

_MOST_DIGITS = 4_000
_MOST_EXPONENT = 4_000

_INT = r"(?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)|[1-9]\d{0,2}(?: \d{3})+(?!\d)|\d+)"
_DECIMAL = rf"(?:{_INT}(?:\.\d*)?|\.\d+)"
_POWER = r"(?:\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{\s*([-+]?\s*\d+)\s*\}|([-+]?\d))|[eE]([-+]?\d+))"
_SIMPLE = re.compile(rf"([-+]?)\s*({_DECIMAL}){_POWER}?")
_POWER_OF_TEN = re.compile(r"([-+]?)\s*10\s*\^\s*(?:\{\s*([-+]?\s*\d+)\s*\}|(\d))")
_FRACTION = re.compile(
    rf"([-+]?)\s*(\d+(?:\s*|\s+and\s+))??\\frac\s*(?:\{{\s*([-+]?\s*{_DECIMAL})\s*\}}|(\d))\s*(?:\{{\s*([-+]?\s*{_DECIMAL})\s*\}}|(\d))"
)
_SLASH = re.compile(rf"([-+]?)\s*(?:(\d+)\s+)?({_DECIMAL})\s*/\s*([-+]?\s*{_DECIMAL})")

_CURRENCY = re.compile(
    r"(?:\\text\s*\{\s*)?(?:US|A|C)?(\\?\$|[€£¥₹₩]|\\(?:pounds|euro)(?![A-Za-z])|(?:USD|EUR|GBP|Rs\.?)(?![A-Za-z]))(?:\s*\})?\s*"
)
_CURRENCY_AFTER = re.compile(r"\s*(?:\\text\s*\{\s*)?(\\?\$|[€£¥₹¢₩])(?:\s*\})?\s*\.?")
_CODES = {
    "USD": "dollar",
    "EUR": "euro",
    "GBP": "pound",
    "Rs": "rupee",
    "Rs.": "rupee",
    "\\$": "dollar",
    "\\pounds": "pound",
    "\\euro": "euro",
} | CURRENCIES
_PERCENT = re.compile(
    r"\s*(?:\\?%|(?:\\text\{\s*)?(?:percentage|percent|per "
    r"cent|pct)(?:\s+points?)?\.?(?:\s*\})?)\s*"
)
_DEGREE = re.compile(r"\s*\^\s*\\circ\s*(?:\\text\{\s*)?([CFK]?)(?:\s*\})?\s*")
_SCALE = re.compile(
    r"\s*(?:\\text\s*\{\s*)?(hundred|thousand|million|billion|trillion|dozen)(?![A-Za-z])(\s*\})?",
    re.IGNORECASE,
)
_SCALES = {
    "hundred": 100,
    "thousand": 1_000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
}
_ORDINAL = re.compile(r"\s*(?:\^\s*\{?\s*)?(?:\\text\s*\{\s*)?(?:st|nd|rd|th)\s*\}?\s*\}?")


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact value as written. `places` is how many decimals it was written with, None when it
    was no decimal.
    """

    value: Fraction
    percent: bool = False
    unit: Unit = ()
    places: int | None = None
    mantissa_digits: int = 0


@lru_cache(maxsize=8192)
def read_quantity(cleaned: str, *, short_units: bool = False) -> Quantity | None:
    """The number that a cleaned answer is, or None when it is something else. With `short_units`
    one letter may be a unit: 5 m.
    """
    text = cleaned.strip()
    if not text or len(text) > _MOST_DIGITS or not any(character.isdecimal() for character in text):
        return None
    sign, text = _leading_sign(text)
    unit: Unit = ()
    if (currency := _CURRENCY.match(text)) is not None:
        inner, text = _leading_sign(text[currency.end() :])
        sign, unit = sign * inner, ((_CODES[currency[1]], 1),)
    for read in (_repeating, _fraction, _slash, _simple):
        if (found := read(text)) is not None:
            value, places, digits, end = found
            quantity = _with_tail(sign * value, places, digits, text[end:], short_units)
            return quantity if quantity is None or not unit else _priced(quantity, unit)
    return None


def _priced(quantity: Quantity, unit: Unit) -> Quantity | None:
    """With the currency that stood before the number; `$5 per hour` keeps the hour, `$5 cm` is
    nothing.
    """
    rest = tuple(part for part in quantity.unit if part != unit[0])
    return (
        replace(quantity, unit=tuple(sorted(unit + rest)))
        if not quantity.percent and all(power < 0 for _, power in rest)
        else None
    )


def _leading_sign(text: str) -> tuple[int, str]:
    if text[:1] in {"-", "+"}:
        return (-1 if text[0] == "-" else 1), text[1:].lstrip()
    return 1, text


_Read = tuple[Fraction, int | None, int, int]


def _fraction(text: str) -> _Read | None:
    """`\\frac{1}{2}`, `\\frac12`, `3\\frac{1}{2}`."""
    match = _FRACTION.match(text)
    if match is None or match[1]:
        return None
    top, bottom = _plain(match[3] or match[4]), _plain(match[5] or match[6])
    if bottom == 0:
        return None
    if match[2] is None:
        return top / bottom, None, 0, match.end()
    whole = match[2].strip().removesuffix("and")
    return (
        (Fraction(int(whole)) + top / bottom, None, 0, match.end()) if 0 <= top < bottom else None
    )


def _slash(text: str) -> _Read | None:
    """`1/2`, `3 1/2`."""
    match = _SLASH.match(text)
    if match is None or match[1]:
        return None
    top, bottom = _plain(match[3]), _plain(match[4])
    if bottom == 0 or re.match(r"\s*[/^]|\d", text[match.end() :]):
        return None
    whole = Fraction(int(match[2])) if match[2] else Fraction(0)
    return None if match[2] and top >= bottom else (whole + top / bottom, None, 0, match.end())


_REPEATING = re.compile(
    r"(\d*)\.(\d{0,50}?)(?:\\(?:overline|bar|dot)\s*(?:\{\s*(\d{1,50})\s*\}|(\d))|\((\d{1,50})\)|(\d{1,6})\6\6*(?:\\ldots|\.\.\.))"
)


def _repeating(text: str) -> _Read | None:
    """`0.1\\overline{6}` is exactly 1/6."""
    match = _REPEATING.match(text)
    if match is None:
        return None
    whole, fixed, period = match[1] or "0", match[2], match[3] or match[4] or match[5] or match[6]
    value = int(whole + fixed) + Fraction(int(period), 10 ** len(period) - 1)
    return value / 10 ** len(fixed), None, 0, match.end()


def _simple(text: str) -> _Read | None:
    """An integer, a decimal or scientific notation; a bare power of ten."""
    if (power := _POWER_OF_TEN.match(text)) is not None and not power[1]:
        exponent = int((power[2] or power[3]).replace(" ", ""))
        return (
            (Fraction(10) ** exponent, None, 0, power.end())
            if abs(exponent) <= _MOST_EXPONENT
            else None
        )
    match = _SIMPLE.match(text)
    if match is None or match[1]:
        return None
    digits = match[2].replace(",", "").replace(" ", "")
    exponent = int((match[3] or match[4] or match[5] or "0").replace(" ", ""))
    if abs(exponent) > _MOST_EXPONENT:
        return None
    places = len(digits.partition(".")[2]) if "." in digits else None
    if exponent:
        places = None if places is None and exponent > 0 else (places or 0) - exponent
    significant = len(digits.replace(".", "").lstrip("0"))
    return _plain(digits) * Fraction(10) ** exponent, places, significant, match.end()


def _plain(digits: str) -> Fraction:
    text = digits.replace(",", "").replace(" ", "")
    return Fraction(text + "0" if text.endswith(".") else text)


def _with_tail(
    value: Fraction, places: int | None, digits: int, tail: str, short_units: bool
) -> Quantity | None:
    """The number with the scale word, percent sign, currency or unit after it; None when something
    else follows.
    """
    if not tail.strip() or tail.strip() == ".":
        return Quantity(value, places=places, mantissa_digits=digits)
    if (scale := _SCALE.match(tail)) is not None and scale[1].lower() in _SCALES:
        factor = _SCALES[scale[1].lower()]
        rest = (
            tail[scale.end() :]
            if scale[2] or "\\text" not in scale[0]
            else "\\text{" + tail[scale.end() :]
        )
        places = None if places is None else max(0, places - len(str(factor)) + 1) or None
        return _with_tail(value * factor, places, digits, rest, short_units)
    if _PERCENT.fullmatch(tail):
        return Quantity(value, percent=True, places=places, mantissa_digits=digits)
    if (currency := _CURRENCY_AFTER.fullmatch(tail)) is not None:
        return Quantity(
            value, unit=((_CODES[currency[1]], 1),), places=places, mantissa_digits=digits
        )
    if (degree := _DEGREE.fullmatch(tail)) is not None:
        return Quantity(
            value, unit=((_DEGREES[degree[1]], 1),), places=places, mantissa_digits=digits
        )
    if value.denominator == 1 and _ORDINAL.fullmatch(tail):
        return Quantity(value)
    if _COUNTED.fullmatch(tail):
        return Quantity(value, places=places, mantissa_digits=digits)
    unit = read_short_unit(tail) if short_units else read_unit(tail)
    return (
        None if unit is None else Quantity(value, unit=unit, places=places, mantissa_digits=digits)
    )


_COUNTED = re.compile(
    r"\s*(?:\\text\s*\{\s*)?[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]{1,8}(?:\s*\})?"
)
_DEGREES = {"": "degree", "C": "celsius", "F": "fahrenheit", "K": "kelvin"}


def split_unit(text: str) -> tuple[str, Unit | Literal["%"]]:
    """`3\\sqrt{2}\\text{ cm}` → (`3\\sqrt{2}`, cm); `\\frac12\\%` → (…, `%`). Words that are no
    unit stay, but behind a number.
    """
    percent = re.fullmatch(
        r"(.*?)\s*(?:\\?%|(?:\\text\s*\{\s*)?(?:percent|percentage|pct)\.?\s*\}?)", text, re.DOTALL
    )
    if percent is not None and percent[1]:
        return percent[1].strip(), "%"
    degree = re.fullmatch(r"(.*[^\s\\])\s*\^\s*\\circ\s*", text, re.DOTALL)
    if degree is not None:
        return degree[1].strip(), (("degree", 1),)
    for pattern, lead in ((_WRAPPED_UNIT, ""), (_SPELLED_UNIT, " ")):
        match = pattern.fullmatch(text)
        if (
            match is not None
            and (unit := read_unit(lead + match[2])) is not None
            and (unit or match[1][:1].isdigit())
        ):
            return match[1].strip(), unit
    return text, ()


_WRAPPED_UNIT = re.compile(
    r"(.*[^\s\\])\s*(\\text\s*\{[^{}]+\}(?:\s*\^\s*(?:\{-?\d\}|\d)|\s*/\s*\\text\s*\{[^{}]+\}|\s*\\text\s*\{[^{}]+\})*)",
    re.DOTALL,
)
_SPELLED_UNIT = re.compile(
    r"(.*[\d})πi])\s+([A-Za-z]{2,}(?:\s[A-Za-z]+){0,2}(?:\s*\^\s*\{?\d\}?)?)", re.DOTALL
)


def same_quantity(a: Quantity, b: Quantity, policy: Policy) -> tuple[bool, str]:
    """Whether two quantities are the same answer, and the code of the reason."""
    if a.percent != b.percent:
        return _same_percent(*(a, b) if a.percent else (b, a), policy=policy)
    if not same_value(a, b, policy):
        return False, "different_value"
    return (
        (True, "equal_value") if units_agree(a.unit, b.unit, policy) else (False, "different_unit")
    )


def _same_percent(percent: Quantity, number: Quantity, *, policy: Policy) -> tuple[bool, str]:
    """28 % beside 0.28 (always) or 28 (a policy; never up to 1, where 0.5 could be meant as a
    fraction).
    """
    if number.unit:
        return False, "percent_differs"
    places = None if percent.places is None else percent.places + 2
    hundredth = replace(percent, value=percent.value / 100, percent=False, places=places)
    if policy.percent_is_fraction and same_value(hundredth, number, policy):
        return True, "percent_as_fraction"
    if policy.percent_is_number and abs(percent.value) > 1 and percent.value == number.value:
        return True, "percent_as_number"
    return False, "percent_differs"


def same_value(a: Quantity, b: Quantity, policy: Policy) -> bool:
    """Exact equality; else a long decimal that only rounds the other (0.6666667 for 2/3), or the
    policy's tolerance.
    """
    if a.value == b.value:
        return True
    if policy.relative_tolerance and abs(a.value - b.value) <= Fraction(
        policy.relative_tolerance
    ) * max(abs(a.value), abs(b.value)):
        return True
    if a.places is None or b.places is None:
        return rounds_to(a, b.value, policy) if b.places is None else rounds_to(b, a.value, policy)
    short, long = (a, b) if a.places <= b.places else (b, a)
    enough = (
        policy.rounded_decimals
        and short.places is not None
        and short.places >= max(1, policy.decimal_places)
    )
    return enough and abs(short.value - long.value) <= Fraction(1, 2 * 10 ** (short.places or 0))


def rounds_to(decimal: Quantity, value: Fraction, policy: Policy) -> bool:
    """True when `decimal` is `value` rounded or cut at enough places, and `value` has no shorter
    exact decimal.

    A value that terminates within twelve places must be hit exactly: 1.0000001 is not 1.
    """
    places = decimal.places
    if not policy.decimal_places or places is None or not policy.decimal_places <= places <= 400:
        return False
    if (
        decimal.mantissa_digits < policy.decimal_places
        or value == 0
        or (value * 10**12).denominator == 1
    ):
        return False
    error, place = abs(decimal.value - value), Fraction(1, 10**places)
    cut = abs(decimal.value) <= abs(value) and error < place
    return cut or error <= place / 2
