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
from itertools import islice, product
from typing import Literal

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

    Of a list `left` says what joins it: `or`, `and`, `±`, or nothing for commas.
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
class Within:
    """`x \\in A`."""

    name: str
    of: Answer


Answer = Atom | Many | Matrix | Relation | Union | Within

_OPEN, _CLOSE = (
    {"(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil"},
    {")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"},
)
_PIECE = re.compile(
    r"\\begin\s*\{\w+\*?\}|\\end\s*\{\w+\*?\}|\\text\s*\{[^{}]*\}|\\[A-Za-z]+|\\.|\d[\d.,]*\d|[A-Za-z]+|\s+|.",
    re.DOTALL,
)
_CONNECTIVE = re.compile(r"\\text\s*\{\s*,?\s*(?:and|or)\s*:?\s*\}|and|or|\\(?:lor|vee|land|wedge)")
_SIGNS = {"=": "=", "<": "<", ">": ">", "\\leq": "<=", "\\geq": ">=", "\\neq": "!=", ":=": "="}
_MATRIX = re.compile(
    r"\\begin\s*\{(?:[pbB]?matrix|smallmatrix|array)\*?\}\s*(?:\{[lcr|\s]*\})?(.*?)\\end\s*\{(?:[pbB]?matrix|smallmatrix|array)\*?\}",
    re.DOTALL,
)
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")


def pieces(text: str) -> list[tuple[str, int]]:
    """The text cut into small pieces, each with its bracket depth (an opening or closing bracket
    has the depth outside it).
    """
    found: list[tuple[str, int]] = []
    depth = 0
    for match in _PIECE.finditer(text):
        piece = match[0]
        bare = piece.strip()
        closing = bare in _CLOSE or bare.startswith("\\end")
        depth -= closing
        found.append((piece, depth))
        depth += bare in _OPEN or bare.startswith("\\begin")
    return found


def split_top(text: str, separators: frozenset[str], *, words: bool = False) -> list[str]:
    """The parts between separators that stand outside all brackets; with `words`, "and" and "or"
    separate too.
    """
    parts: list[str] = []
    current: list[str] = []
    for piece, depth in pieces(text):
        if depth == 0 and (piece in separators or (words and _CONNECTIVE.fullmatch(piece))):
            parts.append("".join(current))
            current = []
        elif (
            depth == 0
            and "," in separators
            and "," in piece
            and piece[0].isdigit()
            and not _THOUSANDS.fullmatch(piece)
        ):
            first, *more = piece.split(",")
            parts.append("".join([*current, first]))
            parts += more[:-1]
            current = [more[-1]]
        else:
            current.append(piece)
    parts.append("".join(current))
    return parts


@lru_cache(maxsize=4096)
def read(text: str, depth: int = 0) -> Answer:
    """The shape of a cleaned answer. Never raises; what has no known shape is an Atom."""
    text = _without_qualifier(expand_determinants(_rewritten(_without_prose(text.strip()))))
    if depth > _MOST_DEPTH:
        return Atom(text)
    for reader in (
        _read_list,
        _read_relation,
        _read_union,
        _read_matrix,
        _read_brackets,
        _read_plus_minus,
    ):
        if (found := reader(text, depth)) is not None:
            return found
    return Atom(text)


_QUANTIFIER = re.compile(
    r"\\forall\b[^,:]*[,:]\s*|(?:\\therefore|\\Rightarrow|\\implies|\\to)(?![A-Za-z])\s*"
)
_CONDITION = re.compile(
    r",?\s*(?:\\text\s*\{\s*,?\s*(?:for|where|with)\b[^{}]*\}|(?:for|where|with)\s+(?=all|some|any|every|integer|\\|[a-z]\b)|"
    r"\\text\s*\{\s*(?:\(?since|because|is the answer)).*\Z",
    re.DOTALL,
)


_REWRITTEN: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"\\?\{\s*\w+\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid|\||:)\s*((?:[^{}|:]|\\text\s*\{[^{}]*\})*(?:<|>|\\leq|\\geq|\\neq)(?:[^{}|:]|\\text\s*\{[^{}]*\})*?)\\?\}"
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
    (re.compile(r"(?:\\text\s*\{\s*)?[Aa]ll real numbers\s*\}?"), r"\\mathbb{R}"),
)


_QUALIFIER = re.compile(
    r"\s*[,;]?\s*(?:\(|\\text\s*\{[^{}]*\})?\s*(?<![A-Za-z\\])([a-z])(?:\s*,\s*(?!\1)[a-z])*\s*\\in\s*\\mathbb\s*\{?[ZNQ]\}?(?:\^?[+*]|_\{?\W?\d\}?)?\s*\)?\s*\Z"
)


def _without_qualifier(text: str) -> str:
    """Without `k \\in \\mathbb{Z}` behind the answer; the bound letter is called k, whatever it
    was.
    """
    match = _QUALIFIER.search(text) if "\\mathbb" in text else None
    if match is None or not text[: match.start()].strip():
        return text
    rest = text[: match.start()].strip()
    return (
        rest
        if re.search(r"(?<![A-Za-z\\])k(?![A-Za-z])", rest)
        else re.sub(rf"(?<![A-Za-z\\]){match[1]}(?![A-Za-z])", "k", rest)
    )


def _rewritten(text: str) -> str:
    """Other ways to write a shape: `{x | x > 2}`, systems in `cases`, `]0,1[`, lists of letters in
    one `\\text{}`.
    """
    for pattern, form in _REWRITTEN:
        if (match := pattern.fullmatch(text)) is not None:
            return match.expand(form).strip().replace("\\\\", ", ")
    return text


_ARROW = re.compile(
    r"\\(?:Rightarrow|implies|Longrightarrow|therefore|Leftrightarrow|iff)(?![A-Za-z])"
)


def _without_prose(text: str) -> str:
    """Without a leading quantifier, without what leads to the answer, and without what is only said
    behind it.
    """
    text = _ARROW.split(text)[-1] if "\\" in text else text
    text = (
        _CONDITION.sub("", text)
        if _CONDITION.search(text) and not text.startswith("\\text")
        else text
    )
    text = _QUANTIFIER.sub("", text, count=1) if _QUANTIFIER.match(text) else text
    return text.strip().rstrip(".,;").strip() if not text.endswith("\\,") else text


def _read_list(text: str, depth: int) -> Answer | None:
    """`1, 2`, `1; 2`, `1 and 2`; groups between semicolons are tuples."""
    if _THOUSANDS.fullmatch(text):
        return None
    groups = [part.strip() for part in split_top(text, frozenset({";"}))]
    groups = [group for group in groups if group]
    if len(groups) > 1:
        return Many("list", tuple(_group(group, depth) for group in groups[:_MOST_PARTS]))
    parts = [part.strip() for part in split_top(text, frozenset({","}), words=True)]
    parts = [part for part in parts if part]
    if len(parts) < 2 or len(parts) > _MOST_PARTS:
        return None
    return Many(
        "list", tuple(read(part, depth + 1) for part in _shared_name(parts)), _connective(text)
    )


def _connective(text: str) -> str:
    """`or` or `and` when the parts are joined by words, else nothing."""
    words = {piece for piece, level in pieces(text) if level == 0 and _CONNECTIVE.fullmatch(piece)}
    if any(re.search(r"or|vee", word) for word in words):
        return "or"
    return "and" if words else ""


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


def _shared_name(parts: list[str]) -> list[str]:
    """`n = 1, 2, 3` and `(x, y) = (5, 8), (8, 5)`: the name stands for all of them."""
    name, equals, first = parts[0].partition("=")
    if (
        equals
        and is_name(name)
        and not any(
            sign in part
            for part in parts[1:]
            for sign in ("=", "<", ">", "\\leq", "\\geq", "\\neq")
        )
    ):
        return [first.strip(), *parts[1:]]
    return parts


def _read_relation(text: str, depth: int) -> Answer | None:
    """Equations and inequalities; what follows ≈ is only a rounded value; `x ∈ S` is S."""
    sides: list[str] = [""]
    signs: list[str] = []
    for piece, level in pieces(text):
        sign = piece.strip()
        if level == 0 and sign in ("\\approx", "\\simeq", "\\sim", "\\doteq"):
            if not signs and not sides[0].strip():
                return read(text.split(sign, 1)[1], depth + 1)
            if signs or not is_name(sides[0]):
                break
            sign = "="
        if level == 0 and sign == "\\in" and not signs and is_name(sides[0]):
            return Within(sides[0].strip(), read(text.split("\\in", 1)[1], depth + 1))
        if level == 0 and sign in _SIGNS:
            signs.append(_SIGNS[sign])
            sides.append("")
        else:
            sides[-1] += piece
    sides = [side.strip().rstrip(":").strip() for side in sides]
    if not signs:
        return (
            read(sides[0], depth + 1)
            if sides[0] and "\\approx" in text and sides[0] != text
            else None
        )
    return Relation(tuple(sides), tuple(signs)) if all(sides) and len(sides) <= 8 else None


def _read_union(text: str, depth: int) -> Answer | None:
    parts = split_top(text, frozenset({"\\cup"}))
    return (
        Union(tuple(read(part, depth + 1) for part in parts))
        if 1 < len(parts) <= _MOST_PARTS and all(p.strip() for p in parts)
        else None
    )


_RAISED = re.compile(r"(\\begin.*\\end\s*\{\w+\*?\})\s*\^\s*\{?\s*(T|\\top|[2-5])\s*\}?", re.DOTALL)


def _read_matrix(text: str, depth: int) -> Answer | None:
    """A matrix that is the whole answer, perhaps in brackets; matrices side by side are multiplied
    out, small powers too.
    """
    if (raised := _RAISED.fullmatch(text)) is not None and isinstance(
        base := _read_matrix(raised[1], depth), Matrix
    ):
        return _raised(base, raised[2])
    if text.startswith("(") and text.endswith(")") and "\\begin" in text[:9]:
        text = text[1:-1].strip()
    found = list(_MATRIX.finditer(text))
    if not found or len(found) > 4 or _MATRIX.sub("", text).replace("\\cdot", "").strip():
        return None
    rows = _rows(found[0][1])
    for match in found[1:]:
        if rows is None or (rows := _multiplied(rows, _rows(match[1]))) is None:
            return None
    return None if rows is None else Matrix(rows)


def _raised(base: Matrix, exponent: str) -> Matrix | None:
    if exponent in ("T", "\\top"):
        return (
            Matrix(tuple(zip(*base.rows, strict=True)))
            if len({len(row) for row in base.rows}) == 1
            else None
        )
    rows: _Rows | None = base.rows
    for _ in range(int(exponent) - 1):
        rows = _multiplied(rows or (), base.rows)
    return None if rows is None else Matrix(rows)


_Rows = tuple[tuple[str, ...], ...]


def _rows(inside: str) -> _Rows | None:
    if "\\begin" in inside:
        return None
    rows = [
        row.strip()
        for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr\b", inside.replace("\\hline", ""))
    ]
    return tuple(tuple(entry.strip() for entry in row.split("&")) for row in rows if row)


def _multiplied(a: Sequence[Sequence[str]], b: Sequence[Sequence[str]] | None) -> _Rows | None:
    """The product, entry by entry as expressions; small matrices only."""
    if b is None or not a or not b or max(len(a), len(b), len(b[0])) > 6:
        return None
    if {len(line) for line in a} != {len(b)} or len({len(row) for row in b}) != 1:
        return None
    return tuple(
        tuple(
            "+".join(f"({x})*({row[j]})" for x, row in zip(line, b, strict=True))
            for j in range(len(b[0]))
        )
        for line in a
    )


_DETERMINANT = re.compile(
    r"\\begin\s*\{vmatrix\}(.*?)\\end\s*\{vmatrix\}|\|\s*\\begin\s*\{(?:array|matrix)\}\s*(?:\{[lcr|\s]*\})?(.*?)\\end\s*\{(?:array|matrix)\}\s*\|",
    re.DOTALL,
)


def expand_determinants(text: str) -> str:
    """Determinants of up to 3×3 written out as arithmetic."""
    return (
        _DETERMINANT.sub(
            lambda match: _determinant(_rows(match[1] or match[2] or "")) or match[0], text
        )
        if "\\begin" in text
        else text
    )


def _determinant(rows: Sequence[Sequence[str]] | None) -> str | None:
    if not rows or len(rows) > 3 or any(len(row) != len(rows) for row in rows):
        return None
    if len(rows[0]) == 1:
        return f"({''.join(rows[0])})"
    minors = [
        _determinant([[*row[:j], *row[j + 1 :]] for row in rows[1:]]) for j in range(len(rows))
    ]
    return (
        "("
        + "".join(
            f"{'-' if j % 2 else '+'}({rows[0][j]})*{minor}" for j, minor in enumerate(minors)
        )
        + ")"
    )


def _embraced(text: str) -> tuple[str, str, str] | None:
    """(left, inside, right) when one bracket pair embraces the whole text."""
    found = pieces(text)
    first, last = found[0][0].strip() if found else "", found[-1][0].strip() if found else ""
    if first not in _OPEN or last not in _CLOSE or found[0][1] != found[-1][1]:
        return None
    if any(level <= found[0][1] for _, level in found[1:-1]):
        return None
    return first, "".join(piece for piece, _ in found[1:-1]), last


def _read_brackets(text: str, depth: int) -> Answer | None:
    """Sets, tuples, intervals, vectors; brackets around a single thing are dropped."""
    found = _embraced(text)
    if found is None:
        return None
    left, inside, right = found
    inner = _read_list(inside, depth + 1)
    if inner is None and _THOUSANDS.fullmatch(
        inside.strip()
    ):  # inside brackets a comma separates: (1,234) is a pair
        inner = Many("list", tuple(Atom(part) for part in inside.strip().split(",")))
    parts = (
        inner.parts
        if isinstance(inner, Many)
        else (read(inside, depth + 1),)
        if inside.strip()
        else ()
    )
    if left in ("\\{", "{"):
        return (
            Many("set", parts, "{", "}")
            if left == "\\{" or len(parts) > 1
            else parts[0]
            if parts
            else None
        )
    if left == "\\langle":
        return Many("vector", parts, "<", ">")
    if (
        left == "[" == right.replace("]", "[")
        and len(parts) > 1
        and all(isinstance(part, Many) and part.left == "[" for part in parts)
    ):
        return Matrix(
            tuple(
                tuple(_plain(entry) for entry in part.parts)
                for part in parts
                if isinstance(part, Many)
            )
        )
    if left in ("(", "[") and right in (")", "]") and len(parts) > 1:
        return _spread(parts, left, right)
    if (left, right) in (("(", ")"), ("[", "]")) and len(parts) == 1 and "," not in inside:
        return parts[0]
    return None


def _plain(entry: Answer) -> str:
    return entry.text if isinstance(entry, Atom) else str(entry)


def _spread(parts: tuple[Answer, ...], left: str, right: str) -> Many:
    """`(±1, 2)` is the list of (1, 2) and (-1, 2)."""
    choices = [
        part.parts
        if isinstance(part, Many) and part.kind == "list" and part.left == "±"
        else (part,)
        for part in parts
    ]
    found = [Many("tuple", tuple(chosen), left, right) for chosen in islice(product(*choices), 64)]
    return found[0] if len(found) == 1 else Many("list", tuple(found))


_PLUS_MINUS = re.compile(r"\\(?:pm|mp)(?![A-Za-z])")


def _read_plus_minus(text: str, depth: int) -> Answer | None:
    """`1 ± √2` is the list of both values."""
    if _PLUS_MINUS.search(text) is None:
        return None
    upper = re.sub(r"\\pm(?![A-Za-z])", "+", re.sub(r"\\mp(?![A-Za-z])", "-", text))
    lower = re.sub(r"\\pm(?![A-Za-z])", "-", re.sub(r"\\mp(?![A-Za-z])", "+", text))
    return Many("list", (read(upper.strip(), depth + 1), read(lower.strip(), depth + 1)), "±")


_NAME_PARTS = re.compile(
    r"\^\s*(?:\{\s*-?1?\s*\}|\{?\s*\\prime\s*\}?|\\circ)|_\s*(?:\{[^{}]*\}|\w)|\\text\s*\{[^{}]*\}|\\[A-Za-z]+|'"
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
    core = _NAME_PARTS.sub(lambda match: "n" if match[0].startswith("\\") else "", side)
    core = re.sub(r"(?<=[A-Za-z])\s*\([^()]*\)", "", core)
    return (
        bool(core.strip())
        and re.fullmatch(r"[A-Za-z\s(){}\[\]|,:/]+", core) is not None
        and re.search(r"[A-Za-z]", core) is not None
    )
