"""Requests and responses of an OpenAI-compatible server, one exchange a row.

| row | by |
|---|---|
| `{"request": {"messages": …}, "response": {"choices": …}}` | logs; also `input`, `output` |
| `{"messages": …, "choices": …, "model": …}` | OpenAI's stored completions with their messages |
| `{"custom_id": …, "response": {"body": {"choices": …}}}` | OpenAI's batches |

Each choice is a trace. The request's and the response's own words on sampling are kept as what they
are: what the publisher says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, cast

from reasondistill.bounds import COUNTED_TOKENS
from reasondistill.errors import DataError
from reasondistill.models.samplers.openai.replies import Malformed, texts_of
from reasondistill.models.samplers.openai.wordings import (
    FILTERED_REASONS,
    FINISHES,
    TOOL_REASONS,
)
from reasondistill.models.samplers.stored.texts import (
    StoredRow,
    StoredText,
    as_objects,
    wrong_type,
)
from reasondistill.models.samplers.stored.turns import question_of, turns_of
from reasondistill.records import Finish

_REQUESTS, _RESPONSES = ("request", "input", "body"), ("response", "output")
_ROUNDING = 1e-3
# No seed is larger.
_LARGEST = 1 << 62
ENDED = "ended in a way that is no answer"


def is_exchange(row: Mapping[str, Any]) -> bool:
    """Whether a row holds the response of a server."""
    return _response_in(row) is not None


def read_exchange(row: Mapping[str, Any], place: str) -> StoredRow:
    """The choices of a row and what was asked. Raises DataError for what is of another type."""
    response = _response_in(row)
    if response is None:
        return StoredRow(None, (), ("no response",))
    request = _request_in(row, response)
    turns = as_objects(request.get("messages"))
    question = None
    if turns is not None:
        question = question_of(turns_of(turns, f"{place}: messages"))
    texts: list[StoredText] = []
    left_out: list[str] = []
    choices = as_objects(response["choices"]) or []
    for number, choice in enumerate(choices):
        read = read_choice(choice, f"{place}: choices.{number}")
        if isinstance(read, str):
            left_out.append(read)
        else:
            texts.append(read)
    if not choices:
        left_out.append("no choices")
    said = said_of_all(request, response, is_one=len(choices) == 1)
    return StoredRow(
        question, tuple(with_what_is_said(text, said) for text in texts), tuple(left_out)
    )


def _response_in(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for value in (row, *(row.get(name) for name in _RESPONSES)):
        for found in (value, _part(value, "body")):
            if isinstance(found, Mapping) and isinstance(_part(found, "choices"), list):
                return cast("Mapping[str, Any]", found)
    return None


def _request_in(row: Mapping[str, Any], response: Mapping[str, Any]) -> Mapping[str, Any]:
    for value in (*(row.get(name) for name in _REQUESTS), row, response):
        for found in (value, _part(value, "body")):
            if isinstance(_part(found, "messages"), list):
                return cast("Mapping[str, Any]", found)
    return {}


def _part(value: object, name: str) -> Any:
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value).get(name)
    return None


def read_choice(choice: Mapping[str, Any], place: str) -> StoredText | str:
    """The trace of a choice, or why it is none."""
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise wrong_type(place, "message", message, "an object")
    reason = choice.get("finish_reason")
    finish: Finish = "unknown"
    if reason is not None:
        if not isinstance(reason, str):
            raise wrong_type(place, "finish_reason", reason, "a text")
        word = reason.strip().lower()
        if word in FILTERED_REASONS or word in TOOL_REASONS:
            return f"{ENDED} ({word})"
        if word not in FINISHES:
            return ENDED
        finish = FINISHES[word]
    try:
        thinking, text = texts_of(cast("Mapping[str, Any]", message))
    except Malformed as error:
        raise DataError(f"{place}: {error.reason}.") from None
    if not text.strip() and not thinking:
        return "no text"
    logprobs = _part(choice.get("logprobs"), "content")
    tokens, mean = None, None
    if logprobs is not None:
        items = as_objects(logprobs)
        values = [item.get("logprob") for item in items or ()]
        tokens, mean = token_logprobs(values, f"{place}: logprobs")
    return StoredText(text, thinking, finish, tokens=tokens, mean_logprob=mean)


def token_logprobs(values: Sequence[object], place: str) -> tuple[int | None, float | None]:
    """How many tokens these are the log-probabilities of, and their mean. Raises DataError for what
    is none.
    """
    numbers = list(log_probabilities(values, place))
    if not numbers:
        return None, None
    return len(numbers), sum(numbers) / len(numbers)


def log_probabilities(values: Sequence[object], place: str) -> Iterator[float]:
    """The values as numbers. Raises DataError for what is no log-probability."""
    for number, value in enumerate(values):
        logprob = math.nan
        if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            with suppress(OverflowError, ValueError):  # 400 digits, a signalling NaN
                logprob = float(value)
        # Rounding may make a little more than 0 of a certain token.
        if not math.isfinite(logprob) or logprob > _ROUNDING:
            raise DataError(
                f"{place}: token {number}: {str(value)[:40]!r} is no log-probability; want a "
                "number of at most 0."
            )
        yield logprob


def said_of_all(
    request: Mapping[str, Any], response: Mapping[str, Any], *, is_one: bool
) -> StoredText:
    """What is said of all choices together."""
    usage = response.get("usage")
    tokens = None
    if is_one:
        tokens = _count(_part(usage, "completion_tokens"))
    teacher = response.get("model") or request.get("model")
    seed = _number(request, response, "seed")
    return StoredText(
        "",
        teacher=teacher if isinstance(teacher, str) else None,
        tokens=tokens,
        prompt_tokens=_count(_part(usage, "prompt_tokens")),
        temperature=_number(request, response, "temperature"),
        top_p=_number(request, response, "top_p"),
        seed=None if seed is None else int(seed),
    )


def with_what_is_said(text: StoredText, said: StoredText) -> StoredText:
    """A choice with what is said of all choices together."""
    return StoredText(
        text.text,
        text.thinking,
        text.finish,
        teacher=said.teacher,
        tokens=text.tokens or said.tokens,
        prompt_tokens=said.prompt_tokens,
        temperature=said.temperature,
        top_p=said.top_p,
        seed=said.seed,
        mean_logprob=text.mean_logprob,
    )


def _count(value: object) -> int | None:
    """A count of tokens; None for what cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value < COUNTED_TOKENS.most else None


def _number(request: Mapping[str, Any], response: Mapping[str, Any], name: str) -> float | None:
    for place in (request, response):
        value = place.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if abs(value) < _LARGEST:
            return value
    return None
