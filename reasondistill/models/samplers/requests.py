"""The input and output of samplers: requests, samples, and stored texts to score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasondistill.errors import DataError
from reasondistill.foreign_text import shortened, shown_line
from reasondistill.records import (
    Begun,
    Completion,
    Fault,
    Message,
    Published,
    Sampling,
    fingerprint,
)
from reasondistill.secrets import holds_secret, masked
from reasondistill.thinking import ReasoningFormat, opened_by

# A sample's number is below a million.
_MOST_DIGITS = 7
_LONGEST_ID = 200


@dataclass(frozen=True)
class Rendered:
    """A prompt as the model sees it: token ids where we tokenise ourselves, messages where a server
    does.

    `opens` is the format of the reasoning block that the end of the prompt leaves open, if any.
    """

    messages: tuple[Message, ...]
    token_ids: tuple[int, ...] | None = None
    opens: ReasoningFormat | None = None


def opened_by_turns(messages: Sequence[Message]) -> ReasoningFormat | None:
    """The format of the reasoning block that turns joined as text leave open, if any."""
    if not messages or messages[-1].quotes_tag:
        return None
    return opened_by(messages[-1].content)


@dataclass(frozen=True)
class Request:
    """One sample to draw. `key` is the sample's identity, `id` names it to people
    (`gsm8k/train/12:3`).

    `logprobs` is how many of the most likely tokens at each position to return; the sample is the
    same with and without. `begun` is what was drawn of it before: the sampler goes on behind that,
    with `segment_seed`, and the completion is the whole. Only a sampler that `goes_on` gets one.
    """

    id: str
    key: str
    rendered: Rendered
    sampling: Sampling
    seed: int
    logprobs: int = 0
    begun: Begun | None = None

    @property
    def continued_at(self) -> tuple[int, ...]:
        """After how many tokens the sample was continued, this time included."""
        if self.begun is None:
            return ()
        return self.begun.next_continued_at

    @property
    def segment_seed(self) -> int:
        """The seed of what is drawn now. That of the whole sample has been used: with it the same
        random numbers would come again.
        """
        if self.begun is None:
            return self.seed
        segment = {"key": self.key, "continued_at": list(self.continued_at)}
        return seed_of(fingerprint(segment))

    @property
    def seconds_before(self) -> float:
        """How long earlier sessions have worked on it."""
        if self.begun is None:
            return 0.0
        return self.begun.seconds

    def begun_so_far(self, token_ids: Sequence[int], text: str, seconds: float) -> Begun | None:
        """What there is of the sample now: all its tokens so far, after so many `seconds` of this
        session. None where there is nothing.
        """
        known = 0
        if self.begun is not None:
            known = len(self.begun.token_ids)
        if len(token_ids) <= known:
            return self.begun
        # Made of what was checked, every 30 s, from lists of thousands: it is not checked again.
        return Begun.model_construct(
            id=self.id,
            key=self.key,
            seconds=round(self.seconds_before + seconds, 3),
            continued_at=self.continued_at,
            token_ids=tuple(token_ids),
            text=text,
        )


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
    """A finished request; where its text was `published`, nobody drew it for us."""

    request: Request
    completion: Completion
    top_k: TopK | None = None
    published: Published | None = None


@dataclass(frozen=True)
class Written:
    """A stored completion whose `logprobs` most likely tokens are to be computed: prompt and
    completion as token ids.
    """

    id: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: int


@dataclass(frozen=True)
class Scored:
    """The result for a stored completion; where the engine did not take it, `top_k` is None and
    `error` says why.
    """

    written: Written
    top_k: TopK | None
    error: str | None = None


def problem_and_sample(request_id: str) -> tuple[str, int]:
    """`gsm8k/train/12:3` → (`gsm8k/train/12`, 3). Raises DataError for what is no such id."""
    problem_id, _, sample = request_id.rpartition(":")
    is_number = sample.isascii() and sample.isdigit() and len(sample) <= _MOST_DIGITS
    if not is_number:
        words = shortened(shown_line(request_id), _LONGEST_ID)
        raise DataError(f"{words}: not the id of a sample; want PROBLEM:NUMBER.")
    return problem_id, int(sample)


def rank(problem: int, sample: int) -> int:
    """The place of a trace in the canonical order: by the place of its problem, then by sample
    (below a million).
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

    `text` is the part that came.
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


def without_secrets(completion: Completion) -> Completion:
    """The completion as it may be stored, graded and shown: secrets of the environment are masked
    in its texts, which it then says.
    """
    reasoning, answer, error = completion.reasoning, completion.answer_text, completion.error
    whole = "\n".join((reasoning or "", answer, error or ""))
    if not holds_secret(whole):
        return completion
    if reasoning is not None:
        reasoning = masked(reasoning)
    if error is not None:
        error = masked(error)
    texts = {"reasoning": reasoning, "answer_text": masked(answer), "error": error}
    return completion.model_copy(update={**texts, "is_masked": True})
