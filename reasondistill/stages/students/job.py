"""What the stage and a training are handed to make one student, and what a training gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.models.prompts import NamedPrompt
from reasondistill.records import TrainingFigures
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import StopSignal


@dataclass(frozen=True)
class StudentJob:
    """Everything one student is made of.

    `steps_like` is the trained student whose number of steps a baseline copies. `teacher` is who a
    distilling student learns from, a hub id or folder, and `traces` the folder with what that
    teacher wrote. `snapshots` is how many evenly spaced weights of the training are kept, the last
    of them being the finished model; the student is the same with any number of them. `tokens` is
    where tokenised rows are kept for all students of a run (None: in the student's own folder).
    `traces` and `verdicts` stand in the student's card too. `run` is where a student whose examples
    grew is kept under a name of its own (None: it is refused).
    """

    student: StudentSettings
    prompt: NamedPrompt
    problems: Path
    examples: Path
    folder: Path
    settings: TrainSettings
    steps_like: Path | None = None
    snapshots: int = 0
    teacher: str | None = None
    teacher_revision: str | None = None
    teacher_trust_remote_code: bool = False
    traces: Path | None = None
    tokens: Path | None = None
    verdicts: Path | None = None
    run: RunFolder | None = None


@dataclass(frozen=True)
class Trained:
    """A finished student: where its model stands, what its training cost, and how many examples
    were dropped, by reason.
    """

    model: Path
    figures: TrainingFigures
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class TrainingRun:
    """How a student is trained here; what it becomes does not depend on it.

    `settings` is what a cluster file says of training. Of `snapshots` evenly spaced weights all but
    the last, which is the model itself, are kept. `stop` asks the training to end with a
    checkpoint. Tokenised rows are kept in `tokens`, which other students may share (None: beside
    the student), and read from there.
    """

    settings: TrainSettings = TrainSettings()
    snapshots: int = 0
    stop: StopSignal | None = None
    tokens: Path | None = None


# On this machine, and nobody stops it.
HERE = TrainingRun()
