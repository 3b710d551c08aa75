"""The copy of a run folder that one process works in when the run lives at a URL."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from reasondistill.errors import ConfigError, StageError
from reasondistill.runs.remote.folder import Remote, is_url

# The environment variable with the folder for copies.
SCRATCH = "REASONDISTILL_SCRATCH"
_KEEP = ".keep"


@contextmanager
def lent(folder: str, is_wanted: Callable[[str], bool]) -> Generator[Path]:
    """A run folder for one process: the folder itself when it is a path, else a copy of the needed
    files of a URL, whose changes are published.

    Copies are in $REASONDISTILL_SCRATCH, or in the folder for temporary files. They are removed at
    the end, those of killed processes when the next one begins; a copy that could not be published
    is kept, and the error names it.
    """
    if not is_url(folder):
        yield Path(folder)
        return
    with scratch() as place:
        remote = Remote(folder, place / folder.rstrip("/").rpartition("/")[2])
        try:
            with remote:
                if not remote.fetch(is_wanted):
                    raise StageError(f"{folder}: not a run folder, or not readable.")
                yield remote.folder
        finally:
            if remote.holds_unpublished:
                with suppress(OSError):
                    (place / _KEEP).touch()


@contextmanager
def scratch() -> Generator[Path]:
    """A new folder in $REASONDISTILL_SCRATCH, or where temporary files are, locked, and removed at
    the end. Folders of this machine that no process locks any more are removed now.
    """
    parent = Path(os.environ.get(SCRATCH) or tempfile.gettempdir())
    prefix = f"reasondistill-copy-{socket.gethostname()}-"
    for left in parent.glob(f"{prefix}*"):
        with suppress(OSError), _locked(left):  # alive, or another user's
            _remove(left)
    try:
        hidden = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=parent))
    except OSError as error:
        raise ConfigError(f"{SCRATCH}={parent}: no copy can be made there: {error}") from error
    place = hidden
    with ExitStack() as held:
        with suppress(OSError):  # where there are no locks it keeps the name that nobody looks for
            held.enter_context(_locked(hidden))
            place = hidden.rename(parent / hidden.name.removeprefix("."))
        try:
            yield place
        finally:
            _remove(place)


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Raises OSError when another process holds the lock, or there are none on this file system."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove(place: Path) -> None:
    if not (place / _KEEP).exists():
        shutil.rmtree(place, ignore_errors=True)
