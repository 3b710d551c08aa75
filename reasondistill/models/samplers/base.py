"""What every sampler looks like: the protocol, what ours share, and how one says what it can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

from reasondistill.config import Capabilities, Cluster, ModelSettings
from reasondistill.models.samplers.requests import Rendered, Request, Sampled, Scored, Written
from reasondistill.records import Message, Problem


class Sampler(Protocol):
    """Something that completes prompts."""

    @property
    def model(self) -> str:
        """`name@revision`: which weights, so that another revision is another sample."""
        ...

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        """The prompt as the model will see it. `plain` joins the turns as text instead of using the
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
    """A sampler that also says how likely other tokens were. `vocabulary_size` counts what its
    model scores, padding included.
    """

    tokenizer: Any
    vocabulary_size: int

    def score(self, written: Iterable[Written]) -> Iterator[Scored]:
        """Yield each completion once, in any order."""
        ...


@dataclass
class Running:
    """What a sampler has in hand at this moment: requests in flight, tokens that they have so far,
    and what it waits for.

    Written by the sampler, read by whoever tells the progress, perhaps in another thread. `tokens`
    stays 0 where nobody tells them before the end.
    """

    requests: int = 0
    tokens: int = 0
    waits_for: str = ""


def never() -> bool:
    """False: nobody asked to stop."""
    return False


class SamplerBase:
    """What our samplers share beyond the protocol; a sampler of another make may do without it.

    `max_model_len` bounds prompt and completion together (None: unknown). `should_stop` is asked
    often while sampling: when it is true, `sample` ends without waiting for what is in flight.
    `max_logprobs` is what requests may ask for, and `scores` says that completions will be scored:
    an engine must know both when it starts. `shares` says that other workers draw from the same
    stock: what waits in one engine's queue would be missed by another. `running` says what is in
    hand. `threads` are what an engine in this process computes with, None where it does so
    elsewhere.
    """

    def __init__(self, *, max_model_len: int | None = None) -> None:
        self.max_model_len = max_model_len
        self.should_stop: Callable[[], bool] = never
        self.max_logprobs = 0
        self.scores = False
        self.shares = False
        self.running = Running()
        self.threads: int | None = None

    def start(self) -> None:
        """Load the engine. `sample` does it too; on its own it can be timed, after prompts were
        checked.
        """

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
    shares: bool = False,
) -> None:
    """Load the engine, and let it ask whether to stop."""
    if isinstance(sampler, SamplerBase):
        sampler.should_stop = should_stop
        sampler.max_logprobs, sampler.scores, sampler.shares = max_logprobs, scores, shares
        sampler.start()


def context_of(sampler: Sampler) -> int | None:
    """How many tokens prompt and completion may have together; None where nobody knows. An engine
    may know it only once it has started.
    """
    if isinstance(sampler, SamplerBase):
        return sampler.max_model_len
    return None


# ---- how a sampler says what it can do -----------------------------------------------------------


def named_identity(model: ModelSettings) -> str:
    """`name@revision`, as the file says them."""
    if model.revision:
        return f"{model.model}@{model.revision}"
    return model.model


@dataclass(frozen=True, kw_only=True)
class SamplerKind(Capabilities):
    """What a sampler can do and how it is opened. The `SAMPLER` of a module is found by its name.

    `open` starts no engine yet; `problems` are those that it will be asked about. It raises
    ConfigError or MissingDependencyError. `identity` says which weights or texts a model is, so
    that others are other samples, without an engine; it raises ConfigError where they are missing.

        SAMPLER = SamplerKind(open=lambda model, cluster, problems: Parrot(model.model))
    """

    open: Callable[[ModelSettings, Cluster, Sequence[Problem]], Sampler]
    identity: Callable[[ModelSettings], str] = named_identity
