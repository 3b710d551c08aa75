"""What others wrote is shown as text: a terminal obeys none of it, a reader sees it all."""

from __future__ import annotations

import io
import json
import logging
import time
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


HONEST = {
    "persian": "می\u200cخواهم، خانه\u200cها، رو\u200cبه\u200cرو، نمی\u200cشود.",
    "persian with others": "GPU\u200cها ۱۰\u200cهزار 5\u200cام «کتاب»\u200cها ه\u200d. ش. \u200dه",
    "arabic": "السَّلَامُ عَلَيْكُمْ ٣ + ٤ = ٧",
    "hebrew": "שָׁלוֹם, כמה הם 3 + 4? לִ\u034fם",
    "hindi": "क्\u200dष श्री क्\u200cष १२ + ३",
    "bengali": "র\u200d্যাম কর\u200cা",
    "sinhala": "ශ්\u200dරී ලංකාව ක්\u200dෂ",
    "malayalam": "അവന്\u200d ചെയ്\u200dതു",
    "khmer": "ខ្ញុំ\u200bចង់\u200bដឹង ២\u200b+\u200b២",
    "thai": "ฉัน\u200bอยาก\u200bรู้",
    "mongolian": "ᠮᠣᠩᠭ\u180eᠠ ᠰ\u180bᠠ",
    "old korean": "\u115fᅡ ᄀ\u1160",
    "families": "👨\u200d👩\u200d👧 👩🏽\u200d🚀 👩🏻\u200d❤\ufe0f\u200d💋\u200d👨🏿 "
    "🧑\u200d⚖\ufe0f 🏃\u200d➡\ufe0f 🐈\u200d⬛ 🙂\u200d↔\ufe0f",
    "flags": "🏳\ufe0f\u200d🌈 🏳\ufe0f\u200d⚧\ufe0f 🏴\u200d☠\ufe0f 🇮🇷 "
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "selectors": "❤\ufe0f ☎\ufe0e 1\ufe0f⃣ #\ufe0f⃣ ©\ufe0f ™\ufe0f ℹ\ufe0f "
    "‼\ufe0f ↔\ufe0f ☝\ufe0f🏽 ∩\ufe00 0\ufe00",
    "names in han": "葛\U000e0100城 辻\U000e0101 神\ufe00",
    "hyphens": "Donau\u00addampf\u00adschiff",
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_writing_of_any_script_is_read_as_it_was_written(name: str) -> None:
    text = HONEST[name]
    assert shown(text) == text
    assert shown_line(text) == text
    assert shown_json(text) == text
    formatter = ShownFormatter("%(message)s")
    record = logging.LogRecord("a", 20, "", 1, "%s", (text,), None)
    assert formatter.format(record) == text


HIDDEN = {
    "a joiner between Latin letters": ("pay\u200cpal pay\u200dpal", 2),
    "a joiner in front of a line": ("\u200dabc", 1),
    "a second joiner": ("می\u200c\u200c\u200dخواهم", 2),
    "a joiner beside a sign of two": ("a\u200d👨 👨\u200db", 2),
    "emoji and a second joiner": ("👨\u200d\u200d👩", 2),
    "marks of direction": ("שלום\u200f \u202eabc\u202c \u2066x\u2069 عربى\u061c \u200e", 7),
    "a divided password": ("p\u00ada\u00ads\u00ads", 3),
    "no word": ("a \u00ad b\u00ad", 2),
    "spaces of no width": ("a\u200bb می\u200bخواهم", 2),
    "tags without a flag": ("\U000e0067\U000e0062\U000e007f", 3),
    "a long flag": (
        "🏴" + "".join(chr(0xE0000 + ord(sign)) for sign in "ignoreall") + "\U000e007f",
        10,
    ),
    "a flag without an end": ("🏴\U000e0067\U000e0062\U000e0065 x", 3),
    "a flag that goes on": (
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f\U000e0041",
        1,
    ),
    "bytes in selectors": ("😀\ufe0f\ufe01\ufe05 a\ufe0f x\ufe00 \ufe0f", 5),
    "bytes in selectors of an emoji": ("😀\ufe09 😀\U000e0130 \U000e0130", 3),
    "a selector of Mongolian elsewhere": ("a\u180bb\u180e", 2),
    "fillers": ("\u115f\u1160 \u3164 a\u1160", 4),
    "joiners of hieroglyphs elsewhere": ("a\U00013430b", 1),
    "a word that is held together": ("می\u2060خواهم \ufeff", 2),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_the_same_signs_elsewhere_hide_something_and_are_shown(name: str) -> None:
    text, count = HIDDEN[name]
    assert shown(text).count("‹U+") == count
    assert shown_line(text).count("‹U+") == count
    assert shown_json(json.dumps(text, ensure_ascii=False)).count("\\u") >= count


def test_text_full_of_unseen_signs_is_shown_in_linear_time() -> None:
    for text in ("\u200c" * 200_000, "🏴" + "\U000e0061" * 200_000, "می\u200c" * 100_000):
        began = time.process_time()
        shown(text)
        assert time.process_time() - began < 3


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
