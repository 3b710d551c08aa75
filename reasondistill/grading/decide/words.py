"""Whether two answers in words, two choices or two numbers in words are the same."""

from __future__ import annotations

import re
from fractions import Fraction

from reasondistill.grading.decide.decision import OPEN, SAME, Decision, different, same_if
from reasondistill.grading.policies import Policy
from reasondistill.grading.read.quantity import read_quantity
from reasondistill.grading.read.words import (
    atoms_in,
    chinese_number,
    has_plain_words,
    has_wrapped_words,
    is_prose,
    number_in_words,
    species_of,
    word_key,
)

_CHOICE = re.compile(
    r"(?:\\text\s*\{)?\s*(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer|[Ll]etter)[\s~]*)?"
    r"\(?\s*(?:\\text\s*\{)?\s*\(?([A-Ja-j])\)?\s*\}?\s*\)?\.?\s*\}?"
)


_CHOICE_WITH_TEXT = re.compile(
    r"(?:\\text\s*\{)?\s*(?:[Oo]ption\s+|[Cc]hoice\s+)?(?:\(?([A-J])[).:]\s*\}?\s*|"
    r"(?<=\{)\(([a-j])\)\s*\}\s*|([A-E])\s+(?=[A-Z][a-z])|([A-J])\s+(?:[-–]\s+|\())(.+)",
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


_ROMAN = re.compile(r"\(?(?:(?=[ivx]{2})|(?=[IVX]{2}))[IVXivx]{2,4}\)?")


def same_choice(a: str, b: str, policy: Policy) -> Decision:
    """Compare as choices; open when they are none."""
    first = _CHOICE.fullmatch(a)
    second = _CHOICE.fullmatch(b)
    if first and second:
        return same_if(same_letter(first[1], second[1]), "different_choice")
    if _ROMAN.fullmatch(a) and _ROMAN.fullmatch(b):  # iv is no product of i and v
        return same_if(a.strip("()").lower() == b.strip("()").lower(), "different_choice")
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
    label = labelled[1] or labelled[2] or labelled[3] or labelled[4]
    return same_if(letter.upper() == label.upper(), "different_choice")


def without_label(text: str) -> str | None:
    """What stands behind a choice's label: `(B) 42` → `42`; None when there is no label."""
    labelled = _CHOICE_WITH_TEXT.fullmatch(text)
    if labelled is not None and re.search(r"\d", labelled[5]):
        return labelled[5].strip()
    return None


def same_words(a: str, b: str, policy: Policy) -> Decision:
    """Compare as words, as numbers in words or as chemical formulas; open when a side is a formula
    with words in it, or neither is words.
    """
    day_or_month = calendar_name(a)
    if day_or_month is not None:
        other = calendar_name(b)
        if other is not None:
            return same_if(day_or_month == other, "different_words")
    low = a.lower()
    is_word = _LOWER.fullmatch(low) or _NAME.fullmatch(a) or _NAME.fullmatch(b)
    if is_word and low == b.lower():
        return SAME
    if _is_exact_word(a) and _is_exact_word(b):
        return same_if(a == b, "different_words")
    species = same_species(a, b)
    if not species.is_open:
        return species
    key_a = prose_key(a)
    key_b = prose_key(b)
    if key_a is not None and key_b is None:
        key_b = key_beside_prose(b)
    elif key_b is not None and key_a is None:
        key_a = key_beside_prose(a)
    for text, key in ((a, key_b), (b, key_a)):
        if key in ("yes", "no"):
            opening = _YES.match(text)
            if opening is not None:
                return same_if(opening[1].lower() == key, "different_words")
    if policy.number_words:
        same = same_number(a, key_a or "", b, key_b or "")
        if not same.is_open:
            return same
    if key_a is not None and key_b is not None:
        return _same_prose(a, key_a, b, key_b)
    if key_a is None and key_b is None:
        return OPEN
    formula = a
    if key_a is not None:
        formula = b
    if has_wrapped_words(formula) or has_plain_words(formula):
        return OPEN
    return different("different_words")


_CALENDAR_NAMES = """
sunday sun; monday mon; tuesday tue tues; wednesday wed weds; thursday thu thur thurs; friday fri;
saturday sat; january jan; february feb; march mar; april apr; may; june jun; july jul; august aug;
september sep sept; october oct; november nov; december dec
"""
_CALENDAR = {
    name: names.split()[0] for names in _CALENDAR_NAMES.split(";") for name in names.split()
}


def calendar_name(text: str) -> str | None:
    """The day of the week or the month that a text names, whole or cut short: `Wed.`; None of
    another.
    """
    if len(text) > 30:
        return None
    return _CALENDAR.get(_WRAPPER.sub("", text).rstrip(".").lower())


def _same_prose(a: str, key_a: str, b: str, key_b: str) -> Decision:
    """Two answers in words; open where one names a number otherwise than the other."""
    if key_a == key_b:
        return same_if(not _case_differs(a, b), "different_case")
    listed = listed_words(a)
    if listed and listed == listed_words(b):
        return SAME
    has_numbers = _DIGIT.search(key_a) and _DIGIT.search(key_b)
    if has_numbers and _DIGITS.sub("", key_a) == _DIGITS.sub("", key_b):
        return OPEN
    return different("different_words")


def listed_words(text: str) -> list[str]:
    """The keys of what a list in words names, sorted: Alice, Bob and Carol. Empty when it names one
    thing, or says more than names.
    """
    parts = _JOINED_WORDS.split(_WRAPPER_OF_WORDS.sub(r"\1", text))
    keys = [word_key(part) for part in parts if part.strip()]
    if len(keys) < 2 or any(len(key.split()) > 2 for key in keys):
        return []
    return sorted(keys)


_WRAPPER_OF_WORDS = re.compile(r"\\text\s*\{([^{}]*)\}")
_JOINED_WORDS = re.compile(r",\s*and\b|,|\\?&|\band\b")
_DIGIT = re.compile(r"\d")
_DIGITS = re.compile(r"[-+]?[\d.,]*\d")
_SHORT = re.compile(r"[A-Za-z]{1,2}")
_WRAPPER = re.compile(r"\\text\s*\{|[{}\s]")


def _case_differs(a: str, b: str) -> bool:
    """Whether two short symbols differ in case: CO and Co are not one; NO, No and no are."""
    first = _WRAPPER.sub("", a)
    second = _WRAPPER.sub("", b)
    if first[1:] == second[1:] or first.lower() == "no":
        return False
    if _SHORT.fullmatch(first) and _SHORT.fullmatch(second):
        return True
    return _MIXED.fullmatch(first) is not None and _MIXED.fullmatch(second) is not None


_MIXED = re.compile(r"(?=.+[A-Z])(?=.*[a-z])[A-Za-z]{3,}")


def same_species(a: str, b: str) -> Decision:
    """Whether two chemical formulas are one; open when one is none, or has the atoms of the other
    in another order.
    """
    first = species_of(a)
    second = species_of(b)
    if first is None or second is None or first.lower() == second.lower() == "no":
        return OPEN
    if first == second:
        return SAME
    if atoms_in(first) == atoms_in(second):
        return OPEN
    return different("different_words")


def _is_exact_word(text: str) -> bool:
    """A label or a word in small letters: AAS is not ASA, saw is not was."""
    return bool(_LABEL.fullmatch(text) or _LOWER.fullmatch(text))


def prose_key(text: str) -> str | None:
    """The key of an answer in words, None of another."""
    if is_prose(text):
        return word_key(text)
    return None


def key_beside_prose(text: str) -> str | None:
    """The key of what is a word only because the other answer is: a short one, or a sign such as
    ∅, which has the key of its name.
    """
    sign = text.replace(" ", "")
    if sign in _NAMED_AS:
        return _NAMED_AS[sign]
    if _BARE_WORD.fullmatch(text):
        return word_key(text)
    return None


_BARE_WORD = re.compile(r"[\s.,;:!?$\"'()]*[A-Za-z]{2,20}[\s.,;:!?$\"'()]*")


def same_number(a: str, key_a: str, b: str, key_b: str) -> Decision:
    """`twenty-one` beside 21 or `Twenty one`; open when neither side is a number in words."""
    first = number_in_words(key_a)
    second = number_in_words(key_b)
    if first is None:
        first = chinese_number(a)
    if second is None:
        second = chinese_number(b)
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
