"""Forecast and fact: what was forecast for each stage, and what it took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from reasondistill.durations import duration
from reasondistill.records import VARIANT, Range
from reasondistill.runs.figures import WorkFigures, seconds_spent
from reasondistill.runs.store import Manifest
from reasondistill.stages.report.content import CheckedForecast, ForecastFact
from reasondistill.stages.report.facts import (
    EVALS,
    EXAMPLES,
    PROBLEMS,
    STUDENTS,
    TRACES,
    VERDICTS,
    Facts,
)
from reasondistill.tables import Table, whole

_PLACES = {"problems": PROBLEMS, "traces": TRACES, "verdicts": VERDICTS, "examples": EXAMPLES}


@dataclass(frozen=True)
class CheckedNumber:
    """One number of a forecast, `expected` between `low` and `high`, beside what a stage `took`:
    seconds, tokens or bytes of memory.
    """

    stage: str
    what: str
    expected: float
    low: float
    high: float
    took: float

    @property
    def ratio(self) -> float | None:
        """What the stage took, divided by what was expected."""
        if not self.expected:
            return None
        return self.took / self.expected

    @property
    def is_inside(self) -> bool:
        return self.low <= self.took <= self.high


def checked_numbers(facts: Facts) -> list[CheckedNumber]:
    """Time, tokens and memory of every stage that had not finished when the forecast was made, and
    has finished now.
    """
    if facts.forecast is None:
        return []
    numbers: list[CheckedNumber] = []
    for stage in facts.forecast.stages:
        if stage.state == "done":
            continue
        manifests = list(_manifests(facts, stage.stage))
        if not manifests or any(manifest.status != "complete" for manifest in manifests):
            continue
        if stage.wall_hours is not None:
            seconds = sum(seconds_spent(manifest) for manifest in manifests)
            numbers.append(_compared(stage.stage, "seconds", stage.wall_hours, seconds, unit=3600))
        tokens = sum(WorkFigures.of(manifest).worked_tokens for manifest in manifests)
        if stage.tokens is not None and tokens:
            numbers.append(_compared(stage.stage, "tokens", stage.tokens, tokens))
        held = max(map(_held, manifests))
        if stage.memory_bytes is not None and held:
            numbers.append(_compared(stage.stage, "memory", stage.memory_bytes, held))
    return numbers


def _compared(
    stage: str, what: str, expected: Range, took: float, *, unit: float = 1
) -> CheckedNumber:
    return CheckedNumber(
        stage=stage,
        what=what,
        expected=expected.expected * unit,
        low=expected.low * unit,
        high=expected.high * unit,
        took=float(took),
    )


def _manifests(facts: Facts, stage: str) -> Iterator[Manifest]:
    """The folders of one stage of the forecast; for a measured model its samples on every
    benchmark.
    """
    kind, _, name = stage.partition("/")
    for folder in facts.stages:
        parts = folder.place.split("/")
        if kind == "evals":
            is_own = (
                len(parts) == 4
                and parts[0] == EVALS
                and parts[3] == "traces"
                and parts[2].partition(VARIANT)[0] == name
            )
        elif kind == "students":
            is_own = folder.place == f"{STUDENTS}/{name}"
        else:
            is_own = folder.place == _PLACES.get(kind)
        if is_own:
            yield folder.manifest


def _held(manifest: Manifest) -> float:
    """The most bytes of memory that a stage held, on its GPU where a training has one."""
    of_training = WorkFigures.of(manifest).peak_memory_gib
    return (of_training or manifest.peak_memory_gib) * 2**30


# ---- table and note ------------------------------------------------------------------------------


def table(facts: Facts) -> Table:
    headers = ("stage", "what", "forecast", "90 % interval", "took", "ratio", "inside")
    rows = [tuple(_cells(row)) for row in checked_numbers(facts)]
    return Table(headers, tuple(rows), numbers=2)


def _cells(row: CheckedNumber) -> Iterator[str]:
    words, what = whole, row.what
    if row.what == "seconds":
        words, what = duration, "time"
    elif row.what == "memory":
        words = _gib
    yield row.stage
    yield what
    yield words(row.expected)
    yield f"{words(row.low)} to {words(row.high)}"
    yield words(row.took)
    ratio = ""
    if row.ratio is not None:
        ratio = f"{row.ratio:.2f}"
    yield ratio
    inside = "no"
    if row.is_inside:
        inside = "yes"
    yield inside


def _gib(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB"


def note(facts: Facts) -> str:
    """When the forecast was made, from what evidence, and how often it held."""
    if facts.forecast is None:
        return ""
    rows = checked_numbers(facts)
    inside = sum(row.is_inside for row in rows)
    sources = ", ".join(facts.forecast.sources) or "what the user gave"
    forecast = facts.forecast
    date = forecast.made.partition("T")[0]
    return (
        f"Forecast on {date} for {forecast.cluster}, from {sources}. "
        f"Intervals hold 90 % of simulated runs: {inside} of "
        f"{len(rows)} numbers came inside theirs; those that stand on one measurement "
        "hold or miss together. Stages that were finished "
        "then, or are not yet, are left out."
    )


def checked_forecast(facts: Facts) -> CheckedForecast | None:
    """What scripts read: the forecast, and each number beside what the stage took."""
    if facts.forecast is None:
        return None
    rows: list[ForecastFact] = []
    for row in checked_numbers(facts):
        rows.append(ForecastFact(**asdict(row), ratio=row.ratio, inside=row.is_inside))
    return CheckedForecast(**facts.forecast.model_dump(), facts=tuple(rows))
