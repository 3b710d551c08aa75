"""A function over many items in several processes, in order.

    for row in in_order(tokenise, examples):
        ...

What takes only seconds stays in this process. Processes are forked, so that a script without a
`__main__` guard may ask for them and a tokenizer need not be sent; the function must not use torch.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from reasondistill.errors import StageError

T = TypeVar("T")
U = TypeVar("U")

# So long one process is enough.
_ALONE_S = 5.0
# Items that a process is sent at once, and how many such shares wait for each process.
_SHARE = 32
_WAITING = 3
_MOST_PROCESSES = 32
# prctl(2): the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1

# In a forked process: what it applies.
_function: Callable[[Any], Any]


def in_order(
    function: Callable[[T], U],
    items: Iterable[T],
    *,
    alone_s: float = _ALONE_S,
    processes: int | None = None,
) -> Iterator[U]:
    """What the function gives of each item, in their order; as many items are read ahead as the
    processes (None: one for each core of this process) have in hand.

    What the function raises is raised here. Raises StageError when one of the processes is killed.
    """
    left = iter(items)
    processes = processes or min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)
    ends = time.monotonic() + alone_s
    while processes == 1 or time.monotonic() < ends:
        some = list(islice(left, 1))
        if not some:
            return
        yield function(some[0])
    yield from _in_processes(function, left, processes)


def _in_processes(function: Callable[[T], U], items: Iterator[T], processes: int) -> Generator[U]:
    waiting: deque[Future[list[U]]] = deque()
    executor = ProcessPoolExecutor(
        processes, multiprocessing.get_context("fork"), _begin, (function, os.getpid())
    )
    try:
        while True:
            while len(waiting) < _WAITING * processes:
                share = list(islice(items, _SHARE))
                if not share:
                    break
                waiting.append(executor.submit(_apply, share))
            if not waiting:
                return
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise StageError(
            f"One of {processes} processes that tokenise was killed, perhaps for memory: see the "
            "kernel's log. The same command begins with these rows again."
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _begin(function: Callable[[Any], Any], parent: int) -> None:
    """In a new process: end with the parent, and leave the terminal's signals to it."""
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        os._exit(1)


def _apply(share: list[Any]) -> list[Any]:
    return [_function(item) for item in share]
