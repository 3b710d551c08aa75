"""Lines of metrics.jsonl as records, for who reads them.

    TrainingLine.of(run / "5-students" / "distilled")[-1].loss

What a line does not say is None, or nothing of it: folders of other versions are read too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from reasondistill.runs import layout
from reasondistill.runs.lenient import LenientRecord
from reasondistill.runs.store import read_metrics


class MetricsLine(LenientRecord):
    """One line of a folder's metrics.jsonl."""

    @classmethod
    def of(cls, folder: Path) -> list[Self]:
        """All lines of a folder; empty when there are none. Raises DataError for a value of another
        kind.
        """
        where = str(folder / layout.METRICS)
        return [cls.read(row, where) for row in read_metrics(folder)]


class WorkLine(MetricsLine):
    """How far sampling or grading was: `seconds` and `tokens` since its session began, without the
    `load_seconds` before. Of a folder's samples `done` stand, and the session has `drawn` some of
    them (None in grading). `threads` are what an engine on a CPU computed with.
    """

    session: str = ""
    teacher: str = ""
    done: int = 0
    drawn: int | None = None
    tokens: float = 0.0
    seconds: float = 0.0
    load_seconds: float = 0.0
    threads: int | None = None

    @property
    def finished(self) -> int:
        """The records that the session itself has finished."""
        if self.drawn is None:
            return self.done
        return self.drawn


class TrainingLine(MetricsLine):
    """A loss on either split after so many steps, with the seconds and tokens since training
    began. `accuracy` is the share of the traces' tokens, since the line before, that were the
    student's likeliest: near 1 they are known by heart.
    """

    step: int | None = None
    seconds: float | None = None
    tokens: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    validation_loss: float | None = None
    learning_rate: float | None = None
