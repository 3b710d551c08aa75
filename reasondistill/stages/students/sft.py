"""Supervised fine-tuning with TRL's SFTTrainer on our own ids and labels. Imports torch and trl;
imported late.

What we add to TRL: rows that are tokenised and checked by us, batches that are random but sorted
inside (little padding, no bias), a global batch that does not depend on the machine or the number
of processes, mixed precision only where it is fast, a stop that saves first, exact resume.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import DistributedType, FullyShardedDataParallelPlugin, PartialState
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.errors import StageError
from reasondistill.models.weights import has_cpu_bf16
from reasondistill.records import Example, Split, TrainingFigures
from reasondistill.runs import layout
from reasondistill.runs.store import StopSignal, append_metrics, read_metrics, write_records
from reasondistill.stages.students import SNAPSHOTS, bases, processes, saving
from reasondistill.stages.students.held_out import held_out
from reasondistill.stages.students.optimizers import Muon
from reasondistill.stages.students.tokens import IGNORE, Row, tokenise_all

log = logging.getLogger(__name__)

# What a training tells, besides its loss, when the student writes texts of its own.
ROLLOUT_FACTS = ("rollout_tokens", "rollouts_correct")
# The number of a row that fills a batch.
BLANK = -1


@dataclass(frozen=True)
class Material:
    """What a student learns from and is measured on: `examples` to train and validate on, and
    `texts`, all of them, for a tokenizer.

    `plain` says how prompts are rendered. `calibration` is what a student that is cut out of its
    base is measured on before, `held_out` what its perplexity is of.
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
    """Fine-tune and write `folder/model`; return the figures and how many rows were dropped, by
    reason.

    Of `snapshots` evenly spaced weights all but the last, which is the model itself, are kept in
    `folder/snapshots`. `method` is what trains in place of plain cross-entropy. Resumes from the
    last checkpoint in `folder/checkpoints`. Raises Interrupted after a requested stop, with a
    checkpoint saved. Several processes call it with the same folder, where the first one writes;
    all of them get the figures.
    """
    _quiet(settings)
    started, method = time.monotonic(), method or Training()
    tokenizer = bases.load_tokenizer(student, material.texts)
    rows, validation, dropped = _rows(student, material, tokenizer, folder)
    rows, unusable = method.rows(rows, tokenizer)
    calibration = tokenise_all(material.calibration, tokenizer, plain=material.plain).rows
    model = bases.load_model(student, tokenizer, calibration)
    _check_context(student, model, rows)
    method.prepare(model, tokenizer)
    checkpoint = processes.on_first(lambda: saving.start_from(folder))
    watch = _Watch(folder, stop, started)
    trainer = method.trainer(
        rows,
        validation,
        checkpoint,
        model=model,
        args=_arguments(
            student, folder / layout.CHECKPOINTS, settings, max_steps, bool(validation)
        ),
        train_dataset=_dataset(rows, with_blank=_fills_batches(student, method)),
        eval_dataset=_dataset(validation) if validation else None,
        processing_class=tokenizer,
        peft_config=saving.lora(student),
        callbacks=[watch],
        optimizers=(_optimizer(student, model), None),
    )
    trainer.remove_callback(PrinterCallback)  # our own lines are enough
    load = partial(bases.load_model, student, tokenizer, calibration)
    trainer.add_callback(
        saving.Snapshots(
            folder / SNAPSHOTS, snapshots, student, tokenizer, trainer, method.strip, load
        )
    )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop is not None and processes.stop_requested(stop):
        stop.check()
    learned: dict[str, Any] = {
        "validation_loss": _validate(trainer) if validation else None
    } | method.figures(trainer)
    trained = saving.whole_model(trainer, student, load)

    def finish() -> TrainingFigures:
        figures = (
            _cost(trainer, rows, folder)
            | learned
            | _distance(trainer, trained, student, material, tokenizer, method)
        )
        method.strip(trained)
        parameters, trained_parameters = saving.save_student(trained, student, tokenizer, folder)
        return TrainingFigures(
            **figures,
            parameters=parameters,
            trained_parameters=trained_parameters,
            seconds=watch.seconds(),
        )

    return processes.on_first(finish), dropped | unusable


def _cost(trainer: Any, rows: Sequence[Row], folder: Path) -> dict[str, Any]:
    """Steps, tokens, loss and memory of a training on fixed rows."""
    epochs = float(trainer.state.epoch or 0.0)
    return {
        "steps": trainer.state.global_step,
        "epochs": epochs,
        "examples": len(rows),
        "tokens": int(epochs * sum(len(row.input_ids) for row in rows)),
        "loss_tokens": int(epochs * sum(label != IGNORE for row in rows for label in row.labels)),
        "train_loss": next(
            (line["loss"] for line in reversed(read_metrics(folder)) if "loss" in line), None
        ),
        "peak_memory_gib": _peak_memory_gib(),
    }


def _distance(
    trainer: Any,
    model: Any,
    student: StudentSettings,
    material: Material,
    tokenizer: Any,
    method: Training,
) -> dict[str, Any]:
    """Perplexity on held-out traces, and how far the student is from its teacher there, when it has
    one in memory.
    """
    rows = tokenise_all(
        material.held_out, tokenizer, plain=material.plain, max_length=student.max_length
    ).rows
    if not rows:
        return {}
    found = held_out(
        model.to(trainer.args.device),
        rows,
        teacher=method.teacher_model(),
        vocabulary=len(tokenizer),
    )
    return {"perplexity": found.perplexity, "teacher_kl": found.kl}


class Training:
    """What a method adds to supervised fine-tuning; this one adds nothing.

    `knows_blank_rows` says that a row without labels does it no harm.
    """

    knows_blank_rows = True

    def rows(self, rows: list[Row], tokenizer: Any) -> tuple[list[Row], dict[str, int]]:
        """The rows to train on, and how many cannot be used, by reason."""
        return rows, {}

    def prepare(self, model: Any, tokenizer: Any) -> None:
        """Load what the training needs besides the student, and add what is trained beside it.
        Raises ConfigError or StageError.
        """

    def trainer(
        self,
        rows: Sequence[Row],
        held_out: Sequence[Row],
        checkpoint: Path | None,
        **arguments: Any,
    ) -> SortedTrainer:
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


def _rows(
    student: StudentSettings, material: Material, tokenizer: Any, folder: Path
) -> tuple[list[Row], list[Row], dict[str, int]]:
    """Rows to train on, rows to validate on, and how many of the former were dropped, by reason.

    What was dropped of either is listed in `folder`.
    """
    how: dict[str, Any] = {"plain": material.plain, "max_length": student.max_length}
    training = tokenise_all(_of(material.examples, "train"), tokenizer, **how)
    validation = tokenise_all(_of(material.examples, "validation"), tokenizer, **how)
    set_aside = training.set_aside + validation.set_aside
    if set_aside:
        processes.on_first(lambda: write_records(folder / layout.SET_ASIDE, set_aside))
    if not training.rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in training.dropped.items())
        raise StageError(
            f"{student.name}: no example can be trained on ({reasons}; max_length = "
            f"{student.max_length})."
        )
    return training.rows, validation.rows, training.dropped


class BatchSortedSampler(torch.utils.data.Sampler[int]):
    """A fresh random order each epoch; inside each global batch rows are sorted by length.

    Micro-batches then need little padding, while every optimizer step still sees a uniformly random
    batch: grouping whole batches by length, as Trainer's `group_by_length` does, makes each step
    see one kind of problem. With `fill` an epoch ends with so many blank rows (number
    `len(lengths)`) that it is a multiple of it.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, *, fill: int = 1) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0
        self.blanks = -len(lengths) % fill

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) + self.blanks

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order: list[int] = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(order), self.batch):
            yield from sorted(order[start : start + self.batch], key=lambda i: self.lengths[i])
        yield from [len(self.lengths)] * self.blanks


class SortedTrainer(SFTTrainer):
    """SFTTrainer with our sampler. `packing` keeps TRL's own order: its rows are equally long
    already.
    """

    def create_accelerator_and_postprocess(self) -> None:
        """As Trainer does it; on a CPU, where accelerate would quietly copy the model instead, FSDP
        is turned on as well.
        """
        super().create_accelerator_and_postprocess()
        state: Any = self.accelerator.state
        if processes.sharding() == "fsdp" and state.distributed_type == DistributedType.MULTI_CPU:
            state.fsdp_plugin = FullyShardedDataParallelPlugin()
            if state.mixed_precision != "no":
                state.fsdp_plugin.set_mixed_precision(state.mixed_precision)
            state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
            self.is_fsdp_enabled = True

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = self.train_dataset if train_dataset is None else train_dataset
        arguments: Any = self.args
        if arguments.packing:
            return super()._get_train_sampler(train_dataset)
        lengths, micro, world = (
            [len(ids) for ids in data["input_ids"]],
            arguments.per_device_train_batch_size,
            processes.world_size(),
        )
        whole: Any = self.train_dataset  # with the columns that no model reads
        has_blank = whole["row"][-1] == BLANK
        sampler = BatchSortedSampler(
            lengths[:-1] if has_blank else lengths,
            micro * arguments.gradient_accumulation_steps * world,
            arguments.seed,
            fill=micro * world if has_blank else 1,
        )
        self.add_callback(_Epochs(sampler))
        return sampler

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()  # what comes after says that the checkpoint is whole


class _Epochs(TrainerCallback):
    """Tells the sampler each epoch; accelerate does not reach it where several processes go on from
    the middle of one.
    """

    def __init__(self, sampler: BatchSortedSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.sampler.set_epoch(int(state.epoch or 0))


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
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        logs = logs or {}
        if not state.is_world_process_zero:
            return
        if "loss" in logs:
            values: dict[str, Any] = {
                # kept in a checkpoint; TRL's own count begins anew after it
                "tokens": state.num_input_tokens_seen,
                "loss": logs["loss"],
                "learning_rate": logs["learning_rate"],
                "accuracy": logs.get("mean_token_accuracy"),
            }
            values |= {name: logs[name] for name in ROLLOUT_FACTS if name in logs}
            left = (
                self.seconds() / max(1, state.global_step) * (state.max_steps - state.global_step)
            )
            wrote = (
                f" · {logs['rollout_tokens']:,} tokens by the student"
                if logs.get("rollout_tokens")
                else ""
            )
            wrote += (
                f", {100 * logs['rollouts_correct']:.0f} % right"
                if "rollouts_correct" in logs
                else ""
            )
            log.info(
                "step %d/%d · loss %.4f%s · %.0f s left",
                state.global_step,
                state.max_steps,
                logs["loss"],
                wrote,
                left,
            )
        elif "eval_loss" in logs:
            values = {"tokens": None, "validation_loss": logs["eval_loss"]}
        else:
            return
        append_metrics(
            self.folder, step=state.global_step, seconds=round(self.seconds(), 2), **values
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if processes.stop_requested(self.stop):
            control.should_save = True
            control.should_training_stop = True


def _arguments(
    student: StudentSettings,
    output: Path,
    settings: TrainSettings,
    max_steps: int | None,
    validates: bool,
) -> SFTConfig:
    micro, accumulation = split_batch(
        student.batch_size, settings.micro_batch_size, processes.world_size()
    )
    steps = max_steps or student.max_steps
    schedules = {
        "cosine": "cosine_with_min_lr",
        "linear": "linear",
        "constant": "constant_with_warmup",
    }
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
        gradient_checkpointing_kwargs={"use_reentrant": False}
        if settings.gradient_checkpointing
        else None,
        logging_steps=0.01,  # a share of all steps
        include_num_input_tokens_seen="all"
        if student.packing
        else "non_padding",  # packed rows have no padding, and no mask
        save_steps=student.save_every,
        save_total_limit=2,
        eval_strategy="steps" if validates and student.evaluate_every else "no",
        eval_steps=student.evaluate_every,
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
        arguments._n_gpu = 1  # pyright: ignore[reportPrivateUsage] - else Trainer wraps DataParallel and multiplies the batch
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
    size = max(d for d in range(1, min(micro, per_device) + 1) if per_device % d == 0)
    return size, per_device // size


def bf16_is_fast() -> bool:
    """True on GPUs that have bfloat16 and on CPUs with AMX or AVX512-BF16; elsewhere it is
    emulated, 20 to 50 times slower than float32.
    """
    return torch.cuda.is_bf16_supported() if torch.cuda.is_available() else has_cpu_bf16()


def _optimizer(student: StudentSettings, model: torch.nn.Module) -> Any:
    """Muon when asked for; None leaves AdamW to Trainer."""
    if student.optimizer == "adamw":
        return None
    if student.lora is not None:
        raise StageError(
            f"{student.name}: optimizer = 'muon' is for full training; LoRA uses adamw."
        )
    betas = (0.9, student.adam_beta2)
    return Muon(
        model.named_parameters(),
        lr=student.learning_rate,
        betas=betas,
        weight_decay=student.weight_decay,
    )


def _fills_batches(student: StudentSettings, method: Training) -> bool:
    """Whether blank rows fill the last batch of an epoch; accelerate would deal rows out twice, to
    have as many for each process.
    """
    return processes.world_size() > 1 and not student.packing and method.knows_blank_rows


def _dataset(rows: Sequence[Row], *, with_blank: bool = False) -> datasets.Dataset:
    """The rows by number, and after them perhaps one that has no labels."""
    columns: dict[str, list[Any]] = {
        "input_ids": [row.input_ids for row in rows],
        "labels": [row.labels for row in rows],
    }
    columns["row"] = list(range(len(rows)))
    if with_blank:
        for name, value in {"input_ids": [0, 0], "labels": [IGNORE, IGNORE], "row": BLANK}.items():
            columns[name].append(value)
    return datasets.Dataset.from_dict(columns)


def _of(examples: Sequence[Example], split: Split) -> Iterator[Example]:
    return (example for example in examples if example.split == split)


def _check_context(student: StudentSettings, model: Any, rows: Sequence[Row]) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    longest = max(len(row.input_ids) for row in rows)
    if limit is not None and longest > limit:
        raise StageError(
            f"{student.name}: a row has {longest} tokens, the model's context is {limit}. "
            "Lower max_length, or raise "
            "max_position_embeddings (and rope_theta)."
        )


def _validate(trainer: SFTTrainer) -> float:
    loss = float(trainer.evaluate()["eval_loss"])
    log.info("validation loss %.4f", loss)
    return loss


def _peak_memory_gib() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _quiet(settings: TrainSettings) -> None:
    """No telemetry, no tokenizer fork warnings, no progress bars in logs, and as many threads as
    the cluster file says.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    datasets.disable_progress_bars()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
