"""A student's settings as TRL's: batch, schedule, precision, optimizer. Imports torch and trl;
imported late.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from trl import SFTConfig

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.errors import StageError
from reasondistill.models.weights import has_cpu_bf16
from reasondistill.stages.students import processes
from reasondistill.stages.students.optimizers import Muon

# Our schedules by the names of transformers.
SCHEDULES = {
    "cosine": "cosine_with_min_lr",
    "linear": "linear",
    "constant": "constant_with_warmup",
}


def trainer_settings(
    student: StudentSettings,
    output: Path,
    settings: TrainSettings,
    validates: bool,
) -> SFTConfig:
    """TRL's settings of a student's training, with checkpoints in `output`. Raises StageError for a
    batch that so many processes cannot share.
    """
    micro, accumulation = split_batch(
        student.batch_size, settings.micro_batch_size, processes.world_size()
    )
    schedule: dict[str, Any] = {}
    if student.schedule == "cosine":
        schedule["min_lr_rate"] = student.min_lr_ratio
    checkpointing: dict[str, Any] | None = None
    if settings.gradient_checkpointing:
        checkpointing = {"use_reentrant": False}
    evaluates = validates and student.evaluate_every is not None
    arguments = SFTConfig(
        output_dir=str(output),
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=student.epochs,
        max_steps=student.max_steps or -1,
        learning_rate=student.learning_rate,
        lr_scheduler_type=SCHEDULES[student.schedule],
        lr_scheduler_kwargs=schedule,
        warmup_steps=student.warmup_ratio,  # below 1: a share of all steps
        weight_decay=student.weight_decay,
        adam_beta2=student.adam_beta2,
        max_grad_norm=student.max_grad_norm,
        max_length=student.max_length,
        packing=student.packing,
        eval_packing=False,
        bf16=student.bf16 and bf16_is_fast(),
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs=checkpointing,
        logging_steps=0.01,  # a share of all steps
        logging_nan_inf_filter=False,  # it would write another loss in the place of NaN
        # Packed rows have no padding, and no mask.
        include_num_input_tokens_seen="all" if student.packing else "non_padding",
        save_steps=student.save_every,
        # SortedTrainer makes room before it writes, not after.
        save_total_limit=None,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=student.evaluate_every,
        # The lowest is remembered, and its checkpoint, where it has one, stays.
        metric_for_best_model="eval_loss" if student.keep == "best" else None,
        report_to=list(student.report_to) or "none",
        run_name=student.name,
        disable_tqdm=True,
        seed=student.seed,
        data_seed=student.seed,
        ddp_find_unused_parameters=False,  # every weight gets its gradient
        # Our rows are tokenised, checked and short enough; TRL's passes over them would only cost
        # minutes. Packing needs them.
        dataset_kwargs={"skip_prepare_dataset": not student.packing},
    )
    if processes.world_size() == 1 and torch.cuda.device_count() > 1:
        # Else Trainer wraps DataParallel and multiplies the batch.
        arguments._n_gpu = 1  # pyright: ignore[reportPrivateUsage]
    return arguments


def split_batch(batch: int, micro: int, world: int) -> tuple[int, int]:
    """Micro-batch and accumulation steps whose product over all devices is exactly `batch`.

    Raises StageError when the batch cannot be dealt evenly to that many devices.
    """
    if batch % world:
        raise StageError(
            f"batch_size = {batch} cannot be dealt evenly to {world} processes; make it a "
            f"multiple of {world}."
        )
    per_device = batch // world
    size = min(micro, per_device)
    while per_device % size:
        size -= 1
    return size, per_device // size


def bf16_is_fast() -> bool:
    """True on GPUs that have bfloat16 and on CPUs with AMX or AVX512-BF16; elsewhere it is
    emulated, 20 to 50 times slower than float32.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return has_cpu_bf16()


def optimizer_of(student: StudentSettings, model: torch.nn.Module) -> Any:
    """Muon when asked for; None leaves AdamW to Trainer."""
    if student.optimizer == "adamw":
        return None
    if student.lora is not None:
        raise StageError(
            f"{student.name}: optimizer = 'muon' is for full training; LoRA uses adamw."
        )
    return Muon(
        model.named_parameters(),
        lr=student.learning_rate,
        betas=(0.9, student.adam_beta2),
        weight_decay=student.weight_decay,
    )
