"""Sums of files: the size, the time, and a digest of each block; and files that verify themselves
while they are read.

    known = sum_of(path)
    with SummedFile(path, known) as file: ...     # a block is verified before its bytes are read

A digest of the whole file would be known only after its last byte, when the records before it have
been used. So each block has its own (XXH3, 64 bits): a damaged one is never handed out, and a part
in the middle can be read without the rest. XXH3 finds damage and carelessness, not forgery, at the
speed of memory: BLAKE2b made a stage that only copies 12 to 19 % slower.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from reasondistill.errors import DataError
from reasondistill.foreign_files import regular
from reasondistill.runs.layout import FOLDERS

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

log = logging.getLogger(__name__)

# A damage costs the records of its block: small blocks where the file is small.
_SMALLEST_BLOCK = 1 << 14
# More would make a manifest long: 1,024 blocks are 16 KB of digests.
_MOST_BLOCKS = 1024
_DIGEST_BYTES = 8
_TELL_S = 10.0
_STAGES = frozenset(FOLDERS.values())


@dataclass(frozen=True)
class FileSum:
    """What is known of a finished file: bytes, modification time (ns), bytes of a block, and the
    digests of the blocks, one after the other in hexadecimal.
    """

    size: int
    time: int
    block: int
    digests: str

    @property
    def blocks(self) -> int:
        """How many blocks the file has."""
        return -(-self.size // self.block)

    def where(self, numbers: Sequence[int]) -> str:
        """Which bytes are damaged: those of the first block, and how many there are."""
        start = numbers[0] * self.block
        end = min(self.size, start + self.block)
        words = f"bytes {start:,} to {end:,} are not those that were written"
        if len(numbers) > 1:
            words += f" ({len(numbers):,} of {self.blocks:,} blocks)"
        return words

    def digest(self, number: int) -> str:
        """The digest of a block."""
        start = 2 * _DIGEST_BYTES * number
        return self.digests[start : start + 2 * _DIGEST_BYTES]


def sum_of(path: Path, see: Callable[[bytes], None] | None = None) -> FileSum:
    """Read a file and sum it; `see` is shown every block. Raises DataError when it cannot be read
    to its end.
    """
    with open(path, "rb", buffering=0, opener=regular) as file:
        stat = os.fstat(file.fileno())
        size = block_size(stat.st_size)
        digests: list[str] = []
        progress = LongRead(path, stat.st_size, "summed")
        while block := _read_at(path, file, len(digests) * size, size):
            digests.append(digest_of(block))
            if see is not None:
                see(block)
            progress.add(len(block))
    return FileSum(stat.st_size, stat.st_mtime_ns, size, "".join(digests))


def block_size(size: int) -> int:
    """The bytes of a block of a file: at least 16 KiB, doubled until there are few enough."""
    block = _SMALLEST_BLOCK
    while block * _MOST_BLOCKS < size:
        block *= 2
    return block


def digest_of(block: bytes) -> str:
    """The digest of a block."""
    return xxhash.xxh3_64_hexdigest(block)


class SummedFile(io.RawIOBase):
    """A file, open for reading at any place. A block is verified before a byte of it is read.

    Raises DataError for a file that is missing, has another size, or has a block that is another
    one or cannot be read: when it is opened or when that block is read.
    """

    def __init__(self, path: Path, known: FileSum) -> None:
        super().__init__()
        self._path, self._known = path, known
        self._place, self._number, self._block = 0, -1, b""
        self._file = opened(path, known)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._known.size}
        self._place = starts[whence] + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self._place >= self._known.size:
            return 0
        number, start = divmod(self._place, self._known.block)
        if number != self._number:
            self._block = self._verified(number)
            self._number = number
        target = memoryview(buffer).cast("B")
        some = self._block[start : start + len(target)]
        target[: len(some)] = some
        self._place += len(some)
        return len(some)

    def _verified(self, number: int) -> bytes:
        start = number * self._known.block
        block = _read_at(self._path, self._file, start, self._known.block)
        if digest_of(block) != self._known.digest(number):
            raise damaged(self._path, self._known.where([number]))
        return block

    def close(self) -> None:
        # An opening that failed has no file.
        file: Any = getattr(self, "_file", None)
        if file is not None:
            file.close()
        super().close()


def opened(path: Path, known: FileSum) -> io.FileIO:
    """The file, open for reading; only its size is compared. Raises DataError where that is another
    one, or it cannot be opened.
    """
    try:
        file: io.FileIO = open(path, "rb", buffering=0, opener=regular)  # noqa: SIM115
    except (FileNotFoundError, NotADirectoryError):
        raise damaged(path, missing(known)) from None
    except IsADirectoryError:
        raise damaged(path, "a folder is in its place") from None
    except OSError as error:
        raise unreadable(path, error) from error
    size = os.fstat(file.fileno()).st_size
    if size != known.size:
        file.close()
        raise damaged(path, other_size(size, known))
    return file


def _read_at(path: Path, file: io.FileIO, start: int, size: int) -> bytes:
    """The bytes at a place of a file, fewer only at its end: a file system may give fewer at once.
    Raises DataError for what the disk does not give back.
    """
    block = b""
    try:
        while len(block) < size:
            more = os.pread(file.fileno(), size - len(block), start + len(block))
            if not more:
                break
            block += more
    except OSError as error:
        raise unreadable(path, error) from error
    return block


def verify(path: Path, known: FileSum) -> None:
    """Read the whole file. Raises DataError, which names every damaged block."""
    wrong = list(damaged_blocks(path, known))
    if wrong:
        raise damaged(path, known.where(wrong))


def sound_lines(path: Path, known: FileSum) -> Iterator[bytes]:
    """The whole lines of a damaged file that lie in blocks which are those that were written. Where
    some were lost or came in between, the blocks behind them are found by their distance from the
    end.
    """
    with open(path, "rb", buffering=0, opener=regular) as file:
        moved_by = os.fstat(file.fileno()).st_size - known.size
        # What follows the last newline; None after a damaged block, where a line has no beginning.
        rest: bytes | None = b""
        for number in range(known.blocks):
            block = _sound_block(path, file, known, number, moved_by)
            if block is None:
                rest = None
                continue
            if rest is None:
                _, newline, block = block.partition(b"\n")
                if not newline:
                    continue
                rest = b""
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield line + b"\n"


def _sound_block(
    path: Path, file: io.FileIO, known: FileSum, number: int, moved_by: int
) -> bytes | None:
    """A block that is what was written, where it was or so many bytes behind it; else None, also
    where the disk has lost it.
    """
    start = number * known.block
    size = min(known.block, known.size - start)
    for place in (start, start + moved_by):
        if place >= 0:
            try:
                block = _read_at(path, file, place, size)
            except DataError as error:
                if not _tells_of_a_loss(error):
                    raise
                continue
            if digest_of(block) == known.digest(number):
                return block
    return None


def _tells_of_a_loss(error: DataError) -> bool:
    return isinstance(error.__cause__, OSError) and is_lost(error.__cause__)


def is_lost(error: OSError) -> bool:
    """Whether the disk says that what it held is gone; any other refusal may be over tomorrow."""
    return error.errno == errno.EIO


def is_copy(path: Path, known: FileSum) -> bool:
    """Whether a file can be read and is what was written, wherever it lies."""
    try:
        return not list(damaged_blocks(path, known))
    except DataError:
        return False


def damaged_blocks(path: Path, known: FileSum) -> Iterator[int]:
    """The numbers of the blocks that are not what was written. Raises DataError for a file that is
    missing, has another size or cannot be read.
    """
    progress = LongRead(path, known.size, "verified")
    with opened(path, known) as file:
        for number in range(known.blocks):
            block = _read_at(path, file, number * known.block, known.block)
            if digest_of(block) != known.digest(number):
                yield number
            progress.add(len(block))


class LongRead:
    """Says every ten seconds how much of a large file was read."""

    def __init__(self, path: Path, size: int, what: str) -> None:
        self._path, self._size, self._what = path, size, what
        self._read = 0
        self._told = time.monotonic()

    def add(self, count: int) -> None:
        """So many bytes more were read."""
        self._read += count
        if time.monotonic() - self._told > _TELL_S:
            self._told = time.monotonic()
            read, size = self._read / 2**30, self._size / 2**30
            log.info("%s: %.1f of %.1f GiB %s", self._path, read, size, self._what)


# ---- words ---------------------------------------------------------------------------------------


def damaged(path: Path, found: str) -> DataError:
    """The error for a file that is not what was written: what was found, and the ways out."""
    return DataError(f"{path}: damaged: {found}. Nothing of it is used. {ways_out(path)}")


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that the disk, or its server, does not give back."""
    return DataError(
        f"{path}: {refused(error)}. Nothing of it is used. If the disk or its server was only out "
        f"of reach, the same command goes on; else it is lost. {ways_out(path)}"
    )


def ways_out(path: Path) -> str:
    """What to do about a damaged file of a stage folder."""
    run = path.parent
    for folder in path.parents:
        if folder.name in _STAGES:
            run = folder.parent
    command = f"reasondistill repair {shlex.quote(str(run))}"
    return (
        f"Ways out: put back a copy of this file; or `{command}`, which keeps what is sound, and "
        "the same command again."
    )


def missing(known: FileSum) -> str:
    """What was expected of a file that is not there."""
    return f"it is missing; {known.size:,} bytes were written"


def other_size(size: int, known: FileSum) -> str:
    """What was expected of a file that is longer or shorter."""
    return f"it has {size:,} bytes; {known.size:,} were written"


def refused(error: OSError) -> str:
    """What a disk or its server says instead of giving back a file."""
    return f"it cannot be read ({error.strerror or error})"
