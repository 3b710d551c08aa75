"""Where the steps of a trace end, in tokens: its sentences or its lines.

    step_ends(["So", " 2", ".", " Then", "\\n", "\\n", "3", "."], "sentences")    # [3, 6, 8]

A line ends with the token that holds its line break, a sentence also with one that ends with a full
stop, `!` or `?` where white space or nothing follows, or with a Chinese or Japanese one. White
space alone is no step: it belongs to the one before. Not covered: `1.` in front of an item, and
abbreviations, end a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Unit = Literal["sentences", "lines"]
# The sign with which SentencePiece writes a space in front of a word; decoding one token drops it.
_SPACE = "▁"
# Ideographic full stop, fullwidth exclamation and question marks: no space follows them.
_WIDE_ENDS = ("\u3002", "\uff01", "\uff1f")


def step_ends(pieces: Sequence[str], unit: Unit) -> list[int]:
    """Behind which of the tokens, each given as its text, a step ends; the last one is behind all
    of them.
    """
    ends: list[int] = []
    for place, piece in enumerate(pieces):
        if not piece.strip() and ends and ends[-1] == place:
            ends[-1] = place + 1
            continue
        following = " "
        if place + 1 < len(pieces):
            following = pieces[place + 1]
        if _ends_step(piece, following, unit):
            ends.append(place + 1)
    if pieces and (not ends or ends[-1] < len(pieces)):
        ends.append(len(pieces))
    return ends


def _ends_step(piece: str, following: str, unit: Unit) -> bool:
    if "\n" in piece:
        return True
    if unit == "lines":
        return False
    text = piece.rstrip()
    if text.endswith(_WIDE_ENDS):
        return True
    if not text.endswith((".", "!", "?")):
        return False
    return text != piece or following[:1].isspace()


class Pieces:
    """The text of each token of a tokenizer, by its id."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}

    def of(self, ids: Sequence[int]) -> list[str]:
        """The text of each of these tokens; bytes that are no whole character are a sign for it."""
        return [self._text(number) for number in ids]

    def _text(self, number: int) -> str:
        known = self._known.get(number)
        if known is None:
            known = self._tokenizer.decode(
                [number], skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            token = self._tokenizer.convert_ids_to_tokens(number) or ""
            if token.startswith(_SPACE) and not known[:1].isspace():
                known = f" {known}"
            self._known[number] = known
        return known
