"""Small SVG plots: no library, no network, colours from the page's CSS variables (light and dark).

Each function works out where things stand and returns one picture, as templates/plots.html writes
it: with role and label for screen readers, and the words of each mark (value, interval, n), which
show on hovering, and on the arrow keys where script runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reasondistill.stages.report.rendering import macro
from reasondistill.tables import MINUS, whole

Point = tuple[float, float]

WIDTH, HEIGHT = 520, 270
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 12, 42
MOST_POINTS = 300
# Of a long curve so many points tell their numbers.
MOST_MARKS = 60
# A curve of so few points shows them as dots.
_DOTS = 16
_ROW, _BINS = 26, 40


@dataclass(frozen=True)
class Line:
    """One curve; `colour` counts through the page's palette, `dashed` for validation.

    `words` are those of each point, `bounds` its interval; both may be left out.
    """

    name: str
    points: Sequence[Point]
    colour: int
    dashed: bool = False
    words: Sequence[str] = ()
    bounds: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Estimate:
    """A row of a forest plot: a mean with its interval, what stands beside it, all its words."""

    name: str
    mean: float
    low: float
    high: float
    shown: str
    words: str
    tone: str = "s0"


@dataclass(frozen=True)
class Tick:
    """A label of an axis, at its place."""

    place: str
    words: str
    words_at: str = ""
    anchor: str = "middle"


def forest(
    rows: Sequence[Estimate], *, start: float, end: float, label: str, zero: bool = False
) -> Markup:
    """Estimates below each other over a common scale in percent, from `start` to `end`, which are
    fractions of 1; `zero` draws the line of no difference.
    """

    def place(value: float) -> str:
        share = (value - start) / (end - start)
        return f"{2 + 96 * min(max(share, 0.0), 1.0):.2f}"

    places = [tick for tick in ticks(100 * start, 100 * end) if start <= tick / 100 <= end]
    labels: list[Tick] = []
    for tick in places:
        anchor = "middle"
        if tick == 100 * start:
            anchor = "start"
        elif tick == 100 * end:
            anchor = "end"
        words = _short(tick).replace("-", MINUS)
        labels.append(Tick(place(tick / 100), words, anchor=anchor))
    drawn: list[dict[str, str]] = []
    for number, row in enumerate(rows):
        told = {"name": row.name, "shown": row.shown, "words": row.words, "tone": row.tone}
        told |= {"mean": place(row.mean), "low": place(row.low), "high": place(row.high)}
        drawn.append(told | {"y": f"{_ROW * (number + 0.5):g}"})
    line = None
    if zero:
        line = place(0)
    return macro("plots.html", "forest", drawn, labels, line, _ROW * len(rows) + 24, label)


def line_chart(
    lines: Sequence[Line], *, across: str, up: str, label: str, powers_of_two: bool = False
) -> Markup:
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
            if len(line.points) > MOST_POINTS:
                thinned = thin_out(line.points)
                line = Line(line.name, thinned, line.colour, line.dashed)
            drawn.append(line)
            xs += [x for x, _ in line.points]
            ys += [y for _, y in line.points if math.isfinite(y)]
    if not ys:
        return Markup("")
    ys.sort()
    highest = 1.05 * ys[round(0.985 * (len(ys) - 1))]
    for line in drawn:
        highest = max([highest, *(high for _, high in line.bounds)])
    if up.endswith("%") and ys[-1] <= 100:
        highest = min(highest, 100.0)
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(0.0, ys[0]), highest)
    place = _Frame(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])

    def words_of(x: float) -> str:
        if powers_of_two:
            return _short(round(2**x, 6))
        return _short(x)

    if powers_of_two:
        x_ticks = [tick for tick in x_ticks if tick == round(tick)]
    labels = {tick: words_of(tick) for tick in x_ticks}
    curves: list[dict[str, object]] = []
    for line in drawn:
        numbers = {x: words_of(x) for x, _ in line.points}
        curves.append(_curve(line, place, numbers, across, up))
    frame = _frame(place, labels, y_ticks)
    return macro("plots.html", "chart", frame, curves, across, up, label)


def histogram(
    values: Sequence[float], *, start: float, end: float, tone: str, label: str, is_last: bool
) -> Markup:
    """Bars of equal width from `start` to `end`; the last of several stacked ones has the axis."""
    counts = [0] * _BINS
    for value in values:
        place = int(_BINS * (value - start) / (end - start))
        place = min(_BINS - 1, max(0, place))
        counts[place] += 1
    inner, floor, tallest = WIDTH - 28, 52, max(counts) or 1
    step = inner / _BINS
    width = (end - start) / _BINS
    bars: list[dict[str, str]] = []
    for place, count in enumerate(counts):
        if not count:
            continue
        height = 48 * count / tallest
        low, high = start + place * width, start + (place + 1) * width
        bar = {"x": f"{14.5 + place * step:.1f}", "y": f"{floor - height:.1f}", "tone": tone}
        bar |= {"width": f"{step - 1:.1f}", "height": f"{height:.1f}"}
        bars.append(bar | {"words": f"{whole(low)} to {whole(high)}: {whole(count)}"})
    labels: list[Tick] = []
    if is_last:
        for tick in ticks(start, end):
            if start <= tick <= end:
                x = 14 + inner * (tick - start) / (end - start)
                labels.append(Tick(f"{x:.1f}", _short(tick)))
    height = 74 if is_last else 56
    return macro("plots.html", "histogram", bars, labels, WIDTH, height, floor, label)


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


def _frame(
    place: _Frame, x_ticks: Mapping[float, str], y_ticks: Sequence[float]
) -> dict[str, object]:
    """The axes with their labels."""
    up: list[Tick] = []
    for tick in y_ticks:
        y = place.y(tick)
        up.append(Tick(f"{y:.1f}", _short(tick), words_at=f"{y + 4:.1f}"))
    across = [Tick(f"{place.x(tick):.1f}", words) for tick, words in x_ticks.items()]
    right = WIDTH - RIGHT
    frame: dict[str, object] = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": right}
    frame |= {"floor": HEIGHT - BOTTOM, "middle": (LEFT + right) / 2, "up": up, "across": across}
    return frame | {"half": (HEIGHT - BOTTOM + TOP) / 2}


def _curve(
    line: Line, place: _Frame, numbers: Mapping[float, str], across: str, up: str
) -> dict[str, object]:
    """The path, and the marks that tell their numbers: of a long curve some, evenly apart."""
    path = ""
    if len(line.points) > 1:
        path = " ".join(f"{place.x(x):.1f},{place.y(y):.1f}" for x, y in line.points)
    marks: list[dict[str, object]] = []
    for number in _some(len(line.points), MOST_MARKS):
        x, y = line.points[number]
        if not math.isfinite(y):
            continue
        words = f"{line.name}: {across} {numbers[x]}, {up} {_number(y)}"
        if line.words:
            words = line.words[number]
        ends: list[str] = []
        if line.bounds:
            ends = [f"{place.y(bound):.1f}" for bound in line.bounds[number]]
        mark: dict[str, object] = {"x": f"{place.x(x):.1f}", "y": f"{place.y(y):.1f}"}
        marks.append(mark | {"words": words, "ends": ends})
    has_points = len(line.points) <= _DOTS
    curve: dict[str, object] = {"tone": f"s{line.colour % 6}", "dashed": line.dashed}
    return curve | {"path": path, "marks": marks, "has_points": has_points}


def _some(count: int, most: int) -> Iterator[int]:
    """At most so many of the numbers below `count`, the first and the last among them."""
    if count <= most:
        yield from range(count)
        return
    for place in range(most):
        yield round(place * (count - 1) / (most - 1))


def _number(value: float) -> str:
    """Four digits that matter."""
    return f"{value:.4g}"


def _short(value: float) -> str:
    """`12k` for 12,000, `1e-3` for 0.001; `0.25` stays."""
    if 0 < abs(value) < 0.01:
        digits, power = f"{value:e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"
