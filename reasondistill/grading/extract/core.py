"""The answer that words stand beside: a number, a formula, a symbol, a number in words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reasondistill.grading.extract import prose
from reasondistill.grading.extract.found import last_match
from reasondistill.grading.read.words import number_in_words

_NEUTRAL = re.compile(
    r"[\s*_`:：=>~\"'“”‘’,]*(?:(?:the|an?|either|this|that|just|only|simply|exactly|precisely|"
    r"indeed|about|approximately|approx\.?|roughly|around|nearly|almost|slightly|somewhat|"
    r"somewhere|bit|little|well|also|now|then|clearly|equal\s+to|"
    r"given\s+by|(?:the\s+)?(?:number|value|quantity|amount)(?:\s+of)?|a\s+total\s+of|is|are|be|"
    r"therefore|thus|so|hence|none\s+other\s+than|nothing\s+but|positive(?!\s+or\b)|"
    r"plus(?!\s+or\s+minus))"
    r"\b[\s,:*_\"'“”]*)*",
    re.IGNORECASE,
)
NUMBER = re.compile(
    r"[-−+]?\s?(?:\\?[$€£]\s?)?[-−]?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+\b)?"
    r"(?:\s\d+/\d+(?!\w)|/\d+(?!\w))?(?:\s?\\?%)?(?:\s(?:million|billion|thousand|hundred)\b)?"
)
_NUMBER_WORD = (
    r"(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|"
    r"fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|"
    r"ninety|hundred|thousand|million)"
)
NUMBER_WORDS = re.compile(
    rf"{_NUMBER_WORD}(?:[\s-]+{_NUMBER_WORD}){{0,6}}\b(?!\s+(?:of|more|less|or)\b)", re.IGNORECASE
)
_SYMBOL = re.compile(
    r"(?:\\?(?:pi|infty)\b|[π∞]|√\d+|[B-HJ-Zb-hj-z](?![\w'’])|[AI](?=\s*[.,;)*]|\s*\Z))"
)
_LATEX = re.compile(
    r"(?:\\[A-Za-z]+|[{}()\[\]^_+*/|!\d.−-]|\s(?=[\\\d{^_(+*/-])|"
    r"(?<![A-Za-z])[A-Za-z](?![A-Za-z'’]))+"
)
_ATOM = re.compile(
    r"-?(?:\d[\d,]*(?:\.\d+)?|[A-Za-z]|"
    r"\\[A-Za-z]+|\\[dt]?frac\s*(?:\d|\{[^{}]*\})\s*(?:\d|\{[^{}]*\})|"
    r"\\sqrt\s*(?:\d|\{[^{}]*\})|\\left\([^()]*\\right\)|\([^()]*\))"
)


@dataclass(frozen=True, slots=True)
class Core:
    """A number or a formula, and where it ends. An atom needs no brackets."""

    text: str
    end: int
    is_atom: bool


def skip_neutral(text: str, at: int) -> int:
    """Behind the words that change nothing."""
    neutral = _NEUTRAL.match(text, at)
    if neutral is None:
        return at
    return neutral.end()


def without_wrappers(content: str) -> str:
    """The words in `\\text{}` as plain words; a subscript stays as it is."""
    if len(content) > 300 or "\\" not in content:
        return content
    return _SPACES.sub(" ", _WRAPPED.sub(r" \1 ", content)).strip()


_WRAPPED = re.compile(r"(?<![_^{])\\(?:text|mbox|textbf|textit|textrm|mathrm)\s*\{([^{}]*)\}")
_SPACES = re.compile(r"\\[ ,;:!]|~|\\q?quad\b|\s+")


_LABEL = re.compile(r"[\s*_`\"“]*(?:(?:option|choice)\s+)?")
# What makes a product or a power of a number: `5x`, `2^3`; and not a unit, `5cm`.
_GLUED = re.compile(r"\\?[a-zA-Z]?(?:[\^_(\\]|\s*\\(?!\s|text|mathrm|%))|[A-Za-z](?![\w'])")


def core_at(text: str, at: int) -> Core | None:
    """The number, symbol or formula that stands here."""
    label = _LABEL.match(text, at)
    if label is not None:
        at = label.end()
    formula = prose.formula_at(text[at:])
    if formula is not None:
        inside = prose.inner(formula)
        return Core(inside, _behind_bold(text, at + formula.end()), _is_atom(inside))
    number = NUMBER.match(text, at)
    if number is not None:
        end = number.end()
        if _GLUED.match(text, end) is None:
            written = re.sub(r"[\s+]*(?:\\?[$€£]\s?)", "", number[0]).strip().removeprefix("+")
            return Core(written, _behind_bold(text, end), is_atom="/" not in written)
    latex = _LATEX.match(text, at)
    if latex is not None and re.search(r"[\\\d]", latex[0]):
        written = latex[0].strip().rstrip(".")
        if written.count("{") != written.count("}"):  # T_{\text{eff}} is cut in its subscript
            return None
        return Core(written, at + len(latex[0].rstrip()), _is_atom(written))
    symbol = _SYMBOL.match(text, at)
    if symbol is not None:
        return Core(symbol[0], _behind_bold(text, symbol.end()), is_atom=True)
    words = NUMBER_WORDS.match(text, at)
    if words is not None:
        value = number_in_words(words[0].lower().replace("-", " "))
        if value is not None:
            return Core(str(value), _behind_bold(text, words.end()), is_atom=True)
    return None


def _is_atom(formula: str) -> bool:
    return _ATOM.fullmatch(formula) is not None


def _behind_bold(text: str, at: int) -> int:
    """Behind the marks that end bold, and the `)` or quotes that end the answer."""
    while at < len(text) and text[at] in '*_`"”':
        at += 1
    return at


def last_told(sentence: str) -> re.Match[str] | None:
    """The last number or formula of a sentence."""
    number = last_match(NUMBER.finditer(sentence))
    formula = last_match(prose.formulas(sentence))
    if formula is not None and (number is None or formula.end() >= number.end()):
        return formula
    return number
