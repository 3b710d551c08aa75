"""Whether a text is nothing but an answer."""

from __future__ import annotations

import re

from reasondistill.grading.extract import prose

_COMMANDS = re.compile(
    r"\\(?:text|textbf|textrm|textit|textnormal|mathrm|mathbf|mbox|operatorname|begin|"
    r"end)\s*\{[^{}]*\}|\\[A-Za-z]+"
)
_WORDS = re.compile(
    r"(?<![A-Za-z\d+*/^=²³])[A-Za-zÀ-ɏ]{2,}(?![A-Za-z\d+*/^=(²³])|"
    r"[\u0400-\u04ff\u3040-\u30ff\u4e00-\u9fff]{2,}"
)
_NAMES = frozenset(
    re.findall(
        r"\w+",
        "sqrt sin cos tan log ln pi exp arctan arcsin arccos and or percent pct "
        "percentage nan inf to",
    )
)
VERBS = frozenset(
    re.findall(
        r"[\w']+",
        "is are was were be has have had gets get gives got costs cost earns earn needs "
        "need equals so thus hence therefore there we he "
        "she it they i makes make becomes means since because if then total using let "
        "find area after es est ist el la der die das le il "
        "that's okay about exactly approximately",
    )
)
_PREPOSITIONS = frozenset(
    re.findall(r"\w+", "for of from as that but in by at after with than because since this")
)
_MONTHS = frozenset(re.findall(r"\w+", "jan feb mar apr may jun jul aug sep oct nov dec"))
_FOREIGN = re.compile(r"[\u0400-\u04ff\u0600-\u0e7f\u3040-\u9fff\uac00-\ud7af]{2,}")
_ABBREVIATED = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|St|No|approx|lb|lbs|oz|ft|in|hr|min|sec|Jan|Feb|Mar|Apr|Jun|"
    r"Jul|Aug|Sept?|Oct|Nov|Dec|[A-J])\."
)


def looks_bare(text: str) -> bool:
    """True when the text is nothing but an answer: a formula, or a few words without a sentence
    around them.
    """
    text = text.strip()
    if not text or len(text) > 2_000:
        return False
    formula = prose.formula_at(text)
    if formula is not None and formula.end() == len(text):
        return len(_words(prose.inner(formula))) < 12
    if "\n\n" in text or "**" in text.strip("*"):
        return False
    words = _words(text)
    starts = re.match(r"[-+−–$€£\\(\[{=~]*\s*[\d.]", text) is not None
    if words and _has_formula(text):
        return False
    if starts and any(word.lower() in _PREPOSITIONS for word in words):
        return False
    digit = re.search(r"\d", text)
    if digit is None:
        if len(words) > 2 and _has_verb(words):
            return False
        return len(words) <= 6 and not _has_sentence_end(text)
    if not starts and _FOREIGN.search(text):
        return False
    if "=" in text and re.search(r"[$€£]\d", text):
        return False
    before = _words(text[: digit.start()] + " ")
    if before and not _is_month(before):
        return False
    if _has_verb(words):
        return False
    has_label = len(words) > 1 or re.search(r"[^\W\d_]{3,}\s*[:：]", text)
    if has_label and re.search(r"[=:]", text):
        return False
    if _has_sentence_end(text):
        return False
    if starts:
        return len(words) <= 8
    return len(words) <= 2


def _has_verb(words: list[str]) -> bool:
    return any(word.lower() in VERBS for word in words)


def _is_month(words: list[str]) -> bool:
    return len(words) == 1 and words[0][:3].lower() in _MONTHS


def _has_sentence_end(text: str) -> bool:
    """Whether a sentence ends and another begins; abbreviations end none."""
    return re.search(r"[.!?]\s+\S", _ABBREVIATED.sub("", text)) is not None


def _words(text: str) -> list[str]:
    """The words outside commands; products of letters such as `xy` or `nRT` are none."""
    if "\\" in text:
        text = re.sub(r"\{[^{}]*\}", " ", _COMMANDS.sub(" ", text))
    words: list[str] = []
    for word in _WORDS.findall(text):
        if word.lower() not in _NAMES and not is_product(word):
            words.append(word)
    return words


def is_product(word: str) -> bool:
    """Whether letters stand for factors, as in `xy` and `nRT`, and are no word."""
    low = word.lower()
    if len(word) <= 3 and not re.search(r"[aeiou]", low):
        return True
    if len(word) <= 3 and word.isupper():
        return True
    return len(word) == 2 and low not in VERBS and low not in _TWO


_TWO = frozenset(
    re.findall(r"\w+", "am an as at by do go he in is it me my no of on or so to up us we")
)


def _has_formula(text: str) -> bool:
    return next(prose.formulas(text), None) is not None
