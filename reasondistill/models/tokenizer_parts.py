"""What a tokenizer makes of a text before it cuts it: how much more it can become.

    require_tame(parts_of(data), path)                # of a tokenizer.json, before it is opened
    require_tame(opened_parts(tokenizer), name)       # of one that came from other files

Three steps that put a thousand characters in place of each `a` make 10⁹ of it. Each step of a
normalizer, pre-tokenizer or decoder is counted by the most that it makes of one byte, and steps one
after the other are multiplied, as if every byte met all of them.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.bounds import NORMALIZED_BYTES, TOKENIZER_GROWTH, TOKENS
from reasondistill.errors import ConfigError

NORMALIZER, PRE_TOKENIZER = "normalizer", "pre_tokenizer"
DECODER, POST_PROCESSOR = "decoder", "post_processor"
_PARTS = (NORMALIZER, PRE_TOKENIZER, DECODER, POST_PROCESSOR)
# In bytes; of NFKC 'ﷺ', of ByteLevel a space before each piece. What is not here makes no more.
_GROWTH = {
    **{"NFC": 3, "NFD": 3, "NFKC": 11, "NFKD": 11, "Lowercase": 2, "BertNormalizer": 8},
    **{"ByteLevel": 3, "Metaspace": 6},
}
_INNER = ("normalizers", "pretokenizers", "decoders", "processors")
# SentencePiece's `▁` has 3 bytes, a prefix of WordPiece 2.
_LONGEST_TEXT = 256
_MOST_STEPS = 100
# Of decoders and pre-tokenizers; what a normalizer makes of a long text is measured.
_UNMEASURED_GROWTH = 100
_MOST_ADDED_IDS = 1_000
# The longest known tokens have 128 characters.
_LONGEST_TOKEN = 20_000
_BACKSLASH = ord("\\")
# Quotes in the texts of one such stretch, before one that ends a text.
_MOST_ESCAPED = 1_000
_KEY_OF_PART = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*[^-0-9 \t\r\n]")
_WHITE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Part:
    """A part of a tokenizer.json: `normalizer` and what it says."""

    name: str
    value: Any


def parts_of(data: bytes) -> list[Part]:
    """The parts of a tokenizer.json around its vocabulary, which is parsed only where something
    stands behind it. Empty for what is no JSON.

    Raises ValueError for what no Python could read (`foreign_json.loads`), or a token without end.
    """
    try:
        return _walk(data)
    except RecursionError:
        raise foreign_json.too_deep() from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        return []


def _walk(data: bytes) -> list[Part]:
    text = data.decode()
    scan = json.JSONDecoder().raw_decode
    parts: list[Part] = []
    at = _after(text, 0, "{")
    while True:
        key, at = scan(text, _behind_white(text, at))
        at = _behind_white(text, _after(text, at, ":"))
        if key == "model":
            behind = data[len(text[:at].encode()) :]
            if is_last_part(behind):
                require_short_tokens(behind)
                return parts
        value, at = scan(text, at)
        parts.append(Part(str(key), value))
        at = _behind_white(text, at)
        if text[at : at + 1] != ",":
            return parts
        at += 1


def _behind_white(text: str, at: int) -> int:
    match = _WHITE.match(text, at)
    assert match is not None
    return match.end()


def _after(text: str, at: int, sign: str) -> int:
    at = _behind_white(text, at)
    if text[at : at + 1] != sign:
        raise json.JSONDecodeError(f"no {sign}", "", 0)
    return at + 1


def is_last_part(model: bytes) -> bool:
    """Whether none of the parts stands behind the beginning of the model, however a key is spelt.

    In bytes: of a vocabulary in all scripts each character of a text takes four.
    """
    if re.search(rb"\\u00[2-7]", model) is not None:
        return False
    for name in (*_PARTS, "added_tokens", "model"):
        key = f'"{name}"'.encode()
        found = model.find(key)
        while found >= 0:
            # A number is the id of such a token.
            if _KEY_OF_PART.match(model, found + len(key)) is not None:
                return False
            found = model.find(key, found + len(key))
    return True


def require_short_tokens(model: bytes) -> None:
    """Raise ValueError for a text in which two such stretches fit: one of them has no quote."""
    for start in range(0, len(model) - _LONGEST_TOKEN, _LONGEST_TOKEN):
        end = start + _LONGEST_TOKEN
        quote = model.find(b'"', start, end)
        escaped = 0
        while quote > 0 and model[quote - 1] == _BACKSLASH and escaped < _MOST_ESCAPED:
            escaped += 1
            quote = model.find(b'"', quote + 1, end)
        if quote < 0 or escaped == _MOST_ESCAPED:
            raise ValueError(f"a token of more than {_LONGEST_TOKEN:,} bytes")


def opened_parts(tokenizer: Any) -> list[Part]:
    """The parts of a tokenizer that is open; empty for one that is not of the library in Rust."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts: list[Part] = []
    for name in _PARTS:
        part = getattr(backend, name, None)
        if part is None:
            continue
        try:
            parts.append(Part(name, json.loads(part.__getstate__())))
        except Exception:  # a part that was written in Python has no such state
            continue
    return parts


def require_tame(parts: Iterable[Part], where: object) -> None:
    """Raise ConfigError for a tokenizer that can make more of a text than any honest one."""
    parts = list(parts)
    for part in parts:
        is_unmeasured = part.name in (PRE_TOKENIZER, DECODER)
        if is_unmeasured and growth_of(part.value, where) > _UNMEASURED_GROWTH:
            raise ConfigError(
                f"{where}: its {part.name} can make more than {_UNMEASURED_GROWTH} times as much "
                "of a text."
            )
        if part.name == POST_PROCESSOR:
            require_few_additions(part.value, where)
    growth = text_growth(parts, where)
    if growth > TOKENIZER_GROWTH.most:
        raise ConfigError(
            f"{where}: its normalizer can make more of a text than {TOKENIZER_GROWTH}."
        )


def text_growth(parts: Iterable[Part], where: object, name: str | None = None) -> float:
    """The most bytes that the normalizer and the pre-tokenizer, or one of them, make of a byte."""
    growth = 1.0
    for part in parts:
        if part.name in (NORMALIZER, PRE_TOKENIZER) and name in (None, part.name):
            growth *= growth_of(part.value, where)
    return growth


def growth_of(part: Any, where: object) -> float:
    """The most bytes that a part makes of one byte. Raises ConfigError for one of too many steps,
    or one that puts in a text of more than 256 bytes.
    """
    growth = 1.0
    steps = steps_of(part)
    if len(steps) > _MOST_STEPS:
        raise ConfigError(f"{where}: more than {_MOST_STEPS} steps in one part of a tokenizer.")
    for step in steps:
        growth *= growth_of_step(step, where)
    return growth


def steps_of(part: Any) -> list[Mapping[str, Any]]:
    """The steps of a part, sequences of steps unpacked."""
    steps: list[Mapping[str, Any]] = []
    waiting: list[Any] = [part]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, dict):
            continue
        step = cast("dict[str, Any]", value)
        steps.append(step)
        for name in _INNER:
            inner = step.get(name)
            if isinstance(inner, list):
                waiting += cast("list[Any]", inner)
    return steps


def growth_of_step(step: Mapping[str, Any], where: object) -> float:
    """The most bytes that one step makes of one byte. Raises as `growth_of`."""
    growth = float(_GROWTH.get(str(step.get("type")), 1))
    texts = [_size(step.get(name)) for name in ("content", "prepend", "replacement")]
    if max(texts) > _LONGEST_TEXT:
        raise ConfigError(
            f"{where}: puts a text of more than {_LONGEST_TEXT} bytes into what it reads."
        )
    if "prepend" in step:
        growth += _size(step["prepend"])
    if "pattern" in step and "content" in step:
        growth *= growth_of_replacing(step["pattern"], _size(step["content"]))
    if "precompiled_charsmap" in step:
        growth *= longest_text_of(step["precompiled_charsmap"])
    return growth


def _size(text: Any) -> int:
    return len(str(text or "").encode("utf-8", "replace"))


def growth_of_replacing(pattern: Any, content: int) -> float:
    """Of a text each, or of an expression, which may match nothing at all: between all bytes."""
    text = ""
    if isinstance(pattern, dict):
        text = cast("dict[str, Any]", pattern).get("String") or ""
    size = _size(text)
    if size == 0:
        return 1.0 + content
    return max(1.0, content / size)


def longest_text_of(charsmap: Any) -> float:
    """The longest text that SentencePiece's table has for a character: behind four bytes of the
    size of its tree, the tree, and texts that end in 0.
    """
    try:
        data = base64.b64decode(str(charsmap))
    except (binascii.Error, ValueError):
        return 1.0
    tree = int.from_bytes(data[:4], "little")
    return float(max(1, *map(len, data[4 + tree :].split(b"\0"))))


def require_few_additions(part: Any, where: object) -> None:
    """Raise ConfigError for a post-processor that adds ids without measure to each text, or gives
    the text several times.
    """
    added = 0
    copies = 1
    for step in steps_of(part):
        for name in ("single", "pair"):
            pieces = step.get(name)
            if isinstance(pieces, list):
                added += len(cast("list[Any]", pieces))
                copies *= max(1, json.dumps(pieces).count('"Sequence"'))
        tokens = step.get("special_tokens")
        if isinstance(tokens, dict):
            added += json.dumps(tokens).count(",")
    if added > _MOST_ADDED_IDS or copies > _MOST_STEPS:
        raise ConfigError(f"{where}: its post_processor adds more than anybody needs to a text.")


def require_few_tokens(data: bytes, where: object) -> None:
    """Raise ConfigError for a vocabulary of more tokens or merges than TOKENS, by the signs that
    stand between them.
    """
    most = TOKENS.most
    # Each has a colon, or a score and so two commas, as has a merge that is a list; an added token
    # has seven keys.
    keys = data.count(b":") - 8 * data.count(b"{")
    if keys > most or data.count(b",") > 4 * most or data.count(b"[") > 2 * most:
        raise ConfigError(f"{where}: more than {TOKENS}.")


# ---- texts ---------------------------------------------------------------------------------------


class Measure:
    """Says of a text whether its tokenizer would make too much of it. Costs a multiplication, but
    for long texts of a tokenizer that can make much more of them.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._parts = opened_parts(tokenizer)
        self._name = getattr(tokenizer, "name_or_path", "")
        self._growth = text_growth(self._parts, self._name)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._normalizer = getattr(backend, NORMALIZER, None)

    def require_bounded(self, text: str) -> None:
        """Raise ConfigError for a text of which the tokenizer would make more than
        NORMALIZED_BYTES and four times its size.
        """
        most = NORMALIZED_BYTES.most
        if len(text) * 4 * self._growth <= most or self._normalizer is None:
            return
        later = text_growth(self._parts, self._name, PRE_TOKENIZER)
        piece_size = max(1, math.floor(most / self._growth / 4))
        size = 0
        for start in range(0, len(text), piece_size):
            piece = self._normalizer.normalize_str(text[start : start + piece_size])
            size += len(piece.encode())
            if size * later > most + 4 * later * len(text.encode("utf-8", "replace")):
                raise ConfigError(
                    f"{self._name}: its tokenizer makes more of a text of {len(text):,} characters "
                    f"than {NORMALIZED_BYTES}."
                )
