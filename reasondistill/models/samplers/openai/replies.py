"""What a server's reply says: text, reasoning, why it ended, how many tokens it had, and which
model it came from.

reply = read(answer.kind, answer.body)
completion = completion_of(reply, request, sent=body, seconds=1.2)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from reasondistill import foreign_json
from reasondistill.bounds import COUNTED_TOKENS
from reasondistill.models.samplers.openai.asking import (
    MAX_COMPLETION_TOKENS,
    MAX_TOKENS,
    characters_of,
)
from reasondistill.models.samplers.openai.refusals import one_line, short
from reasondistill.models.samplers.openai.streams import is_stream, whole_reply
from reasondistill.models.samplers.openai.wordings import (
    FILTERED_REASONS,
    FINISHES,
    TOOL_REASONS,
)
from reasondistill.models.samplers.reasoning import split_reasoning
from reasondistill.models.samplers.requests import Request, failed
from reasondistill.records import Completion, Fault, Finish, LoopRule
from reasondistill.secrets import masked
from reasondistill.thinking import ReasoningFormat, split

_THOUGHTS = ("thinking", "reasoning", "reasoning_content", "text", "summary", "content")


class Malformed(Exception):
    """A reply of a shape that no server of this kind sends; `found` is what came, whole, not yet
    cleaned of secrets.
    """

    def __init__(self, reason: str, found: str) -> None:
        super().__init__(reason)
        self.reason, self.found = reason, found


@dataclass(frozen=True)
class Usage:
    """Tokens as the server counted them; None where it did not. `wrong` says what could not be
    believed, as it came.
    """

    prompt_tokens: int | None
    tokens: int | None
    wrong: str | None = None


@dataclass(frozen=True)
class Reply:
    """A reply, read. `finish_reason` in small letters, empty where the server gives none; `error`
    is its own, inside a good status.
    """

    text: str
    reasoning: str | None
    finish_reason: str
    calls_tools: bool
    usage: Usage
    model: str | None
    fingerprint: str | None
    error: Any = None


def read(kind: str, body: bytes, loops: LoopRule | None = None) -> Reply:
    """A stream that goes round in circles ends where that is sure. Raises Malformed, naming what
    came instead.
    """
    try:
        if is_stream(kind, body):
            value: Any = whole_reply(body, loops)
        else:
            value = foreign_json.loads(body)
    except (ValueError, RecursionError) as problem:
        text = body.decode("utf-8", errors="replace")
        reason = "the reply is empty"
        if text.strip():
            reason = _first_line(problem)
        raise Malformed(reason, text) from None
    if not isinstance(value, dict):
        raise Malformed("the reply is no object", str(value))
    if value.get("error"):
        return _failure(value)
    return _reply(value)


def _first_line(problem: Exception) -> str:
    lines = str(problem).splitlines()
    if not lines:
        return type(problem).__name__
    return lines[0][:100]


def _failure(error: Any) -> Reply:
    return Reply("", None, "", False, Usage(None, None), None, None, error)


def _reply(value: dict[str, Any]) -> Reply:
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Malformed("the reply has no choices", str(value))
    choice: dict[str, Any] = choices[0]
    if choice.get("error"):
        return _failure({"error": choice["error"]})
    message: Any = {"content": choice.get("text")}
    if "message" in choice:
        message = choice["message"]
    if not isinstance(message, dict):
        raise Malformed("the reply has no message", str(choice))
    reasoning, text = texts_of(message)
    finish = choice.get("finish_reason")
    if finish is not None and not isinstance(finish, str):
        raise Malformed("the finish reason is no text", str(finish))
    calls_tools = bool(message.get("tool_calls") or message.get("function_call"))
    # Before its letters are made small: a key is no word of ours then.
    reason = masked(finish or "").rpartition(".")[2].strip().lower().replace("-", "_")
    return Reply(
        text=text,
        reasoning=reasoning,
        finish_reason=reason,
        calls_tools=calls_tools,
        usage=_usage(value.get("usage")),
        model=_text_at(value, "model"),
        fingerprint=_text_at(value, "system_fingerprint"),
    )


def _text_at(value: Mapping[str, Any], name: str) -> str | None:
    text = value.get(name)
    if isinstance(text, str) and text.strip():
        return text
    return None


# ---- text and reasoning --------------------------------------------------------------------------


def texts_of(message: Mapping[str, Any]) -> tuple[str | None, str]:
    """Reasoning (None: none that the server keeps apart) and text of a message, each said once.

    Reasoning stands in `reasoning_content`, in `reasoning`, in `reasoning_details` (OpenRouter) or
    among the parts of the content, often in several of them; the longest is it. Text that repeats
    it as a think block loses that block. Raises Malformed.
    """
    thoughts, text = _parts_of(message.get("content"))
    text = text or _text_of(message.get("refusal"))
    candidates = [thoughts]
    for name in ("reasoning_content", "reasoning", "reasoning_details"):
        candidates.append(_text_of(message.get(name)))
    reasoning = max(candidates, key=len)
    if not reasoning.strip():
        return None, text
    return _said_once(reasoning, text)


def _said_once(reasoning: str, text: str) -> tuple[str, str]:
    """Without a think block at the head of the text, whose words, where they are others, join the
    reasoning.
    """
    parts = split(text)
    if parts.reasoning is None:
        return reasoning, text
    here, there = parts.reasoning.strip(), reasoning.strip()
    if here in there:
        return reasoning, parts.answer
    if there in here:
        return parts.reasoning, parts.answer
    return f"{reasoning}\n\n{parts.reasoning}", parts.answer


def _parts_of(content: Any) -> tuple[str, str]:
    """Reasoning and text of a content: nothing, text, or a list of parts. Raises Malformed for a
    part of another kind.
    """
    if content is None:
        return "", ""
    if isinstance(content, str):
        return "", content
    if not isinstance(content, list):
        raise Malformed("the content is neither text nor a list of parts", str(content))
    thoughts: list[str] = []
    texts: list[str] = []
    for part in content:
        kind = "text"
        if isinstance(part, dict):
            kind = part.get("type", "text")
        if kind in ("thinking", "reasoning", "redacted_thinking"):
            thoughts.append(_text_of(part))
        elif isinstance(part, str):
            texts.append(part)
        elif kind in ("text", "output_text", "refusal") and isinstance(part, dict):
            texts.append(_text_of(part.get("text", part.get("refusal"))))
        elif kind not in ("tool_use", "tool_call", "reference"):
            raise Malformed("the content has a part of an unknown kind", str(part))
    return "".join(thoughts), "".join(texts)


def _text_of(value: Any) -> str:
    """All text in a field: itself, a list of parts, or a part that calls it `thinking`, `text`,
    `summary`.
    """
    return "".join(_texts_in(value, 0))


_DEEPEST = 8


def _texts_in(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth < _DEEPEST:
        for item in value:
            yield from _texts_in(item, depth + 1)
    elif isinstance(value, dict) and depth < _DEEPEST:
        named = [value[name] for name in _THOUGHTS if value.get(name)]
        yield from _texts_in(named[:1], depth + 1)


# ---- counts --------------------------------------------------------------------------------------


def _usage(usage: Any) -> Usage:
    """The server's counts; one that cannot be is none."""
    if usage is None or usage == {}:
        return Usage(None, None)
    if not isinstance(usage, dict):
        return Usage(None, None, f"usage = {usage}")
    prompt, wrong_prompt = _count(usage, "prompt_tokens", "input_tokens")
    tokens, wrong = _count(usage, "completion_tokens", "output_tokens")
    return Usage(prompt, tokens, wrong or wrong_prompt)


def _count(usage: Mapping[str, Any], *names: str) -> tuple[int | None, str | None]:
    """The first of these counts that is there, or what is wrong with it."""
    for name in names:
        value = usage.get(name)
        if value is None:
            continue
        is_whole = isinstance(value, int) or (
            isinstance(value, float) and math.isfinite(value) and value.is_integer()
        )
        if isinstance(value, bool) or not is_whole or not 0 <= value < COUNTED_TOKENS.most:
            return None, f"{name} = {value!r}"
        return int(value), None
    return None, None


def _guess(characters: int, words: int) -> int:
    return max(words, characters // 4)


# ---- the completion ------------------------------------------------------------------------------


def completion_of(
    reply: Reply,
    request: Request,
    *,
    sent: Mapping[str, Any],
    seconds: float,
    reasoning: ReasoningFormat,
) -> Completion:
    """Our completion from a reply to the body `sent`; one that ended in a way that is no answer is
    a failed one with its text.
    """
    tokens, prompt_tokens = reply.usage.tokens, reply.usage.prompt_tokens
    whole = f"{reply.reasoning or ''} {reply.text}"
    if tokens == 0 and whole.strip():
        tokens = None
    is_estimated = tokens is None or prompt_tokens is None
    if tokens is None:
        tokens = _guess(len(whole) - 1, len(whole.split()))
    if prompt_tokens is None:
        prompt_tokens = _guess(characters_of(request), 0)
    seconds = round(seconds, 3)
    finish = _finish(reply, tokens, sent)
    if finish is None:
        fault: Fault = "service"
        if reply.finish_reason in FILTERED_REASONS:
            fault = "input"
        reason = short(one_line(reply.finish_reason)) or "tool_calls"
        return failed(
            f"the server finished with {reason}",
            fault=fault,
            prompt_tokens=prompt_tokens,
            seconds=seconds,
            text=whole.strip(),
        )
    completion = _split(reply, request, finish, prompt_tokens, tokens, seconds, reasoning)
    if is_estimated:
        return completion.model_copy(update={"is_estimated": True})
    return completion


def _finish(reply: Reply, tokens: int, sent: Mapping[str, Any]) -> Finish | None:
    """How the answer ended; None when that is no end of an answer."""
    if reply.finish_reason in TOOL_REASONS or (reply.calls_tools and not reply.text):
        return None
    most = sent.get(MAX_TOKENS, sent.get(MAX_COMPLETION_TOKENS))
    if not reply.finish_reason and most is not None and tokens >= most:
        return "length"
    return FINISHES.get(reply.finish_reason)


def _split(
    reply: Reply,
    request: Request,
    finish: Finish,
    prompt_tokens: int,
    tokens: int,
    seconds: float,
    reasoning: ReasoningFormat,
) -> Completion:
    """Where the server kept the reasoning apart, as it did; else by the tags in the text."""
    if reply.reasoning is None:
        return split_reasoning(
            reply.text,
            shape=reasoning,
            opens=request.rendered.opens,
            finish=finish,
            prompt_tokens=prompt_tokens,
            tokens=tokens,
            seconds=seconds,
        )
    is_closed = bool(reply.text) or finish == "stop"
    think: Literal["closed", "open"] = "open"
    if is_closed:
        think = "closed"
    return Completion(
        reasoning=reply.reasoning,
        answer_text=reply.text,
        think=think,
        finish=finish,
        prompt_tokens=prompt_tokens,
        tokens=tokens,
        seconds=seconds,
    )
