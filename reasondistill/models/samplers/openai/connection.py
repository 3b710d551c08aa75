"""Where a server is, what opens it, and one exchange with it; secrets stay in here.

Replies are bounded, in bytes and in time, redirects to another origin are not followed (prompts
would go there), and every text that a server says is cleaned of the key before anything else is
done with it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

import httpx

from reasondistill import secrets
from reasondistill.bounds import ERROR_BYTES, REPLIES_BYTES, REPLY_BYTES
from reasondistill.durations import duration
from reasondistill.errors import ConfigError

OPENAI = "https://api.openai.com/v1"
_CONNECT_S = 10.0
_MOST_HOPS = 5
# What is unpacked at a time.
_PIECE = 1 << 18
# A value of a query that is as long is a secret, whatever its name.
_LONG_VALUE = 16


# Scheme, host, port.
Origin = tuple[str, str, int]


class TooLarge(Exception):
    """A reply that goes beyond what any sample can be."""


class Redirected(Exception):
    """The server sends us to another origin."""


@dataclass(frozen=True)
class Address:
    """A server. `url` is without credentials and may be shown; `headers` and `query` open it;
    `secrets` are never shown. It may send us on to itself and to the origins in `redirects`.
    """

    url: str
    headers: dict[str, str] = field(repr=False)
    query: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    redirects: frozenset[Origin] = frozenset()

    def of(self, path: str) -> str:
        """The URL of an endpoint, to be asked, not to be shown."""
        if self.query:
            return f"{self.url}{path}?{self.query}"
        return f"{self.url}{path}"

    def cleaned(self, text: str) -> str:
        """What a server says of an error, without secrets: also without a key that is too short to
        be looked for in what a model writes.
        """
        text = secrets.masked(text)
        for secret in self.secrets:
            text = text.replace(secret, secrets.MASK)
        return secrets.cleaned(text)


def address_of(base_url: str | None, api_key_env: str, redirects: Sequence[str] = ()) -> Address:
    """The server at `base_url`, else in OPENAI_BASE_URL, else OpenAI's own, with the key from the
    environment.

    `user:password@` in the URL is sent as Basic auth and then goes before the key. From here on
    what opens the server is masked in all texts. Raises ConfigError (no address that HTTP knows, no
    key although the server is not one's own, a key that no header takes).
    """
    given = base_url or os.environ.get("OPENAI_BASE_URL", "").strip()
    parts = _split(given or OPENAI)
    key = _read_key(api_key_env, is_needed=not given)
    headers, own = credentials_of(parts, key)
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        if secrets.is_secret_name(name) or len(value) >= _LONG_VALUE:
            own.append(value)
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
    longest_first = sorted({secret for secret in own if secret}, key=len, reverse=True)
    secrets.look_again(api_key_env, values=(secret for secret in own if secret != key))
    if is_openai(url):
        headers |= account_headers()
    origins = frozenset(_named_origin(origin) for origin in redirects)
    return Address(url, headers, parts.query, tuple(longest_first), origins)


def _named_origin(text: str) -> Origin:
    try:
        return origin_of(httpx.URL(text))
    except _UNREADABLE:
        raise ConfigError(
            f"[openai] redirects: {text!r} is no origin. Want http:// or https://, and a host."
        ) from None


# What httpx raises of a URL that it cannot read; of some hosts what `idna` does, a ValueError.
_UNREADABLE = (httpx.InvalidURL, ValueError)


def origin_of(url: httpx.URL) -> Origin:
    """Scheme, host and port, the port also where it is the scheme's own. Raises _UNREADABLE."""
    port = url.port
    if port is None:
        port = {"http": 80, "https": 443}.get(url.scheme, 0)
    return url.scheme, url.host, port


def _split(url: str) -> SplitResult:
    shown = url.rpartition("@")[2]
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        # What no name server could be asked for is a UnicodeError.
        (parts.hostname or "").encode("idna")
        origin_of(httpx.URL(url))
    except _UNREADABLE:
        is_right = False
        parts = urlsplit("")
    if not is_right:
        want = "Want http:// or https://, a host, and a path, usually /v1."
        raise ConfigError(f"[openai] base_url = {shown!r}: no address of a server. {want}")
    return parts


def _read_key(variable: str, *, is_needed: bool) -> str:
    key = os.environ.get(variable, "").strip()
    if not key and is_needed:
        raise ConfigError(f"[openai] api_key_env: the environment variable {variable} is not set.")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"[openai] api_key_env: what stands in {variable} is no key: it has a line break or a "
            "typographic sign in it. Export the key as the server gave it."
        )
    return key


def credentials_of(parts: SplitResult, key: str) -> tuple[dict[str, str], list[str]]:
    """The headers that open a server, and every form in which they may come back."""
    headers: dict[str, str] = {}
    own: list[str] = []
    if key:
        headers["Authorization"] = f"Bearer {key}"
        own += [key, quote(key, safe="")]
    if parts.username is None and parts.password is None:
        return headers, own
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    token = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    own += [token, f"{parts.username}:{parts.password}", password, parts.password or ""]
    return {"Authorization": f"Basic {token}"}, own


def account_headers() -> dict[str, str]:
    """Which account pays, where the environment says so to OpenAI's own client."""
    names = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}
    return {header: os.environ[name] for name, header in names.items() if os.environ.get(name)}


def is_openai(url: str) -> bool:
    """OpenAI's own server."""
    return urlsplit(url).hostname == "api.openai.com"


# ---- one exchange --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a server sent back, whatever its status."""

    status: int
    phrase: str
    headers: httpx.Headers
    body: bytes

    @property
    def kind(self) -> str:
        """`text/event-stream`, in small letters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Connection:
    """Exchanges with one server, from one event loop. A request may be silent for `timeout_s`, and
    takes at most as long as each exchange allows, however its bytes drip.
    """

    def __init__(self, address: Address, *, timeout_s: float, concurrency: int) -> None:
        self._address = address
        limits = httpx.Limits(
            max_connections=concurrency + 1, max_keepalive_connections=concurrency
        )
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S), pool=None)
        self._client = httpx.AsyncClient(
            timeout=timeout,
            limits=limits,
            follow_redirects=False,
            headers={"Accept-Encoding": "gzip, deflate"},
            # httpx reads where a redirect leads after that, and fails at what it cannot read.
            event_hooks={"response": [self._require_allowed]},
        )
        self._held_bytes = 0

    async def get(self, path: str, *, within_s: float) -> Answer:
        """Raises httpx.HTTPError, Redirected, TooLarge."""
        async with _at_most(within_s):
            return await self._exchange("GET", path, b"", lambda chunk: False)

    async def post(
        self,
        path: str,
        body: dict[str, Any],
        on_chunk: Callable[[bytes], bool],
        *,
        within_s: float,
    ) -> Answer:
        """`on_chunk` sees the reply as it comes, and says when the rest is not wanted. Raises
        httpx.HTTPError, Redirected, TooLarge.
        """
        content = json.dumps(body).encode("ascii")
        async with _at_most(within_s):
            return await self._exchange("POST", path, content, on_chunk)

    async def close(self) -> None:
        await self._client.aclose()

    async def _exchange(
        self, method: str, path: str, body: bytes, on_chunk: Callable[[bytes], bool]
    ) -> Answer:
        url = self._address.of(path)
        headers = dict(self._address.headers)
        if body:
            headers["Content-Type"] = "application/json"
        for _ in range(_MOST_HOPS):
            async with self._client.stream(method, url, content=body, headers=headers) as response:
                if not response.has_redirect_location:
                    return await self._read(response, on_chunk)
                url = self._next(response)
        raise Redirected("the server redirects in a circle")

    async def _require_allowed(self, response: httpx.Response) -> None:
        if response.has_redirect_location:
            self._next(response)

    def _next(self, response: httpx.Response) -> str:
        """Where a redirect leads: on the same origin, or one that is named. Raises Redirected for
        another one, and for what is no address.
        """
        here = response.request.url
        redirects = f"the server redirects ({response.status_code})"
        try:
            location = httpx.URL(response.headers["location"])
            if location.scheme and not location.host:
                raise httpx.InvalidURL("no host")
            there = here.join(location)
            origin = origin_of(there)
            shown = there.copy_with(username=None, password=None, query=None)
        except _UNREADABLE:
            raise Redirected(f"{redirects} to no address") from None
        own = origin_of(httpx.URL(self._address.url))
        if origin not in self._address.redirects | {own, origin_of(here)}:
            raise Redirected(self._address.cleaned(f"{redirects} to {shown}"))
        return str(there)

    async def _read(self, response: httpx.Response, on_chunk: Callable[[bytes], bool]) -> Answer:
        """The whole body, unpacked, as far as it is bounded; an error's beginning is enough."""
        body = bytearray()
        most, most_together = REPLY_BYTES.most, REPLIES_BYTES.most
        is_error, enough = response.status_code >= 400, ERROR_BYTES.most
        is_stream = "event-stream" in response.headers.get("content-type", "")
        try:
            async for piece in _unpacked(response):
                body += piece
                self._held_bytes += len(piece)
                is_enough = on_chunk(piece)
                if is_error and len(body) >= enough:
                    break
                if len(body) > most:
                    raise TooLarge(f"the reply is larger than {REPLY_BYTES}")
                if self._held_bytes > most_together:
                    raise TooLarge(f"all replies under way are larger than {REPLIES_BYTES}")
                if is_enough:
                    break
                # Some servers keep the connection open behind it.
                if is_stream and b"data: [DONE]" in body[-len(piece) - 16 :]:
                    break
        finally:
            self._held_bytes -= len(body)
        return Answer(response.status_code, response.reason_phrase, response.headers, bytes(body))


@asynccontextmanager
async def _at_most(seconds: float) -> AsyncGenerator[None]:
    """Raises httpx.ReadTimeout when what is done takes longer."""
    all_of_it = asyncio.timeout(seconds)
    try:
        async with all_of_it:
            yield
    except TimeoutError:
        if not all_of_it.expired():
            raise
        raise httpx.ReadTimeout(
            f"timed out: the whole reply did not come within {duration(seconds)}"
        ) from None


async def _unpacked(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body in pieces, each at most as large as what came or _PIECE, however densely it is
    packed. Raises httpx.DecodingError for what cannot be unpacked.
    """
    packing = response.headers.get("content-encoding", "").strip().lower()
    if packing in ("", "identity"):
        async for piece in response.aiter_raw():
            yield piece
        return
    if packing not in ("gzip", "x-gzip", "deflate"):
        raise httpx.DecodingError(
            f"the reply is packed by {packing[:40]!r}, which was not asked for"
        )
    # Of a zlib or gzip header, whichever is there.
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    is_first = True
    async for packed in response.aiter_raw():
        rest = packed
        is_full = False
        while (rest or is_full) and not unpacker.eof:
            try:
                piece = unpacker.decompress(rest, _PIECE)
            except zlib.error as error:
                if not is_first or packing != "deflate":
                    raise httpx.DecodingError(f"the reply cannot be unpacked: {error}") from error
                # Some servers send bare deflate.
                unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
                is_first = False
                continue
            is_first = False
            rest = unpacker.unconsumed_tail
            # A last match may wait where the piece was full.
            is_full = len(piece) == _PIECE
            yield piece


# ---- what went wrong -----------------------------------------------------------------------------


def root_cause(problem: BaseException) -> str:
    """What lies under a connection's error, in words: `connection refused`, `unknown host`, `TLS
    failure: …`.
    """
    for error in _under(problem):
        if isinstance(error, socket.gaierror):
            return f"unknown host ({error.strerror})"
        if isinstance(error, ssl.SSLError):
            return f"TLS failure: {error.reason or error}"
        if isinstance(error, ConnectionRefusedError):
            return "connection refused"
        if isinstance(error, OSError) and error.errno is not None:
            return error.strerror or str(error)
    return str(problem) or type(problem).__name__


def _under(problem: BaseException) -> Iterator[BaseException]:
    """The errors under an error, the deepest first."""
    inner = problem.__cause__ or problem.__context__
    if inner is not None:
        yield from _under(inner)
    if isinstance(problem, BaseExceptionGroup):
        for part in problem.exceptions:
            yield from _under(part)
    yield problem
