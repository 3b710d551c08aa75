"""One launcher at a time in a run's folder on this machine."""

from __future__ import annotations

import errno
import fcntl
import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from reasondistill.errors import StageError
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import disk_errors, open_to_write, remove_all_leftovers

log = logging.getLogger(__name__)
_held: set[Path] = set()
# How a file system says that it has no locks.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def only_one(folder: Path) -> Generator[None]:
    """Refuse a second launcher on the same machine and folder; the lock is gone with its process,
    however that ends.

    A process that has the lock already may ask again. What killed processes left half written in
    the folder is removed. Raises StageError.
    """
    place = folder.resolve()
    if place in _held:
        yield
        return
    path = RunFolder(folder).lock
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
    # disk_errors is not for what is done under the lock
    with open_to_write(path, "ab") as file:
        lock(file, folder)
        _held.add(place)
        try:
            remove_all_leftovers(folder)
            yield
        finally:
            _held.discard(place)


def lock(file: IO[Any], folder: Path) -> None:
    """Lock an open file of this folder. Raises StageError when another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StageError(
            f"{folder}: another `reasondistill run` is working in this folder. Wait for it, "
            "or stop it."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning(
            "%s: its file system knows no locks; see to it yourself that nothing else "
            "works in this folder",
            folder,
        )
