"""What is asked of a server before a run: is it there, does it serve the model, how much does it
read. One request for its list of models, which costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.checks import Advice, Fault, check, setting, text_setting
from reasondistill.config import ModelSettings, OpenAISettings
from reasondistill.errors import (
    ConfigError,
    MissingDependencyError,
    ReasonDistillError,
    StageError,
)
from reasondistill.foreign_text import shortened, shown_line

# A server that is slower with its list says nothing.
_WITHIN_S = 10.0
_MOST_NAMES, _LONGEST_NAME = 5, 200


@dataclass(frozen=True)
class Listing:
    """What came back: its `status`, its list of models as JSON (None: it has none), whether it is a
    web page, and whether the list `is_closed` to a key that may open other doors; `silent` says why
    nothing came, where it does so at once.
    """

    address: str
    status: int = 0
    models: Any = None
    is_page: bool = False
    is_closed: bool = False
    silent: str = ""

    @property
    def names(self) -> list[str]:
        """The names of its models."""
        entries: Any = None
        if isinstance(self.models, dict):
            entries = cast("Mapping[str, Any]", self.models).get("data")
        if not isinstance(entries, list):
            return []
        names: list[str] = []
        for entry in cast("list[Any]", entries):
            if not isinstance(entry, dict):
                continue
            name: Any = cast("Mapping[str, Any]", entry).get("id")
            if isinstance(name, str):
                names.append(name)
        return names


class Server:
    """The server of a cluster file, which is asked once."""

    def __init__(self, settings: OpenAISettings) -> None:
        self.settings = settings

    @cached_property
    def answer(self) -> Listing | ReasonDistillError:
        """What it says of its models, or why it cannot be asked: an address or a key that is none,
        a package that is missing.
        """
        try:
            return asyncio.run(self._asked())
        except ReasonDistillError as error:
            return error

    @property
    def listing(self) -> Listing:
        """What it says of its models; nothing where it cannot be asked."""
        if isinstance(self.answer, Listing):
            return self.answer
        return Listing("")

    async def _asked(self) -> Listing:
        try:
            import httpx

            from reasondistill.models.samplers.openai.connection import (
                Connection,
                Redirected,
                TooLarge,
                address_of,
                root_cause,
            )
        except ImportError:
            raise MissingDependencyError("httpx", "openai") from None
        given = self.settings
        address = address_of(given.base_url, given.api_key_env, given.redirects)
        within_s = min(_WITHIN_S, given.timeout_s)
        connection = Connection(address, timeout_s=within_s, concurrency=1)
        try:
            answer = await connection.get("/models", within_s=within_s)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as problem:
            cause = shown_line(shortened(address.cleaned(root_cause(problem)), 200))
            return Listing(address.url, silent=cause or "no connection")
        except (httpx.HTTPError, Redirected, TooLarge):
            return Listing(address.url)
        finally:
            await connection.close()
        is_page = "html" in answer.kind
        models: Any = None
        if answer.status == 200 and not is_page:
            try:
                models = foreign_json.loads(answer.body)
            except ValueError:
                models = None
        # OpenAI has keys that may ask models and not list them: "Missing scopes: api.model.read".
        lacks_scope = answer.status == 401 and b"scope" in answer.body
        is_closed = answer.status == 403 or lacks_scope
        return Listing(address.url, answer.status, models, is_page, is_closed)


@dataclass(frozen=True)
class ServedModel:
    """A model that a server is asked for. `whose` says where it stands in the file, `key` by which
    key; `max_tokens` is how long the file lets an answer be (None: it does not say).
    """

    whose: str
    key: str
    model: ModelSettings
    server: Server
    max_tokens: int | None = None


@check(
    ServedModel,
    "server",
    cost="server",
    remedy='curl -H "Authorization: Bearer $OPENAI_API_KEY" "$OPENAI_BASE_URL/models"',
)
def server_answers(served: ServedModel) -> Iterator[Fault | Advice]:
    """The server that the cluster file names is there, and takes the key."""
    if isinstance(served.server.answer, ReasonDistillError):
        raise served.server.answer
    listing, variable = served.server.listing, served.server.settings.api_key_env
    if listing.silent:
        yield Fault(
            StageError(
                f"{served.whose}: no server answers at {listing.address}: {listing.silent}. Is it "
                "running? base_url in [openai] of the cluster file usually ends in /v1."
            )
        )
    elif listing.is_closed:
        yield Advice(
            f"{served.whose}: the server at {listing.address} does not show its models to the key "
            f"of {variable} ({listing.status}); whether that may ask them, the first request tells."
        )
    elif listing.status == 401:
        yield Fault(
            ConfigError(
                f"{served.whose}: the server at {listing.address} refuses the key of {variable} "
                f"({listing.status})."
            )
        )
    elif listing.is_page and listing.status == 200:
        yield Fault(
            ConfigError(
                f"{served.whose}: there is a web page at {listing.address}. base_url in [openai] "
                "of the cluster file usually ends in /v1."
            )
        )


@check(
    ServedModel,
    "server-model",
    cost="server",
    remedy="reasondistill run FILE --set traces.teachers.0.model=NAME",
)
def server_has_the_model(served: ServedModel) -> Iterator[Fault]:
    """The server lists the model that is asked for."""
    names = served.server.listing.names
    if not names or served.model.model in names:
        return
    shown = ", ".join(shown_line(shortened(name, 80)) for name in names[:_MOST_NAMES])
    if len(names) > _MOST_NAMES:
        shown += f" and {len(names) - _MOST_NAMES} more"
    fault = ConfigError(
        f"{served.whose}: the server at {served.server.listing.address} lists no model "
        f"{served.model.model!r}; it has {shown}. Another server, perhaps."
    )
    if len(names[0]) > _LONGEST_NAME:
        yield Fault(fault, stops=False)
        return
    first = text_setting(f"{served.key}.model", shown_line(names[0]))
    # Some take names that they do not list.
    yield Fault(fault, first, stops=False)


@check(
    ServedModel,
    "server-context",
    cost="server",
    remedy="reasondistill run FILE --set traces.max_tokens=1024",
)
def server_reads_enough(served: ServedModel) -> Iterator[Fault]:
    """The server's context is longer than the answers that the file allows."""
    from reasondistill.models.samplers.openai.asking import MAX_TOKENS, Limits

    limits = Limits(served.model.model, MAX_TOKENS)
    limits.learn_context(served.server.listing.models)
    if limits.context is None or served.max_tokens is None:
        return
    if served.max_tokens < limits.context:
        return
    fault = ConfigError(
        f"{served.whose}: max_tokens = {served.max_tokens:,}, and the server reads "
        f"{limits.context:,} tokens, question and answer together: answers are cut off."
    )
    stage = served.key.partition(".")[0]
    half = limits.context // 2
    yield Fault(fault, setting(f"{stage}.max_tokens", str(half)), stops=False)
