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

from reasondistill.foreign_text import shown_line

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

    def x(value: float) -> str:
        place = 6 + 148 * (value - start) / (end - start)
        return f"{place:.1f}"

    body = '<line class="rail" x1="6" x2="154" y1="11" y2="11"/>'
    if zero is not None:
        body += f'<line class="axis" x1="{x(zero)}" x2="{x(zero)}" y1="1" y2="21"/>'
    body += f'<line class="{tone} bar" x1="{x(low)}" x2="{x(high)}" y1="11" y2="11"/>'
    body += f'<circle class="{tone}" cx="{x(mean)}" cy="11" r="5"/>'
    label = f"{mean:.3f}, interval {low:.3f} to {high:.3f}"
    head = f'<svg class="whisker" viewBox="0 0 160 22" role="img" aria-label="{label}">'
    return f"{head}{body}</svg>"


def line_chart(
    lines: Sequence[Line], *, across: str, up: str, label: str, powers_of_two: bool = False
) -> str:
    """Curves over a common axis; long ones are averaged in buckets, far outliers leave the picture
    at the top.

    With `powers_of_two` the points stand at log2 of what is shown, and the axis says the number
    itself.
    """
    drawn: list[Line] = []
    xs: list[float] = []
    ys: list[float] = []
    for line in lines:
        if line.points:
            thinned = thin_out(line.points)
            drawn.append(Line(line.name, thinned, line.colour, line.dashed))
            xs += [x for x, _ in thinned]
            ys += [y for _, y in thinned if math.isfinite(y)]
    if not ys:
        return ""
    ys.sort()
    highest = 1.05 * ys[round(0.985 * (len(ys) - 1))]
    if up.endswith("%") and ys[-1] <= 100:
        highest = min(highest, 100.0)
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(0.0, ys[0]), highest)
    place = _Frame(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    if powers_of_two:
        labels = {tick: _short(2**tick) for tick in x_ticks if tick == round(tick)}
    else:
        labels = {tick: _short(tick) for tick in x_ticks}
    body = [
        *_grid(place, labels, y_ticks),
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
        place = int(bins * (value - start) / (end - start))
        place = min(bins - 1, max(0, place))
        counts[place] += 1
    inner, floor, tallest = WIDTH - 28, 52, max(counts) or 1
    step = inner / bins
    parts = [f'<line class="axis" x1="14" x2="{14 + inner}" y1="{floor}" y2="{floor}"/>']
    for place, count in enumerate(counts):
        if count:
            x = 14.5 + place * step
            height = 48 * count / tallest
            y = floor - height
            corner = f'x="{x:.1f}" y="{y:.1f}"'
            size = f'width="{step - 1:.1f}" height="{height:.1f}"'
            parts.append(f'<rect class="{tone}" {corner} {size}/>')
    if not is_last:
        return _svg(parts, WIDTH, 56, label)
    for tick in ticks(start, end):
        if start <= tick <= end:
            x = 14 + inner * (tick - start) / (end - start)
            corner = f'x="{x:.1f}" y="{floor + 17}"'
            parts.append(f'<text class="tick" {corner} text-anchor="middle">{_short(tick)}</text>')
    return _svg(parts, WIDTH, 74, label)


def thin_out(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` points, each the mean of its neighbours; shorter curves stay as they are."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    means: list[Point] = []
    for start in range(0, len(points), size):
        bucket = points[start : start + size]
        count = len(bucket)
        x = sum(x for x, _ in bucket) / count
        y = sum(y for _, y in bucket) / count
        means.append((x, y))
    return means


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that enclose [low, high]: 1, 2 or 5 times a power of ten apart."""
    if not high > low:
        half = (abs(low) or 1.0) / 2
        low, high = low - half, low + half
    rough = (high - low) / wanted
    exponent = math.floor(math.log10(rough))
    power = 10.0**exponent
    steps = [factor * power for factor in (1, 2, 5, 10)]
    step = next(step for step in steps if step >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
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
        inside = self.y1
        if math.isfinite(value):
            inside = min(max(value, self.y0), self.y1)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (inside - self.y0) / (self.y1 - self.y0)


def _grid(place: _Frame, x_ticks: Mapping[float, str], y_ticks: Sequence[float]) -> list[str]:
    floor = HEIGHT - BOTTOM
    right = WIDTH - RIGHT
    parts: list[str] = []
    for tick in y_ticks:
        y = place.y(tick)
        ends = f'x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"'
        parts.append(f'<line class="grid" {ends}/>')
        corner = f'x="{LEFT - 7}" y="{y + 4:.1f}"'
        parts.append(f'<text class="tick" {corner} text-anchor="end">{_short(tick)}</text>')
    for tick, label in x_ticks.items():
        corner = f'x="{place.x(tick):.1f}" y="{floor + 17}"'
        parts.append(f'<text class="tick" {corner} text-anchor="middle">{label}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>')
    return parts


def _axis_names(across: str, up: str) -> str:
    middle = (HEIGHT - BOTTOM + TOP) / 2
    return (
        f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" '
        f'text-anchor="middle">{escape(shown_line(across))}</text>'
        f'<text class="tick" x="12" y="{middle}" text-anchor="middle" '
        f'transform="rotate(-90 12 {middle})">{escape(shown_line(up))}</text>'
    )


def _curve(line: Line, place: _Frame) -> str:
    tone = f"s{line.colour % 6}"
    if len(line.points) == 1:
        x, y = line.points[0]
        return f'<circle class="{tone}" cx="{place.x(x):.1f}" cy="{place.y(y):.1f}" r="4"/>'
    path = " ".join(f"{place.x(x):.1f},{place.y(y):.1f}" for x, y in line.points)
    style = "curve"
    if line.dashed:
        style = "curve dashed"
    return f'<polyline class="{tone} {style}" points="{path}"/>'


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
        f'aria-label="{escape(shown_line(label))}">{"".join(body)}</svg>'
    )
