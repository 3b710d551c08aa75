"""Answers in words, and choice letters."""

from __future__ import annotations

import re
from fractions import Fraction

_WRAPPED = re.compile(r"\\text\s*\{([^{}]*)\}")
_MATH_WORDS = frozenset(
    ["sqrt", "frac", "log", "floor", "ceil", "binom", "infty", "infinity"]
    + ["sin", "cos", "tan", "arctan", "arcsin", "arccos", "sinh", "cosh"]
)


def wordy(text: str) -> bool:
    """Whether an answer is words: anything of two letters or more in `\\text{}`, or a plain word of
    four.
    """
    if any(_holds_words(match[1]) for match in _WRAPPED.finditer(text)):
        return not re.match(r"\s*[-+]?[\d.(\\]*\d", text)
    if "\\begin" in text:
        return False
    plain = re.sub(r"\\[A-Za-z]+|_\{[^{}]*\}|_\w", " ", _WRAPPED.sub(" ", text))
    is_formula = re.search(r"[\^+*/=]|\\(?:frac|sqrt)", text)
    if is_formula and not re.search(r"[A-Za-z]{2,}\s+[A-Za-z]{2,}", plain):
        return False
    for word in re.findall(r"[^\W\d_]+", _FUNCTIONS.sub(" ", plain)):
        if word.lower() in _MATH_WORDS:
            continue
        if len(word) >= 4 or (len(word) >= 2 and not word.isascii()):
            return True
    return text.lower() in _SHORT_WORDS


def _holds_words(inside: str) -> bool:
    """Whether a `\\text{}` holds more than a letter or an amount."""
    return bool(re.search(r"[A-Za-z]{2,}", inside)) and not re.match(r"\s*\d", inside)


_FUNCTIONS = re.compile(r"arc(?:sin|cos|tan)|sin|cos|tan|sqrt|log|ln")
_SHORT_WORDS = frozenset(["yes", "no", "odd", "even", "two", "one", "six", "ten", "dne"])
_SAME_WORDS = (
    (re.compile(r"\bsolutions\b"), "solution"),
    (re.compile(r"\b(?:dne|doesnt exist|does not exist)\b"), "dne"),
    (re.compile(r"\breal solution\b"), "solution"),
    (
        re.compile(
            r"\binfinite solution\b|\binfinitely many solution\b|\binfinite number of solution\b"
        ),
        "infinitely many solution",
    ),
    (re.compile(r"\bempty set\b"), "no solution"),
    (re.compile(r"\bnegative infinity\b"), "minus infinity"),
    (re.compile(r" & "), " and "),
)


def word_key(text: str) -> str:
    """Words without case, wrappers, articles and punctuation."""
    plain = _WRAPPED.sub(r" \1 ", text).lower()
    plain = re.sub(r"\\[a-z]+|[$^_{}\\]", " ", plain)
    plain = re.sub(r"\b(?:the|an|a|is|are)\b|[.,;:!\"'`()]", " ", plain).replace("-", " ")
    plain = " ".join(plain.split())
    for pattern, word in _SAME_WORDS:
        plain = pattern.sub(word, plain)
    return plain


_ONES_NAMES = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen
"""
_TENS_NAMES = """
twenty thirty forty fifty sixty seventy eighty ninety
"""
_ONES = {word: i for i, word in enumerate(_ONES_NAMES.split())}
_TENS = {word: 10 * i for i, word in enumerate(_TENS_NAMES.split(), start=2)}
_BIG = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_PARTS = {
    "half": 2, "halve": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5,
    "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10,
}  # fmt: skip


def number_in_words(key: str) -> Fraction | None:
    """The value of `one hundred twenty`, `minus three`, `two thirds`, `half`, or None. One word
    more behind it says what is counted.
    """
    words = [word for word in key.split() if word != "and"]
    sign = 1
    if words[:1] in (["minus"], ["negative"]):
        sign = -1
        words = words[1:]
    total = 0
    part = 0
    used = 0
    for word in words:
        if word in _ONES:
            part += _ONES[word]
        elif word in _TENS:
            part += _TENS[word]
        elif word == "hundred" and used:
            part *= 100
        elif word in _BIG and used:
            total += part * _BIG[word]
            part = 0
        else:
            break
        used += 1
    value = total + part
    rest = words[used:]
    if len(rest) == 1:
        denominator = _PARTS.get(rest[0].removesuffix("s"))
        if denominator is not None and used:
            return Fraction(sign * value, denominator)
        if denominator is not None:
            return Fraction(sign, denominator)
    if used and len(rest) <= 1 and rest != ["percent"]:
        return Fraction(sign * value)
    return None
