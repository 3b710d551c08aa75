"""Sets of real numbers: intervals, unions, and the inequalities of one name that describe them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import mpmath

from reasondistill.grading.decide.evaluate import real_value
from reasondistill.grading.read.structure import (
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
from reasondistill.grading.read.syntax import Unsupported, parse

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
    """The set of reals that an answer describes; None when it is none that this layer knows."""
    try:
        return _region(answer)
    except (Unsupported, ValueError):
        return None


def _region(answer: Answer) -> Region | None:
    if isinstance(answer, Atom):
        return named_region(answer.text)
    if isinstance(answer, Within):
        inside = _region(answer.of)
        if inside is None:
            return None
        return Region(inside.intervals, answer.name)
    if isinstance(answer, Relation):
        return region_of_inequality(answer)
    if isinstance(answer, Many):
        return region_of_many(answer)
    if isinstance(answer, Union):
        return _joined([_region(part) for part in answer.parts])
    return None


def named_region(text: str) -> Region | None:
    """The set that a text without brackets names: ℝ, ℝ⁺, ∅, or some of these with ∩ and ∖."""
    if "\\cap" in text:
        parts = split_top(text, frozenset({"\\cap"}))
        if len(parts) > 1:
            return _intersection([_region(read(part.strip())) for part in parts])
    whole, minus, points = text.partition("\\setminus")
    if minus:
        return without_points(_region(read(whole.strip())), _region(read(points.strip())))
    key = text.replace(" ", "").replace("\\text{R}", "\\mathbb{R}")
    if key in ("\\mathbb{R}", "\\mathbbR", "\\Bbb{R}", "allrealnumbers", "\\text{allrealnumbers}"):
        return Region((_REALS,))
    if _POSITIVE_REALS.fullmatch(key):
        return Region((Interval(mpmath.mpf(0), mpmath.inf, False, False),))
    if key in ("\\emptyset", "\\phi"):
        return Region(())
    return None


_REALS = Interval(-mpmath.inf, mpmath.inf, False, False)
_POSITIVE_REALS = re.compile(r"\\mathbb\{?R\}?(?:\^\{?\+\}?|_\{?(?:\+|>0)\}?)")


def without_points(region: Region | None, points: Region | None) -> Region | None:
    """A region without single points, such as ℝ ∖ {0}."""
    if region is None or points is None:
        return None
    if any(point.low != point.high for point in points.intervals):
        return None
    left = list(region.intervals)
    for point in points.intervals:
        cut: list[Interval] = []
        for interval in left:
            cut += cut_at(interval, point.low)
        left = cut
    return Region(tuple(left), region.name)


def cut_at(interval: Interval, point: Any) -> list[Interval]:
    """What is left of an interval without one point."""
    if not interval.low <= point <= interval.high:
        return [interval]
    if interval.low == interval.high != point:
        return [interval]
    below = Interval(interval.low, point, interval.low_closed, False)
    above = Interval(point, interval.high, False, interval.high_closed)
    return [part for part in (below, above) if part.low < part.high]


def region_of_many(many: Many) -> Region | None:
    """An interval, a set of points, or what several conditions leave."""
    if many.kind == "list":
        if all(isinstance(part, Relation | Many | Union | Within) for part in many.parts):
            return region_of_list(many)
        return None
    texts = [part.text for part in many.parts if isinstance(part, Atom)]
    if len(texts) < len(many.parts):
        return None
    if many.kind == "set":
        points = [real_value(parse(text)) for text in texts]
        return _sorted([Interval(point, point, True, True) for point in points])
    if many.kind == "tuple" and len(texts) == 2:
        low, high = (real_value(parse(text)) for text in texts)
        if low < high:
            return Region((Interval(low, high, many.left == "[", many.right == "]"),))
    return None


def region_of_inequality(relation: Relation) -> Region | None:
    """`x < a`, `a ≤ x < b`, `x ≠ a`, and the same with |x|."""
    places = [i for i, side in enumerate(relation.sides) if is_name(side)]
    if len(places) != 1 or len(relation.sides) > 3:
        return None
    if relation.is_equation or "=" in relation.signs:
        return None
    place = places[0]
    name = relation.sides[place].strip()
    low = -mpmath.inf
    high = mpmath.inf
    low_closed = False
    high_closed = False
    for i, sign in enumerate(relation.signs):
        is_left_of_name = i < place
        if is_left_of_name:
            bound = real_value(parse(relation.sides[i]))
        else:
            bound = real_value(parse(relation.sides[i + 1]))
        if sign == "!=":
            if len(relation.signs) > 1:
                return None
            below = Interval(-mpmath.inf, bound, False, False)
            above = Interval(bound, mpmath.inf, False, False)
            return Region((below, above), name)
        is_closed = sign in ("<=", ">=")
        is_upper = (sign in ("<", "<=")) != is_left_of_name
        if is_upper:
            high = bound
            high_closed = is_closed
        else:
            low = bound
            low_closed = is_closed
    return region_of_bounds(Interval(low, high, low_closed, high_closed), name)


def region_of_bounds(interval: Interval, name: str) -> Region | None:
    """The interval that a name lies in; of |x| what that says of x."""
    if not (name.startswith("|") and name.endswith("|")):
        return Region((interval,), name)
    inner = name[1:-1].strip()
    low = interval.low
    high = interval.high
    if low < 0 or (low == 0 and interval.low_closed):
        closed = interval.high_closed
        return Region((Interval(-high, high, closed, closed),), inner)
    mirrored = Interval(-high, -low, interval.high_closed, interval.low_closed)
    return Region((mirrored, interval), inner)


def region_of_list(many: Many) -> Region | None:
    """What "or" joins is a union, what "and" joins an intersection. A comma means "and" where
    something is left by it, or one part is ≠.
    """
    if is_list_of_pairs(many):
        return None
    regions = [_region(part) for part in many.parts]
    if many.left == "or":
        return _joined(regions)
    both = _intersection(regions)
    if any(isinstance(part, Relation) and "!=" in part.signs for part in many.parts):
        return both
    is_overlap = many.left == "and" or (both is not None and both.intervals)
    if is_overlap and all(isinstance(part, Relation | Within) for part in many.parts):
        return both
    return _joined(regions)


def is_list_of_pairs(answer: Answer) -> bool:
    """Whether an answer lists bracketed pairs that nothing says are intervals: `(2, 32), (8, 18)`,
    also with "and" or "or" between them.

    An infinite end, a bracket of each sort (`[1, 2)`), `∪` or an inequality beside it, or words
    between square brackets say so.
    """
    if not isinstance(answer, Many) or answer.kind != "list":
        return False
    has_pair = False
    for part in answer.parts:
        if not isinstance(part, Many):
            is_inequality = isinstance(part, Relation) and not part.is_equation
            if is_inequality or isinstance(part, Union):
                return False
            continue
        if is_surely_interval(part) or (part.left == "[" and answer.left in ("and", "or")):
            return False
        has_pair = has_pair or part.kind == "tuple"
    return has_pair


def is_surely_interval(many: Many) -> bool:
    """Whether two values in brackets can only be the ends of an interval."""
    if many.kind != "tuple" or len(many.parts) != 2:
        return False
    if (many.left == "[") != (many.right == "]"):
        return True
    return any(isinstance(end, Atom) and "\\infty" in end.text for end in many.parts)


def _intersection(regions: list[Region | None]) -> Region | None:
    known = [region for region in regions if region is not None]
    if len(known) < len(regions):
        return None
    names = {region.name for region in known} - {""}
    if len(names) > 1:
        return None
    left = [_REALS]
    for region in known:
        overlaps: list[Interval] = []
        for interval in left:
            for other in region.intervals:
                common = overlap(interval, other)
                if common is not None:
                    overlaps.append(common)
        left = overlaps
    return Region(_sorted(left).intervals, "".join(names))


def overlap(x: Interval, y: Interval) -> Interval | None:
    """The numbers that lie in both intervals; None when there are none."""
    low, low_open = max((x.low, not x.low_closed), (y.low, not y.low_closed))
    high, high_closed = min((x.high, x.high_closed), (y.high, y.high_closed))
    if low > high:
        return None
    if low == high and (low_open or not high_closed):
        return None
    return Interval(low, high, not low_open, high_closed)


def _joined(regions: list[Region | None]) -> Region | None:
    intervals: list[Interval] = []
    names: set[str] = set()
    for region in regions:
        if region is None:
            return None
        intervals += region.intervals
        names.add(region.name)
    names.discard("")
    if len(names) > 1:
        return None
    return Region(_sorted(intervals).intervals, "".join(names))


def _sorted(intervals: list[Interval]) -> Region:
    """Ascending, with touching ones merged."""
    merged: list[Interval] = []
    for interval in sorted(intervals, key=lambda item: (item.low, not item.low_closed)):
        if not merged or not touches(merged[-1], interval):
            merged.append(interval)
            continue
        last = merged[-1]
        high, closed = max((last.high, last.high_closed), (interval.high, interval.high_closed))
        merged[-1] = Interval(last.low, high, last.low_closed, closed)
    return Region(tuple(merged))


def touches(last: Interval, interval: Interval) -> bool:
    """Whether an interval that begins no earlier leaves no gap behind the last one."""
    if interval.low < last.high:
        return True
    return interval.low == last.high and (interval.low_closed or last.high_closed)


def same_region(a: Region, b: Region) -> bool:
    """Equal ends, and the same ends closed; names that both sides give must agree."""
    if a.name and b.name and a.name != b.name:
        return False
    if len(a.intervals) != len(b.intervals):
        return False
    return all(same_interval(x, y) for x, y in zip(a.intervals, b.intervals, strict=True))


def same_interval(x: Interval, y: Interval) -> bool:
    """Equal ends, and the same ends closed."""
    if x.low_closed != y.low_closed or x.high_closed != y.high_closed:
        return False
    return _same(x.low, y.low) and _same(x.high, y.high)


def _same(a: Any, b: Any) -> bool:
    if mpmath.isinf(a) or mpmath.isinf(b):
        return bool(a == b)
    return bool(abs(a - b) <= _SAME * max(1, abs(a), abs(b)))
