"""Decide whether two expression trees are equal: exactly where they are rational, else at fixed
points with two precisions.

Two values count as equal when their difference vanishes as the precision grows (40 → 90 digits); a
difference that stays, however small, is a difference: 1/20! is not 1/21!, 10^-20 is not 0. Sizes
are bounded before anything is computed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import comb, factorial, gcd, lcm, prod
from typing import Any

import mpmath
from mpmath.libmp import ComplexResult

from reasondistill.grading.syntax import FUNCTIONS, Node, Unsupported, has, names_in, parse

_MOST_BITS = 200_000
_MOST_LOG2 = 10_000_000
_MOST_ANGLE_BITS = 5_000
_LOW, _HIGH = 40, 90

# Values for names, in alphabetical order of the names: positive ones, where roots and logarithms
# are real, then signed ones.
_POINTS = (
    (1.2718281, 0.5772156, 2.2360679, 1.6180339, 0.3183098, 2.6854520, 1.9021605, 0.9159655),
    (0.6434105, 1.7320508, 0.4142135, 2.5849625, 1.3247179, 0.8346268, 2.2955871, 1.4513692),
    (2.1456217, 0.2614972, 1.5849625, 0.7642236, 2.8077702, 1.1447298, 0.6627434, 1.8393972),
    (3.8278453, 4.2389971, 5.0689083, 3.3598857, 6.5808859, 4.6692016, 7.1879033, 5.5422187),
    (9.8696044, 7.3890561, 3.6256099, 8.5397342, 5.8598744, 6.2831853, 4.8104774, 9.0647202),
    (-1.4325131, 0.8346268, -0.7642236, 1.2020569, -2.1456217, 0.5432589, -1.1319882, -0.3532364),
    (0.7390851, -1.6066951, 1.1865691, -0.5671432, 0.9189385, -2.5029078, 1.7052111, 0.4812118),
)


_WHOLE = (1, 2, 3, 4, 8, 9, 16)  # where floor and ceiling differ from what they are in between


def exact(node: Node) -> Fraction | None:
    """The rational value of a tree without names, or None when it has none that is cheap to know."""
    kind = node[0]
    if kind == "num":
        return _literal(node[1])
    if kind == "deg":
        return exact(node[1])
    parts = [exact(part) for part in node[1:] if isinstance(part, tuple)]
    if not parts or any(part is None for part in parts):
        return None
    values = [part for part in parts if part is not None]
    value = _exact_step(node, values)
    return (
        value
        if value is None
        or value.numerator.bit_length() + value.denominator.bit_length() <= _MOST_BITS
        else None
    )


def _literal(text: str) -> Fraction | None:
    return Fraction(text.rstrip(".") or "0") if len(text) <= 4_000 else None


def _exact_step(node: Node, values: list[Fraction]) -> Fraction | None:
    kind, a = node[0], values[0]
    if kind == "neg":
        return -a
    if kind == "fact":
        return Fraction(factorial(int(a))) if a.denominator == 1 and 0 <= a <= 5_000 else None
    if kind == "fact2":
        return (
            Fraction(prod(range(int(a), 0, -2))) if a.denominator == 1 and 0 <= a <= 1_000 else None
        )
    if kind == "several":
        return _of_several(node[1], values)
    if kind == "fn" and node[1] in ("abs", "floor", "ceil"):
        return {"abs": abs(a), "floor": Fraction(a.__floor__()), "ceil": Fraction(a.__ceil__())}[
            node[1]
        ]
    return _exact_binary(kind, a, values[1]) if len(values) > 1 else None


def _of_several(name: str, values: list[Fraction]) -> Fraction | None:
    if name in ("max", "min"):
        return max(values) if name == "max" else min(values)
    if any(value.denominator != 1 for value in values):
        return None
    return Fraction((gcd if name == "gcd" else lcm)(*(int(value) for value in values)))


def _exact_binary(kind: str, a: Fraction, b: Fraction) -> Fraction | None:
    if kind == "add":
        return a + b
    if kind == "mul":
        return a * b
    if kind == "div":
        return a / b if b else None
    if kind == "pow":
        return _exact_power(a, b)
    if kind == "binom":
        whole = a.denominator == b.denominator == 1
        return Fraction(comb(int(a), int(b))) if whole and 0 <= b <= a <= 5_000 else None
    return (
        _exact_root(a, int(b)) if kind == "root" and b.denominator == 1 and 2 <= b <= 64 else None
    )


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1 or (base == 0 and exponent <= 0):
        return None
    power = int(exponent)
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    return base**power if abs(power) * size <= _MOST_BITS else None


def _exact_root(value: Fraction, index: int) -> Fraction | None:
    if value < 0 and index % 2 == 0:
        return None
    if value.numerator.bit_length() + value.denominator.bit_length() > 2_000:
        return None
    sign = -1 if value < 0 else 1
    roots = [_integer_root(abs(part), index) for part in (value.numerator, value.denominator)]
    return None if None in roots else sign * Fraction(roots[0] or 0, roots[1] or 1)


def _integer_root(value: int, index: int) -> int | None:
    low, high = 0, 1 << (value.bit_length() // index + 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**index < value else (low, middle)
    return low if low**index == value else None


# ---- numbers at a point --------------------------------------------------------------------------


def value_at(node: Node, point: dict[str, Any], *, log10: bool = False) -> Any:
    """The complex value at a point in the current precision. Raises Unsupported for sizes out of
    bounds, ZeroDivisionError for poles.
    """
    return _value(node, point, log10, False, has(node, "const", "inf"))


def _value(node: Node, point: dict[str, Any], log10: bool, degrees: bool, infinite: bool) -> Any:
    kind = node[0]
    if kind == "num":
        if len(node[1]) > 1_000:
            raise Unsupported("long_number")
        return mpmath.mpf(node[1].rstrip(".") or "0")
    if kind == "const":
        return _constant(node[1])
    if kind == "name":
        return point[node[1]]
    if kind == "deg":
        value = _value(node[1], point, log10, False, infinite)
        return value * mpmath.pi / 180 if degrees else value
    trig = kind == "fn" and node[1] in _TRIG
    values = [
        _value(part, point, log10, degrees or trig, infinite)
        for part in node[1:]
        if isinstance(part, tuple)
    ]
    result = _step(node, values, log10)
    if mpmath.isnan(result) or (mpmath.isinf(result) and not infinite):
        raise ZeroDivisionError
    return result


def _constant(name: str) -> Any:
    return {"pi": mpmath.pi, "e": mpmath.e, "i": mpmath.mpc(0, 1), "inf": mpmath.inf}[name] * 1


_TRIG = {"sin", "cos", "tan", "cot", "sec", "csc"}
_PLAIN_FUNCTIONS = {
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "cot": mpmath.cot, "sec": mpmath.sec, "csc": mpmath.csc,
    "arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan, "arccot": mpmath.acot, "sinh": mpmath.sinh,
    "cosh": mpmath.cosh, "tanh": mpmath.tanh, "arsinh": mpmath.asinh, "abs": abs, "floor": mpmath.floor, "ceil": mpmath.ceil,
}  # fmt: skip


def _step(node: Node, values: list[Any], log10: bool) -> Any:
    kind, a = node[0], values[0]
    b = values[1] if len(values) > 1 else None
    if kind == "add":
        return a + b
    if kind == "neg":
        return -a
    if kind == "mul":
        return a * b
    if kind == "div":
        return a / b
    if kind == "pow":
        return _power(a, b)
    if kind == "root":
        return _root(a, b)
    if kind == "log":
        return mpmath.log(a) / mpmath.log(b)
    if kind == "fact":
        return _gamma(a + 1)
    if kind == "call":
        return _opaque(node[1], values)
    if kind == "binom":
        below = values[1]
        return _gamma(a + 1) / _gamma(below + 1) / _gamma(a - below + 1)
    return _function(node[1], a, log10)


def _opaque(name: str, values: list[Any]) -> Any:
    """Some function of its arguments, another one for each name: what f(x) is nobody knows, but
    f(1+x) is f(x+1).
    """
    seed = zlib.crc32(name.encode())
    result = mpmath.mpf(seed % 97 + 3) / 101
    for i, value in enumerate(values):
        if _log2(value) > 20:
            raise Unsupported("too_large")
        result += (
            mpmath.sin(value * (seed % (89 + 7 * i) + 11) / 37 + i) * (i + 2)
            + value * (seed % 13 + 5 + i) / 29
        )
    return result


def _function(name: str, a: Any, log10: bool) -> Any:
    if name not in FUNCTIONS:
        raise Unsupported(name)
    size = _log2(a)
    if name in ("ln", "log"):
        return mpmath.log10(a) if log10 and name == "log" else mpmath.log(a)
    if name in ("sqrt", "cbrt"):
        return _root(a, mpmath.mpf(2 if name == "sqrt" else 3))
    if size > (24 if name in ("exp", "sinh", "cosh") else _MOST_ANGLE_BITS):
        raise Unsupported("too_large")
    if name == "exp":
        return mpmath.exp(a)
    if name in ("Gamma", "zeta"):
        return _gamma(a) if name == "Gamma" else mpmath.zeta(a)
    if name not in _PLAIN_FUNCTIONS:
        raise Unsupported(name)
    return _PLAIN_FUNCTIONS[name](a)


def _log2(a: Any) -> float:
    size = abs(a)
    return float(mpmath.mag(size)) if size and not mpmath.isinf(size) else 0.0


def _power(base: Any, exponent: Any) -> Any:
    if base == 0 and exponent == 0:
        raise ZeroDivisionError
    if _log2(exponent) > 60 or abs(exponent) * (abs(_log2(base)) + 1) > _MOST_LOG2:
        raise Unsupported("too_large")
    return mpmath.power(base, exponent)


def _root(value: Any, index: Any) -> Any:
    """The real root of a negative number when the index is odd, else the principal one."""
    if index == 0:
        raise ZeroDivisionError
    real = mpmath.im(value) == 0 and mpmath.im(index) == 0
    if real and mpmath.re(value) < 0 and mpmath.re(index) % 2 == 1:
        return -mpmath.power(-mpmath.re(value), 1 / mpmath.re(index))
    return mpmath.sqrt(value) if index == 2 else mpmath.power(value, 1 / index)


def _gamma(a: Any) -> Any:
    if _log2(a) > 24:
        raise Unsupported("too_large")
    return mpmath.gamma(a)


# ---- equality ------------------------------------------------------------------------------------


def _values(node: Node, names: tuple[str, ...], row: int, digits: int, log10: bool) -> Any:
    if row < len(_POINTS):
        point = {
            name: mpmath.mpf(repr(_POINTS[row][i % 8])) + i // 8 for i, name in enumerate(names)
        }
    else:
        point = {
            name: mpmath.mpf(_WHOLE[(row + 3 * i) % len(_WHOLE)]) for i, name in enumerate(names)
        }
    with mpmath.workdps(digits):
        return value_at(node, point, log10=log10)


@lru_cache(maxsize=4096)
def _sample(node: Node, names: tuple[str, ...], row: int, log10: bool) -> tuple[Any, Any] | None:
    """The value at one point in both precisions; None where it is not defined."""
    try:
        return _values(node, names, row, _LOW, log10), _values(node, names, row, _HIGH, log10)
    except (ZeroDivisionError, ValueError, OverflowError, TypeError, ComplexResult):
        return None


def vanishes(a: tuple[Any, Any], b: tuple[Any, Any]) -> bool:
    """Whether a − b is zero, judged by how it shrinks from 40 to 90 digits. Raises Unsupported when
    the numbers are too large to tell.
    """
    if any(mpmath.isinf(value) for value in (*a, *b)):
        return a[1] == b[1]
    with mpmath.workdps(_HIGH + 10):
        low, high = abs(a[0] - b[0]), abs(a[1] - b[1])
        scale = max(abs(a[1]), abs(b[1]))
        near = high <= scale * mpmath.mpf(10) ** (15 - _HIGH) or (
            low > 0 and high <= low * mpmath.mpf(10) ** -30
        )
        near = near or (low == 0 and high <= mpmath.mpf(10) ** (15 - _HIGH) * max(1, scale))
        if near and scale > mpmath.mpf(10) ** 60 and not high == low == 0 == scale:
            raise Unsupported("too_large")
        return bool(near)


def same_expression(a: Node, b: Node) -> bool:
    """Whether two trees are equal as expressions. Raises Unsupported when that cannot be told here."""
    first, second = exact(a), exact(b)
    if first is not None and second is not None:
        return first == second
    if _same_everywhere(a, b, log10=False):
        return True
    return has(a, "fn", "log") != has(b, "fn", "log") and _same_everywhere(a, b, log10=True)


def _same_everywhere(a: Node, b: Node, *, log10: bool) -> bool:
    """Compare at every point where both are real; points off the real line count only when there
    are no others.

    Branches of roots differ off the real line: 1/√n is √(1/n) for the n that anybody means.
    """
    names = tuple(sorted(names_in(a) | names_in(b)))
    stepped = any(has(node, "fn", name) for node in (a, b) for name in ("floor", "ceil"))
    rows = len(_POINTS) + (len(_WHOLE) if stepped else 0) if names else 1
    samples = [
        (_sample(a, names, row, log10), _sample(b, names, row, log10)) for row in range(rows)
    ]
    defined = [
        (first, second) for first, second in samples if first is not None and second is not None
    ]
    complex_meant = has(a, "const", "i") or has(b, "const", "i")
    real = [pair for pair in defined if complex_meant or (_is_real(pair[0]) and _is_real(pair[1]))]
    if not (pairs := real or defined):
        raise Unsupported("undefined")
    return all(vanishes(first, second) for first, second in pairs)


def _is_real(value: tuple[Any, Any]) -> bool:
    return abs(mpmath.im(value[1])) <= mpmath.mpf(10) ** -60 * max(1, abs(value[1]))


def proportional(a: Node, b: Node, *, positive: bool = False) -> bool:
    """Whether a = c·b with one constant c ≠ 0 (c > 0 when `positive`), and neither is constant:
    equal solution sets of a=0 and b=0.
    """
    names = tuple(sorted(names_in(a) | names_in(b)))
    if not names or not names_in(a) or not names_in(b):
        return False
    ratios: list[tuple[Any, Any]] = []
    for row in range(len(_POINTS)):
        first, second = _sample(a, names, row, False), _sample(b, names, row, False)
        if (
            first is None
            or second is None
            or 0 in (*first, *second)
            or not (_is_real(first) and _is_real(second))
        ):
            continue
        if any(mpmath.isinf(value) for value in (*first, *second)):
            raise Unsupported("infinite")
        ratios.append((first[0] / second[0], first[1] / second[1]))
    if len(ratios) < 3:
        raise Unsupported("undefined")
    if positive and not all(_is_real(ratio) and mpmath.re(ratio[1]) > 0 for ratio in ratios):
        return False
    return all(vanishes(ratios[0], ratio) for ratio in ratios[1:])


def numerator(node: Node) -> Node:
    """The numerator of a tree over one common denominator: y − 6/x becomes yx − 6."""
    return _over_one(node)[0]


_ONE: Node = ("num", "1")


def _over_one(node: Node) -> tuple[Node, Node]:
    kind = node[0]
    if kind == "neg":
        top, bottom = _over_one(node[1])
        return ("neg", top), bottom
    if kind == "add":
        (a, b), (c, d) = _over_one(node[1]), _over_one(node[2])
        if b == d:
            return ("add", a, c), b
        return ("add", _times(a, d), _times(c, b)), _times(b, d)
    if kind in ("mul", "div"):
        (a, b), (c, d) = _over_one(node[1]), _over_one(node[2])
        return (_times(a, c), _times(b, d)) if kind == "mul" else (_times(a, d), _times(b, c))
    if (
        kind == "pow"
        and (power := exact(node[2])) is not None
        and power.denominator == 1
        and abs(power) <= 12
    ):
        top, bottom = _over_one(node[1])
        whole: Node = ("num", str(abs(int(power))))
        raised = tuple(part if part == _ONE else ("pow", part, whole) for part in (top, bottom))
        return (raised[0], raised[1]) if power >= 0 else (raised[1], raised[0])
    return node, _ONE


def _times(a: Node, b: Node) -> Node:
    return b if a == _ONE else a if b == _ONE else ("mul", a, b)


def real_value(node: Node) -> Any:
    """The real value of a tree without names in high precision. Raises Unsupported when it has
    none.
    """
    if names_in(node):
        raise Unsupported("names")
    sample = _sample(node, (), 0, False)
    if sample is None or not (mpmath.isinf(sample[1]) or _is_real(sample)):
        raise Unsupported("not real")
    return mpmath.re(sample[1])


def too_large(a: str, b: str) -> bool:
    """Whether two expressions have values beyond what can be computed here; a computer algebra
    system would only run away with them.
    """
    checks: tuple[Callable[[], Any], ...] = (
        lambda: real_value(parse(a)),
        lambda: real_value(parse(b)),
        lambda: same_expression(parse(a), parse(b)),
    )
    for check in checks:
        try:
            check()
        except Unsupported as unsupported:
            if str(unsupported) == "too_large":
                return True
    return False
