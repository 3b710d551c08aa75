"""Answers in words: what is prose, its key; chemical formulas; numbers in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_WRAPPED = re.compile(r"\\text\s*\{([^{}]*)\}")
_MATH_WORDS = frozenset(
    ["sqrt", "frac", "log", "floor", "ceil", "binom", "infty", "infinity"]
    + ["sin", "cos", "tan", "arctan", "arcsin", "arccos", "sinh", "cosh"]
)
_ESCAPED = re.compile(r"\\([%$&#])")
_NO_PROSE = re.compile(r"[\\^_{}=<>*|\[\]]")
_STARTS_WITH_NUMBER = re.compile(r"[-+$(]*[\d.]*\d")
_TWO_LETTERS = re.compile(r"[^\W\d_]{2,}")
_SUBSCRIPT = re.compile(r"_\s*(?:\{\s*)?\\text\s*\{[^{}]*\}")


def is_prose(text: str) -> bool:
    """Whether an answer is words alone, in `\\text{}` or plain, with numbers and punctuation among
    them: no command, no script, no sign of a relation; and no number with what it counts.
    """
    has_wrapped = has_wrapped_words(text)
    if has_wrapped and _BETWEEN_WORDS.fullmatch(_WRAPPED.sub("", text)) is None:
        return False
    unwrapped = _ESCAPED.sub(r"\1", _WRAPPED.sub(r" \1 ", text))
    if _NO_PROSE.search(unwrapped) or _STARTS_WITH_NUMBER.match(unwrapped.lstrip()):
        return False
    return has_wrapped or has_plain_words(text)


_BETWEEN_WORDS = re.compile(r"[\s.,;:?\"$]*")


def has_wrapped_words(text: str) -> bool:
    """Whether a word of two letters or more stands in `\\text{}`, subscripts left out."""
    if "\\text" not in text:
        return False
    spared = _SUBSCRIPT.sub("_n", text)
    return any(_TWO_LETTERS.search(match[1]) for match in _WRAPPED.finditer(spared))


def has_plain_words(text: str) -> bool:
    """Whether words stand outside `\\text{}`: one of four letters or more, two side by side."""
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
# The A of "Plan A" is no article, that of "A triangle" is one.
_ARTICLES = re.compile(r"\b(?:[Tt]he|[Aa]n|is|are)\b|\ba\b(?=\s+[a-z])|\A\s*A\b(?=\s+[a-z])")
_PUNCTUATION = re.compile(r"(?<!\d)[.,:]|[.,:](?!\d)|[;!\"`()]")
_APOSTROPHE = re.compile(r"(?<=[a-z])'(?=[a-z])")
# Other hyphens are signs.
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=\w)|(?<=\w)-(?=\s)|(?<=\s)-(?=\s)")


def word_key(text: str) -> str:
    """Words without case, wrappers, articles and punctuation; numbers keep sign and point, single
    letters their case.
    """
    plain = _ESCAPED.sub(r"\1", _WRAPPED.sub(r" \1 ", text))
    plain = re.sub(r"\\[A-Za-z]+|[$^_{}\\]", " ", plain)
    plain = _TWO_LETTERS.sub(lambda word: word[0].lower(), _ARTICLES.sub(" ", plain))
    plain = _APOSTROPHE.sub("", plain).replace("'", " ")
    plain = _HYPHEN.sub(" ", _PUNCTUATION.sub(" ", plain))
    plain = " ".join(plain.split())
    for pattern, word in _SAME_WORDS:
        plain = pattern.sub(word, plain)
    return plain


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words with formulas between them: `x\\text{ is even}` has the words "" and "even" and the
    formula x.
    """

    words: tuple[str, ...]
    formulas: tuple[str, ...]


_WORDS = re.compile(r"(?:\s|\\text\s*\{[^{}\\]*\}|(?<![\\A-Za-z_^{])[^\W\d_]{2,}(?![A-Za-z_^({]))+")


def phrase_of(text: str) -> Phrase | None:
    """The words of a text and the formulas between them; None when there are no words."""
    words = [""]
    formulas: list[str] = []
    position = 0
    for match in _WORDS.finditer(text):
        key = word_key(match[0])
        if not key and not match[0].strip():
            continue
        formula = text[position : match.start()].strip().strip(",.;:").strip()
        position = match.end()
        if formula:
            formulas.append(formula)
            words.append(key)
        else:
            words[-1] = f"{words[-1]} {key}".strip()
    rest = text[position:].strip().strip(",.;:").strip()
    if rest:
        formulas.append(rest)
        words.append("")
    if not any(words):
        return None
    return Phrase(tuple(words), tuple(formulas))


_ELEMENTS_NAMES = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm
Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf
"""
_ELEMENTS = "|".join(sorted(_ELEMENTS_NAMES.split(), key=len, reverse=True))
_SPECIES = re.compile(rf"\d{{0,3}}(?:(?:{_ELEMENTS}|[()])\d{{0,3}}){{1,40}}(?:\^\d?[+-]|\^[+-]\d)?")
_PARTS_OF_SPECIES = re.compile(rf"({_ELEMENTS}|[()]|\^)(\d*)")


def species_of(text: str) -> str | None:
    """A chemical formula in one spelling, `\\text{SO}_4^{2-}` → `SO4^2-`; None when a text is none.
    Only what is upright, or has subscripts, is taken for one.
    """
    if len(text) > 200:
        return None
    plain = re.sub(r"\\(?:text|ce)\s*(?=\{)|[\s{}_]", "", text)
    if re.fullmatch(r"[A-Z]?[a-z]?", plain) or _SPECIES.fullmatch(plain) is None:
        return None
    is_upright = "\\text" in text or "\\ce" in text
    if not is_upright and "_" not in text:
        return None
    return plain


def atoms_in(species: str) -> list[tuple[str, str]]:
    """The symbols of a chemical formula with their counts, sorted: what two orders share."""
    return sorted(_PARTS_OF_SPECIES.findall(species))


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


_CHINESE_DIGITS = {digit: i for i, digit in enumerate("〇一二三四五六七八九")} | {"零": 0, "两": 2}
_CHINESE_TENS = {"十": 10, "百": 100, "千": 1000}
_CHINESE = re.compile(r"(负?)([〇零一二两三四五六七八九十百千]{1,12})")


def chinese_number(text: str) -> Fraction | None:
    """The value of a whole number below 10 000 in Chinese numerals, 一百二十三; None of another."""
    match = _CHINESE.fullmatch(text.strip())
    if match is None:
        return None
    total = 0
    digit: int | None = None
    smallest = 10_000
    for character in match[2]:
        power = _CHINESE_TENS.get(character)
        if power is None:
            if digit:  # 二三: digits in a row, no numeral
                return None
            digit = _CHINESE_DIGITS[character]
            continue
        if power >= smallest or digit == 0 or (digit is None and power != 10):
            return None
        total += (digit or 1) * power
        smallest = power
        digit = None
    if match[2][-1] in _CHINESE_DIGITS and smallest > 10 and total and "零" not in match[2]:
        return None  # 一百二 is 120 in speech
    total += digit or 0
    if match[1]:
        total = -total
    return Fraction(total)
