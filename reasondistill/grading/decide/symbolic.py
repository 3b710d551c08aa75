"""The last layer: math-verify (sympy), with what is known of its mistakes vetoed. Runs only inside
a worker that may be killed.

math-verify's own timeouts are off: they work in the main thread only and read as "wrong".
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

from reasondistill.grading.decide.decision import Decision
from reasondistill.grading.read.syntax import GREEK
from reasondistill.grading.read.words import has_plain_words

logging.getLogger("math_verify").setLevel(logging.CRITICAL)

# Sizes beyond which sympy is known to run away; each is far above what answers of benchmarks need.
_LONGEST, _DEEPEST, _MOST_BARS = 1_500, 15, 8

_BOMBS: list[tuple[str, re.Pattern[str]]] = [
    (
        "power_tower",
        re.compile(
            r"(?:\^|\*\*)[\s{(]*[\w\\.]+[\s})]*(?:\^|\*\*)[\s{(]*[\w\\.]+[\s})]*(?:\^|\*\*)"
        ),
    ),
    ("huge_exponent", re.compile(r"(?:\^|\*\*)[\s{(\-+]*\d{5,}|[eE][-+]?\d{5,}\b")),
    (
        "huge_power",
        re.compile(
            r"\d{3,}\s*\}?\)?\s*(?:\^|\*\*)[\s{(\-+]*\d{4,}|"
            r"(?:\^|\*\*)[\s{(]*\d+\s*(?:\^|\*\*)[\s{(]*\d{2,}"
        ),
    ),
    ("huge_factorial", re.compile(r"\d{5,}\s*[})\]]*\s*!|![\s)}]*!")),
    ("long_number", re.compile(r"\d{400,}")),
    ("huge_range", re.compile(r"\\(?:sum|prod)[^&]{0,80}\^[\s{]*\d{5,}")),
    ("bars", re.compile(r"\|(?:[\s\w+\-]{0,4}\|){8,}")),
    ("too_deep", re.compile(r"(?:[({\[][^(){}\[\]]{0,6}){60,}")),
]


def bomb(text: str) -> str | None:
    """The name of the construct that would make sympy run away, or None. Linear; costs
    microseconds.
    """
    if len(text) > _LONGEST:
        return "too_long"
    if text.count("|") > _MOST_BARS:
        return "bars"
    if brace_depth(text) > _DEEPEST:
        return "too_deep"
    for name, pattern in _BOMBS:
        if pattern.search(text):
            return name
    return None


_COMMAND = re.compile(r"\\[A-Za-z]+")
_LONE_SIGN = re.compile(r"\s*(?:[<>=]|\\(?:neq|leq|geq)(?![A-Za-z]))")
_WRAPPED_WORD = re.compile(r"\\text\s*\{[^{}]*[^\W\d_]{2}")
_MARKED = re.compile(
    r"(?<!['\d.])\d[\d.]*\s*'|\d\s*\^\s*\{?\s*\\prime|"
    r"(?<![\^{\d])\d+\s*_|\^\s*\{?\s*[*+-]\s*(?:\}|\Z)|\^\s*\*"
)
_RAISED_RING = re.compile(r"\^\s*\{?\s*\\circ")
_LIMIT = re.compile(r"\\lim\s*_\s*\{[^{}]*\}")
_KNOWN_NAMES = """
frac sqrt pi infty cdot times div sum prod int lim text begin end binom cup cap setminus in
emptyset mathbb leq geq neq pm ldots langle rangle lfloor rfloor lceil rceil prime sin cos tan cot
sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp max min gcd lcm
"""
_KNOWN = GREEK | frozenset(_KNOWN_NAMES.split())


def unread(text: str) -> str | None:
    """What math-verify would drop or confuse in a text, or None: words, commands that it is not
    known to read, a Greek letter in both cases.
    """
    if _LONE_SIGN.match(text):
        return "has_lone_sign"
    if _WRAPPED_WORD.search(text) or has_plain_words(text):
        return "has_words"
    if _MARKED.search(text):
        return "has_unknown_mark"
    if "\\" not in text:
        return None
    plain = _LIMIT.sub(" ", _RAISED_RING.sub(" ", text))
    commands = {command[1:] for command in _COMMAND.findall(plain)}
    if not commands <= _KNOWN:
        return "has_unknown_command"
    for command in commands:
        small = command.lower()
        if small != command and small in commands:
            return "has_both_cases"
    return None


def brace_depth(text: str) -> int:
    """How many braces are open where the most are."""
    depth = 0
    deepest = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        deepest = max(deepest, depth)
    return deepest


@lru_cache(maxsize=4096)
def parsed(answer: str) -> tuple[Any, ...]:
    """What math-verify reads in an answer; empty when nothing. Given as `\\boxed{…}`: bare golds
    parse to a wrong value in 11 % of MATH.
    """
    from math_verify import LatexExtractionConfig, parse

    boxed = f"\\boxed{{{answer}}}"
    config = [LatexExtractionConfig(boxed_match_priority=0)]
    return tuple(parse(boxed, config, parsing_timeout=None))  # type: ignore[arg-type]


def readable(answer: str) -> bool:
    """Whether math-verify finds more than a string in it."""
    return any(not isinstance(part, str) for part in parsed(answer))


def same(a: str, b: str) -> bool:
    """math-verify in both argument orders: it is not symmetric, and an accepted pair must be
    accepted either way.
    """
    from math_verify import verify

    first = list(parsed(a))
    second = list(parsed(b))
    if not first or not second:
        return False
    if not verify(first, second, timeout_seconds=None) and not verify(
        second, first, timeout_seconds=None
    ):
        return False
    return not tiny_difference(a, b)


_SIDE_BY_SIDE = re.compile(r"\d\s+\d")
_RELATION = re.compile(r"=|<|>|\\(?:leq|geq|neq|equiv|approx)(?![A-Za-z])")
_LETTERS = re.compile(r"\\(?:text|begin|end|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+")


def veto(a: str, b: str) -> str | None:
    """Why an acceptance by math-verify would mean nothing for this pair, or None.

    It solves equations and so takes x²+1=0 for x²+4=0 and 1=2 for 3=4; it drops names that look
    like units (6t = 6h = 6); it takes differences below 1e-6 for none; it takes (2,1) for {1,2}.
    """
    if "=" in _outside_braces(a) and "=" in _outside_braces(b):
        return "equations_differ"
    if greek_case_differs(a, b):
        return "greek_case_differs"
    if _letters(a) != _letters(b) and not _may_lose_names(a) and not _may_lose_names(b):
        return "names_differ"
    if (_SIDE_BY_SIDE.search(a) is None) != (_SIDE_BY_SIDE.search(b) is None):
        return "numbers_side_by_side"
    if (_BOUND.match(a) is None) != (_BOUND.match(b) is None):
        return "bound_beside_value"
    if ("\\{" in a) != ("\\{" in b) and (a[:1] in "([") != (b[:1] in "(["):
        return "brackets_differ"
    return None


# `\le 5` without a left side, as `at most 5` is read.
_BOUND = re.compile(r"\s*(?:[<>≤≥]|\\(?:leq?|geq?|lt|gt)(?![A-Za-z]))")


def greek_case_differs(a: str, b: str) -> bool:
    """Whether two texts have the same Greek letters but for their case, of which math-verify knows
    nothing.
    """
    first = {name for name in _letters(a) if name in GREEK}
    second = {name for name in _letters(b) if name in GREEK}
    return first != second and {x.lower() for x in first} == {x.lower() for x in second}


def _may_lose_names(text: str) -> bool:
    """Whether solving or evaluating a text may take a name out of it."""
    return _RELATION.search(text) is not None or binds(text)


def _outside_braces(text: str) -> str:
    """Without what stands in braces: the = of `\\sum_{k=0}` makes no equation."""
    for _ in range(4):
        text = re.sub(r"\{[^{}]*\}", "", text)
    return text


def _letters(text: str) -> set[str]:
    """The letters of a text, Greek ones by their names."""
    letters = set(re.findall(r"[A-Za-z]", _LETTERS.sub(" ", text))) - {"e", "i", "d"}
    for command in _COMMAND.findall(text):
        name = command[1:].removeprefix("var")
        if name in GREEK:
            letters.add(name)
    return letters


def binds(text: str) -> bool:
    """Whether an integral, a sum, a product or a limit stands in it."""
    return re.search(r"\\(?:int|sum|prod|lim)", text) is not None


_INDEX = re.compile(r"\\(?:sum|prod)\s*_\s*\{?\s*([a-z])\s*=")
_VARIABLE = re.compile(r"\\int.*?(?<![A-Za-z])d\s*([a-z])(?![A-Za-z])")


def with_bound_names(text: str) -> str:
    """Sums over k and integrals over x, whatever their letters were, where those letters are
    free.
    """
    for pattern, letter in ((_INDEX, "k"), (_VARIABLE, "x")):
        match = pattern.search(text)
        if match is None or match[1] == letter:
            continue
        if re.search(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])", text):
            continue
        bound = match[1]
        alone = rf"(?<![A-Za-z\\]){bound}(?![A-Za-z])"
        differential = rf"(?<=(?<![A-Za-z])d){bound}(?![A-Za-z])"
        text = re.sub(f"{alone}|{differential}", letter, text)
    return text


_EVALUATED = Decision("correct", "symbolic", "evaluated")
_EVALUATED_DIFFERENTLY = Decision("wrong", "symbolic", "evaluated")
_NOT_EVALUATED = Decision("undecided", "symbolic", "not_evaluated")


def same_evaluated(a: str, b: str) -> Decision:
    """Compare the values of integrals, sums, products and limits; undecided when one cannot be
    evaluated.
    """
    import sympy

    first = [part for part in parsed(a) if isinstance(part, sympy.Expr)]
    second = [part for part in parsed(b) if isinstance(part, sympy.Expr)]
    if len(first) != 1 or len(second) != 1:
        return _NOT_EVALUATED
    value_a = first[0].doit()
    value_b = second[0].doit()
    unevaluated = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit)
    if value_a.has(*unevaluated) or value_b.has(*unevaluated):
        return _NOT_EVALUATED
    if value_a == value_b:
        return _EVALUATED
    difference = sympy.simplify(value_a - value_b)
    if difference.is_number:
        if abs(sympy.N(difference, 50)) < sympy.Float("1e-30"):
            return _EVALUATED
        return _EVALUATED_DIFFERENTLY
    if difference.free_symbols:
        return _EVALUATED_DIFFERENTLY
    return _NOT_EVALUATED


def tiny_difference(a: str, b: str) -> bool:
    """Whether both are numbers that differ, though by less than math-verify's six decimals."""
    import sympy

    first = [part for part in parsed(a) if not isinstance(part, str)]
    second = [part for part in parsed(b) if not isinstance(part, str)]
    if len(first) != 1 or len(second) != 1:
        return False
    if not all(isinstance(part, sympy.Expr) and part.is_number for part in (*first, *second)):
        return False
    values = (first[0] - second[0], first[0], second[0])
    difference, *sizes = (sympy.N(abs(value), 50) for value in values)
    if not all(value.is_Float or value.is_Integer for value in (difference, *sizes)):
        return False
    return bool(difference > max(sizes) * sympy.Float("1e-30"))


def same_as_lighteval(pred: str, gold: str) -> bool:
    """math-verify as lighteval calls it: gold first, six decimals, one order, no vetoes."""
    from math_verify import verify

    return bool(verify(list(parsed(gold)), list(parsed(pred)), strict=True, timeout_seconds=None))


def warm() -> None:
    """Import sympy and fill ANTLR's caches, so that forked workers start warm."""
    for answer in (
        r"\frac{1}{2}",
        r"\{1,2\}",
        r"x^{2}+\sqrt{3}",
        r"(1,2]",
        r"x=5",
        r"\int_0^1 x dx",
        r"\sum_{k=1}^{3} k",
        r"\begin{pmatrix}1\\2\end{pmatrix}",
    ):
        same(answer, answer + " ")
