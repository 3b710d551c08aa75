"""What is stored of a teacher's distributions, for the page: how probable each token was, and which
one was more probable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from reasondistill.models.topk import TopK

# The beginning of a word: GPT-2's byte for a space, SentencePiece's sign for one.
_BYTE_SPACE, _PIECE_SPACE = "\u0120", "\u2581"
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def texts_of_tokens(vocabulary: Mapping[str, int]) -> dict[int, str]:
    """What each token says, by its id. A token that holds a part of a character says U+FFFD."""
    if any(token.startswith(_BYTE_SPACE) for token in vocabulary):
        bytes_of = _bytes_of_signs()
        texts: dict[int, str] = {}
        for token, number in vocabulary.items():
            raw = b"".join(bytes_of.get(sign, sign.encode("utf-8", "replace")) for sign in token)
            texts[number] = raw.decode("utf-8", "replace")
        return texts
    return {number: _piece(token) for token, number in vocabulary.items()}


def _piece(token: str) -> str:
    byte = _BYTE_PIECE.fullmatch(token)
    if byte is not None:
        return bytes([int(byte[1], 16)]).decode("utf-8", "replace")
    return token.replace(_PIECE_SPACE, " ")


def _bytes_of_signs() -> dict[str, bytes]:
    """The byte that each sign stands for in a byte-level vocabulary: those that print stand for
    themselves, the others for U+0100 and on (GPT-2's bytes_to_unicode).
    """
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    signs = {chr(byte): bytes([byte]) for byte in printing}
    others = [byte for byte in range(0x100) if byte not in printing]
    for place, byte in enumerate(others):
        signs[chr(0x100 + place)] = bytes([byte])
    return signs


def logprob_row(top_k: TopK, texts: Mapping[int, str]) -> dict[str, Any]:
    """`tokens`, `percents` (0 where a token is not among the K), and `best`: the most probable
    token where it is another one, else null.
    """
    written = top_k.token_ids
    tokens = [texts.get(number, "\ufffd") for number in written.tolist()]
    if not len(written) or not top_k.ids.shape[1]:
        return {"tokens": tokens, "percents": [0] * len(tokens), "best": [None] * len(tokens)}
    is_written = top_k.ids == written[:, None]
    logprobs = np.where(is_written, top_k.log_probs, -np.inf).max(axis=1)
    percents = np.rint(100 * np.exp(logprobs)).astype(int).clip(0, 100).tolist()
    rows = np.arange(len(written))
    most_probable = top_k.ids[rows, top_k.log_probs.argmax(axis=1)]
    best: list[str | None] = []
    for number, is_same in zip(
        most_probable.tolist(), (most_probable == written).tolist(), strict=True
    ):
        other = None
        if not is_same:
            other = texts.get(number, "\ufffd")
        best.append(other)
    return {"tokens": tokens, "percents": percents, "best": best}
