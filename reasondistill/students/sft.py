"""Supervised fine-tuning with TRL's SFTTrainer on our own ids and labels. Imports torch and trl; imported late.

What we add to TRL: rows that are tokenised and checked by us, batches that are random but sorted inside (little padding, no bias),
a global batch that does not depend on the machine, mixed precision only where it is fast, a stop that saves first, exact resume.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import resource
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTConfig, SFTTrainer

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.errors import StageError
from reasondistill.records import Example, Split, TrainingFigures
from reasondistill.store import StopSignal, append_metrics, read_metrics, write_text
from reasondistill.students import SNAPSHOTS, bases
from reasondistill.students.held_out import held_out
from reasondistill.students.optimizers import Muon
from reasondistill.students.tokens import IGNORE, Row, tokenise, tokenise_all
from reasondistill.weights import has_cpu_bf16

log = logging.getLogger(__name__)

# What a training tells, besides its loss, when the student writes texts of its own.
ROLLOUT_FACTS = ("rollout_tokens", "rollouts_correct")


@dataclass(frozen=True)
class Material:
    """What a student learns from and is measured on: `examples` to train and validate on, and `texts`, all of them, for a tokenizer.

    `plain` says how prompts are rendered. `calibration` is what a student that is cut out of its base is measured on before,
    `held_out` what its perplexity is of.
    """

    examples: Sequence[Example]
    texts: Sequence[str]
    plain: bool = False
    calibration: Sequence[Example] = ()
    held_out: Sequence[Example] = ()


def train(
    student: StudentSettings,
    material: Material,
    folder: Path,
    settings: TrainSettings,
    max_steps: int | None,
    stop: StopSignal | None,
    *,
    snapshots: int = 0,
    method: Training | None = None,
) -> tuple[TrainingFigures, dict[str, int]]:
    """Fine-tune and write `folder/model`; return the figures and how many rows were dropped, by reason.

    Of `snapshots` evenly spaced weights all but the last, which is the model itself, are kept in `folder/snapshots`. `method` is what
    trains in place of plain cross-entropy.
    Resumes from the last checkpoint in `folder/checkpoints`. Raises Interrupted after a requested stop, with a checkpoint saved.
    """
    _quiet(settings)
    started, method = time.monotonic(), method or Training()
    tokenizer = bases.load_tokenizer(student, material.texts)
    rows, validation, dropped = _rows(student, material, tokenizer)
    rows, unusable = method.rows(rows, tokenizer)
    calibration = [tokenise(example, tokenizer, plain=material.plain) for example in material.calibration]
    model = bases.load_model(student, tokenizer, calibration)
    _check_context(student, model, rows)
    method.prepare(model, tokenizer)
    checkpoint = _last_checkpoint(folder)
    _forget_after(folder, checkpoint)
    watch = _Watch(folder, stop, started)
    trainer = method.trainer(
        rows,
        validation,
        checkpoint,
        model=model,
        args=_arguments(student, folder / "checkpoints", settings, max_steps, bool(validation)),
        train_dataset=_dataset(rows),
        eval_dataset=_dataset(validation) if validation else None,
        processing_class=tokenizer,
        peft_config=_lora(student),
        callbacks=[watch, _Snapshots(folder / SNAPSHOTS, snapshots, student, tokenizer, method)],
        optimizers=(_optimizer(student, model), None),
    )
    trainer.remove_callback(PrinterCallback)  # our own lines are enough
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop is not None:
        stop.check()
    figures: dict[str, Any] = _cost(trainer, rows, folder) | {"validation_loss": _validate(trainer, folder) if validation else None}
    figures |= method.figures(trainer) | _distance(trainer, student, material, tokenizer, method)
    method.strip(trainer.model)
    parameters, trained = _save(trainer.model, student, tokenizer, folder)
    return TrainingFigures(**figures, parameters=parameters, trained_parameters=trained, seconds=watch.seconds()), dropped | unusable


def _cost(trainer: Any, rows: Sequence[Row], folder: Path) -> dict[str, Any]:
    """Steps, tokens, loss and memory of a training on fixed rows."""
    epochs = float(trainer.state.epoch or 0.0)
    return {
        "steps": trainer.state.global_step,
        "epochs": epochs,
        "examples": len(rows),
        "tokens": int(epochs * sum(len(row.input_ids) for row in rows)),
        "loss_tokens": int(epochs * sum(label != IGNORE for row in rows for label in row.labels)),
        "train_loss": next((line["loss"] for line in reversed(read_metrics(folder)) if "loss" in line), None),
        "peak_memory_gib": _peak_memory_gib(),
    }


def _distance(trainer: Any, student: StudentSettings, material: Material, tokenizer: Any, method: Training) -> dict[str, Any]:
    """Perplexity on held-out traces, and how far the student is from its teacher there, when it has one in memory."""
    rows, _ = tokenise_all(material.held_out, tokenizer, plain=material.plain, max_length=student.max_length)
    if not rows or not trainer.is_world_process_zero():
        return {}
    found = held_out(trainer.model, rows, teacher=method.teacher_model(), vocabulary=len(tokenizer))
    return {"perplexity": found.perplexity, "teacher_kl": found.kl}


class Training:
    """What a method adds to supervised fine-tuning; this one adds nothing."""

    def rows(self, rows: list[Row], tokenizer: Any) -> tuple[list[Row], dict[str, int]]:
        """The rows to train on, and how many cannot be used, by reason."""
        return rows, {}

    def prepare(self, model: Any, tokenizer: Any) -> None:
        """Load what the training needs besides the student, and add what is trained beside it. Raises ConfigError or StageError."""

    def trainer(self, rows: Sequence[Row], held_out: Sequence[Row], checkpoint: Path | None, **arguments: Any) -> SortedTrainer:
        """The trainer; `arguments` are SFTTrainer's."""
        return SortedTrainer(**arguments)

    def teacher_model(self) -> Any:
        """The teacher in memory, if there is one."""
        return None

    def figures(self, trainer: Any) -> dict[str, Any]:
        """Fields of TrainingFigures that the method knows, or knows better."""
        return {}

    def strip(self, model: Any) -> None:
        """Take off a model, or a copy of it, what is no part of the finished student."""


def _rows(student: StudentSettings, material: Material, tokenizer: Any) -> tuple[list[Row], list[Row], dict[str, int]]:
    """Rows to train on, rows to validate on, and how many of the former were dropped, by reason."""
    how: dict[str, Any] = {"plain": material.plain, "max_length": student.max_length}
    rows, dropped = tokenise_all(_of(material.examples, "train"), tokenizer, **how)
    validation, _ = tokenise_all(_of(material.examples, "validation"), tokenizer, **how)
    if not rows:
        raise StageError(f"{student.name}: every example is longer than max_length = {student.max_length}; raise it.")
    return rows, validation, dropped


def _save(model: Any, student: StudentSettings, tokenizer: Any, folder: Path) -> tuple[int, int]:
    """Write `folder/model`, and the adapter beside it under LoRA; return how many parameters there are and how many were trained."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if student.lora is not None:
        model.save_pretrained(folder / "adapter")
    model = _save_merged(model, student, tokenizer, folder / "model")
    return sum(p.numel() for p in model.parameters()), trained


def _save_merged(model: Any, student: StudentSettings, tokenizer: Any, folder: Path) -> Any:
    """Write the model as it is served, with LoRA's weights merged in; return that model. The one that came in is used up."""
    if student.lora is not None:
        model = model.merge_and_unload()
    model = model.to(_storage_dtype(student))
    bases.save(model, tokenizer, folder)
    return model


def copy_to_cpu(model: Any, dtype: torch.dtype | None = None) -> Any:
    """A copy of the model on the CPU, floats as `dtype`; the model is not touched, gradients stay behind, a GPU needs no room for it."""

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        wanted = dtype if tensor.is_floating_point() else None
        return tensor.detach().to("cpu", wanted or tensor.dtype, copy=True)

    # What deepcopy finds in its memo it takes for copied: tied weights stay tied, everything else (config, modules) is copied as usual.
    memo: dict[int, Any] = {id(buffer): copied(buffer) for buffer in model.buffers()}
    memo |= {id(p): torch.nn.Parameter(copied(p), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, memo)


class BatchSortedSampler(torch.utils.data.Sampler[int]):
    """A fresh random order each epoch; inside each global batch rows are sorted by length.

    Micro-batches then need little padding, while every optimizer step still sees a uniformly random batch: grouping whole batches by
    length, as Trainer's `group_by_length` does, makes each step see one kind of problem.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order: list[int] = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(order), self.batch):
            yield from sorted(order[start : start + self.batch], key=lambda i: self.lengths[i])


class SortedTrainer(SFTTrainer):
    """SFTTrainer with our sampler. `packing` keeps TRL's own order: its rows are equally long already."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = self.train_dataset if train_dataset is None else train_dataset
        arguments: Any = self.args
        if arguments.packing:
            return super()._get_train_sampler(train_dataset)
        lengths = [len(ids) for ids in data["input_ids"]]
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * self.accelerator.num_processes
        return BatchSortedSampler(lengths, batch, self.args.seed)


class _Snapshots(TrainerCallback):
    """Keeps copies of the weights in `folder/step-N` while a model is trained; the training does not notice.

    After a resume those of another spacing are removed, the later ones are made, and the earlier ones stay.
    """

    def __init__(self, folder: Path, count: int, student: StudentSettings, tokenizer: Any, method: Training) -> None:
        self.folder, self.count, self.student, self.tokenizer, self.method = folder, count, student, tokenizer, method

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.count == 0 or not state.is_world_process_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        planned = {f"step-{step}" for step in snapshot_steps(state.max_steps, self.count)}
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in planned:
                shutil.rmtree(path)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: torch.nn.Module | None = None, **_: Any
    ) -> None:
        if state.is_world_process_zero and state.global_step in snapshot_steps(state.max_steps, self.count):
            # Under LoRA the sum of base and adapter is made first and rounded after, as for the finished model.
            copied = copy_to_cpu(model, None if self.student.lora is not None else _storage_dtype(self.student))
            self.method.strip(copied)
            _save_merged(copied, self.student, self.tokenizer, self.folder / f"step-{state.global_step}")
            log.info("step %d/%d · weights kept", state.global_step, state.max_steps)


def snapshot_steps(steps: int, count: int) -> list[int]:
    """After which steps weights are kept: `count` evenly spaced points, without the last, which is the finished model.

    >>> snapshot_steps(450, 5)
    [90, 180, 270, 360]
    """
    return sorted({round(steps * i / count) for i in range(1, count)} - {0, steps})


class _Watch(TrainerCallback):
    """Writes metrics lines, reports progress, and stops after a saved checkpoint when asked to."""

    def __init__(self, folder: Path, stop: StopSignal | None, started: float) -> None:
        self.folder, self.stop, self.started = folder, stop, started
        earlier = [line["seconds"] for line in read_metrics(folder) if "seconds" in line]
        self.before = max(earlier, default=0.0)

    def seconds(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        return self.before + time.monotonic() - self.started

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        logs = logs or {}
        if "loss" in logs:
            values: dict[str, Any] = {
                "loss": logs["loss"],
                "learning_rate": logs["learning_rate"],
                "accuracy": logs.get("mean_token_accuracy"),
            }
            values |= {name: logs[name] for name in ROLLOUT_FACTS if name in logs}
            left = self.seconds() / max(1, state.global_step) * (state.max_steps - state.global_step)
            wrote = f" · {logs['rollout_tokens']:,} tokens by the student" if logs.get("rollout_tokens") else ""
            wrote += f", {100 * logs['rollouts_correct']:.0f} % right" if "rollouts_correct" in logs else ""
            log.info("step %d/%d · loss %.4f%s · %.0f s left", state.global_step, state.max_steps, logs["loss"], wrote, left)
        elif "eval_loss" in logs:
            values = {"validation_loss": logs["eval_loss"]}
        else:
            return
        append_metrics(self.folder, step=state.global_step, tokens=logs.get("num_tokens"), seconds=round(self.seconds(), 2), **values)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.stop is not None and self.stop.requested:
            control.should_save = True
            control.should_training_stop = True


def _arguments(student: StudentSettings, output: Path, settings: TrainSettings, max_steps: int | None, validates: bool) -> SFTConfig:
    micro, accumulation = split_batch(student.batch_size, settings.micro_batch_size, _world_size())
    steps = max_steps or student.max_steps
    schedules = {"cosine": "cosine_with_min_lr", "linear": "linear", "constant": "constant_with_warmup"}
    kwargs = {"min_lr_rate": student.min_lr_ratio} if student.schedule == "cosine" else {}
    arguments = SFTConfig(
        output_dir=str(output),
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=student.epochs,
        max_steps=steps or -1,
        learning_rate=student.learning_rate,
        lr_scheduler_type=schedules[student.schedule],
        lr_scheduler_kwargs=kwargs,
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
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        logging_steps=0.01,  # a share of all steps
        save_steps=student.save_every,
        save_total_limit=2,
        eval_strategy="steps" if validates and student.evaluate_every else "no",
        eval_steps=student.evaluate_every,
        report_to=list(student.report_to) or "none",
        run_name=student.name,
        disable_tqdm=True,
        seed=student.seed,
        data_seed=student.seed,
        # Our rows are tokenised, checked and short enough; TRL's passes over them would only cost minutes. Packing needs them.
        dataset_kwargs={"skip_prepare_dataset": not student.packing},
    )
    if _world_size() == 1 and torch.cuda.device_count() > 1:
        arguments._n_gpu = 1  # pyright: ignore[reportPrivateUsage] - else Trainer wraps DataParallel and multiplies the batch
    return arguments


def split_batch(batch: int, micro: int, world: int) -> tuple[int, int]:
    """Micro-batch and accumulation steps whose product over all devices is exactly `batch`.

    Raises StageError when the batch cannot be dealt evenly to that many devices.
    """
    if batch % world:
        raise StageError(f"batch_size = {batch} cannot be dealt evenly to {world} processes; make it a multiple of {world}.")
    per_device = batch // world
    size = max(d for d in range(1, min(micro, per_device) + 1) if per_device % d == 0)
    return size, per_device // size


def bf16_is_fast() -> bool:
    """True on GPUs that have bfloat16 and on CPUs with AMX or AVX512-BF16; elsewhere it is emulated, 20 to 50 times slower than float32."""
    return torch.cuda.is_bf16_supported() if torch.cuda.is_available() else has_cpu_bf16()


def _storage_dtype(student: StudentSettings) -> torch.dtype:
    return torch.bfloat16 if student.bf16 else torch.float32


def _optimizer(student: StudentSettings, model: torch.nn.Module) -> Any:
    """Muon when asked for; None leaves AdamW to Trainer."""
    if student.optimizer == "adamw":
        return None
    if student.lora is not None:
        raise StageError(f"{student.name}: optimizer = 'muon' is for full training; LoRA uses adamw.")
    betas = (0.9, student.adam_beta2)
    return Muon(model.named_parameters(), lr=student.learning_rate, betas=betas, weight_decay=student.weight_decay)


def _lora(student: StudentSettings) -> Any:
    if student.lora is None:
        return None
    from peft import LoraConfig

    lora = student.lora
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    return LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM")


def _dataset(rows: Sequence[Row]) -> datasets.Dataset:
    columns = {"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]}
    return datasets.Dataset.from_dict(columns | {"row": list(range(len(rows)))})


def _of(examples: Sequence[Example], split: Split) -> Iterator[Example]:
    return (example for example in examples if example.split == split)


def _check_context(student: StudentSettings, model: Any, rows: Sequence[Row]) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    longest = max(len(row.input_ids) for row in rows)
    if limit is not None and longest > limit:
        raise StageError(
            f"{student.name}: a row has {longest} tokens, the model's context is {limit}. Lower max_length, or raise "
            "max_position_embeddings (and rope_theta)."
        )


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; torn ones are removed. trainer_state.json is written last, so a readable one means whole."""
    checkpoints = folder / "checkpoints"
    for path in checkpoints.glob("checkpoint-*"):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)
    found = get_last_checkpoint(str(checkpoints)) if checkpoints.exists() else None
    return Path(found) if found else None


def _forget_after(folder: Path, checkpoint: Path | None) -> None:
    """Drop metrics lines and snapshots of steps that will be done again: a curve never doubles back and shows one training only."""
    step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    kept = [line for line in read_metrics(folder) if line["step"] <= step]
    if (folder / "metrics.jsonl").exists():
        write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))
    for path in (folder / SNAPSHOTS).glob("step-*"):
        if not (number := path.name.removeprefix("step-")).isdigit() or int(number) > step:  # no digits: torn by a kill
            shutil.rmtree(path)


def _validate(trainer: SFTTrainer, folder: Path) -> float:
    loss = float(trainer.evaluate()["eval_loss"])
    log.info("validation loss %.4f", loss)
    return loss


def _peak_memory_gib() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _quiet(settings: TrainSettings) -> None:
    """No telemetry, no tokenizer fork warnings, no progress bars in logs, and as many threads as the cluster file says."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    datasets.disable_progress_bars()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
