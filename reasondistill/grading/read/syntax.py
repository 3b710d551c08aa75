"""A small parser for the mathematics that answers are made of: LaTeX or plain text → a tree of
nested tuples.

    parse(r"2\\sqrt{3}") == ("mul", ("num", "2"), ("sqrt", ("num", "3"), ("num", "2")))

It reads arithmetic, powers, roots, factorials, binomials, absolute values, floors, trigonometry,
logarithms, names with subscripts, calls, and operators of which only the name is known: ∩, ⇒, ∘.
A word in `\\text{}` is a name, or a function before a bracket; several words are prose. Everything
else (integrals, sums, sets, equations) raises Unsupported. Linear in the text, depth bounded: safe
on any input.
"""

from __future__ import annotations

import re
from collections.abc import Callable
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
# Functions of which only the name is known; they need no bracket behind them.
_OPERATOR_NAMES = """
sgn sign erf erfc erfi sinc Var Cov Tr tr det rank dim ker arg deg diag span Re Im Pr Li Si Ci Ei
adj vol rot curl div grad arcsgn hom End Aut Gal ord
"""
_NAMED_OPERATORS = frozenset(_OPERATOR_NAMES.split())
# Words that say what is done with what stands beside them: no names.
_CONNECTING_WORDS = """
mod rem choose divides implies and or of to by from over minus plus times than in if when is not
per for with xor nand nor iff negative twice thrice half double triple squared cubed factorial
least most about approximately exactly only all no any every each some except without are be
where such that as on at up down into modulo percent equals equal
"""
_CONNECTING = frozenset(_CONNECTING_WORDS.split())
CALLED = frozenset("fghFGH")  # letters that name functions where nothing says otherwise
_INSIDE = ("sin", "cos", "tan", "ln", "log", "sqrt", "arctan", "arcsin", "arccos")
_GREEK_NAMES = """
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu
xi rho sigma tau upsilon phi varphi chi psi omega
Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar varrho
"""
GREEK = frozenset(_GREEK_NAMES.split())
_ACCENTS = frozenset(
    ["vec", "hat", "bar", "overline", "overrightarrow", "widehat", "tilde", "underline"]
    + ["mathbb", "mathcal", "mathfrak", "mathscr", "dot", "ddot", "check", "breve", "mathring"]
)
_MARKS = {"angle", "triangle", "square", "odot"}

_TOKEN = re.compile(
    r"\s*(?:(\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)|"
    r"\\text\s*\{([^{}]*)\}|\\([A-Za-z]+)\*?|(\\[{}|\\])|([A-Za-z])|(\S))"
)
# The end of 1e3. With a sign in it, 2e-3 may mean Euler's number.
_POWER_OF_TEN = re.compile(r"[eE](\d{1,3})(?![\d.,^!])")
_NAMES = [*FUNCTIONS, "pi", "infty", "infinity", "theta", "inf", "oo"]
_WORD = re.compile("|".join(sorted(_NAMES, key=len, reverse=True)))
_NAMED_CALL = re.compile(r"(?:" + "|".join(sorted(_NAMED_OPERATORS)) + r")(?=\()")
_NAME_IN_TEXT = re.compile(r"[^\W\d_][\w'’]*(?:-[^\W\d_]\w*)*")


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
        named = _NAMED_CALL.match(text, position)
        if named is not None and not _is_inside(text, position, found):
            found.append("'" + named[0])
            position = named.end()
            continue
        match = _TOKEN.match(text, position)
        if match is None:
            raise Unsupported("token")
        exponent = None
        if match[1]:
            exponent = _POWER_OF_TEN.match(text, match.end())
        if exponent is not None:
            found += [match[1], "\\cdot", "10", "^", "{", exponent[1], "}"]
            position = exponent.end()
            continue
        if match[2] is not None and is_label(found):
            found.append("'" + " ".join(match[2].split()))
        elif match[2] is not None:
            is_at_edge = not found or match.end() >= end
            found += text_tokens(match[2], is_at_edge=is_at_edge)
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


def is_label(found: list[str]) -> bool:
    """Whether what comes next stands in a subscript, where words are part of a symbol."""
    return found[-1:] == ["_"] or found[-2:] == ["_", "{"]


def text_tokens(content: str, *, is_at_edge: bool = False) -> list[str]:
    """What `\\text{…}` holds: a number or single letter counts as itself, a word is a name. Prose
    raises Unsupported; so does a word with blanks around it that stands between two others.
    """
    bare = content.strip()
    if not bare:
        return []
    if re.fullmatch(r"[A-Za-z]|[\d.,]*", bare):
        return [bare]
    if bare in FUNCTIONS:
        return ["\\" + bare]
    if "_" in bare or "^" in bare:
        return tokens(bare)
    if _NAME_IN_TEXT.fullmatch(bare) is None or bare.lower() in _CONNECTING:
        raise Unsupported("words")
    if bare != content and not is_at_edge:
        raise Unsupported("words")
    return ["'" + bare]


class _Parser:
    """Precedence climbing over the tokens."""

    def __init__(self, found: list[str], calls: frozenset[str]) -> None:
        self._tokens = found
        self._calls = calls
        self._at = 0
        self._depth = 0
        self._bars = 0

    def whole(self) -> Node:
        node = self.relation()
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

    def relation(self) -> Node:
        """Sums beside a sign such as ⇒, ∈ or ⊥; ⇔ is looser than ⇒, which is looser than others."""
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise Unsupported("too_deep")
        node = self._implication()
        if self._take(*_EQUIVALENCES):
            node = ("unordered", "\\Leftrightarrow", node, self.relation())
        self._depth -= 1
        return node

    def _implication(self) -> Node:
        node = self._comparison()
        if self._take(*_IMPLICATIONS):
            self._depth += 1
            if self._depth > _MOST_DEPTH:
                raise Unsupported("too_deep")
            node = ("call", "\\Rightarrow", node, self._implication())
            self._depth -= 1
        return node

    def _comparison(self) -> Node:
        left = self._disjunction()
        sign = self._peek()
        if sign in TURNED_SIGNS:
            self._next()
            return ("call", TURNED_SIGNS[sign], self._disjunction(), left)
        if sign in SYMMETRIC_SIGNS:
            self._next()
            return ("unordered", SYMMETRIC_SIGNS[sign], left, self._disjunction())
        if sign in ONE_WAY_SIGNS:
            self._next()
            return ("call", ONE_WAY_SIGNS[sign], left, self._disjunction())
        return left

    def _disjunction(self) -> Node:
        return self._joined(_DISJUNCTIONS, lambda: self._joined(_CONJUNCTIONS, self._sum))

    def _joined(self, signs: tuple[str, ...], operand: Callable[[], Node]) -> Node:
        """Operands between signs of one meaning, in any order."""
        parts = [operand()]
        while self._take(*signs):
            parts.append(operand())
        if len(parts) == 1:
            return parts[0]
        return ("unordered", signs[0], *parts)

    def _sum(self) -> Node:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise Unsupported("too_deep")
        node = self._operation()
        while self._peek() in ("+", "-"):
            sign = self._next()
            right = self._operation()
            if sign == "-":
                right = ("neg", right)
            node = ("add", node, right)
        self._depth -= 1
        return node

    def _operation(self) -> Node:
        """Products beside an operator of which only the name is known, one kind at a time."""
        parts = [self._product()]
        sign = self._peek()
        if sign not in OPERATORS:
            return parts[0]
        while self._take(sign):
            parts.append(self._product())
        if self._peek() in OPERATORS:
            raise Unsupported("two operators side by side")
        if sign in _UNORDERED:
            return ("unordered", sign, *parts)
        return ("call", sign, *parts)

    def _product(self) -> Node:
        node: Node = self._signed()
        while True:
            if is_vector(node) and self._take("\\times"):
                node = ("call", "cross", node, self._signed())
            elif self._take("*", "\\cdot", "\\times"):
                node = ("mul", node, self._signed())
            elif self._take("/"):
                node = ("div", node, self._signed())
            elif self._starts_factor():
                last = self._tokens[self._at - 1]
                are_digits = self._peek()[0].isdecimal() and last[-1].isdecimal()
                if are_digits and not ends_in_root(node):
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
            if exponent == ("name", "prime") and base[0] == "num":
                raise Unsupported("prime of a number")
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
        name = str(node[1])
        if self._next() == "'":
            primed = f"{name}'"
            if self._peek() == "(":
                return self._call(primed)
            return ("name", primed)
        if self._take("{"):
            subscript = self._until_brace()
        else:
            subscript = label_of(self._next())
        marked = f"{name}_{subscript}"
        if name.startswith("'") and self._peek() == "(":
            return self._call(marked)
        return ("name", marked)

    def _until_brace(self) -> str:
        """The tokens up to the closing brace, as one text."""
        parts: list[str] = []
        while self._peek() not in ("}", ""):
            parts.append(label_of(self._next()))
        self._expect("}")
        return "".join(parts)

    def _group(self, left: str, right: str) -> Node:
        bars = self._bars
        self._bars = 0
        self._expect(left)
        node = self.relation()
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
            return self.word(token)
        if token.isalpha():
            return self.letter(token)
        raise Unsupported(f"unexpected {token}")

    def word(self, token: str) -> Node:
        """A word: a function of what stands in the bracket behind it, else a name."""
        if self._peek() == "(":
            return self._call(token)
        if self._peek() == "[":
            return ("call", token, self._group("[", "]"))
        is_function = token[1:] in _NAMED_OPERATORS and self._starts_factor()
        if is_function and self._peek() not in ("{", "["):
            return ("call", token, self._function_argument())
        return ("name", token)

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
        if letter in ("e", "i") and self._peek() != "_":
            return ("const", letter)
        if letter in self._calls and self._peek() == "(":
            return self._call(letter)
        return ("name", letter)

    def _call(self, name: str) -> Node:
        """`f(x, y)`: an unknown function of the values of its arguments."""
        return ("call", name, *self._arguments())

    def _arguments(self) -> list[Node]:
        self._expect("(")
        parts = [self.relation()]
        while self._take(","):
            parts.append(self.relation())
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
        if name in ("zeta", "Gamma") and self._peek() != "(":
            return ("name", name)
        if name in FUNCTIONS:
            return self._function(_RENAMED.get(name, name))
        if name in ("lfloor", "lceil"):
            node = self._sum()
            self._expect("\\r" + name[1:])
            return ("fn", name[1:], node)
        if name == "Delta" and len(self._peek()) == 1 and self._peek().isalpha():
            return ("name", f"Delta {self._next()}")
        if name in GREEK:
            if name == "varepsilon":
                name = "epsilon"
            if name in self._calls and self._peek() == "(":
                return self._call(name)
            return ("name", name)
        if name in ("neg", "lnot"):
            return ("call", "\\neg", self._power())
        if name in ("forall", "exists", "nexists"):
            return self.quantified(name)
        if name in _NAMED_OPERATORS:
            return self.word("'" + name)
        if name in ("Pi", "Upsilon", "top", "bot", "nu"):
            return ("name", name)
        if name in _ACCENTS or name in _MARKS:
            return ("name", f"{name} {self.label()}")
        raise Unsupported(name)

    def quantified(self, name: str) -> Node:
        """`\\exists x, …`: a function of what is said of x, named by the quantifier and by x."""
        bound = self._primary()
        domain: tuple[Node, ...] = ()
        if self._take("\\in"):
            domain = (self._power(),)
        self._take(",", ":")
        return ("call", f"\\{name}", bound, *domain, self._implication())

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
_ARITHMETIC = r"""
+ - * / ^ _ ) ] } \} , = < > ! ' % : ; & \\ \rfloor \rceil \cdot \times \pm \mp \rangle \|
"""

# Operators of which only the name is known. Those in _UNORDERED commute.
_UNORDERED = frozenset([r"\cap", r"\cup", r"\oplus", r"\sqcup", r"\sqcap", r"\uplus"])
OPERATORS = _UNORDERED | {
    *(r"\circ", r"\star", r"\bullet", r"\otimes", r"\setminus", r"\ominus"),
    *(r"\diamond", r"\rtimes", r"\ltimes"),
}
_CONJUNCTIONS = (r"\land", r"\wedge")
_DISJUNCTIONS = (r"\lor", r"\vee")
_IMPLICATIONS = (
    *(r"\Rightarrow", r"\implies", r"\Longrightarrow", r"\to"),
    *(r"\rightarrow", r"\longrightarrow"),
)
_EQUIVALENCES = (
    *(r"\Leftrightarrow", r"\iff", r"\Longleftrightarrow"),
    *(r"\leftrightarrow", r"\longleftrightarrow"),
)
_ONE_WAY_NAMES = """
in notin subset subseteq subsetneq notsubset notsubseteq mid notmid ll prec preceq models vdash
mapsto propto triangleleft leftarrow
"""
# Signs that can be turned round: what they are when their sides are exchanged.
_TURNED_NAMES = """
supset subset; supseteq subseteq; supsetneq subsetneq; gg ll; succ prec; succeq preceq; ni in;
Leftarrow Rightarrow; gets Rightarrow; notsupset notsubset; notsupseteq notsubseteq
"""
_SYMMETRIC_NAMES = """
parallel notparallel perp sim simeq cong approx equiv notequiv notsim notcong asymp doteq
"""
ONE_WAY_SIGNS = {"\\" + name: "\\" + name for name in _ONE_WAY_NAMES.split()}
SYMMETRIC_SIGNS = {"\\" + name: "\\" + name for name in _SYMMETRIC_NAMES.split()}
SYMMETRIC_SIGNS["\\|"] = r"\parallel"
SYMMETRIC_SIGNS[r"\bot"] = r"\perp"
TURNED_SIGNS: dict[str, str] = {}
for _pair in _TURNED_NAMES.split(";"):
    _sign, _turned = _pair.split()
    TURNED_SIGNS["\\" + _sign] = "\\" + _turned
_STARTS_NO_FACTOR = frozenset(
    [*_ARITHMETIC.split(), *OPERATORS, *ONE_WAY_SIGNS, *SYMMETRIC_SIGNS, *TURNED_SIGNS]
    + [*_CONJUNCTIONS, *_DISJUNCTIONS, *_IMPLICATIONS, *_EQUIVALENCES]
)


def label_of(token: str) -> str:
    """A token of a subscript: `\\text{max}`, `\\max` and max are one label."""
    bare = token.removeprefix("'")
    if bare[1:] in FUNCTIONS and bare.startswith("\\"):
        return bare[1:]
    return bare


def ends_in_root(node: Node) -> bool:
    """Whether a product ends in a root without braces: the 5 of `\\sqrt3 5` is another factor."""
    if node[0] == "mul":
        return ends_in_root(node[2])
    return node[0] == "root"


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
    """A name under an arrow: × between two of them is the cross product."""
    return node[0] == "name" and str(node[1]).startswith("vec ")


def readings(*texts: str) -> tuple[frozenset[str], ...]:
    """Which letters before a bracket are functions, the likelier reading first.

    f, g, h, F, G and H are, unless one also stands alone (mg(1-k) beside mg-mgk); any other letter
    is where it never stands alone and is applied twice in one text: T(n) - T(1). Last comes the
    reading where every letter that never stands alone is one.
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
            if not is_letter and name not in GREEK:
                continue
            if found[i + 1 : i + 2] != ["("]:
                if not is_under_accent(found, i):
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
    more = likely | (called - alone)
    return tuple(dict.fromkeys((likely, fewer, more)))


def is_under_accent(found: list[str], position: int) -> bool:
    """Whether the token at a position is the θ of `\\ddot{\\theta}`, which is another name."""
    before = found[max(0, position - 2) : position]
    return bool(before) and before[0].removeprefix("\\") in _ACCENTS


@lru_cache(maxsize=8192)
def parse(text: str, calls: frozenset[str] = CALLED) -> Node:
    """The tree of an expression; letters in `calls` before a bracket are functions. Raises
    Unsupported.
    """
    found = tokens(text)
    if not found:
        raise Unsupported("empty")
    if found.count("|") == 1:  # no absolute value: a | b, P(A | B)
        found[found.index("|")] = r"\mid"
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
