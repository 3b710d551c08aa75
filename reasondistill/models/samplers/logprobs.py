"""vLLM's log-probabilities → TopK, at little cost.

vLLM makes Python numbers and a decoded string of every one of the K+1 log-probabilities of every
token. We want arrays and no strings, so a `Rows` takes the place of vLLM's own collector of a
request; where a version of vLLM has no such place, its flat lists are taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasondistill.models.samplers.requests import TopK

# The first column is the sampled token, whatever its rank; the K best follow.
_SAMPLED = 1


class Rows:
    """Collects one request's log-probabilities as arrays: what vLLM's `LogprobsProcessor` is asked
    for, and no more.
    """

    # What vLLM hands on in a request's outputs; ours stay here.
    logprobs = prompt_logprobs = prompt_token_id_logprobs = cumulative_logprob = None

    def __init__(self, k: int) -> None:
        self._k, self._count = k, 0
        self._ids = np.empty((64, k), np.int32)
        self._log_probs = np.empty((64, k), np.float32)
        self._prompt: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []

    def update_from_output(self, output: Any) -> None:
        """Called by vLLM with every new token of the request."""
        if output.new_prompt_logprobs_tensors is not None:
            ids, log_probs, *_ = output.new_prompt_logprobs_tensors
            self._prompt.append((self._best(ids.numpy()), self._best(log_probs.numpy())))
        if output.new_logprobs is not None:
            ids, log_probs, *_ = output.new_logprobs
            self._add(self._best(np.asarray(ids)), self._best(np.asarray(log_probs)))

    def _best(self, rows: Any) -> Any:
        return rows[:, _SAMPLED : _SAMPLED + self._k]

    def _add(self, ids: NDArray[np.int32], log_probs: NDArray[np.float32]) -> None:
        """Copied: a row of vLLM's is a view that would keep the whole batch of its step."""
        end = self._count + len(ids)
        if end > len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
            self._log_probs = np.concatenate([self._log_probs, np.empty_like(self._log_probs)])
        self._ids[self._count : end], self._log_probs[self._count : end] = ids, log_probs
        self._count = end

    def drawn(self, token_ids: list[int]) -> TopK:
        """Of the tokens that were generated."""
        return TopK(
            np.array(token_ids, np.int32), self._ids[: self._count], self._log_probs[: self._count]
        )

    def prompt(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Of the prompt's tokens but the first."""
        if not self._prompt:
            return self._ids[:0], self._log_probs[:0]
        ids, log_probs = zip(*self._prompt, strict=True)
        return np.concatenate(ids), np.concatenate(log_probs)

    def pop_prompt_logprobs(self) -> None: ...

    def pop_prompt_token_id_logprobs(self) -> None: ...


class FlatRows:
    """The same from the flat lists that vLLM returns with `flat_logprobs=True`."""

    def __init__(self, k: int, output: Any) -> None:
        self._drawn = _from_flat(output.outputs[0].logprobs, k)
        self._prompt = _from_flat(output.prompt_logprobs, k)

    def drawn(self, token_ids: list[int]) -> TopK:
        return TopK(np.array(token_ids, np.int32), *self._drawn)

    def prompt(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        return self._prompt


def _from_flat(flat: Any, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Positions without any (the first of a prompt) are passed over."""
    if flat is None:
        return np.empty((0, k), np.int32), np.empty((0, k), np.float32)
    ids = np.array(flat.token_ids, np.int32).reshape(-1, k + _SAMPLED)
    log_probs = np.array(flat.logprobs, np.float32).reshape(-1, k + _SAMPLED)
    return ids[:, _SAMPLED:], log_probs[:, _SAMPLED:]


def collect(llm: Any, request_id: str, k: int) -> Rows | None:
    """Take the place of vLLM's collector for this request; None where this vLLM has none."""
    try:
        state = llm.llm_engine.output_processor.request_states[request_id]
        if not callable(state.logprobs_processor.update_from_output):
            return None
    except (AttributeError, KeyError, TypeError):
        return None
    state.logprobs_processor = rows = Rows(k)
    return rows
