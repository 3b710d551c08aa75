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
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "arccot", "sinh", "cosh", "tanh", "ln", "log", "lg",
    "exp", "sqrt", "arsinh", "asin", "tg", "ctg", "arctg", "arcctg", "arcsinh", "cis", "coth", "sech", "csch", "arcsec", "arccsc",
    "zeta", "Gamma", "acos", "atan", "abs", "floor", "ceil", "cbrt", "gcd", "max", "min", "lcm",
}  # fmt: skip
_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot"}
_RENAMED = {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "tg": "tan",
    "ctg": "cot",
    "arctg": "arctan",
    "arcctg": "arccot",
    "arcsinh": "arsinh",
}
CALLED = frozenset("fghFGH")  # letters that name functions where nothing says otherwise
_INSIDE = ("sin", "cos", "tan", "ln", "log", "sqrt", "arctan", "arcsin", "arccos")
_GREEK = set(
    re.findall(
        r"\w+",
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa "
        "lambda mu nu xi rho sigma tau upsilon phi varphi chi "
        "psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar varrho",
    )
)
_ACCENTS = {
    "vec",
    "hat",
    "bar",
    "overline",
    "overrightarrow",
    "widehat",
    "tilde",
    "mathbb",
    "mathcal",
    "mathfrak",
    "underline",
}
_MARKS = {"angle", "triangle", "square", "odot"}

_TOKEN = re.compile(
    r"\s*(?:(\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)|\\text\s*\{([^{}]*)\}|\\([A-Za-z]+)\*?|(\\[{}|\\])|([A-Za-z])|(\S))"
)
_WORD = re.compile(
    "|".join(
        sorted([*FUNCTIONS, "pi", "infty", "infinity", "theta", "inf", "oo"], key=len, reverse=True)
    )
)


def tokens(text: str) -> list[str]:
    """Numbers, letters, operators and commands; commands keep their backslash, names in `\\text{}`
    get a leading quote.
    """
    found: list[str] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        word = _WORD.match(text, position)
        inside = (
            found and found[-1].isalpha() and len(found[-1]) == 1 and text[position - 1].isalpha()
        )
        if word is not None and (not inside or word[0] in _INSIDE):
            found.append("\\" + word[0])
            position = word.end()
            continue
        match = _TOKEN.match(text, position)
        if match is None:
            raise Unsupported("token")
        found += (
            _named(match[2])
            if match[2] is not None
            else ["\\" + match[3] if match[3] else match[0].strip()]
        )
        position = match.end()
        if position < end and text[position] == " ":
            position += 1
        if len(found) > _MOST_TOKENS:
            raise Unsupported("too_long")
    return found


def _named(content: str) -> list[str]:
    """What `\\text{…}` holds: a number or single letter counts as itself, words are one name."""
    content = content.strip()
    if re.fullmatch(r"[A-Za-z]|[\d.,]*", content):
        return [content] if content else []
    return ["\\" + content] if content in FUNCTIONS else ["'" + content]


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
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1] if self._at <= len(self._tokens) else ""

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
            node = ("add", node, right if sign == "+" else ("neg", right))
        self._depth -= 1
        return node

    def _product(self) -> Node:
        node: Node = self._signed()
        while True:
            if _is_vector(node) and self._take("\\times"):
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
            sign = -sign if self._next() == "-" else sign
        node = self._power()
        return ("neg", node) if sign < 0 else node

    def _starts_factor(self) -> bool:
        token = self._peek()
        if not token or token in (
            "+",
            "-",
            "*",
            "/",
            "^",
            "_",
            ")",
            "]",
            "}",
            "\\}",
            ",",
            "=",
            "<",
            ">",
            "!",
            "'",
            "%",
            ":",
            ";",
            "&",
            "\\\\",
        ):
            return False
        if token == "|":
            return self._bars == 0
        return token not in (
            "\\rfloor",
            "\\rceil",
            "\\cdot",
            "\\times",
            "\\pm",
            "\\mp",
            "\\rangle",
            "\\|",
        )

    def _power(self) -> Node:
        base = self._postfix(self._primary())
        if self._take("^"):
            if self._take("\\circ"):
                return self._postfix(("deg", base))
            exponent = self._script()
            base = self._postfix(base if exponent == ("name", "prime") else ("pow", base, exponent))
            if self._take("^"):
                base = ("pow", base, self._script())
        return base

    def _script(self) -> Node:
        """What stands behind `^`: a group, or one signed token."""
        if self._peek() in ("-", "+"):
            sign = self._next()
            node = self._script()
            return ("neg", node) if sign == "-" else node
        if self._peek() == "{":
            return self._group("{", "}")
        if self._peek() in ("\\prime", "'"):
            self._next()
            return ("name", "prime")
        node = self._postfix(self._primary())
        return ("pow", node, self._script()) if self._take("^") else node

    def _postfix(self, node: Node) -> Node:
        while True:
            if self._take("!"):
                node = ("fact2" if self._take("!") else "fact", node)
            elif self._take("%"):
                node = ("div", node, ("num", "100"))
            elif self._peek() == "'" or self._peek() == "_":
                node = self._marked_name(node)
            else:
                return node

    def _marked_name(self, node: Node) -> Node:
        """Primes and subscripts belong to the name."""
        if node[0] != "name":
            raise Unsupported("subscript of a number")
        if self._next() == "'":
            return self._call(node[1] + "'") if self._peek() == "(" else ("name", node[1] + "'")
        return ("name", f"{node[1]}_{self._subscript()}")

    def _subscript(self) -> str:
        if not self._take("{"):
            return self._next()
        parts: list[str] = []
        while self._peek() not in ("}", ""):
            parts.append(self._next())
        self._expect("}")
        return "".join(parts)

    def _group(self, left: str, right: str) -> Node:
        bars, self._bars = self._bars, 0
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
        if token == "|":
            return self._bars_around("|")
        self._next()
        if not token:
            raise Unsupported("ends early")
        if token[0].isdecimal() or (token[0] == "." and len(token) > 1):
            return self._number(token)
        if token.startswith("\\"):
            return self._command(token[1:])
        if token.startswith("'") and len(token) > 1:
            return ("name", token)
        if token.isalpha():
            return self._letter(token)
        raise Unsupported(f"unexpected {token}")

    def _bars_around(self, bar: str) -> Node:
        self._next()
        self._bars += 1
        node = self._sum()
        self._expect(bar)
        self._bars -= 1
        return ("fn", "abs", node)

    def _number(self, token: str) -> Node:
        node: Node = ("num", token.replace(",", ""))
        if self._peek() == "\\frac" and "." not in token:
            start = self._at
            fraction = self._primary()
            if fraction[1][0] == fraction[2][0] == "num":  # 3\frac{1}{2} is a mixed number
                return ("add", node, fraction)
            self._at = start
        return node

    def _letter(self, letter: str) -> Node:
        if letter == "e":
            return ("const", "e")
        if letter == "i":
            return ("const", "i")
        if letter in self._calls and self._peek() == "(":
            return self._call(letter)
        return ("name", letter)

    def _call(self, name: str) -> Node:
        """`f(x, y)`: an unknown function of the values of its arguments."""
        self._expect("(")
        parts = [self._sum()]
        while self._take(","):
            parts.append(self._sum())
        self._expect(")")
        return ("call", name, *parts)

    def _command(self, name: str) -> Node:
        if name in ("pi",):
            return ("const", "pi")
        if name in ("infty", "infinity", "inf", "oo"):
            return ("const", "inf")
        if name in ("frac", "binom"):
            top, bottom = self._argument(), self._argument()
            return ("div", top, bottom) if name == "frac" else ("binom", top, bottom)
        if name == "sqrt":
            index = self._group("[", "]") if self._peek() == "[" else ("num", "2")
            return ("root", self._argument(), index)
        if name in FUNCTIONS:
            return self._function(_RENAMED.get(name, name))
        if name in ("lfloor", "lceil"):
            node = self._sum()
            self._expect("\\r" + name[1:])
            return ("fn", "floor" if name == "lfloor" else "ceil", node)
        if name == "Delta" and len(self._peek()) == 1 and self._peek().isalpha():
            return ("name", f"Delta {self._next()}")
        if name in _GREEK:
            name = "epsilon" if name == "varepsilon" else name
            return (
                self._call(name) if name in self._calls and self._peek() == "(" else ("name", name)
            )
        if name in _ACCENTS or name in _MARKS:
            return ("name", f"{name} {self._label()}")
        raise Unsupported(name)

    def _label(self) -> str:
        """The letters under an accent or behind an angle sign."""
        if self._peek() == "{":
            self._next()
            parts: list[str] = []
            while self._peek() not in ("}", ""):
                parts.append(self._next())
            self._expect("}")
            return "".join(parts)
        parts = []
        while len(self._peek()) == 1 and self._peek().isalpha():
            parts.append(self._next())
        return "".join(parts)

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
        """`\\sin^2 2x`, `\\log_2(8)`, `\\tan^{-1} 1`."""
        if name in ("gcd", "lcm", "max", "min"):
            return self._of_several(name)
        base = self._base() if name == "log" and self._take("_") else None
        exponent = self._script() if self._take("^") else None
        argument = self._function_argument()
        if exponent == ("neg", ("num", "1")) and name in _INVERSE:
            return ("fn", _INVERSE[name], argument)
        if name == "lg":
            base = ("num", "10")
        node: Node = ("log", argument, base) if base is not None else _applied(name, argument)
        return node if exponent is None else ("pow", node, exponent)

    def _of_several(self, name: str) -> Node:
        """`\\gcd(12, 18)`."""
        self._expect("(")
        parts = [self._sum()]
        while self._take(","):
            parts.append(self._sum())
        self._expect(")")
        return ("several", name, *parts)

    def _base(self) -> Node:
        if self._peek() == "{":
            return self._group("{", "}")
        token = self._peek()
        if len(token) > 1 and token.isdecimal():
            self._tokens[self._at : self._at + 1] = [token[0], token[1:]]
        return self._primary()

    def _function_argument(self) -> Node:
        if self._peek() == "(":
            return self._group("(", ")")
        if self._peek() == "-":
            self._next()
            return ("neg", self._function_argument())
        node = self._power()
        while (
            self._starts_factor()
            and self._peek() not in ("(", "|", "[")
            and self._peek().removeprefix("\\") not in FUNCTIONS
        ):
            node = ("mul", node, self._power())
        while (
            self._peek() == "/"
            and self._at + 1 < len(self._tokens)
            and self._tokens[self._at + 1].isdecimal()
            and node[0] in ("const", "mul")
        ):
            self._next()  # sin pi/6
            node = ("div", node, self._power())
        return node


_RECIPROCAL = {"coth": "tanh", "sech": "cosh", "csch": "sinh"}


def _applied(name: str, argument: Node) -> Node:
    if name in _RECIPROCAL:
        return ("div", ("num", "1"), ("fn", _RECIPROCAL[name], argument))
    if name in ("arcsec", "arccsc"):
        return ("fn", "arccos" if name == "arcsec" else "arcsin", ("div", ("num", "1"), argument))
    if name == "cis":
        return ("add", ("fn", "cos", argument), ("mul", ("const", "i"), ("fn", "sin", argument)))
    return ("fn", name, argument)


def _is_vector(node: Node) -> bool:
    return node[0] == "name" and str(node[1]).startswith(("vec ", "'"))


def readings(*texts: str) -> tuple[frozenset[str], ...]:
    """Which letters before a bracket are functions, the likelier reading first.

    f, g, h, F, G and H are, unless one also stands alone (mg(1-k) beside mg-mgk); any other letter
    is where it never stands alone and is applied twice in one text: T(n) - T(1).
    """
    called: list[set[str]] = []
    alone: set[str] = set()
    often: set[str] = set()
    at_zero: set[str] = set()  # I(0) is a value, never nothing
    for text in texts:
        try:
            found = [token.removeprefix("\\") for token in tokens(text)]
        except Unsupported:
            continue
        names = {
            token for token in found if (len(token) == 1 and token.isalpha()) or token in _GREEK
        }
        applied = [
            token
            for token, after in zip(found, [*found[1:], ""], strict=False)
            if after == "(" and token in names
        ]
        alone |= {
            token
            for token, after in zip(found, [*found[1:], ""], strict=False)
            if after != "(" and token in names
        }
        often |= {token for token in applied if applied.count(token) > 1}
        at_zero |= {
            a
            for a, b, c, d in zip(found, found[1:], found[2:], found[3:], strict=False)
            if a in names and [b, c, d] == ["(", "0", ")"]
        }
        called.append(set(applied))
    every = set().union(*called)
    likely = frozenset((every & CALLED) | (often - alone) | at_zero)
    fewer = likely - (alone - at_zero)
    return (likely,) if fewer == likely else (likely, fewer)


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
    return node[:2] == (kind, value) or any(
        has(part, kind, value) for part in node[1:] if isinstance(part, tuple)
    )
