"""SFTTrainer with a teacher: texts are chosen per step, the loss is a method's, the head is applied
in chunks. Imported late.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reasondistill.config import Rollouts
from reasondistill.errors import StageError
from reasondistill.losses import log_probs_of, token_losses
from reasondistill.stages.students.distilling.lessons import Lesson, Micro, Moment
from reasondistill.stages.students.distilling.rollouts import Writer
from reasondistill.stages.students.distilling.teacher import Teacher
from reasondistill.stages.students.distilling.texts import (
    Text,
    collate,
    fixed_text,
    in_loss,
    split_evenly,
    written_text,
)
from reasondistill.stages.students.held_out import held_out
from reasondistill.stages.students.hidden import head_of, states
from reasondistill.stages.students.sft import SortedTrainer
from reasondistill.stages.students.tokens import IGNORE, Row

log = logging.getLogger(__name__)

# What a method keeps beside a checkpoint of the trainer.
STATE = "distillation-{rank}.json"

# So many held-out traces tell a method whether the student still gets better.
MOST_LOOKED_AT = 64

Grade = Callable[[Sequence[tuple[int, list[int]]]], list[bool]]


class DistillTrainer(SortedTrainer):
    """Trains on what `lesson` says. The loss of a step is the mean over all tokens that are in it,
    on all ranks and accumulation steps.

    `grade` tells which of (row, completion) answer rightly. What it adds to a checkpoint lets a
    resumed training go on exactly.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *,
        lesson: Lesson,
        rows: Sequence[Row],
        held_out: Sequence[Row],
        teacher: Teacher | None,
        writers: Callable[[DistillTrainer], tuple[Writer, Callable[[float], Writer]]],
        vocabulary: int,
        max_length: int,
        grade: Grade | None,
        flat: bool,
        **arguments: Any,
    ) -> None:
        self.lesson, self.rows, self.held_out, self.teacher = lesson, rows, held_out, teacher
        self.vocabulary, self.max_length, self.grade = vocabulary, max_length, grade
        pad, self._end = (
            arguments["processing_class"].pad_token_id,
            arguments["processing_class"].eos_token_id,
        )
        self._collate = partial(collate, pad=pad, flat=flat)
        super().__init__(data_collator=self._collated, **arguments)
        self._open_writers = writers
        self._writers: tuple[Writer, Callable[[float], Writer]] | None = None
        self.counts = {
            "tokens": 0,
            "loss_tokens": 0,
            "rollout_tokens": 0,
            "rollouts": 0,
            "rollouts_correct": 0,
            "graded": 0,
        }
        self.seconds = {"rollouts": 0.0, "teacher": 0.0}

    # -- texts

    def _collated(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return self._collate([Text(f["input_ids"], f["labels"], f["row"]) for f in features])

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The micro-batches of one optimizer step, after the method has had its say on their texts."""
        batches: list[Any] = []
        for _ in range(num_batches):
            if (batch := next(epoch_iterator, None)) is None:
                break
            batches.append(batch)
        if batches:
            fixed = [
                fixed_text(self.rows[row], row)
                for batch in batches
                for row in batch["rows"].tolist()
            ]
            texts = self.lesson.texts(fixed, self._moment())
            if texts is not fixed:
                # As many micro-batches as before: all ranks and the accumulation agree on their
                # number.
                batches = [self._collate(part) for part in split_evenly(texts, len(batches))]
            for batch in batches:
                self._count(batch)
        # Counted here: the trainer's own count depends on the signature of the model.
        items = torch.tensor(sum(int(in_loss(batch).sum()) for batch in batches), device=device)
        everywhere: Any = self.accelerator.gather(items)
        return batches, everywhere.sum()

    def _count(self, batch: Mapping[str, torch.Tensor]) -> None:
        mask = batch.get("attention_mask")
        self.counts["tokens"] += int(mask.sum()) if mask is not None else batch["input_ids"].numel()
        self.counts["loss_tokens"] += int(in_loss(batch).sum())

    def _moment(self) -> Moment:
        model = self.accelerator.unwrap_model(self.model)
        return Moment(
            step=self.state.global_step,
            steps=self.state.max_steps,
            epoch=int(self.state.epoch or 0),
            write=self._write,
            log_probs=self._log_probs,
            held_out_loss=lambda: math.log(
                held_out(
                    model, self.held_out[:MOST_LOOKED_AT], vocabulary=self.vocabulary
                ).perplexity
            ),
            shared=self._shared,
        )

    def _write(self, texts: Sequence[Text], settings: Rollouts, mix: float = 0.0) -> list[Text]:
        """What the student answers to the prompts of `texts`."""
        plain, mixed = self._both_writers()
        prompts = [text.input_ids[: text.prompt_length] for text in texts]
        room = self.max_length - min(len(prompt) for prompt in prompts)
        seed = (
            hash((self.args.seed, self.state.global_step, self.accelerator.process_index)) % 2**31
        )
        started = time.monotonic()
        if (
            len(texts)
            > 8 * self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        ):
            log.info(
                "step %d/%d · the student answers %d prompts",
                self.state.global_step,
                self.state.max_steps,
                len(texts),
            )
        with torch.no_grad():
            tokens = max(1, min(room, settings.max_tokens or room))
            written = (mixed(mix) if mix else plain).write(
                prompts, tokens, temperature=settings.rollout_temperature, seed=seed
            )
        completions = [
            self._usable(ids, self.max_length - len(prompt))
            for ids, prompt in zip(written, prompts, strict=True)
        ]
        self.seconds["rollouts"] += time.monotonic() - started
        self.counts["rollouts"] += len(completions)
        self.counts["rollout_tokens"] += sum(map(len, completions))
        weights = self._weights(
            [(text.row, ids) for text, ids in zip(texts, completions, strict=True)], settings
        )
        return [
            written_text(prompt, ids, text.row, weight)
            for prompt, ids, text, weight in zip(prompts, completions, texts, weights, strict=True)
        ]

    def open_writer(self) -> None:
        """Start what writes the student's own texts. Raises ConfigError where that cannot be done
        on this machine.
        """
        plain, _ = self._both_writers()
        plain.open()

    def _both_writers(self) -> tuple[Writer, Callable[[float], Writer]]:
        if self._writers is None:
            self._writers = self._open_writers(self)
        return self._writers

    def _usable(self, completion: list[int], room: int) -> list[int]:
        """The completion as far as it fits, and up to the first id that is no token of the
        tokenizer; never empty.
        """
        end = next(
            (place for place, token in enumerate(completion) if token >= self.vocabulary),
            len(completion),
        )
        return completion[: min(end, room)] or [self._end]

    def _weights(self, written: Sequence[tuple[int, list[int]]], settings: Rollouts) -> list[float]:
        if settings.wrong_weight is None or self.grade is None:
            return [1.0] * len(written)
        correct = self.grade(written)
        self.counts["graded"] += len(correct)
        self.counts["rollouts_correct"] += sum(correct)
        return [1.0 if is_correct else settings.wrong_weight for is_correct in correct]

    def _shared(self, make: Callable[[list[Text]], list[Text]]) -> list[Text]:
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        share, last = math.ceil(len(self.rows) / world), len(self.rows) - 1
        places = [
            min(rank + number * world, last) for number in range(share)
        ]  # as many on every rank: a server deals answers by number
        own = make([fixed_text(self.rows[place], place) for place in places])
        return own if world == 1 else gather_object(own)

    # -- losses

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The method's loss in training; the cross-entropy per token, which all methods can be
        compared by, in evaluation.
        """
        if not model.training:
            loss = self._cross_entropy(model, inputs)
            return (loss, {}) if return_outputs else loss
        micro = self._micro(model, inputs, num_items_in_batch)
        with (
            self.accelerator.autocast()
        ):  # accelerate's own is around the model's forward alone; the head is ours
            loss = self.lesson.loss(micro)
        return (loss, {}) if return_outputs else loss

    def _micro(
        self, model: Any, inputs: Mapping[str, Any], items: torch.Tensor | int | None
    ) -> Micro:
        progress = self.state.global_step / max(1, self.state.max_steps)
        unwrapped = self.accelerator.unwrap_model(model)
        wanted = {
            "layers": self.lesson.layers_now(progress),
            "attentions": self.lesson.needs_attentions and self.lesson.layers_now(progress),
        }
        teacher = self.teacher if self.lesson.needs_teacher else None
        tokens = items if items is not None else in_loss(inputs).sum()
        # DDP averages gradients over ranks; the number of tokens is that of all of them.
        world = self.accelerator.num_processes if items is not None else 1
        return Micro(
            inputs=inputs,
            student=states(model, unwrapped, inputs, **wanted),
            head=head_of(unwrapped),
            teacher_states=teacher.states(inputs, **wanted) if teacher is not None else None,
            teacher_head=teacher.head if teacher is not None else None,
            vocabulary=self.vocabulary,
            scale=world / max(1.0, float(tokens)),
            progress=progress,
        )

    def _cross_entropy(self, model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
        unwrapped = self.accelerator.unwrap_model(model)
        keep = in_loss(inputs)
        hidden = states(model, unwrapped, inputs).last[:, :-1][keep]
        with self.accelerator.autocast():
            found = token_losses(
                hidden,
                head_of(unwrapped),
                labels=inputs["labels"][:, 1:][keep],
                cross_entropy_weights=1.0,
                vocabulary=self.vocabulary,
            )
        assert found.cross_entropy is not None
        return found.cross_entropy.mean()

    @torch.no_grad()
    def _log_probs(self, texts: Sequence[Text]) -> list[tuple[list[float], list[float]]]:
        """Of each completion token under the student as it is now, and under the teacher."""
        assert self.teacher is not None
        model, found = (
            self.accelerator.unwrap_model(self.model),
            list[tuple[list[float], list[float]]](),
        )
        was_training = model.training
        model.eval()
        size = self.args.per_device_train_batch_size
        for start in range(0, len(texts), size):
            part = texts[start : start + size]
            inputs = self._on_device(self._collate(part))
            keep = in_loss(inputs)
            labels = inputs["labels"][:, 1:][keep]
            models = (
                (states(model, model, inputs), head_of(model)),
                (self.teacher.states(inputs), self.teacher.head),
            )
            with self.accelerator.autocast():
                both = [
                    log_probs_of(
                        own.last[:, :-1][keep], head, labels, vocabulary=self.vocabulary
                    ).tolist()
                    for own, head in models
                ]
            place = 0
            for text in part:
                end = place + sum(label != IGNORE for label in text.labels[1:])
                found.append((both[0][place:end], both[1][place:end]))
                place = end
        model.train(was_training)
        return found

    def _on_device(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}

    # -- checkpoints and figures

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The trainer's own log with what the student has written so far."""
        if "loss" in logs and self.counts["rollouts"]:
            logs = logs | {"rollout_tokens": self.counts["rollout_tokens"]}
            if self.counts["graded"]:
                logs["rollouts_correct"] = self.counts["rollouts_correct"] / self.counts["graded"]
        super().log(logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir or "") / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        state = {"lesson": self.lesson.state(), "counts": self.counts, "seconds": self.spent()}
        # Before the trainer's own files: the last of them says that the checkpoint is whole.
        (folder / STATE.format(rank=self.accelerator.process_index)).write_text(
            json.dumps(state), encoding="utf-8"
        )
        super()._save_checkpoint(model, trial)

    def restore(self, checkpoint: Path | None) -> None:
        """Go on from where a checkpoint left the method. Raises StageError when it was left by
        another number of processes.
        """
        if checkpoint is None:
            return
        kept = len(list(checkpoint.glob(STATE.format(rank="*"))))
        if kept != self.accelerator.num_processes:
            raise StageError(
                f"{checkpoint}: was kept by {kept} processes, this training has "
                f"{self.accelerator.num_processes}. Go on with as many, or "
                f"remove {checkpoint.parent} to train anew."
            )
        state = json.loads(
            (checkpoint / STATE.format(rank=self.accelerator.process_index)).read_text(
                encoding="utf-8"
            )
        )
        self.lesson.restore(state["lesson"])
        self.counts, self.seconds = state["counts"], state["seconds"]

    def counts_of_all(self) -> dict[str, int]:
        """Tokens and rollouts over all ranks."""
        ranks = (
            gather_object([self.counts]) if self.accelerator.num_processes > 1 else [self.counts]
        )
        return {name: sum(counts[name] for counts in ranks) for name in self.counts}

    def spent(self) -> dict[str, float]:
        """Seconds in rollouts and in the teacher's forward passes, those before an interruption
        included.
        """
        return {
            "rollouts": self.seconds["rollouts"],
            "teacher": self.seconds["teacher"] + (self.teacher.seconds if self.teacher else 0.0),
        }


class OpensWriter(TrainerCallback):
    """Starts what writes the student's own texts before the first step: what cannot write is known
    before any time is spent.
    """

    def __init__(self, trainer: DistillTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.trainer.open_writer()
