"""scores.json as a record: written by the evals stage, read by the report and the command line.

    summary = read_scores(RunFolder(run).evals.scores)
    summary.scores[0].mean, summary.differences[0].word

Shares and differences are fractions of 1. Values by benchmark and model are mappings of
mappings: `summary.tokens["gsm8k"]["distilled"]`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from reasondistill.errors import DataError
from reasondistill.records import (
    Cascade,
    Difference,
    Int64,
    MeasuredModel,
    Record,
    Score,
    SeedSpread,
)
from reasondistill.runs.store import exists_verified, read_bytes_verified

_METRIC = re.compile(r"(?:pass|maj|mg-pass)@[0-9]{1,9}")
_BUDGET = re.compile(r"tokens: [0-9]{1,9}")
# Benchmark → model → the shares of its outcomes, or the mean length of its answers in tokens.
Outcomes = dict[str, dict[str, dict[str, float]]]
Tokens = dict[str, dict[str, float | None]]


class PromptSpread(Record):
    """One model on one benchmark under several prompts: `scores` by prompt, the lowest and the
    highest of them, and the p-value of "the prompt does not matter".
    """

    model: str
    benchmark: str
    scores: dict[str, float]
    low: float
    high: float
    p_value: float
    n: Int64
    k: Int64


class Overlap(Record):
    """How many of a benchmark's problems share a run of `n_gram` words with a training question."""

    suspect: Int64
    of: Int64
    n_gram: Int64


class BootstrapInterval(Record):
    """The interval of a score by the bootstrap, beside the closed form."""

    model: str
    benchmark: str
    metric: str
    low: float
    high: float
    method: str


class SeedGroups(Record):
    """Students that differ in their seed alone, taken together: `members` of each name, and every
    score and comparison with names for members.
    """

    members: dict[str, tuple[str, ...]] = {}
    scores: tuple[Score, ...] = ()
    differences: tuple[Difference, ...] = ()
    spread: tuple[SeedSpread, ...] = ()
    outcomes: Outcomes = {}
    tokens: Tokens = {}
    note: str = ""


class ScoresFile(Record):
    """The content of scores.json. `groups` is None where every student has one seed. `cascades` are
    of each student with each of its teachers, where it has several samples.

    `refused` has the reason of each refused problem, `lost` the lost samples, both by benchmark and
    model, where scores leave them out.
    """

    scores: tuple[Score, ...] = ()
    parts: tuple[Score, ...] = ()
    differences: tuple[Difference, ...] = ()
    prompts: tuple[PromptSpread, ...] = ()
    overlap: dict[str, Overlap] = {}
    bootstrap: tuple[BootstrapInterval, ...] = ()
    outcomes: Outcomes = {}
    tokens: Tokens = {}
    refused: dict[str, dict[str, dict[str, str]]] = {}
    lost: dict[str, dict[str, tuple[str, ...]]] = {}
    groups: SeedGroups | None = None
    models: tuple[MeasuredModel, ...] = ()
    reference: str | None = None
    cascades: tuple[Cascade, ...] = ()

    @model_validator(mode="after")
    def _names_what_is_known(self) -> Self:
        """What the report takes apart is of its shape: a metric, a budget of tokens."""
        for score in (*self.scores, *self.parts):
            if not _METRIC.fullmatch(score.metric):
                raise ValueError(f"metric {score.metric!r}: unknown")
            if score.part.startswith("tokens") and not _BUDGET.fullmatch(score.part):
                raise ValueError(f"part {score.part!r}: unknown")
        return self

    def to_dict(self) -> dict[str, Any]:
        """The content as it is stored: without `groups` and `cascades` where there are none."""
        content = self.model_dump()
        for name in ("groups", "cascades"):
            if not content[name]:
                del content[name]
        return content


def read_scores(path: Path) -> ScoresFile:
    """The scores of a run; empty where there are none yet. Raises DataError for other content."""
    if not exists_verified(path):
        return ScoresFile()
    try:
        return ScoresFile.model_validate_json(read_bytes_verified(path))
    except ValidationError as error:
        first = error.errors()[0]["msg"]
        raise DataError(
            f"{path}: not scores of this version of reasondistill ({first}); "
            "remove the file and its manifest.json, and the same command makes both again."
        ) from error
