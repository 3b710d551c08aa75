"""Whether a model on disk is the one in memory: it is loaded again, and what both say of a row is
compared. Imports transformers and torch; imported late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from reasondistill.errors import StageError
from reasondistill.models.attention import EXACT
from reasondistill.stages.students.distilling.teacher import free_memory
from reasondistill.stages.students.tokens import Row

# So many tokens of one row are compared; theirs are the only logits that are ever held whole.
_COMPARED = 128
# Mean KL in nats per token. The same weights differ by 1e-9 where they are computed in float32, and
# by up to 0.02 in bfloat16; a head, an adapter or a norm that was lost by 0.1 and more.
MOST_KL = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.05}
# Weights, and what a forward pass needs beside them.
_ROOM = 1.2


@dataclass(frozen=True)
class RowLogProbs:
    """What a model says after each token of a row: log-probabilities (tokens, vocabulary)."""

    ids: Sequence[int]
    log_probs: torch.Tensor

    def distance(self, other: RowLogProbs) -> float:
        """Mean KL(self‖other) in nats per token; infinite for NaN, and for another vocabulary."""
        if self.log_probs.shape != other.log_probs.shape:
            return float("inf")
        p = self.log_probs.exp()
        gap = (self.log_probs - other.log_probs).masked_fill(p == 0, 0.0)  # of masked-out tokens
        kl = (p * gap).sum(-1).mean()
        return float(kl.nan_to_num(float("inf")))


def compared_ids(rows: Sequence[Row]) -> list[int]:
    """The beginning of the shortest of the first rows: what models are compared on."""
    shortest = min(rows[:64], key=lambda row: len(row.input_ids))
    return list(shortest.input_ids[:_COMPARED])


@torch.no_grad()
def row_log_probs(model: Any, ids: Sequence[int]) -> RowLogProbs:
    """What a model says of a row, in the type of its own weights: what a trainer has put around it
    is taken off.
    """
    model = extract_model_from_parallel(model, keep_fp32_wrapper=False)
    was_training = model.training
    model.eval()
    inputs = torch.tensor([list(ids)], device=model.device)
    logits = model(input_ids=inputs, use_cache=False).logits[0]
    model.train(was_training)
    return RowLogProbs(ids, logits.double().log_softmax(-1).cpu())


def cast(model: Any, dtype: torch.dtype) -> Any:
    """The model with the weights that a folder holds as `dtype`. Buffers that are computed when a
    model is loaded (rotary frequencies) stay exact, as they are in a model that is loaded.
    """
    stored = set(model.state_dict())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name in stored and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return model


def require_same(model: Any, folder: Path, ids: Sequence[int], trust_remote_code: bool) -> None:
    """Raise StageError unless what is in `folder` says what `model` says, whose weights are given
    back to the machine on the way: there is never room for two.

    They are computed in float32 where there is room for it, on the model's device or else the CPU.
    """
    where, dtype = _place(model)
    if str(model.config._attn_implementation).startswith("flash"):  # knows halves alone
        model.set_attn_implementation(EXACT)
    attention = model.config._attn_implementation
    expected = row_log_probs(cast(model.to(where), dtype), ids)
    model.to("meta")
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, trust_remote_code=trust_remote_code
    )
    distance = expected.distance(row_log_probs(loaded.to(where), ids))
    if distance > MOST_KL[dtype]:
        raise StageError(
            f"{folder}: loaded again it is another model than the one in memory: {distance:.3g} "
            f"nats per token lie between them on one row, where rounding makes at most "
            f"{MOST_KL[dtype]:g}. This is a fault of how transformers saves or loads "
            f"{type(model).__name__}; another version of it may do."
        )


def _place(model: Any) -> tuple[torch.device, torch.dtype]:
    """Where the weights have room, and as what."""
    count = sum(weight.numel() for weight in model.parameters())
    own = count * model.dtype.itemsize
    needed = count * torch.float32.itemsize * _ROOM
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
        if free_memory(model.device) + own >= needed:
            return model.device, torch.float32
    cpu = torch.device("cpu")
    if free_memory(cpu) + own >= needed:
        return cpu, torch.float32
    return cpu, model.dtype


def require_same_shapes(model: Any, folder: Path, trust_remote_code: bool) -> None:
    """Raise StageError unless what `folder` describes has the weights that this model has, by name
    and shape. No weight is read or made.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        described = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    theirs = {name: weight.shape for name, weight in described.named_parameters()}
    for name, weight in model.named_parameters():
        if theirs.get(name) != weight.shape:
            raise StageError(
                f"{folder}: the saved configuration is of a model whose {name} is "
                f"{theirs.get(name)}; here it is {weight.shape}."
            )


def require_same_tokenizer(
    tokenizer: Any, folder: Path, ids: Sequence[int], trust_remote_code: bool
) -> None:
    """Raise StageError unless the tokenizer in `folder` reads and writes as this one does."""
    again: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    text = tokenizer.decode(ids)
    facts: dict[str, tuple[Any, Any]] = {
        "its tokens": (tokenizer.get_vocab(), again.get_vocab()),
        "its EOS": (tokenizer.eos_token_id, again.eos_token_id),
        "its chat template": (tokenizer.chat_template, again.chat_template),
        "the text of a row": (text, again.decode(ids)),
        "the tokens of a row": (tokenizer(text)["input_ids"], again(text)["input_ids"]),
    }
    for what, (ours, theirs) in facts.items():
        if ours != theirs:
            raise StageError(f"{folder}: loaded again, the tokenizer has changed {what}.")
