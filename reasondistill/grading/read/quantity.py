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
from typing import Literal, NamedTuple

from reasondistill.grading.read.units import (
    CURRENCIES,
    DIRECTIONS,
    Unit,
    read_short_unit,
    read_unit,
)

_MOST_DIGITS = 4_000
_MOST_EXPONENT = 4_000

_INT = (
    r"(?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)|[1-9]\d{0,2}(?: \d{3})+(?!\d)|"
    r"[1-9]\d{0,2}(?:'\d{3})+(?!\d)|\d+)"
)
_DECIMAL = rf"(?:{_INT}(?:\.\d*)?|\.\d+)"
# `10^35` without braces is a power with two digits: nobody writes 10³·5 like that.
_EXPONENT = r"(?:\{\s*([-+]?\s*\d+)\s*\}|\(\s*([-+]?\s*\d+)\s*\)|([-+]?\d+))"
_POWER = (
    rf"(?:\s*(?:\\times|\\cdot|\*|[xX])\s*10\s*\^\s*{_EXPONENT}|"
    r"\s*(?:[eE]|\\text\s*\{\s*[eE]\s*\})([-+]?\d+))"
)
_SIMPLE = re.compile(rf"([-+]?)\s*({_DECIMAL}){_POWER}?")
_POWER_OF_TEN = re.compile(rf"10\s*\^\s*{_EXPONENT}(?![\d.])")
_BRACED = rf"(?:\{{\s*([-+]?\s*{_DECIMAL})\s*\}}|(\d))"
_FRACTION = re.compile(
    r"([-+]?)\s*(?:(\d+)(?:\s*|\s+and\s+|\s*\\text\s*\{\s*and\s*\}\s*))??"
    rf"\\frac\s*{_BRACED}\s*{_BRACED}"
)
_SLASH = re.compile(rf"([-+]?)\s*(?:(\d+)\s+(?:and\s+)?)?({_DECIMAL})\s*/\s*([-+]?\s*{_DECIMAL})")

_CURRENCY = re.compile(
    r"(?:\\text\s*\{\s*)?(?:US|A|C)?"
    r"(\\?\$|[€£¥₹₩]|\\(?:pounds|euro)(?![A-Za-z])|(?:USD|EUR|GBP|Rs\.?)(?![A-Za-z]))"
    r"(?:\s*\})?\s*"
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
_DEGREES_BEFORE_WORDS = re.compile(r"\s*\^\s*\\circ\s*(?=\\text|[a-z]{4})")
_SCALES = {
    "hundred": 100,
    "thousand": 1_000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "gross": 144,
    "lakh": 10**5,
    "crore": 10**7,
    "bn": 10**9,
    # Chinese, Japanese, Korean
    **dict.fromkeys("十", 10),
    **dict.fromkeys("百", 100),
    **dict.fromkeys("千천", 1_000),
    **dict.fromkeys("万萬만", 10**4),
    **dict.fromkeys("亿億억", 10**8),
    # Spanish, Portuguese, French, Italian, German
    **dict.fromkeys(["mil", "mille", "mila", "tausend"], 1_000),
    **dict.fromkeys(["millones", "millón", "milhões", "milhão"], 10**6),
    **dict.fromkeys(["milioni", "milione", "millionen"], 10**6),
    **dict.fromkeys(["milliard", "milliarde", "milliarden", "miliardi"], 10**9),
    # Russian, Polish, Indonesian, Vietnamese, Hindi
    **dict.fromkeys(["тысяч", "тысячи", "тысяча", "тыс", "tysiące", "tysięcy"], 1_000),
    **dict.fromkeys(["миллион", "миллиона", "миллионов", "млн", "miliony", "milionów"], 10**6),
    **dict.fromkeys(["миллиард", "миллиарда", "миллиардов", "млрд"], 10**9),
    **dict.fromkeys(["ribu", "nghìn", "ngàn", "हज़ार", "हजार"], 1_000),
    **dict.fromkeys(["juta", "triệu"], 10**6),
    "लाख": 10**5,
    **dict.fromkeys(["करोड़", "करोड़"], 10**7),
}
# 千克 is a kilogram, 百分 begins a percentage, and a gross stands at the end.
_NO_SCALE = {
    "千": "千(?![克米瓦卡帕伏焦赫])",
    "百": "百(?!分)",
    "gross": r"gross(?=\s*\}?\s*\Z|\s+of\b)",
}
SCALE_WORDS = "|".join(
    _NO_SCALE.get(word, re.escape(word)) for word in sorted(_SCALES, key=len, reverse=True)
)
_SCALE = re.compile(
    rf"\s*(?:\\text\s*\{{\s*)?({SCALE_WORDS})s?(?!\s+of\s+(?:hundred|thousand|million|billion))"
    r"(?![A-Za-zÀ-ɏЀ-ӿ\u1ea0-\u1eff])(\s*\})?",
    re.IGNORECASE,
)
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
    is_count: bool = False  # of what a word names that is no unit: 5 apples


@lru_cache(maxsize=8192)
def read_quantity(cleaned: str, *, short_units: bool = False) -> Quantity | None:
    """The number that a cleaned answer is, or None when it is something else. With `short_units`
    one letter may be a unit: 5 m.
    """
    text = cleaned.strip()
    if not text or len(text) > _MOST_DIGITS:
        return None
    if not any(character.isdecimal() for character in text):
        return None
    sign, text = _leading_sign(text)
    currency = _CURRENCY.match(text)
    if currency is not None:
        inner_sign, text = _leading_sign(text[currency.end() :])
        sign *= inner_sign
    for read in _NUMBERS:
        number = read(text)
        if number is None:
            continue
        signed = number._replace(value=sign * number.value)
        quantity = _with_tail(signed, text[number.end :], short_units)
        if quantity is None or currency is None:
            return quantity
        return with_currency(quantity, (_CODES[currency[1]], 1))
    return None


def with_currency(quantity: Quantity, currency: tuple[str, int]) -> Quantity | None:
    """With the currency that stood before the number; `$5 per hour` keeps the hour, `$5 cm` is
    nothing.
    """
    if quantity.percent:
        return None
    rest = [part for part in quantity.unit if part != currency]
    if any(power > 0 and symbol not in DIRECTIONS for symbol, power in rest):
        return None
    return replace(quantity, unit=tuple(sorted([currency, *rest])))


def _leading_sign(text: str) -> tuple[int, str]:
    if text.startswith("-"):
        return -1, text[1:].lstrip()
    if text.startswith("+"):
        return 1, text[1:].lstrip()
    return 1, text


class Number(NamedTuple):
    """The digits that a text begins with: their value, how many decimals (None: no decimal) and
    significant digits they were written with, and where they end.
    """

    value: Fraction
    places: int | None
    digits: int
    end: int


def fraction(text: str) -> Number | None:
    """The fraction that a text begins with: `\\frac{1}{2}`, `\\frac12`, `3\\frac{1}{2}`."""
    match = _FRACTION.match(text)
    if match is None or match[1]:
        return None
    top = _plain(match[3] or match[4])
    bottom = _plain(match[5] or match[6])
    if bottom == 0:
        return None
    if match[2] is None:
        return Number(top / bottom, None, 0, match.end())
    if not 0 <= top < bottom:
        return None
    return Number(int(match[2]) + top / bottom, None, 0, match.end())


def slashed_fraction(text: str) -> Number | None:
    """The fraction that a text begins with: `1/2`, `3 1/2`."""
    match = _SLASH.match(text)
    if match is None or match[1]:
        return None
    top = _plain(match[3])
    bottom = _plain(match[4])
    if bottom == 0 or re.match(r"\s*[/^]|\d", text[match.end() :]):
        return None
    if not match[2]:
        return Number(top / bottom, None, 0, match.end())
    if top >= bottom:
        return None
    return Number(int(match[2]) + top / bottom, None, 0, match.end())


_PARTS = (
    ("half", "halves"),
    ("third", "thirds"),
    ("quarter", "quarters", "fourth", "fourths"),
    ("fifth", "fifths"),
    ("sixth", "sixths"),
    ("seventh", "sevenths"),
    ("eighth", "eighths"),
    ("ninth", "ninths"),
    ("tenth", "tenths"),
)
_PART_OF_ONE = {name: part for part, names in enumerate(_PARTS, start=2) for name in names}
_HOW_MANY = {"a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "seven": 7}
_MIXED = re.compile(
    rf"(\d+)\s+(?:and|\\text\s*\{{\s*and)\s+({'|'.join(_HOW_MANY)})[\s-]"
    rf"({'|'.join(_PART_OF_ONE)})(?![A-Za-z])\s*\}}?"
)


def mixed_in_words(text: str) -> Number | None:
    """The mixed number that a text begins with whose fraction is written out: `42 and a half`."""
    match = _MIXED.match(text)
    if match is None:
        return None
    part = Fraction(_HOW_MANY[match[2]], _PART_OF_ONE[match[3]])
    if part >= 1:
        return None
    return Number(int(match[1]) + part, None, 0, match.end())


def is_mixed_in_words(text: str) -> bool:
    """Whether the "and" of a text joins a whole number and its fraction: `42 and a half`."""
    return _MIXED.match(text) is not None and read_quantity(text) is not None


_REPEATING = re.compile(
    r"(\d*)\.(\d{0,50}?)"
    r"(?:\\(?:overline|bar|dot)\s*(?:\{\s*(\d{1,50})\s*\}|(\d))|\((\d{1,50})\)|"
    r"(\d{1,6})\6\6*(?:\\ldots|\.\.\.))"
)


def repeating_decimal(text: str) -> Number | None:
    """The repeating decimal that a text begins with: `0.1\\overline{6}` is exactly 1/6."""
    match = _REPEATING.match(text)
    if match is None:
        return None
    whole = match[1] or "0"
    fixed = match[2]
    period = match[3] or match[4] or match[5] or match[6]
    value = int(whole + fixed) + Fraction(int(period), 10 ** len(period) - 1)
    return Number(value / 10 ** len(fixed), None, 0, match.end())


def plain_number(text: str) -> Number | None:
    """The integer, decimal or number in scientific notation that a text begins with; a bare power
    of ten.
    """
    power = _POWER_OF_TEN.match(text)
    if power is not None:
        exponent = int((power[1] or power[2] or power[3]).replace(" ", ""))
        if abs(exponent) <= _MOST_EXPONENT:
            return Number(Fraction(10) ** exponent, None, 0, power.end())
        return None
    match = _SIMPLE.match(text)
    if match is None or match[1]:
        return None
    written = without_separators(match[2])
    exponents = [group for group in match.groups()[2:] if group]
    exponent = int("".join(exponents).replace(" ", "") or "0")
    if abs(exponent) > _MOST_EXPONENT:
        return None
    places = None
    if "." in written:
        places = len(written.partition(".")[2])
    if exponent < 0 or (exponent and places is not None):
        places = (places or 0) - exponent
    digits = len(written.replace(".", "").lstrip("0"))
    return Number(_plain(written) * Fraction(10) ** exponent, places, digits, match.end())


_OUT_OF = re.compile(r"(\d{1,9})\s*(?:\\text\s*\{)?\s*out of\s*\}?\s*(\d{1,9})(?![\d.,/^])")


def out_of(text: str) -> Number | None:
    """The part of a whole that a text begins with: `16 out of 25`."""
    if "out of" not in text:
        return None
    match = _OUT_OF.match(text)
    if match is None or not 0 < int(match[2]) >= int(match[1]):
        return None
    return Number(Fraction(int(match[1]), int(match[2])), None, 0, match.end())


_NUMBERS = (repeating_decimal, fraction, slashed_fraction, mixed_in_words, out_of, plain_number)


def without_separators(digits: str) -> str:
    """`1,234`, `1 234` and `1'234` without what groups their digits."""
    return digits.replace(",", "").replace(" ", "").replace("'", "")


def _plain(digits: str) -> Fraction:
    text = without_separators(digits)
    if text.endswith("."):
        text += "0"
    return Fraction(text)


def _with_tail(number: Number, tail: str, short_units: bool) -> Quantity | None:
    """The number with the scale word, percent sign, currency or unit after it; None when something
    else follows.
    """
    plain = Quantity(number.value, places=number.places, mantissa_digits=number.digits)
    if not tail.strip() or tail.strip() == ".":
        return plain
    scale = _SCALE.match(tail)
    if scale is not None:
        factor = _SCALES[scale[1].lower()]
        rest = tail[scale.end() :]
        if "\\text" in scale[0] and not scale[2]:
            rest = "\\text{" + rest
        return _with_tail(scaled(number, factor), rest, short_units)
    parts = _PARTS_OF_ONE.match(tail)
    if parts is not None:
        value = number.value / _PART_OF_ONE[parts[1].lower()]
        return Quantity(value, is_count=parts[2] is not None)
    if _CHANGES_NUMBER.match(tail):
        return None
    if _PERCENT.fullmatch(tail):
        return replace(plain, percent=True)
    currency = _CURRENCY_AFTER.fullmatch(tail)
    if currency is not None:
        return replace(plain, unit=((_CODES[currency[1]], 1),))
    degree = _DEGREE.fullmatch(tail)
    if degree is not None:
        return replace(plain, unit=((_DEGREES[degree[1]], 1),))
    bearing = _DEGREES_BEFORE_WORDS.match(tail)
    if bearing is not None:
        way = read_unit(tail[bearing.end() :])
        if way and all(symbol in DIRECTIONS for symbol, _ in way):
            return replace(plain, unit=tuple(sorted([("degree", 1), *way])))
    if number.value.denominator == 1 and _ORDINAL.fullmatch(tail):
        return Quantity(number.value)
    if _COUNTED.fullmatch(tail):
        return plain
    if short_units:
        unit = read_short_unit(tail)
    else:
        unit = read_unit(tail)
    if unit is None:
        return None
    is_count = not unit and _SAYS_PERCENT.search(tail) is None
    return replace(plain, unit=unit, is_count=is_count)


# "7 eighths" and "3 fifths of the pie"; a quarter is a coin, too.
_PARTS_OF_ONE = re.compile(
    r"\s*(?:-\s*)?(?:\\text\s*\{\s*)?"
    r"(halves|thirds|fourths|fifths|sixths|sevenths|eighths|ninths|tenths)"
    r"(?:\s*\}\s*|\s*|(\s+of\s[^{}]*)\}?)\Z",
    re.IGNORECASE,
)
# Words behind a number that make another number of it. What they make is not read.
_CHANGES_NUMBER = re.compile(
    r"\s*(?:-\s*)?(?:\\text\s*\{\s*)?(?:(?:negatives?|inverse|inverted|reciprocals?|tens|"
    r"hundreds|thousands|millions|billions|trillions|dozens|halves|thirds|fourths|fifths|"
    r"sixths|sevenths|eighths|ninths|tenths|hundredths|thousandths|squared|cubed|factorial|"
    r"doubled|tripled|halved|mil|mn|too\s+(?:many|few|much))(?![A-Za-z])"
    r"|(?:[A-Za-z]+\s+){0,2}(?:below|above|under|beneath|over|short\s+of|shy\s+of)"
    r"\s+(?:zero|0|freezing|(?:the\s+)?(?:mean|average|median|par|limit|target|norm))"
    r"(?![A-Za-z]))",
    re.IGNORECASE,
)
_SAYS_PERCENT = re.compile(r"%|per\s?cent|pct|\\text\s*\{\s*\}|\A\W*\Z")


def scaled(number: Number, factor: int) -> Number:
    """`2.5 million`: the value times the factor, and as many decimals fewer as that has zeros."""
    places = number.places
    if places is not None:
        places = max(0, places - len(str(factor)) + 1) or None
    return number._replace(value=number.value * factor, places=places)


# A counter is dropped, `5个`; what makes another value, `5的一半` or `5以上`, is none.
_COUNTED = re.compile(
    r"\s*(?!的|分之|以[上下内]|[多余倍]的|次方|阶乘|进制|[平立]方(?![米厘千公英分毫]))"
    r"(?:\\text\s*\{\s*)?[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]{1,8}(?:\s*\})?"
)
_DEGREES = {"": "degree", "C": "celsius", "F": "fahrenheit", "K": "kelvin"}


def split_unit(text: str) -> tuple[str, Unit | Literal["%"]]:
    """`3\\sqrt{2}\\text{ cm}` → (`3\\sqrt{2}`, cm); `\\frac12\\%` → (…, `%`). Words that are no
    unit stay, but behind a number.
    """
    percent = _ENDS_IN_PERCENT.fullmatch(text)
    if percent is not None and percent[1]:
        return percent[1].strip(), "%"
    degree = _ENDS_IN_DEGREES.fullmatch(text)
    if degree is not None:
        return degree[1].strip(), (("degree", 1),)
    for pattern, lead in ((_WRAPPED_UNIT, ""), (_SPELLED_UNIT, " ")):
        match = pattern.fullmatch(text)
        if match is None:
            continue
        if _ENDS_IN_OPERATOR.search(match[1]):
            match = _PRODUCT_OF_UNITS.fullmatch(text)
        if match is None or _CHANGES_NUMBER.match(match[2]):
            continue
        unit = read_unit(lead + match[2])
        if unit and not match[1][:1].isdigit() and all(symbol in DIRECTIONS for symbol, _ in unit):
            continue
        if unit is not None and (unit or match[1][:1].isdigit()):
            return match[1].strip(), unit
    return text, ()


_ENDS_IN_OPERATOR = re.compile(r"(?:\\(?:cdot|times|div|pm|mp|wedge|otimes)|[-+*/^=_])\s*\Z")
_ENDS_IN_PERCENT = re.compile(
    r"(.*?)\s*(?:\\?%|(?:\\text\s*\{\s*)?(?:percent|percentage|pct)\.?\s*\}?)", re.DOTALL
)
_ENDS_IN_DEGREES = re.compile(r"(.*[^\s\\])\s*\^\s*\\circ\s*", re.DOTALL)


_WRAPPED_UNIT = re.compile(
    r"(.*[^\s\\])\s*(\\text\s*\{[^{}]+\}"
    r"(?:\s*\^\s*(?:\{-?\d\}|\d)|\s*/\s*\\text\s*\{[^{}]+\}|\s*\\text\s*\{[^{}]+\})*)",
    re.DOTALL,
)
# `\sqrt{2}\text{ N}\cdot\text{m}`; in `\text{a}\cdot\text{b}` there is no unit.
_PRODUCT_OF_UNITS = re.compile(
    r"(.*?(?:[^\s\\](?<!cdot)))\s*(\\text\s*\{[^{}]+\}(?:\s*\\cdot\s*\\text\s*\{[^{}]+\})+)",
    re.DOTALL,
)
_SPELLED_UNIT = re.compile(
    r"(.*[\d})πi])\s+([A-Za-z]{2,}(?:\s[A-Za-z]+){0,2}(?:\s*\^\s*\{?\d\}?)?)", re.DOTALL
)
