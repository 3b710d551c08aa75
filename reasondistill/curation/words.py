"""The words of a text, its numbers and its signs: what two texts are compared by.

    read("Tom has $\\frac{1}{2}$ of 1,000 apples.").words
    # ("tom", "has", "1", "2", "of", "1000", "apples")

How a text is set does not count: capitals, punctuation, LaTeX or plain (`\\dfrac12` and `1/2`,
`x^{2}` and `x²`, `\\leq` and `≤`, `\\text{ km}`), bold and italics, HTML's tags and entities, signs
that nobody sees, drawings in Asymptote. Numbers are read as values (`1,000` and `1000`, `3.50` and
`3.5`, `٣` and `3`, `three` and `3`; but `one`, which is a pronoun too, stays a word). Chinese,
Japanese and Greek characters are words alone. Not covered, but told by `hard_to_find`: Thai and
other scripts without spaces, letters of another alphabet that look like those of a word. Nor are:
numbers of several words (`twenty-five` is 20, 5), units (`km` and `kilometers`), products (`2x` and
`2 \\cdot x` are alike).
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from reasondistill.curation.choices import without_options
from reasondistill.unseen import UNSEEN


class Token(NamedTuple):
    """What a piece of a text counts as; empty where it does not count.

    `number` is a quantity, and `sign` an operation or a relation: another one makes another
    problem of the same words.
    """

    word: str = ""
    number: str = ""
    sign: str = ""


@dataclass(frozen=True)
class Read:
    """A text as it is compared. `numbers` and `signs` stand in the order of the text."""

    words: tuple[str, ...]
    numbers: tuple[str, ...]
    signs: tuple[str, ...]


def normalise_question(text: str) -> str:
    """The text by which two questions are the same: lower case, spaces folded, prose punctuation
    dropped.

    Signs that carry meaning stay: `3+4` and `3-4`, `3.5` and `35`, `f(1,2)` and `f(12)` are
    different questions.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"[\"'`´‘’“”$]", "", text)
    text = re.sub(r"[.,;:!?…]+(?=\s|$)", " ", text)
    return " ".join(text.split())


def question_forms(question: str) -> frozenset[str]:
    """The normalised question; of multiple choice also without its options."""
    bare = without_options(question)
    return frozenset({normalise_question(question), normalise_question(bare)})


# ---- pieces of a text ----------------------------------------------------------------------------

# A text is read in pieces of this size, so that a giant one takes no memory beside its tokens.
_PIECE = 1 << 20
_LONGEST_WORD = 64

_ALONE = "\u0370-\u03ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"

# Symbols that are written as LaTeX commands or as words elsewhere.
_SYMBOLS = {
    "%": Token("percent"),
    "°": Token("degrees"),
    "√": Token("sqrt"),
    "∑": Token("sum"),
    "∏": Token("prod"),
    "∫": Token("int"),
    "∞": Token("infty"),
    "∠": Token("angle"),
    "△": Token("triangle"),
    "∈": Token("in"),
    "∪": Token("cup"),
    "∩": Token("cap"),
    "+": Token(sign="+"),
    "±": Token(sign="±"),
    "÷": Token(sign="/"),
    "≤": Token(sign="≤"),
    "≥": Token(sign="≥"),
    "≠": Token(sign="≠"),
}

# What follows a sign that is also a hyphen, a slash in prose, a quotation mark of Markdown.
_OPERAND = r"(?=[\s{(]{0,9}(?:[-\d√]|[^\W\d_](?![^\W\d_])|\\[dt]?frac|\\sqrt|\\pi))"

_OTHER_TOKENS = (
    r"|\d{1,3}(?:(?:,|\{,\}|\\!,|,\\!|\\,)\d{3}){1,20}(?!\d)(?:\.\d{1,60})?"
    r"|\d{1,64}(?:\.\d{1,60})?"
    r"|\\(?:(?:begin|end)\s?\{[^{}]{0,40}\}(?:\{[lcr|@\s]{1,40}\})?"
    r"|(?:[hv]space|tag|label|ref|color)\*?\s?\{[^{}]{0,40}\}"
    r"|[a-z]{1,40})"
    r"|</?[a-z][a-z\d]{0,9}\s?/?>"
    r"|\^\s?\{?\s?\\circ\b"
    r"|<=|>="
    rf"|[-–\u2212/\u2044^<>]{_OPERAND}"
    rf"|[{''.join(_SYMBOLS)}]"
)
# The most frequent kind first, and letters of ASCII by themselves: half the time.
_TOKEN = re.compile(rf"[^\W\d_{_ALONE}]{{1,{_LONGEST_WORD}}}|[{_ALONE}]{_OTHER_TOKENS}")
_ASCII_TOKEN = re.compile(rf"[a-z]{{1,{_LONGEST_WORD}}}{_OTHER_TOKENS}")

# `\frac12`, `\frac1{2}`: two numbers.
_SHORT_FRACTION = re.compile(r"(\\[dt]?frac)\s?(\d)\s?(?=[\d{\\])")
_ENTITY = re.compile(r"&#?\w{1,8};")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴-⁹⁻]+")
_NOBODY_SEES = re.compile(f"[{UNSEEN}]+")
_NUMBERING = re.compile(
    r"\s*(?:[#*]{1,6}\s?)?(?:(?:problem|question|exercise|example|task|q)\s?[#№]?\d{1,5}[.):]"
    r"|[#№(]?\d{1,5}[.)])(?:\*{1,2})?\s"
)

_SETTING = (
    "left right big bigg bigl bigr biggl biggr displaystyle textstyle scriptstyle text textbf "
    "textit textrm texttt emph underline mathrm mathbf mathit mathsf mathbb mathcal mathfrak "
    "boldsymbol operatorname limits nolimits quad qquad cdot times ast star ldots dots cdots "
    "hfill newline noindent item par circ prime mbox hbox rm bf it label tag"
)
_DROPPED = frozenset(_SETTING.split())
_COMMANDS = {
    "le": Token(sign="≤"),
    "leq": Token(sign="≤"),
    "leqslant": Token(sign="≤"),
    "ge": Token(sign="≥"),
    "geq": Token(sign="≥"),
    "geqslant": Token(sign="≥"),
    "lt": Token(sign="<"),
    "gt": Token(sign=">"),
    "ne": Token(sign="≠"),
    "neq": Token(sign="≠"),
    "pm": Token(sign="±"),
    "div": Token(sign="/"),
    "frac": Token(sign="/"),
    "dfrac": Token(sign="/"),
    "tfrac": Token(sign="/"),
    "cfrac": Token(sign="/"),
    "degree": Token("degrees"),
    "infty": Token("infty"),
}
_SIGNS = {"–": "-", "\u2212": "-", "\u2044": "/", "<=": "≤", ">=": "≥"}

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred"
_NUMBER_WORDS = {
    **{word: str(value) for value, word in enumerate(_UNITS.split())},
    **{word: str(10 * value) for value, word in enumerate(_TENS.split(), start=2)},
    **{"thousand": "1000", "million": "1000000", "dozen": "12"},
}
del _NUMBER_WORDS["one"]
_PARTS_AND_TIMES = (
    "half halves third thirds fourth fourths quarter quarters fifth fifths sixth seventh eighth "
    "ninth tenth twice thrice double triple quadruple"
)
_QUANTITIES = frozenset(_PARTS_AND_TIMES.split())


def _greek() -> dict[str, str]:
    names: dict[str, str] = {}
    for code in range(0x391, 0x3CA):
        name = unicodedata.name(chr(code), "")
        names[chr(code).lower()] = name.rpartition(" ")[2].lower().replace("lamda", "lambda")
    return names


_GREEK = _greek()


def tokens(text: str) -> Iterable[str]:
    """The pieces of a text in their order, to be looked up by `meaning`. A drawing and the number
    before a problem are no part of it.
    """
    return _pieces(_without_numbering(without_drawings(text)))


def _without_numbering(text: str) -> str:
    numbering = _NUMBERING.match(text[:200].lower())
    if numbering is None:
        return text
    return text[numbering.end() :]


def _pieces(text: str) -> Iterable[str]:
    if len(text) > _PIECE:
        return _pieces_of_giant(text)
    text = _plain(text)
    if text.isascii():
        return _ASCII_TOKEN.findall(text)
    return _TOKEN.findall(text)


def _pieces_of_giant(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = start + _PIECE
        if end < len(text):
            # A word, number or command is not cut where there is white space at all.
            space = text.rfind(" ", start, end)
            if space > start:
                end = space
        yield from _pieces(text[start:end])
        start = end


def _plain(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    if not text.isascii():
        text = _NOBODY_SEES.sub("", text)
        text = _SUPERSCRIPT.sub(lambda match: f"^{{{match[0]}}}", text)
        text = unicodedata.normalize("NFKC", text)
    text = text.lower()
    if "frac" in text:
        text = _SHORT_FRACTION.sub(r"\1{\2}", text)
    return text


def without_drawings(text: str) -> str:
    """The text without Asymptote's code, which many copies of a problem leave out."""
    if "[asy]" not in text:
        return text
    before, *drawings = text.split("[asy]")
    kept = [before]
    for drawing in drawings:
        _, closed, after = drawing.partition("[/asy]")
        if not closed:
            after = drawing
        kept.append(after)
    return " ".join(kept)


@lru_cache(maxsize=1 << 16)
def meaning(piece: str) -> Token:
    """What one of the `tokens` counts as."""
    first = piece[0]
    if first == "\\":
        return _command(piece[1:])
    if first == "<" and piece[-1] == ">":
        return Token()
    if first.isdecimal():
        number = _value(piece)
        return Token(number, number)
    if piece in _SYMBOLS:
        return _SYMBOLS[piece]
    if first == "^" and len(piece) > 1:
        return Token("degrees")
    if not first.isalpha():
        return Token(sign=_SIGNS.get(piece, piece))
    if piece in _NUMBER_WORDS:
        number = _NUMBER_WORDS[piece]
        return Token(number, number)
    if piece in _QUANTITIES:
        return Token(piece, piece)
    return Token(_GREEK.get(piece, piece))


def _command(name: str) -> Token:
    if name in _COMMANDS:
        return _COMMANDS[name]
    if name in _DROPPED or not name.isalpha():
        return Token()
    return Token(name)


def _value(digits: str) -> str:
    whole, dot, fraction = _in_ascii(digits).partition(".")
    whole = "".join(character for character in whole if character.isdecimal())
    fraction = fraction.rstrip("0")
    if not dot or not fraction:
        return whole
    return f"{whole}.{fraction}"


def _in_ascii(digits: str) -> str:
    """The same number in the digits 0 to 9: Arabic, Devanagari and others have their own."""
    if digits.isascii():
        return digits
    return "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in digits)


def is_quantity(word: str) -> bool:
    """Whether a word of `Read` is one of its numbers."""
    return word[0].isdecimal() or word in _QUANTITIES


def read(text: str) -> Read:
    """The words, numbers and signs of a text."""
    return _read(tokens(text))


def _read(pieces: Iterable[str]) -> Read:
    words: list[str] = []
    numbers: list[str] = []
    signs: list[str] = []
    for piece in pieces:
        token = meaning(piece)
        if token.word:
            words.append(token.word)
        if token.number:
            numbers.append(token.number)
        if token.sign:
            signs.append(token.sign)
    return Read(tuple(words), tuple(numbers), tuple(signs))


# ---- what words do not show --------------------------------------------------------------------

# Thai and Lao, Tibetan, Myanmar, Khmer.
_WITHOUT_SPACES = re.compile("[\u0e01-\u0e30\u0e81-\u0eb0\u0f40-\u0f6c\u1000-\u102a\u1780-\u17b3]")
# A Cyrillic letter, or an omicron, beside a Latin one.
_FOREIGN = "\u0400-\u04ff\u039f\u03bf"
_MIXED = re.compile(f"[A-Za-z][{_FOREIGN}]|[{_FOREIGN}][A-Za-z]")
WITHOUT_SPACES = "in a script without spaces, of which only equal parts are compared"
MIXED_ALPHABETS = "with letters of two alphabets in a word, which is another word to us"


def hard_to_find(text: str) -> str | None:
    """Why another text of the same content may share few words with this one; None where nothing
    speaks for it. Not seen: words of which every letter is of another alphabet.
    """
    if text.isascii():
        return None
    if _WITHOUT_SPACES.search(text):
        return WITHOUT_SPACES
    if _MIXED.search(unicodedata.normalize("NFKC", text)):
        return MIXED_ALPHABETS
    return None


# ---- sentences -----------------------------------------------------------------------------------

_SENTENCE_END = re.compile(r"(?<=[.!?:。？！])\s+|[。？！]|\n+")


def sentences(text: str) -> list[Read]:
    """The text in sentences and lines, those without a word left out."""
    parts = map(read_sentence, split_sentences(text))
    return [part for part in parts if part.words]


def split_sentences(text: str) -> list[str]:
    """The sentences and lines as they stand there."""
    return _SENTENCE_END.split(_without_numbering(without_drawings(text)))


def read_sentence(sentence: str) -> Read:
    """One of `split_sentences`, in which a number at the beginning is a number."""
    return _read(_pieces(sentence))
