"""When a request may be sent: rates, pauses, waits that a server requests; and their event loop."""

from __future__ import annotations

import asyncio
import email.utils
import math
import random
import re
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
# `Please try again in 1m7.5s`, `Please retry in 26.7s`: where the header says nothing.
_IN_WORDS = re.compile(
    r"(?:retry|try again) (?:in|after) (?:(\d{1,4})m)?(\d{1,6}(?:\.\d+)?) ?s(?:ec|\b)", re.I
)


class _Closes(Protocol):
    async def close(self) -> None: ...


def retry_after(headers: Mapping[str, str], words: str = "") -> float | None:
    """Seconds that the server asks us to wait, perhaps infinitely many; None when it does not say.

    `retry-after-ms`, or `Retry-After` as seconds or as a date, else what its words say. A time that
    is over is 0.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after", "")
    seconds = _number(text)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError, OSError):
        pass
    in_words = _IN_WORDS.search(words)
    if in_words is None:
        return None
    minutes, seconds = int(in_words[1] or 0), float(in_words[2])
    return 60.0 * minutes + seconds


def _number(text: str) -> float | None:
    """Any digits, also four hundred of them; a negative number is 0."""
    try:
        number = float(text)
    except ValueError:
        return None
    if math.isnan(number):
        return None
    return max(0.0, number)


def pause(attempt: int) -> float:
    """Doubling pauses with jitter: requests that failed together do not come back together."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0)


class Rate:
    """So many units per minute, spread evenly."""

    def __init__(self, per_minute: int | None) -> None:
        self._seconds_each = 0.0
        if per_minute:
            self._seconds_each = 60 / per_minute
        self._free_at = 0.0

    def take(self, units: int) -> float:
        """Reserve so many units; the seconds until they may be spent."""
        if not self._seconds_each:
            return 0.0
        now = time.monotonic()
        start = max(now, self._free_at)
        self._free_at = start + units * self._seconds_each
        return start - now

    def give_back(self, units: int) -> None:
        """Units that were reserved and not spent."""
        self._free_at -= max(0, units) * self._seconds_each


class LoopThread:
    """An event loop in a thread of its own, so that a plain generator can hand out what tasks
    finish.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="openai-sampler", daemon=True
        )
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return self.submit(work).result()

    def close(self, client: _Closes) -> None:
        """Cancel every task, close the client, end the thread. A second call does nothing."""
        if self._loop.is_closed():
            return
        self.call(_wind_down(client))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _wind_down(client: _Closes) -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()
