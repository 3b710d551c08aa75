"""The teacher in memory: its last hidden states, layers and attention for a batch, without
gradients. Imports torch; imported late.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from reasondistill.errors import ConfigError, StageError
from reasondistill.losses.shared_tokens import SharedTokens
from reasondistill.models.attention import attention_options
from reasondistill.models.context import context_of
from reasondistill.models.loading import loading
from reasondistill.models.quantised import bytes_in_memory, quantisation_of
from reasondistill.models.tokenizer_files import open_tokenizer
from reasondistill.models.vocabulary import (
    TokenMatch,
    gap_in_words,
    matched_tokenizers,
)
from reasondistill.models.weights import (
    only_safetensors,
    require_sound_snapshot,
    verified_folder,
    weight_bytes,
)
from reasondistill.stages.students.heads import check_head, head_of
from reasondistill.stages.students.hidden import States, states

log = logging.getLogger(__name__)

# What stays free beside the teacher's weights, for the student and activations.
_ROOM = 1.2
_WITHOUT_ITS_LOGITS = (
    "Use method = 'topk_kd' with [traces] logprobs, or 'sft', which do not look into the teacher, "
    "or another teacher."
)


class Teacher:
    """A frozen causal language model. `seconds` is what its forward passes took.

    `match` says which of its tokens are which of the student's, where special ones differ: the
    model then reads the student's ids as its own, and `shared` are the tokens that both have.
    """

    def __init__(self, model: Any, match: TokenMatch | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.gap = match.gap if match is not None else None
        self.shared: SharedTokens | None = None
        if match is not None:
            self.shared = shared_tokens(match, model.device)
            reads_ids_of_student(self.model, match)
        self.seconds = 0.0
        self.head = head_of(self.model)

    @torch.no_grad()
    def states(
        self, inputs: Mapping[str, torch.Tensor], *, layers: bool = False, attentions: bool = False
    ) -> States:
        """What the teacher computes on these inputs. Synchronises a GPU: the seconds are the
        teacher's own.
        """
        started = self._now(inputs["input_ids"])
        computed = states(self.model, self.model, inputs, layers=layers, attentions=attentions)
        self.seconds += self._now(inputs["input_ids"]) - started
        return computed

    def check_head(self, row: Sequence[int], name: str, vocabulary: int) -> None:
        """Raise ConfigError unless the logits of a row that it will read are what its head gives,
        for as many tokens as student and teacher compare.
        """
        if self.shared is not None:
            vocabulary = self.shared.teacher_vocabulary
        compared = min(vocabulary, len(self.head.weight))
        check_head(self.model, row, f"teacher {name}", compared, remedy=_WITHOUT_ITS_LOGITS)

    @staticmethod
    def _now(tensor: torch.Tensor) -> float:
        if tensor.is_cuda:
            torch.cuda.synchronize(tensor.device)
        return time.monotonic()


def load_teacher(
    model: str,
    revision: str | None,
    *,
    student_tokenizer: Any,
    trust_remote_code: bool,
    device: torch.device,
    attention: str | None = None,
    longest: int = 0,
) -> Teacher:
    """The teacher on `device`, bfloat16 on a GPU and float32 on a CPU, or as it was quantised, its
    attention computed as `attention` says (models/attention.py).

    Raises ConfigError when its ordinary tokens are not the student's or it cannot be computed so,
    StageError when it does not fit in memory or was not made for the `longest` row.
    """
    folder = verified_folder(model)
    source = str(folder or model)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    tokenizer = open_tokenizer(source, **options)
    match = match_tokenizers(tokenizer, student_tokenizer, model)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if folder is None:
        require_sound_snapshot(source, revision)
    with loading(f"teacher {model}: its config.json", source):
        config = AutoConfig.from_pretrained(source, **options)
    check_reads(model, config, longest)
    check_fits(
        model,
        config,
        dtype,
        device,
        trust_remote_code=trust_remote_code,
        folder=folder,
    )
    options |= attention_options(
        config, attention, f"teacher {model}", trust_remote_code=trust_remote_code
    )
    quantisation = quantisation_of(config.to_dict())
    if quantisation is not None:  # such weights are not moved from one device to another
        options["device_map"] = {"": device}
    try:
        with loading(f"teacher {model}", source), only_safetensors(source):
            loaded = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, use_safetensors=True, **options
            )
    except ImportError as error:
        if quantisation is None:
            raise
        raise ConfigError(
            f"teacher {model}: its weights are quantised ({quantisation.get('quant_method')}), "
            f"and what reads them is not installed: {error}"
        ) from error
    log.info(
        "teacher %s: %s parameters in %s",
        model,
        f"{loaded.num_parameters():,}",
        str(dtype).removeprefix("torch."),
    )
    if quantisation is None:
        # A decorator of transformers hides the method's own signature.
        loaded.to(device)  # pyright: ignore[reportArgumentType]
    return Teacher(loaded, match)


def match_tokenizers(teacher: Any, student: Any, name: str) -> TokenMatch | None:
    """Which tokens of both are the same, told once; None where all are. Raises ConfigError, naming
    the first ones, where ordinary tokens differ.
    """
    match = matched_tokenizers(teacher, student, name)
    if match is not None:
        tell_gap(name, match)
    return match


def tell_gap(name: str, match: TokenMatch) -> None:
    """Log what is not shared."""
    log.warning(
        "teacher %s: some special tokens are not the student's: %s. They are left out of the "
        "divergence; what the student should learn of its own, cross_entropy teaches it.",
        name,
        gap_in_words(match.gap),
    )


def shared_tokens(match: TokenMatch, device: torch.device) -> SharedTokens:
    """The tokens of both, as tensors."""
    return SharedTokens(
        torch.tensor(match.student, device=device),
        torch.tensor(match.teacher, device=device),
        match.teacher_vocabulary,
    )


def reads_ids_of_student(model: Any, match: TokenMatch) -> None:
    """Let a teacher read the student's ids, whoever calls it: its embedding is given its own id in
    place of each.
    """
    embedding = model.get_input_embeddings()
    reading = torch.tensor(match.reading, device=embedding.weight.device)

    def as_its_own(_: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (reading[arguments[0]], *arguments[1:])

    embedding.register_forward_pre_hook(as_its_own)


def check_reads(name: str, config: Any, longest: int) -> None:
    """Raise StageError when a row is longer than what the teacher was made for: beyond it RoPE says
    anything, and learnt positions end.
    """
    limit = context_of(config)
    if limit is not None and longest > limit:
        raise StageError(
            f"teacher {name}: a row has {longest:,} tokens, the teacher's context is {limit:,}. "
            "Lower max_length, or take a teacher that reads as much."
        )


def check_fits(
    name: str,
    config: Any,
    dtype: torch.dtype,
    device: torch.device,
    *,
    trust_remote_code: bool = False,
    folder: Path | None = None,
) -> None:
    """Raise StageError when the teacher's weights, and a fifth more, are larger than the free
    memory. Quantised ones are as large as their files in `folder`, or as their bits say.
    """
    with loading(f"teacher {name}", folder or name), torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    parameters = sum(weight.numel() for weight in model.parameters())
    kind = str(dtype).removeprefix("torch.")
    weights = float(parameters * dtype.itemsize)
    quantisation = quantisation_of(config.to_dict())
    if quantisation is not None and stays_quantised(quantisation, device):
        kind = f"{quantisation.get('quant_method', 'few bits')}"
        if folder is not None:
            weights = float(weight_bytes(folder))
        else:
            quantised = count_matrices(model)
            weights = bytes_in_memory(
                quantisation, quantised, parameters - quantised, dtype.itemsize
            )
    needed = weights * _ROOM
    free = free_memory(device)
    if needed > free:
        raise StageError(
            f"teacher {name} does not fit: {parameters:,} parameters want "
            f"{needed / 2**30:,.1f} GiB in {kind}, {free / 2**30:,.1f} GiB are free. Use "
            "method = 'topk_kd' with [traces] logprobs, which "
            "needs no teacher in memory, or a smaller teacher."
        )


def stays_quantised(quantisation: Mapping[str, Any], device: torch.device) -> bool:
    """Whether weights stay in their few bits on this device: transformers computes with MXFP4 on a
    GPU alone, elsewhere it unpacks it.
    """
    return device.type == "cuda" or quantisation.get("quant_method") != "mxfp4"


def count_matrices(model: Any) -> int:
    """The weights that quantisation takes: all matrices but embeddings and head."""
    spared: set[int] = set()
    for part in (model.get_input_embeddings(), model.get_output_embeddings()):
        if part is not None:
            spared.add(id(part.weight))
    count = 0
    for weight in model.parameters():
        if weight.ndim > 1 and id(weight) not in spared:
            count += weight.numel()
    return count


def free_memory(device: torch.device) -> float:
    """Bytes that are free on the device, or in the machine's memory."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return float("inf")
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return float("inf")
