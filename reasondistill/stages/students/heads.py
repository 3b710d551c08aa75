"""The output head of a model, and the proof that what it gives are the model's own logits. Imports
torch; imported late.

Losses and perplexity never call a model's whole forward: they multiply hidden states by the head,
chunk by chunk. What stands between that product and `model(...).logits` is read from the model's
configuration, and one row is compared before anything is trained or measured.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reasondistill.errors import ConfigError
from reasondistill.losses.heads import Head, PostProcessing, logits_of
from reasondistill.stages.students.hidden import halves_for_flash

# Keys of a configuration, as architectures of transformers 5.19 apply them to their logits.
MULTIPLIERS = ("logit_scale", "lm_head_multiplier", "output_multiplier")
DIVISOR = "logits_scaling"
CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
# MiniCPM 3 divides what its head reads, which is seen there; MPT reads its key nowhere.
UNSCALED = ("minicpm3", "mpt")
# By the same key that Granite divides by.
MULTIPLIED = ("hyperclovax",)

# How many tokens of a row are compared.
LOOKED_AT = 32
# How far two logits may be apart, as a share of the largest, by the type that they are made in:
# some roundings of it, TF32's in float32. Mamba rounds its logits to float32 whatever it is in.
TOLERANCES = {
    torch.float64: 1e-6,
    torch.float32: 2e-3,
    torch.float16: 1e-2,
    torch.bfloat16: 3e-2,
}


def post_processing_of(config: Any) -> PostProcessing:
    """What a model with this configuration does to its head's products."""
    text = config.get_text_config()
    scale = 1.0
    if text.model_type not in UNSCALED:
        for key in MULTIPLIERS:
            scale *= getattr(text, key, None) or 1.0
        divisor = getattr(text, DIVISOR, None) or 1.0
        if text.model_type in MULTIPLIED:
            divisor = 1 / divisor
        scale /= divisor
    caps = [getattr(text, key, None) for key in CAPS]
    return PostProcessing(scale, next(filter(None, caps), None))


def head_of(model: Any) -> Head:
    """The output head of a causal language model. Raises ConfigError for one that is not a plain
    matrix of floating-point numbers.
    """
    module = model.get_output_embeddings()
    name = type(model).__name__
    if module is None:
        raise ConfigError(
            f"{name} names no output head (get_output_embeddings): take another model."
        )
    if hasattr(module, "base_layer"):
        raise ConfigError(
            f"{name}: an adapter stands on the output head, and losses read the head's own weight "
            "alone. Leave lm_head out of lora.targets."
        )
    weight = getattr(module, "weight", None)
    if weight is None or weight.dtype not in TOLERANCES:
        raise ConfigError(
            f"{name}: its output head ({type(module).__name__}) has no weight of floating-point "
            "numbers, perhaps because it is quantised. Take weights whose head is not."
        )
    return Head(weight, getattr(module, "bias", None), post_processing_of(model.config))


@dataclass(frozen=True)
class HeadPass:
    """What stands around the head in a forward pass of one row: what it read (tokens, hidden), what
    it gave, and the model's logits, (tokens, rows of the head) each.
    """

    hidden: torch.Tensor
    products: torch.Tensor
    logits: torch.Tensor


@torch.no_grad()
def check_head(
    model: Any,
    input_ids: Sequence[int],
    name: str,
    vocabulary: int,
    *,
    remedy: str,
    wrapped: Any = None,
) -> HeadPass:
    """Raise ConfigError unless our head makes the model's own logits of a row, for the first
    `vocabulary` tokens.

    `wrapped` is the model inside what spreads it over processes, whose forward is called; of a head
    that is split over them its own product is taken.
    """
    head = head_of(model)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(_: torch.nn.Module, arguments: tuple[Any, ...], products: torch.Tensor) -> None:
        seen.append((arguments[0], products))

    handle = model.get_output_embeddings().register_forward_hook(keep)
    row = looked_at(model, input_ids)
    try:
        with evaluating(wrapped or model) as run, halves_for_flash(model):
            logits = run(input_ids=row, use_cache=False).logits[0]
    finally:
        handle.remove()
    if len(seen) != 1 or logits.shape[-1] < vocabulary:
        raise ConfigError(
            f"{name}: its forward calls the output head {len(seen)} times and gives "
            f"{logits.shape[-1]:,} logits, where it should call it once and give at least "
            f"{vocabulary:,}. {remedy}"
        )
    head_pass = HeadPass(seen[0][0][0], seen[0][1][0], logits)
    is_split = hasattr(head.weight, "full_tensor") or head.weight.ndim != 2
    if is_split:
        ours = head.post_processing.apply_(head_pass.products[:, :vocabulary].float())
    else:
        ours = logits_of(head_pass.hidden, head, vocabulary)
    difference = largest_difference(ours, logits[:, :vocabulary])
    reach = float(logits[:, :vocabulary].abs().max())
    if difference <= TOLERANCES[head_pass.products.dtype] * reach:
        return head_pass
    keys = ", ".join((*MULTIPLIERS, DIVISOR, *CAPS))
    raise ConfigError(
        f"{name}: its logits are up to {difference:.3g} from what its output head gives, where "
        f"they reach {reach:.3g} ({len(ours)} positions of one row). Its forward does something "
        f"after the head that is not known here; what these keys of a configuration do is: {keys}. "
        f"Losses and perplexity would be those of another model. {remedy}"
    )


@torch.no_grad()
def check_log_probs(
    head_pass: HeadPass,
    model: Any,
    input_ids: Sequence[int],
    name: str,
    *,
    remedy: str,
    wrapped: Any,
) -> None:
    """Raise ConfigError unless TRL's log-probabilities of a row, which supervised training learns
    by, are those of the model's own logits.
    """
    row = looked_at(model, input_ids)
    with evaluating(wrapped) as run, halves_for_flash(model):
        fused = run(input_ids=row, labels=row, use_cache=False, fused_lm_head=True)
    own = torch.log_softmax(head_pass.logits[:-1].float(), -1).gather(-1, row[0, 1:, None])
    difference = largest_difference(fused.log_probs[0], own[:, 0])
    reach = float(head_pass.logits.abs().max())
    # Of a log-probability both the logit and the normaliser are rounded.
    if difference <= 2 * TOLERANCES[head_pass.products.dtype] * reach:
        return
    raise ConfigError(
        f"{name}: the log-probabilities that TRL's SFTTrainer learns by are up to "
        f"{difference:.3g} from those of the model's own logits: it does not know this "
        f"architecture's head. {remedy}"
    )


def looked_at(model: Any, input_ids: Sequence[int]) -> torch.Tensor:
    """The beginning of a row as a batch of one, where the model is."""
    return torch.tensor([list(input_ids[:LOOKED_AT])], device=model.device)


@contextmanager
def evaluating(model: Any) -> Generator[Any]:
    """The model without dropout while open."""
    training = model.training
    model.eval()
    try:
        yield model
    finally:
        model.train(training)


def largest_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest of |ours − theirs|; nan where one of them is none."""
    return float((ours - theirs.to(ours.dtype)).abs().max())


class ChecksHeads(TrainerCallback):
    """Compares one row before the first step: the head that losses and perplexity use with the
    model's own logits, and of supervised training TRL's log-probabilities too.
    """

    def __init__(self, trainer: Any, name: str, vocabulary: int, *, is_supervised: bool) -> None:
        self.trainer = trainer
        self.name = name
        self.vocabulary = vocabulary
        self.is_supervised = is_supervised

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        trainer = self.trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        row = trainer.train_dataset[0]["input_ids"]
        how: dict[str, Any] = {"remedy": "Take another base.", "wrapped": trainer.model_wrapped}
        with trainer.accelerator.autocast():
            head_pass = check_head(model, row, self.name, self.vocabulary, **how)
            if self.is_supervised:
                check_log_probs(head_pass, model, row, self.name, **how)
