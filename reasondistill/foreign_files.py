"""Files that others name or wrote: a regular file is read, anything else refused by name at once.

    with open(path, "rb", opener=regular) as file: ...
    text = read_bytes(path).decode("utf-8")

A pipe waits for whoever writes into it, perhaps for ever; a device may have no end, and some do
something when they are opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from reasondistill.errors import DataError

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def regular(path: str, flags: int) -> int:
    """An opener for `open`: a descriptor of a regular file, or of what a link to one leads to.

    Raises DataError for a pipe, a socket or a device, which is not even opened, and what os.open
    raises.
    """
    require_regular(path, os.stat(path).st_mode)
    # Another one may have come in its place meanwhile.
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    try:
        require_regular(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def require_regular(path: str | Path, mode: int) -> None:
    """Raise DataError for what is neither a file nor a folder, IsADirectoryError for a folder."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            raise DataError(f"{path}: is {kind}; want a file. Write what comes from it into one.")


def read_bytes(path: Path) -> bytes:
    """The content of a regular file. Raises as `regular`."""
    with open(path, "rb", opener=regular) as file:
        return file.read()


def read_text(path: Path, *, errors: str = "strict") -> str:
    """The text, UTF-8, of a regular file, each end of a line as a newline. Raises as `regular`, and
    UnicodeDecodeError.
    """
    with open(path, encoding="utf-8", errors=errors, opener=regular) as file:
        return file.read()
