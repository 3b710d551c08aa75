"""The known word that is nearest to one that nobody knows: for the errors of a mistyped name.

Its own module: the grader's workers want it, and pydantic would slow their start.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any


def nearest(word: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """`Did you mean x?`, or the list of what is known."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(sorted(known))}."
