"""A small parser for the mathematics that answers are made of: LaTeX or plain text → a tree of
nested tuples.

    parse(r"2\\sqrt{3}") == ("mul", ("num", "2"), ("sqrt", ("num", "3"), ("num", "2")))

It reads arithmetic, powers, roots, factorials, binomials, absolute values, floors, trigonometry,
logarithms, names with subscripts and calls. Everything else (integrals, sums, sets, relations)
raises Unsupported. Linear in the text, depth bounded: safe on any input.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

Node = tuple[Any, ...]

_MOST_DEPTH = 60
_MOST_TOKENS = 600


class Unsupported(Exception):
    """The text is no expression that this layer knows; a deeper layer may."""


FUNCTIONS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "tg", "ctg", "cis",
    "arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc", "asin", "acos", "atan", "arctg",
    "arcctg", "sinh", "cosh", "tanh", "coth", "sech", "csch", "arsinh", "arcsinh",
    "ln", "log", "lg", "exp", "sqrt", "cbrt", "zeta", "Gamma",
    "abs", "floor", "ceil", "gcd", "lcm", "max", "min",
}  # fmt: skip
_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot"}
_RENAMED = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot",
    "arctg": "arctan", "arcctg": "arccot", "arcsinh": "arsinh",
}  # fmt: skip
CALLED = frozenset("fghFGH")  # letters that name functions where nothing says otherwise
_INSIDE = ("sin", "cos", "tan", "ln", "log", "sqrt", "arctan", "arcsin", "arccos")
_GREEK_NAMES = """
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu
xi rho sigma tau upsilon phi varphi chi psi omega
Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar varrho
"""
_GREEK = frozenset(_GREEK_NAMES.split())
_ACCENTS = frozenset(
    ["vec", "hat", "bar", "overline", "overrightarrow", "widehat", "tilde", "underline"]
    + ["mathbb", "mathcal", "mathfrak"]
)
_MARKS = {"angle", "triangle", "square", "odot"}

_TOKEN = re.compile(
    r"\s*(?:(\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)|"
    r"\\text\s*\{([^{}]*)\}|\\([A-Za-z]+)\*?|(\\[{}|\\])|([A-Za-z])|(\S))"
)
_NAMES = [*FUNCTIONS, "pi", "infty", "infinity", "theta", "inf", "oo"]
_WORD = re.compile("|".join(sorted(_NAMES, key=len, reverse=True)))


def tokens(text: str) -> list[str]:
    """Numbers, letters, operators and commands; commands keep their backslash, names in `\\text{}`
    get a leading quote.
    """
    found: list[str] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        word = _WORD.match(text, position)
        if word is not None and (word[0] in _INSIDE or not _is_inside(text, position, found)):
            found.append("\\" + word[0])
            position = word.end()
            continue
        match = _TOKEN.match(text, position)
        if match is None:
            raise Unsupported("token")
        if match[2] is not None:
            found += text_tokens(match[2])
        elif match[3]:
            found.append("\\" + match[3])
        else:
            found.append(match[0].strip())
        position = match.end()
        if position < end and text[position] == " ":
            position += 1
        if len(found) > _MOST_TOKENS:
            raise Unsupported("too_long")
    return found


def _is_inside(text: str, position: int, found: list[str]) -> bool:
    """Whether a letter stands directly before: the `in` of `sin` begins no word."""
    if not found or len(found[-1]) != 1 or not found[-1].isalpha():
        return False
    return text[position - 1].isalpha()


def text_tokens(content: str) -> list[str]:
    """What `\\text{…}` holds: a number or single letter counts as itself, words are one name."""
    content = content.strip()
    if not content:
        return []
    if re.fullmatch(r"[A-Za-z]|[\d.,]*", content):
        return [content]
    if content in FUNCTIONS:
        return ["\\" + content]
    return ["'" + content]


class _Parser:
    """Precedence climbing over the tokens."""

    def __init__(self, found: list[str], calls: frozenset[str]) -> None:
        self._tokens = found
        self._calls = calls
        self._at = 0
        self._depth = 0
        self._bars = 0

    def whole(self) -> Node:
        node = self._sum()
        if self._at < len(self._tokens):
            raise Unsupported(f"unexpected {self._peek()}")
        return node

    def _peek(self) -> str:
        if self._at < len(self._tokens):
            return self._tokens[self._at]
        return ""

    def _next(self) -> str:
        self._at += 1
        if self._at <= len(self._tokens):
            return self._tokens[self._at - 1]
        return ""

    def _take(self, *wanted: str) -> bool:
        if self._peek() in wanted and self._peek():
            self._at += 1
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise Unsupported(f"want {token}")

    def _sum(self) -> Node:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise Unsupported("too_deep")
        node = self._product()
        while self._peek() in ("+", "-"):
            sign = self._next()
            right = self._product()
            if sign == "-":
                right = ("neg", right)
            node = ("add", node, right)
        self._depth -= 1
        return node

    def _product(self) -> Node:
        node: Node = self._signed()
        while True:
            if is_vector(node) and self._take("\\times"):
                node = ("call", "cross", node, self._signed())
            elif self._take("*", "\\cdot", "\\times", "\\bullet"):
                node = ("mul", node, self._signed())
            elif self._take("/"):
                node = ("div", node, self._signed())
            elif self._starts_factor():
                if self._peek()[0].isdecimal() and self._tokens[self._at - 1][-1].isdecimal():
                    raise Unsupported("two numbers side by side")
                node = ("mul", node, self._power())
            else:
                return node

    def _signed(self) -> Node:
        sign = 1
        while self._peek() in ("+", "-"):
            if self._next() == "-":
                sign = -sign
        node = self._power()
        if sign < 0:
            return ("neg", node)
        return node

    def _starts_factor(self) -> bool:
        token = self._peek()
        if not token or token in _STARTS_NO_FACTOR:
            return False
        if token == "|":
            return self._bars == 0
        return True

    def _power(self) -> Node:
        base = self._postfix(self._primary())
        if self._take("^"):
            if self._take("\\circ"):
                return self._postfix(("deg", base))
            exponent = self._script()
            if exponent != ("name", "prime"):
                base = ("pow", base, exponent)
            base = self._postfix(base)
            if self._take("^"):
                base = ("pow", base, self._script())
        return base

    def _script(self) -> Node:
        """What stands behind `^`: a group, or one signed token."""
        if self._peek() in ("-", "+"):
            sign = self._next()
            node = self._script()
            if sign == "-":
                return ("neg", node)
            return node
        if self._peek() == "{":
            return self._group("{", "}")
        if self._peek() in ("\\prime", "'"):
            self._next()
            return ("name", "prime")
        node = self._postfix(self._primary())
        if self._take("^"):
            return ("pow", node, self._script())
        return node

    def _postfix(self, node: Node) -> Node:
        while True:
            if self._take("!"):
                kind = "fact"
                if self._take("!"):
                    kind = "fact2"
                node = (kind, node)
            elif self._take("%"):
                node = ("div", node, ("num", "100"))
            elif self._peek() == "'" or self._peek() == "_":
                node = self.marked_name(node)
            else:
                return node

    def marked_name(self, node: Node) -> Node:
        """Primes and subscripts belong to the name."""
        if node[0] != "name":
            raise Unsupported("subscript of a number")
        name = node[1]
        if self._next() == "'":
            primed = f"{name}'"
            if self._peek() == "(":
                return self._call(primed)
            return ("name", primed)
        if self._take("{"):
            subscript = self._until_brace()
        else:
            subscript = self._next()
        return ("name", f"{name}_{subscript}")

    def _until_brace(self) -> str:
        """The tokens up to the closing brace, as one text."""
        parts: list[str] = []
        while self._peek() not in ("}", ""):
            parts.append(self._next())
        self._expect("}")
        return "".join(parts)

    def _group(self, left: str, right: str) -> Node:
        bars = self._bars
        self._bars = 0
        self._expect(left)
        node = self._sum()
        self._expect(right)
        self._bars = bars
        return node

    def _primary(self) -> Node:
        token = self._peek()
        for left, right in (("(", ")"), ("{", "}"), ("[", "]")):
            if token == left:
                return self._group(left, right)
        self._next()
        if not token:
            raise Unsupported("ends early")
        if token == "|":
            return self.absolute_value()
        if token[0].isdecimal() or (token[0] == "." and len(token) > 1):
            return self.number(token)
        if token.startswith("\\"):
            return self.command(token[1:])
        if token.startswith("'") and len(token) > 1:
            return ("name", token)
        if token.isalpha():
            return self.letter(token)
        raise Unsupported(f"unexpected {token}")

    def absolute_value(self) -> Node:
        """What stands behind an opening `|`, with the closing one."""
        self._bars += 1
        node = self._sum()
        self._expect("|")
        self._bars -= 1
        return ("fn", "abs", node)

    def number(self, token: str) -> Node:
        """A number; with a fraction of numbers behind it a mixed one, `3\\frac{1}{2}`."""
        node: Node = ("num", token.replace(",", ""))
        if self._peek() == "\\frac" and "." not in token:
            start = self._at
            fraction = self._primary()
            if fraction[1][0] == fraction[2][0] == "num":
                return ("add", node, fraction)
            self._at = start
        return node

    def letter(self, letter: str) -> Node:
        """A constant, a function that is called, or a name."""
        if letter in ("e", "i"):
            return ("const", letter)
        if letter in self._calls and self._peek() == "(":
            return self._call(letter)
        return ("name", letter)

    def _call(self, name: str) -> Node:
        """`f(x, y)`: an unknown function of the values of its arguments."""
        return ("call", name, *self._arguments())

    def _arguments(self) -> list[Node]:
        self._expect("(")
        parts = [self._sum()]
        while self._take(","):
            parts.append(self._sum())
        self._expect(")")
        return parts

    def command(self, name: str) -> Node:
        """What stands behind a backslash, with its arguments."""
        if name == "pi":
            return ("const", "pi")
        if name in ("infty", "infinity", "inf", "oo"):
            return ("const", "inf")
        if name in ("frac", "binom"):
            top = self._argument()
            bottom = self._argument()
            if name == "frac":
                return ("div", top, bottom)
            return ("binom", top, bottom)
        if name == "sqrt":
            index: Node = ("num", "2")
            if self._peek() == "[":
                index = self._group("[", "]")
            return ("root", self._argument(), index)
        if name in FUNCTIONS:
            return self._function(_RENAMED.get(name, name))
        if name in ("lfloor", "lceil"):
            node = self._sum()
            self._expect("\\r" + name[1:])
            return ("fn", name[1:], node)
        if name == "Delta" and len(self._peek()) == 1 and self._peek().isalpha():
            return ("name", f"Delta {self._next()}")
        if name in _GREEK:
            if name == "varepsilon":
                name = "epsilon"
            if name in self._calls and self._peek() == "(":
                return self._call(name)
            return ("name", name)
        if name in _ACCENTS or name in _MARKS:
            return ("name", f"{name} {self.label()}")
        raise Unsupported(name)

    def label(self) -> str:
        """The letters under an accent or behind an angle sign."""
        if self._take("{"):
            return self._until_brace()
        letters: list[str] = []
        while len(self._peek()) == 1 and self._peek().isalpha():
            letters.append(self._next())
        return "".join(letters)

    def _argument(self) -> Node:
        """The argument of a command: a group, or the next single token (`\\frac12` has two digits
        as two arguments).
        """
        if self._peek() == "{":
            return self._group("{", "}")
        if self._peek() == "(":
            return self._group("(", ")")
        token = self._peek()
        if len(token) > 1 and token.isdecimal():
            self._tokens[self._at : self._at + 1] = list(token)
        if token[:1].isdecimal():
            return ("num", self._next().replace(",", ""))
        return self._primary()

    def _function(self, name: str) -> Node:
        """`\\sin^2 2x`, `\\log_2(8)`, `\\tan^{-1} 1`, `\\gcd(12, 18)`."""
        if name in ("gcd", "lcm", "max", "min"):
            return ("several", name, *self._arguments())
        base = None
        if name == "log" and self._take("_"):
            base = self.base_of_log()
        exponent = None
        if self._take("^"):
            exponent = self._script()
        argument = self._function_argument()
        if exponent == ("neg", ("num", "1")) and name in _INVERSE:
            return ("fn", _INVERSE[name], argument)
        if name == "lg":
            base = ("num", "10")
        node: Node
        if base is None:
            node = applied(name, argument)
        else:
            node = ("log", argument, base)
        if exponent is None:
            return node
        return ("pow", node, exponent)

    def base_of_log(self) -> Node:
        """The base of a logarithm: a group, or one digit; `\\log_28` is log₂ 8."""
        if self._peek() == "{":
            return self._group("{", "}")
        token = self._peek()
        if len(token) > 1 and token.isdecimal():
            self._tokens[self._at : self._at + 1] = [token[0], token[1:]]
        return self._primary()

    def _function_argument(self) -> Node:
        if self._peek() == "(":
            return self._group("(", ")")
        if self._take("-"):
            return ("neg", self._function_argument())
        node = self._power()
        while self._starts_factor() and self._peek() not in ("(", "|", "["):
            if self._peek().removeprefix("\\") in FUNCTIONS:
                break
            node = ("mul", node, self._power())
        while self._is_divided_by_number() and node[0] in ("const", "mul"):
            self._next()  # sin pi/6
            node = ("div", node, self._power())
        return node

    def _is_divided_by_number(self) -> bool:
        if self._peek() != "/" or self._at + 1 >= len(self._tokens):
            return False
        return self._tokens[self._at + 1].isdecimal()


_RECIPROCAL = {"coth": "tanh", "sech": "cosh", "csch": "sinh"}
_RECIPROCAL_INVERSE = {"arcsec": "arccos", "arccsc": "arcsin"}
_OPERATORS = r"""
+ - * / ^ _ ) ] } \} , = < > ! ' % : ; & \\ \rfloor \rceil \cdot \times \pm \mp \rangle \|
"""
_STARTS_NO_FACTOR = frozenset(_OPERATORS.split())


def applied(name: str, argument: Node) -> Node:
    """A function of an argument; those that others define are written out."""
    if name in _RECIPROCAL:
        return ("div", ("num", "1"), ("fn", _RECIPROCAL[name], argument))
    if name in _RECIPROCAL_INVERSE:
        return ("fn", _RECIPROCAL_INVERSE[name], ("div", ("num", "1"), argument))
    if name == "cis":
        imaginary = ("mul", ("const", "i"), ("fn", "sin", argument))
        return ("add", ("fn", "cos", argument), imaginary)
    return ("fn", name, argument)


def is_vector(node: Node) -> bool:
    """A name under an arrow, or in words: × between two of them is the cross product."""
    return node[0] == "name" and str(node[1]).startswith(("vec ", "'"))


def readings(*texts: str) -> tuple[frozenset[str], ...]:
    """Which letters before a bracket are functions, the likelier reading first.

    f, g, h, F, G and H are, unless one also stands alone (mg(1-k) beside mg-mgk); any other letter
    is where it never stands alone and is applied twice in one text: T(n) - T(1).
    """
    called: set[str] = set()
    alone: set[str] = set()
    often: set[str] = set()
    at_zero: set[str] = set()  # I(0) is a value, never nothing
    for text in texts:
        try:
            found = tokens(text)
        except Unsupported:
            continue
        called_here: set[str] = set()
        for i, token in enumerate(found):
            name = token.removeprefix("\\")
            is_letter = len(name) == 1 and name.isalpha()
            if not is_letter and name not in _GREEK:
                continue
            if found[i + 1 : i + 2] != ["("]:
                alone.add(name)
                continue
            if name in called_here:
                often.add(name)
            called_here.add(name)
            if found[i + 2 : i + 4] == ["0", ")"]:
                at_zero.add(name)
        called |= called_here
    likely = frozenset((called & CALLED) | (often - alone) | at_zero)
    fewer = likely - (alone - at_zero)
    if fewer == likely:
        return (likely,)
    return (likely, fewer)


@lru_cache(maxsize=8192)
def parse(text: str, calls: frozenset[str] = CALLED) -> Node:
    """The tree of an expression; letters in `calls` before a bracket are functions. Raises
    Unsupported.
    """
    found = tokens(text)
    if not found:
        raise Unsupported("empty")
    try:
        return _Parser(found, calls).whole()
    except RecursionError:
        raise Unsupported("too_deep") from None


def names_in(node: Node) -> set[str]:
    """The free names of a tree."""
    if node[0] == "name":
        return {node[1]}
    return set().union(*(names_in(part) for part in node[1:] if isinstance(part, tuple)))


def has(node: Node, kind: str, value: str) -> bool:
    """Whether a node of this kind with this first field stands anywhere in the tree."""
    if node[:2] == (kind, value):
        return True
    return any(has(part, kind, value) for part in node[1:] if isinstance(part, tuple))
