"""Reading a server's error: its words, and whose fault it is.

    body = b'{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}'
    refused = refusal(422, body, clean, sent={"seed"})
    refused.means, refused.words      # "setting", "body.seed: Extra inputs are not permitted"

Servers have different formats: OpenAI, vLLM, SGLang, TGI, llama.cpp, Ollama, FastAPI, Anthropic,
Gemini (in a list), OpenRouter (the provider's words inside), and pages of HTML from whatever stands
before them.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from reasondistill import foreign_json
from reasondistill.foreign_text import shown_line
from reasondistill.models.samplers.openai.wordings import (
    FILTER_CODES,
    FILTER_WORDS,
    LONG_CODES,
    LONG_WORDS,
    NO_MODEL_CODES,
    NO_TEMPLATE_WORDS,
    OTHER_FIELD_WORDS,
    QUOTA_CODES,
    QUOTA_WORDS,
    RATE_WORDS,
    SETTING_CODES,
    SETTING_WORDS,
    TEMPLATE_WORDS,
)

# passing    another try may help
# lost       this sample fails for an unknown reason
# input      the prompt is at fault
# too_long   prompt and answer do not fit; a shorter answer may
# quota      the account's quota is used up
# hopeless   no request will be taken: key, address, model
# setting    a field that no request may carry
# field      it wants `max_completion_tokens`
Meaning = Literal["passing", "lost", "input", "too_long", "quota", "hopeless", "setting", "field"]

_SHOWN = 300
_READ = 4000
# What is looked at of a page; its title stands at the beginning.
_PAGE = 16 << 10
_DEEPEST = 6
_WORD_KEYS = (
    "message",
    "msg",
    "error",
    "detail",
    "details",
    "errors",
    "error_message",
    "error_msg",
    "metadata",
    "raw",
)
_CODE_KEYS = ("code", "type", "error_type", "status", "error_code", "err_code")

# Our fields whose refusal is about this one row.
_OF_THE_ROW = {"messages", "prompt"}


@dataclass(eq=False)
class Refused(Exception):
    """A request that was answered by an error. `words` are the server's own, whole; `codes` in
    small letters.
    """

    status: int
    words: str
    means: Meaning
    codes: frozenset[str] = frozenset()

    @property
    def summary(self) -> str:
        """`HTTP 429 Too Many Requests: slow down`, on one short line."""
        if not self.words:
            return f"HTTP {self.name}"
        return f"HTTP {self.name}: {short(self.words)}"

    @property
    def name(self) -> str:
        """`429 Too Many Requests`."""
        return f"{self.status} {_phrase(self.status)}".strip()


def short(words: str) -> str:
    """At most 300 characters of it."""
    if len(words) <= _SHOWN:
        return words
    return words[: _SHOWN - 1] + "…"


def one_line(text: str) -> str:
    """The text without line breaks, and without signs that a terminal obeys."""
    return shown_line(" ".join(text.split()))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def refusal(
    status: int, body: bytes, clean: Callable[[str], str], sent: Collection[str]
) -> Refused:
    """What an answer with an error's status means; `sent` are the fields of the request."""
    text = body.decode("utf-8", errors="replace")
    try:
        value = foreign_json.loads(text)
    except (ValueError, RecursionError):
        words = _page_words(clean(text))
        return _refused(status, [words], frozenset(), frozenset(), clean, sent)
    return refusal_in(status, value, clean, sent)


def refusal_in(
    status: int, value: Any, clean: Callable[[str], str], sent: Collection[str]
) -> Refused:
    """The same for what was read as JSON; an error's own code stands over a status that says all is
    well.
    """
    codes = frozenset(_codes(value))
    if status < 400:
        numbers = [int(code) for code in codes if code.isdecimal() and code.isascii()]
        errors = [number for number in numbers if 400 <= number <= 599]
        if errors:
            status = errors[0]
    words = list(dict.fromkeys(_words(value))) or [clean(json.dumps(value))[:_READ]]
    return _refused(status, words, codes, frozenset(_named(value)), clean, sent)


def _refused(
    status: int,
    words: list[str],
    codes: frozenset[str],
    named: frozenset[str],
    clean: Callable[[str], str],
    sent: Collection[str],
) -> Refused:
    shown = one_line(clean("; ".join(words)))[:_READ]
    return Refused(status, shown, meaning_of(status, shown, codes, named, sent), codes)


# ---- its words -----------------------------------------------------------------------------------


def _words(value: Any, depth: int = 0) -> Iterator[str]:
    """Every sentence of an error, the outer ones first; FastAPI's with the place it is about."""
    if depth > _DEEPEST:
        return
    if isinstance(value, str) and value.strip():
        yield value.strip()
    elif isinstance(value, list):
        for item in value:
            yield from _words(item, depth + 1)
    elif isinstance(value, dict):
        place = value.get("loc")
        before = ""
        if isinstance(place, list):
            before = ".".join(map(str, place)) + ": "
        for key in _WORD_KEYS:
            for words in _words(value.get(key), depth + 1):
                yield before + words


def _page_words(text: str) -> str:
    """The title of a page of HTML, else its first text; other text as it is."""
    if not is_page(text):
        return text[:_READ]
    # What follows is quadratic in the tags that never end.
    text = text[:_PAGE]
    title = re.search(r"<title[^>]*>([^<]*)", text, re.I)
    if title is not None and title[1].strip():
        return html.unescape(title[1])
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.I | re.S)
    return html.unescape(re.sub(r"<[^>]*>", " ", bare))[:_READ]


def is_page(text: str) -> bool:
    """A page for people, where JSON was wanted."""
    return text.lstrip()[:1] == "<"


def _parts(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The objects of an error, from outside in."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _parts(item, depth + 1)


def _codes(value: Any) -> Iterator[str]:
    for part in _parts(value):
        for key in _CODE_KEYS:
            code = part.get(key)
            if isinstance(code, str | int):
                yield str(code).lower()[:100]


def _named(value: Any) -> Iterator[str]:
    """The fields of the request that an error names itself."""
    for part in _parts(value):
        if isinstance(part.get("param"), str):
            yield part["param"].split(".")[0].split("[")[0]
        place = part.get("loc")
        if isinstance(place, list):
            yield from (str(step) for step in place[1:2])


# ---- what it means -------------------------------------------------------------------------------


def meaning_of(
    status: int, words: str, codes: frozenset[str], named: frozenset[str], sent: Collection[str]
) -> Meaning:
    """What an error means: by its code first, then by its status, then by its words."""
    # First: a filter may quote a prompt that speaks of money.
    if 400 <= status < 500 and status != 402 and codes & FILTER_CODES:
        return "input"
    if _is_unpaid(status, words, codes):
        return "quota"
    if status in (401, 404, 405, 410):
        return "hopeless"
    if status == 429:
        return "passing"
    if status < 500 and (codes & FILTER_CODES or FILTER_WORDS.search(words)):
        return "input"
    if (
        status == 403
        or codes & NO_MODEL_CODES
        or (status == 400 and NO_TEMPLATE_WORDS.search(words))
    ):
        return "hopeless"
    # Some servers call these their own fault (500).
    if status <= 500:
        meaning = _of_the_text(status, words, codes)
        if meaning is not None:
            return meaning
    if not 400 <= status < 500 or status in (408, 409, 425):
        return "passing"
    return _of_the_fields(words, codes, named, sent)


def _is_unpaid(status: int, words: str, codes: frozenset[str]) -> bool:
    if status == 402 or codes & QUOTA_CODES:
        return True
    return (
        status in (400, 403, 429)
        and bool(QUOTA_WORDS.search(words))
        and not RATE_WORDS.search(words)
    )


def _of_the_text(status: int, words: str, codes: frozenset[str]) -> Meaning | None:
    if OTHER_FIELD_WORDS.search(words):
        return "field"
    if status == 413 or codes & LONG_CODES or LONG_WORDS.search(words):
        return "too_long"
    if TEMPLATE_WORDS.search(words):
        return "input"
    return None


def _of_the_fields(
    words: str, codes: frozenset[str], named: frozenset[str], sent: Collection[str]
) -> Meaning:
    """A field that is refused now is refused each time; an error about none of ours may mean
    anything.
    """
    ours = set(sent) - _OF_THE_ROW
    if named and named <= _OF_THE_ROW:
        return "input"
    if "model" in named:
        return "hopeless"
    if codes & SETTING_CODES or named & ours:
        return "setting"
    for field in ours - {"model"}:
        is_quoted = re.search(rf"(?<![\w.]){re.escape(field)}(?![\w])", words)
        if is_quoted and SETTING_WORDS.search(words):
            return "setting"
    return "lost"
