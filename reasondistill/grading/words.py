"""Answers in words, and choice letters."""

from __future__ import annotations

import re
from fractions import Fraction

from reasondistill.grading.policies import Policy
from reasondistill.grading.quantity import read_quantity

_CHOICE = re.compile(
    r"(?:\\text\s*\{)?\s*(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer|[Ll]etter)[\s~]*)?\(?\s*(?:\\text\s*\{)?\s*\(?([A-Ja-j])\)?\s*\}?\s*\)?\.?\s*\}?"
)
_CHOICE_WITH_TEXT = re.compile(
    r"(?:\\text\s*\{)?\s*(?:[Oo]ption\s+|[Cc]hoice\s+)?(?:\(?([A-J])[).:]\s*\}?\s*|([A-E])\s+(?=[A-Z][a-z])|([A-J])\s+(?:[-–]\s+|\())(.+)",
    re.DOTALL,
)
_WRAPPED = re.compile(r"\\text\s*\{([^{}]*)\}")
_MATH_WORDS = frozenset(
    re.findall(
        r"\w+",
        "sqrt frac sin cos tan log arctan arcsin arccos infty infinity sinh cosh floor ceil binom",
    )
)


def wordy(text: str) -> bool:
    """Whether an answer is words: anything of two letters or more in `\\text{}`, or a plain word of
    four.
    """
    if any(
        re.search(r"[A-Za-z]{2,}", match[1]) and not re.match(r"\s*\d", match[1])
        for match in _WRAPPED.finditer(text)
    ):
        return not re.match(r"\s*[-+]?[\d.(\\]*\d", text)
    if "\\begin" in text:
        return False
    plain = re.sub(r"\\[A-Za-z]+|_\{[^{}]*\}|_\w", " ", _WRAPPED.sub(" ", text))
    if re.search(r"[\^+*/=]|\\(?:frac|sqrt)", text) and not re.search(
        r"[A-Za-z]{2,}\s+[A-Za-z]{2,}", plain
    ):
        return False
    plain = _FUNCTIONS.sub(" ", plain)
    words = [word for word in re.findall(r"[^\W\d_]+", plain) if word.lower() not in _MATH_WORDS]
    return (
        any(len(word) >= 4 or (len(word) >= 2 and not word.isascii()) for word in words)
        or text.lower() in _SHORT_WORDS
    )


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
_LOWER = re.compile(
    r"(?=[a-z]*[eiou])[a-z]{3,}"
)  # a word and no product of letters: abc has no such vowel
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
    first, second = _CHOICE.fullmatch(a), _CHOICE.fullmatch(b)
    if first and second:
        return _same_letter(first[1], second[1])
    if policy.choice_text and (first or second):
        letter, other = (first, b) if first else (second, a)
        if letter and (labelled := _CHOICE_WITH_TEXT.fullmatch(other)) is not None:
            return letter[1].upper() == (labelled[1] or labelled[2] or labelled[3])
    return None


def without_label(text: str) -> str | None:
    """What stands behind a choice's label: `(B) 42` → `42`; None when there is no label."""
    labelled = _CHOICE_WITH_TEXT.fullmatch(text)
    return labelled[4].strip() if labelled is not None and re.search(r"\d", labelled[4]) else None


def same_words(a: str, b: str, policy: Policy) -> bool | None:
    """Compare as words or as numbers in words; None when neither side is words."""
    if a.lower() == b.lower() and (
        _LOWER.fullmatch(a.lower()) or _NAME.fullmatch(a) or _NAME.fullmatch(b)
    ):
        return True
    if all(
        _LABEL.fullmatch(text) or _LOWER.fullmatch(text) for text in (a, b)
    ):  # AAS is not ASA, saw is not was
        return a == b
    key_a, key_b = word_key(a), word_key(b)
    key_a, key_b = (
        _NAMED_AS.get(a.replace(" ", ""), key_a),
        _NAMED_AS.get(b.replace(" ", ""), key_b),
    )
    for text, key in ((a, key_b), (b, key_a)):
        if key in ("yes", "no") and (said := _YES.match(text)) is not None:
            return said[1].lower() == key
    if key_a and key_a == key_b and (wordy(a) or wordy(b)):
        return True
    if policy.number_words and (same := _same_number(a, key_a, b, key_b)) is not None:
        return same
    return False if wordy(a) or wordy(b) else None


def _same_number(a: str, key_a: str, b: str, key_b: str) -> bool | None:
    """`twenty-one` beside 21 or `Twenty one`; None when neither side is a number in words."""
    first, second = number_in_words(key_a), number_in_words(key_b)
    if first is None and second is None:
        return None
    values = [
        value if value is not None else _written(text) for value, text in ((first, a), (second, b))
    ]
    return None if None in values else values[0] == values[1]


def _written(text: str) -> Fraction | None:
    found = read_quantity(text)
    return None if found is None or found.percent else found.value


_ONES = {
    word: i
    for i, word in enumerate(
        re.findall(
            r"\w+",
            "zero one two three four five six seven eight nine ten eleven twelve thirteen "
            "fourteen fifteen sixteen seventeen eighteen "
            "nineteen",
        )
    )
}
_TENS = {
    word: 10 * i
    for i, word in enumerate(
        re.findall(r"\w+", "twenty thirty forty fifty sixty seventy eighty ninety"), start=2
    )
}
_BIG = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_PARTS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
}


def number_in_words(key: str) -> Fraction | None:
    """The value of `one hundred twenty`, `minus three`, `two thirds`, `half`, or None. One word
    more behind it says what is counted.
    """
    words = [word for word in key.split() if word != "and"]
    sign = -1 if words[:1] in (["minus"], ["negative"]) else 1
    words = words[1:] if sign < 0 else words
    total = part = 0
    used = 0
    for word in words:
        if word in _ONES or word in _TENS:
            part += _ONES.get(word, 0) + _TENS.get(word, 0)
        elif word == "hundred" and used:
            part *= 100
        elif word in _BIG and used:
            total, part = total + part * _BIG[word], 0
        else:
            break
        used += 1
    rest = words[used:]
    if rest and rest[0].removesuffix("s") in _PARTS | {"halve": 2} and len(rest) == 1:
        return sign * Fraction(
            total + part if used else 1, _PARTS.get(rest[0].removesuffix("s"), 2)
        )
    return (
        Fraction(sign * (total + part)) if used and len(rest) <= 1 and rest != ["percent"] else None
    )


def _same_letter(a: str, b: str) -> bool:
    """Choice letters do not care for case among A to E; other letters are names, and X is not x."""
    return a == b or (a.upper() == b.upper() and a.upper() <= "E")
