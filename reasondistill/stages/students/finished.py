"""Finished students, as other stages find them."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from reasondistill.errors import StageError
from reasondistill.records import Student
from reasondistill.runs import layout
from reasondistill.runs.figures import read_student_record
from reasondistill.runs.store import require_complete


def read_student(folder: Path) -> Student:
    """The finished student of a folder, its `path` absolute or a hub id. Raises StageError when it
    is not finished.
    """
    require_complete(folder)
    student = read_student_record(folder / layout.STUDENT)
    inside = folder / student.path
    is_left_out = (folder / layout.WEIGHTS_LEFT_OUT).exists()
    if not inside.exists() and not is_left_out:
        return student
    return student.model_copy(update={"path": str(inside)})


def remove_checkpoints(folder: Path) -> None:
    """Remove what a finished student's training would have gone on from: most of what it takes on
    disk. What was set aside as damaged stays, and so do a tracker's files.
    """
    checkpoints = folder / layout.CHECKPOINTS
    for path in checkpoints.glob("checkpoint-*"):
        shutil.rmtree(path)
    # The trainer's library writes one beside them.
    (checkpoints / layout.CARD).unlink(missing_ok=True)
    with suppress(OSError):  # not there, or not empty
        checkpoints.rmdir()


def snapshots(folder: Path) -> list[tuple[int, Path]]:
    """The weights of a finished student after so many steps, in order of steps: model folders that
    transformers and vLLM load.

    The finished model itself stands there under its own step, the last one unless `keep = "best"`
    chose another; there is no second copy of it. Empty for an untouched
    base: it was never trained. Raises StageError when the student is not finished, or was trained
    without keeping any.
    """
    student = read_student(folder)
    if student.figures is None:
        return []
    if not (folder / layout.SNAPSHOTS).is_dir():
        raise StageError(
            f"{folder}: no snapshots were kept while this student was trained. Remove that "
            "folder and train again with "
            "evals.checkpoints.count = the number of them that is wanted."
        )
    delivered = student.figures.delivered_step or student.figures.steps
    paths = {delivered: Path(student.path)}
    for path in (folder / layout.SNAPSHOTS).iterdir():
        match = re.fullmatch(r"step-(\d+)", path.name)
        if match is not None:
            paths.setdefault(int(match[1]), path)
    return sorted(paths.items())
