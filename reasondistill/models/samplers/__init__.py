"""What every source of completions looks like.

A sampler takes requests and yields completions *as they finish*, in any order, so that a long one
never holds the others up and a kill loses only what is in flight. Each request carries its own
seed: the same samples come out for any number of shards.

    with VllmSampler(model, settings) as sampler:
        for sampled in sampler.sample(requests):
            print(sampled.request.id, sampled.completion.finish)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from reasondistill.models.tokenising import InputFault as InputFault
from reasondistill.records import Completion, Fault, Message, Sampling
from reasondistill.thinking import ReasoningFormat


@dataclass(frozen=True)
class Rendered:
    """A prompt as the model will see it: token ids where we tokenise ourselves, messages where a
    server does.

    `opens` is the shape of the reasoning inside which the rendered prompt itself ends, if it does.
    """

    messages: tuple[Message, ...]
    token_ids: tuple[int, ...] | None = None
    opens: ReasoningFormat | None = None


@dataclass(frozen=True)
class Request:
    """One sample to draw. `key` is the sample's identity, `id` names it to people
    (`gsm8k/train/12:3`).

    `logprobs` asks for so many of the most likely tokens at each place; the sample is the same with
    and without.
    """

    id: str
    key: str
    rendered: Rendered
    sampling: Sampling
    seed: int
    logprobs: int = 0


@dataclass(frozen=True, eq=False)
class TopK:
    """The K most likely tokens at each token of a completion, most likely first, the completion's
    own EOS included.

    `token_ids` (tokens,) int32 is the completion itself, whose tokens need not be among the K;
    `ids` (tokens, K) int32; `log_probs` (tokens, K) float32 over the whole vocabulary, at
    temperature 1 and before top-p.
    """

    token_ids: NDArray[np.int32]
    ids: NDArray[np.int32]
    log_probs: NDArray[np.float32]


@dataclass(frozen=True)
class Sampled:
    """A finished request."""

    request: Request
    completion: Completion
    top_k: TopK | None = None


@dataclass(frozen=True)
class Written:
    """A completion that stands already and whose `logprobs` most likely tokens are wanted: prompt
    and completion as token ids.
    """

    id: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: int


@dataclass(frozen=True)
class Scored:
    """What came of it; `top_k` is None when the engine did not take it, and `error` says why."""

    written: Written
    top_k: TopK | None
    error: str | None = None


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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


def problem_and_sample(request_id: str) -> tuple[str, int]:
    """`gsm8k/train/12:3` → (`gsm8k/train/12`, 3)."""
    problem_id, _, sample = request_id.rpartition(":")
    return problem_id, int(sample)


def rank(problem: int, sample: int) -> int:
    """Where a trace stands among all: by the place of its problem, then by sample (below a
    million).
    """
    return problem << 20 | sample


def seed_of(key: str) -> int:
    """31 bits of the key: every engine and server takes such a seed."""
    return int(key, 16) & 0x7FFFFFFF


def failed(
    message: str,
    *,
    fault: Fault = "service",
    prompt_tokens: int = 0,
    seconds: float = 0.0,
    text: str = "",
) -> Completion:
    """A completion that says that the service failed or the input is at fault, instead of a lost
    row.

    `text` is what came all the same.
    """
    return Completion(
        reasoning=None,
        answer_text=text,
        think="none",
        finish="error",
        prompt_tokens=prompt_tokens,
        tokens=0,
        seconds=seconds,
        error=message,
        fault=fault,
    )
