"""A run folder that lives at a URL (s3://, gs://, any file system that fsspec knows): fetched,
worked on here, published.

    with Remote("s3://bucket/runs/demo", Path("runs/demo")) as remote:
        remote.fetch()
        ...

What is changed in the folder meanwhile is published every few minutes, and at the end.

Object stores show a file only when it is whole. Here a stage's manifest, the mark of being
finished, is written after everything that it speaks of. Only what changed here is written, what was
removed here is removed there, and every file has one writer. Claims of workers are made at the URL
at once: as objects that must not exist before, which S3 and Google's store settle themselves.
"""

from __future__ import annotations

from reasondistill.runs.remote.exchanging import claims_at, exchange
from reasondistill.runs.remote.folder import PUBLISH_S, Remote, is_url, is_weights
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
