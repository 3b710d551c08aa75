"""Text that others wrote, made fit for a terminal, a log and the report: what a terminal obeys,
what turns the direction of reading, and what nobody sees are shown as text.

    shown("a\\x1b[2Jb\\u202e")          # a\\x1b[2Jb‹U+202E›, tabs and line breaks stay
    shown_line("a\\nTask done")         # a\\nTask done, on one line
    shown_json('{"a": "\\u202e"}')      # {"a": "\\u202e"}: the same value

Unseen signs of which a script or an emoji is made stay (`unseen.belongs`).

What leaves for people passes it at the way out, so that no message can forget it: `ShownStream`
stands for standard output and error, `ShownFormatter` writes log lines, and the command line's
consoles do the same before they measure a table. Stream and log lines lose what `secrets.cleaned`
takes out, too: also of what libraries print.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Mapping
from typing import Any, TextIO, cast

from reasondistill.secrets import cleaned
from reasondistill.unseen import UNSEEN, belongs

# A lone surrogate is half a character; no encoding has it.
_HALVES = "\ud800-\udfff"
_OF_A_BLOCK = re.compile(rf"\r\n|[\x00-\x08\x0b-\x1f\x7f-\x9f{UNSEEN}{_HALVES}]")
_OF_A_LINE = re.compile(rf"[\x00-\x1f\x7f-\x9f{UNSEEN}{_HALVES}]")
_OF_JSON = re.compile(rf"[\x7f-\x9f{UNSEEN}{_HALVES}]")
# What a terminal gets from us and from progress bars: colours, the line written again.
_COLOURS = re.compile(r"(\x1b\[[0-9;]*[mAK]|\r)")
_NAMES = {"\t": r"\t", "\n": r"\n", "\r": r"\r", "\r\n": "\n"}


def shown(text: str) -> str:
    """A block of foreign text: tabs and line breaks are as they were, all else that does something
    is text.
    """
    return _OF_A_BLOCK.sub(_as_text, text)


def shown_line(text: str) -> str:
    """The same on one line: a line break in a name forges no second line."""
    return _OF_A_LINE.sub(_as_text, text)


def shortened(text: str, most: int) -> str:
    """At most so many characters of a long text, and how many were left out."""
    left_out = len(text) - most
    if left_out <= 0:
        return text
    return f"{text[:most]}… {left_out:,} characters more"


def shown_json(text: str) -> str:
    """JSON that says the same, with `\\u` escapes where a terminal would do something."""
    return _OF_JSON.sub(_as_json, text)


def cleaned_texts(value: Any) -> Any:
    """A value of JSON whose texts are `cleaned`: before it is JSON, for what is cut out of JSON may
    take the backslash of a quote with it.
    """
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        return {name: cleaned_texts(inner) for name, inner in pairs}
    if isinstance(value, list | tuple):
        return [cleaned_texts(inner) for inner in cast("list[Any]", value)]
    return value


def _as_text(found: re.Match[str]) -> str:
    sign = found[0]
    if belongs(found.string, found.start()):
        return sign
    if sign in _NAMES:
        return _NAMES[sign]
    number = ord(sign)
    if number < 0xA0:
        return f"\\x{number:02x}"
    return f"‹U+{number:04X}›"


def _as_json(found: re.Match[str]) -> str:
    if belongs(found.string, found.start()):
        return found[0]
    number = ord(found[0])
    if number < 0x10000:
        return f"\\u{number:04x}"
    high, low = divmod(number - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


class ShownFormatter(logging.Formatter):
    """A log line on one line; a traceback below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return shown_line(cleaned(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:
        return shown(cleaned(super().formatException(ei)))


class ShownStream(io.TextIOWrapper):
    """Standard output or error. A terminal keeps its colours; elsewhere a progress bar's steps are
    lines.
    """

    def __init__(self, stream: io.TextIOWrapper, *, has_colours: bool) -> None:
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._stream = stream  # whose end would close the buffer
        self._has_colours = has_colours

    def write(self, s: str, /) -> int:
        text = cleaned(s)
        if self._has_colours:
            parts = _COLOURS.split(text)
            parts[::2] = map(shown, parts[::2])
            super().write("".join(parts))
        else:
            super().write(shown(text.replace("\r\n", "\n").replace("\r", "\n")))
        return len(s)

    def write_as_is(self, text: str) -> None:
        """Write what is cleaned and shown already: JSON."""
        super().write(text)


def write_as_is(stream: TextIO, text: str) -> None:
    """Write JSON whose texts are cleaned, and which a terminal does not obey."""
    if isinstance(stream, ShownStream):
        stream.write_as_is(text)
    else:
        stream.write(text)
    stream.flush()


def shown_stream(stream: TextIO, *, has_colours: bool) -> TextIO:
    """A stream on which all text is shown. One that holds no bytes (of a test) stays as it is."""
    if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, ShownStream):
        stream.flush()
        return ShownStream(stream, has_colours=has_colours)
    return stream
