"""Whether two answers in words, two choices or two numbers in words are the same."""

from __future__ import annotations

import re
from fractions import Fraction

from reasondistill.grading.decide.decision import OPEN, SAME, Decision, different, same_if
from reasondistill.grading.policies import Policy
from reasondistill.grading.read.quantity import read_quantity
from reasondistill.grading.read.words import number_in_words, word_key, wordy

_CHOICE = re.compile(
    r"(?:\\text\s*\{)?\s*(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer|[Ll]etter)[\s~]*)?"
    r"\(?\s*(?:\\text\s*\{)?\s*\(?([A-Ja-j])\)?\s*\}?\s*\)?\.?\s*\}?"
)


_CHOICE_WITH_TEXT = re.compile(
    r"(?:\\text\s*\{)?\s*(?:[Oo]ption\s+|[Cc]hoice\s+)?(?:\(?([A-J])[).:]\s*\}?\s*|"
    r"([A-E])\s+(?=[A-Z][a-z])|([A-J])\s+(?:[-–]\s+|\())(.+)",
    re.DOTALL,
)


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


def same_choice(a: str, b: str, policy: Policy) -> Decision:
    """Compare as choices; open when they are none."""
    first = _CHOICE.fullmatch(a)
    second = _CHOICE.fullmatch(b)
    if first and second:
        return same_if(same_letter(first[1], second[1]), "different_choice")
    if not policy.choice_text:
        return OPEN
    if first:
        labelled = _CHOICE_WITH_TEXT.fullmatch(b)
        letter = first[1]
    elif second:
        labelled = _CHOICE_WITH_TEXT.fullmatch(a)
        letter = second[1]
    else:
        return OPEN
    if labelled is None:
        return OPEN
    label = labelled[1] or labelled[2] or labelled[3]
    return same_if(letter.upper() == label, "different_choice")


def without_label(text: str) -> str | None:
    """What stands behind a choice's label: `(B) 42` → `42`; None when there is no label."""
    labelled = _CHOICE_WITH_TEXT.fullmatch(text)
    if labelled is not None and re.search(r"\d", labelled[4]):
        return labelled[4].strip()
    return None


def same_words(a: str, b: str, policy: Policy) -> Decision:
    """Compare as words or as numbers in words; open when neither side is
    words."""
    low = a.lower()
    is_word = _LOWER.fullmatch(low) or _NAME.fullmatch(a) or _NAME.fullmatch(b)
    if is_word and low == b.lower():
        return SAME
    if _is_exact_word(a) and _is_exact_word(b):
        return same_if(a == b, "different_words")
    key_a = _named_key(a)
    key_b = _named_key(b)
    for text, key in ((a, key_b), (b, key_a)):
        if key in ("yes", "no"):
            opening = _YES.match(text)
            if opening is not None:
                return same_if(opening[1].lower() == key, "different_words")
    has_words = wordy(a) or wordy(b)
    if key_a and key_a == key_b and has_words:
        return SAME
    if policy.number_words:
        same = same_number(a, key_a, b, key_b)
        if not same.is_open:
            return same
    if has_words:
        return different("different_words")
    return OPEN


def _is_exact_word(text: str) -> bool:
    """A label or a word in small letters: AAS is not ASA, saw is not was."""
    return bool(_LABEL.fullmatch(text) or _LOWER.fullmatch(text))


def _named_key(text: str) -> str:
    """The key of an answer; signs such as ∅ have that of their name."""
    sign = text.replace(" ", "")
    if sign in _NAMED_AS:
        return _NAMED_AS[sign]
    return word_key(text)


def same_number(a: str, key_a: str, b: str, key_b: str) -> Decision:
    """`twenty-one` beside 21 or `Twenty one`; open when neither side is a number in
    words."""
    first = number_in_words(key_a)
    second = number_in_words(key_b)
    if first is None and second is None:
        return OPEN
    if first is None:
        first = _written(a)
    if second is None:
        second = _written(b)
    if first is None or second is None:
        return OPEN
    return same_if(first == second, "different_value")


def _written(text: str) -> Fraction | None:
    quantity = read_quantity(text)
    if quantity is None or quantity.percent:
        return None
    return quantity.value


def same_letter(a: str, b: str) -> bool:
    """Choice letters do not care for case among A to E; other letters are names, and X is not x."""
    if a == b:
        return True
    return a.upper() == b.upper() and a.upper() <= "E"
