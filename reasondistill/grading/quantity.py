"""Read a number exactly, with its percent sign, currency or unit; compare two of them under a policy.

`read_quantity("\\\\$1,000.50")` is 2001/2. Never a float: `1/2004!`-sized differences and 7th decimals must count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from reasondistill.grading.policies import Policy

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
_BRACKETED = re.compile(r"([-+]?)\s*\(\s*([^()]*)\s*\)")

_CURRENCY = re.compile(r"(?:\\?\$|[€£¥₹]|(?:USD|US\\?\$|EUR|Rs\.?)(?![A-Za-z]))\s*")
_CURRENCY_AFTER = re.compile(r"\s*(?:\\?\$|[€£¥₹]|(?:USD|EUR|dollars?|euros?|bucks)(?![A-Za-z]))\s*\.?")
_PERCENT = re.compile(r"\s*(?:\\?%|(?:\\text\{\s*)?(?:percentage|percent|per cent|pct)(?:\s+points?)?\.?(?:\s*\})?)\s*")
_DEGREE = re.compile(r"\s*\^\s*\\circ\s*(?:\\text\{\s*)?([CFK]?)(?:\s*\})?\s*")
_UNIT = re.compile(
    r"\s*(?:\\text\s*\{([^{}]*)\}|([A-Za-zµ][A-Za-z.\-/ ]*+))((?:\^\s*\{?-?\d\}?|/|\\cdot|\s|\\text\s*\{[^{}]*\}|[A-Za-z])*+)"
)

_SYNONYMS: dict[str, str] = {}
for _names in (
    "cm centimeter centimeters centimetre centimetres", "m meter meters metre metres", "mm millimeter millimeters",
    "km kilometer kilometers kilometre kilometres", "in inch inches", "ft foot feet", "yd yard yards", "mi mile miles",
    "s sec secs second seconds", "min mins minute minutes", "h hr hrs hour hours", "day days", "week weeks", "month months",
    "year years yr yrs", "g gram grams", "kg kilogram kilograms", "mg milligram milligrams", "lb lbs pound pounds", "oz ounce ounces",
    "l liter liters litre litres", "ml milliliter milliliters", "mph", "km/h kmh kph", "m/s", "cm/s", "ft/s", "j joule joules", "kj",
    "n newton newtons", "w watt watts", "kw", "hz", "ghz", "mhz", "v volt volts", "ev", "mev", "kev", "rad radian radians",
    "degree degrees deg", "cents cent", "dollar dollars usd", "euro euros", "mol mole moles", "k kelvin", "c celsius", "f fahrenheit",
    "pa", "kpa", "atm", "am", "pm", "yuan", "square sq",
):  # fmt: skip
    for _name in _names.split():
        _SYNONYMS[_name] = _names.split()[0]


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact value as written. `places` is how many decimals it was written with, None when it was no decimal."""

    value: Fraction
    percent: bool = False
    unit: str = ""
    places: int | None = None
    mantissa_digits: int = 0


@lru_cache(maxsize=8192)
def read_quantity(cleaned: str) -> Quantity | None:
    """The number that a cleaned answer is, or None when it is something else."""
    text = cleaned.strip()
    if not text or len(text) > _MOST_DIGITS or not any(character.isdigit() for character in text):
        return None
    sign, text = _leading_sign(text)
    if (currency := _CURRENCY.match(text)) is not None:
        inner, text = _leading_sign(text[currency.end() :])
        sign *= inner
    for read in (_repeating, _fraction, _slash, _simple):
        if (found := read(text)) is not None:
            value, places, digits, end = found
            return _with_tail(sign * value, places, digits, text[end:])
    return None


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
    return (Fraction(int(whole)) + top / bottom, None, 0, match.end()) if 0 <= top < bottom else None


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


_REPEATING = re.compile(r"(\d*)\.(\d{0,50})\\(?:overline|bar|dot)\s*(?:\{\s*(\d{1,50})\s*\}|(\d))")


def _repeating(text: str) -> _Read | None:
    """`0.1\\overline{6}` is exactly 1/6."""
    match = _REPEATING.match(text)
    if match is None:
        return None
    whole, fixed, period = match[1] or "0", match[2], match[3] or match[4]
    value = int(whole + fixed) + Fraction(int(period), 10 ** len(period) - 1)
    return value / 10 ** len(fixed), None, 0, match.end()


def _simple(text: str) -> _Read | None:
    """An integer, a decimal or scientific notation; a bare power of ten."""
    if (power := _POWER_OF_TEN.match(text)) is not None and not power[1]:
        exponent = int((power[2] or power[3]).replace(" ", ""))
        return (Fraction(10) ** exponent, None, 0, power.end()) if abs(exponent) <= _MOST_EXPONENT else None
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


def _with_tail(value: Fraction, places: int | None, digits: int, tail: str) -> Quantity | None:
    """The number with the percent sign, currency or unit after it; None when something else follows."""
    if not tail.strip() or tail.strip() == ".":
        return Quantity(value, places=places, mantissa_digits=digits)
    if _PERCENT.fullmatch(tail):
        return Quantity(value, percent=True, places=places, mantissa_digits=digits)
    if _CURRENCY_AFTER.fullmatch(tail):
        return Quantity(value, places=places, mantissa_digits=digits)
    if (degree := _DEGREE.fullmatch(tail)) is not None:
        return Quantity(value, unit=f"degree {degree[1]}".strip(), places=places, mantissa_digits=digits)
    unit = read_unit(tail)
    return None if unit is None else Quantity(value, unit=unit, places=places, mantissa_digits=digits)


def read_unit(tail: str) -> str | None:
    """The unit in its short form, or None when the tail is algebra: `5 t` and `5t` are five times t, `5 cm` is a length."""
    match = _UNIT.fullmatch(tail)
    if match is None:
        return None
    wrapped = match[1] is not None
    words = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1", (match[1] or match[2]) + " " + (match[3] or ""))
    words = re.sub(r"[{}\s]+", " ", words.replace("\\cdot", " ").replace(".", "")).strip().lower()
    first = re.split(r"[\s^/\-]", words, maxsplit=1)[0] if words else ""
    if not wrapped and (len(first) == 1 or (first not in _SYNONYMS and not re.match(r"\s+[A-Za-z]{3,}|[A-Za-z]{4,}", tail))):
        return None
    if re.fullmatch(r"and|or|to|if|when|where|mod|i|e|pi|sqrt|sin|cos|tan|log|ln|choose|times|plus|minus", first):
        return None
    return " ".join(_SYNONYMS.get(word.strip("."), word) for word in words.split()) if words else ""


def units_agree(a: str, b: str, policy: Policy) -> bool:
    """Whether two units may stand for each other. Unknown words ("12 ways", "12 apples") decide nothing; cm and m do."""
    if a == b:
        return True
    if not a or not b:
        return not policy.units_must_stand or not (_known(a) or _known(b))
    return not (_known(a) and _known(b)) or a.split()[0] == b.split()[0] == "degree"


def _known(unit: str) -> bool:
    return bool(unit) and re.split(r"[\s^/]", unit)[0] in set(_SYNONYMS.values())


def same_quantity(a: Quantity, b: Quantity, policy: Policy) -> tuple[bool, str]:
    """Whether two quantities are the same answer, and the code of the reason."""
    if a.percent != b.percent:
        return _same_percent(*(a, b) if a.percent else (b, a), policy=policy)
    if not same_value(a, b, policy):
        return False, "different_value"
    return (True, "equal_value") if units_agree(a.unit, b.unit, policy) else (False, "different_unit")


def _same_percent(percent: Quantity, number: Quantity, *, policy: Policy) -> tuple[bool, str]:
    """28 % beside 0.28 (always) or 28 (a policy; never up to 1, where 0.5 could be meant as a fraction)."""
    if policy.percent_is_fraction and percent.value / 100 == number.value:
        return True, "percent_as_fraction"
    if policy.percent_is_number and abs(percent.value) > 1 and percent.value == number.value:
        return True, "percent_as_number"
    return False, "percent_differs"


def same_value(a: Quantity, b: Quantity, policy: Policy) -> bool:
    """Exact equality; else a long decimal that only rounds the other (0.6666667 for 2/3), or the policy's tolerance."""
    if a.value == b.value:
        return True
    if policy.relative_tolerance and abs(a.value - b.value) <= Fraction(policy.relative_tolerance) * max(abs(a.value), abs(b.value)):
        return True
    return rounds_to(a, b.value, policy) if b.places is None else rounds_to(b, a.value, policy) if a.places is None else False


def rounds_to(decimal: Quantity, value: Fraction, policy: Policy) -> bool:
    """True when `decimal` is `value` rounded or cut at enough places, and `value` has no shorter exact decimal.

    A value that terminates within twelve places must be hit exactly: 1.0000001 is not 1.
    """
    places = decimal.places
    if not policy.decimal_places or places is None or not policy.decimal_places <= places <= 400:
        return False
    if decimal.mantissa_digits < policy.decimal_places or value == 0 or (value * 10**12).denominator == 1:
        return False
    return abs(decimal.value - value) < Fraction(1, 10**places)
