"""Files that are packed: what is in them, and no more than goes into memory.

with unpacked(Path("d.jsonl.gz")) as file:
    for line in file: ...
without_packing(Path("d.jsonl.gz"))        # d.jsonl
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from reasondistill.bounds import BATCH_BYTES, TEXT_RATIO
from reasondistill.errors import ConfigError, DataError
from reasondistill.foreign_files import regular


def _zstd_reader(file: IO[bytes]) -> Any:
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError as error:
        raise ConfigError(".zst needs a package: pip install zstandard") from error
    return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)


OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _zstd_reader,
}
_READ_AT_ONCE = 1 << 16


def most_bytes(packed: int) -> int:
    """How many bytes so many packed ones may unpack to."""
    return max(BATCH_BYTES.most, TEXT_RATIO.most * packed)


def without_packing(path: Path) -> Path:
    """The name without `.gz` and its kin."""
    if path.suffix.lower() in OPENERS:
        return path.with_suffix("")
    return path


@contextmanager
def unpacked(path: Path) -> Generator[io.BufferedReader[Any]]:
    """The bytes of a file, unpacked where its name says that it is packed. Raises DataError for
    what is no regular file, and when more comes out than a packed text can hold.
    """
    with open(path, "rb", opener=regular) as raw:
        opener = OPENERS.get(path.suffix.lower())
        if opener is None:
            yield raw
            return
        most = most_bytes(os.fstat(raw.fileno()).st_size)
        with io.BufferedReader(_Bounded(opener(raw), path, most), _READ_AT_ONCE) as file:
            yield file


class _Bounded(io.RawIOBase):
    """What a packed file gives, up to a number of bytes."""

    def __init__(self, file: IO[bytes], path: Path, most: int) -> None:
        self._file = file
        self._path = path
        self._left = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            piece = self._file.read(len(buffer))
        except Exception as error:  # each way of packing has errors of its own
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{self._path}: cannot be unpacked: {line}") from error
        self._left -= len(piece)
        if self._left < 0:
            size = self._path.stat().st_size
            raise DataError(f"{self._path}: {size:,} bytes unpack to more than {TEXT_RATIO}.")
        buffer[: len(piece)] = piece
        return len(piece)
