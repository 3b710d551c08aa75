"""Completions from any OpenAI-compatible server: bounded concurrency, retries, rate limits.

    with OpenAISampler("deepseek-reasoner", base_url="https://api.deepseek.com/v1", api_key_env="DEEPSEEK_API_KEY") as sampler: ...

429, 5xx, timeouts, cut connections and answers that are no JSON are tried again with growing, jittered pauses (`Retry-After` is
obeyed, by all requests). What still fails is a completion with `finish="error"`. A refused key or an unknown model stops the run. The key
is read from the environment and never leaves this object: error texts are cleaned of it.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import os
import queue
import random
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from reasondistill.config import Scalar
from reasondistill.errors import ConfigError, MissingDependencyError, StageError
from reasondistill.records import Completion, Finish, Message, Sampling
from reasondistill.samplers import Rendered, Request, Sampled, SamplerBase, failed
from reasondistill.samplers.reasoning import split_reasoning
from reasondistill.thinking import ReasoningFormat, opened_by

log = logging.getLogger(__name__)
T = TypeVar("T")

_FINISH: dict[str | None, Finish] = {"stop": "stop", "eos": "stop", None: "stop", "length": "length", "repetition": "repetition"}
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_HOPELESS = frozenset({401, 403, 404})
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
# So many requests in a row that never got an answer, each after all its retries: the server is gone.
_SERVER_IS_GONE = 64


@dataclass(frozen=True)
class _PlainText(Rendered):
    """Text for the completions endpoint instead of turns for the chat endpoint."""


class OpenAISampler(SamplerBase):
    """One model at one server.

    Raises ConfigError (no key, key refused, unknown model), StageError (the server is gone, no quota left), MissingDependencyError.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 32,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        timeout_s: float = 1800.0,
        retries: int = 6,
        template_options: Mapping[str, Scalar] | None = None,
        reasoning: ReasoningFormat = "auto",
    ) -> None:
        super().__init__()
        self.model = f"{model}@{revision}" if revision else model
        self._name = model
        self._options = dict(template_options or {})
        self._reasoning: ReasoningFormat = reasoning
        self._key = _read_key(api_key_env, base_url)
        self._base_url = base_url or os.environ.get("OPENAI_BASE_URL")
        self._concurrency, self._retries, self._timeout_s = concurrency, retries, timeout_s
        self._requests, self._tokens = _Rate(requests_per_minute), _Rate(tokens_per_minute)
        self._paused_until = 0.0
        self._loop = _LoopThread()
        self._client = self._loop.call(self._connect())

    async def _connect(self) -> Any:
        try:
            from openai import AsyncOpenAI
        except ImportError:
            raise MissingDependencyError("openai", "openai") from None
        return AsyncOpenAI(api_key=self._key or "none", base_url=self._base_url, timeout=self._timeout_s, max_retries=0)

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        """Turns as they are: the server's template renders them. `plain` takes the completions endpoint."""
        if not plain:
            return Rendered(messages)
        text = "\n\n".join(message.content for message in messages)
        return _PlainText((Message(role="user", content=text),), opens=opened_by(text))

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        finished: queue.SimpleQueue[Future[Sampled]] = queue.SimpleQueue()
        in_flight: set[Future[Sampled]] = set()
        waiting = iter(requests)
        lost = 0
        try:
            while not self.should_stop():
                while len(in_flight) < self._concurrency and (request := next(waiting, None)) is not None:
                    future = self._loop.submit(self._complete(request))
                    in_flight.add(future)
                    future.add_done_callback(finished.put)
                if not in_flight:
                    return
                try:
                    future = finished.get(timeout=0.5)
                except queue.Empty:
                    continue
                in_flight.discard(future)
                sampled = future.result()
                yield sampled
                lost = lost + 1 if _is_lost(sampled) else 0
                if lost >= _SERVER_IS_GONE:
                    raise StageError(f"{self.model}: {lost} requests in a row got no answer; the last: {sampled.completion.error}")
        finally:
            for future in in_flight:
                future.cancel()

    def close(self) -> None:
        """Cancel what is in flight and close the connections."""
        self._loop.close(self._client)

    # -- one request

    async def _complete(self, request: Request) -> Sampled:
        """The completion, after as many tries as it takes and is allowed."""
        error = ""
        for attempt in range(self._retries + 1):
            await self._wait_for_turn(request)
            started = time.monotonic()
            try:
                body = await self._ask(request)
                completion = _completion(body, request, self._reasoning, time.monotonic() - started)
            except Exception as problem:
                error, pause = self._judge(problem, attempt)
                if pause is None:
                    return Sampled(request, failed(error, seconds=time.monotonic() - started))
                log.debug("%s: %s; again in %.1f s", request.id, error, pause)
                await asyncio.sleep(pause if attempt < self._retries else 0.0)
                continue
            self._tokens.give_back(_tokens_reserved(request) - completion.prompt_tokens - completion.tokens)
            return Sampled(request, completion)
        return Sampled(request, failed(f"{_LOST} {self._retries + 1} tries: {error}"))

    async def _wait_for_turn(self, request: Request) -> None:
        await asyncio.sleep(max(0.0, self._paused_until - time.monotonic()))
        await self._requests.take(1)
        await self._tokens.take(_tokens_reserved(request))

    async def _ask(self, request: Request) -> Any:
        """The server's answer as plain JSON: fields that the client library does not know (`reasoning_content`) stay."""
        options = _options(request.sampling, self._options) | {"model": self._name, "seed": request.seed}
        if isinstance(request.rendered, _PlainText):
            ask = self._client.completions.with_raw_response.create
            raw = await ask(prompt=request.rendered.messages[0].content, max_tokens=request.sampling.max_tokens, **options)
        else:
            limit = "max_completion_tokens" if _is_openai(str(self._client.base_url)) else "max_tokens"
            messages = [message.model_dump() for message in request.rendered.messages]
            ask = self._client.chat.completions.with_raw_response.create
            raw = await ask(messages=messages, **{limit: request.sampling.max_tokens}, **options)
        return raw.http_response.json()

    def _judge(self, problem: Exception, attempt: int) -> tuple[str, float | None]:
        """What went wrong, and the pause before the next try (None: no use). Raises for what no request will survive."""
        import openai

        text = self._clean(problem)
        if isinstance(problem, openai.APIStatusError):
            if problem.status_code in _HOPELESS:
                raise ConfigError(f"{self.model} at {self._client.base_url}: the server refuses ({problem.status_code}): {text}")
            if problem.code == "insufficient_quota":
                raise StageError(f"{self.model}: the account has no quota left: {text}")
            if problem.status_code not in _RETRIED:
                return f"HTTP {problem.status_code}: {text}", None
            asked = retry_after(problem.response.headers)
            if asked is not None:
                self._paused_until = max(self._paused_until, time.monotonic() + asked)
            return f"HTTP {problem.status_code}: {text}", max(asked or 0.0, _pause(attempt))
        if isinstance(problem, openai.APIError | ValueError | KeyError | IndexError | TypeError | AttributeError):
            return f"{type(problem).__name__}: {text}", _pause(attempt)
        raise problem

    def _clean(self, problem: Exception) -> str:
        """The first line of an error's text without the key."""
        lines = str(problem).strip().splitlines()
        text = lines[0][:500] if lines else type(problem).__name__
        return text.replace(self._key, "***") if self._key else text


# ---- words of the wire --------------------------------------------------------------------------------------------

_LOST = "no answer after"


def _is_lost(sampled: Sampled) -> bool:
    return (sampled.completion.error or "").startswith(_LOST)


def _read_key(variable: str, base_url: str | None) -> str:
    """The key from the environment; a server of one's own may do without. Raises ConfigError."""
    key = os.environ.get(variable, "").strip()
    if not key and base_url is None and "OPENAI_BASE_URL" not in os.environ:
        raise ConfigError(f"[openai] api_key_env: the environment variable {variable} is not set.")
    return key


def _is_openai(base_url: str) -> bool:
    """OpenAI's own newer models take `max_completion_tokens` only; other servers know `max_tokens`."""
    return "://api.openai.com" in base_url


def _options(sampling: Sampling, template_options: Mapping[str, Scalar]) -> dict[str, Any]:
    """What both endpoints take; keys beyond OpenAI's own are sent only when they are set, since some servers refuse them."""
    options: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if sampling.stop:
        options["stop"] = list(sampling.stop)
    off = Sampling()
    names = ("top_k", "min_p", "repetition_penalty")
    extra: dict[str, Any] = {name: getattr(sampling, name) for name in names if getattr(sampling, name) != getattr(off, name)}
    if template_options:
        extra["chat_template_kwargs"] = dict(template_options)
    return options | ({"extra_body": extra} if extra else {})


def _completion(body: Any, request: Request, shape: ReasoningFormat, seconds: float) -> Completion:
    """Our completion from the server's JSON. Raises KeyError, IndexError, TypeError or AttributeError when it is another shape."""
    choice = body["choices"][0]
    message = choice.get("message") or {"content": choice["text"]}
    text, reasoning = message.get("content") or "", message.get("reasoning_content") or message.get("reasoning")
    usage = body.get("usage") or {}
    prompt_tokens = int(usage.get("prompt_tokens") or 0)
    tokens = int(usage.get("completion_tokens") or len(f"{reasoning or ''} {text}".split()))
    finish, seconds = _FINISH.get(choice.get("finish_reason")), round(seconds, 3)
    if finish is None:
        return failed(f"the server finished with {choice.get('finish_reason')}", prompt_tokens=prompt_tokens, seconds=seconds)
    opens = request.rendered.opens
    if not reasoning:
        counts: dict[str, Any] = {"prompt_tokens": prompt_tokens, "tokens": tokens, "seconds": seconds}
        return split_reasoning(text, shape=shape, opens=opens, finish=finish, **counts)
    return Completion(
        reasoning=reasoning,
        answer_text=text,
        think="closed" if text or finish == "stop" else "open",
        finish=finish,
        prompt_tokens=prompt_tokens,
        tokens=tokens,
        seconds=seconds,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks us to wait: `retry-after-ms`, or `Retry-After` as seconds or as a date; None when it does not say."""
    if (milliseconds := headers.get("retry-after-ms", "")).isdigit():
        return int(milliseconds) / 1000
    text = headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _pause(attempt: int) -> float:
    """Doubling pauses with jitter, so that requests that failed together do not come back together."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0)


def _tokens_reserved(request: Request) -> int:
    """What a request may cost: about four characters a prompt token, and every token that it may generate."""
    return sum(len(message.content) for message in request.rendered.messages) // 4 + request.sampling.max_tokens


class _Rate:
    """So many units per minute, spread evenly; used from one event loop."""

    def __init__(self, per_minute: int | None) -> None:
        self._seconds_each = 60 / per_minute if per_minute else 0.0
        self._free_at = 0.0

    async def take(self, units: int) -> None:
        """Wait until these units may be spent."""
        if self._seconds_each:
            start = max(time.monotonic(), self._free_at)
            self._free_at = start + units * self._seconds_each
            await asyncio.sleep(start - time.monotonic())

    def give_back(self, units: int) -> None:
        """Units that were reserved and not spent."""
        self._free_at -= max(0, units) * self._seconds_each


class _LoopThread:
    """An event loop in a thread of its own, so that a plain generator can hand out what tasks finish."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-sampler", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return self.submit(work).result()

    def close(self, client: Any) -> None:
        """Cancel every task, close the client, end the thread. A second call does nothing."""
        if self._loop.is_closed():
            return
        self.call(_wind_down(client))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _wind_down(client: Any) -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()
