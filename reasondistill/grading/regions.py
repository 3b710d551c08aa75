"""Sets of real numbers: intervals, unions, and the inequalities of one name that describe them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import mpmath

from reasondistill.grading.evaluate import real_value
from reasondistill.grading.structure import (
    Answer,
    Atom,
    Many,
    Relation,
    Union,
    Within,
    is_name,
    read,
    split_top,
)
from reasondistill.grading.syntax import Unsupported, parse

_SAME = mpmath.mpf(10) ** -30


@dataclass(frozen=True, slots=True)
class Interval:
    """From low to high; a closed end belongs to it. A point has low = high."""

    low: Any
    high: Any
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True, slots=True)
class Region:
    """A union of intervals, ascending; `name` is the variable that an inequality spoke of, else
    empty.
    """

    intervals: tuple[Interval, ...]
    name: str = ""


def region_of(answer: Answer) -> Region | None:
    """The set of reals that an answer describes; None when it describes none that this layer knows."""
    try:
        return _region(answer)
    except (Unsupported, ValueError):
        return None


def _region(answer: Answer) -> Region | None:
    if isinstance(answer, Atom):
        return _named_region(answer.text)
    if isinstance(answer, Within):
        inside = _region(answer.of)
        return None if inside is None else Region(inside.intervals, answer.name)
    if isinstance(answer, Relation):
        return _of_inequality(answer)
    if isinstance(answer, Many):
        return _of_many(answer)
    if isinstance(answer, Union):
        return _joined([_region(part) for part in answer.parts])
    return None


def _named_region(text: str) -> Region | None:
    if "\\cap" in text and len(parts := split_top(text, frozenset({"\\cap"}))) > 1:
        return _intersection([_region(read(part.strip())) for part in parts])
    whole, minus, points = text.partition("\\setminus")
    if minus:
        return _without_points(_region(read(whole.strip())), _region(read(points.strip())))
    key = text.replace(" ", "").replace("\\text{R}", "\\mathbb{R}")
    if key in ("\\mathbb{R}", "\\mathbbR", "\\Bbb{R}", "allrealnumbers", "\\text{allrealnumbers}"):
        return Region((Interval(-mpmath.inf, mpmath.inf, False, False),))
    if re.fullmatch(r"\\mathbb\{?R\}?(?:\^\{?\+\}?|_\{?(?:\+|>0)\}?)", key):
        return Region((Interval(mpmath.mpf(0), mpmath.inf, False, False),))
    return Region(()) if key in ("\\emptyset", "\\phi") else None


def _without_points(region: Region | None, points: Region | None) -> Region | None:
    """A region without single points, such as ℝ ∖ {0}."""
    if (
        region is None
        or points is None
        or any(point.low != point.high for point in points.intervals)
    ):
        return None
    left = list(region.intervals)
    for point in points.intervals:
        left = [part for interval in left for part in _cut(interval, point.low)]
    return Region(tuple(left), region.name)


def _cut(interval: Interval, point: Any) -> list[Interval]:
    if not interval.low <= point <= interval.high or (interval.low == interval.high != point):
        return [interval]
    parts = (
        Interval(interval.low, point, interval.low_closed, False),
        Interval(point, interval.high, False, interval.high_closed),
    )
    return [part for part in parts if part.low < part.high]


def _of_many(many: Many) -> Region | None:
    if (
        many.kind == "tuple"
        and len(many.parts) == 2
        and all(isinstance(part, Atom) for part in many.parts)
    ):
        low, high = (real_value(parse(part.text)) for part in many.parts if isinstance(part, Atom))
        return (
            Region((Interval(low, high, many.left == "[", many.right == "]"),))
            if low < high
            else None
        )
    if many.kind == "set":
        points = [real_value(parse(part.text)) for part in many.parts if isinstance(part, Atom)]
        return (
            _sorted([Interval(point, point, True, True) for point in points])
            if len(points) == len(many.parts)
            else None
        )
    if many.kind == "list" and all(
        isinstance(part, Relation | Many | Union | Within) for part in many.parts
    ):
        return _of_list(many)
    return None


def _of_inequality(relation: Relation) -> Region | None:
    """`x < a`, `a ≤ x < b`, `x ≠ a`, and the same with |x|."""
    names = [i for i, side in enumerate(relation.sides) if is_name(side)]
    if len(names) != 1 or len(relation.sides) > 3 or relation.is_equation or "=" in relation.signs:
        return None
    place = names[0]
    name = relation.sides[place].strip()
    low, high, low_closed, high_closed = -mpmath.inf, mpmath.inf, False, False
    for i, sign in enumerate(relation.signs):
        left_of_name = i < place
        bound = real_value(parse(relation.sides[i if left_of_name else i + 1]))
        if sign == "!=":
            return _complement(bound, name) if len(relation.signs) == 1 else None
        upper = (sign in ("<", "<=")) != left_of_name
        if upper:
            high, high_closed = bound, sign in ("<=", ">=")
        else:
            low, low_closed = bound, sign in ("<=", ">=")
    return _of_bounds(Interval(low, high, low_closed, high_closed), name)


def _complement(point: Any, name: str) -> Region:
    return Region(
        (Interval(-mpmath.inf, point, False, False), Interval(point, mpmath.inf, False, False)),
        name,
    )


def _of_bounds(interval: Interval, name: str) -> Region | None:
    if not (name.startswith("|") and name.endswith("|")):
        return Region((interval,), name)
    inner = name[1:-1].strip()
    if interval.low <= 0 and not (interval.low == 0 and not interval.low_closed):
        return Region(
            (Interval(-interval.high, interval.high, interval.high_closed, interval.high_closed),),
            inner,
        )
    mirrored = Interval(-interval.high, -interval.low, interval.high_closed, interval.low_closed)
    return Region((mirrored, interval), inner)


def _of_list(many: Many) -> Region | None:
    """What "or" joins is a union, what "and" joins an intersection. A comma means "and" where
    something is left by it, or one part is ≠.
    """
    regions = [_region(part) for part in many.parts]
    if many.left == "or":
        return _joined(regions)
    both = _intersection(regions)
    unequal = any(isinstance(part, Relation) and "!=" in part.signs for part in many.parts)
    named = all(isinstance(part, Relation | Within) for part in many.parts)
    if many.left == "and" and named or unequal or (named and both is not None and both.intervals):
        return both
    return _joined(regions)


def _intersection(regions: list[Region | None]) -> Region | None:
    known = [region for region in regions if region is not None]
    names = {region.name for region in known} - {""}
    if len(known) != len(regions) or len(names) > 1:
        return None
    left = [Interval(-mpmath.inf, mpmath.inf, False, False)]
    for region in known:
        left = [
            common for x in left for y in region.intervals if (common := _common(x, y)) is not None
        ]
    return Region(_sorted(left).intervals, names.pop() if names else "")


def _common(x: Interval, y: Interval) -> Interval | None:
    low, low_closed = max((x.low, not x.low_closed), (y.low, not y.low_closed))
    high, high_closed = min((x.high, x.high_closed), (y.high, y.high_closed))
    if low > high or (low == high and not (not low_closed and high_closed)):
        return None
    return Interval(low, high, not low_closed, high_closed)


def _joined(regions: list[Region | None]) -> Region | None:
    known = [region for region in regions if region is not None]
    if len(known) != len(regions):
        return None
    names = {region.name for region in known} - {""}
    if len(names) > 1:
        return None
    joined = _sorted([interval for region in known for interval in region.intervals])
    return Region(joined.intervals, names.pop() if names else "")


def _sorted(intervals: list[Interval]) -> Region:
    """Ascending, with touching ones merged."""
    merged: list[Interval] = []
    for interval in sorted(intervals, key=lambda item: (item.low, not item.low_closed)):
        last = merged[-1] if merged else None
        if last is not None and (
            interval.low < last.high
            or (interval.low == last.high and (interval.low_closed or last.high_closed))
        ):
            high, closed = max((last.high, last.high_closed), (interval.high, interval.high_closed))
            merged[-1] = Interval(last.low, high, last.low_closed, closed)
        else:
            merged.append(interval)
    return Region(tuple(merged))


def same_region(a: Region, b: Region) -> bool:
    """Equal ends, and the same ends closed; names that both sides give must agree."""
    if a.name and b.name and a.name != b.name:
        return False
    if len(a.intervals) != len(b.intervals):
        return False
    return all(
        x.low_closed == y.low_closed
        and x.high_closed == y.high_closed
        and _same(x.low, y.low)
        and _same(x.high, y.high)
        for x, y in zip(a.intervals, b.intervals, strict=True)
    )


def _same(a: Any, b: Any) -> bool:
    if mpmath.isinf(a) or mpmath.isinf(b):
        return bool(a == b)
    return bool(abs(a - b) <= _SAME * max(1, abs(a), abs(b)))
