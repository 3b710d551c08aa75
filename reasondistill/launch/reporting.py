"""What a task's process and its launcher say to each other: each message is JSON on a line of its
own, `@WORD {"line": "…"}` for people or `@WORD {"error": {…}}`.

WORD is drawn anew for each task. What a model, a file or a library prints cannot know it, so no
line of theirs is a message; and JSON holds no line break, so no message is two.
"""

from __future__ import annotations

import json
import re
import secrets
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from reasondistill import errors
from reasondistill.errors import DataError, ReasonDistillError, StageError
from reasondistill.foreign_files import read_text
from reasondistill.foreign_text import cleaned_texts, shown, shown_line
from reasondistill.pipeline import Run, Task
from reasondistill.secrets import cleaned

# Holds the word of a task whose lines a launcher reads; without it they are plain text.
CHANNEL = "REASONDISTILL_CHANNEL"
# Names a file that takes the error instead, where nobody reads the lines.
ERROR_FILE = "REASONDISTILL_ERROR"
# How a process ends that SIGINT or SIGTERM has stopped: by itself.
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
STOPPED_ON_REQUEST = (
    "Stopped on request; everything finished so far is saved. Run the same command to go on."
)
_LONGEST_NAME = 100
_WORD_BYTES = 16
_MESSAGE = re.compile(r"@[0-9a-f]{32} (?=\{)")


@dataclass(frozen=True)
class Line:
    """A line that a task printed: its text, and what it says to the launcher.

    `is_for_people`: the task wrote it for whoever watches. `error` is what the task ends with.
    """

    text: str
    is_for_people: bool = False
    error: ReasonDistillError | None = None


def new_word() -> str:
    """What the messages of one task begin with."""
    return secrets.token_hex(_WORD_BYTES)


def message(word: str, content: dict[str, Any]) -> str:
    """A message to the launcher, its texts cleaned, without the end of its line. It is written with
    `foreign_text.write_as_is`.
    """
    return f"@{word} {json.dumps(cleaned_texts(content))}"


def parsed(line: str, word: str) -> Line:
    """What a line says that a task printed. One that is no message is text, whatever is in it; so
    is a message that cannot be read, with a word about that.
    """
    # Behind an unfinished progress bar, perhaps.
    _, mark, rest = line.partition(f"@{word} ")
    if not mark:
        return Line(shown(cleaned(line)))
    try:
        content = _object(json.loads(rest))
        if "error" in content:
            error = reported_error(content["error"])
            return Line(shown(cleaned(f"{type(error).__name__}: {error}")), error=error)
        return Line(shown_line(cleaned(str(content["line"]))), is_for_people=True)
    except (ValueError, KeyError, RecursionError) as error:
        return Line(f"not a message of a task ({error!r}): {shown(cleaned(rest))}")


def readable(text: str) -> str:
    """A log as people read it: the text of the messages in it."""
    return "\n".join(map(_readable, text.split("\n")))


def _readable(line: str) -> str:
    found = _MESSAGE.search(line)
    if found is None:
        return line
    return parsed(line[found.start() :], found[0][1:-1]).text


def _object(value: object) -> dict[str, Any]:
    """A JSON object. Raises ValueError for another value."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise ValueError("no JSON object")


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


def reported_error(value: object, prefix: str = "") -> ReasonDistillError:
    """The error that a task's process reported, of its own kind again; of a kind that we don't
    know it is a StageError.

    Raises ValueError when it is none.
    """
    content = _object(value)
    words, name = content.get("message"), content.get("kind")
    if not (isinstance(words, str) and isinstance(name, str)):
        raise ValueError("an error has a kind and a message")
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, ReasonDistillError)):
        kind = StageError
    error = ReasonDistillError.__new__(kind)
    error.args = (prefix + words,)
    return error


def read_error(path: Path, prefix: str = "") -> ReasonDistillError:
    """The error in a file that a task's process wrote, as `reported_error`; a file that holds
    something else is a StageError that says so.
    """
    try:
        return reported_error(json.loads(read_text(path)), prefix)
    except DataError as error:  # a pipe in its place, which nobody waits for
        return error
    except (ValueError, RecursionError) as error:
        return StageError(f"{prefix}{path}: not the error of a task ({error}).")
