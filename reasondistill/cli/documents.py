"""What `--json` prints: one document for each command. The reference of commands has these fields,
made from the strings below them.

Names and order of fields are part of what scripts may count on: fields are added at the end, and
`format` changes where one changes its meaning. What is not known, or is no number, is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from reasondistill.records import Difference, Score


class Row(BaseModel):
    """A part of a document."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        defer_build=True,
        serialize_by_alias=True,
        populate_by_name=True,
    )


class Document(Row):
    """What one command prints."""

    command: str
    """Which command it was."""
    format: Literal[1] = 1
    """The version of these fields."""

    def values(self) -> dict[str, Any]:
        """Its fields as JSON, in their order."""
        return self.model_dump(mode="json")


def as_text(value: object) -> str:
    """A text that JSON can hold: half a character, as a name of a file may have, is written out."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


# ---- parts of several documents ------------------------------------------------------------------


class ScoreRow(Row):
    """How often a model is right on a benchmark."""

    model: str
    """The model's name in the run, or the label that the command gave it."""
    benchmark: str
    """The benchmark's name."""
    metric: str
    """`pass@1`, `pass@k`, `maj@k`, …"""
    mean: float | None
    """A share: 0.417 is 41.7 %."""
    low: float | None
    """Where its 95 % interval begins."""
    high: float | None
    """Where it ends."""
    n: int
    """Problems."""
    k: int
    """Samples of each."""
    outcomes: dict[str, float] | None = None
    """Shares of the outcomes of its samples; null where nobody counted them."""

    @classmethod
    def of(cls, score: Score) -> ScoreRow:
        return cls(
            model=score.model,
            benchmark=score.benchmark,
            metric=score.metric,
            mean=score.mean,
            low=score.low,
            high=score.high,
            n=score.n,
            k=score.k,
            outcomes=getattr(score, "outcomes", None),
        )


class DifferenceRow(Row):
    """A paired difference, model minus baseline, over the same problems."""

    model: str
    """Who is compared."""
    baseline: str
    """With whom."""
    benchmark: str
    """On what."""
    metric: str
    """By which metric."""
    word: Literal["better", "worse", "tied"]
    """What is shown at this n: interval and adjusted p agree, or it is `tied`."""
    mean: float | None
    """The difference as a share: 0.03 is 3 points."""
    low: float | None
    """Where its 95 % interval begins."""
    high: float | None
    """Where it ends."""
    n: int
    """Problems that both answered."""
    k: int
    """Samples of each."""
    p_value: float | None
    """Of an exact permutation test."""
    p_adjusted: float | None
    """The same after Holm, over the comparisons of this benchmark."""
    gained: int | None
    """Problems that only the model solves; null for several samples each."""
    lost: int | None
    """Problems that only the baseline solves; null for several samples each."""

    @classmethod
    def of(cls, row: Difference) -> DifferenceRow:
        return cls(**row.model_dump())


def difference_rows(rows: Iterable[Difference]) -> tuple[DifferenceRow, ...]:
    """The differences as a document has them."""
    return tuple(map(DifferenceRow.of, rows))


class WhatFailed(Row):
    """An error that the user is to read."""

    kind: str
    """`ConfigError`, `DataError`, `DriftError`, `StageError`, `Interrupted`, …"""
    message: str
    """What standard error says too."""
    exit_code: int
    """How the process ends: 2; 130 or 143 after a request to stop."""


class ErrorDocument(Document):
    """Instead of every other document where a command ends in an error. Options that are none, and
    faults of ours (exit code 1), have none: then standard output is empty.
    """

    error: WhatFailed
    """What went wrong."""


# ---- run and eval --------------------------------------------------------------------------------


class TaskRow(Row):
    """A task that was done, or would be."""

    task: str
    """Its short name: `evals`, or `evals 2/3` for the second of three of its stage."""
    stage: str
    """Its stage."""
    units: tuple[str, ...]
    """The students that it trains or the models that it measures; empty for all of a stage."""
    state: str
    """`done`; of a plan what `show` would say: `new`, `partial`, `complete`, …"""
    expected: str | None = None
    """Of a plan: counts and an estimate, in words."""
    counts: dict[str, int] | None = None
    """What went `in` and came `out`; null for a task that did a part of a stage."""
    dropped: dict[str, int] | None = None
    """What was left behind, by reason."""
    seconds: float | None = None
    """How long it took in this command."""


class JobRow(Row):
    """A job that was sent away."""

    name: str
    """Its name in `status`."""
    job_id: str
    """The scheduler's number."""
    counts: dict[str, int]
    """How many of its elements are waiting, running, done, failed, cancelled."""


class RunDocument(Document):
    """What a run has come to."""

    name: str
    """The run's name."""
    folder: str
    """The run's folder."""
    status: Literal["done", "sent", "planned"]
    """All is done; jobs were sent and go on by themselves; or nothing was done (--dry-run)."""
    seconds: float | None = None
    """How long this command took; null for a plan."""
    tasks: tuple[TaskRow, ...] = ()
    """What was done in this command, or would be."""
    jobs: tuple[JobRow, ...] = ()
    """What was sent."""
    warnings: tuple[str, ...] = ()
    """What standard error warns of."""
    scores: tuple[ScoreRow, ...] = ()
    """pass@1 of each model on each benchmark, as the run's report has it."""
    differences: tuple[DifferenceRow, ...] = ()
    """All paired differences of the report."""
    missing: tuple[str, ...] = ()
    """What is missing of the scores, in sentences."""
    files: tuple[str, ...] = ()
    """The report's files."""
    next: tuple[str, ...] = ()
    """Commands that make sense now, quoted for a shell."""


# ---- show ----------------------------------------------------------------------------------------


class StageRow(Row):
    """A stage of a run, or a student."""

    name: str
    """`traces`, `students/distilled`, …"""
    state: str
    """`new`, `skipped`, `partial`, `complete`, `stale (…)`, `kept (…)` or `damaged`."""
    counts: dict[str, int]
    """What went `in`, came `out`, and other counts; of a stage under way those of now."""
    dropped: dict[str, int]
    """What was left behind, by reason."""
    seconds: float | None
    """How long it took; null where that is not known."""
    peak_memory_gib: float | None
    """The most memory that its process held; null where that is not known."""
    missing: tuple[str, ...]
    """Sentences: what is lost, refused or damaged."""
    kept: tuple[str, ...]
    """Sentences: what was kept as it is although settings have changed."""
    sources: tuple[str, ...]
    """Sentences: what became of the rows of each source of problems."""
    costs: tuple[str, ...]
    """Sentences: what a verified trace cost."""


class ShowDocument(Document):
    """The state of a run."""

    name: str
    """The run's name."""
    folder: str
    """The run's folder."""
    stages: tuple[StageRow, ...]
    """Each stage and student, in order."""
    scores: tuple[ScoreRow, ...]
    """As of `run`."""
    differences: tuple[DifferenceRow, ...]
    """As of `run`."""
    files: tuple[str, ...]
    """The report's files."""
    next: tuple[str, ...]
    """Commands that make sense now, quoted for a shell."""


# ---- compare -------------------------------------------------------------------------------------


class PooledRow(Row):
    """A difference over all benchmarks."""

    model: str
    """Who is compared."""
    baseline: str
    """With whom."""
    weight: Literal["problem", "benchmark"]
    """Whether every problem counts alike, or every benchmark."""
    word: Literal["better", "worse", "tied"]
    """What is shown at this n."""
    mean: float | None
    """The difference as a share."""
    low: float | None
    """Where its 95 % interval begins."""
    high: float | None
    """Where it ends."""
    n: int
    """Problems of all benchmarks."""
    p_value: float | None
    """After Holm, over all comparisons."""


class FlipRow(Row):
    """A problem that one of the first two models solves more often."""

    benchmark: str
    """Of which benchmark."""
    problem: str
    """The problem's id."""
    model_share: float
    """How often the first model is right."""
    baseline_share: float
    """How often its baseline is."""


class ChangeRow(Row):
    """A setting in which the first two models' evals differ."""

    benchmark: str
    """Of which benchmark."""
    setting: str
    """Its name."""
    model: str | None
    """The first model's; null where it has none."""
    baseline: str | None
    """Its baseline's."""


class LeftOutRow(Row):
    """Problems that a comparison does without."""

    benchmark: str
    """On what."""
    model: str
    """Who is compared."""
    baseline: str
    """With whom."""
    left: int
    """How many problems are compared."""
    problems: dict[str, str]
    """The problems that are left out, each with the reason."""


class CompareDocument(Document):
    """Models compared by their stored samples. The texts of flips are in the file of --out."""

    scores: tuple[ScoreRow, ...]
    """pass@1 of each model on each benchmark."""
    differences: tuple[DifferenceRow, ...]
    """Each model against each baseline, on each benchmark."""
    pooled: tuple[PooledRow, ...]
    """Over all benchmarks, where there are several."""
    left_out: tuple[LeftOutRow, ...]
    """What was not compared."""
    changes: tuple[ChangeRow, ...]
    """Settings in which the first model and the first baseline differ."""
    flips: tuple[FlipRow, ...]
    """All problems on which the first model and the first baseline differ, the largest first."""
    metrics: dict[str, str]
    """Of other tools' logs: by which metric a benchmark's samples are right."""
    notes: tuple[str, ...]
    """What else there is to know of logs, in sentences."""
    next: tuple[str, ...]
    """Commands that make sense now, quoted for a shell."""


# ---- power ---------------------------------------------------------------------------------------


class PowerRow(Row):
    """What a number of samples per problem can show."""

    samples: int | None
    """Samples per problem, of both models; null: as many as you like."""
    chance: float
    """The chance to show the effect."""
    smallest_effect: float | None
    """The smallest difference that is shown with the wanted chance; null: none is."""
    problems_needed: int | None
    """How many problems the effect takes; null: no number is enough, or nobody asked."""


class PowerDocument(Document):
    """What a plan can show."""

    problems: int
    """Problems of the plan."""
    n: int
    """Samples per problem of the plan."""
    effect: float
    """The difference to be shown, as a share."""
    chance: float
    """The chance to show it that is wanted."""
    base: float
    """How often the weaker model is right."""
    rho: float
    """How far samples of one problem agree."""
    alike: float
    """How far the two models agree about problems."""
    is_guess: bool
    """Whether these were guessed, and not taken from --like."""
    rows: tuple[PowerRow, ...]
    """By number of samples."""
    samples_needed: int | None
    """From how many samples on these problems show the effect; null: from no number."""
    next: tuple[str, ...]
    """Commands that make sense now, quoted for a shell."""


# The document of each command, for the reference.
DOCUMENTS: Mapping[str, type[Document]] = {
    "run": RunDocument,
    "eval": RunDocument,
    "show": ShowDocument,
    "compare": CompareDocument,
    "power": PowerDocument,
}
