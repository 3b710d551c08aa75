"""What a student writes while it is trained: by transformers, or by vLLM with the weights of the
moment. Imports torch; imported late.

Prompts and completions are token ids; a completion ends with the EOS unless its tokens ran out.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from reasondistill.errors import ConfigError
from reasondistill.losses.shared_tokens import SharedTokens
from reasondistill.runs import loopback
from reasondistill.stages.students import bases, processes

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

# So many prompts are decoded at once by transformers.
AT_ONCE = 64


class Writer(Protocol):
    """Something that completes prompts with the student's present weights."""

    def write(
        self, prompts: Sequence[list[int]], max_tokens: int, *, temperature: float, seed: int
    ) -> list[list[int]]:
        """One completion of at most `max_tokens` per prompt."""
        ...

    def open(self) -> None:
        """Start what it needs, before the first step. Raises ConfigError where it would not write
        with the present weights.
        """
        ...


class Writers(NamedTuple):
    """What writes a student's texts: `plain` by itself, `mixed(share)` with so much of the teacher
    mixed in.
    """

    plain: Writer
    mixed: Callable[[float], Writer]


class TransformersWriter:
    """`generate` of transformers: batched, left-padded, without any sampling default of a vendor.
    Equal seeds write equal texts.

    With `mix` > 0 each token is drawn from mix·teacher + (1 − mix)·student (MiniLLM, eq. 7).
    """

    def __init__(
        self,
        model: Any,
        *,
        eos: Sequence[int],
        pad: int,
        vocabulary: int | None = None,
        teacher: Any = None,
        mix: float = 0.0,
        shared: SharedTokens | None = None,
    ) -> None:
        self.model, self.eos, self.pad, self.vocabulary = model, list(eos), pad, vocabulary
        self.teacher, self.mix, self.shared = teacher, mix, shared

    def write(
        self, prompts: Sequence[list[int]], max_tokens: int, *, temperature: float, seed: int
    ) -> list[list[int]]:
        device = next(self.model.parameters()).device
        was_training = self.model.training
        self.model.eval()
        gpus: list[torch.device] = []
        if device.type == "cuda":
            gpus.append(device)
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        written: dict[int, list[int]] = {}
        try:
            with torch.random.fork_rng(devices=gpus), torch.no_grad():
                torch.manual_seed(seed)
                for start in range(0, len(order), AT_ONCE):
                    places = order[start : start + AT_ONCE]
                    batch = [prompts[place] for place in places]
                    completions = self._batch(batch, max_tokens, temperature, device)
                    written.update(zip(places, completions, strict=True))
        finally:
            self.model.train(was_training)
        return [written[place] for place in range(len(prompts))]

    def open(self) -> None: ...

    def _batch(
        self,
        prompts: Sequence[list[int]],
        max_tokens: int,
        temperature: float,
        device: torch.device,
    ) -> list[list[int]]:
        width = max(len(prompt) for prompt in prompts)
        padded: list[list[int]] = []
        masks: list[list[int]] = []
        for prompt in prompts:
            missing = width - len(prompt)
            padded.append([self.pad] * missing + prompt)
            masks.append([0] * missing + [1] * len(prompt))
        ids = torch.tensor(padded, device=device)
        mask = torch.tensor(masks, device=device)
        settings = GenerationConfig(
            do_sample=True,
            temperature=temperature,
            top_k=0,
            top_p=1.0,
            repetition_penalty=1.0,
            max_new_tokens=max_tokens,
            eos_token_id=self.eos,
            pad_token_id=self.pad,
            use_cache=True,
        )
        processors = LogitsProcessorList()
        if self.mix:
            processors.append(_Mixture(self.teacher, self.mix, mask, temperature, self.shared))
        if self.vocabulary is not None:
            processors.append(_OfTheTokenizer(self.vocabulary))
        with without_generation_config(self.model):
            output = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=settings,
                logits_processor=processors,
            )
        return [until_end(row, self.eos) for row in output[:, width:].tolist()]


@contextmanager
def without_generation_config(model: Any) -> Generator[None]:
    """While open, the model is without its generation config, from which `generate` fills whatever
    ours leaves open.
    """
    configured = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = configured


class _OfTheTokenizer(LogitsProcessor):
    """Only tokens that the tokenizer knows: models pad their vocabulary."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        padding = torch.arange(self.vocabulary, scores.shape[1], device=scores.device)
        return scores.index_fill(1, padding, float("-inf"))


class _Mixture(LogitsProcessor):
    """Scores whose softmax at `temperature` is the mixture of teacher and student; the teacher
    keeps its own cache. `shared` are the tokens of both, where they differ.
    """

    def __init__(
        self,
        teacher: Any,
        share: float,
        mask: torch.Tensor,
        temperature: float,
        shared: SharedTokens | None = None,
    ) -> None:
        self.teacher, self.share, self.mask, self.temperature = teacher, share, mask, temperature
        self.shared = shared
        self.cache: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        new = input_ids
        if self.cache is not None:
            new = input_ids[:, -1:]
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(new), 1)], dim=1)
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -new.shape[1] :]
        output = self.teacher(
            input_ids=new,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = output.past_key_values
        logits = output.logits[:, -1]
        if self.shared is not None:
            logits = self.shared.for_student(logits, scores.shape[-1])
        width = min(scores.shape[-1], logits.shape[-1])
        theirs = torch.log_softmax(logits[:, :width].float() / self.temperature, dim=-1)
        ours = torch.log_softmax(scores[:, :width].float() / self.temperature, dim=-1)
        theirs = theirs + _log(self.share)
        ours = ours + _log(1 - self.share)
        mixed = torch.logaddexp(theirs, ours) * self.temperature
        blocked = scores.new_full(scores.shape, float("-inf"))
        blocked[:, :width] = mixed.to(scores.dtype)
        return blocked


def _log(share: float) -> float:
    return float(torch.log(torch.tensor(share, dtype=torch.float64)))


def until_end(ids: list[int], eos: Sequence[int]) -> list[int]:
    """The ids up to the first that ends a text, and that one; all where none does."""
    for place, token in enumerate(ids):
        if token in eos:
            return ids[: place + 1]
    return ids


class VllmWriter:
    """vLLM with the student's weights of the moment, through TRL: in this process (`url` None), or
    a `trl vllm-serve` at `url`.

    `open`, or the first text, starts the engine on the weights in `start`. Raises ConfigError where
    an engine in this process would not write with the weights that it is given. Not repeatable bit
    by bit: vLLM draws from a generator of its own.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        accelerator: Any,
        *,
        start: Path,
        url: str | None,
        memory: float,
        context: int,
    ) -> None:
        self.model, self.tokenizer, self.accelerator = model, tokenizer, accelerator
        self.start, self.url, self.memory, self.context = start, url, memory, context
        self._engine: Any = None

    def write(
        self, prompts: Sequence[list[int]], max_tokens: int, *, temperature: float, seed: int
    ) -> list[list[int]]:
        self.open()
        self._engine.temperature, self._engine.max_completion_length = temperature, max_tokens
        self._engine.sync_weights()
        _, completions, _, _ = self._engine.generate([list(prompt) for prompt in prompts], None, 1)
        return [list(ids) for ids in completions]

    def open(self) -> None:
        """Start the engine, once, and see that it takes weights."""
        if self._engine is not None:
            return
        if self.url is None and self.accelerator.is_main_process:
            bases.save(self.model, self.tokenizer, self.start)
        self.accelerator.wait_for_everyone()
        self.model.name_or_path = str(self.start)
        log.info("rollouts: starting vLLM")
        with weights_stay_plain():
            engine = self._connect()
        if self.url is None:
            served = engine.llm.llm_engine.model_executor.driver_worker.model_runner.model
            check_takes_weights(served, engine.sync_weights)
        self._engine = engine

    def _connect(self) -> Any:
        from trl.generation.vllm_generation import VLLMGeneration

        mode = "server"
        if self.url is None:
            mode = "colocate"
            if processes.world_size() == 1 or loopback.is_wanted():
                loopback.stay_on_loopback()
        generation = VLLMGeneration(
            self.model,
            self.accelerator,
            self.tokenizer,
            mode=mode,
            server_base_url=self.url,
            gpu_memory_utilization=self.memory,
            max_model_length=self.context,
            logprobs=None,
        )
        client = getattr(generation, "vllm_client", None)
        if client is not None:
            client.session.hooks["response"].append(refuse_redirect)
        return generation


def refuse_redirect(response: requests.Response, *_: Any, **__: Any) -> None:
    """Raise ConfigError when a server of rollouts sends us to another place: texts would go
    there.
    """
    if response.is_redirect:
        here = urlsplit(response.url)
        try:
            there = urlsplit(response.headers["location"])
            origin = f"{there.scheme}://{there.netloc.rpartition('@')[2]}"
            is_allowed = not there.netloc or there[:2] == here[:2]
        except ValueError:
            origin = "no address"
            is_allowed = False
        if not is_allowed:
            raise ConfigError(
                f"[train] rollouts_url: the server redirects ({response.status_code}) to {origin}; "
                "texts are not sent there. Put the right address into rollouts_url."
            )


@contextmanager
def weights_stay_plain() -> Generator[None]:
    """While open, an engine that vLLM for CPU loads in this process multiplies with its weights as
    they were loaded.

    By itself it packs them into another layout on most CPUs (oneDNN on AVX-512, tiles on AMX): of a
    linear layer nothing is left that new weights could be loaded into, and an output head goes on
    multiplying with the packed copy of its old ones.
    """
    from vllm.model_executor.layers import utils
    from vllm.platforms import current_platform

    pack = getattr(utils, "dispatch_cpu_unquantized_gemm", None)
    if pack is None or not current_platform.is_cpu():
        yield
        return

    def leave_plain(layer: Any, remove_weight: bool) -> None:
        is_matrix = layer.weight.ndim == 2 and not layer.weight.is_meta
        if is_matrix:
            layer.cpu_linear = torch.nn.functional.linear
        else:
            pack(layer, remove_weight)

    utils.dispatch_cpu_unquantized_gemm = leave_plain
    try:
        yield
    finally:
        utils.dispatch_cpu_unquantized_gemm = pack


# Of each tensor so much is looked at: packing moves what stands at its beginning too.
_LOOKED_AT = 1 << 20


def check_takes_weights(served: torch.nn.Module, load: Callable[[], None]) -> None:
    """See that an engine takes the student's weights: `load`ing those it began with must leave
    `served`, its model, as it is.

    Raises ConfigError when it cannot load them, or when they end up in another layout than the one
    it multiplies with.
    """
    packed = [name for name, tensor in served.named_parameters() if tensor.numel() == 0]
    if packed:
        raise ConfigError(_NOT_TAKEN.format(f"of {packed[0]} it keeps a packed copy only"))
    before = _digests(served)
    try:
        load()
    except (AttributeError, AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        kind = type(error).__name__
        why = f"loading them fails: {kind}: {error}"
        raise ConfigError(_NOT_TAKEN.format(why)) from error
    after = _digests(served)
    moved = [name for name in before if after.get(name) != before[name]]
    if moved:
        raise ConfigError(_NOT_TAKEN.format(f"it keeps {moved[0]} in another layout"))


_NOT_TAKEN = (
    "[train] rollouts: vLLM in this process does not take the student's new weights "
    "on this machine: {}. "
    "Set rollouts = 'transformers' in the cluster file."
)


def _digests(model: torch.nn.Module) -> dict[str, int]:
    digests: dict[str, int] = {}
    for name, tensor in model.named_parameters():
        beginning = tensor.detach().flatten()[:_LOOKED_AT].cpu()
        digests[name] = zlib.crc32(beginning.view(torch.uint8).numpy().tobytes())
    return digests
