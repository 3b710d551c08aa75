"""Answers in words, and choice letters."""

from __future__ import annotations

import re

from reasondistill.grading.policies import Policy

_CHOICE = re.compile(r"(?:\\text\s*\{)?\s*\(?\s*(?:\\text\s*\{)?\s*\(?([A-Ja-j])\)?\s*\}?\s*\)?\.?\s*\}?")
_CHOICE_WITH_TEXT = re.compile(r"(?:\\text\s*\{)?\s*(?:\(?([A-J])[).:]\s*\}?\s*|([A-E])\s+(?=[A-Z][a-z]))(.+)", re.DOTALL)
_WRAPPED = re.compile(r"\\text\s*\{([^{}]*)\}")
_NUMBERS = {
    word: str(i)
    for i, word in enumerate(
        re.findall(
            r"\w+",
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
            "nineteen twenty",
        )
    )
}
_MATH_WORDS = {
    "sqrt",
    "frac",
    "sin",
    "cos",
    "tan",
    "log",
    "arctan",
    "arcsin",
    "arccos",
    "infty",
    "infinity",
    "sinh",
    "cosh",
    "floor",
    "ceil",
    "binom",
}


def wordy(text: str) -> bool:
    """Whether an answer is words: anything of two letters or more in `\\text{}`, or a plain word of four."""
    if any(re.search(r"[A-Za-z]{2,}", match[1]) and not re.match(r"\s*\d", match[1]) for match in _WRAPPED.finditer(text)):
        return not re.match(r"\s*[-+]?[\d.(\\]*\d", text)
    plain = re.sub(r"\\[A-Za-z]+|_\{[^{}]*\}|_\w", " ", _WRAPPED.sub(" ", text))
    words = [word for word in re.findall(r"[^\W\d_]+", plain) if word.lower() not in _MATH_WORDS]
    return any(len(word) >= 4 or (len(word) >= 2 and not word.isascii()) for word in words) or text.lower() in (
        "yes",
        "no",
        "odd",
        "even",
        "two",
        "one",
        "six",
        "ten",
    )


def word_key(text: str) -> str:
    """Words without case, wrappers, articles and punctuation."""
    plain = _WRAPPED.sub(r" \1 ", text).lower()
    plain = re.sub(r"\\[a-z]+|[$^_{}\\]", " ", plain)
    plain = re.sub(r"\b(?:the|an|a|is|are)\b|[.,;:!\"'()]", " ", plain)
    return " ".join(plain.split())


def same_words(a: str, b: str, policy: Policy) -> bool | None:
    """Compare as choices or as words; None when neither side is words."""
    first, second = _CHOICE.fullmatch(a), _CHOICE.fullmatch(b)
    if first and second:
        return _same_letter(first[1], second[1])
    if policy.choice_text and (first or second):
        letter, other = (first, b) if first else (second, a)
        if letter and (labelled := _CHOICE_WITH_TEXT.fullmatch(other)) is not None:
            return letter[1].upper() == (labelled[1] or labelled[2])
    if policy.number_words and (number := _NUMBERS.get(word_key(a)) or _NUMBERS.get(word_key(b))):
        return number in (word_key(a), word_key(b))
    if not wordy(a) and not wordy(b):
        return None
    return bool(word_key(a)) and word_key(a) == word_key(b)


def _same_letter(a: str, b: str) -> bool:
    """Choice letters do not care for case among A to E; other letters are names, and X is not x."""
    return a == b or (a.upper() == b.upper() and a.upper() <= "E")
