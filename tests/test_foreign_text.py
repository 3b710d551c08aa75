"""What others wrote is shown as text: a terminal obeys none of it, a reader sees it all."""

from __future__ import annotations

import io
import json
import logging
import unicodedata

import pytest

from reasondistill.foreign_text import (
    ShownFormatter,
    shown,
    shown_json,
    shown_line,
    shown_stream,
)

# Arabic signs that stand around the digits after them: format characters that one sees.
SEEN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2}


@pytest.mark.parametrize("kind", ["Cc", "Cf", "Cs", "Zl", "Zp"])
def test_nothing_that_a_terminal_obeys_or_nobody_sees_is_left(kind: str) -> None:
    left: list[str] = []
    for number in range(0x110000):
        if unicodedata.category(chr(number)) == kind and shown_line(chr(number)) == chr(number):
            left.append(hex(number))
    assert left == [hex(number) for number in sorted(SEEN) if kind == "Cf"]


def test_it_is_shown_as_visible_text() -> None:
    assert shown("\x1b]52;c;aGk=\x1b\\ \x9b2J \u202eabc \U000e0041") == (
        "\\x1b]52;c;aGk=\\x1b\\ \\x9b2J ‹U+202E›abc ‹U+E0041›"
    )


def test_what_people_write_stays_as_it_is() -> None:
    text = "Ünïcödé 数学 عربى ❤️ \\frac{1}{2} [link=x] <b>\n\tsecond line"
    assert shown(text) == text


def test_a_line_break_in_a_line_is_text() -> None:
    assert shown_line("a\n✓ traces\r\tb") == r"a\n✓ traces\r\tb"
    assert shown("a\r\nb") == "a\nb"


def test_json_keeps_its_value() -> None:
    value = {"a\u202e": ["\x9b2J", "\x1b[2J", "\U000e0041", "ü\u2028"]}
    text = shown_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert shown(text) == text and "ü" in text


def test_a_log_line_is_one_line_and_a_traceback_stands_below() -> None:
    formatter = ShownFormatter("%(message)s")
    try:
        raise ValueError("\x1b[2J")
    except ValueError as error:
        kind = (type(error), error, error.__traceback__)
        record = logging.LogRecord("a", 20, "", 1, "%s", ("x\ny\x9b",), kind)
    first, *rest = formatter.format(record).split("\n")
    assert first == "x\\ny\\x9b"
    assert rest[-1] == "ValueError: \\x1b[2J"


def test_a_stream_shows_all_that_is_printed() -> None:
    bytes_ = io.BytesIO()
    plain = io.TextIOWrapper(bytes_, encoding="utf-8")
    stream = shown_stream(plain, has_colours=False)
    assert shown_stream(stream, has_colours=False) is stream
    print("\x1b[31mred\x1b[0m \ud800", file=stream)
    print("10 %\r20 %", file=stream)
    stream.flush()
    assert bytes_.getvalue().decode() == "\\x1b[31mred\\x1b[0m ‹U+D800›\n10 %\n20 %\n"


def test_a_terminal_keeps_its_colours() -> None:
    bytes_ = io.BytesIO()
    plain = io.TextIOWrapper(bytes_, encoding="utf-8")
    stream = shown_stream(plain, has_colours=True)
    print("\x1b[31mred\x1b[0m\r\x1b[K\x1b[2J\x1b]0;title\x07", file=stream)
    stream.flush()
    assert bytes_.getvalue().decode() == "\x1b[31mred\x1b[0m\r\x1b[K\\x1b[2J\\x1b]0;title\\x07\n"
