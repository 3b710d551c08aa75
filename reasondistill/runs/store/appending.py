"""Files that one writer appends to: what `append` has written is on the disk, and the end that a
killed writer left torn is cut off.
"""

from __future__ import annotations

import os
from contextlib import suppress
from io import FileIO
from pathlib import Path

from reasondistill.runs.store.files import disk_errors, open_to_write


class AppendedFile:
    """A file that one writer holds open and appends to.

    What `append` has written is on the disk when it returns. A failed write is cut off again, so
    that the content before it stays readable; if even this fails, the next opening cuts.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Unbuffered: after a failed write a buffer would keep the rest and put it, torn, into
        # the file on close.
        self._file: FileIO = open_to_write(path, "ab")

    @property
    def size(self) -> int:
        """The size on disk, in bytes."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, content: bytes) -> None:
        """Write all of it, or nothing. Raises StageError for an error of the disk."""
        before = self.size
        rest = memoryview(content)
        with disk_errors(self._path):
            try:
                while rest:
                    written = self._file.write(rest)
                    rest = rest[written:]
                os.fsync(self._file.fileno())
            except OSError:
                self.cut(before)
                raise

    def cut(self, size: int) -> None:
        """Take off what was appended since it had this size, where the disk can do it."""
        with suppress(OSError):
            os.ftruncate(self._file.fileno(), size)

    def close(self) -> None:
        self._file.close()


def repair_tail(path: Path) -> int:
    """Cut off a last line without newline (of a killed writer); return how many bytes were cut."""
    if not path.exists() or (size := path.stat().st_size) == 0:
        return 0
    with open_to_write(path, "r+b") as file:
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            end = start
        else:
            keep = 0
        if keep < size:
            file.truncate(keep)
    return size - keep
