"""Forecast and fact: what was said of each stage beforehand, and what it took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from reasondistill.durations import duration
from reasondistill.records import VARIANT, Range
from reasondistill.runs.figures import WorkFigures
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
class Told:
    """One number: what was expected between `low` and `high`, and what came; seconds or tokens."""

    stage: str
    what: str
    expected: float
    low: float
    high: float
    took: float

    @property
    def ratio(self) -> float | None:
        """What came over what was expected."""
        if not self.expected:
            return None
        return self.took / self.expected

    @property
    def is_inside(self) -> bool:
        return self.low <= self.took <= self.high


def told(facts: Facts) -> list[Told]:
    """Time and tokens of every stage that was still to come when the forecast was made, and is
    finished now.
    """
    if facts.forecast is None:
        return []
    found: list[Told] = []
    for stage in facts.forecast.stages:
        if stage.state == "done":
            continue
        manifests = list(_manifests(facts, stage.stage))
        if not manifests or any(manifest.status != "complete" for manifest in manifests):
            continue
        if stage.wall_hours is not None:
            seconds = sum(_seconds(manifest) for manifest in manifests)
            found.append(_compared(stage.stage, "seconds", stage.wall_hours, seconds, unit=3600))
        tokens = sum(WorkFigures.of(manifest).tokens for manifest in manifests)
        if stage.tokens is not None and tokens:
            found.append(_compared(stage.stage, "tokens", stage.tokens, tokens))
    return found


def _compared(stage: str, what: str, expected: Range, took: float, *, unit: float = 1) -> Told:
    return Told(
        stage=stage,
        what=what,
        expected=expected.expected * unit,
        low=expected.low * unit,
        high=expected.high * unit,
        took=float(took),
    )


def _manifests(facts: Facts, stage: str) -> Iterator[Manifest]:
    """The folders that a stage of the forecast filled: of a measured model the samples on every
    benchmark.
    """
    kind, _, name = stage.partition("/")
    for found in facts.stages:
        parts = found.place.split("/")
        if kind == "evals":
            is_own = (
                len(parts) == 4
                and parts[0] == EVALS
                and parts[3] == "traces"
                and parts[2].partition(VARIANT)[0] == name
            )
        elif kind == "students":
            is_own = found.place == f"{STUDENTS}/{name}"
        else:
            is_own = found.place == _PLACES.get(kind)
        if is_own:
            yield found.manifest


def _seconds(manifest: Manifest) -> float:
    """Of all sessions: a stage that was resumed says in its figures what the earlier ones took;
    workers side by side share their time.
    """
    figures = WorkFigures.of(manifest)
    if figures.workers > 1:
        return manifest.seconds
    return max(manifest.seconds, figures.seconds + figures.load_seconds)


# ---- saying it -----------------------------------------------------------------------------------


def table(facts: Facts) -> Table:
    headers = ("stage", "what", "forecast", "90 % interval", "took", "ratio", "inside")
    rows = [tuple(_cells(row)) for row in told(facts)]
    return Table(headers, tuple(rows), numbers=2)


def _cells(row: Told) -> Iterator[str]:
    words, what = whole, row.what
    if row.what == "seconds":
        words, what = duration, "time"
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


def note(facts: Facts) -> str:
    """When it was foretold, from what, and how often it held."""
    if facts.forecast is None:
        return ""
    rows = told(facts)
    inside = sum(row.is_inside for row in rows)
    sources = ", ".join(facts.forecast.sources) or "what the user gave"
    made = facts.forecast
    return (
        f"Foretold on {made.made.partition('T')[0]} for {made.cluster}, from {sources}. "
        f"Intervals hold 90 % of simulated runs: {inside} of "
        f"{len(rows)} numbers came inside theirs; those that stand on one measurement "
        "hold or miss together. Stages that were finished "
        "then, or are not yet, are left out."
    )


def checked_forecast(facts: Facts) -> CheckedForecast | None:
    """What scripts read: the forecast, and each number beside what came."""
    if facts.forecast is None:
        return None
    rows: list[ForecastFact] = []
    for row in told(facts):
        rows.append(ForecastFact(**asdict(row), ratio=row.ratio, inside=row.is_inside))
    return CheckedForecast(**facts.forecast.model_dump(), facts=tuple(rows))
