"""Answers in words, and choice letters."""

from __future__ import annotations

import re
from fractions import Fraction

from reasondistill.grading.policies import Policy
from reasondistill.grading.quantity import read_quantity

_CHOICE = re.compile(
    r"(?:\\text\s*\{)?\s*(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer|[Ll]etter)[\s~]*)?"
    r"\(?\s*(?:\\text\s*\{)?\s*\(?([A-Ja-j])\)?\s*\}?\s*\)?\.?\s*\}?"
)
_CHOICE_WITH_TEXT = re.compile(
    r"(?:\\text\s*\{)?\s*(?:[Oo]ption\s+|[Cc]hoice\s+)?(?:\(?([A-J])[).:]\s*\}?\s*|"
    r"([A-E])\s+(?=[A-Z][a-z])|([A-J])\s+(?:[-–]\s+|\())(.+)",
    re.DOTALL,
)
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
_YES = re.compile(r"\W*(yes|no)\s*[,.;:]\s*\S", re.IGNORECASE)
_NAMED_AS = {
    "\\emptyset": "no solution",
    "\\{\\}": "no solution",
    "\\infty": "infinity",
    "-\\infty": "minus infinity",
}
_LABEL = re.compile(r"[A-Z]{2,}")
# A word and no product of letters: abc has no such vowel.
_LOWER = re.compile(r"(?=[a-z]*[eiou])[a-z]{3,}")
_NAME = re.compile(r"[A-Z][a-z]{2,}")
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


def same_choice(a: str, b: str, policy: Policy) -> bool | None:
    """Compare as choices; None when they are none."""
    first = _CHOICE.fullmatch(a)
    second = _CHOICE.fullmatch(b)
    if first and second:
        return same_letter(first[1], second[1])
    if not policy.choice_text:
        return None
    if first:
        labelled = _CHOICE_WITH_TEXT.fullmatch(b)
        letter = first[1]
    elif second:
        labelled = _CHOICE_WITH_TEXT.fullmatch(a)
        letter = second[1]
    else:
        return None
    if labelled is None:
        return None
    return letter.upper() == (labelled[1] or labelled[2] or labelled[3])


def without_label(text: str) -> str | None:
    """What stands behind a choice's label: `(B) 42` → `42`; None when there is no label."""
    labelled = _CHOICE_WITH_TEXT.fullmatch(text)
    if labelled is not None and re.search(r"\d", labelled[4]):
        return labelled[4].strip()
    return None


def same_words(a: str, b: str, policy: Policy) -> bool | None:
    """Compare as words or as numbers in words; None when neither side is words."""
    low = a.lower()
    is_word = _LOWER.fullmatch(low) or _NAME.fullmatch(a) or _NAME.fullmatch(b)
    if is_word and low == b.lower():
        return True
    if _is_exact_word(a) and _is_exact_word(b):
        return a == b
    key_a = _named_key(a)
    key_b = _named_key(b)
    for text, key in ((a, key_b), (b, key_a)):
        if key in ("yes", "no"):
            opening = _YES.match(text)
            if opening is not None:
                return opening[1].lower() == key
    has_words = wordy(a) or wordy(b)
    if key_a and key_a == key_b and has_words:
        return True
    if policy.number_words:
        same = same_number(a, key_a, b, key_b)
        if same is not None:
            return same
    if has_words:
        return False
    return None


def _is_exact_word(text: str) -> bool:
    """A label or a word in small letters: AAS is not ASA, saw is not was."""
    return bool(_LABEL.fullmatch(text) or _LOWER.fullmatch(text))


def _named_key(text: str) -> str:
    """The key of an answer; signs such as ∅ have that of their name."""
    sign = text.replace(" ", "")
    if sign in _NAMED_AS:
        return _NAMED_AS[sign]
    return word_key(text)


def same_number(a: str, key_a: str, b: str, key_b: str) -> bool | None:
    """`twenty-one` beside 21 or `Twenty one`; None when neither side is a number in words."""
    first = number_in_words(key_a)
    second = number_in_words(key_b)
    if first is None and second is None:
        return None
    if first is None:
        first = _written(a)
    if second is None:
        second = _written(b)
    if first is None or second is None:
        return None
    return first == second


def _written(text: str) -> Fraction | None:
    quantity = read_quantity(text)
    if quantity is None or quantity.percent:
        return None
    return quantity.value


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


def same_letter(a: str, b: str) -> bool:
    """Choice letters do not care for case among A to E; other letters are names, and X is not x."""
    if a == b:
        return True
    return a.upper() == b.upper() and a.upper() <= "E"
