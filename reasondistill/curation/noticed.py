"""What the rows of a source show that is no fault of a single row: counted, and told once.

noticed = Noticed("d.jsonl")
noticed.add("an option names others by letter", "d/train/7")
noticed.say()       # d.jsonl: an option names others by letter: 1 row, first d/train/7
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

log = logging.getLogger(__name__)


class Noticed:
    """Counts by what was noticed, each with the name of the first problem."""

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, what: str, name: str) -> None:
        """Note it of the problem of this name."""
        self._counts[what] += 1
        self._first.setdefault(what, name)

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each was noticed so far."""
        return dict(self._counts)

    def say(self) -> None:
        """Warn of each, with its count and the first problem."""
        for what, count in self._counts.items():
            rows = "row" if count == 1 else "rows"
            log.warning(
                "%s: %s: %d %s, first %s", self._dataset, what, count, rows, self._first[what]
            )
