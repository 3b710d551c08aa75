"""What a model computes before its head: hidden states of a batch, without logits. Imports torch;
imported late.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from reasondistill.methods.step import States

# What of a batch a model reads: the ids, and what tells one row from the next.
MODEL_INPUTS = (
    *("input_ids", "attention_mask", "position_ids", "seq_idx"),
    *("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"),
)


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What of a batch a model reads."""
    return {name: batch[name] for name in MODEL_INPUTS if name in batch}


def on_device(batch: Mapping[str, Any], device: Any) -> dict[str, Any]:
    """A batch with its tensors on a device."""
    moved: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, torch.Tensor):
            value = value.to(device)
        moved[name] = value
    return moved


def states(
    model: Any,
    unwrapped: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    layers: bool = False,
    attentions: bool = False,
) -> States:
    """One forward pass of `model` without its head: (texts, tokens, vocabulary) logits are never
    made.

    `unwrapped` is the model inside data-parallel wrappers, whose head is watched: it is fed one
    position, for form's sake.
    """
    wanted = model_inputs(inputs)
    wanted |= {"output_hidden_states": True} if layers else {}
    wanted |= {"output_attentions": True} if attentions else {}
    with watched(unwrapped.get_output_embeddings()) as seen, halves_for_flash(unwrapped):
        outputs = model(**wanted, use_cache=False)  # with a cache, packed rows would see each other
    return States(
        seen[0],
        tuple(outputs.hidden_states or ()) if layers else (),
        tuple(outputs.attentions or ()) if attentions else (),
        getattr(outputs, "aux_loss", None),
    )


@contextmanager
def halves_for_flash(model: Any) -> Generator[None]:
    """While open, a model in float32 whose attention knows bfloat16 alone is computed in mixed
    precision, as it is trained.
    """
    is_flash = str(model.config._attn_implementation).startswith("flash")
    if not is_flash or model.dtype != torch.float32:
        yield
        return
    with torch.autocast(model.device.type, torch.bfloat16):
        yield


@contextmanager
def watched(head: torch.nn.Module) -> Generator[list[torch.Tensor]]:
    seen: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        seen.append(arguments[0])
        return (arguments[0][:, :1], *arguments[1:])

    handle = head.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
