"""What a task's process and its launcher say to each other: lines for people carry a mark, an error
is a marked line or a file.
"""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from reasondistill import errors
from reasondistill.errors import ReasonDistillError, StageError
from reasondistill.pipeline import Run, Task

# Begins a line that is meant for people; what libraries print has none.
MARK = "\x1e"
# Begins a marked line that is an error as JSON.
ERROR_WORD = "error "
# Names a file that takes the error instead, where nobody reads the lines.
ERROR_FILE = "REASONDISTILL_ERROR"
# Lines for people are marked all the same.
KEEP_MARKS = "REASONDISTILL_MARKS"
# How a process ends that SIGINT or SIGTERM has stopped: by itself.
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
STOPPED_ON_REQUEST = (
    "Stopped on request; everything finished so far is saved. Run the same command to go on."
)
_LONGEST_NAME = 100


def arguments(task: Task, folder: str) -> list[str]:
    """What to call reasondistill with so that it does a task of the run in this folder or URL."""
    words = ["task", folder, task.stage, *task.units]
    if task.share is not None:
        words += ["--share", task.share.text]
    return words


def log_of(run: Run, task: Task) -> Path:
    """Where a task's output goes."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", task.name)
    name = plain[:_LONGEST_NAME].strip("-")
    return run.layout.logs / f"{name}.log"


def url_of(run: Run) -> str | None:
    """Where the run lives, when that is not the folder here."""
    if run.cluster.storage is None:
        return None
    root = run.cluster.storage.rstrip("/")
    return f"{root}/{run.folder.name}"


def reported_error(text: str, prefix: str = "") -> ReasonDistillError:
    """The error that a task's process reported as JSON, of its own kind again."""
    value = json.loads(text)
    kind = getattr(errors, value["kind"], StageError)
    error = ReasonDistillError.__new__(kind)
    error.args = (prefix + value["message"],)
    return error
