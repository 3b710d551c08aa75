"""Completions from vLLM's offline engine, on GPU or CPU.

    with VllmSampler("Qwen/Qwen2.5-7B-Instruct", revision="a09a354") as sampler:
        for sampled in sampler.sample(requests): ...

The engine is fed continuously: a finished request makes room for the next at once, so no chunk
waits for its longest trace. Each sample is a request of its own with its own seed, and complete
sampling parameters: defaults that a vendor put into generation_config.json never leak in (its extra
EOS ids do count). Prompts are rendered and tokenised here; the engine sees token ids only.

A request that was `begun` earlier goes on behind its tokens: they are the end of its prompt, and
what is drawn behind them has a seed of its own. Text, tokens, stop strings and limits are those of
the whole sample; so are its most likely tokens, for which the prompt is scored as well. Only loops
are looked for anew: one that had begun ends some repeats later.

Reasoning that uses up `thinking_budget` is closed by vLLM itself, which an engine must be started
for: its tags are those of the tokenizer.

`score` gives the log-probabilities of a completion's tokens and of the K most likely ones, in one
pass over prompt and completion. vLLM holds the full logits of the tokens of a pass, tokens ×
vocabulary × 4 bytes, two or three times over: of 2,048 tokens on a GPU (1.2 GiB each at 152k
entries), on a CPU of a whole trace (2.5 GiB each for 4,096 tokens).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import numpy as np

from reasondistill.config import Cluster, ModelSettings, Scalar
from reasondistill.errors import ConfigError, StageError
from reasondistill.models.folders import require_sound_weights
from reasondistill.models.samplers.base import SamplerBase, SamplerKind
from reasondistill.models.samplers.logprobs import FlatRows, Rows, collect
from reasondistill.models.samplers.reasoning import split_reasoning
from reasondistill.models.samplers.requests import (
    Rendered,
    Request,
    Sampled,
    Scored,
    TopK,
    Written,
    failed,
)
from reasondistill.models.samplers.vllm_engine import (
    can_go_on,
    computes_here,
    go_on_behind,
    is_cpu,
    last_line,
    load_tokenizer,
    model_config,
    nothing,
    prepare_environment,
    reason_of,
    reasoning_config,
    sampling_params,
    scoring_params,
    seen_so_far,
    start_engine,
    stop_engine,
    take_threads,
    threads_now,
    tokens_so_far,
    usable_dtype,
    with_seed,
)
from reasondistill.models.thinking_tokens import ThinkingTokens, thinking_tokens
from reasondistill.models.tokenising import prepare_prompts, tokenise_prompt
from reasondistill.models.weights import (
    hub_commit,
    model_folder,
    model_identity,
    require_safetensors,
    require_sound_snapshot,
)
from reasondistill.records import Begun, Finish, Message, Problem, Sampling
from reasondistill.thinking import ReasoningFormat

log = logging.getLogger(__name__)

_FINISH: dict[str | None, Finish] = {"stop": "stop", "length": "length", "repetition": "repetition"}


# ---- the sampler ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _InFlight:
    request: Request
    engine_id: str
    since: float
    rows: Rows | None = None


_CPU_BATCHED_TOKENS = 4096
# What vLLM keeps of a prompt for the next sample of it is whole blocks: of its 128 tokens on a CPU
# a short problem fills none, and each sample would compute the prompt again.
_CPU_BLOCK_TOKENS = 32
# Log-probabilities of a prompt need its full logits, which vLLM does not plan memory for.
_SCORED_TOKENS, _SCORED_AT_ONCE = 2048, 32
# vLLM refuses to be asked for more log-probabilities than its engine was started with; 20 is its
# default.
_MAX_LOGPROBS = 20


class VllmSampler(SamplerBase):
    """One model in one vLLM engine. The engine starts with the first `sample` (or `start`); checks
    and rendering come before.

    A completion's `seconds` run from its entry into the engine, so they hold its wait in the
    engine's queue. Raises ConfigError (no weights, no chat template, data parallelism),
    MissingDependencyError, StageError (the engine cannot start).
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        tensor_parallel_size: int = 1,
        data_parallel_size: int = 1,
        dtype: str = "auto",
        max_model_len: int | None = None,
        enforce_eager: bool | None = None,
        gpu_memory_utilization: float = 0.9,
        cpu_kvcache_gib: int = 2,
        max_num_seqs: int = 256,
        threads: int | None = None,
        template_options: Mapping[str, Scalar] | None = None,
        reasoning: ReasoningFormat = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        if data_parallel_size > 1:
            raise ConfigError(
                f"data_parallel_size = {data_parallel_size}: vLLM's offline engine holds "
                "one replica. Set it to 1 and use "
                "tensor_parallel_size, or start `vllm serve --data-parallel-size` and take "
                'it as a teacher with sampler = "openai".'
            )
        folder = model_folder(model)
        if folder is None:
            require_sound_snapshot(model, revision)
        else:
            require_sound_weights(folder)
        self.model = model_identity(model, revision)
        self._options = dict(template_options or {})
        self._reasoning: ReasoningFormat = reasoning
        self._max_num_seqs = max_num_seqs
        prepare_environment()
        pinned = None
        if folder is None:
            pinned = hub_commit(model, revision) or revision
            require_safetensors(model, pinned)
        if enforce_eager is None:
            enforce_eager = is_cpu()
        self._args: dict[str, Any] = {
            "model": str(folder or model),
            "revision": pinned,
            "trust_remote_code": trust_remote_code,
            "dtype": usable_dtype(dtype),
            "max_model_len": max_model_len,
            "tensor_parallel_size": tensor_parallel_size,
            "enforce_eager": enforce_eager,
            "max_num_seqs": max_num_seqs,
            "gpu_memory_utilization": gpu_memory_utilization,
            "enable_prefix_caching": True,
        }
        if is_cpu() and "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            self._args["kv_cache_memory_bytes"] = cpu_kvcache_gib << 30
        self.tokenizer = load_tokenizer(model, pinned, trust_remote_code)
        config = model_config(self._args)
        self.max_model_len = config.max_model_len
        self.vocabulary_size = max(config.get_vocab_size(), len(self.tokenizer))
        if is_cpu():
            # vLLM throws away the token that a chunk of a prompt samples and turns the request's
            # generator back by CUDA's offset, which a CPU generator does not have: a seeded request
            # whose prompt is cut into chunks stops the engine. So prompts stay whole.
            budget = max(self.max_model_len or 0, _CPU_BATCHED_TOKENS)
            self._args |= {
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": budget,
                "block_size": _CPU_BLOCK_TOKENS,
            }
        self._llm: Any = None
        self._threads = threads
        self._give_threads_back = nothing
        self._known_params: dict[tuple[Sampling, int, int, int], Any] = {}
        self._in_flight: dict[str, _InFlight] = {}
        self._goes_on = False
        self._thinking: ThinkingTokens | None = None
        self._told_clipped = False
        self._told_running = 0.0

    # -- prompts

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        """Raises InputFault for a row that cannot be a prompt, ConfigError without a chat template
        or for one that takes no such turns.
        """
        prompt = tokenise_prompt(self.tokenizer, messages, plain=plain, options=self._options)
        return Rendered(messages, tuple(prompt.ids), opens=prompt.opens)

    def prepare(self, prompts: Sequence[tuple[Message, ...]], *, plain: bool) -> None:
        if not plain:
            prepare_prompts(self.tokenizer, prompts, self._options)

    # -- sampling

    def start(self) -> None:
        if self._llm is not None:
            return
        args: dict[str, Any] = self._args | {"max_logprobs": max(_MAX_LOGPROBS, self.max_logprobs)}
        if self.ends_thinking:
            self._thinking = thinking_tokens(self.tokenizer, self._reasoning, args["model"])
            args |= reasoning_config(self._thinking)
        if self.scores and not is_cpu():
            args |= {"enable_chunked_prefill": True, "max_num_batched_tokens": _SCORED_TOKENS}
        uses_our_threads = computes_here(args)
        if uses_our_threads:
            self._give_threads_back = take_threads(self._threads, args["model"])
        self._llm = start_engine(args)
        self._goes_on = can_go_on(self._llm)
        self.max_model_len = self._llm.model_config.max_model_len
        if uses_our_threads:
            self.threads = threads_now()

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        coming = iter(requests)
        if self._llm is None:
            # Whoever has not started the engine has not said what is coming either.
            first = list(islice(coming, 1))
            self.ends_thinking |= any(one.sampling.thinking_budget is not None for one in first)
            coming = chain(first, coming)
        self.start()
        if self.keep is not None and not self._goes_on:
            log.warning(
                "%s: this vLLM does not show what is unfinished: none of it is kept", self.model
            )
        in_flight = self._in_flight = dict[str, _InFlight]()
        waiting = enumerate(coming)
        try:
            while not self.should_stop():
                yield from self._feed(waiting, in_flight)
                if not in_flight:
                    return
                for output in self._finished():
                    one = in_flight.pop(output.request_id)
                    yield self._marked(_sampled(one, output, self._reasoning), output)
                self._tell_running(in_flight)
                self.keep_unfinished(now=False)
        finally:
            self.running.requests = self.running.tokens = 0
            self.keep_unfinished(now=True)
            if in_flight and self._llm is not None:
                self._llm.llm_engine.abort_request(list(in_flight))
            self._in_flight = {}

    def _marked(self, sampled: Sampled, output: Any) -> Sampled:
        """The sample, which says where its reasoning was closed for it. One that ended by itself at
        that very token cannot be told from it.
        """
        budget = sampled.request.sampling.thinking_budget
        if budget is None or self._thinking is None or sampled.completion.finish == "error":
            return sampled
        prompt_ids = sampled.request.rendered.token_ids or ()
        longest = self._thinking.longest(prompt_ids, output.outputs[0].token_ids)
        if longest < budget:
            return sampled
        cut = sampled.completion.model_copy(update={"thinking_is_cut": True})
        return replace(sampled, completion=cut)

    def unfinished(self) -> list[Begun]:
        begun: list[Begun] = []
        now = time.monotonic()
        for one in self._in_flight.values():
            seen = seen_so_far(self._llm, one.engine_id)
            so_far = one.request.begun_so_far(seen.token_ids, seen.text, now - one.since)
            if so_far is not None:
                begun.append(so_far)
        return begun

    def _feed(
        self, waiting: Iterator[tuple[int, Request]], in_flight: dict[str, _InFlight]
    ) -> Iterator[Sampled]:
        """Fill the engine up to twice what it runs at once (a little above it beside other
        workers); yield what it refuses.

        So its queue never runs dry.
        """
        from vllm.exceptions import VLLMError
        from vllm.inputs import tokens_input

        queue = self._max_num_seqs
        if self.shares:
            queue = max(1, queue // 8)
        room = self._max_num_seqs + queue
        while len(in_flight) < room:
            number, request = next(waiting, (0, None))
            if request is None:
                return
            if request.sampling.thinking_budget is not None and self._thinking is None:
                raise StageError(
                    f"{self.model}: the engine was started without a thinking budget; close it and "
                    "open another one (make_ready(…, ends_thinking=True))."
                )
            ids = list(request.rendered.token_ids or ())
            most = self._most_tokens(request, len(ids))
            request = self._begun_within(request, most)
            begun = _begun_tokens(request)
            params = self._params(request, most - len(begun))
            rows = None
            try:
                engine_id = self._llm.llm_engine.add_request(
                    str(number), tokens_input([*ids, *begun]), params
                )
                if begun:
                    go_on_behind(self._llm, engine_id, params, ids, begun)
                if request.logprobs:
                    rows = collect(self._llm, engine_id, request.logprobs)
                in_flight[str(number)] = _InFlight(request, engine_id, time.monotonic(), rows)
            except (ValueError, VLLMError) as error:
                yield Sampled(
                    request, failed(reason_of(error), fault="input", prompt_tokens=len(ids))
                )

    def _begun_within(self, request: Request, most: int) -> Request:
        """The request with what may be kept of its beginning: nothing in a vLLM that cannot go on,
        and room for one token where the context has become so short that it was longer, or where
        the budget of thinking was just used up.
        """
        if request.begun is None:
            return request
        begun = None
        if self._goes_on and most > 1:
            begun = self._with_thinking_left(request, request.begun.cut(most - 1))
        return replace(request, begun=begun)

    def _with_thinking_left(self, request: Request, begun: Begun) -> Begun | None:
        """What was begun, without its last token where it is the last of the thinking budget: vLLM
        0.32 closes a block twice that is full when it begins (seen on a CPU).
        """
        budget = request.sampling.thinking_budget
        if budget is None or self._thinking is None:
            return begun
        ids = [*(request.rendered.token_ids or ()), *begun.token_ids]
        beyond = self._thinking.open_count(ids) - (budget - 1)
        if beyond <= 0:
            return begun
        if beyond >= len(begun.token_ids):
            return None
        return begun.cut(len(begun.token_ids) - beyond)

    def _tell_running(self, in_flight: Mapping[str, _InFlight]) -> None:
        """Once a second: what is in the engine, and how many tokens it has written of that now."""
        now = time.monotonic()
        if now - self._told_running < 1.0 and in_flight:
            return
        self._told_running = now
        before = sum(len(_begun_tokens(one.request)) for one in in_flight.values())
        self.running.requests = len(in_flight)
        self.running.tokens = max(0, tokens_so_far(self._llm) - before)

    def _finished(self) -> list[Any]:
        """One step of the engine; the outputs of the requests that it ended."""
        from vllm.exceptions import VLLMError

        try:
            outputs = self._llm.llm_engine.step()
        except (RuntimeError, VLLMError) as error:  # the engine's process died; memory ran out
            raise StageError(
                f"{self.model}: vLLM stopped: {last_line(error)}. What had finished is "
                "saved; the same command goes on."
            ) from error
        return [output for output in outputs if output.finished]

    # -- scoring

    def score(self, written: Iterable[Written]) -> Iterator[Scored]:
        self.start()
        in_flight: dict[str, tuple[Written, Rows | None]] = {}
        waiting = iter(enumerate(written))
        try:
            while not self.should_stop():
                yield from self._feed_written(waiting, in_flight)
                if not in_flight:
                    return
                for output in self._finished():
                    one, rows = in_flight.pop(output.request_id)
                    yield Scored(one, _scored(one, rows or FlatRows(one.logprobs, output)))
        finally:
            if in_flight and self._llm is not None:
                self._llm.llm_engine.abort_request(list(in_flight))

    def _feed_written(
        self,
        waiting: Iterator[tuple[int, Written]],
        in_flight: dict[str, tuple[Written, Rows | None]],
    ) -> Iterator[Scored]:
        from vllm.exceptions import VLLMError
        from vllm.inputs import tokens_input

        while len(in_flight) < _SCORED_AT_ONCE:
            number, one = next(waiting, (0, None))
            if one is None:
                return
            # The last token is left out and its rivals are those of one token that is drawn: so a
            # trace that fills the context fits.
            ids = [*one.prompt_ids, *one.token_ids[:-1]]
            try:
                engine_id = self._llm.llm_engine.add_request(
                    str(number), tokens_input(ids), scoring_params(one.logprobs)
                )
                rows = collect(self._llm, engine_id, one.logprobs)
                in_flight[str(number)] = (one, rows)
            except (ValueError, VLLMError) as error:
                yield Scored(one, None, reason_of(error))

    def _most_tokens(self, request: Request, prompt_tokens: int) -> int:
        """How many tokens the whole sample may have: `max_tokens`, clipped to what the context
        leaves.
        """
        sampling = request.sampling
        room = (self.max_model_len or 0) - prompt_tokens
        if room < sampling.max_tokens and not self._told_clipped:
            self._told_clipped = True
            log.warning(
                "%s: max_tokens %d does not fit max_model_len %s; clipped",
                self.model,
                sampling.max_tokens,
                self.max_model_len,
            )
        return max(1, min(sampling.max_tokens, room))

    def _params(self, request: Request, max_tokens: int) -> Any:
        """Complete parameters: nothing is left to generation_config. Of a sample that goes on the
        tokens before are scored like a prompt's.

        Raises ConfigError for a value that vLLM refuses: it would refuse it for every sample.
        """
        prompt_logprobs = 0
        if request.begun is not None:
            prompt_logprobs = request.logprobs
        asked = (request.sampling, max_tokens, request.logprobs, prompt_logprobs)
        if asked not in self._known_params:
            self._known_params[asked] = sampling_params(*asked)
        return with_seed(self._known_params[asked], request.segment_seed)

    def close(self) -> None:
        """Shut the engine down and free its memory: another model can be loaded in this process."""
        if self._llm is not None:
            llm, self._llm = self._llm, None
            stop_engine(llm)
        self._give_threads_back()
        self._give_threads_back = nothing


# ---- what came of a request ----------------------------------------------------------------------


def _begun_tokens(request: Request) -> tuple[int, ...]:
    if request.begun is None:
        return ()
    return request.begun.token_ids


def _sampled(in_flight: _InFlight, output: Any, reasoning: ReasoningFormat) -> Sampled:
    """Our completion from vLLM's RequestOutput, whose text ends before EOS or the stop string."""
    request = in_flight.request
    seconds = request.seconds_before + time.monotonic() - in_flight.since
    prompt_tokens = len(request.rendered.token_ids or ())
    answer = output.outputs[0]
    finish = _FINISH.get(answer.finish_reason)
    if finish is None:
        return Sampled(
            request,
            failed(
                f"vLLM finished with {answer.finish_reason}",
                prompt_tokens=prompt_tokens,
                seconds=seconds,
            ),
        )
    completion = split_reasoning(
        answer.text,
        shape=reasoning,
        opens=request.rendered.opens,
        finish=finish,
        prompt_tokens=prompt_tokens,
        tokens=len(answer.token_ids),
        seconds=round(seconds, 3),
    )
    if request.begun is not None:
        completion = completion.model_copy(update={"continued_at": request.continued_at})
    if not request.logprobs:
        return Sampled(request, completion)
    rows = in_flight.rows or FlatRows(request.logprobs, output)
    top_k = rows.drawn(list(answer.token_ids))
    begun = len(_begun_tokens(request))
    if begun:
        top_k = _behind(rows, prompt_tokens - 1, begun, top_k)
    return Sampled(request, completion, top_k)


def _behind(rows: Rows | FlatRows, start: int, count: int, drawn: TopK) -> TopK:
    """The rivals of so many tokens that stood at the end of the prompt (what each token before them
    predicted, from row `start` on), and behind them those of what was drawn.
    """
    ids, log_probs = rows.prompt()
    return TopK(
        drawn.token_ids,
        np.concatenate([ids[start : start + count], drawn.ids]),
        np.concatenate([log_probs[start : start + count], drawn.log_probs]),
    )


def _scored(one: Written, rows: Rows | FlatRows) -> TopK:
    """The rivals of each token of the completion: what the token before it predicted."""
    last = rows.drawn(list(one.token_ids))
    return _behind(rows, len(one.prompt_ids) - 1, len(one.token_ids) - 1, last)


# ---- how it is found -----------------------------------------------------------------------------


def _open(model: ModelSettings, cluster: Cluster, problems: Sequence[Problem]) -> VllmSampler:
    asking = model.model_dump(include={"template_options", "trust_remote_code", "reasoning"})
    return VllmSampler(model.model, revision=model.revision, **cluster.vllm.model_dump(), **asking)


def _identity(model: ModelSettings) -> str:
    return model_identity(model.model, model.revision)


SAMPLER = SamplerKind(
    open=_open,
    identity=_identity,
    has_weights=True,
    gives_logprobs=True,
    goes_on=True,
    stops_loops=True,
    ends_thinking=True,
    is_engine=True,
    answers_anything=True,
    package="vllm",
    extra="vllm",
)
