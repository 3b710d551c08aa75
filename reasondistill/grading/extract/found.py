"""What an extraction gives, and what its finders share."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Where = Literal[
    "boxed",
    "marker",
    "phrase",
    "whole",
    "choice",
    "bold",
    "formula",
    "number",
    "none",
    "malformed",
    "open_think",
    "refusal",
    "denied",
    "unread",
]

# All but the boxes look at the end of a text only.
TAIL = 4_000
TELLING = re.compile(r"\d|[$\\]|½|π|√|∞|\b[A-J]\b")


@dataclass(frozen=True, slots=True)
class Extracted:
    """An answer and where it stood; `text` is None when there is none (`where` says why).

    `refusal`, `denied` and `unread` have a text that is no value: `I do not know`, `not 42`, `42 if
    n is even and 43 if odd`. `is_worded`: words made the value, as in `twice 42`. `other` is the
    answer as well, where the gold is of its form: the last of several labelled parts, the decimals
    of an exact value.
    """

    text: str | None
    where: Where
    is_worded: bool = False
    other: str | None = None

    @property
    def has_value(self) -> bool:
        """Whether there is an answer to compare."""
        return self.text is not None and self.where not in ("refusal", "denied", "unread")


def last_match(matches: Iterator[re.Match[str]]) -> re.Match[str] | None:
    """The last of some matches; None where there are none."""
    last = deque(matches, maxlen=1)
    if last:
        return last[0]
    return None


def holds_any(text: str, parts: tuple[str, ...]) -> bool:
    """Whether one of these parts stands in a text: a quick look that spares most a search."""
    for part in parts:  # noqa: SIM110  any() with a generator takes twice as long, on every text
        if part in text:
            return True
    return False
