"""A run folder that is stored at a URL (s3://, gs://, any file system of fsspec): fetched, changed
on this machine, published.

    with Remote("s3://bucket/runs/demo", Path("runs/demo")) as remote:
        remote.fetch()
        ...

Changes in the folder are published every few minutes, and at the end.

Object stores show a file only when it is whole. A stage's manifest, the mark of a finished stage,
is published after the files that it lists. Only files that changed in the copy are written to the
URL, files removed from the copy are removed from the URL, and every file has one writer. Workers
claim chunks directly at the URL, by creating an object that must not exist yet: S3 and Google's
store decide which worker was first.
"""

from __future__ import annotations

from reasondistill.runs.remote.exchanging import claims_at, exchange
from reasondistill.runs.remote.folder import PUBLISH_S, Remote, is_url, is_weights, left_at_url
from reasondistill.runs.remote.objects import (
    content_of,
    create,
    file_system,
    names_in,
    storage_errors,
)
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
    "left_at_url",
    "lent",
    "names_in",
    "storage_errors",
]
