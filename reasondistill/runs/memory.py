"""The memory of this machine: what a process and its children have held at most, and which errors
say that there was none left.
"""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Errors that libraries of several kinds raise for want of memory, by the name of their type or by
# what they say.
_TYPES = ("OutOfMemoryError", "MemoryError", "ArrayMemoryError")
_SAYS_SO = re.compile(
    r"can't allocate memory|Cannot allocate memory|CUDA out of memory|std::bad_alloc"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDA error: out of memory|not enough memory: you tried"
    r"|unable to mmap \d+ bytes|failed to allocate memory"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that memory was out: of the machine, of a limit
    (`ulimit -v`, a cgroup's), or of a GPU.
    """
    return wanting(error) is not None


def wanting(error: BaseException) -> BaseException | None:
    """The one of an error and its causes that says so."""
    return next(filter(_is_one, _with_causes(error)), None)


def words_of(error: BaseException) -> str:
    """An error's kind and the first line of what it says, for a message: `RuntimeError: …`."""
    words = str(error).strip().partition("\n")[0][:200].rstrip(".")
    kind = type(error).__name__
    if not words:
        return kind
    return f"{kind}: {words}"


def _is_one(error: BaseException) -> bool:
    if type(error).__name__ in _TYPES:
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    is_a_librarys = isinstance(error, RuntimeError | OSError | SystemError)
    return is_a_librarys and _SAYS_SO.search(str(error)) is not None


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


def memory_allowed(proc: Path = _PROC, groups: Path = _GROUPS) -> float:
    """The bytes of memory that this process may use: those of the machine, or fewer where it
    is in a container or a job that gets fewer (control groups, version 2 and 1); infinite where
    nobody says.
    """
    allowed = float("inf")
    with suppress(OSError, ValueError, IndexError):
        for line in (proc / "meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemTotal:"):
                allowed = float(line.split()[1]) * 1024
    for limit in _limits(proc, groups):
        with suppress(OSError, ValueError):  # `max` is no limit
            allowed = min(allowed, float(int(limit.read_text(encoding="ascii"))))
    return allowed


def _limits(proc: Path, groups: Path) -> Iterator[Path]:
    """The files that may hold a limit: of the group of this process, and of those above it. Inside
    a container its own group is the top one.
    """
    lines: list[str] = []
    with suppress(OSError, UnicodeDecodeError):
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    for line in (*lines, "0::/", "1:memory:/"):
        number, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        own = Path(place.lstrip("/"))
        for folder in (own, *own.parents):
            if number == "0":
                yield groups / folder / "memory.max"
            elif "memory" in controllers.split(","):
                yield groups / "memory" / folder / "memory.limit_in_bytes"


def peak_memory_gib() -> float:
    """The most GiB that this process and those that it has started have held: of each its own peak,
    of ended ones the largest. An upper bound: the peaks may have come one after the other.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    living = sum(_peak_kib(pid) for pid in _below(os.getpid()))
    return round((own + max(ended, living)) / 2**20, 3)


def _below(pid: int) -> Iterator[int]:
    """The processes that a process has started, and those that these have."""
    for tasks in (_PROC / str(pid) / "task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, tasks.read_text(encoding="ascii").split()):
                yield child
                yield from _below(child)


def _peak_kib(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in (_PROC / str(pid) / "status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
