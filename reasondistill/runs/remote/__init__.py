"""A run folder that lives at a URL (s3://, gs://, any file system that fsspec knows): fetched,
worked on here, published.

    with Remote("s3://bucket/runs/demo", Path("runs/demo")) as remote:
        remote.fetch()
        ...                          # work in the folder; what has changed is published every few minutes, and at the end

Object stores show a file only when it is whole. Here a stage's manifest, the mark of being
finished, is written after everything that it speaks of. Only what changed here is written, what was
removed here is removed there, and every file has one writer. Claims of workers are made at the URL
at once: as objects that must not exist before, which S3 and Google's store settle themselves.
"""

from __future__ import annotations

import logging
from pathlib import Path

from reasondistill.errors import StorageError
from reasondistill.runs.remote.folder import OPEN, PUBLISH_S, Remote, is_url, is_weights, patiently
from reasondistill.runs.remote.objects import content_of, create, file_system, names_in
from reasondistill.runs.remote.scratch import SCRATCH, lent

__all__ = [
    "PUBLISH_S",
    "SCRATCH",
    "Remote",
    "claims_at",
    "content_of",
    "create",
    "exchange",
    "file_system",
    "is_url",
    "is_weights",
    "lent",
    "names_in",
]

log = logging.getLogger(__name__)


def claims_at(folder: Path) -> str | None:
    """The URL of a folder whose run lives elsewhere; None for one that all workers see."""
    for remote in OPEN:
        if folder.resolve().is_relative_to(remote.folder.resolve()):
            return (
                f"{remote.url}/{folder.resolve().relative_to(remote.folder.resolve()).as_posix()}"
            )
    return None


def exchange(folder: Path, *, must: bool = False) -> None:
    """Publish what changed in a folder whose run lives elsewhere, and fetch what others changed,
    weights left out.

    A failure is only logged, for the next time will do; `must`: it is tried again for some minutes,
    then raised (StorageError).
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
