"""The files inside a log that is a zip, read one at a time and within bounds; nothing is unpacked
to a disk.

    with open_archive(Path("2025-01-01_gsm8k.eval")) as archive:
        archive.read("header.json")
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from reasondistill.bounds import DIRECTORY_BYTES, LINE_BYTES, TEXT_RATIO
from reasondistill.curation.packed import most_bytes
from reasondistill.errors import DataError, MissingDependencyError
from reasondistill.foreign_files import regular

# APPNOTE.TXT 4.4.5; the standard library reads it from Python 3.14 on.
_ZSTD = 93
# Others (bzip2, LZMA) no log has, and the standard library unpacks them without an end.
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, _ZSTD)
_LOCAL_HEAD = 30
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
# What the end of a large zip has instead of a size.
_SAYS_THE_OTHER_END = 0xFFFFFFFF
# The end of a zip may be followed by a comment of so many bytes.
_LONGEST_COMMENT = (1 << 16) - 1
# Of a file that is not what it says each way of packing has errors of its own.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


class Archive:
    """A zip whose list of files was read. Of several files with one name the last one counts."""

    def __init__(self, path: Path, raw: BinaryIO) -> None:
        self._path = path
        self._raw = raw
        self._size = os.fstat(raw.fileno()).st_size
        self._left = most_bytes(self._size)
        require_short_list(path, raw, self._size)
        with self._clear(path.name):
            zip_file = zipfile.ZipFile(raw)
            self._members = {member.filename: member for member in zip_file.infolist()}
        self._zip = zip_file

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def read(self, name: str) -> bytes:
        """The content of a file. Raises DataError beyond LINE_BYTES, where all files together
        unpack to more than text does, and for what is damaged.
        """
        member = self._members[name]
        most = min(LINE_BYTES.most, self._left)
        if member.compress_type not in _PACKINGS:
            raise DataError(
                f"{self._path}: {name}: packed by method {member.compress_type} of zip; logs of "
                "inspect are packed by deflate or zstd."
            )
        with self._clear(name):
            if member.compress_type == _ZSTD:
                content = self._read_zstd(member, most)
            else:
                with self._zip.open(member) as file:
                    content = file.read(most + 1)
        if len(content) > LINE_BYTES.most:
            raise DataError(f"{self._path}: {name}: beyond {LINE_BYTES}.")
        if len(content) > self._left:
            raise DataError(f"{self._path}: {self._size:,} bytes unpack to more than {TEXT_RATIO}.")
        self._left -= len(content)
        return content

    def _read_zstd(self, member: zipfile.ZipInfo, most: int) -> bytes:
        try:
            import pyarrow as pa
        except ImportError as error:
            raise MissingDependencyError("pyarrow", "data") from error
        self._raw.seek(member.header_offset)
        head = self._raw.read(_LOCAL_HEAD)
        if len(head) < _LOCAL_HEAD or not head.startswith(b"PK\x03\x04"):
            raise zipfile.BadZipFile("its head is missing")
        name_bytes, extra_bytes = struct.unpack("<HH", head[26:])
        self._raw.seek(member.header_offset + _LOCAL_HEAD + name_bytes + extra_bytes)
        packed = self._raw.read(min(member.compress_size, self._size))
        with pa.input_stream(pa.py_buffer(packed), compression="zstd") as stream:
            content = stream.read(most + 1)
        if len(content) <= most and zlib.crc32(content) != member.CRC:
            raise zipfile.BadZipFile("its check sum is wrong")
        return content

    @contextmanager
    def _clear(self, name: str) -> Generator[None]:
        """Whatever is wrong with a zip as one DataError."""
        try:
            yield
        except (DataError, MissingDependencyError):
            raise
        except _DAMAGE as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> DataError:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        return DataError(f"{self._path}: {name}: cannot be read: {line}")


@contextmanager
def open_archive(path: Path) -> Generator[Archive]:
    """The zip of this path. Raises DataError for what is none."""
    with open(path, "rb", opener=regular) as raw:
        yield Archive(path, raw)


def require_short_list(path: Path, raw: BinaryIO, size: int) -> None:
    """Raise DataError for a list of files beyond DIRECTORY_BYTES: it would be in memory as a whole,
    ten times as large. Of a large zip there are two ends; whichever a reader believes is bounded.
    """
    longest = min(size, _LOCATOR.size + _END.size + _LONGEST_COMMENT)
    raw.seek(size - longest)
    tail = raw.read(longest)
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < _END.size:
        raise DataError(f"{path}: not a zip, or one that is cut off.")
    sizes = [_END.unpack_from(tail, place)[5]]
    if place >= _LOCATOR.size:
        mark, _, offset, _ = _LOCATOR.unpack_from(tail, place - _LOCATOR.size)
        if mark == b"PK\x06\x07":
            before = size - longest + place - _LOCATOR.size - _END_64.size
            large = [size_of_list(raw, start) for start in (offset, before)]
            sizes = [one for one in sizes if one != _SAYS_THE_OTHER_END] + large
    if max(sizes) > DIRECTORY_BYTES.most:
        raise DataError(f"{path}: its list of files is beyond {DIRECTORY_BYTES}.")


def size_of_list(raw: BinaryIO, start: int) -> int:
    """The bytes of the list of files by the end of a large zip; 0 where there is none."""
    if not 0 <= start < 1 << 62:
        return 0
    raw.seek(start)
    end = raw.read(_END_64.size)
    if len(end) < _END_64.size or not end.startswith(b"PK\x06\x06"):
        return 0
    return int(_END_64.unpack(end)[8])
