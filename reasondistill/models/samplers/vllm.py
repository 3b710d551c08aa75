"""Completions from vLLM's offline engine, on GPU or CPU.

    with VllmSampler("Qwen/Qwen2.5-7B-Instruct", revision="a09a354") as sampler:
        for sampled in sampler.sample(requests): ...

The engine is fed continuously: a finished request makes room for the next at once, so no chunk
waits for its longest trace. Each sample is a request of its own with its own seed, and complete
sampling parameters: defaults that a vendor put into generation_config.json never leak in (its extra
EOS ids do count). Prompts are rendered and tokenised here; the engine sees token ids only.

`score` says how likely a completion's tokens and their K rivals were: one pass over prompt and
completion. vLLM holds the full logits of what it takes in at once, tokens × vocabulary × 4 bytes,
two or three times over: of 2,048 tokens on a GPU (1.2 GiB each at 152k entries), on a CPU of a
whole trace (2.5 GiB each for 4,096 tokens).
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reasondistill.config import Cluster, ModelSettings, Scalar
from reasondistill.errors import ConfigError, MissingDependencyError, StageError
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
from reasondistill.models.tokenising import tokenise_prompt
from reasondistill.models.weights import (
    count_parameters,
    has_cpu_bf16,
    hub_commit,
    model_folder,
    model_identity,
)
from reasondistill.records import Finish, Message, Problem, Sampling
from reasondistill.thinking import ReasoningFormat

log = logging.getLogger(__name__)

_FINISH: dict[str | None, Finish] = {"stop": "stop", "length": "length", "repetition": "repetition"}


# ---- the sampler ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _InFlight:
    request: Request
    since: float
    rows: Rows | None = None


_CPU_BATCHED_TOKENS = 4096
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
        self.model = model_identity(model, revision)
        self._options = dict(template_options or {})
        self._reasoning: ReasoningFormat = reasoning
        self._max_num_seqs = max_num_seqs
        _prepare_environment()
        pinned = None if folder is not None else (hub_commit(model, revision) or revision)
        self._args: dict[str, Any] = {
            "model": str(folder or model),
            "revision": pinned,
            "trust_remote_code": trust_remote_code,
        }
        self._args |= {
            "dtype": _dtype(dtype),
            "max_model_len": max_model_len,
            "tensor_parallel_size": tensor_parallel_size,
        }
        self._args |= {
            "enforce_eager": _is_cpu() if enforce_eager is None else enforce_eager,
            "max_num_seqs": max_num_seqs,
        }
        self._args |= {
            "gpu_memory_utilization": gpu_memory_utilization,
            "enable_prefix_caching": True,
        }
        if _is_cpu() and "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            self._args["kv_cache_memory_bytes"] = cpu_kvcache_gib << 30
        self.tokenizer = load_tokenizer(model, self._args["revision"], trust_remote_code)
        config = _model_config(self._args)
        self.max_model_len = config.max_model_len
        self.vocabulary_size = max(config.get_vocab_size(), len(self.tokenizer))
        if _is_cpu():
            # vLLM throws away the token that a chunk of a prompt samples and turns the request's
            # generator back by CUDA's offset, which a CPU generator does not have: a seeded request
            # whose prompt is cut into chunks stops the engine. So prompts stay whole.
            budget = max(self.max_model_len or 0, _CPU_BATCHED_TOKENS)
            self._args |= {"enable_chunked_prefill": False, "max_num_batched_tokens": budget}
        self._llm: Any = None
        self._threads = threads
        self._give_threads_back = _nothing
        self._told_clipped = False
        self._told_running = 0.0

    # -- prompts

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        """Raises InputFault for a row that cannot be a prompt, ConfigError without a chat template
        or for one that takes no such turns.
        """
        prompt = tokenise_prompt(self.tokenizer, messages, plain=plain, options=self._options)
        return Rendered(messages, tuple(prompt.ids), opens=prompt.opens)

    # -- sampling

    def start(self) -> None:
        if self._llm is None:
            computes_here = _computes_here(self._args)
            self._give_threads_back = (
                _take_threads(self._threads, self._args["model"]) if computes_here else _nothing
            )
            self._llm = _start_engine(self._args | self._logprob_args())
            self.max_model_len = self._llm.model_config.max_model_len
            self.threads = _threads_now() if computes_here else None

    def _logprob_args(self) -> dict[str, Any]:
        args: dict[str, Any] = {"max_logprobs": max(_MAX_LOGPROBS, self.max_logprobs)}
        if self.scores and not _is_cpu():
            args |= {"enable_chunked_prefill": True, "max_num_batched_tokens": _SCORED_TOKENS}
        return args

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        self.start()
        in_flight: dict[str, _InFlight] = {}
        waiting = iter(enumerate(requests))
        try:
            while not self.should_stop():
                yield from self._feed(waiting, in_flight)
                if not in_flight:
                    return
                yield from self._step(in_flight)
        finally:
            self.running.requests = self.running.tokens = 0
            if in_flight and self._llm is not None:
                self._llm.llm_engine.abort_request(list(in_flight))

    def _feed(
        self, waiting: Iterator[tuple[int, Request]], in_flight: dict[str, _InFlight]
    ) -> Iterator[Sampled]:
        """Fill the engine up to twice what it runs at once (a little above it beside other
        workers); yield what it refuses.

        So its queue never runs dry.
        """
        from vllm.exceptions import VLLMError
        from vllm.inputs import tokens_input

        room = self._max_num_seqs + (
            max(1, self._max_num_seqs // 8) if self.shares else self._max_num_seqs
        )
        while len(in_flight) < room and (item := next(waiting, None)) is not None:
            number, request = item
            ids = list(request.rendered.token_ids or ())
            params = self._params(request, len(ids))
            try:
                engine_id = self._llm.llm_engine.add_request(str(number), tokens_input(ids), params)
                rows = self._collect(engine_id, request.logprobs) if request.logprobs else None
                in_flight[str(number)] = _InFlight(request, time.monotonic(), rows)
            except (ValueError, VLLMError) as error:
                yield Sampled(
                    request, failed(_reason(error), fault="input", prompt_tokens=len(ids))
                )

    def _step(self, in_flight: dict[str, _InFlight]) -> Iterator[Sampled]:
        for output in self._finished():
            yield _sampled(in_flight.pop(output.request_id), output, self._reasoning)
        self._tell_running(in_flight)

    def _tell_running(self, in_flight: Mapping[str, _InFlight]) -> None:
        """Once a second: what is in the engine, and how many tokens it has written of that."""
        now = time.monotonic()
        if now - self._told_running < 1.0 and in_flight:
            return
        self._told_running = now
        self.running.requests, self.running.tokens = len(in_flight), _tokens_so_far(self._llm)

    def _finished(self) -> list[Any]:
        """One step of the engine; the outputs of the requests that it ended."""
        from vllm.exceptions import VLLMError

        try:
            outputs = self._llm.llm_engine.step()
        except (RuntimeError, VLLMError) as error:  # the engine's process died; memory ran out
            raise StageError(
                f"{self.model}: vLLM stopped: {_last_line(error)}. What had finished is "
                "saved; the same command goes on."
            ) from error
        return [output for output in outputs if output.finished]

    def _collect(self, engine_id: str, k: int) -> Rows | None:
        return collect(self._llm, engine_id, k)

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

        while len(in_flight) < _SCORED_AT_ONCE and (item := next(waiting, None)) is not None:
            number, one = item
            # The last token is left out and its rivals are those of one token that is drawn: so a
            # trace that fills the context fits.
            ids = [*one.prompt_ids, *one.token_ids[:-1]]
            try:
                engine_id = self._llm.llm_engine.add_request(
                    str(number), tokens_input(ids), _scoring_params(one.logprobs)
                )
                in_flight[str(number)] = (one, self._collect(engine_id, one.logprobs))
            except (ValueError, VLLMError) as error:
                yield Scored(one, None, _reason(error))

    def _params(self, request: Request, prompt_tokens: int) -> Any:
        """Complete parameters: nothing is left to generation_config. `max_tokens` is clipped to
        what the context leaves.

        Raises ConfigError for a value that vLLM refuses: it would refuse it for every sample.
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
        return _sampling_params(
            sampling, max(1, min(sampling.max_tokens, room)), request.seed, request.logprobs
        )

    def close(self) -> None:
        """Shut the engine down and free its memory: another model can be loaded in this process."""
        if self._llm is not None:
            llm, self._llm = self._llm, None
            _stop_engine(llm)
        self._give_threads_back()
        self._give_threads_back = _nothing


# ---- vLLM's side of the border -------------------------------------------------------------------


def _sampling_params(sampling: Sampling, max_tokens: int, seed: int, logprobs: int) -> Any:
    from vllm import SamplingParams
    from vllm.exceptions import VLLMError
    from vllm.sampling_params import RequestOutputKind

    try:
        return SamplingParams(
            n=1,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            max_tokens=max_tokens,
            stop=list(sampling.stop),
            seed=seed if sampling.temperature > 0 else None,
            logprobs=logprobs or None,
            flat_logprobs=bool(logprobs),
            skip_special_tokens=False,  # think tags are special tokens in some tokenizers
            spaces_between_special_tokens=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
    except (ValueError, VLLMError) as error:
        raise ConfigError(
            f"vLLM does not take these sampling settings: {_reason(error)}"
        ) from error


def _scoring_params(logprobs: int) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        prompt_logprobs=logprobs,
        logprobs=logprobs,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _prepare_environment() -> None:
    """Settings that vLLM reads from the environment, unless the user set them. Raises
    MissingDependencyError.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        importlib.import_module("vllm")
    except ImportError as error:
        raise MissingDependencyError("vllm", "vllm") from error
    if _is_cpu():
        # The engine in our own process starts in 5 s where engine and worker processes took 23 to
        # 58 s, made 6,800 instead of 4,900 tokens/s (0.2M parameters, two busy cores), needs no
        # `__main__` guard, and a killed run leaves no orphans on the cores.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


def _is_cpu() -> bool:
    from vllm.platforms import current_platform

    return current_platform.is_cpu()


def _nothing() -> None: ...


# From so many parameters on a matrix keeps every core busy; below, threads spend their time waiting
# for each other.
_LARGE = 100_000_000


def threads_for(parameters: int | None, cores: int) -> int:
    """How many threads a model of so many parameters (None: unknown, taken for large) computes with
    on so many cores.

    The engine's own loop wants a core as well. Beside a small model it would not get one: with a
    thread on every core of a busy machine each small operation waits for the slowest (0.2M
    parameters: 770 instead of 6,800 tokens/s on two cores). A large one computes nearly all of the
    time: a core that is kept free for the loop is lost (1.5B: half of 31 tokens/s on two cores).
    """
    if parameters is None or parameters >= _LARGE:
        return cores
    return max(1, cores - 1)


def _computes_here(args: Mapping[str, Any]) -> bool:
    """Whether the engine computes on this process's threads. vLLM deals cores out to worker
    processes of its own.
    """
    return (
        _is_cpu()
        and os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
        and args["tensor_parallel_size"] == 1
    )


def _take_threads(asked: int | None, model: str) -> Callable[[], None]:
    """Compute with as many threads as are asked for, else as OMP_NUM_THREADS says, else as
    `threads_for`; return what undoes it.

    vLLM then disables `torch.set_num_threads` for the whole process; the undoing brings it back for
    whoever trains next.
    """
    import torch

    set_threads, before = torch.set_num_threads, torch.get_num_threads()
    if asked is not None:
        set_threads(asked)
    elif "OMP_NUM_THREADS" not in os.environ:
        folder = model_folder(model)
        parameters = count_parameters(folder) if folder is not None else None
        set_threads(threads_for(parameters, len(os.sched_getaffinity(0))))

    def undo() -> None:
        torch.set_num_threads = set_threads
        set_threads(before)

    return undo


def _threads_now() -> int:
    import torch

    return torch.get_num_threads()


def _dtype(dtype: str) -> str:
    """`auto` is float32 on a CPU without bf16 instructions: emulated bf16 is twenty to fifty times
    slower.
    """
    if dtype != "auto" or not _is_cpu():
        return dtype
    return "auto" if has_cpu_bf16() else "float32"


def load_tokenizer(model: str, revision: str | None, trust_remote_code: bool) -> Any:
    """The tokenizer of a hub id or folder. Raises ConfigError."""
    from transformers import AutoTokenizer

    name = str(model_folder(model) or model)
    try:
        return AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model {name}: its tokenizer cannot be loaded: {_last_line(error)}"
        ) from error


def _model_config(args: Mapping[str, Any]) -> Any:
    """The model as vLLM sees it: the context it would get (what was asked for, or what its config
    allows), its vocabulary.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.exceptions import VLLMError

    names = ("model", "revision", "trust_remote_code", "dtype", "max_model_len")
    try:
        return EngineArgs(**{name: args[name] for name in names}).create_model_config()
    except (OSError, ValueError, VLLMError) as error:
        raise ConfigError(
            f"model {args['model']}: vLLM does not take it: {_reason(error)}"
        ) from error


def _start_engine(args: Mapping[str, Any]) -> Any:
    from vllm import LLM
    from vllm.exceptions import VLLMError

    log.info("%s: starting vLLM", args["model"])
    try:
        return LLM(**args, disable_log_stats=True, use_tqdm_on_load=False)
    except (OSError, ValueError, RuntimeError, VLLMError) as error:
        raise StageError(
            f"model {args['model']}: vLLM could not start: {_reason(error)}"
        ) from error


def _stop_engine(llm: Any) -> None:
    import torch
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    llm.llm_engine.engine_core.shutdown()
    del llm
    cleanup_dist_env_and_memory()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _sampled(in_flight: _InFlight, output: Any, reasoning: ReasoningFormat) -> Sampled:
    """Our completion from vLLM's RequestOutput, whose text ends before EOS or the stop string."""
    request, seconds = in_flight.request, time.monotonic() - in_flight.since
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
    if not request.logprobs:
        return Sampled(request, completion)
    rows = in_flight.rows or FlatRows(request.logprobs, output)
    return Sampled(request, completion, rows.drawn(list(answer.token_ids)))


def _scored(one: Written, rows: Rows | FlatRows) -> TopK:
    """The rivals of each token of the completion: what the token before it predicted."""
    ids, log_probs = rows.prompt()
    last = rows.drawn([])
    start, tokens = len(one.prompt_ids) - 1, len(one.token_ids)
    return TopK(
        np.array(one.token_ids, np.int32),
        np.concatenate([ids[start : start + tokens - 1], last.ids]),
        np.concatenate([log_probs[start : start + tokens - 1], last.log_probs]),
    )


def _tokens_so_far(llm: Any) -> int:
    """The tokens that the requests in the engine have so far; 0 where this vLLM does not tell them
    before the end.
    """
    try:
        states = list(llm.llm_engine.output_processor.request_states.values())
        return sum(
            state.detokenizer.num_output_tokens()
            for state in states
            if state.detokenizer is not None
        )
    except (AttributeError, TypeError):
        return 0


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _reason(error: BaseException) -> str:
    """vLLM's own words without pydantic's frame around them."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [
        line
        for line in lines
        if "validation error" not in line and "For further information" not in line
    ]
    return " ".join(told)[:500] or type(error).__name__


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
    is_engine=True,
    answers_anything=True,
    package="vllm",
    extra="vllm",
)
