"""Scores and differences as people read them: one choice of words, columns and cells, which the
terminal, Markdown and the page each lay out in their own way.

    table = score_table([ScoreRow("sft", "gsm8k", score)])
    table.headers       # ("model", "benchmark", "pass@1 %", "95 % interval", "n × k", "tokens")
    gap_text(row)       # "+3.1 points [0.4, 5.9]"

Numbers are percentages with one decimal, and less than nothing has a minus sign, not a hyphen: who
wants to compute takes report.json.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from reasondistill.records import (
    Bounded,
    Cascade,
    CascadeEnd,
    CascadeStep,
    Difference,
    Score,
)

MINUS = "\N{MINUS SIGN}"
# The outcomes that stand beside a score: neither right nor wrong.
UNANSWERED = ("truncated", "no_answer", "undecided")


class Interval(Protocol):
    """Where an interval begins and ends, as fractions of 1."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class Bounds(Interval, Protocol):
    """A mean or a difference with its interval."""

    @property
    def mean(self) -> float: ...


class Sized(Protocol):
    """`n` problems with `k` samples each."""

    @property
    def n(self) -> int: ...
    @property
    def k(self) -> int: ...


class Measured(Bounds, Sized, Protocol):
    """A mean with its interval, of so many problems and samples."""


# ---- numbers -------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """`39.5`."""
    return f"{100 * share:.1f}"


def points(gap: float) -> str:
    """`+36.0` or `−1.2`: percentage points with their sign."""
    return f"{100 * gap:+.1f}".replace("-", MINUS)


def interval(estimate: Interval) -> str:
    """`[34.1, 45.1]`."""
    low, high = percent(estimate.low), percent(estimate.high)
    return f"[{low}, {high}]".replace("-", MINUS)


def whole(count: float) -> str:
    """`12,345`."""
    return f"{count:,.0f}"


def counted(number: int, noun: str, several: str | None = None) -> str:
    """`1 file`, `12,345 files`; `several` where an s does not make it several."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {several or f'{noun}s'}"


def size_text(estimate: Sized) -> str:
    """`1,319 × 4`: problems and samples of each."""
    return f"{whole(estimate.n)} × {estimate.k}"


def p_value(p: float) -> str:
    """Four decimals where they matter, two where they do not."""
    if p < 0.0001:
        return "< 0.0001"
    if p < 0.1:
        return f"{p:.4f}"
    return f"{p:.2f}"


def score_text(score: Bounds) -> str:
    """`41.7 [28.2, 56.6]`."""
    return f"{percent(score.mean)} {interval(score)}"


def half_text(score: Bounds) -> str:
    """`41.7±14.2`: the mean and half of its interval."""
    half = (score.high - score.low) / 2
    return f"{percent(score.mean)}±{percent(half)}"


def gap_text(gap: Bounds) -> str:
    """`+3.1 points [0.4, 5.9]`."""
    return f"{points(gap.mean)} points {interval(gap)}"


def flips_text(row: Difference) -> str:
    """`+4 −1`: problems that only the model, and that only its baseline, solved; blank for several
    samples.
    """
    if row.gained is None or row.lost is None:
        return ""
    return f"+{whole(row.gained)} {MINUS}{whole(row.lost)}"


# ---- tables --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A heading row and rows of text; columns from `numbers` on hold numbers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: int = 1

    def column(self, header: str) -> list[str]:
        """The cells below a heading."""
        place = self.headers.index(header)
        return [row[place] for row in self.rows]

    def without(self, headers: Collection[str]) -> Table:
        """The same table without these columns."""
        places = range(len(self.headers))
        return self._only([place for place in places if self.headers[place] not in headers])

    def without_blanks(self) -> Table:
        """The same table without the columns that are blank in every row."""
        places = range(len(self.headers))
        return self._only([place for place in places if any(row[place] for row in self.rows)])

    def joined(self, first: str, header: str) -> Table:
        """The same table with the column `first` and those behind it as one: `0.0·2.5·0.0`."""
        place = self.headers.index(first)
        rows: list[tuple[str, ...]] = []
        for row in self.rows:
            together = "·".join(row[place:])
            rows.append((*row[:place], together))
        return Table((*self.headers[:place], header), tuple(rows), self.numbers)

    def only(self, headers: Collection[str]) -> Table:
        """The same table with these columns alone."""
        places = range(len(self.headers))
        return self._only([place for place in places if self.headers[place] in headers])

    def with_rows(self, rows: Iterable[tuple[str, ...]]) -> Table:
        """The same table with these rows below."""
        return replace(self, rows=(*self.rows, *rows))

    def _only(self, places: Sequence[int]) -> Table:
        headers = tuple(self.headers[place] for place in places)
        rows: list[tuple[str, ...]] = []
        for row in self.rows:
            cells = [row[place] for place in places]
            rows.append(tuple(cells))
        numbers = sum(place < self.numbers for place in places)
        return Table(headers, tuple(rows), numbers)


@dataclass(frozen=True)
class ScoreRow:
    """pass@1 of a model on a benchmark.

    `metrics` are other metrics of the same samples as text, `outcomes` shares of them, `tokens`
    the mean length of an answer.
    """

    model: str
    benchmark: str
    score: Measured
    metrics: Mapping[str, str] = field(default_factory=dict[str, str])
    outcomes: Mapping[str, float] = field(default_factory=dict[str, float])
    tokens: float | None = None


def score_table(
    rows: Iterable[ScoreRow], metrics: Sequence[str] = (), outcomes: Sequence[str] = ()
) -> Table:
    """One row for each score; a column for each of these metrics, and of these outcomes."""
    headers = ["model", "benchmark", metric_header("pass@1"), "95 % interval"]
    headers += [metric_header(name) for name in metrics]
    headers.append("n × k")
    headers += [share_header(outcome) for outcome in outcomes]
    headers.append("tokens")
    lines: list[tuple[str, ...]] = []
    for row in rows:
        cells = [row.model, row.benchmark, percent(row.score.mean), interval(row.score)]
        cells += [row.metrics.get(name, "") for name in metrics]
        cells.append(size_text(row.score))
        cells += [_share(row.outcomes, outcome) for outcome in outcomes]
        cells.append(whole_or_blank(row.tokens))
        lines.append(tuple(cells))
    return Table(tuple(headers), tuple(lines), numbers=2)


def _share(outcomes: Mapping[str, float], outcome: str) -> str:
    """An outcome that no sample had is 0; where nobody counted them it is unknown."""
    if not outcomes:
        return "unknown"
    return percent(outcomes.get(outcome, 0.0))


def metric_header(metric: str) -> str:
    """`pass@4 %`: what stands over the means of a metric."""
    return f"{metric} %"


def share_header(outcome: str) -> str:
    """`no answer %`: what stands over the shares of an outcome."""
    words = outcome.replace("_", " ")
    return f"{words} %"


def whole_or_blank(count: float | None) -> str:
    """Nothing for what is not known."""
    if count is None:
        return ""
    return whole(count)


def score_grid(scores: Iterable[Score], words: Callable[[Score], str] = score_text) -> Table:
    """Models down, benchmarks across: readable in one screen for many of both."""
    cells: dict[tuple[str, str], str] = {}
    for score in scores:
        cells[score.model, score.benchmark] = words(score)
    models = dict.fromkeys(model for model, _ in cells)
    benchmarks = dict.fromkeys(benchmark for _, benchmark in cells)
    rows: list[tuple[str, ...]] = []
    for model in models:
        row = [cells.get((model, benchmark), "") for benchmark in benchmarks]
        rows.append((model, *row))
    return Table(("model", *benchmarks), tuple(rows))


_DIFFERENCE_HEADERS = ("model", "against", "benchmark", "", "points", "95 % interval")
_TEST_HEADERS = ("p", "p (Holm)", "flips", "n × k")


def difference_table(differences: Iterable[Difference]) -> Table:
    """One row for each comparison."""
    rows: list[tuple[str, ...]] = []
    for row in differences:
        who = (row.model, row.baseline, row.benchmark)
        by_how_much = (row.word, points(row.mean), interval(row))
        tests = (p_value(row.p_value), p_value(row.p_adjusted))
        rows.append((*who, *by_how_much, *tests, flips_text(row), size_text(row)))
    return Table(_DIFFERENCE_HEADERS + _TEST_HEADERS, tuple(rows), numbers=4)


# ---- cascades ------------------------------------------------------------------------------------

# So many thresholds stand in a table: of more every second, third, …
MOST_STEPS = 16
CASCADE_NOTE = (
    "An answer with fewer votes than its threshold is asked of the teacher. Cost: tokens written "
    "for a problem, its mean; prompts are not counted. Gap: accuracy above random routing at the "
    "same cost, which sends problems to the teacher without looking at the votes. Intervals: 95 %, "
    "of gap and cost by bootstrap over problems, both models and all thresholds on the same draws."
)
_CASCADE_HEADERS = ("asked of", "threshold", "to the teacher %", "accuracy %", "95 % interval")
_COST_HEADERS = ("cost", "of the teacher's %", "gap, points", "its interval")


def cascade_table(cascade: Cascade) -> Table:
    """Both models alone, the cascade by threshold, and with thresholds chosen on other problems."""
    teacher = cascade.teacher_alone
    rows = [
        _end_row(cascade, f"{cascade.student}, once", cascade.once),
        _end_row(cascade, f"{cascade.student}, {cascade.k} votes", cascade.voting),
    ]
    for step in _shown_steps(cascade.steps):
        threshold = f"{step.votes} of {cascade.k}"
        cells = (threshold, percent(step.asked), percent(step.accuracy.mean))
        rows.append(("both", *cells, *_cost_cells(cascade, step.accuracy, step.cost, step.gap)))
    rows.append(_end_row(cascade, _teacher_words(cascade), teacher))
    chosen = cascade.chosen
    if chosen is not None:
        cells = ("chosen elsewhere", percent(chosen.asked), percent(chosen.accuracy.mean))
        costs = _cost_cells(cascade, chosen.accuracy, chosen.cost, chosen.gap)
        rows.append(("both", *cells, *costs))
    return Table(_CASCADE_HEADERS + _COST_HEADERS, tuple(rows), numbers=2)


def _shown_steps(steps: Sequence[CascadeStep]) -> Sequence[CascadeStep]:
    """All, or every second, third, … with the last among them."""
    every = math.ceil(len(steps) / MOST_STEPS) or 1
    from_the_last = steps[::-1][::every]
    return from_the_last[::-1]


def _teacher_words(cascade: Cascade) -> str:
    if cascade.teacher_votes == 1:
        return f"{cascade.teacher}, once"
    return f"{cascade.teacher}, {cascade.teacher_votes} votes"


def _end_row(cascade: Cascade, who: str, end: CascadeEnd) -> tuple[str, ...]:
    share = _share_of(end.cost, cascade.teacher_alone.cost)
    bounds = (percent(end.accuracy.mean), interval(end.accuracy))
    return (who, "", "", *bounds, whole(end.cost), share, "", "")


def _cost_cells(
    cascade: Cascade, accuracy: Bounded, cost: Bounded, gap: Bounded
) -> tuple[str, ...]:
    share = _share_of(cost.mean, cascade.teacher_alone.cost)
    return (interval(accuracy), whole(cost.mean), share, points(gap.mean), interval(gap))


def _share_of(cost: float, whole_cost: float) -> str:
    if whole_cost <= 0:
        return ""
    return whole(100 * cost / whole_cost)


def cascade_sentences(cascade: Cascade) -> list[str]:
    """Whether the cascade helps, by how much, and what to know of it."""
    who = f"{cascade.benchmark}: {cascade.student} first, {cascade.teacher} where it disagrees"
    chosen = cascade.chosen
    if chosen is None:
        why = f"{cascade.n} problems are too few to choose a threshold on some and measure others"
        if not cascade.steps:
            why = "no threshold asks the teacher anything: all samples of each problem agree"
        return [f"{who}: whether that helps cannot be told; {why}."]
    words = {
        "helps": "helps: more right answers than random routing at the same cost",
        "hurts": "hurts: fewer right answers than random routing at the same cost",
        "cannot be told": "cannot be told from random routing at the same cost",
    }
    found = f"{who}: {words[chosen.word]}, {gap_text(chosen.gap)} (n={cascade.n}, k={cascade.k})."
    share = chosen.cost_share
    paid = f"{whole(100 * share.mean)} % of the teacher's cost {interval(share)}"
    against = (
        f"At {paid}: {gap_text(chosen.over_teacher)} against the teacher alone, "
        f"{gap_text(chosen.over_student)} against the student's votes alone."
    )
    return [found, against, *_cascade_cautions(cascade)]


def _cascade_cautions(cascade: Cascade) -> Iterable[str]:
    best = max(cascade.steps, key=lambda step: step.gap.mean, default=None)
    if best is not None:
        yield (
            f"The best threshold on these same problems, {best.votes} of {cascade.k}, has a gap of "
            f"{points(best.gap.mean)} points: an optimistic choice. The figures above are of "
            "thresholds that five-fold cross-validation chose on other problems than it measured."
        )
    if cascade.voting.cost >= cascade.teacher_alone.cost:
        yield (
            f"{cascade.k} samples of the student cost as much as the teacher or more: no cascade "
            "of them can save. Draw fewer, or say what a teacher's token costs (--price)."
        )
