"""Noticing that a text goes round in circles, while it is written.

    watch = LoopWatch.of_text(LoopRule(shortest=16, window=64, repeats=8))
    watch.feed("So x = 2. " * 40)          # 510: where the loop was sure, behind so many characters
    watch.feed("and so on")                # None: none is sure yet

A loop is a piece that comes `repeats` times in a row, the same to the last token. A piece of fewer
than `shortest` tokens counts where several of it make one: a row of dashes must be long to be a
loop. The place depends on the text alone, not on the pieces in which it came. vLLM looks for the
same in its own tokens (`RepetitionDetectionParams`); of a server's reply only text is known, in
which four characters are taken for a token.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from reasondistill.records import LoopRule

_CHARACTERS_PER_TOKEN = 4


class LoopWatch:
    """Looks at one text, sign by sign. A piece has `shortest` to `longest` signs.

    For each length it counts how many signs in a row are the same as so many signs before: of a
    piece that came `repeats` times those of all repeats but the first.
    """

    def __init__(self, shortest: int, longest: int, repeats: int) -> None:
        self._lengths = np.arange(shortest, longest + 1)
        self._enough = self._lengths * (repeats - 1)
        self._same = np.zeros(len(self._lengths), dtype=np.int64)
        # The last signs, the latest first; -1 where there are none.
        self._before = np.full(longest, -1, dtype=np.int64)
        self._shortest = shortest

    @classmethod
    def of_text(cls, rule: LoopRule) -> LoopWatch:
        """For text: its signs are characters."""
        shortest = rule.shortest * _CHARACTERS_PER_TOKEN
        return cls(shortest, rule.window * _CHARACTERS_PER_TOKEN, rule.repeats)

    @classmethod
    def of_tokens(cls, rule: LoopRule) -> LoopWatch:
        """For token ids."""
        return cls(rule.shortest, rule.window, rule.repeats)

    def feed(self, text: str) -> int | None:
        """See the next part of a text; behind how many of its characters a loop was sure."""
        return self.feed_signs(map(ord, text))

    def feed_signs(self, signs: Iterable[int]) -> int | None:
        """The same for token ids."""
        for place, sign in enumerate(signs, start=1):
            is_same = self._before[self._shortest - 1 :] == sign
            self._same += 1
            self._same *= is_same
            self._before[1:] = self._before[:-1]
            self._before[0] = sign
            if bool((self._same >= self._enough).any()):
                return place
        return None
