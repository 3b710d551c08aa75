"""For a process whose open run folders are copies of a URL: the place of claims, and bringing both
sides up to date.
"""

from __future__ import annotations

import logging
from pathlib import Path

from reasondistill.errors import StorageError
from reasondistill.runs.remote.folder import OPEN, Remote, is_weights, patiently

log = logging.getLogger(__name__)


def claims_at(folder: Path) -> str | None:
    """The URL of a folder whose run is stored elsewhere; None for a shared folder."""
    place = folder.resolve()
    for remote in OPEN:
        root = remote.folder.resolve()
        if place.is_relative_to(root):
            name = place.relative_to(root).as_posix()
            return f"{remote.url}/{name}"
    return None


def exchange(folder: Path, *, must: bool = False) -> None:
    """Publish what changed in a folder whose run is stored elsewhere, and fetch what others
    changed, without weights.

    A failure is only logged, because the next call repeats it; with `must` it is retried for some
    minutes, then raised (StorageError).
    """
    for remote in OPEN:
        if folder.resolve() == remote.folder.resolve():
            if must:
                patiently(lambda remote=remote: _exchange(remote))
                continue
            try:
                _exchange(remote)
            except StorageError as error:
                log.warning("%s", error)


def _exchange(remote: Remote) -> None:
    remote.publish()
    remote.fetch(lambda name: not is_weights(name))
