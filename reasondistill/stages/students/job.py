"""What the stage is handed to make one student."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.models.prompts import NamedPrompt


@dataclass(frozen=True)
class StudentJob:
    """Everything one student is made of.

    `steps_like` is the trained student whose number of steps a baseline copies. `teacher` is who a
    distilling student learns from, a hub id or folder, and `traces` the folder with what that
    teacher wrote. `snapshots` is how many evenly spaced weights of the training are kept, the last
    of them being the finished model; the student is the same with any number of them. `tokens` is
    where tokenised rows are kept for all students of a run (None: in the student's own folder).
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
    traces: Path | None = None
    tokens: Path | None = None
