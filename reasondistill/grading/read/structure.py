"""Read the shape of an answer: lists, sets, tuples and intervals, matrices, equations,
inequalities, ± values, texts, choices.

    read("x=1 \\\\text{ or } x=2")  →  Many("list", (Relation(x = 1), Relation(x = 2)))

Leaves are `Atom`s: their text is compared as a number, a text or an expression elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise, product
from typing import Literal

from reasondistill.grading.read.clean import strip_delimiters
from reasondistill.grading.read.quantity import is_mixed_in_words

_MOST_PARTS = 400
_MOST_DEPTH = 12


@dataclass(frozen=True, slots=True)
class Atom:
    """A single value, as its cleaned text."""

    text: str


@dataclass(frozen=True, slots=True)
class Many:
    """Several answers: a bare `list`, a `set`, a bracketed `tuple` (`left`, `right` are its
    brackets) or a `vector`.

    Of a list `left` says what joins it: `or`, `and`, `±`, `,` for a comma between digits without
    any blank (`2,5`, perhaps one number), or nothing for other commas; `right` is `sign` where ∧ or
    ∨ stood for the word.
    """

    kind: Literal["list", "set", "tuple", "vector"]
    parts: tuple[Answer, ...]
    left: str = ""
    right: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of entries; several matrices written side by side are a product."""

    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """`a = b = c` or `a < b ≤ c`: the sides and the signs between them."""

    sides: tuple[str, ...]
    signs: tuple[str, ...]

    @property
    def is_equation(self) -> bool:
        return all(sign == "=" for sign in self.signs)


@dataclass(frozen=True, slots=True)
class Union:
    """`A \\cup B`."""

    parts: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Restated:
    """A value said twice: `\\sqrt{3} \\approx 1.732`, `\\frac{1}{2} (50\\%)`; after ≈ it is only
    rounded.
    """

    value: str
    again: str
    is_rounded: bool


@dataclass(frozen=True, slots=True)
class Within:
    """`x \\in A`."""

    name: str
    of: Answer


Answer = Atom | Many | Matrix | Relation | Restated | Union | Within

_OPEN = {"(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil"}
_CLOSE = {")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"}
_PIECE = re.compile(
    r"\\begin\s*\{\w+\*?\}|\\end\s*\{\w+\*?\}|\\text\s*\{[^{}]*\}|\\[A-Za-z]+|\\.|"
    r"\d[\d.,]*\d|[A-Za-z]+|\s+|.",
    re.DOTALL,
)
_CONNECTIVE = re.compile(r"\\text\s*\{\s*,?\s*(?:and|or)\s*:?\s*\}|and|or|\\?&")
_JOINING_SIGN = re.compile(r"\\(?:lor|vee|land|wedge)(?![A-Za-z])")
_SIGNS = {"=": "=", "<": "<", ">": ">", "\\leq": "<=", "\\geq": ">=", "\\neq": "!=", ":=": "="}
_MATRIX_NAME = r"\{(?:[pbB]?matrix|smallmatrix|array)\*?\}"
_MATRIX = re.compile(
    rf"\\begin\s*{_MATRIX_NAME}\s*(?:\{{[lcr|\s]*\}})?(.*?)\\end\s*{_MATRIX_NAME}", re.DOTALL
)
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")


def pieces(text: str) -> list[tuple[str, int]]:
    """The text cut into small pieces, each with its bracket depth (an opening or closing bracket
    has the depth outside it).
    """
    parts: list[tuple[str, int]] = []
    depth = 0
    for match in _PIECE.finditer(text):
        piece = match[0]
        bare = piece.strip()
        closing = bare in _CLOSE or bare.startswith("\\end")
        depth -= closing
        parts.append((piece, depth))
        depth += bare in _OPEN or bare.startswith("\\begin")
    return parts


def split_top(text: str, separators: frozenset[str], *, words: bool = False) -> list[str]:
    """The parts between separators that stand outside all brackets; with `words`, "and" and "or"
    separate too.
    """
    parts: list[str] = []
    current: list[str] = []
    for piece, depth in pieces(text):
        if depth != 0:
            current.append(piece)
        elif piece in separators or (words and _CONNECTIVE.fullmatch(piece)):
            parts.append("".join(current))
            current = []
        elif "," in separators and _is_list_of_digits(piece):
            first, *more = piece.split(",")
            parts.append("".join([*current, first]))
            parts += more[:-1]
            current = [more[-1]]
        else:
            current.append(piece)
    parts.append("".join(current))
    return parts


def _is_list_of_digits(piece: str) -> bool:
    """`1,2,3` is a list; `1,234` is a number."""
    if "," not in piece or not piece[0].isdigit():
        return False
    return not _THOUSANDS.fullmatch(piece)


@lru_cache(maxsize=4096)
def read(text: str, depth: int = 0) -> Answer:
    """The shape of a cleaned answer. Never raises; what has no known shape is an Atom."""
    text = in_known_shape(without_prose(text.strip()))
    text = without_qualifier(expand_determinants(text))
    if depth > _MOST_DEPTH:
        return Atom(text)
    for reader in _READERS:
        shape = reader(text, depth)
        if shape is not None:
            return shape
    return Atom(text)


_ALL = re.compile(
    r"\A\s*(?:\\text\s*\{\s*(?:for\s+)?all\s*\}|(?:for\s+)?all\s)\s*"
    r"(?=[A-Za-z]\s*(?:[<>]|\\(?:leq|geq|neq|in)(?![A-Za-z])))"
)
_QUANTIFIER = re.compile(
    r"\\forall\b[^,:]*[,:]\s*|(?:\\therefore|\\Rightarrow|\\implies|\\to)(?![A-Za-z])\s*"
)
# "all" before an inequality, "about" before a number, "The area of ABC is" before a formula.
_SAID_BEFORE = re.compile(
    r"\A(?:\\text\s*\{\s*(?:for\s+)?(?:all|every|any)\s*\}\s*(?=[a-z]\s*(?:[<>]|\\[gl]eq))|"
    r"(?:\\text\s*\{\s*)?(?:approximately|approx\.|about|roughly)\s*\}?\s*(?=[-\\$]?[\d\\.])|"
    r"(?:The|the)(?:\s+(?!(?:not|no|less|more|least|most|twice|half|than|is)\b)"
    r"[A-Za-z]+){1,8}\s+is(?:\s+equal\s+to)?\s+(?=[\\\d-]))"
)
_CONDITION = re.compile(
    r",?\s*(?:\\text\s*\{\s*,?\s*(?:for|where|with)\b[^{}]*\}|"
    r"(?:for|where|with)\s+(?=all|some|any|every|integer|\\|[a-z]\b)|"
    r"\\text\s*\{\s*(?:\(?since|because|is the answer)).*\Z",
    re.DOTALL,
)


_CONDITION_WORDS = re.compile(
    r"\\text|\\in(?![A-Za-z])\s*\\mathbb\s*\{?[A-Z]\}?|[{}]|"
    r"\b(?:for|where|with|when|if|all|any|every|each|values?|of|is|an?|the|integers?|natural|real|"
    r"numbers?|positive|whole)\b"
)
_SAYS_WHY = re.compile(r"[\s,]*\\text\s*\{\s*\(?(?:since|because|is the answer)\b")
_LIMITS = re.compile(r"[<>=]|\\(?:leq|geq|neq|mid)(?![A-Za-z])|\b(?:even|odd|prime|nonzero)\b")
# n ≥ 0, n ≥ 1 and n > 0 of a counting letter say no more than that it counts.
_ONLY_COUNTS = re.compile(
    r"\s*[i-n]\s*(?:\\geq\s*[01]|>\s*0|=\s*[01]\s*,\s*\d\s*,[\s\d,]*\\ldots)\s*|"
    r"\s*[01]\s*\\leq\s*[i-n]\s*"
)


def condition_of(text: str) -> str:
    """The condition that stands behind a formula, without the words that lead to it: `n > 3` of
    `n\\text{ for all }n > 3`. Empty when there is none, or it narrows nothing.
    """
    if text.lstrip().startswith("\\text"):
        return ""
    match = _CONDITION.search(text)
    if match is None or not text[: match.start()].strip() or _LIMITS.search(match[0]) is None:
        return ""
    if _SAYS_WHY.match(match[0]):
        return ""
    condition = _CONDITION_WORDS.sub(" ", match[0])
    return " ".join(condition.split()).strip("(),.; ")


def have_same_limits(a: str, b: str) -> bool:
    """Whether two conditions have the same signs of relations: n > 3 may be n ≥ 4."""
    return _LIMITS.findall(a) == _LIMITS.findall(b)


def only_counts(condition: str) -> bool:
    """Whether a condition is empty, or says only that a letter counts: n ≥ 1."""
    return not condition or _ONLY_COUNTS.fullmatch(condition) is not None


_REWRITTEN: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"\\?\{\s*\w+\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid|\||"
            r":)\s*((?:[^{}|:]|\\text\s*\{[^{}]*\})*(?:<|>|\\leq|\\geq|"
            r"\\neq)(?:[^{}|:]|\\text\s*\{[^{}]*\})*?)\\?\}"
        ),
        r"\1",
    ),
    (
        re.compile(
            r"\\\{\s*(.+?)\s*(?:\\mid|\||:)\s*([a-z])\s*\\in\s*\\mathbb\s*\{?([ZN])\}?\s*\\\}"
        ),
        r"\1, \2\\in\\mathbb{\3}",
    ),
    (re.compile(r"([A-Za-z])\s*\\neq\s*\\pm\s*([^,]+)"), r"\1\\neq \2, \1\\neq -\2"),
    (re.compile(r"([A-Za-z])\s*\\neq\s*([^,\\<>=]+),\s*([^,\\<>=]+)"), r"\1\\neq \2, \1\\neq \3"),
    (re.compile(r"<([^<>=]+,[^<>=]+)>"), r"\\langle \1\\rangle "),
    (re.compile(r"(\([^()]*,[^()]*\))\s*\^\s*\{?\s*(?:T|\\top)\s*\}?"), r"\1"),
    (re.compile(r"[A-Z](?:_\w)?\s*(\((?:[^()]|\([^()]*\))*,(?:[^()]|\([^()]*\))*\))"), r"\1"),
    (re.compile(r"\\?\{?\s*\\begin\s*\{array\}\s*\{l+\}([^&]*=[^&]*)\\end\s*\{array\}\s*"), r"\1"),
    (re.compile(r"\\begin\s*\{cases\}([^&]*?)(?:\\\\)?\s*\\end\s*\{cases\}"), r"\1"),
    (re.compile(r"\](.+),(.+)\["), r"(\1,\2)"),
    (re.compile(r"\\text\s*\{\s*([A-J](?:\s*(?:,|and|,\s*and)\s*[A-J])+)\s*\}"), r"\1"),
    (re.compile(r"\\text\s*\{([^{}&]*&[^{}&]*)\}"), r"\1"),
    (re.compile(r"(?:\\text\s*\{\s*)?[Aa]ll real numbers\s*\}?"), r"\\mathbb{R}"),
    (
        re.compile(
            r"(?:\\text\s*\{\s*)?[Aa]ll real numbers,?\s+(?:except|other than|excluding)"
            r"(?:\s+for)?\s*\}?\s*(?:[a-z]\s*=\s*)?([-+]?\d[\d./]*|-?\\frac\{\d+\}\{\d+\})\s*\}?"
        ),
        r"\\mathbb{R}\\setminus \\{\1\\}",
    ),
    (
        re.compile(
            r"(?:\\text\s*\{\s*)?[Aa]ll real numbers,?\s+(?:except|other than|excluding)"
            r"(?:\s+for)?\s*\}?\s*([-+]?\d[\d./]*)(?:\s*\\text\s*\{)?\s*and\s*\}?\s*"
            r"([-+]?\d[\d./]*)\s*\}?"
        ),
        r"\\mathbb{R}\\setminus \\{\1,\2\\}",
    ),
)


_QUALIFIER = re.compile(
    r"\s*[,;]?\s*(?:\(|\\text\s*\{[^{}]*\})?\s*"
    r"(?<![A-Za-z\\])([a-z])(?:\s*,\s*(?!\1)[a-z])*\s*"
    r"\\in\s*\\mathbb\s*\{?[ZNQ]\}?(?:\^?[+*]|_\{?\W?\d\}?)?\s*\)?\s*\Z"
)


def have_different_domains(a: str, b: str) -> bool:
    """Whether two answers say behind themselves that their letter lies in different sets of
    numbers: `k\\pi, k \\in \\mathbb{Z}` is not `k\\pi, k \\in \\mathbb{N}`.
    """
    if "\\mathbb" not in a or "\\mathbb" not in b:
        return False
    first = _QUALIFIER.search(a)
    second = _QUALIFIER.search(b)
    if first is None or second is None:
        return False
    return _domain(first[0]) != _domain(second[0])


def _domain(qualifier: str) -> str:
    domain = qualifier.partition("\\mathbb")[2]
    return re.sub(r"[{}()\s]", "", domain).replace("*", "+")


def without_qualifier(text: str) -> str:
    """Without `k \\in \\mathbb{Z}` behind the answer; the bound letter is called k, whatever it
    was.
    """
    if "\\mathbb" not in text:
        return text
    match = _QUALIFIER.search(text)
    if match is None:
        return text
    rest = text[: match.start()].strip()
    if not rest:
        return text
    if re.search(r"(?<![A-Za-z\\])k(?![A-Za-z])", rest):
        return rest
    return re.sub(rf"(?<![A-Za-z\\]){match[1]}(?![A-Za-z])", "k", rest)


def in_known_shape(text: str) -> str:
    """Other ways to write a shape: `{x | x > 2}`, systems in `cases`, `]0,1[`, lists of letters in
    one `\\text{}`.
    """
    for pattern, form in _REWRITTEN:
        match = pattern.fullmatch(text)
        if match is not None:
            return match.expand(form).strip().replace("\\\\", ", ")
    return text


_ARROW = re.compile(
    r"\\(?:Rightarrow|implies|Longrightarrow|therefore|Leftrightarrow|iff)(?![A-Za-z])"
)


def without_prose(text: str) -> str:
    """Without a leading quantifier, without what leads to the answer, and without what is only said
    behind it.
    """
    if "\\" in text:
        text = behind_arrows(text)
    text = _ALL.sub("", text, count=1)
    if not text.startswith("\\text"):
        text = _CONDITION.sub("", text)
    text = _SAID_BEFORE.sub("", text)
    if _QUANTIFIER.match(text) and "exists" not in text:
        text = _QUANTIFIER.sub("", text, count=1)
    if text.endswith("\\,"):
        return text
    return text.strip().rstrip(".,;").strip()


def behind_arrows(text: str) -> str:
    """What a derivation ends in: `2x = 10 \\Rightarrow x = 5`. Where no relation and no mere words
    stand on either side, an arrow is an operator: `p \\Rightarrow q`.
    """
    steps = [step.strip() for step in _ARROW.split(text)]
    steps = [step for step in steps if step]
    if not steps:
        return text
    is_derivation = any(_RELATES.search(step) or _WORDS.fullmatch(step) for step in steps[:-1])
    if len(steps) == 1 or is_derivation or _RELATES.search(steps[-1]):
        return steps[-1]
    return text


_WORDS = re.compile(r"\\text\s*\{\s*(?:so|thus|hence|therefore|then|we get|this gives)[\s,:]*\}")


def _read_list(text: str, depth: int) -> Answer | None:
    """`1, 2`, `1; 2`, `1 and 2`; groups between semicolons are tuples."""
    if _THOUSANDS.fullmatch(text) or is_mixed_in_words(text) or "\\exists" in text:
        return None
    groups = _stripped(split_top(text, frozenset({";"})))
    if len(groups) > 1:
        return Many("list", tuple(_group(group, depth) for group in groups[:_MOST_PARTS]))
    parts = _stripped(split_top(text, frozenset({","}), words=True))
    if len(parts) < 2 or len(parts) > _MOST_PARTS:
        return None
    answers = tuple(read(part, depth + 1) for part in without_shared_name(parts))
    connective = connective_of(text)
    if not connective and _BARE_COMMAS.match(text):
        connective = ","
    return Many("list", answers, connective)


_PART_LABEL = re.compile(
    r"(?:(?<=[\s,;}])|\A)(?:\\text\s*\{\s*)?(?:[Pp]art\s+)?\(([a-h1-9]|i{1,3}|iv|vi{0,3})\)"
    r"(?![\^_*/+'!(])\s*:?\s*(?:\})?"
)
_LABEL_ORDERS = ("abcdefgh", "123456789", ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii"))
_ENDS_IN_AND = re.compile(r"(?:\\text\s*\{\s*,?\s*and\s*\}?|\band)\Z")


def _read_labelled(text: str, depth: int) -> Answer | None:
    """`(a) 3 (b) 4`: the values of several parts, each under its label."""
    if not text.startswith(("(", "\\text", "Part", "part")):
        return None
    labels = list(_PART_LABEL.finditer(text))
    if len(labels) < 2 or labels[0].start() > 0:
        return None
    names = [label[1] for label in labels]
    if not any(set(names) == set(order[: len(names)]) for order in _LABEL_ORDERS):
        return None
    ends = [label.start() for label in labels[1:]] + [len(text)]
    parts: list[Answer] = []
    for label, end in zip(labels, ends, strict=True):
        value = text[label.end() : end].lstrip(" ,;:").rstrip(" ,;.")
        value = _ENDS_IN_AND.sub("", value).rstrip(" ,;.")
        if value.count("{") < value.count("}"):
            value = "\\text{" + value
        if re.search(r"[^\W_]", value) is None:
            return None
        parts.append(Relation((f"\\text{{part{label[1]}}}", value.strip()), ("=",)))
    return Many("list", tuple(parts), "and")


_BARE_COMMAS = re.compile(
    r"(?:[^=,;]{1,20}=\s*)?[-+]?\d+(?:,\d+)+(?![\d,.])(?!.*[,;])|"
    r"[^\d,;]{0,12}\d{1,3}(?:\.\d{3})+,\d\d(?![\d,.])(?!.*[,;])"
)


def _stripped(parts: list[str]) -> list[str]:
    """Without blanks and `$` around them, and without empty ones."""
    stripped = [strip_delimiters(part) for part in parts]
    return [part for part in stripped if part]


def connective_of(text: str) -> str:
    """`or` or `and` when the parts are joined by words, else nothing."""
    connective = ""
    for piece, level in pieces(text):
        if level == 0 and _CONNECTIVE.fullmatch(piece):
            if "or" in piece:
                return "or"
            connective = "and"
    return connective


def read_joined(text: str, depth: int) -> Answer | None:
    """`x = 2 \\lor x = 3`: relations between ∧ or ∨; between letters these are operators."""
    if _JOINING_SIGN.search(text) is None:
        return None
    for word, signs in (("or", _OR_SIGNS), ("and", _AND_SIGNS)):
        parts = split_top(text, signs)
        if len(parts) < 2 or len(parts) > _MOST_PARTS:
            continue
        if all(_RELATES.search(part) or "\\in" in part for part in parts):
            answers = tuple(read(part.strip(), depth + 1) for part in parts)
            return Many("list", answers, word, "sign")
    return None


_OR_SIGNS = frozenset(["\\lor", "\\vee"])
_AND_SIGNS = frozenset(["\\land", "\\wedge"])


def _group(text: str, depth: int) -> Answer:
    """`p=5, q=2` between semicolons is the tuple (5, 2)."""
    inner = read(text, depth + 1)
    if isinstance(inner, Many) and inner.kind == "list":
        return Many("tuple", tuple(_right_side(part, depth) for part in inner.parts), "(", ")")
    return inner


def _right_side(part: Answer, depth: int) -> Answer:
    if isinstance(part, Relation) and part.is_equation and is_name(part.sides[0]):
        return read(part.sides[-1], depth + 1)
    return part


def without_shared_name(parts: list[str]) -> list[str]:
    """`n = 1, 2, 3` and `(x, y) = (5, 8), (8, 5)`: the name stands for all of them."""
    name, equals, first = parts[0].partition("=")
    if not equals or not is_name(name) or is_function_of_unknown(name):
        return parts
    if any(_RELATES.search(part) for part in parts[1:]):
        return parts
    return [first.strip(), *parts[1:]]


_RELATES = re.compile(r"[=<>]|\\(?:leq|geq|neq)")


def read_relation(text: str, depth: int) -> Answer | None:
    """Equations and inequalities; what follows ≈ is only a rounded value; `x ∈ S` is S."""
    sides: list[str] = [""]
    signs: list[str] = []
    for piece, level in pieces(text):
        sign = piece.strip()
        if level != 0:
            sides[-1] += piece
            continue
        if sign in _APPROXIMATE:
            rounded = text.split(sign, 1)[1]
            if not signs and not sides[0].strip():
                return read(rounded, depth + 1)
            if not signs and not is_rounded_value(sign, rounded):
                sides[-1] += piece
                continue
            if not signs and not is_name(sides[0]):
                return Restated(sides[0].strip(), rounded.strip(), True)
            if signs == ["="] and is_name(sides[0]):
                sides[-1] += sign + rounded
                break
            if signs:
                break
            sign = "="
        if sign == "\\equiv" and not signs and is_name(sides[0]) and "mod" not in text:
            value = text.split(sign, 1)[1]
            if _STARTS_WITH_DIGIT.match(value):
                sign = "="
        if sign == "\\in" and not signs and is_name(sides[0]):
            return Within(sides[0].strip(), read(text.split("\\in", 1)[1], depth + 1))
        if sign in _SIGNS:
            signs.append(_SIGNS[sign])
            sides.append("")
        else:
            sides[-1] += piece
    sides = [side.strip().rstrip(":").strip() for side in sides]
    if signs:
        if all(sides) and len(sides) <= 8:
            return Relation(tuple(sides), tuple(signs))
        return None
    return None


def is_rounded_value(sign: str, text: str) -> bool:
    """Whether what stands behind ≈ is a number; behind ∼, which has other meanings, it must begin
    as one.
    """
    if sign == "\\approx":
        return re.search(r"\d", text) is not None
    return _STARTS_WITH_DIGIT.match(text) is not None


_STARTS_WITH_DIGIT = re.compile(r"\s*[-+$]?\s*(?:\\?\$)?[\d.]")
_AGAIN = re.compile(
    r"(.*[^\s\\({^_])\s*(?:\\text\s*\{\s*)?\(\s*(?:\\text\s*\{\s*)?"
    r"(about|approximately|approx\.?|roughly|or|i\.e\.,?|that is,?|=|\\approx|\\sim|\\simeq)?"
    r"\s*\}?\s*([^()]*[^()\s])\s*\)\s*\}?",
    re.DOTALL,
)
_EXACTLY = ("or", "i.e.", "i.e.,", "that is", "that is,", "=")


def read_restated(text: str, depth: int) -> Answer | None:
    """`\\frac{1}{2} (50\\%)`, `0.25 (or 1/4)`, `\\frac{737}{39} (\\text{about }18.9)`."""
    if not text.endswith((")", ")}")) or "(" not in text:
        return None
    match = _AGAIN.fullmatch(text)
    if match is None or match[1].count("(") != match[1].count(")"):
        return None
    again = match[3].strip()
    if again.count("{") > again.count("}"):
        again += "}"
    if match[2] is None and not again.endswith("%"):
        return None
    is_rounded = match[2] is not None and match[2] not in _EXACTLY
    value = match[1].strip()
    if value.count("{") > value.count("}"):  # `\text{ hours (about }1.67)`
        value += "}"
    return Restated(value, again, is_rounded)


_APPROXIMATE = ("\\approx", "\\simeq", "\\sim", "\\doteq")


def read_union(text: str, depth: int) -> Answer | None:
    """`A \\cup B`."""
    parts = split_top(text, frozenset({"\\cup"}))
    if len(parts) < 2 or len(parts) > _MOST_PARTS:
        return None
    if not all(part.strip() for part in parts):
        return None
    return Union(tuple(read(part, depth + 1) for part in parts))


_RAISED = re.compile(r"(\\begin.*\\end\s*\{\w+\*?\})\s*\^\s*\{?\s*(T|\\top|[2-5])\s*\}?", re.DOTALL)


def _read_matrix(text: str, depth: int) -> Answer | None:
    """A matrix that is the whole answer, perhaps in brackets; matrices side by side are multiplied
    out, small powers too.
    """
    raised = _RAISED.fullmatch(text)
    if raised is not None:
        base = _read_matrix(raised[1], depth)
        if isinstance(base, Matrix):
            return matrix_power(base, raised[2])
    if text.startswith("(") and text.endswith(")") and "\\begin" in text[:9]:
        text = text[1:-1].strip()
    matrices = list(_MATRIX.finditer(text))
    if not matrices or len(matrices) > 4:
        return None
    if _MATRIX.sub("", text).replace("\\cdot", "").strip():
        return None
    rows = _rows(matrices[0][1])
    for match in matrices[1:]:
        rows = _multiplied(rows, _rows(match[1]))
    if rows is None:
        return None
    return Matrix(rows)


def matrix_power(base: Matrix, exponent: str) -> Matrix | None:
    """The transpose (`T`) or a small power of a matrix; None when its shape has none."""
    if exponent in ("T", "\\top"):
        widths = {len(row) for row in base.rows}
        if len(widths) == 1:
            return Matrix(tuple(zip(*base.rows, strict=True)))
        return None
    rows: _Rows | None = base.rows
    for _ in range(int(exponent) - 1):
        rows = _multiplied(rows, base.rows)
    if rows is None:
        return None
    return Matrix(rows)


_Rows = tuple[tuple[str, ...], ...]


def _rows(inside: str) -> _Rows | None:
    if "\\begin" in inside:
        return None
    rows: list[tuple[str, ...]] = []
    for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr\b", inside.replace("\\hline", "")):
        if row.strip():
            entries = row.strip().split("&")
            rows.append(tuple(entry.strip() for entry in entries))
    return tuple(rows)


def _multiplied(a: _Rows | None, b: _Rows | None) -> _Rows | None:
    """The product, entry by entry as expressions; small matrices only."""
    if not a or not b or max(len(a), len(b), len(b[0])) > 6:
        return None
    if {len(row) for row in a} != {len(b)} or len({len(row) for row in b}) != 1:
        return None
    columns = list(zip(*b, strict=True))
    product: list[tuple[str, ...]] = []
    for row in a:
        product.append(tuple(_dot(row, column) for column in columns))
    return tuple(product)


def _dot(row: Sequence[str], column: Sequence[str]) -> str:
    return "+".join(f"({x})*({y})" for x, y in zip(row, column, strict=True))


_DETERMINANT = re.compile(
    r"\\begin\s*\{vmatrix\}(.*?)\\end\s*\{vmatrix\}|"
    r"\|\s*\\begin\s*\{(?:array|matrix)\}\s*(?:\{[lcr|\s]*\})?"
    r"(.*?)\\end\s*\{(?:array|matrix)\}\s*\|",
    re.DOTALL,
)


def expand_determinants(text: str) -> str:
    """Determinants of up to 3×3 written out as arithmetic."""
    if "\\begin" not in text:
        return text
    return _DETERMINANT.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    rows = _rows(match[1] or match[2] or "")
    return _determinant(rows) or match[0]


def _determinant(rows: Sequence[Sequence[str]] | None) -> str | None:
    if not rows or len(rows) > 3 or any(len(row) != len(rows) for row in rows):
        return None
    first = rows[0]
    if len(first) == 1:
        return f"({first[0]})"
    terms: list[str] = []
    for j, entry in enumerate(first):
        minor = _determinant([[*row[:j], *row[j + 1 :]] for row in rows[1:]])
        sign = "+-"[j % 2]
        terms.append(f"{sign}({entry})*{minor}")
    inside = "".join(terms)
    return f"({inside})"


def embraced(text: str) -> tuple[str, str, str] | None:
    """(left, inside, right) when one bracket pair embraces the whole text."""
    parts = pieces(text)
    if not parts:
        return None
    first, depth = parts[0]
    last, last_depth = parts[-1]
    left = first.strip()
    right = last.strip()
    if left not in _OPEN or right not in _CLOSE or depth != last_depth:
        return None
    between = parts[1:-1]
    if any(level <= depth for _, level in between):
        return None
    return left, "".join(piece for piece, _ in between), right


def read_brackets(text: str, depth: int) -> Answer | None:
    """Sets, tuples, intervals, vectors; brackets around a single thing are dropped."""
    brackets = embraced(text)
    if brackets is None:
        return None
    left, inside, right = brackets
    parts = _parts_inside(inside, depth)
    if left == "\\{":
        return Many("set", parts, "{", "}")
    if left == "{":
        if len(parts) > 1:
            return Many("set", parts, "{", "}")
        return next(iter(parts), None)
    if left == "\\langle":
        return Many("vector", parts, "<", ">")
    if left == "[" and right == "]" and len(parts) > 1:
        rows = _bracketed_rows(parts)
        if rows is not None:
            return Matrix(rows)
    if left in ("(", "[") and right in (")", "]") and len(parts) > 1:
        return spread(parts, left, right)
    is_pair = (left, right) in (("(", ")"), ("[", "]"))
    if is_pair and len(parts) == 1 and "," not in inside:
        return parts[0]
    return None


def _parts_inside(inside: str, depth: int) -> tuple[Answer, ...]:
    """The elements between two brackets."""
    inner = _read_list(inside, depth + 1)
    if isinstance(inner, Many):
        return inner.parts
    bare = inside.strip()
    if _THOUSANDS.fullmatch(bare):  # inside brackets a comma separates: (1,234) is a pair
        return tuple(Atom(part) for part in bare.split(","))
    if bare:
        return (read(inside, depth + 1),)
    return ()


def _bracketed_rows(parts: tuple[Answer, ...]) -> _Rows | None:
    """The entries of `[1, 2], [3, 4]`; None when a part is no bracketed row."""
    rows: list[tuple[str, ...]] = []
    for part in parts:
        if not isinstance(part, Many) or part.left != "[":
            return None
        rows.append(tuple(_plain(entry) for entry in part.parts))
    return tuple(rows)


def _plain(entry: Answer) -> str:
    if isinstance(entry, Atom):
        return entry.text
    return str(entry)


def spread(parts: tuple[Answer, ...], left: str, right: str) -> Many:
    """`(±1, 2)` is the list of (1, 2) and (-1, 2)."""
    choices: list[tuple[Answer, ...]] = []
    for part in parts:
        if isinstance(part, Many) and part.kind == "list" and part.left == "±":
            choices.append(part.parts)
        else:
            choices.append((part,))
    tuples = [Many("tuple", chosen, left, right) for chosen in islice(product(*choices), 64)]
    if len(tuples) == 1:
        return tuples[0]
    return Many("list", tuple(tuples))


@dataclass(frozen=True, slots=True)
class Progression:
    """An arithmetic progression; `last` is None where it goes on for ever."""

    start: int
    step: int
    last: Answer | None


def progression_of(many: Many) -> Progression | None:
    """What `1, 2, \\ldots, 10` and `1, 2, 3, \\ldots` continue, or integers written out do."""
    parts = list(many.parts)
    dots = Atom("\\ldots")
    head = parts
    last: Answer | None = parts[-1]
    if dots in parts:
        place = parts.index(dots)
        head = parts[:place]
        tail = parts[place + 1 :]
        if len(tail) > 1:
            return None
        last = next(iter(tail), None)
    values: list[int] = []
    for part in head:
        if not isinstance(part, Atom) or not _SMALL_INTEGER.fullmatch(part.text):
            return None
        values.append(int(part.text))
    if len(values) < 2:
        return None
    step = values[1] - values[0]
    if any(y - x != step for x, y in pairwise(values)):
        return None
    return Progression(values[0], step, last)


_SMALL_INTEGER = re.compile(r"-?\d{1,15}")


_PLUS_MINUS = re.compile(r"\\(?:pm|mp)(?![A-Za-z])")
_PLUS = re.compile(r"\\pm(?![A-Za-z])")
_MINUS = re.compile(r"\\mp(?![A-Za-z])")


def read_plus_minus(text: str, depth: int) -> Answer | None:
    """`1 ± √2` is the list of both values."""
    if _PLUS_MINUS.search(text) is None:
        return None
    upper = _PLUS.sub("+", _MINUS.sub("-", text))
    lower = _PLUS.sub("-", _MINUS.sub("+", text))
    values = (read(upper.strip(), depth + 1), read(lower.strip(), depth + 1))
    return Many("list", values, "±")


_READERS = (
    _read_labelled,
    _read_list,
    read_joined,
    read_restated,
    read_relation,
    read_union,
    _read_matrix,
    read_brackets,
    read_plus_minus,
)


_NAME_PARTS = re.compile(
    r"\^\s*(?:\{\s*-?1?\s*\}|\{?\s*\\prime\s*\}?|\\circ)|"
    r"_\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|\w)|_\s*\\text\s*\{[^{}]*\}|"
    r"\\text\s*\{[^{}]*\}|\\[A-Za-z]+|'"
)


def is_name(side: str) -> bool:
    """Whether one side of an equation only names what the other side is: `x`, `f(x)`, `|AB|`,
    `a_{37}`, `\\frac{NO}{BO}`, `(x, y)`.

    `2x + z` is no name: `2x + z = 1` is an equation, not the answer 1.
    """
    if side.strip() in ("\\pi", "e", "i"):
        return False
    if "\\sqrt" in side or re.search(r"\^\s*\{\s*-1\s*\}(?!\s*\()", side):
        return False
    if _FUNCTION_OF_NUMBER.search(side) is not None:
        return False
    core = _NAME_PARTS.sub(_stand_in, side)
    core = re.sub(r"(?<=[A-Za-z])\s*\([^()]*\)", "", core)
    if re.fullmatch(r"[A-Za-z\s(){}\[\]|,:/]+", core) is None:
        return False
    return re.search(r"[A-Za-z]", core) is not None


# `\\ln 2` is a value, `\\ln P` may be what was asked for.
_FUNCTION_OF_NUMBER = re.compile(
    r"\\(?:ln|log|lg|sin|cos|tan|cot|sec|csc|exp|arc(?:sin|cos|tan))(?![A-Za-z])"
    r"(?:_\{?\d+\}?)?\s*[({\s]*[-\d]"
)


_LOGARITHM_OR_ANGLE = r"\\(?:ln|log|lg|exp|sin|cos|tan|cot|sec|csc|arc(?:sin|cos|tan))"
# z, v and r may be a complex number, a vector and a radius, of which the size is asked for.
_OF_UNKNOWN = re.compile(
    rf"\s*(?:{_LOGARITHM_OR_ANGLE}(?![A-Za-z])\s*(?:_\s*(?:\{{\w+\}}|\w))?\s*"
    r"(?:\^\s*(?:\{\w+\}|\w))?\s*[({\s]*\d*\s*(?:[a-z]|\\(?:alpha|beta|theta|phi|varphi))"
    r"[)}\s]*|\|\s*[xytnkm]\s*\||\\(?:lfloor\s*[a-z]\s*\\rfloor|lceil\s*[a-z]\s*\\rceil))\s*"
)


def is_function_of_unknown(side: str) -> bool:
    """Whether a side is a known function of a lone unknown, `\\log x` or `|x|`: beside a number it
    is an equation for x as often as what was asked for.
    """
    return _OF_UNKNOWN.fullmatch(side) is not None


def _stand_in(part: re.Match[str]) -> str:
    """A letter for a command, nothing for a mark."""
    if part[0].startswith("\\"):
        return "n"
    return ""
