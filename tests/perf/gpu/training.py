"""Throughput of training at the shape of Qwen2-1.5B with random weights: our trainers beside TRL's
on the same rows.

Fine-tuning: `trl` is SFTTrainer with the settings one would write, `ours` what a student of ours is
trained with; both packed (documents in one row, kept apart by position_ids) and padded (a batch of
documents; they are equally long, so nothing is padding). Distillation: forward KL from a live
teacher in our trainer, with our loss, TRL's chunked one and GKDTrainer's dense one. (TRL's
DistillationTrainer writes its own texts at each step, so the whole trainer cannot be put beside
ours on fixed rows.)

Model FLOP utilisation as in PaLM (Chowdhery et al. 2022, appendix B): 6·N +
12·layers·width·document length per token, without what checkpointing computes again; attention
between documents is no use and does not count. A teacher adds a third of the same.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from device import Device, attempt, said, shown
from device import Row as Figures
from transformers import PrinterCallback, Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from transformers.trainer_utils import SaveStrategy
from transformers.utils import logging as transformers_logging
from trl import SFTConfig, SFTTrainer

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.methods import Method
from reasondistill.methods.kd import Kd, KdSettings
from reasondistill.methods.step import Micro
from reasondistill.stages.students import bases
from reasondistill.stages.students.distilling.teacher import Teacher
from reasondistill.stages.students.distilling.trainer import DistillTrainer
from reasondistill.stages.students.rows import RowStore
from reasondistill.stages.students.sorted_trainer import SortedTrainer
from reasondistill.stages.students.tokens import Row
from reasondistill.stages.students.trainer_settings import trainer_settings

QWEN_1_5B = Qwen2Config(
    vocab_size=151_936,
    hidden_size=1_536,
    intermediate_size=8_960,
    num_hidden_layers=28,
    num_attention_heads=12,
    num_key_value_heads=2,
    max_position_embeddings=32_768,
    tie_word_embeddings=True,
)
QWEN_7B = Qwen2Config(
    vocab_size=152_064,
    hidden_size=3_584,
    intermediate_size=18_944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    max_position_embeddings=32_768,
    tie_word_embeddings=False,
)
NANO = Qwen2Config(
    vocab_size=512,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=256,
    initializer_range=0.2,  # else all models say the same
    tie_word_embeddings=True,
)
# A 7B teacher in bf16 is 15 GB beside the student's 25 GB of weights, gradients and Adam, and its
# activations.
ROOM_FOR_7B_GIB = 70
LEARNING_RATE = 1e-5


@dataclass(frozen=True)
class Sizes:
    """`row_tokens` are the tokens of an optimizer step, in documents of `document` tokens."""

    student: Qwen2Config
    teacher: Qwen2Config
    row_tokens: tuple[int, ...]
    document: int
    warm_up: int
    steps: int


@dataclass(frozen=True)
class Cell:
    """One measurement. `way` says whose, `form` packed, padded or kd."""

    way: str
    form: str
    tokens: int
    checkpointing: bool
    dtype: torch.dtype = torch.float32
    attention: str = "sdpa"


def sizes_of(device: Device) -> Sizes:
    if not device.is_gpu:
        return Sizes(NANO, NANO, (32,), 16, warm_up=1, steps=2)
    teacher = QWEN_7B if (device.memory_gib or 0) >= ROOM_FOR_7B_GIB else QWEN_1_5B
    return Sizes(QWEN_1_5B, teacher, (4_096, 8_192, 16_384), 2_048, warm_up=3, steps=8)


def cells(sizes: Sizes, parts: set[str], attention: str) -> Iterator[Cell]:
    """TRL before ours, so that ours can be put in relation at once."""
    for tokens in sizes.row_tokens:
        for checkpointing in (True, False) if "sft" in parts else ():
            for form in ("packed", "padded"):
                yield Cell("trl", form, tokens, checkpointing, attention=attention)
                yield Cell("ours", form, tokens, checkpointing, attention=attention)
            yield Cell("ours", "packed", tokens, checkpointing, torch.bfloat16, attention)
        for way in ("trl_chunked", "trl_gkd", "ours") if "kd" in parts else ():
            yield Cell(way, "kd", tokens, checkpointing=True, attention=attention)


# -- models, rows, trainers


def make_model(
    config: Qwen2Config, dtype: torch.dtype, attention: str, device: Device, *, seed: int
) -> Any:
    with device.torch:  # 1.5B random numbers are quick there
        model: Any = Qwen2ForCausalLM._from_config(
            config, dtype=dtype, attn_implementation=attention
        )
    # Again, seeded: the first model of a process draws otherwise than the later ones do.
    torch.manual_seed(seed)
    for matrix in (p for p in model.parameters() if p.ndim > 1):
        torch.nn.init.normal_(matrix, std=config.initializer_range)
    return model.to(device.torch)


def make_rows(cell: Cell, sizes: Sizes) -> list[Row]:
    """Random documents, as many as the steps want; all their tokens are trained on."""
    generator = torch.Generator().manual_seed(0)
    count = (sizes.warm_up + sizes.steps) * cell.tokens // sizes.document
    ids = torch.randint(
        sizes.student.vocab_size, (count, sizes.document), generator=generator
    ).tolist()
    return [Row(row, row) for row in ids]


def our_arguments(cell: Cell, sizes: Sizes, folder: Path) -> SFTConfig:
    """What a student file with these settings trains with; checkpoints on disk are left out."""
    documents = 1 if cell.form == "packed" else cell.tokens // sizes.document
    student = StudentSettings(
        name="bench",
        base="random",
        max_length=cell.tokens if cell.form == "packed" else max(16, sizes.document),
        batch_size=documents,
        packing=cell.form == "packed",
        learning_rate=LEARNING_RATE,
        max_steps=sizes.warm_up + sizes.steps,
    )
    settings = TrainSettings(micro_batch_size=documents, gradient_checkpointing=cell.checkpointing)
    arguments = trainer_settings(student, folder, settings, False)
    arguments.save_strategy = SaveStrategy.NO
    arguments.logging_steps = 1
    return arguments


def trl_arguments(cell: Cell, sizes: Sizes, folder: Path, *, bf16: bool) -> SFTConfig:
    packed = cell.form == "packed"
    arguments = SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=1 if packed else cell.tokens // sizes.document,
        max_steps=sizes.warm_up + sizes.steps,
        learning_rate=LEARNING_RATE,
        max_length=cell.tokens if packed else sizes.document,
        packing=packed,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=cell.checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if cell.checkpointing else None,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        seed=0,
        data_seed=0,
    )
    if torch.cuda.device_count() > 1:
        arguments._n_gpu = 1  # else Trainer wraps DataParallel, which TRL refuses
    return arguments


ONLY_TEACHER = KdSettings(alpha=1.0, temperature=1.0)


class TrlMethod(Method[KdSettings]):
    """Forward KL with a loss of TRL's, in our trainer; in `bf16` under autocast, as TRL's trainers
    compute it.
    """

    def __init__(self, way: str, *, bf16: bool) -> None:
        super().__init__(ONLY_TEACHER, seed=0)
        self.way, self.bf16 = way, bf16

    def loss(self, micro: Micro) -> torch.Tensor:
        with torch.autocast(micro.hidden.device.type, torch.bfloat16, enabled=self.bf16):
            return self._loss(micro)

    def _loss(self, micro: Micro) -> torch.Tensor:
        weight, told = micro.head.weight[: micro.vocabulary], micro.teacher
        head = told.head.weight[: micro.vocabulary]
        if self.way == "trl_gkd":
            from trl.experimental.gkd import GKDTrainer

            logits, teacher_logits = micro.hidden @ weight.T, told.hidden @ head.T
            return (
                GKDTrainer.generalized_jsd_loss(logits, teacher_logits, beta=0.0, reduction="sum")
                * micro.scale
            )
        from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

        divergence, _ = ChunkedDivergenceFunction.apply(
            micro.hidden, weight, None, told.hidden, head, None, 0.0
        )
        return (divergence * micro.weights).sum()


def make_trainer(
    cell: Cell,
    sizes: Sizes,
    device: Device,
    folder: Path,
    model: Any,
    teacher: Any,
    watch: TrainerCallback,
) -> Any:
    rows, tokenizer = make_rows(cell, sizes), bases.train_tokenizer(["a b"], 300)
    arguments = our_arguments(cell, sizes, folder)
    if cell.way == "trl":
        arguments = trl_arguments(cell, sizes, folder, bf16=arguments.bf16)
    shared: dict[str, Any] = {
        "model": model,
        "args": arguments,
        "train_dataset": RowStore(folder).keep("rows", lambda: rows).dataset(),
        "processing_class": tokenizer,
        "callbacks": [watch],
    }
    if cell.form != "kd":
        return SFTTrainer(**shared) if cell.way == "trl" else SortedTrainer(**shared)
    arguments.remove_unused_columns = False
    method: Method[Any] = TrlMethod(cell.way, bf16=arguments.bf16)
    if cell.way == "ours":
        method = Kd(ONLY_TEACHER, seed=0)
    return DistillTrainer(
        method=method,
        rows=rows,
        held_out=[],
        teacher=Teacher(teacher),
        writers=_no_writers,
        vocabulary=sizes.student.vocab_size,
        max_length=cell.tokens,
        grade=None,
        flat=True,
        **shared,
    )


def _no_writers(trainer: DistillTrainer) -> Any:
    raise AssertionError("these methods train on fixed texts alone")


# -- measuring


class Stopwatch(TrainerCallback):
    """When each step was over, and the memory from the first on."""

    def __init__(self, device: Device) -> None:
        self.device, self.ends, self.held_gib = device, list[float](), 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.held_gib = self.device.watch_memory()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.device.wait()
        self.ends.append(time.perf_counter())

    def median(self, warm_up: int) -> float:
        """Seconds of a step, its data and logging included."""
        return statistics.median(
            end - start
            for start, end in zip(self.ends[warm_up - 1 :], self.ends[warm_up:], strict=False)
        )


def flops_per_token(config: Qwen2Config, parameters: int, document: int) -> float:
    """Of forward and backward; an embedding that is only looked up is no product."""
    looked_up = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    return (
        6 * (parameters - looked_up) + 12 * config.num_hidden_layers * config.hidden_size * document
    )


def measure(cell: Cell, sizes: Sizes, device: Device) -> Figures:
    """Train for a few steps: tokens per second, share of the peak, memory, and the loss of the
    first step.
    """
    watch = Stopwatch(device)
    model = make_model(sizes.student, cell.dtype, cell.attention, device, seed=0)
    flops = flops_per_token(sizes.student, model.num_parameters(), sizes.document)
    teacher = None
    if cell.form == "kd":
        dtype = torch.bfloat16 if device.is_gpu else torch.float32
        teacher = make_model(sizes.teacher, dtype, cell.attention, device, seed=1)
        flops += flops_per_token(sizes.teacher, teacher.num_parameters(), sizes.document) / 3
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(cell, sizes, device, Path(folder), model, teacher, watch)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    seconds = watch.median(sizes.warm_up)
    tflops = flops * cell.tokens / seconds / 1e12
    return {
        "seconds": seconds,
        "tokens_per_s": cell.tokens / seconds,
        "tflops": tflops,
        "mfu": None if device.peak_tflops is None else tflops / device.peak_tflops,
        "peak_gib": device.peak_gib(),
        "held_at_start_gib": watch.held_gib,
        "first_loss": next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry),
    }


def bench(
    device: Device, parts: set[str], tokens: tuple[int, ...] = (), attention: str = "sdpa"
) -> Iterator[Figures]:
    """One row for each cell, printed as it comes."""
    datasets.disable_progress_bars()
    transformers_logging.set_verbosity_error()
    sizes = sizes_of(device)
    sizes = replace(sizes, row_tokens=tokens or sizes.row_tokens)
    if uneven := [count for count in sizes.row_tokens if count % sizes.document]:
        raise SystemExit(
            f"--tokens {uneven[0]}: training wants multiples of {sizes.document}, the "
            "tokens of a document"
        )
    print(
        f"\nTraining: {_name(sizes.student)}, random weights, documents of "
        f"{sizes.document} tokens, {attention} attention · {device.title}"
    )
    if "kd" in parts:
        print(f"Teacher of kd: {_name(sizes.teacher)}")
    print(
        f"{'form':6} {'way':12} {'weights':8} {'tokens':>6} {'ckpt':4} {'tokens/s':>9} "
        f"{'MFU':>6} {'peak GiB':>8} {'to TRL':>6} {'loss':>7}"
    )
    speeds: dict[tuple[str, int, bool], float] = {}
    for cell in cells(sizes, parts, attention):
        row = _described(cell) | attempt(partial(measure, cell, sizes, device), device)
        place = (cell.form, cell.tokens, cell.checkpointing)
        if cell.way in ("trl", "trl_chunked") and row["failed"] is None:
            speeds[place] = row["tokens_per_s"]
        elif row["failed"] is None and place in speeds and cell.dtype == torch.float32:
            row["speed_to_trl"] = row["tokens_per_s"] / speeds[place]
        print(line(row, device), flush=True)
        yield row


def _described(cell: Cell) -> Figures:
    return {
        "form": cell.form,
        "way": cell.way,
        "weights": str(cell.dtype).removeprefix("torch."),
        "tokens": cell.tokens,
        "checkpointing": cell.checkpointing,
        "attention": cell.attention,
        "failed": None,
    }


def _name(config: Qwen2Config) -> str:
    return (
        f"{config.num_hidden_layers} layers of {config.hidden_size}, vocabulary "
        f"{config.vocab_size:,}"
    )


def line(row: Figures, device: Device) -> str:
    numbers = [
        shown(row.get("tokens_per_s"), ",.0f", 9),
        shown(row.get("mfu"), ".1%", 6),
        shown(row.get("peak_gib"), ".1f", 8),
        shown(row.get("speed_to_trl"), ".2f", 6),
        shown(row.get("first_loss"), ".4f", 7),
    ]
    switch = "on" if row["checkpointing"] else "off"
    about = f"{row['form']:6} {row['way']:12} {row['weights']:8} {row['tokens']:6} {switch:4}"
    return " ".join([about, *numbers, said(row, device)]).rstrip()
