"""A small reader of LaTeX formulas that owes the grader nothing: a tree that is changed, written
again, and given a value.

    >>> tree = read_formula(r"\\frac{T_{\\text{eff}}}{\\sqrt{2}}")
    >>> write(tree)
    '\\\\frac{T_{\\\\text{eff}}}{\\\\sqrt{2}}'

`surely_different` and `surely_equal` compare values at real and at whole points. What is ambiguous
to a reader (`1/2x`), or not known here, raises Unreadable.
"""

from __future__ import annotations

import cmath
import hashlib
import math
import re
from dataclasses import dataclass, replace

GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "rho",
    "sigma",
    "tau",
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Sigma",
    "Phi",
    "Psi",
    "Omega",
    "hbar",
    "ell",
]
FUNCTIONS = [
    "sin",
    "cos",
    "tan",
    "cot",
    "sec",
    "csc",
    "sinh",
    "cosh",
    "tanh",
    "ln",
    "log",
    "exp",
    "arcsin",
    "arccos",
    "arctan",
]
_SPACING = {"\\left", "\\right", "\\,", "\\;", "\\!", "\\:", "\\ ", "\\quad", "\\displaystyle"}
_SPACING |= {"$", "~", "\\big", "\\Big", "\\bigl", "\\bigr", "\\limits"}
_TOKEN = re.compile(
    r"\\[A-Za-z]+|\\.|\d+(?:\.\d*)?[eE][+-]?\d{1,3}(?!\d)|\d+(?:\.\d+)?|\.\d+|[A-Za-z]|\S"
)
_WORD = re.compile(
    r"\\(?:text|mathrm|operatorname|textrm|mathit)\s*\{\s*([A-Za-z][A-Za-z ]*?)\s*\}"
)
_NAMED = {"erf", "sgn", "Var", "Re", "Im"}


class Unreadable(ValueError):
    """A formula that this reader does not know, or that can be read in two ways."""


@dataclass(frozen=True)
class Node:
    """One part of a formula. `op`: num, sym, neg, add, mul, frac, div, pow, root, func, app, fact,
    abs, floor, ceil, binom; `text` is the digits, the symbol as written, or the function's name.
    """

    op: str
    args: tuple[Node, ...] = ()
    text: str = ""


def number(value: int | str) -> Node:
    """The tree of a whole number or a decimal."""
    text = str(value)
    if text.startswith("-"):
        return Node("neg", (number(text[1:]),))
    return Node("num", (), text)


def symbol(text: str) -> Node:
    """The tree of a letter, a Greek letter or a constant."""
    return Node("sym", (), text)


def read_formula(latex: str) -> Node:
    """The tree of a formula. Raises Unreadable."""
    reader = _Reader(latex)
    tree = reader.sum()
    if reader.peek():
        raise Unreadable(f"{latex}: stops at {reader.peek()}")
    return tree


class _Reader:
    """Recursive descent over the tokens of one formula."""

    def __init__(self, latex: str) -> None:
        self._words: list[str] = []
        marked = _WORD.sub(self._mark, latex.replace("\\dfrac", "\\frac"))
        marked = marked.replace("\\tfrac", "\\frac").replace("\\operatorname", "")
        tokens = _TOKEN.findall(marked)
        self._tokens = [token for token in tokens if token not in _SPACING]
        self._at = 0

    def _mark(self, match: re.Match[str]) -> str:
        self._words.append(match[0])
        return f"\\@{len(self._words) - 1}@"

    def peek(self) -> str:
        """The next token, empty at the end."""
        if self._at < len(self._tokens):
            return self._tokens[self._at]
        return ""

    def take(self, wanted: str = "") -> str:
        """The next token, which must be the one wanted."""
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise Unreadable(f"{wanted} wanted, found {token}")
        self._at += 1
        return token

    def sum(self) -> Node:
        """Terms joined by + and -."""
        terms: list[Node] = []
        sign = "+"
        if self.peek() in ("+", "-"):
            sign = self.take()
        while True:
            term = self.product()
            if sign == "-":
                term = Node("neg", (term,))
            terms.append(term)
            if self.peek() not in ("+", "-"):
                break
            sign = self.take()
        if len(terms) == 1:
            return terms[0]
        return Node("add", tuple(terms))

    def product(self) -> Node:
        """Factors beside each other, joined by a sign of multiplication, or divided by a slash."""
        factors = [self.power()]
        divided = False
        while True:
            token = self.peek()
            if token in ("*", "\\cdot", "\\times"):
                self.take()
                factors.append(self.power())
            elif token == "/":
                self.take()
                whole = _product(factors)
                factors = [Node("div", (whole, self.power()))]
                divided = True
            elif self._starts_factor(token):
                if divided:
                    raise Unreadable("a factor beside a slash")
                if token[0].isdigit() and factors[-1].op == "num":
                    raise Unreadable("two numbers beside each other")
                if token[0].isdigit() and factors[-1].op == "frac":
                    raise Unreadable("a number beside a fraction")
                if token == "\\frac" and factors[-1].op == "num":
                    raise Unreadable("a mixed number")
                factors.append(self.power())
            else:
                return _product(factors)

    def _starts_factor(self, token: str) -> bool:
        if not token or token in ("+", "-", ")", "]", "}", "|", ",", "=", "<", ">", "\\}", "/"):
            return False
        if token[0].isalnum() or token in ("(", "{", "[", ".") or token == "\\@":
            return True
        if token in ("\\frac", "\\sqrt", "\\pi", "\\binom", "\\lfloor", "\\lceil", "\\dot"):
            return True
        return token[1:] in GREEK or token[1:] in FUNCTIONS

    def power(self) -> Node:
        """An atom with what stands behind it: an exponent, a factorial."""
        base = self.atom()
        while self.peek() in ("^", "!"):
            if self.take() == "!":
                base = Node("fact", (base,))
                continue
            if re.fullmatch(r"\d{2,}", self.peek()):
                raise Unreadable(f"{self.peek()} as an exponent without braces")
            exponent = self._argument()
            base = Node("pow", (base, exponent))
        return base

    def _argument(self) -> Node:
        """What stands behind ^ or a command: a group, or one character of it."""
        if self.peek() == "{":
            self.take()
            inner = self.sum()
            self.take("}")
            return inner
        token = self.peek()
        if token[:1].isdigit() and len(token) > 1:
            if "." in token:
                raise Unreadable(f"{token} behind a command")
            self._tokens[self._at : self._at + 1] = [token[0], token[1:]]
        return self.atom()

    def atom(self) -> Node:
        """A number, a symbol, a group, a function."""
        token = self.take()
        if token[0] in "0123456789" or (token[0] == "." and len(token) > 1):
            return Node("num", (), token)
        if token in ("(", "[", "{"):
            inner = self.sum()
            closing = {"(": ")", "[": "]", "{": "}"}[token]
            self.take(closing)
            return inner
        if token == "|":
            inner = self.sum()
            self.take("|")
            return Node("abs", (inner,))
        if token in ("\\lfloor", "\\lceil"):
            inner = self.sum()
            self.take(token.replace("l", "r", 1))
            return Node(token[2:], (inner,))
        if token in ("\\frac", "\\binom"):
            above = self._argument()
            return Node(token[1:], (above, self._argument()))
        if token == "\\sqrt":
            index = number(2)
            if self.peek() == "[":
                self.take()
                index = self.sum()
                self.take("]")
            return Node("root", (self._argument(), index))
        if token[1:] in FUNCTIONS and token[0] == "\\":
            return self._function(token[1:])
        if token == "\\@":
            return self._worded()
        if token == "\\dot":
            self.take("{")
            inner = self.take()
            self.take("}")
            return self._subscripted(f"\\dot{{{inner}}}")
        if token == "\\pi" or token[1:] in GREEK or re.fullmatch("[A-Za-z]", token):
            return self._subscripted(token)
        raise Unreadable(f"unknown: {token}")

    def _worded(self) -> Node:
        """A word in a formula: a symbol, or a function if it is known as one."""
        word = self._words[int(self.take())]
        self.take("@")
        bare = re.sub(r"\\[a-z]+\s*\{\s*|\s*\}", "", word)
        if bare in _NAMED:
            self.take("(")
            inner = self.sum()
            self.take(")")
            return Node("app", (inner,), word)
        return self._subscripted(word)

    def _subscripted(self, base: str) -> Node:
        text = base
        while self.peek() in ("_", "'"):
            if self.take() == "'":
                text += "'"
                continue
            text += f"_{{{self._raw()}}}"
        if self.peek() != "(" or base.startswith("\\text"):
            return symbol(text)
        inside = self._tokens[self._at + 1 : self._at + 3]
        if base in "fghFGH" or (len(inside) == 2 and inside[1] == ")"):
            self.take()
            inner = self.sum()
            self.take(")")
            return Node("app", (inner,), text)
        return symbol(text)

    def _raw(self) -> str:
        """A subscript as it is written, its words put back."""
        if self.peek() != "{":
            token = self.take()
            if token == "\\@":
                raise Unreadable("a word as a subscript without braces")
            return token
        self.take()
        parts: list[str] = []
        while self.peek() != "}":
            token = self.take()
            if token in ("{", "_", "^"):
                raise Unreadable("a subscript with a subscript")
            if token == "\\@":
                token = self._words[int(self.take())]
                self.take("@")
            elif token[0] == "\\" and len(token) > 2:
                token += " "
            parts.append(token)
        self.take("}")
        return "".join(parts).strip()

    def _function(self, name: str) -> Node:
        exponent: Node | None = None
        base: Node | None = None
        while self.peek() in ("^", "_"):
            if self.take() == "^":
                exponent = self._argument()
            else:
                base = self._argument()
        if base is not None and name != "log":
            raise Unreadable(f"{name} with a subscript")
        if self.peek() in ("(", "{"):
            argument = self.atom()
            if self.peek() in ("^", "!"):
                raise Unreadable("a power behind a function's brackets")
        else:
            factors = [self.power()]
            while self._continues_argument():
                factors.append(self.power())
            argument = _product(factors)
        args = (argument,)
        if base is not None:
            args = (argument, base)
        tree = Node("func", args, name)
        if exponent is not None:
            if exponent.op == "neg":
                raise Unreadable(f"{name} to a negative power")
            tree = Node("pow", (tree, exponent))
        return tree

    def _continues_argument(self) -> bool:
        token = self.peek()
        unclear = token in ("(", "\\frac", "/", "\\sqrt") or token[1:] in FUNCTIONS
        if token and unclear:
            raise Unreadable("a function whose argument has no clear end")
        return self._starts_factor(token)


def _product(factors: list[Node]) -> Node:
    if len(factors) == 1:
        return factors[0]
    return Node("mul", tuple(factors))


def written_symbols(tree: Node) -> set[str]:
    """All symbols and named functions of a formula, as they are written."""
    found: set[str] = set()
    if tree.op in ("sym", "app"):
        found.add(tree.text)
    for part in tree.args:
        found |= written_symbols(part)
    return found


def nodes(tree: Node, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Node]]:
    """Every node with the way to it."""
    found = [(path, tree)]
    for index, part in enumerate(tree.args):
        found += nodes(part, (*path, index))
    return found


def put(tree: Node, path: tuple[int, ...], new: Node) -> Node:
    """The formula with another node at the end of the way."""
    if not path:
        return new
    args = list(tree.args)
    args[path[0]] = put(args[path[0]], path[1:], new)
    return replace(tree, args=tuple(args))


# ---------------------------------------------------------------- writing


@dataclass(frozen=True)
class Style:
    """How a formula is written; each field is a habit of some writers."""

    frac: str = "\\frac"  # \dfrac, \tfrac, over, /
    dot: str = ""  # \cdot, \times, * between factors
    left_right: bool = False
    space: str = ""  # around + and -
    short_scripts: bool = False  # x^2 for x^{2}
    half_power: bool = False  # x^{1/2} for \sqrt{x}
    function_brackets: bool = True


PLAIN = Style()
_LEVEL = {"add": 1, "neg": 1, "mul": 2, "div": 2, "pow": 4, "fact": 4}


def write(tree: Node, style: Style = PLAIN) -> str:
    """The formula in LaTeX."""
    match tree.op:
        case "num" | "sym":
            return tree.text
        case "neg":
            return "-" + _within(tree.args[0], 2, style)
        case "add":
            return _written_sum(tree, style)
        case "mul":
            return _written_product(tree, style)
        case "div":
            above = _within(tree.args[0], 2, style)
            return f"{above}/{_within(tree.args[1], 4, style)}"
        case "frac":
            return _written_fraction(tree, style)
        case "pow":
            return f"{_base(tree.args[0], style)}^{_script(tree.args[1], style)}"
        case "root":
            return _written_root(tree, style)
        case "func":
            return _written_function(tree, style)
        case "app":
            return f"{tree.text}{_bracketed(tree.args[0], style)}"
        case "fact":
            return f"{_base(tree.args[0], style)}!"
        case "abs":
            return f"|{write(tree.args[0], style)}|"
        case "floor" | "ceil":
            return f"\\l{tree.op} {write(tree.args[0], style)} \\r{tree.op}"
        case "binom":
            return f"\\binom{{{write(tree.args[0], style)}}}{{{write(tree.args[1], style)}}}"
        case other:
            raise AssertionError(other)


def _written_sum(tree: Node, style: Style) -> str:
    text = write(tree.args[0], style)
    if tree.args[0].op == "add":
        text = _bracketed(tree.args[0], style)
    for term in tree.args[1:]:
        sign, inner = "+", term
        if term.op == "neg":
            sign, inner = "-", term.args[0]
        text += f"{style.space}{sign}{style.space}{_within(inner, 2, style)}"
    return text


def _written_product(tree: Node, style: Style) -> str:
    text = _within(tree.args[0], 2, style)
    for factor in tree.args[1:]:
        piece = _within(factor, 3, style)
        joint = style.dot
        if joint in ("", "\\,") and re.match(r"[\d.]", piece):
            joint = "\\cdot "
        if not joint and piece.startswith("\\frac") and text[-1:].isdigit():
            joint = "\\cdot "
        if not joint and piece.startswith("(") and re.search(r"[A-Za-z}]$", text):
            joint = "\\cdot "
        if not joint and re.search(r"\\[A-Za-z]+$", text) and piece[:1].isalpha():
            joint = " "
        text += joint + piece
    return text


def _written_fraction(tree: Node, style: Style) -> str:
    above, below = tree.args
    if style.frac == "/":
        return f"{_within(above, 3, style)}/{_within(below, 4, style)}"
    if style.frac == "over":
        return f"{{{write(above, style)} \\over {write(below, style)}}}"
    return f"{style.frac}{{{write(above, style)}}}{{{write(below, style)}}}"


def _written_root(tree: Node, style: Style) -> str:
    radicand, index = tree.args
    if style.half_power:
        return f"{_base(radicand, style)}^{{1/{write(index, style)}}}"
    if index == number(2):
        return f"\\sqrt{{{write(radicand, style)}}}"
    return f"\\sqrt[{write(index, style)}]{{{write(radicand, style)}}}"


def _written_function(tree: Node, style: Style) -> str:
    name = f"\\{tree.text}"
    if len(tree.args) > 1:
        name += f"_{{{write(tree.args[1], style)}}}"
    argument = tree.args[0]
    if not style.function_brackets and argument.op in ("num", "sym", "frac", "root"):
        return f"{name} {write(argument, style)}"
    return f"{name}{_bracketed(argument, style)}"


def _bracketed(tree: Node, style: Style) -> str:
    if style.left_right:
        return f"\\left({write(tree, style)}\\right)"
    return f"({write(tree, style)})"


def _within(tree: Node, level: int, style: Style) -> str:
    """The part, in brackets where it binds less than its surroundings."""
    own = _LEVEL.get(tree.op, 5)
    if tree.op == "frac" and style.frac == "/":
        own = 2
    if own < level or (own == 2 and level == 2 and tree.op == "neg"):
        return _bracketed(tree, style)
    return write(tree, style)


def _base(tree: Node, style: Style) -> str:
    scientific = tree.op == "num" and "e" in tree.text
    if tree.op in ("num", "sym", "abs", "floor", "ceil", "app") and not scientific:
        return write(tree, style)
    return _bracketed(tree, style)


def _script(tree: Node, style: Style) -> str:
    text = write(tree, style)
    if style.short_scripts and len(text) == 1:
        return text
    return f"{{{text}}}"


# ---------------------------------------------------------------- values


@dataclass(frozen=True)
class Point:
    """Where a formula is given a value: `whole` points give symbols whole numbers."""

    seed: int
    whole: bool
    constants: bool = True  # e and i are the constants, not letters

    def value(self, key: str) -> complex:
        """The value of a symbol here."""
        if key == "\\pi":
            return complex(math.pi)
        if self.constants and key in ("e", "i"):
            return {"e": complex(math.e), "i": 1j}[key]
        digest = hashlib.sha256(f"{self.seed} {key}".encode()).digest()
        drawn = int.from_bytes(digest[:6], "big")
        if self.whole:
            return complex(2 + drawn % 9)
        return complex(0.4 + 2.3 * (drawn / 2**48))


POINTS = (
    Point(1, whole=False),
    Point(2, whole=False),
    Point(3, whole=False, constants=False),
    Point(4, whole=True),
    Point(5, whole=True),
    Point(6, whole=True),
)


def symbol_key(text: str) -> str:
    """A symbol without the manner of writing: `T_{\\mathrm{eff}}` is `T_{\\text {eff}}`."""
    bare = re.sub(r"\\(?:text|mathrm|operatorname|textrm|mathit)\s*\{([^}]*)\}", r"\1", text)
    return re.sub(r"[{}\s]", "", bare)


def value(tree: Node, point: Point) -> complex | None:
    """The value at a point; None where there is none or it is too large to compute."""
    try:
        found = _value(tree, point)
    except (ZeroDivisionError, OverflowError, ValueError):
        return None
    if cmath.isfinite(found) and abs(found) < 1e250:
        return found
    return None


def _value(tree: Node, point: Point) -> complex:
    match tree.op:
        case "num":
            return complex(float(tree.text))
        case "sym":
            return point.value(symbol_key(tree.text))
        case "app":
            inner = _value(tree.args[0], point)
            return point.value(f"{symbol_key(tree.text)} of {inner:.6e}")
        case "neg":
            return -_value(tree.args[0], point)
        case "add":
            return sum((_value(term, point) for term in tree.args), start=0j)
        case "mul":
            return math.prod((_value(factor, point) for factor in tree.args), start=1 + 0j)
        case "frac" | "div":
            return _value(tree.args[0], point) / _value(tree.args[1], point)
        case "pow":
            return _power(_value(tree.args[0], point), _value(tree.args[1], point))
        case "root":
            return _power(_value(tree.args[0], point), 1 / _value(tree.args[1], point))
        case "func":
            return _function_value(tree, point)
        case "abs":
            return complex(abs(_value(tree.args[0], point)))
        case "fact":
            return complex(math.gamma(_value(tree.args[0], point).real + 1))
        case "floor" | "ceil":
            inner = round(_value(tree.args[0], point).real, 9)
            return complex(getattr(math, tree.op)(inner))
        case "binom":
            above = _value(tree.args[0], point).real
            below = _value(tree.args[1], point).real
            parts = math.gamma(below + 1) * math.gamma(above - below + 1)
            return complex(math.gamma(above + 1) / parts)
        case other:
            raise AssertionError(other)


def _power(base: complex, exponent: complex) -> complex:
    if abs(exponent) > 1e4:
        raise OverflowError
    return base**exponent


def _function_value(tree: Node, point: Point) -> complex:
    inner = _value(tree.args[0], point)
    match tree.text:
        case "ln":
            return cmath.log(inner)
        case "log":
            base = complex(10)
            if len(tree.args) > 1:
                base = _value(tree.args[1], point)
            return cmath.log(inner) / cmath.log(base)
        case "cot":
            return 1 / cmath.tan(inner)
        case "sec":
            return 1 / cmath.cos(inner)
        case "csc":
            return 1 / cmath.sin(inner)
        case "arcsin" | "arccos" | "arctan":
            return getattr(cmath, "a" + tree.text[3:])(inner)
        case name:
            return getattr(cmath, name)(inner)


def surely_different(one: Node, other: Node, tolerance: float = 1e-4) -> bool:
    """Whether the values differ clearly at every point where both have one, at two or more of the
    real and of the whole points.
    """
    if _whole_number(one) is not None and _whole_number(other) is not None:
        return _whole_number(one) != _whole_number(other)
    counts = {True: 0, False: 0}
    for point in POINTS:
        a, b = value(one, point), value(other, point)
        if a is None and b is None:
            continue
        if a is None or b is None:
            return False
        if abs(a - b) <= tolerance * max(abs(a), abs(b)) or abs(a - b) < 1e-300:
            return False
        counts[point.whole] += 1
    return min(counts.values()) >= 2


def surely_equal(one: Node, other: Node) -> bool:
    """Whether the values agree to nine places at four or more points, and at all that have one."""
    agreeing = 0
    for point in POINTS:
        a, b = value(one, point), value(other, point)
        if a is None and b is None:
            continue
        if a is None or b is None or abs(a - b) > 1e-9 * max(abs(a), abs(b), 1e-300):
            return False
        agreeing += 1
    return agreeing >= 4


def _whole_number(tree: Node) -> int | None:
    if tree.op == "neg":
        inner = _whole_number(tree.args[0])
        if inner is None:
            return None
        return -inner
    if tree.op == "num" and tree.text.isdigit():
        return int(tree.text)
    return None
