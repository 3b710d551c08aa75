"""Whole files: they appear by rename, and what a disk can refuse becomes one clear error."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from reasondistill.errors import StageError
from reasondistill.records import Record

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NOT_OURS = (errno.EACCES, errno.EROFS, errno.EPERM)
_IN_THE_WAY = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EFBIG, errno.EIO)


@contextmanager
def disk_errors(path: Path) -> Generator[None]:
    """Turn what a disk can refuse (full, not writable, a file where a folder should be) into one clear StageError."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StageError(
                f"{path}: the disk is full. What was written before is safe; free some space and run the same command."
            ) from error
        if error.errno in _NOT_OURS:
            raise StageError(f"{path}: not writable ({error.strerror}).") from error
        if error.errno in _IN_THE_WAY:
            raise StageError(f"{path}: cannot be written ({error.strerror}).") from error
        raise


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """A file that takes the name `path` only when it is whole and on disk: readers see the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")  # other machines may write it too
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole file atomically; lone surrogates, which a broken decoder can emit, are escaped."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write a whole shard atomically; return how many records it holds."""
    count = 0
    with replacing(path) as file:
        for record in records:
            file.write(record.to_json().encode("utf-8") + b"\n")
            count += 1
    return count
