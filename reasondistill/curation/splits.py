"""Parts of splits as `datasets` writes them, of rows that come one after the other.

parts_of("train[:2]+test", open_split)      # the first two of train, then all of test
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from reasondistill.errors import ConfigError

# Places that need no count of the rows; shares (`[:10%]`) and places from the end (`[-5:]`) do.
_PLAIN = re.compile(r"\[(\d{0,18}):(\d{0,18})\]")
_PART = re.compile(r"(?P<name>[^\[\]]+)(?P<places>\[[^\[\]]*\].*)?")


def parts_of(split: str, open_split: Callable[[str], Any]) -> list[Any]:
    """The rows of each part of a split; `open_split` gives those of a whole one, which know `skip`
    and `take`. Raises ConfigError for a part that cannot be read.
    """
    return [_part(part.strip(), open_split) for part in split.split("+")]


def _part(part: str, open_split: Callable[[str], Any]) -> Any:
    found = _PART.fullmatch(part)
    if found is None:
        raise _unreadable(part)
    name, places = found["name"].strip(), found["places"]
    if places is None:
        return open_split(name)
    plain = _PLAIN.fullmatch(places)
    if plain is None:
        count = sum(1 for _ in open_split(name))
        start, end = _places(part, name, count)
    else:
        start = int(plain[1] or 0)
        end = int(plain[2]) if plain[2] else None
    rows = open_split(name)
    if start:
        rows = rows.skip(start)
    if end is not None:
        rows = rows.take(max(0, end - start))
    return rows


def _places(part: str, name: str, count: int) -> tuple[int, int]:
    """First row and the one after the last, as `datasets` reckons them among so many."""
    import datasets

    try:
        absolute: Any = datasets.ReadInstruction.from_spec(part).to_absolute({name: count})
    except (ValueError, AssertionError, KeyError) as error:
        raise _unreadable(part) from error
    return absolute[0].from_ or 0, absolute[0].to


def _unreadable(part: str) -> ConfigError:
    return ConfigError(
        f'split: "{part}" is no part of a split. Want train, train[:100], train[10:20], '
        "train[:10%] or several of them with + between."
    )
