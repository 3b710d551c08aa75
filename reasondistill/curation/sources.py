"""Several sources of problems: how many rows each gives, and what became of them.

    shares(10, weights=[3, 1], most=[None, None])             # [8, 2]

The rows of a source are always taken from its beginning, in its own order, and stand behind those
of the sources before it; the id of a problem depends on its own source alone. So a source that is
added behind the others leaves theirs as they are, and a larger limit only adds rows: no problem is
renamed, and no two change places. (Of a question that two sources have the first one's stays, so a
larger limit of an earlier source can take one from a later source.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

from reasondistill.errors import ConfigError, DataError
from reasondistill.records import Problem, SetAside
from reasondistill.runs.figures import SourceFigures

# The key by which an error names a data set.
_DATASET = "dataset"

# ---- shares --------------------------------------------------------------------------------------


def shares(limit: int, weights: Sequence[float], most: Sequence[int | None]) -> list[int]:
    """How many of `limit` rows each source gives: in proportion to the weights, none more than its
    `most`, together `limit` as far as those allow.

    Row j of a source of weight w counts (j + 1) / w, and the rows that count least are taken, of
    equal ones those of the first source (D'Hondt's rule): a larger limit takes no row away.
    """
    exact = [Fraction(weight) for weight in weights]
    counts = [0] * len(exact)
    is_open = [weight > 0 for weight in exact]
    left = limit
    # D'Hondt gives each at least the whole part of its share, and one that is full its most.
    while any(is_open):
        total = sum(weight for weight, opens in zip(exact, is_open, strict=True) if opens)
        full: list[int] = []
        for place, opens in enumerate(is_open):
            if opens:
                counts[place] = int(left * exact[place] / total)
                most_here = most[place]
                if most_here is not None and counts[place] >= most_here:
                    full.append(place)
        if not full:
            break
        for place in full:
            counts[place] = most[place] or 0
            left -= counts[place]
            is_open[place] = False
    for _ in range(limit - sum(counts)):
        next_ones = [
            ((counts[place] + 1) / weight, place)
            for place, weight in enumerate(exact)
            if weight > 0 and counts[place] != most[place]
        ]
        if not next_ones:
            break
        counts[min(next_ones)[1]] += 1
    return counts


# ---- what became of them -------------------------------------------------------------------------


@contextmanager
def naming(name: str | None) -> Generator[None]:
    """Errors of a source that is one of several say its name."""
    try:
        yield
    except (ConfigError, DataError) as error:
        if name is None:
            raise
        raise type(error)(f"source {name}: {error}") from error


@contextmanager
def told_by(key: str) -> Generator[None]:
    """Errors of a data set that another key names say that key:
    `problems.decontaminate.files = "x.xlsx": cannot read …`.
    """
    try:
        yield
    except ConfigError as error:
        text = str(error)
        if not text.startswith(f"{_DATASET} = "):
            raise
        raise ConfigError(f"{key}{text.removeprefix(_DATASET)}") from error


def repeats(entry: Problem, first_id: str) -> str:
    """Which two sources have the same question; empty where there is one source, or it is the same.

    The id of a problem begins with the name of its source.
    """
    here, there = entry.origin.source, first_id.partition("/")[0]
    if here is None or here == there:
        return ""
    return f", {here} repeats {there}"


@dataclass
class SourceCounts:
    """What the rows of each source became; empty where there is one source alone."""

    kept: Counter[str] = field(default_factory=Counter[str])
    dropped: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])

    def add(self, entry: Problem | SetAside) -> None:
        """Count one entry under the name of its source."""
        name = entry.origin.source
        if name is None:
            return
        if isinstance(entry, Problem):
            self.kept[name] += 1
        else:
            self.dropped.setdefault(name, Counter())[entry.reason] += 1

    def figures(self, known: SourceFigures) -> SourceFigures:
        """What is known of a source, and what became of its rows."""
        kept = self.kept[known.name]
        dropped = self.dropped.get(known.name, Counter())
        rows = kept + dropped.total()
        became = SourceFigures(name=known.name, rows=rows, problems=kept, dropped=dict(dropped))
        return known.joined(became)
