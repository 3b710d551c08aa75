"""The content of report.json, as records: for scripts, and for the JSON Schema that is made from
them.

    ReportFile.model_validate_json((run / "7-report" / "report.json").read_bytes()).scores[0].mean

Shares and differences are fractions of 1. What a run does not have is an empty list; a key that
only some runs have (`groups`, `missing`, `suspects`, `methods`, `forecast`, `cascades`) is absent
there.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from reasondistill.records import (
    Cascade,
    Difference,
    Forecast,
    Record,
    Score,
    SeedSpread,
    Student,
    SuspectGold,
)
from reasondistill.runs.scores import Overlap, PromptSpread


class ReportedScore(Score):
    """A score with the shares of its outcomes; those of pass@1 add up to 1."""

    outcomes: dict[str, float]


class PublishedRow(Record):
    """What somebody else has published of a benchmark of this run; numbers as they were written."""

    benchmark: str
    model: str
    percent: str = Field(alias="published %")
    spread: str = Field(alias="±")
    samples: str
    how: str
    grader: str
    differences: str = Field(alias="differs from ours in")
    source: str


class FunnelRow(Record):
    """What went into a stage (None: not known yet), what came out, and what was left behind by
    reason.
    """

    stage: str
    came_in: int | None = Field(alias="in")
    came_out: int = Field(alias="out")
    parts: dict[str, int]
    dropped: dict[str, int]


class StageRow(Record):
    """A stage folder as its manifest tells of it; `figures` are each stage's own."""

    stage: str
    status: Literal["partial", "complete"]
    fingerprint: str
    counts: dict[str, int]
    dropped: dict[str, int]
    figures: dict[str, Any]
    seconds: float
    environment: dict[str, Any]


class Groups(Record):
    """Students of several seeds: who they are, and every score and comparison with them taken
    together.
    """

    members: dict[str, tuple[str, ...]]
    scores: tuple[ReportedScore, ...]
    differences: tuple[Difference, ...]
    spread: tuple[SeedSpread, ...]
    note: str


class MethodRow(Record):
    """One method on one benchmark; `gap_closed` is a share of the way from the untouched base to
    the teacher.
    """

    model: str
    method: str
    score: Score
    gap_closed: float | None
    difference: Difference | None
    spread: SeedSpread | None


class Cost(Record):
    """What training took, over all seeds the mean; None where it is not known, or not known of
    every seed.
    """

    model: str
    method: str
    perplexity: float | None
    teacher_kl: float | None
    loss_tokens: float | None
    tokens: float | None
    tokens_per_s: float | None
    peak_memory_gib: float | None
    teacher_share: float | None
    rollout_share: float | None
    rollouts_correct: float | None


class Size(Record):
    """How large a model is and how fast it answers: many at once as the evals sampled it, one at a
    time where that was measured. `latency_share` is its time for a token alone by that of the model
    that all are compared with, in the same run.
    """

    model: str
    parameters: int | None
    compression: float | None
    size_bytes: int | None
    tokens_per_s: float | None
    seconds_per_answer: float | None
    latency_ms_per_token: float | None
    latency_s_per_answer: float | None
    latency_s_to_first_token: float | None = None
    latency_share: float | None = None


class ForecastFact(Record):
    """One number of the forecast beside what came, in seconds, tokens or bytes of memory."""

    stage: str
    what: str
    expected: float
    low: float
    high: float
    took: float
    ratio: float | None
    inside: bool


class CheckedForecast(Forecast):
    """The forecast that was made before the run, with what came of it."""

    facts: tuple[ForecastFact, ...]


class ReportFile(Record):
    """The content of report.json."""

    scores: tuple[ReportedScore, ...]
    differences: tuple[Difference, ...]
    parts: tuple[Score, ...]
    prompts: tuple[PromptSpread, ...]
    overlap: dict[str, Overlap]
    published: tuple[PublishedRow, ...]
    funnel: tuple[FunnelRow, ...]
    stages: tuple[StageRow, ...]
    students: tuple[Student, ...]
    groups: Groups | None = None
    missing: tuple[str, ...] | None = None
    refused: dict[str, dict[str, dict[str, str]]] | None = None
    lost: dict[str, dict[str, tuple[str, ...]]] | None = None
    suspects: tuple[SuspectGold, ...] | None = None
    methods: tuple[MethodRow, ...] | None = None
    costs: tuple[Cost, ...] | None = None
    sizes: tuple[Size, ...] | None = None
    forecast: CheckedForecast | None = None
    cascades: tuple[Cascade, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it is stored: without the keys that this run has nothing for."""
        content = self.model_dump(by_alias=True)
        return {key: value for key, value in content.items() if value is not None}
