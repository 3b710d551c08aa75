"""Lines of metrics.jsonl as records, for reading.

    TrainingLine.of(run / "5-students" / "distilled")[-1].loss

A value that a line does not have is None or empty, so that folders of other versions can be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from reasondistill.records import Int64
from reasondistill.runs import layout
from reasondistill.runs.lenient import LenientRecord
from reasondistill.runs.store import read_metrics


class MetricsLine(LenientRecord):
    """One line of a folder's metrics.jsonl."""

    @classmethod
    def of(cls, folder: Path) -> list[Self]:
        """All lines of a folder; empty when there are none. Raises DataError for a value of the
        wrong type.
        """
        path = folder / layout.METRICS
        rows = enumerate(read_metrics(folder), start=1)
        return [cls.read(row, f"{path}:{number}") for number, row in rows]


class WorkLine(MetricsLine):
    """Progress of sampling or grading: `seconds` and `tokens` since its session began, without the
    `load_seconds` before. The folder has `done` samples, of which the session has `drawn` some
    (None in grading). `threads` is the number of threads of an engine on a CPU.
    """

    session: str = ""
    teacher: str = ""
    done: Int64 = 0
    drawn: Int64 | None = None
    tokens: float = 0.0
    seconds: float = 0.0
    load_seconds: float = 0.0
    threads: Int64 | None = None

    @property
    def finished(self) -> int:
        """How many records the session itself has finished."""
        if self.drawn is None:
            return self.done
        return self.drawn


class TrainingLine(MetricsLine):
    """A loss on either split after so many steps, with the seconds and tokens since training
    began. `accuracy` is the share of the traces' tokens, since the line before, that were the
    student's likeliest: near 1 they are known by heart.
    """

    step: Int64 | None = None
    seconds: float | None = None
    tokens: Int64 | None = None
    loss: float | None = None
    accuracy: float | None = None
    validation_loss: float | None = None
    learning_rate: float | None = None
