"""The body of a request for this server: omitted and added fields, and a limit of the answer that
fits.

A server's context comes from `/models` (read once), else from its error messages. `max_tokens`
is then clipped to what the prompt leaves: by an estimate where nothing better is known, to the
token where the server counted.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reasondistill.bounds import COUNTED_TOKENS
from reasondistill.config import Scalar
from reasondistill.config.sampling import OMITTABLE
from reasondistill.models.samplers.openai.refusals import Refused, short
from reasondistill.models.samplers.requests import Rendered, Request
from reasondistill.records import Sampling

log = logging.getLogger(__name__)

MAX_TOKENS, MAX_COMPLETION_TOKENS = "max_tokens", "max_completion_tokens"
_CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length")
_CHARACTERS_PER_TOKEN = 4
# Of a server that chooses by itself, in tokens.
_LONGEST_ANSWER = 1 << 17


@dataclass(frozen=True)
class PlainText(Rendered):
    """Text for the completions endpoint instead of turns for the chat endpoint."""


@dataclass(frozen=True)
class Shape:
    """What is the same in each request to a model: its name, fields that are added (merged over
    ours), fields that are left out.
    """

    model: str
    template_options: Mapping[str, Scalar] = field(default_factory=dict[str, Scalar])
    request: Mapping[str, Any] = field(default_factory=dict[str, Any])
    omit: Sequence[str] = ()

    @property
    def has_no_limit(self) -> bool:
        """The server chooses how long an answer may be."""
        return MAX_TOKENS in self.omit or MAX_COMPLETION_TOKENS in self.omit

    def body(self, request: Request, limit: str, most: int) -> dict[str, Any]:
        """The request as JSON, at most `most` tokens long, which goes into the field `limit`."""
        body: dict[str, Any] = {"model": self.model}
        if isinstance(request.rendered, PlainText):
            body["prompt"] = request.rendered.messages[0].content
        else:
            body["messages"] = [message.as_turn() for message in request.rendered.messages]
        body |= sampling_fields(request.sampling)
        body |= {limit: most, "seed": request.seed}
        if self.template_options:
            body["chat_template_kwargs"] = dict(self.template_options)
        if request.sampling.loops is not None:
            body["stream"] = True  # it can be ended on the way
        if body.get("stream") or self.request.get("stream"):
            body["stream_options"] = {"include_usage": True}
        merged = _merged(body, self.request)
        left_out = set(self.omit)
        if self.has_no_limit:
            left_out.add(limit)
        return {name: value for name, value in merged.items() if name not in left_out}


def path_of(request: Request) -> str:
    """The endpoint that a request goes to."""
    if isinstance(request.rendered, PlainText):
        return "/completions"
    return "/chat/completions"


def tokens_asked(body: Mapping[str, Any]) -> int:
    """How long a reply to this request may be, in tokens."""
    given: list[Any] = [body.get(MAX_TOKENS), body.get(MAX_COMPLETION_TOKENS)]
    limits = [int(limit) for limit in given if _is_size(limit)]
    return max(limits, default=_LONGEST_ANSWER)


def sampling_fields(sampling: Sampling) -> dict[str, Any]:
    """Fields beyond OpenAI's own are sent only when they are set: some servers refuse them."""
    fields: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    off = Sampling()
    for name in ("top_k", "min_p", "repetition_penalty"):
        if getattr(sampling, name) != getattr(off, name):
            fields[name] = getattr(sampling, name)
    return fields


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Their fields over ours; objects are merged, anything else replaces."""
    merged = dict(ours)
    for name, value in theirs.items():
        old: Any = merged.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(old, value)
        else:
            merged[name] = value
    return merged


# ---- how long an answer may be -------------------------------------------------------------------


class Limits:
    """The field that says how long an answer may be, and what fits. Learns from what the server
    says; one for all requests.
    """

    def __init__(self, model: str, field: str) -> None:
        self._model = model
        self.field = field
        self.context: int | None = None
        self.longest: int | None = None
        self.clipped: dict[str, int] = {}
        self._tokens_per_character = 1 / _CHARACTERS_PER_TOKEN

    def learn_context(self, models: Any) -> None:
        """What `/models` says of this model; anything else is passed over."""
        if not isinstance(models, dict) or not isinstance(models.get("data"), list):
            return
        for entry in models["data"]:
            if isinstance(entry, dict) and entry.get("id") == self._model:
                sizes: list[Any] = [entry.get(key) for key in _CONTEXT_KEYS]
                self.context = min(filter(_is_size, sizes), default=None)

    def most(self, request: Request) -> int:
        """The tokens to ask for. What an estimate leaves no room for is asked in full: the server
        counts, we guess.
        """
        wanted = request.sampling.max_tokens
        if self.longest is not None and self.longest < wanted:
            wanted = self._clip("longest", self.longest, self.longest)
        if self.context is None:
            return wanted
        room = self.context - self.estimate(request)
        if not 1 <= room < wanted:
            return wanted
        return self._clip("context", self.context, room)

    def estimate(self, request: Request) -> int:
        """The tokens of the prompt, more or less."""
        return int(characters_of(request) * self._tokens_per_character) + 1

    def adjusted(
        self, refused: Refused, request: Request, sent_field: str, sent: int
    ) -> int | None:
        """What to ask for after this refusal, in the field that `field` names now; None when
        nothing else would help.
        """
        if refused.means == "field" and sent_field == MAX_TOKENS:
            if self.field == MAX_TOKENS:
                self.field = MAX_COMPLETION_TOKENS
                log.info(
                    "%s: the server wants %s instead of %s", self._model, self.field, MAX_TOKENS
                )
            return sent
        if refused.means != "too_long":
            return None
        room = room_in(refused.words)
        if room.longest is not None and room.longest < sent:
            self.longest = room.longest
            return self._clip("longest", room.longest, room.longest)
        if room.context is None:
            return None
        self.context = room.context
        prompt = room.prompt
        if prompt is None:
            prompt = self.estimate(request)
        else:
            counted = prompt / max(1, characters_of(request))
            self._tokens_per_character = max(self._tokens_per_character, counted)
        fits = room.context - prompt
        if not 1 <= fits < sent:
            return None
        return self._clip("context", room.context, fits)

    def _clip(self, why: str, bound: int, tokens: int) -> int:
        """So many tokens, which is less than what was wanted: said once for each bound."""
        if self.clipped.get(why) != bound:
            names = {"context": "context", "longest": "longest answer"}
            log.warning(
                "%s: max_tokens is clipped to the server's %s of %s tokens",
                self._model,
                names[why],
                f"{bound:,}",
            )
            self.clipped[why] = bound
        return tokens


def _is_size(value: Any) -> bool:
    return (
        isinstance(value, int) and not isinstance(value, bool) and 1 <= value < COUNTED_TOKENS.most
    )


def characters_of(request: Request) -> int:
    """The characters of the prompt."""
    return sum(len(message.content) for message in request.rendered.messages)


def reserved(request: Request) -> int:
    """What a request may cost: about four characters a prompt token, and every token that it may
    generate.
    """
    return characters_of(request) // _CHARACTERS_PER_TOKEN + request.sampling.max_tokens


@dataclass(frozen=True)
class Room:
    """What a refusal says of its limits, in tokens: prompt and answer together, the answer alone,
    and what the prompt has.
    """

    context: int | None
    prompt: int | None
    longest: int | None


_CONTEXT = re.compile(
    r"context (?:length|size|window)\D{0,40}?(\d+)|maximum (?:model|input) "
    r"length\D{0,20}?(\d+)|must be <= (\d+)|maximum of (\d+) tokens",
    re.I,
)
_PROMPT = re.compile(
    r"(\d+) (?:input|prompt) tokens|(\d+) (?:tokens )?(?:in|from) (?:the |your "
    r")?(?:input |prompt )?(?:messages|prompt|input)"
    r"|(\d+) `inputs` tokens|(?:prompt|input|request) \((?:length )?(\d+)",
    re.I,
)
_LONGEST = re.compile(
    r"at most (\d+) (?:completion|output|new|generated) tokens|> (\d+), which is the maximum"
    r"|max_(?:completion_|new_)?tokens\W.{0,40}?\[\d+, ?(\d+)\]|max_tokens\W+must be "
    r"less than or equal to\W+(\d+)",
    re.I,
)


def room_in(words: str) -> Room:
    """The numbers in a server's words: of vLLM, SGLang, TGI, llama.cpp, OpenAI and its kin."""
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", words)
    return Room(_number(_CONTEXT, plain), _number(_PROMPT, plain), _number(_LONGEST, plain))


def _number(pattern: re.Pattern[str], words: str) -> int | None:
    match = pattern.search(words)
    if match is None:
        return None
    digits = next(group for group in match.groups() if group is not None)
    if len(digits) >= 10:
        return None
    return int(digits)


def remedy(refused: Refused, sent: Mapping[str, Any]) -> str:
    """How to get round a field that the server refuses."""
    named = [name for name in sent if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", refused.words)]
    fields = [name for name in named if name not in ("model", "messages", "prompt")] or ["seed"]
    custom = [name for name in fields if name not in OMITTABLE]
    if custom:
        return (
            f"{short(refused.words)}. Take {', '.join(custom)} out of `request`, where the model "
            "stands in your file."
        )
    ways = (
        f"Leave it out (omit = {json.dumps(fields)}), set another value, or add what it "
        "wants (request = { … })"
    )
    return f"{short(refused.words)}. {ways}, where the model stands in your file."
