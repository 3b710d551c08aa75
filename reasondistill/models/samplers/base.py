"""The protocol of samplers, their base class, and the declaration of a sampler's capabilities."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

from reasondistill.config import Capabilities, Cluster, ModelSettings
from reasondistill.models.samplers.requests import Rendered, Request, Sampled, Scored, Written
from reasondistill.records import Begun, Message, Problem


class Sampler(Protocol):
    """Something that completes prompts."""

    @property
    def model(self) -> str:
        """`name@revision` of the weights: another revision is another sample."""
        ...

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        """The prompt as the model sees it. `plain` joins the turns as text instead of using the
        chat template.
        """
        ...

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        """Yield each request once, as it finishes, in any order. A failed request is a completion
        with `finish="error"`.
        """
        ...

    def close(self) -> None:
        """Free the engine."""
        ...

    def __enter__(self) -> Sampler: ...

    def __exit__(self, *_: object) -> None: ...


@runtime_checkable
class Scorer(Protocol):
    """A sampler that also gives log-probabilities. `vocabulary_size` counts the tokens that its
    model scores, padding included.
    """

    tokenizer: Any
    vocabulary_size: int

    def score(self, written: Iterable[Written]) -> Iterator[Scored]:
        """Yield each completion once, in any order."""
        ...


@dataclass
class Running:
    """The current work of a sampler: requests in flight, their tokens so far, and what it waits
    for.

    Written by the sampler, read by the progress display, perhaps in another thread. `tokens` stays
    0 where they are known only at the end.
    """

    requests: int = 0
    tokens: int = 0
    waits_for: str = ""


def never() -> bool:
    """False: there is no request to stop."""
    return False


Keep = Callable[[list[Begun]], None]
# What is begun is kept so often: a kill loses as much of it.
KEEP_S = 30.0


class SamplerBase:
    """The base class of the package's samplers; other samplers may do without it.

    `max_model_len` bounds prompt and completion together (None: unknown). `should_stop` is asked
    often while sampling: when it is true, `sample` ends without waiting for what is in flight.
    `max_logprobs` is what requests may ask for, and `scores` says that completions will be scored:
    `ends_thinking` that requests may have a thinking budget: an engine must know these when it
    starts. `shares` says that other workers draw from the same
    stock: what waits in one engine's queue would be missed by another. `running` says what is in
    hand. `threads` are what an engine in this process computes with, None where it does so
    elsewhere.

    A sampler that `goes_on` hands what is `unfinished` to `keep`, every `keep_s` and when `sample`
    ends, and goes on from the `begun` of a request.
    """

    def __init__(self, *, max_model_len: int | None = None) -> None:
        self.max_model_len = max_model_len
        self.should_stop: Callable[[], bool] = never
        self.max_logprobs = 0
        self.scores = False
        self.ends_thinking = False
        self.shares = False
        self.running = Running()
        self.threads: int | None = None
        self.keep: Keep | None = None
        self.keep_s = KEEP_S
        self.kept_at = 0.0

    def unfinished(self) -> list[Begun]:
        """What is in flight and has tokens. Not while the engine takes a step."""
        return []

    def keep_unfinished(self, *, now: bool) -> None:
        """Hand over what is in flight: when it is time, or `now`."""
        if self.keep is None:
            return
        since = time.monotonic() - self.kept_at
        if now or since >= self.keep_s:
            self.keep(self.unfinished())
            self.kept_at = time.monotonic()

    def start(self) -> None:
        """Load the engine. `sample` does it too; on its own it can be timed, after prompts were
        checked.
        """

    def prepare(self, prompts: Sequence[tuple[Message, ...]], *, plain: bool) -> None:
        """Prompts that `render` will be asked for next, where many at once are less work."""

    def provenance(self) -> dict[str, Any]:
        """Where samples came from that its name does not say (a server's address, what it calls its
        model); to be recorded.
        """
        return {}

    def close(self) -> None:
        """Free the engine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_ready(
    sampler: Sampler,
    should_stop: Callable[[], bool],
    *,
    max_logprobs: int = 0,
    scores: bool = False,
    ends_thinking: bool = False,
    shares: bool = False,
) -> None:
    """Load the engine, and give it the function that says whether to stop."""
    if isinstance(sampler, SamplerBase):
        sampler.should_stop = should_stop
        sampler.max_logprobs, sampler.scores, sampler.shares = max_logprobs, scores, shares
        sampler.ends_thinking = ends_thinking
        sampler.start()


@contextmanager
def kept_by(sampler: Sampler, keep: Keep | None) -> Generator[None]:
    """Within it `keep` gets what the sampler has in flight, where both can do it."""
    if keep is None or not isinstance(sampler, SamplerBase):
        yield
        return
    sampler.keep, sampler.kept_at = keep, time.monotonic()
    try:
        yield
    finally:
        sampler.keep = None


def context_of(sampler: Sampler) -> int | None:
    """How many tokens prompt and completion may have together; None where unknown. An engine may
    know it only after its start.
    """
    if isinstance(sampler, SamplerBase):
        return sampler.max_model_len
    return None


# ---- declaring a sampler -------------------------------------------------------------------------


def named_identity(model: ModelSettings) -> str:
    """`name@revision`, as in the file."""
    if model.revision:
        return f"{model.model}@{model.revision}"
    return model.model


@dataclass(frozen=True, kw_only=True)
class SamplerKind(Capabilities):
    """What a sampler can do and how it is opened. The `SAMPLER` of a module is found by its name.

    `open` starts no engine yet; `problems` are those to be sampled. It raises ConfigError or
    MissingDependencyError. `identity` names the weights or texts of a model without an engine, so
    that changed ones give other samples; it raises ConfigError where they are missing.

        SAMPLER = SamplerKind(open=lambda model, cluster, problems: Parrot(model.model))
    """

    open: Callable[[ModelSettings, Cluster, Sequence[Problem]], Sampler]
    identity: Callable[[ModelSettings], str] = named_identity
