"""vLLM's offline engine, on our terms: how it is started, what it is asked, and what it says.

Everything here knows vLLM's names; `samplers/vllm.py` knows ours. vLLM is imported late.
"""

from __future__ import annotations

import atexit
import copy
import gc
import importlib
import logging
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from reasondistill.errors import ConfigError, MissingDependencyError, StageError
from reasondistill.imports import no_collections
from reasondistill.models.thinking_tokens import ThinkingTokens
from reasondistill.models.tokenizer_files import open_tokenizer
from reasondistill.models.weights import count_parameters, has_cpu_bf16, model_folder
from reasondistill.records import LoopRule, Sampling
from reasondistill.runs.loopback import prefer_loopback

log = logging.getLogger(__name__)


def sampling_params(
    sampling: Sampling, max_tokens: int, logprobs: int, prompt_logprobs: int = 0
) -> Any:
    """Complete parameters of requests, but for the seed that each has of its own (`with_seed`).
    Raises ConfigError for a value that vLLM refuses.
    """
    # Not from `vllm` itself, which looks a name up anew each time.
    from vllm.exceptions import VLLMError
    from vllm.sampling_params import RequestOutputKind, SamplingParams

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
            **_loop_detection(sampling.loops),
            **_thinking_budget(sampling.thinking_budget),
            logprobs=logprobs or None,
            prompt_logprobs=prompt_logprobs or None,
            flat_logprobs=bool(logprobs),
            skip_special_tokens=False,  # think tags are special tokens in some tokenizers
            spaces_between_special_tokens=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            # The engine would copy them deeply for each request: as long as it takes to add one.
            skip_clone=True,
        )
    except (ValueError, VLLMError) as error:
        raise ConfigError(
            f"vLLM does not take these sampling settings: {reason_of(error)}"
        ) from error


def _loop_detection(loops: LoopRule | None) -> dict[str, Any]:
    """What vLLM is asked to end as a loop. Raises ConfigError where it is too old for that."""
    if loops is None:
        return {}
    try:
        from vllm.sampling_params import RepetitionDetectionParams
    except ImportError:
        raise ConfigError(
            "[traces.loops]: this vLLM ends no loops (0.32 does); leave the table out, or install "
            "another version."
        ) from None
    detection = RepetitionDetectionParams(
        max_pattern_size=loops.window, min_pattern_size=loops.shortest, min_count=loops.repeats
    )
    return {"repetition_detection": detection}


def _thinking_budget(budget: int | None) -> dict[str, Any]:
    """What vLLM is told of a budget of thinking, which older versions have no word for."""
    if budget is None:
        return {}
    return {"thinking_token_budget": budget}


def reasoning_config(thinking: ThinkingTokens) -> dict[str, Any]:
    """How an engine is started that closes reasoning of these tokens when its budget is used up.
    Raises ConfigError where vLLM is too old for that.
    """
    try:
        from vllm.config.reasoning import ReasoningConfig
    except ImportError:
        raise ConfigError(
            "thinking_budget: this vLLM has none (0.32 does); leave it out, or install another "
            "version."
        ) from None
    config = ReasoningConfig(reasoning_start_str=thinking.opener, reasoning_end_str=thinking.closer)
    return {"reasoning_config": config}


def with_seed(params: Any, seed: int) -> Any:
    """A copy of `sampling_params` for one request. A greedy one takes no seed."""
    own = copy.copy(params)
    if own.temperature > 0:
        own.seed = seed
    return own


def scoring_params(logprobs: int) -> Any:
    """Parameters of a request that scores its prompt and draws one token."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        prompt_logprobs=logprobs,
        logprobs=logprobs,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def prepare_environment() -> None:
    """Settings that vLLM reads from the environment, unless the user set them. Raises
    MissingDependencyError.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    prefer_loopback()
    is_first = "vllm" not in sys.modules
    if is_first:
        gc.collect()  # what is frozen below is never freed: no garbage of an earlier training
    with no_collections():
        try:
            importlib.import_module("vllm")
        except ImportError as error:
            raise MissingDependencyError("vllm", "vllm") from error
        if is_cpu():
            # The engine in our own process starts in 5 s where engine and worker processes took 23
            # to 58 s, made 6,800 instead of 4,900 tokens/s (0.2M parameters, two busy cores), needs
            # no `__main__` guard, and a killed run leaves no orphans on the cores.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        importlib.import_module("vllm.entrypoints.llm")
    if is_first:
        # No engine has been started yet: what is here are modules, and they stay.
        gc.freeze()
        atexit.register(gc.unfreeze)  # nanobind tells of what is left at the very end


def is_cpu() -> bool:
    """Whether vLLM computes on the CPU of this machine."""
    from vllm.platforms import current_platform

    return current_platform.is_cpu()


def nothing() -> None:
    """Undoes nothing."""


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


def computes_here(args: Mapping[str, Any]) -> bool:
    """Whether the engine computes on this process's threads. vLLM deals cores out to worker
    processes of its own.
    """
    return (
        is_cpu()
        and os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
        and args["tensor_parallel_size"] == 1
    )


def take_threads(threads: int | None, model: str) -> Callable[[], None]:
    """Compute with as many threads as are asked for, else as OMP_NUM_THREADS says, else as
    `threads_for`; return what undoes it.

    vLLM then disables `torch.set_num_threads` for the whole process; the undoing brings it back for
    whoever trains next.
    """
    import torch

    set_threads, before = torch.set_num_threads, torch.get_num_threads()
    if threads is not None:
        set_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        folder = model_folder(model)
        parameters = None
        if folder is not None:
            parameters = count_parameters(folder)
        set_threads(threads_for(parameters, len(os.sched_getaffinity(0))))

    def undo() -> None:
        torch.set_num_threads = set_threads
        set_threads(before)

    return undo


def threads_now() -> int:
    """How many threads this process computes with."""
    import torch

    return torch.get_num_threads()


def usable_dtype(dtype: str) -> str:
    """`auto` is float32 on a CPU without bf16 instructions: emulated bf16 is twenty to fifty times
    slower.
    """
    if dtype != "auto" or not is_cpu():
        return dtype
    if has_cpu_bf16():
        return "auto"
    return "float32"


def load_tokenizer(model: str, revision: str | None, trust_remote_code: bool) -> Any:
    """The tokenizer of a hub id or folder. Raises ConfigError."""
    name = str(model_folder(model) or model)
    try:
        return open_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model {name}: its tokenizer cannot be loaded: {last_line(error)}"
        ) from error


def model_config(args: Mapping[str, Any]) -> Any:
    """The model as vLLM sees it: the context it would get (what was asked for, or what its config
    allows), its vocabulary.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.exceptions import VLLMError

    names = ("model", "revision", "trust_remote_code", "dtype", "max_model_len")
    try:
        return EngineArgs(**{name: args[name] for name in names}).create_model_config()
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, VLLMError) as error:
        raise ConfigError(
            f"model {args['model']}: vLLM does not take it: {reason_of(error)}"
        ) from error


def start_engine(args: Mapping[str, Any]) -> Any:
    """vLLM's `LLM`. Raises StageError when it cannot start."""
    from vllm import LLM
    from vllm.exceptions import VLLMError

    log.info("%s: starting vLLM", args["model"])
    try:
        return LLM(**args, disable_log_stats=True, use_tqdm_on_load=False)
    except (OSError, ValueError, RuntimeError, VLLMError) as error:
        raise StageError(
            f"model {args['model']}: vLLM could not start: {reason_of(error)}"
        ) from error


def stop_engine(llm: Any) -> None:
    """Shut the engine down and free its memory."""
    import torch
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    with collected_once():
        llm.llm_engine.engine_core.shutdown()
        del llm
        cleanup_dist_env_and_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def collected_once() -> Generator[None]:
    """Garbage is collected at the end and not before. vLLM does so several times while it shuts
    down, over the million objects of its modules too: four seconds behind every engine.
    """
    collect, unfreeze = gc.collect, gc.unfreeze
    gc.collect, gc.unfreeze = (lambda generation=2: 0), (lambda: None)
    try:
        yield
    finally:
        gc.collect, gc.unfreeze = collect, unfreeze
        gc.collect()


def tokens_so_far(llm: Any) -> int:
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


# ---- in the middle of a sample -------------------------------------------------------------------


@dataclass(frozen=True)
class SoFar:
    """What the engine's front has seen of a request: its tokens, and what they say."""

    token_ids: Sequence[int] = ()
    text: str = ""


def seen_so_far(llm: Any, engine_id: str) -> SoFar:
    """The tokens of a request between two steps; none where it is not in the engine, or where this
    vLLM does not tell them before the end.
    """
    try:
        detokenizer = llm.llm_engine.output_processor.request_states[engine_id].detokenizer
        return SoFar(detokenizer.output_token_ids, detokenizer.output_text)
    except (AttributeError, KeyError):
        return SoFar()


def go_on_behind(
    llm: Any, engine_id: str, params: Any, prompt_ids: Sequence[int], begun: Sequence[int]
) -> None:
    """Let a request whose prompt ends with `begun`, tokens that were drawn before, end as if it had
    drawn them.

    vLLM's own detokenizer of the request takes them, after the prompt without them, one by one, as
    it has done when they were drawn. So a character of several tokens, or a stop string, may lie on
    both sides of the place, and the request's text and tokens are those of the whole sample.
    """
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

    processor = llm.llm_engine.output_processor
    whole: Any = SimpleNamespace(
        request_id=engine_id,
        sampling_params=params,
        prompt_token_ids=list(prompt_ids),
        prompt_embeds=None,
    )
    detokenizer = IncrementalDetokenizer.from_new_request(processor.tokenizer, whole)
    detokenizer.update(list(begun), False)
    processor.request_states[engine_id].detokenizer = detokenizer


def can_go_on(llm: Any) -> bool:
    """Whether this vLLM has what `seen_so_far` and `go_on_behind` reach for."""
    try:
        from vllm.v1.engine.detokenizer import IncrementalDetokenizer

        processor = llm.llm_engine.output_processor
        return (
            callable(IncrementalDetokenizer.from_new_request)
            and processor.tokenizer is not None
            and isinstance(processor.request_states, dict)
        )
    except (ImportError, AttributeError):
        return False


def last_line(error: BaseException) -> str:
    """The end of a long message, where the reason stands."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1]


def reason_of(error: BaseException) -> str:
    """vLLM's own words without pydantic's frame around them."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [
        line
        for line in lines
        if "validation error" not in line and "For further information" not in line
    ]
    return " ".join(reasons)[:500] or type(error).__name__
