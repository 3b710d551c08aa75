"""What each stage says of itself under `figures` in its manifest.json, as records.

    figures = WorkFigures.of(manifest)
    figures.tokens / figures.seconds

The stored JSON is each stage's own and grows with it: what a record does not name is passed over,
and what an earlier version or an unfinished stage did not write is empty. A student's figures are
`records.TrainingFigures`; those of evals and report are lines of text to show, by name.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from reasondistill.errors import DataError
from reasondistill.runs.store import Manifest


class Figures(BaseModel):
    """Numbers of one stage, read from its manifest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Those of a stage. Raises DataError for a value of another kind."""
        known: dict[str, Any] = {}
        for name in cls.model_fields:
            value = manifest.figures.get(name)
            if value is not None:
                known[name] = value
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            stage = manifest.identity.get("stage", "?")
            where = ".".join(map(str, error.errors()[0]["loc"]))
            message = error.errors()[0]["msg"]
            raise DataError(f"manifest of the stage {stage}: figures.{where}: {message}") from error


class WorkFigures(Figures):
    """Work that makes or reads tokens: sampling, and training as far as it says the same. Over all
    sessions, those of `workers` side by side added up.
    """

    samples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    load_seconds: float = 0.0
    workers: int = 1


class VerdictsFigures(Figures):
    """How many verdicts have each outcome, and how many of them a judge gave."""

    correct: int = 0
    wrong: int = 0
    no_answer: int = 0
    truncated: int = 0
    undecided: int = 0
    correct_share: float = 0.0
    failed: int = 0
    refused: int = 0
    judged: int = 0
    judged_correct: int = 0
    judged_wrong: int = 0
    judge_failed: int = 0
