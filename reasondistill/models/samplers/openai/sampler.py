"""Concurrent requests to a server: which wait, which are retried, which faults stop the run, and
the identity of the server.

A fault of the service (5xx, a lost connection, a malformed reply) is tried again with growing,
jittered pauses (`Retry-After` is obeyed, by all requests) and is in the end a completion with
`finish="error"`, `fault="service"`; a fault of the input (too long, filtered, refused by a
template) is one with `fault="input"` at once. A fault of every request stops the run: a refused
key, an unknown model, a field that the server does not take, no quota, a wrong address. The key is
read from the environment and never stored: it is removed from every text of a server.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from reasondistill import foreign_json
from reasondistill.bounds import SECONDS_PER_TOKEN
from reasondistill.config import Scalar
from reasondistill.durations import duration
from reasondistill.errors import ConfigError, MissingDependencyError, ReasonDistillError, StageError
from reasondistill.models.samplers.base import SamplerBase
from reasondistill.models.samplers.openai.asking import (
    MAX_COMPLETION_TOKENS,
    MAX_TOKENS,
    Limits,
    PlainText,
    Shape,
    path_of,
    remedy,
    reserved,
    tokens_asked,
)
from reasondistill.models.samplers.openai.pacing import LoopThread, Rate, pause, retry_after
from reasondistill.models.samplers.openai.refusals import (
    Refused,
    is_page,
    one_line,
    refusal,
    refusal_in,
    short,
)
from reasondistill.models.samplers.openai.replies import Malformed, Reply, completion_of, read
from reasondistill.models.samplers.openai.streams import StreamWatch, is_stream
from reasondistill.models.samplers.requests import (
    Rendered,
    Request,
    Sampled,
    failed,
    opened_by_turns,
)
from reasondistill.records import Completion, Message
from reasondistill.secrets import masked
from reasondistill.thinking import ReasoningFormat, well_known_token

try:
    import httpx

    from reasondistill.models.samplers.openai.connection import (
        Answer,
        Connection,
        Redirected,
        TooLarge,
        address_of,
        is_openai,
        root_cause,
    )
except ImportError as _missing:
    if not (_missing.name or "").startswith("httpx"):
        raise
    raise MissingDependencyError("httpx", "openai") from None

log = logging.getLogger(__name__)

# So many requests in a row that failed, each after all its tries: the server is gone.
_SERVER_IS_GONE = 64
# When no request will be taken any more, what is being written is paid for: it may still come.
_LAST_ONES_S = 20.0
# A server without a list of models must not keep the first request waiting.
_MODELS_S = 2.0
# A request is shaped anew after a refusal: the limit's other field, the longest answer, the
# context.
_MOST_SHAPES = 4
_FIRST_CONNECTION_PAUSE_S = 1.0
_MOST_NAMES = 16


class _Ended(Exception):
    """Another request met what none survives: this one is not tried again."""


class OpenAISampler(SamplerBase):
    """One model at one server.

    Raises ConfigError (no key, key refused, unknown model, a field that is refused), StageError (no
    server there, the server is gone, no quota left, a wait beyond `patience_s`),
    MissingDependencyError.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        redirects: Sequence[str] = (),
        concurrency: int = 32,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        timeout_s: float = 1800.0,
        retries: int = 6,
        patience_s: float = 600.0,
        template_options: Mapping[str, Scalar] | None = None,
        request: Mapping[str, Any] | None = None,
        omit: Sequence[str] = (),
        reasoning: ReasoningFormat = "auto",
    ) -> None:
        super().__init__()
        self.model = model
        if revision:
            self.model = f"{model}@{revision}"
        self._address = address_of(base_url, api_key_env, redirects)
        self._shape = Shape(model, dict(template_options or {}), dict(request or {}), tuple(omit))
        limit_field = MAX_TOKENS
        if is_openai(self._address.url):
            limit_field = MAX_COMPLETION_TOKENS
        self._limits = Limits(model, limit_field)
        self._reasoning: ReasoningFormat = reasoning
        self._concurrency, self._retries, self._patience_s = concurrency, retries, patience_s
        self._requests, self._tokens = Rate(requests_per_minute), Rate(tokens_per_minute)
        self._paused_until, self._paused_for, self._waiting = 0.0, "", 0
        self._is_reached = self._is_served = False
        self._models: list[str] = []
        self._fingerprints: list[str] = []
        self._hinted: set[str] = set()
        self._has_told_of_tokens = False
        self._loop = LoopThread()
        self._ended = asyncio.Event()
        self._listed: asyncio.Task[None] | None = None
        self._timeout_s = timeout_s
        self._connection = self._loop.call(self._connect(timeout_s))

    async def _connect(self, timeout_s: float) -> Connection:
        return Connection(self._address, timeout_s=timeout_s, concurrency=self._concurrency)

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        """Turns as they are: the server's template renders them. `plain` takes the completions
        endpoint.
        """
        if not plain:
            return Rendered(messages)
        text = "\n\n".join(message.content for message in messages)
        return PlainText((Message(role="user", content=text),), opens=opened_by_turns(messages))

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        """As they finish. When no request will be taken any more, what came all the same is handed
        out before the error.
        """
        self._loop.call(self._start_listing())
        flight = _Flight(self._loop, self._complete)
        waiting = iter(requests)
        lost = 0
        try:
            while not self.should_stop():
                flight.fill(waiting, self._concurrency)
                self.running.requests = len(flight)
                if not flight:
                    return
                future = flight.next()
                if future is None:
                    continue
                try:
                    sampled = future.result()
                except ReasonDistillError:
                    yield from self._last_ones(flight)
                    raise
                yield sampled
                if sampled.completion.is_lost:
                    lost += 1
                else:
                    lost = 0
                if lost >= _SERVER_IS_GONE:
                    raise StageError(
                        f"{self.model}: {lost} requests in a row failed; the last: "
                        f"{sampled.completion.error}"
                    )
        finally:
            flight.cancel()
            self.running.requests = self.running.tokens = 0

    def _last_ones(self, flight: _Flight) -> Iterator[Sampled]:
        """What was under way when no request would be taken any more, as far as it came."""
        deadline = time.monotonic() + _LAST_ONES_S
        while flight and time.monotonic() < deadline and not self.should_stop():
            future = flight.next()
            if future is None:
                continue
            with suppress(ReasonDistillError):
                sampled = future.result()
                if not sampled.completion.is_lost:
                    yield sampled

    def close(self) -> None:
        """Cancel what is in flight and close the connections."""
        self._loop.close(self._connection)

    def provenance(self) -> dict[str, Any]:
        """`address`, and the `models` and `fingerprints` that replies named.

        Where there is something to say also the fields that were left out (`omitted`) and added
        (`request`), the `limit`'s field when it is not `max_tokens`, and the bound that
        `max_tokens` was clipped to (`context` or `longest` answer).
        """
        always: dict[str, Any] = {"address": self._address.url, "models": sorted(self._models)}
        where_set: dict[str, Any] = {
            "fingerprints": sorted(self._fingerprints),
            "limit": "",
            "omitted": sorted(self._shape.omit),
            "request": dict(self._shape.request),
            "clipped": dict(self._limits.clipped),
        }
        if self._limits.field != MAX_TOKENS:
            where_set["limit"] = self._limits.field
        return always | {name: value for name, value in where_set.items() if value}

    # -- one request

    async def _start_listing(self) -> None:
        self._ended.clear()
        if self._listed is None:
            self._listed = asyncio.create_task(self._learn_models())

    async def _learn_models(self) -> None:
        """Ask once what the server tells of its models; a server that does not say is as good."""
        try:
            answer = await self._connection.get("/models", within_s=_MODELS_S)
            if answer.status == 200:
                self._limits.learn_context(foreign_json.loads(answer.body))
        except (httpx.HTTPError, TooLarge, Redirected, ValueError) as problem:
            log.debug("%s: no list of models: %s", self.model, type(problem).__name__)

    async def _complete(self, request: Request) -> Sampled:
        """The completion, after as many tries as it takes and is allowed."""
        if self._listed is not None:
            await asyncio.shield(self._listed)
        self._tell_of_tokens(request)
        error = ""
        started = time.monotonic()
        for attempt in range(self._retries + 1):
            try:
                await self._wait_for_turn(request)
                started = time.monotonic()
                completion = await self._ask(request, started)
            except _Ended:
                return Sampled(request, failed(error or "the run ended before"))
            except ReasonDistillError:
                self._ended.set()
                raise
            except (
                Refused,
                Malformed,
                httpx.HTTPError,
                httpx.StreamError,
                Redirected,
                TooLarge,
            ) as problem:
                verdict = await self._judge(problem, attempt, time.monotonic() - started)
                if isinstance(verdict, Completion):
                    return Sampled(request, verdict)
                error = verdict
                continue
            self._tokens.give_back(reserved(request) - completion.prompt_tokens - completion.tokens)
            return Sampled(request, completion)
        return Sampled(request, failed(f"no answer after {self._retries + 1} tries: {error}"))

    def _tell_of_tokens(self, request: Request) -> None:
        """Say once that a text holds what the server may read as a special token."""
        if self._has_told_of_tokens:
            return
        for message in request.rendered.messages:
            token = ""
            if message.role != "system":
                token = well_known_token(message.content)
            if token:
                self._has_told_of_tokens = True
                log.warning(
                    "%s: %r stands in the text of %s. It is sent as it is: the server tokenises "
                    "it, perhaps as the special token of that name, which may end or begin a turn. "
                    "Of other texts no more is said.",
                    self.model,
                    token,
                    request.id,
                )
                return

    async def _wait_for_turn(self, request: Request) -> None:
        await self._wait(self._paused_until - time.monotonic(), self._paused_for)
        await self._wait(self._requests.take(1), "requests_per_minute")
        await self._wait(self._tokens.take(reserved(request)), "tokens_per_minute")

    async def _wait(self, seconds: float, why: str) -> None:
        """Wait, and say why. Raises _Ended when no request will be taken any more."""
        if seconds > 0:
            self._waiting += 1
            self.running.waits_for = f"{why}: waits {duration(seconds)}"
            try:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), seconds)
            finally:
                self._waiting -= 1
                if not self._waiting:
                    self.running.waits_for = ""
        if self._ended.is_set():
            raise _Ended

    async def _ask(self, request: Request, started: float) -> Completion:
        """One try, shaped anew as long as the server says which shape it wants."""
        most = self._limits.most(request)
        for _ in range(_MOST_SHAPES):
            field = self._limits.field
            if isinstance(request.rendered, PlainText):
                field = MAX_TOKENS
            body = self._shape.body(request, field, most)
            try:
                return await self._exchange(request, body, started)
            except Refused as refused:
                adjusted = None
                if not self._shape.has_no_limit:
                    adjusted = self._limits.adjusted(refused, request, field, most)
                if adjusted is None:
                    raise self._hopeless(refused, body) or refused from None
                most = adjusted
        raise Refused(400, "the server refuses every shape of the request", "lost")

    async def _exchange(self, request: Request, body: dict[str, Any], started: float) -> Completion:
        """Send a body, read the reply. Raises Refused, Malformed and what the connection does."""
        pieces = 0
        loops = request.sampling.loops
        watch = None
        if loops is not None:
            watch = StreamWatch(loops)

        def count(chunk: bytes) -> bool:
            nonlocal pieces
            if body.get("stream"):
                new = chunk.count(b"data:")
                pieces += new
                self.running.tokens += new
            return watch is not None and watch.ends(chunk)

        within_s = self._timeout_s + SECONDS_PER_TOKEN.most * tokens_asked(body)
        try:
            answer = await self._connection.post(path_of(request), body, count, within_s=within_s)
        finally:
            self.running.tokens -= pieces
        self._is_reached = True
        if answer.status >= 400:
            refused = refusal(answer.status, answer.body, self._address.cleaned, body)
            self._obey(answer, refused)
            raise refused
        self._refuse_page(answer)
        reply = read(answer.kind, answer.body, loops)
        if loops is not None and not is_stream(answer.kind, answer.body):
            self._hint("loops", "the server does not stream its replies: no loop is ended")
        if reply.error is not None:
            raise refusal_in(answer.status, reply.error, self._address.cleaned, body)
        self._is_served = True
        return self._completion(reply, request, body, time.monotonic() - started)

    def _completion(
        self, reply: Reply, request: Request, body: Mapping[str, Any], seconds: float
    ) -> Completion:
        """The reply as a record, without secrets; who it came from is kept."""
        self._keep(self._models, reply.model)
        self._keep(self._fingerprints, reply.fingerprint)
        reasoning = reply.reasoning
        if reasoning is not None:
            reasoning = masked(reasoning)
        clean = replace(reply, text=masked(reply.text), reasoning=reasoning)
        completion = completion_of(
            clean, request, sent=body, seconds=seconds, reasoning=self._reasoning
        )
        if clean != reply:
            completion = completion.model_copy(update={"is_masked": True})
        if reply.usage.wrong is not None:
            counts = self._shown(reply.usage.wrong)
            self._hint("usage", f"its token counts cannot be right ({counts}); ours are estimated")
        elif completion.is_estimated:
            self._hint("usage", "the server does not count tokens; the counts are estimated")
        if reasoning is not None and not reply.text.strip() and completion.finish == "stop":
            hint = (
                "a reply ended with reasoning and no answer: the model broke off, or the "
                "server's reasoning parser took all of it"
            )
            self._hint(
                "content",
                f'{hint} (see reasoning = "…" and request = {{ … }} where the model stands '
                "in your file)",
            )
        return completion

    def _keep(self, names: list[str], name: str | None) -> None:
        if name is None or len(names) >= _MOST_NAMES:
            return
        shown = name
        # The name that was asked for is ours, whatever it looks like.
        if name != self.model:
            shown = self._shown(name)
        if shown not in names:
            names.append(shown)

    def _hint(self, about: str, text: str) -> None:
        """Say it once."""
        if about not in self._hinted:
            self._hinted.add(about)
            log.warning("%s: %s", self.model, text)

    def _shown(self, text: str) -> str:
        return short(one_line(self._address.cleaned(text)))

    # -- what went wrong

    def _obey(self, answer: Answer, refused: Refused) -> None:
        """All requests wait as long as the server asks. Raises StageError beyond our patience."""
        if refused.means != "passing":
            return
        words = ""
        if answer.status == 429:
            words = refused.words
        wait_s = retry_after(answer.headers, words)
        if wait_s is None:
            return
        if wait_s > self._patience_s:
            wait = duration(wait_s)
            header = self._shown(answer.headers.get("retry-after", ""))[:40]
            if header:
                wait += f" (Retry-After: {header})"
            raise StageError(
                f"{self.model} at {self._address.url}: {refused.summary}. The server asks us "
                f"to wait {wait}, longer than patience_s = {self._patience_s:g} in [openai]. "
                "What came is kept; the same command draws the rest."
            )
        self._paused_until = max(self._paused_until, time.monotonic() + wait_s)
        self._paused_for = refused.name

    def _refuse_page(self, answer: Answer) -> None:
        """Raise ConfigError when a web page stands at the address and nothing else ever came from
        there.
        """
        text = answer.body[:4096].decode("utf-8", errors="replace")
        if not self._is_served and "html" in answer.kind and is_page(text):
            words = refusal(answer.status, answer.body, self._address.cleaned, ()).words
            raise ConfigError(
                f"{self._address.url}: there is a web page ({short(words)}). {_BASE_URL}"
            )

    def _hopeless(self, refused: Refused, body: Mapping[str, Any]) -> ReasonDistillError | None:
        """What no request will survive."""
        at = f"{self.model} at {self._address.url}"
        if refused.means == "quota":
            return StageError(
                f"{at}: the account has no quota left: {refused.summary}. What came is kept; the "
                "same command draws the rest."
            )
        if refused.means in ("setting", "field"):
            return ConfigError(
                f"{at}: the server refuses a field of the request ({refused.status}): "
                f"{remedy(refused, body)}"
            )
        if refused.means != "hopeless":
            return None
        is_nowhere = refused.status in (404, 405) and not self._is_served
        hint = ""
        if is_nowhere and "model" not in refused.words.lower():
            hint = f". {_BASE_URL}"
        return ConfigError(
            f"{at}: the server refuses ({refused.status}): {short(refused.words)}{hint}"
        )

    async def _judge(self, problem: Exception, attempt: int, seconds: float) -> Completion | str:
        """A failed completion, or what went wrong, after the pause before the next try. Raises what
        no request will survive.
        """
        if isinstance(problem, Refused):
            if problem.means in ("input", "too_long"):
                return failed(problem.summary, fault="input", seconds=seconds)
            if problem.means != "passing":
                return failed(problem.summary, seconds=seconds)
            await self._pause(problem.name, pause(attempt), attempt)
            return problem.summary
        if isinstance(problem, Malformed):
            reply = self._shown(problem.found)
            error = problem.reason
            if reply:
                error = f"{self._shown(problem.reason)}: {reply}"
            await self._pause("a malformed reply", pause(attempt), attempt)
            return error
        if isinstance(problem, TooLarge):
            return failed(str(problem), seconds=seconds)
        if isinstance(problem, Redirected):
            self._end(
                ConfigError(
                    f"{self._address.url}: {problem}; prompts are not sent there. Put the "
                    "right base_url into [openai] of the cluster file, or name that origin in "
                    "redirects."
                )
            )
        return await self._judge_connection(problem, attempt)

    async def _judge_connection(self, problem: Exception, attempt: int) -> str:
        """A server that was never reached is named at once; one that was may come back."""
        cause = self._shown(root_cause(problem))
        if isinstance(problem, httpx.TimeoutException) and "timed out" not in cause:
            cause = f"{cause}: timed out".removeprefix(": ")
        error = f"{self._address.url}: {cause}"
        is_unreachable = isinstance(
            problem, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError
        )
        self._is_reached = self._is_reached or not is_unreachable
        if not self._is_reached:
            # One that has just been started may be a moment late; nothing else gets better by
            # itself.
            if attempt > 0 or not self._retries or "refused" not in cause:
                self._end(
                    StageError(
                        f"{self.model}: no server answers at {error}. Is it running? {_BASE_URL}"
                    )
                )
            await self._pause("no connection", _FIRST_CONNECTION_PAUSE_S, attempt)
            return error
        await self._pause("no connection", pause(attempt), attempt)
        return error

    async def _pause(self, why: str, seconds: float, attempt: int) -> None:
        log.debug("%s: %s; again in %.1f s", self.model, why, seconds)
        if attempt >= self._retries:
            seconds = 0.0
        with suppress(_Ended):
            await self._wait(seconds, why)

    def _end(self, error: ReasonDistillError) -> NoReturn:
        self._ended.set()
        raise error


_BASE_URL = "base_url in [openai] of the cluster file usually ends in /v1."


class _Flight:
    """The requests that are under way."""

    def __init__(self, loop: LoopThread, complete: Callable[[Request], Any]) -> None:
        self._loop, self._complete = loop, complete
        self._finished: queue.SimpleQueue[Future[Sampled]] = queue.SimpleQueue()
        self._futures: set[Future[Sampled]] = set()

    def __len__(self) -> int:
        return len(self._futures)

    def fill(self, requests: Iterator[Request], most: int) -> None:
        """Send requests until so many are under way."""
        while len(self._futures) < most:
            request = next(requests, None)
            if request is None:
                return
            future: Future[Sampled] = self._loop.submit(self._complete(request))
            self._futures.add(future)
            future.add_done_callback(self._finished.put)

    def next(self) -> Future[Sampled] | None:
        """One that has ended; None after half a second."""
        try:
            future = self._finished.get(timeout=0.5)
        except queue.Empty:
            return None
        self._futures.discard(future)
        return future

    def cancel(self) -> None:
        for future in self._futures:
            future.cancel()
