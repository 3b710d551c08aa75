"""The traces of one problem that came before and are usable, to compare a further one with.

    earlier = EarlierTraces()
    earlier.similarity("first text", words=5, numbers="words")      # 0.0
    earlier.keep()                                                  # it is usable
    earlier.similarity("first text!", words=5, numbers="words")     # 1.0

A problem has few traces: each is compared with each, exactly. Of a trace its runs of words are
kept, 4 bytes each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from reasondistill.curation.shingles import Words32


class _Runs(NamedTuple):
    """The hashes of a text's runs of words, ascending. Texts with another `guard` are different."""

    guard: int
    values: Words32


class EarlierTraces:
    """What is known of them; nothing is read before a filter asks about a second one."""

    def __init__(self) -> None:
        self._kept: list[_Runs] = []
        self._last: _Runs | None = None
        # The first usable text, until another one is compared with it.
        self._first: str | None = None
        self._asked: str | None = None

    def similarity(
        self, text: str, *, words: int, numbers: Literal["count", "words", "ignored"]
    ) -> float:
        """The largest Jaccard similarity of the text's runs of `words` words with those of an
        earlier trace; 0 where there is none.
        """
        import numpy as np

        self._last, self._asked = None, None
        if self._first is not None:
            self._kept.append(_runs_of(self._first, words, numbers))
            self._first = None
        if not self._kept:
            self._asked = text
            return 0.0
        runs = _runs_of(text, words, numbers)
        self._last = runs
        largest = 0.0
        for other in self._kept:
            if other.guard == runs.guard:
                shared = len(np.intersect1d(runs.values, other.values, assume_unique=True))
                either = len(runs.values) + len(other.values) - shared
                largest = max(largest, shared / max(1, either))
        return largest

    def keep(self) -> None:
        """The text that was compared last is usable: later ones are compared with it too."""
        if self._last is not None:
            self._kept.append(self._last)
            self._last = None
        elif self._asked is not None:
            self._first, self._asked = self._asked, None

    def forget(self) -> None:
        """No further trace comes."""
        self._kept.clear()
        self._first = None


def _runs_of(text: str, words: int, numbers: Literal["count", "words", "ignored"]) -> _Runs:
    from reasondistill.curation.shingles import shingled_one

    batch = shingled_one(text, numbers=numbers, words=words)
    return _Runs(int(batch.guards[0]), batch.values)
