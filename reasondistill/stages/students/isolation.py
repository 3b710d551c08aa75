"""Do rows that are packed into one stay apart? Measured on the model at hand, before it is trained.
Imports torch; imported late.

Boundaries are told by `position_ids`, `cu_seq_lens_*` and `seq_idx`, never by a mask. Attention
that reads them keeps rows apart. Convolutions and state-space layers without their kernels, ALiBi
and counted positions do not read them: there a row goes on from the one before it, without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reasondistill.errors import ConfigError
from reasondistill.stages.students.hidden import model_inputs, on_device
from reasondistill.stages.students.tokens import Row

# So many tokens of each row are looked at: more than a convolution spans, less than any context.
FIRST, SECOND = 16, 11
Collate = Callable[[list[dict[str, Any]]], Mapping[str, Any]]


@dataclass(frozen=True)
class Change:
    """What becomes of a packed row, as a share of the spread of its logits (root mean squares):
    when another row stands before it, and against the row alone.

    The first is exactly 0 in any type where rows are kept apart: the shapes are the same, and what
    is masked adds nothing. The second has the rounding of its type.
    """

    by_neighbour: float
    against_alone: float

    def is_of_rounding(self, dtype: torch.dtype) -> bool:
        """Whether a model that computes in `dtype` keeps the rows apart."""
        rounding = torch.finfo(dtype).eps
        apart = self.by_neighbour <= max(1e-5, rounding / 4)
        return apart and self.against_alone <= max(1e-3, 16 * rounding)


@torch.no_grad()
def change_by_packing(model: Any, collate: Collate, rows: Sequence[Row], device: Any) -> Change:
    """How far two rows that `collate` packs into one change each other.

    Raises TypeError where the model does not take what tells the rows apart, ValueError where it
    says itself that it cannot keep them so (transformers 5.24, state spaces without kernels).
    """
    ids, others = rows[0].input_ids, rows[-1].input_ids
    length = min(FIRST, len(ids), len(others))
    before, another = ids[-length:], others[::-1][:length]
    second = others[-SECOND:]

    def logits(*texts: list[int]) -> torch.Tensor:
        batch = collate([{"input_ids": text, "labels": text, "row": 0} for text in texts])
        inputs = on_device(model_inputs(batch), device)
        return model(**inputs, use_cache=False).logits[0, -len(second) :].float()

    was_training = model.training
    model.eval()
    packed = logits(before, second)
    neighboured = logits(another, second)
    unpacked = {"input_ids": torch.tensor([second], device=device)}
    alone = model(**unpacked, use_cache=False).logits[0].float()
    model.train(was_training)
    spread = float(alone.std().clamp(min=1e-12))
    return Change(_rms(packed - neighboured) / spread, _rms(packed - alone) / spread)


def _rms(difference: torch.Tensor) -> float:
    return float(difference.square().mean().sqrt())


def check_isolation(
    model: Any,
    collate: Collate,
    rows: Sequence[Row],
    *,
    device: Any,
    dtype: torch.dtype,
    student: str,
    whose: str,
) -> None:
    """Raise ConfigError where packed rows change each other in `whose` model, which computes in
    `dtype`.
    """
    fault = f"[students] {student} packing = true: {whose}"
    remedy = "Set packing = false."
    try:
        change = change_by_packing(model, collate, rows, device)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{fault} does not take what keeps packed rows apart ({error}). {remedy}"
        ) from error
    if change.is_of_rounding(dtype):
        return
    largest = max(change.by_neighbour, change.against_alone)
    raise ConfigError(
        f"{fault} lets packed rows see each other: with another row before it, or alone, the "
        f"logits of a row are others by {largest:.2%} of their spread. {remedy}"
    )


class ChecksIsolation(TrainerCallback):
    """Checks, as a packed training begins, that the models of a trainer keep rows apart: there they
    are as they will be trained, on their device, split and wrapped.
    """

    def __init__(self, trainer: Any, rows: Sequence[Row], student: str, teacher: Any) -> None:
        self.trainer, self.rows, self.student, self.teacher = trainer, rows, student, teacher

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        models = {"this model": self.trainer.model_wrapped}
        if self.teacher is not None:
            models["its teacher"] = self.teacher
        for whose, model in models.items():
            own: torch.dtype = next(model.parameters()).dtype
            is_mixed = args.bf16 and whose == "this model"
            check_isolation(
                model,
                self.trainer.data_collator,
                self.rows,
                device=args.device,
                dtype=torch.bfloat16 if is_mixed else own,
                student=self.student,
                whose=whose,
            )
