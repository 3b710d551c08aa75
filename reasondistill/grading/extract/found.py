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
]

# All but the boxes look at the end of a text only.
TAIL = 4_000
TELLING = re.compile(r"\d|[$\\]|½|π|√|∞|\b[A-J]\b")


@dataclass(frozen=True, slots=True)
class Extracted:
    """An answer and where it stood; `text` is None when there is none (`where` says why)."""

    text: str | None
    where: Where


def last_match(matches: Iterator[re.Match[str]]) -> re.Match[str] | None:
    last = deque(matches, maxlen=1)
    if last:
        return last[0]
    return None
