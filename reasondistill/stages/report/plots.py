"""Small SVG plots drawn by hand: no library, no network, colours from the page's CSS variables
(light and dark).

Each function returns one `<svg>` with role and label for screen readers. Numbers and text are the
only input; text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 520, 270
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 12, 42
MOST_POINTS = 300


@dataclass(frozen=True)
class Line:
    """One curve; `colour` counts through the page's palette, `dashed` for validation."""

    name: str
    points: Sequence[Point]
    colour: int
    dashed: bool = False


def whisker(
    mean: float,
    low: float,
    high: float,
    *,
    start: float,
    end: float,
    zero: float | None = None,
    tone: str = "c0",
) -> str:
    """A dot with its interval on a scale from `start` to `end`; `zero` draws a line to compare
    with.
    """

    def x(value: float) -> float:
        return 6 + 148 * (value - start) / (end - start)

    mark = (
        ""
        if zero is None
        else f'<line class="axis" x1="{x(zero):.1f}" x2="{x(zero):.1f}" y1="1" y2="21"/>'
    )
    text = f"{mean:.3f}, interval {low:.3f} to {high:.3f}"
    parts = [
        '<line class="rail" x1="6" x2="154" y1="11" y2="11"/>',
        mark,
        f'<line class="{tone} bar" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="11" y2="11"/>',
        f'<circle class="{tone}" cx="{x(mean):.1f}" cy="11" r="5"/>',
    ]
    return (
        '<svg class="whisker" viewBox="0 0 160 22" role="img" '
        f'aria-label="{text}">{"".join(parts)}</svg>'
    )


def line_chart(
    lines: Sequence[Line], *, across: str, up: str, label: str, powers_of_two: bool = False
) -> str:
    """Curves over a common axis; long ones are averaged in buckets, far outliers leave the picture
    at the top.

    With `powers_of_two` the points stand at log2 of what is shown, and the axis says the number
    itself.
    """
    drawn = [
        Line(line.name, thin_out(line.points), line.colour, line.dashed)
        for line in lines
        if line.points
    ]
    xs = [x for line in drawn for x, _ in line.points]
    ys = sorted(y for line in drawn for _, y in line.points if math.isfinite(y))
    if not ys:
        return ""
    highest = 1.05 * ys[round(0.985 * (len(ys) - 1))]
    if up.endswith("%") and ys[-1] <= 100:
        highest = min(highest, 100.0)
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(0.0, ys[0]), highest)
    place = _Frame(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    said = {
        tick: _short(2**tick if powers_of_two else tick)
        for tick in x_ticks
        if not powers_of_two or tick == round(tick)
    }
    body = [
        *_grid(place, said, y_ticks),
        _axis_names(across, up),
        *(_curve(line, place) for line in drawn),
    ]
    return _svg(body, WIDTH, HEIGHT, label)


def histogram(
    values: Sequence[float], *, start: float, end: float, tone: str, label: str, is_last: bool
) -> str:
    """Bars of equal width from `start` to `end`; the last of several stacked ones has the axis."""
    bins = 40
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int(bins * (value - start) / (end - start))))] += 1
    inner, floor, tallest = WIDTH - 28, 52, max(counts) or 1
    step = inner / bins

    def bar(place: int, height: float) -> str:
        return (
            f'<rect class="{tone}" x="{14.5 + place * step:.1f}" y="{floor - height:.1f}" '
            f'width="{step - 1:.1f}" height="{height:.1f}"/>'
        )

    def mark(tick: float) -> str:
        x = 14 + inner * (tick - start) / (end - start)
        return (
            f'<text class="tick" x="{x:.1f}" y="{floor + 17}" '
            f'text-anchor="middle">{_short(tick)}</text>'
        )

    bars = [bar(place, 48 * count / tallest) for place, count in enumerate(counts) if count]
    line = f'<line class="axis" x1="14" x2="{14 + inner}" y1="{floor}" y2="{floor}"/>'
    marks = [mark(tick) for tick in ticks(start, end) if is_last and start <= tick <= end]
    return _svg([line, *bars, *marks], WIDTH, 74 if is_last else 56, label)


def thin_out(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` points, each the mean of its neighbours; shorter curves stay as they are."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    buckets = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in buckets]


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that enclose [low, high]: 1, 2 or 5 times a power of ten apart."""
    if not high > low:
        low, high = low - (abs(low) or 1.0) / 2, low + (abs(low) or 1.0) / 2
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * place, 12) for place in range(first, last + 1)]


# ---- parts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Frame:
    """Data coordinates → picture coordinates."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.x0) / (self.x1 - self.x0)

    def y(self, value: float) -> float:
        inside = min(max(value, self.y0), self.y1) if math.isfinite(value) else self.y1
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (inside - self.y0) / (self.y1 - self.y0)


def _grid(place: _Frame, x_ticks: Mapping[float, str], y_ticks: Sequence[float]) -> list[str]:
    floor = HEIGHT - BOTTOM
    level = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place.y(t):.1f}" '
        f'y2="{place.y(t):.1f}"/>'
        f'<text class="tick" x="{LEFT - 7}" y="{place.y(t) + 4:.1f}" '
        f'text-anchor="end">{_short(t)}</text>'
        for t in y_ticks
    ]
    upright = [
        f'<text class="tick" x="{place.x(t):.1f}" y="{floor + 17}" '
        f'text-anchor="middle">{said}</text>'
        for t, said in x_ticks.items()
    ]
    return [
        *level,
        *upright,
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>',
    ]


def _axis_names(across: str, up: str) -> str:
    middle = (HEIGHT - BOTTOM + TOP) / 2
    return (
        f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" '
        f'text-anchor="middle">{escape(across)}</text>'
        f'<text class="tick" x="12" y="{middle}" text-anchor="middle" '
        f'transform="rotate(-90 12 {middle})">{escape(up)}</text>'
    )


def _curve(line: Line, place: _Frame) -> str:
    tone, style = f"s{line.colour % 6}", " dashed" if line.dashed else ""
    if len(line.points) == 1:
        x, y = line.points[0]
        return f'<circle class="{tone}" cx="{place.x(x):.1f}" cy="{place.y(y):.1f}" r="4"/>'
    path = " ".join(f"{place.x(x):.1f},{place.y(y):.1f}" for x, y in line.points)
    return f'<polyline class="{tone} curve{style}" points="{path}"/>'


def _short(value: float) -> str:
    """`12k` for 12,000, `1e-3` for 0.001; `0.25` stays."""
    if 0 < abs(value) < 0.01:
        digits, power = f"{value:e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def _svg(body: Sequence[str], width: int, height: int, label: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(body)}</svg>'
    )
