"""Joining a streamed reply (server-sent events) into one reply, and ending one that goes round in
circles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reasondistill import foreign_json
from reasondistill.models.samplers.loops import LoopWatch
from reasondistill.records import LoopRule

_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")
_LISTS = ("reasoning_details", "tool_calls")


class Cut(ValueError):
    """The stream ended before its end."""


def is_stream(kind: str, body: bytes) -> bool:
    """Whether a reply is a stream; some servers declare a stream as JSON."""
    return kind == "text/event-stream" or body[:100].lstrip().startswith(
        (b"data:", b"event:", b":")
    )


class StreamWatch:
    """Says while a reply comes that it is a loop and the rest is not wanted."""

    def __init__(self, rule: LoopRule) -> None:
        self._watch = LoopWatch.of_text(rule)
        self._line: list[bytes] = []

    def ends(self, chunk: bytes) -> bool:
        """Whether a loop is sure behind this part of the body. What is no event of one line is left
        to who reads the whole.
        """
        first, *others = chunk.split(b"\n")
        self._line.append(first)
        for start in others:
            line = b"".join(self._line)
            self._line = [start]
            if line.startswith(b"data:") and self._is_loop(line[5:]):
                return True
        return False

    def _is_loop(self, data: bytes) -> bool:
        try:
            piece = foreign_json.loads(data)
            choice = _choice(piece) if isinstance(piece, dict) else None
            return choice is not None and _add({}, choice, self._watch)
        except (ValueError, RecursionError):
            return False


def whole_reply(body: bytes, loops: LoopRule | None = None) -> dict[str, Any]:
    """One reply with its message, finish reason, usage and model; an error in the middle stands
    alone. One that goes round in circles ends where that was sure, with the reason `repetition`.

    Raises Cut when neither `[DONE]` nor a finish reason came, ValueError when a piece is no JSON.
    """
    reply: dict[str, Any] = {}
    message: dict[str, Any] = {}
    finish: str | None = None
    is_begun = is_done = is_text = False
    watch = None
    if loops is not None:
        watch = LoopWatch.of_text(loops)
    for data in _events(body):
        if data == "[DONE]":
            is_done = True
            break
        piece = foreign_json.loads(data)
        if not isinstance(piece, dict):
            raise ValueError("a piece of the stream is no object")
        if piece.get("error"):
            return piece
        reply |= {
            name: piece[name]
            for name in ("model", "system_fingerprint", "usage")
            if piece.get(name)
        }
        choice = _choice(piece)
        if choice is None:
            continue
        if choice.get("error"):
            return {"error": choice["error"]}
        is_begun = True
        is_text = is_text or isinstance(choice.get("text"), str)
        if _add(message, choice, watch):
            finish = "repetition"
            break
        finish = choice.get("finish_reason") or finish
    if not is_begun or (not is_done and finish is None):
        raise Cut("the stream was cut: neither [DONE] nor a finish reason came")
    joined = {name: _joined(value) for name, value in message.items()}
    choice = {"message": joined, "finish_reason": finish}
    if is_text:
        choice = {"text": joined.get("content", ""), "finish_reason": finish}
    return reply | {"choices": [choice]}


def _events(body: bytes) -> Iterator[str]:
    """The data of each event; comments, which keep a connection open, are passed over."""
    lines: list[str] = []
    for line in _lines(body.decode("utf-8", errors="replace").replace("\r\n", "\n")):
        if line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []


def _lines(text: str) -> Iterator[str]:
    """The lines of a text one at a time, and an empty one behind them: millions may be empty."""
    start = 0
    while start <= len(text):
        end = text.find("\n", start)
        if end < 0:
            end = len(text)
        yield text[start:end]
        start = end + 1
    yield ""


def _choice(piece: dict[str, Any]) -> dict[str, Any] | None:
    """The first choice's part of a piece; the last one often carries usage alone."""
    choices = piece.get("choices")
    if not isinstance(choices, list):
        return None
    for choice in choices:
        if isinstance(choice, dict) and not choice.get("index"):
            return choice
    return None


def _add(message: dict[str, Any], choice: dict[str, Any], watch: LoopWatch | None) -> bool:
    """Put what a piece brings behind what has come, up to where a loop is sure; whether one is."""
    delta = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
    if not isinstance(delta, dict):
        raise ValueError("a piece of the stream has a delta that is no object")
    for name in _TEXTS:
        value = delta.get(name)
        if isinstance(value, str) and value:
            end = None
            if watch is not None:
                end = watch.feed(value)
                value = value[:end]
            message.setdefault(name, []).append(value)
            if end is not None:
                return True
        elif isinstance(value, list):
            message.setdefault(name, []).extend(value)
    for name in _LISTS:
        if isinstance(delta.get(name), list):
            message.setdefault(name, []).extend(delta[name])
    return False


def _joined(pieces: list[Any]) -> Any:
    """Text where all pieces are text, else the list of them."""
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    return pieces
