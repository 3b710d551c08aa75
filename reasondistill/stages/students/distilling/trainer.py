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
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reasondistill import foreign_json
from reasondistill.errors import StageError
from reasondistill.foreign_files import read_bytes
from reasondistill.losses.fused import token_losses
from reasondistill.losses.shared_tokens import SharedTokens
from reasondistill.losses.teachers import log_probs_of
from reasondistill.methods import Method, RolloutSettings
from reasondistill.methods.step import Micro, Moment, StoredTokens, TokenLogProbs
from reasondistill.methods.texts import IGNORE, Text, in_loss, written_text
from reasondistill.stages.students.distilling.batches import (
    collate,
    collated,
    fixed_text,
    split_evenly,
    tokens_in,
)
from reasondistill.stages.students.distilling.rollouts import Writers
from reasondistill.stages.students.distilling.teacher import Teacher
from reasondistill.stages.students.heads import head_of
from reasondistill.stages.students.held_out import held_out
from reasondistill.stages.students.hidden import on_device, states
from reasondistill.stages.students.sorted_trainer import SortedTrainer
from reasondistill.stages.students.tokens import Row

log = logging.getLogger(__name__)

# What a method keeps beside a checkpoint of the trainer.
STATE = "distillation-{rank}.json"

# So many held-out traces tell a method whether the student still gets better.
MOST_LOOKED_AT = 64

Grade = Callable[[Sequence[tuple[int, list[int]]]], list[bool]]


class DistillTrainer(SortedTrainer):
    """Trains as `method` says. The loss of a step is the mean over all tokens that are in it, on
    all ranks and accumulation steps.

    `stored` gives what is stored of a teacher, by training row; `shared` are the tokens of student
    and teacher, where they differ; `grade` tells which of (row, completion) answer rightly. What it
    adds to a checkpoint lets a resumed training go on exactly.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *,
        method: Method[Any],
        rows: Sequence[Row],
        held_out: Sequence[Row],
        teacher: Teacher | None,
        writers: Callable[[DistillTrainer], Writers],
        vocabulary: int,
        max_length: int,
        grade: Grade | None,
        flat: bool,
        stored: Callable[[int], StoredTokens] | None = None,
        shared: SharedTokens | None = None,
        **arguments: Any,
    ) -> None:
        self.method = method
        self.rows = rows
        self.held_out = held_out
        self.teacher = teacher
        self.stored = stored
        self.shared = shared
        self.vocabulary = vocabulary
        self.max_length = max_length
        self.grade = grade
        tokenizer = arguments["processing_class"]
        self._end: int = tokenizer.eos_token_id
        self._shape: dict[str, Any] = {"pad": tokenizer.pad_token_id, "flat": flat}
        self._collate = partial(collate, **self._shape)
        super().__init__(data_collator=self._collated, **arguments)
        self._open_writers = writers
        self._writers: Writers | None = None
        self.counts = {
            "tokens": 0,
            "loss_tokens": 0,
            "rollout_tokens": 0,
            "rollouts": 0,
            "rollouts_correct": 0,
            "graded": 0,
        }
        self.seconds = {"rollouts": 0.0, "teacher": 0.0}
        # Since the last line of metrics: the traces' tokens that were the student's likeliest, and
        # all of them.
        self._likeliest = torch.zeros(2, dtype=torch.int64, device=self.accelerator.device)

    # -- texts

    def _collated(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return collated(features, **self._shape)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The micro-batches of one optimizer step, with the texts that the method wants."""
        batches: list[Any] = list(islice(epoch_iterator, num_batches))
        if batches:
            batches = self._as_the_method_wants(batches)
        for batch in batches:
            self.counts["tokens"] += tokens_in(batch)
            self.counts["loss_tokens"] += int(in_loss(batch).sum())
        # Counted here: the trainer's own count depends on the signature of the model.
        items = torch.tensor(sum(int(in_loss(batch).sum()) for batch in batches), device=device)
        everywhere: Any = self.accelerator.gather(items)
        return batches, everywhere.sum()

    def _as_the_method_wants(self, batches: list[Any]) -> list[Any]:
        """As many micro-batches as before, of the texts that the method trains on: all ranks and
        the accumulation agree on their number.
        """
        fixed: list[Text] = []
        for batch in batches:
            places: list[int] = batch["rows"].tolist()
            fixed.extend(fixed_text(self.rows[place], place) for place in places)
        texts = self.method.texts(fixed, self._moment())
        if texts is fixed:
            return batches
        return [self._collate(part) for part in split_evenly(texts, len(batches))]

    def _moment(self) -> Moment:
        return Moment(
            step=self.state.global_step,
            steps=self.state.max_steps,
            epoch=int(self.state.epoch or 0),
            write=self._write,
            log_probs=self._log_probs,
            held_out_loss=self._held_out_loss,
            shared=self._shared,
        )

    def _held_out_loss(self) -> float:
        """The student's cross-entropy on some held-out traces."""
        model = self.accelerator.unwrap_model(self.model)
        rows = self.held_out[:MOST_LOOKED_AT]
        return math.log(held_out(model, rows, vocabulary=self.vocabulary).perplexity)

    def _write(
        self, texts: Sequence[Text], settings: RolloutSettings, mix: float = 0.0
    ) -> list[Text]:
        """What the student answers to the prompts of `texts`."""
        writers = self._both_writers()
        writer = writers.mixed(mix) if mix else writers.plain
        prompts = [text.input_ids[: text.prompt_length] for text in texts]
        room = self.max_length - min(len(prompt) for prompt in prompts)
        max_tokens = max(1, min(room, settings.max_tokens or room))
        place = (self.args.seed, self.state.global_step, self.accelerator.process_index)
        seed = hash(place) % 2**31
        step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        if len(texts) > 8 * step:
            log.info(
                "step %d/%d · the student answers %d prompts",
                self.state.global_step,
                self.state.max_steps,
                len(texts),
            )
        started = time.monotonic()
        with torch.no_grad():
            written = writer.write(
                prompts, max_tokens, temperature=settings.rollout_temperature, seed=seed
            )
        completions: list[list[int]] = []
        for ids, prompt in zip(written, prompts, strict=True):
            completions.append(self._usable(ids, self.max_length - len(prompt)))
        self.seconds["rollouts"] += time.monotonic() - started
        self.counts["rollouts"] += len(completions)
        self.counts["rollout_tokens"] += sum(map(len, completions))
        rows = [text.row for text in texts]
        weights = self._weights(list(zip(rows, completions, strict=True)), settings)
        return list(map(written_text, prompts, completions, rows, weights))

    def open_writer(self) -> None:
        """Start what writes the student's own texts. Raises ConfigError where that cannot be done
        on this machine.
        """
        self._both_writers().plain.open()

    def _both_writers(self) -> Writers:
        if self._writers is None:
            self._writers = self._open_writers(self)
        return self._writers

    def _usable(self, completion: list[int], room: int) -> list[int]:
        """The completion as far as it fits, and up to the first id that is no token of the
        tokenizer; never empty.
        """
        usable = list(takewhile(lambda token: token < self.vocabulary, completion[:room]))
        return usable or [self._end]

    def _weights(
        self, written: Sequence[tuple[int, list[int]]], settings: RolloutSettings
    ) -> list[float]:
        """What each text weighs, by whether it answers rightly."""
        wrong_weight = settings.wrong_weight
        if wrong_weight is None or self.grade is None:
            return [1.0] * len(written)
        correct = self.grade(written)
        self.counts["graded"] += len(correct)
        self.counts["rollouts_correct"] += sum(correct)
        return [1.0 if is_correct else wrong_weight for is_correct in correct]

    def _shared(self, make: Callable[[list[Text]], list[Text]]) -> list[Text]:
        world = self.accelerator.num_processes
        rank = self.accelerator.process_index
        last = len(self.rows) - 1
        texts: list[Text] = []
        # As many on every rank: a server deals answers by number.
        for number in range(math.ceil(len(self.rows) / world)):
            place = min(rank + number * world, last)
            texts.append(fixed_text(self.rows[place], place))
        ours = make(texts)
        return ours if world == 1 else gather_object(ours)

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
            loss = self.method.loss(micro)
        if micro.likeliest:
            on_traces = micro.by_student == 0
            hits = micro.likeliest[0] & on_traces
            self._likeliest += torch.stack([hits.sum(), on_traces.sum()])
        if self.aux_loss_enabled:
            loss = loss + self._router_loss(micro)
        return (loss, {}) if return_outputs else loss

    def _router_loss(self, micro: Micro) -> torch.Tensor:
        """The routers' part of the micro-batch's loss, as SFTTrainer adds it: the mean over the
        micro-batches of a step.
        """
        balance = micro.student.router_loss
        assert balance is not None
        everywhere: Any = self.accelerator.gather_for_metrics(balance.detach())
        self._metrics["train"]["aux_loss"].append(float(everywhere.mean()))
        return self.router_aux_loss_coef * balance / self.current_gradient_accumulation_steps

    def _micro(
        self, model: Any, inputs: Mapping[str, Any], items: torch.Tensor | int | None
    ) -> Micro:
        progress = self.state.global_step / max(1, self.state.max_steps)
        unwrapped = self.accelerator.unwrap_model(model)
        wanted = {
            "layers": self.method.layers_now(progress),
            "attentions": self.method.needs_attentions and self.method.layers_now(progress),
        }
        teacher = self.teacher if self.method.needs_teacher else None
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
            stored=self.stored,
            shared=self.shared,
        )

    def _cross_entropy(self, model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
        unwrapped = self.accelerator.unwrap_model(model)
        keep = in_loss(inputs)
        hidden = states(model, unwrapped, inputs).last[:, :-1][keep]
        with self.accelerator.autocast():
            losses = token_losses(
                hidden,
                head_of(unwrapped),
                labels=inputs["labels"][:, 1:][keep],
                cross_entropy_weights=1.0,
                vocabulary=self.vocabulary,
            )
        assert losses.cross_entropy is not None
        return losses.cross_entropy.mean()

    @torch.no_grad()
    def _log_probs(self, texts: Sequence[Text]) -> list[TokenLogProbs]:
        """Of each completion token under the student as it is now, and under the teacher."""
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        log_probs: list[TokenLogProbs] = []
        size = self.args.per_device_train_batch_size
        for start in range(0, len(texts), size):
            log_probs.extend(self._batch_log_probs(model, texts[start : start + size]))
        model.train(was_training)
        return log_probs

    def _batch_log_probs(self, model: Any, texts: Sequence[Text]) -> list[TokenLogProbs]:
        assert self.teacher is not None
        inputs = on_device(self._collate(texts), self.accelerator.device)
        keep = in_loss(inputs)
        labels = inputs["labels"][:, 1:][keep]
        ours = states(model, model, inputs).last[:, :-1][keep]
        theirs = self.teacher.states(inputs).last[:, :-1][keep]
        of_labels = partial(log_probs_of, labels=labels, vocabulary=self.vocabulary)
        with self.accelerator.autocast():
            student_log_probs = of_labels(ours, head_of(model))
            teacher_log_probs = of_labels(theirs, self.teacher.head, shared=self.shared)
        # Of a token that it has not the teacher thinks what the student does: no reward.
        is_silent = teacher_log_probs.isnan()
        teacher_log_probs = teacher_log_probs.where(~is_silent, student_log_probs)
        student: list[float] = student_log_probs.tolist()
        teacher: list[float] = teacher_log_probs.tolist()
        log_probs: list[TokenLogProbs] = []
        start = 0
        for text in texts:
            end = start + sum(label != IGNORE for label in text.labels[1:])
            log_probs.append(TokenLogProbs(student[start:end], teacher[start:end]))
            start = end
        return log_probs

    # -- checkpoints and figures

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The trainer's own log with the accuracy on the traces' tokens, and with what the student
        has written so far.
        """
        counts = self.counts
        if "loss" in logs and counts["rollouts"]:
            logs = logs | {"rollout_tokens": counts["rollout_tokens"]}
            if counts["graded"]:
                logs["rollouts_correct"] = counts["rollouts_correct"] / counts["graded"]
        if "loss" in logs:
            everywhere: Any = self.accelerator.gather(self._likeliest.unsqueeze(0))
            hits, tokens = everywhere.sum(0).tolist()
            if tokens:
                logs = logs | {"mean_token_accuracy": hits / tokens}  # as SFTTrainer calls it
            self._likeliest.zero_()
        super().log(logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir or "") / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        state = {"lesson": self.method.state(), "counts": self.counts, "seconds": self.spent()}
        # Before the trainer's own files: the last of them says that the checkpoint is whole.
        file = folder / STATE.format(rank=self.accelerator.process_index)
        file.write_text(json.dumps(state), encoding="utf-8")
        super()._save_checkpoint(model, trial)

    def restore(self, checkpoint: Path | None) -> None:
        """Go on from where a checkpoint left the method. Raises StageError when it was left by
        another number of processes.
        """
        if checkpoint is None:
            return
        world = self.accelerator.num_processes
        writers = len(list(checkpoint.glob(STATE.format(rank="*"))))
        if writers != world:
            raise StageError(
                f"{checkpoint}: was kept by {writers} processes, this training has {world}. "
                f"Go on with as many, or remove {checkpoint.parent} to train anew."
            )
        file = checkpoint / STATE.format(rank=self.accelerator.process_index)
        state = foreign_json.loads(read_bytes(file))
        self.method.restore(state["lesson"])
        self.counts = state["counts"]
        self.seconds = state["seconds"]

    def counts_of_all(self) -> dict[str, int]:
        """Tokens and rollouts over all ranks."""
        ranks = [self.counts]
        if self.accelerator.num_processes > 1:
            ranks = gather_object(ranks)
        return {name: sum(counts[name] for counts in ranks) for name in self.counts}

    def spent(self) -> dict[str, float]:
        """Seconds in rollouts and in the teacher's forward passes, those before an interruption
        included.
        """
        seconds = dict(self.seconds)
        if self.teacher is not None:
            seconds["teacher"] += self.teacher.seconds
        return seconds


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
