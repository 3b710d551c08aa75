"""Training with TRL's SFTTrainer on our own ids and labels. Imports torch and trl; imported late.

What we add to TRL: rows that are tokenised and checked by us, batches that are random but sorted
inside (little padding, no bias), a global batch that does not depend on the machine or the number
of processes, mixed precision only where it is fast, a stop that saves first, exact resume.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PrinterCallback
from trl import SFTTrainer

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.errors import ConfigError, StageError
from reasondistill.models.context import context_of
from reasondistill.records import TrainingFigures
from reasondistill.runs import layout
from reasondistill.runs.metrics import TrainingLine
from reasondistill.runs.store import ends_at_once, write_records
from reasondistill.stages.students import adapters, bases, processes, reloading, saving
from reasondistill.stages.students.checkpoint_selection import SelectsCheckpoint
from reasondistill.stages.students.distilling.teaching import Teaching
from reasondistill.stages.students.heads import ChecksHeads
from reasondistill.stages.students.held_out import held_out
from reasondistill.stages.students.isolation import ChecksIsolation
from reasondistill.stages.students.job import Trained, TrainingRun
from reasondistill.stages.students.material import Material, TeacherSource
from reasondistill.stages.students.progress import Progress
from reasondistill.stages.students.rows import RowStore, StoredRows, stored_rows
from reasondistill.stages.students.sorted_trainer import SortedTrainer
from reasondistill.stages.students.tokens import Row, tokenise_all
from reasondistill.stages.students.trainer_settings import optimizer_of, trainer_settings
from reasondistill.stages.students.wanting import AtWork, SaysWhatItTakes

log = logging.getLogger(__name__)


def train_with_teacher(
    student: StudentSettings,
    material: Material,
    folder: Path,
    run: TrainingRun,
    teacher: TeacherSource,
) -> Trained:
    """What `train_student` promises, for a method that distils."""
    teaching = Teaching(student, run.settings, teacher, folder)
    try:
        return train(student, material, folder, run, teaching)
    finally:
        teaching.close()


def train(
    student: StudentSettings,
    material: Material,
    folder: Path,
    run: TrainingRun,
    teaching: Teaching | None = None,
) -> Trained:
    """What `train_student` promises; `teaching` is what a method that distils adds."""
    at_work = AtWork(student, run.settings, folder)
    with at_work.telling():
        return _train(student, material, folder, run, teaching, at_work)


def _train(
    student: StudentSettings,
    material: Material,
    folder: Path,
    run: TrainingRun,
    teaching: Teaching | None,
    at_work: AtWork,
) -> Trained:
    started = time.monotonic()
    settings, stop = run.settings, run.stop
    store = RowStore(run.tokens or folder / layout.TOKENS, stop)
    _set_up_libraries(settings)
    with ends_at_once(stop):
        tokenizer = bases.load_tokenizer(student, material.tokenizer_texts)
    rows, validation = stored_rows(student, material, tokenizer, store)
    set_aside = [*rows.set_aside, *validation.set_aside]
    if set_aside:
        processes.on_first(lambda: write_records(folder / layout.SET_ASIDE, set_aside))
    if student.selects_checkpoint and not validation:
        raise ConfigError(
            f"[students] {student.name}: keep = 'best' and early_stopping_patience go by the "
            "validation loss, and no example is for validation. Raise [examples] validation."
        )
    dropped = rows.dropped
    if teaching is not None:
        taught = teaching.rows(rows, tokenizer, store)
        if taught is not rows:
            dropped = dict(Counter(dropped) + Counter(taught.dropped))
            rows = taught
    calibration = tokenise_all(material.calibration, tokenizer, plain=material.plain).rows
    load = partial(load_start, student, tokenizer, calibration)
    named = f"[students] {student.name} base = {student.base!r}"
    log.info("%s: loading %s", student.name, student.base or "nothing: it begins from scratch")
    with ends_at_once(stop):
        model = load()
        processes.on_first(lambda: bases.require_finite(model, named))
    _check_context(student, model, max(rows.longest, validation.longest))
    compared = reloading.compared_ids(rows)
    processes.on_first(lambda: saving.rehearse(model, student, tokenizer, compared, folder))
    if teaching is not None:
        longest = max(teaching.longest_text(rows), validation.longest)
        with ends_at_once(stop):
            teaching.prepare(model, tokenizer, rows, longest)
    at_work.doing = "before its first step"
    at_work.plan_for(model, max(rows.longest, validation.longest), run.snapshots)
    checkpoint = processes.on_first(lambda: saving.start_from(folder))
    progress = Progress(folder, stop, started)
    # Blank rows fill the last batch of an epoch; accelerate would deal rows out twice, to have as
    # many for each process. A method with a teacher wants a text in each row.
    has_blank = processes.world_size() > 1 and not student.packing and teaching is None
    arguments: dict[str, Any] = {
        "model": model,
        "args": trainer_settings(student, folder / layout.CHECKPOINTS, settings, bool(validation)),
        "train_dataset": rows.dataset(with_blank=has_blank),
        "eval_dataset": validation.dataset() if validation else None,
        "processing_class": tokenizer,
        "callbacks": [SaysWhatItTakes(at_work), progress],
        "optimizers": (optimizer_of(student, model), None),
    }
    if teaching is not None:
        trainer = teaching.trainer(rows, validation, checkpoint, **arguments)
    else:
        trainer = SortedTrainer(**arguments)
    trainer.remove_callback(PrinterCallback)  # our own lines are enough
    is_supervised = teaching is None
    trainer.add_callback(ChecksHeads(trainer, named, len(tokenizer), is_supervised=is_supervised))
    trainer.add_callback(
        saving.Snapshots(
            folder / layout.SNAPSHOTS,
            run.snapshots,
            student,
            tokenizer,
            trainer,
            teaching.strip if teaching is not None else None,
            load,
        )
    )
    trainer.patience = student.early_stopping_patience
    trainer.by_sample = student.loss_mean == "sample"
    if student.selects_checkpoint:
        trainer.add_callback(SelectsCheckpoint(student))
    if student.packing:
        beside = None if teaching is None else teaching.teacher_model()
        trainer.add_callback(ChecksIsolation(trainer, rows, student.name, beside))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop is not None and processes.stop_requested(stop):
        stop.check()
    learned: dict[str, Any] = {"validation_loss": None}
    if student.keep == "best":
        learned["delivered_step"] = trainer.take_best()
        progress.deliver(learned["delivered_step"], trainer.state)
    if validation:
        learned["validation_loss"] = _validation_loss(trainer, learned.get("delivered_step"))
    if teaching is not None:
        learned |= teaching.figures(trainer)
    trained = saving.whole_model(trainer, student, load)

    def finish() -> TrainingFigures:
        figures = _cost(trainer, rows, folder) | learned
        with saving.after_training(folder):
            figures |= _distance(trainer, trained, student, material, tokenizer, teaching)
            if teaching is not None:
                teaching.strip(trained)
            parameters, trained_parameters = saving.save_student(
                trained, student, tokenizer, compared, folder
            )
        return TrainingFigures(
            **figures,
            parameters=parameters,
            trained_parameters=trained_parameters,
            seconds=progress.seconds(),
        )

    return Trained(folder / layout.MODEL, processes.on_first(finish), dropped)


def load_start(student: StudentSettings, tokenizer: Any, calibration: Sequence[Row]) -> Any:
    """What is trained: the student before its first step, with its adapter under LoRA."""
    model = bases.load_model(student, tokenizer, calibration)
    if student.lora is None:
        return model
    return adapters.adapted(model, student, tokenizer)


def _check_context(student: StudentSettings, model: Any, longest: int) -> None:
    """Raise StageError where a row is longer than what the model reads."""
    limit = context_of(model.config)
    if limit is not None and longest > limit:
        raise StageError(
            f"{student.name}: a row has {longest} tokens, the model's context is {limit}. "
            "Lower max_length, or raise "
            "max_position_embeddings (and rope_theta)."
        )


def _validation_loss(trainer: SFTTrainer, delivered_step: int | None) -> float:
    """That of the weights in the trainer: where they are those of the last step, which was measured
    as it ended, not once more.
    """
    loss: float | None = None
    if delivered_step is None:
        loss = _measured_at(trainer.state.log_history, trainer.state.global_step)
    if loss is None:
        loss = float(trainer.evaluate()["eval_loss"])
    log.info("validation loss %.4f", loss)
    return loss


def _measured_at(history: Sequence[Mapping[str, Any]], step: int) -> float | None:
    """The validation loss after a step, None where it was not measured there."""
    for line in reversed(history):
        if "eval_loss" in line and line["step"] == step:
            return float(line["eval_loss"])
    return None


def _cost(trainer: Any, rows: StoredRows, folder: Path) -> dict[str, Any]:
    """Steps, tokens, loss and memory of a training on fixed rows."""
    epochs = float(trainer.state.epoch or 0.0)
    losses = [line.loss for line in TrainingLine.of(folder) if line.loss is not None]
    if torch.cuda.is_available():
        peak_memory_gib = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak_memory_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "steps": trainer.state.global_step,
        "epochs": epochs,
        "examples": len(rows),
        "tokens": int(epochs * rows.tokens),
        "loss_tokens": int(epochs * rows.loss_tokens),
        "train_loss": losses[-1] if losses else None,
        "peak_memory_gib": peak_memory_gib,
    }


def _distance(
    trainer: Any,
    model: Any,
    student: StudentSettings,
    material: Material,
    tokenizer: Any,
    teaching: Teaching | None,
) -> dict[str, Any]:
    """Perplexity on held-out traces, and how far the student is from its teacher there, when it has
    one in memory.
    """
    held_out_rows = tokenise_all(
        material.held_out, tokenizer, plain=material.plain, max_length=student.max_length
    ).rows
    if not held_out_rows:
        return {}
    teacher = teaching.teacher_model() if teaching is not None else None
    model = model.to(trainer.args.device)
    shared = teaching.shared_tokens() if teaching is not None else None
    figures = held_out(
        model, held_out_rows, teacher=teacher, vocabulary=len(tokenizer), shared=shared
    )
    return {"perplexity": figures.perplexity, "teacher_kl": figures.kl}


def _set_up_libraries(settings: TrainSettings) -> None:
    """No telemetry, no tokenizer fork warnings, no progress bars in logs, and as many threads as
    the cluster file says.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    datasets.disable_progress_bars()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
