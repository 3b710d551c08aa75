"""Whole files: they appear by rename, and errors of the disk become one clear error.

A file that is being written is a hidden file beside its final name, `.NAME.HOST.PID.tmp`, locked by
its writer. A killed writer leaves it there; `remove_leftovers` removes those that no process locks.
The lock has no other use: on a file system without locks, leftovers stay.

Nothing in a run's folder is written, cut or removed through a link (`open_to_write`,
`require_no_links`): whoever made the folder could have laid one to a file of its next user. What a
link leads to is read. The run's folder itself, or one above it, may be a link.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import re
import socket
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO
from pathlib import Path
from stat import S_ISFIFO
from typing import Any, BinaryIO

from reasondistill.errors import ReasonDistillError, StageError
from reasondistill.foreign_files import read_bytes
from reasondistill.runs.layout import BESIDE_STAGES, CLAIMS, FOLDERS, RUN

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EROFS, errno.EPERM)
_IN_THE_WAY = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
_LINKED = "is a link: what it leads to is read, but nothing is written or removed through it"
_WAYS_OUT = (
    "Put what it leads to in its place; to keep a run on another disk, link the run's whole folder."
)
_IMPOSSIBLE = (errno.ENAMETOOLONG, errno.EFBIG, errno.EIO, errno.ENXIO)
# Messages of libraries whose errors carry no errno.
_SAYS_NO_ROOM = re.compile(
    r"No space left on device|Disk quota exceeded|Not enough disk space|No usable "
    r"temporary directory"
    # torch's writer of checkpoints, which does not get the cause
    r"|PytorchStreamWriter failed writing|inline_container\.cc:\d+\] \. unexpected pos"
    r"|basic_ios::clear: iostream error"
)
_SAYS_REFUSED = re.compile(
    r"Read-only file system|os error (1|13|30)\b|open file failed with strerror"
)
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.tmp")
# Locks of another machine may be invisible on this one: its files count as locked until they have
# not been written to for so long.
_FOREIGN_S = 24 * 3600
# So deep are the folders of a run: 6-evals/gsm8k/base/traces/parts/ATTEMPT/w0-UUID/topk, and of a
# student snapshots/step-5 or the folders of a checkpoint.
_DEPTH = 10


# ---- errors of the disk --------------------------------------------------------------------------


@contextmanager
def disk_errors(path: Path) -> Generator[None]:
    """Turn errors of the disk (full, not writable, a file where a folder should be) into one clear
    StageError that names `path`.
    """
    try:
        yield
    except Exception as error:
        disk_fault = disk_error(error, path)
        if disk_fault is None:
            raise
        raise disk_fault from error


def disk_error(error: BaseException, path: Path) -> StageError | None:
    """The clear error for an error of the disk at `path`, also when a library wraps it in words of
    its own; None for all other errors.

    A full disk may be the error's `__cause__` or `__context__`; all other faults are in the error
    itself.
    """
    if isinstance(error, ReasonDistillError):
        return None
    for one in _with_causes(error):
        if _is_no_room(one):
            return StageError(f"{path}: {_why_no_room(one, path)}")
    if isinstance(error, OSError) and error.errno in _IN_THE_WAY:
        return StageError(f"{path}: {_what_is_in_the_way(path) or error.strerror}.")
    if isinstance(error, OSError) and error.errno == errno.ELOOP and path.is_symlink():
        return StageError(f"{path}: {_LINKED}. Remove the link.")
    if isinstance(error, OSError) and error.errno in _IMPOSSIBLE:
        return StageError(f"{path}: cannot be written ({error.strerror}).")
    if isinstance(error, OSError) and error.errno in _REFUSED:
        return StageError(f"{path}: not writable ({error.strerror}).")
    if not isinstance(error, OSError) and _SAYS_REFUSED.search(str(error)):
        return StageError(f"{path}: not writable ({_first_line(error)}).")
    return None


def is_no_room(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that the disk is full, or a quota."""
    return any(map(_is_no_room, _with_causes(error)))


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """An error and the errors that caused it, nearest first."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


def _is_no_room(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return True
    return _SAYS_NO_ROOM.search(str(error)) is not None


def _why_no_room(error: BaseException, path: Path) -> str:
    """What is used up, and what to do. The library's message is quoted, because it may name another
    place, such as /dev/shm.
    """
    is_plain = isinstance(error, OSError) and error.errno in _NO_ROOM
    words = "" if is_plain else f" ({_first_line(error)})"
    safe = "What was written before is safe; "
    if isinstance(error, OSError) and error.errno == errno.EDQUOT:
        return f"your quota on this disk is full. {safe}free some space and run the same command."
    if is_plain and _has_no_inodes(path):
        return (
            f"the disk is full: it can hold no more files (inodes). {safe}remove some files "
            "and run the same command."
        )
    return f"the disk is full{words}. {safe}free some space and run the same command."


def _has_no_inodes(path: Path) -> bool:
    there = next((place for place in (path, *path.absolute().parents) if place.exists()), Path("/"))
    filesystem = os.statvfs(there)
    return filesystem.f_files > 0 and filesystem.f_favail == 0


def _what_is_in_the_way(path: Path) -> str:
    """Which file is where a folder is needed, or the other way round; empty where neither is so."""
    for place in path.parents:
        if place.exists() and not place.is_dir():
            return f"{place} is a file, where a folder is needed"
    if path.is_dir():
        return "it is a folder, where a file is needed"
    return "it is a file, where a folder is needed" if path.exists() else ""


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"


# ---- no link is followed ----


def open_to_write(path: Path, mode: str, *, becomes: Path | None = None) -> FileIO:
    """A file of a run's folder opened for writing, without a buffer: `mode` as for `open`, binary.

    Errors of the disk name the file that a temporary one `becomes`. Raises StageError where the
    file, or a folder of the run above it, is a link, and where it is a pipe, which would wait for
    ever.
    """
    require_no_links(path.parent)
    with disk_errors(becomes or path):
        return FileIO(path, mode, opener=_open_no_link)


def _open_no_link(path: str, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        # The link is named, not the file that a temporary one becomes.
        link = disk_error(error, Path(path))
        if error.errno == errno.ELOOP and link is not None:
            raise link from error
        raise
    if S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StageError(f"{path}: is a pipe, where a file is needed. Remove it.")
    return descriptor


def require_no_links(place: Path) -> None:
    """Raise StageError where a folder of a run, or one above it in the run's folder, is a link.

    Outside of a run's folder nobody but the user says where something is written, and links are
    followed.
    """
    link = first_link(place)
    if link is not None:
        raise StageError(f"{link}: {_LINKED}. {_WAYS_OUT}")


def first_link(place: Path) -> Path | None:
    """The first of the folders from a run's folder down to `place` that is a link."""
    above = (place, *place.parents[:_DEPTH])
    for depth in range(len(above) - 1, 0, -1):
        if _is_of_a_run(above[depth - 1]):
            inside = reversed(above[:depth])
            return next((folder for folder in inside if folder.is_symlink()), None)
    return None


def _is_of_a_run(folder: Path) -> bool:
    """Whether a folder is one of those directly in a run's."""
    if folder.name in FOLDERS.values():
        return True
    return folder.name in BESIDE_STAGES and (folder.parent / RUN).is_file()


def require_no_links_below(place: Path) -> None:
    """As `require_no_links`, before a stage writes in the folder `place`: also raise StageError for
    a link to a folder anywhere below, and for any link below the folder itself, where libraries
    write. Those by which workers claim their chunks lead nowhere.
    """
    require_no_links(place)
    for above, folders, files in os.walk(place):
        links = [name for name in folders if Path(above, name).is_symlink()]
        is_ours = Path(above) == place or Path(above).name == CLAIMS
        if not is_ours:
            links += [name for name in files if Path(above, name).is_symlink()]
        if links:
            raise StageError(f"{above}/{links[0]}: {_LINKED}. {_WAYS_OUT}")


# ---- whole files ---------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """A file that takes the name `path` only when it is whole and on disk: readers see the old one
    or the new one, never a part.

    Leftovers of killed writers of the same file are removed first.
    """
    temporary = path.with_name(
        f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp"
    )  # other machines may write it too
    require_no_links(path.parent)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent.glob(f".{glob.escape(path.name)}.*.tmp"))
        try:
            with _locked(temporary, becomes=path) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path, *, becomes: Path) -> Generator[BinaryIO]:
    """A new file that is locked while it is open, where the file system has locks."""
    while True:
        with BufferedWriter(open_to_write(path, "wb", becomes=becomes)) as file:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists():  # else it was removed as a leftover before it was locked
                yield file
                return


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove those of these files that a killed writer left: temporary by name, and locked by no
    process.

    The lock is decisive: it ends with its process, even if the process number is used again. A file
    of another machine must be a day old as well.
    """
    for path in paths:
        if _TEMPORARY.fullmatch(path.name) and (_is_own(path) or _is_old(path)):
            _remove_unheld(path)


def remove_all_leftovers(folder: Path) -> None:
    """Remove the leftovers of killed writers in a folder and below it."""
    for place, _, names in os.walk(folder):
        remove_leftovers(Path(place, name) for name in names if name.endswith(".tmp"))


def _is_own(path: Path) -> bool:
    return path.name.rpartition(".tmp")[0].rpartition(".")[0].endswith(f".{socket.gethostname()}")


def _is_old(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > _FOREIGN_S
    return False


def _remove_unheld(path: Path) -> None:
    """Does nothing where the file is locked, gone meanwhile, or may not be removed."""
    with suppress(OSError, StageError), open_to_write(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a whole file atomically. Lone surrogates, which a broken decoder can emit, are
    escaped.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def keep_copy(path: Path, copy: Path) -> None:
    """Give `copy` the content of a small file, atomically, unless it has it."""
    content = read_bytes(path)
    if not copy.exists() or read_bytes(copy) != content:
        with replacing(copy) as file:
            file.write(content)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
