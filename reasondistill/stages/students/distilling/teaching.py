"""What a training that distils has beside the student: its method, a teacher, what writes the
student's own texts, and what grades them. Imported late.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.errors import ConfigError
from reasondistill.grading import GradeItem, GradingPool
from reasondistill.losses.shared_tokens import SharedTokens
from reasondistill.methods import METHODS, Method, RolloutSettings
from reasondistill.methods.settings import CommonSettings
from reasondistill.models.attention import EXACT
from reasondistill.models.tokenising import opened_by_ids
from reasondistill.models.weights import model_identity
from reasondistill.records import TokenGap
from reasondistill.runs import layout
from reasondistill.stages.students import bases, processes
from reasondistill.stages.students.distilling.rollouts import (
    TransformersWriter,
    VllmWriter,
    Writers,
)
from reasondistill.stages.students.distilling.stored import StoredTopK
from reasondistill.stages.students.distilling.teacher import (
    Teacher,
    load_teacher,
    shared_tokens,
)
from reasondistill.stages.students.distilling.trainer import DistillTrainer, Grade, OpensWriter
from reasondistill.stages.students.material import TeacherSource
from reasondistill.stages.students.rows import RowStore, StoredRows
from reasondistill.stages.students.tokens import Row
from reasondistill.thinking import split

log = logging.getLogger(__name__)


def own_device() -> torch.device:
    """What this process trains on. The trainer, which would say, comes later: it wants the model
    with what is trained beside it.
    """
    if torch.cuda.is_available():
        return torch.device("cuda", processes.local_rank())
    return torch.device("cpu")


@dataclass
class Teaching:
    """What the training of a student that distils has beside it. `folder` is the student's own."""

    student: StudentSettings
    settings: TrainSettings
    source: TeacherSource
    folder: Path
    pool: GradingPool | None = None
    _teacher: Teacher | None = None
    _store: StoredTopK | None = None
    _tokenizer: Any = None

    def __post_init__(self) -> None:
        self.method_settings = self.student.method_settings()
        method_class: type[Method[Any]] = METHODS[self.student.method]
        self.method = method_class(self.method_settings, self.student.seed)

    def rows(self, rows: StoredRows, tokenizer: Any, store: RowStore) -> StoredRows:
        """The rows to train on; what cannot be used of these is dropped from them."""
        stored_tokens = self.method_settings.stored_tokens
        if stored_tokens is None:
            return rows
        if self.source.top_k is None:
            raise self._nobody("with stored log-probabilities")
        self._store = StoredTopK(self.source.top_k, stored_tokens, tokenizer)
        return self._store.rows(rows, self.student.max_length, store)

    def longest_text(self, rows: StoredRows) -> int:
        """The most tokens of a text that the teacher reads: a row, or what the student may write
        after its prompt.
        """
        settings = self.method_settings
        if not isinstance(settings, RolloutSettings):
            return rows.longest
        if isinstance(settings, CommonSettings) and not settings.writes_alone:
            return rows.longest
        most = self.student.max_length
        if settings.max_tokens is not None:
            prompt = max(row.prompt_length for row in rows)
            most = min(most, prompt + settings.max_tokens)
        return max(rows.longest, most)

    def prepare(self, model: Any, tokenizer: Any, rows: Sequence[Row], longest: int) -> None:
        """Load the teacher of these rows, which reads texts of up to `longest` tokens, and add what
        is trained beside the student. Raises ConfigError or StageError.
        """
        self._tokenizer = tokenizer
        if not self.method.needs_teacher:
            return
        if self.source.model is None:
            raise self._nobody("in memory")
        self._teacher = load_teacher(
            self.source.model,
            self.source.revision,
            student_tokenizer=tokenizer,
            trust_remote_code=self.source.trust_remote_code,
            device=own_device(),
            attention=self.student.attn_implementation,
            longest=longest,
        )
        loaded = self._teacher.model
        processes.on_first(lambda: bases.require_finite(loaded, f"teacher {self.source.model}"))
        self._teacher.check_head(rows[0].input_ids, self.source.model, len(tokenizer))
        set_seed(self.student.seed)  # what is trained beside the student begins with its seed too
        self.method.prepare(model, self._teacher.model)
        attention = self.student.attn_implementation
        if self.method.needs_attentions and attention not in (None, EXACT):
            raise ConfigError(
                f"[students] {self.student.name} attn_implementation = {attention!r}: this "
                "method compares attention matrices, which only 'eager' makes; leave the key out."
            )
        if self.method.needs_attentions:  # other implementations never make the attention matrix
            model.set_attn_implementation(EXACT)
            self._teacher.model.set_attn_implementation(EXACT)

    def trainer(
        self,
        rows: Sequence[Row],
        held_out: Sequence[Row],
        checkpoint: Path | None,
        **arguments: Any,
    ) -> DistillTrainer:
        """The trainer, which goes on from a checkpoint; `arguments` are SFTTrainer's."""
        training: Any = arguments["args"]
        why_not = self.method.why_not(
            held_out=len(held_out), micro_batch=training.per_device_train_batch_size
        )
        if why_not is not None:
            raise ConfigError(f"[students] {self.student.name}: {why_not}")
        training.remove_unused_columns = False
        # Every weight gets its gradient, though not all through the model's own forward.
        training.ddp_find_unused_parameters = False
        # TRL packs rows before training; here texts change from step to step, so each micro-batch
        # becomes one row by itself.
        training.packing = False
        training.dataset_kwargs = {"skip_prepare_dataset": True}
        trainer = DistillTrainer(
            method=self.method,
            rows=rows,
            held_out=held_out,
            teacher=self._teacher,
            stored=self._store.stored if self._store is not None else None,
            shared=self.shared_tokens(),
            writers=self._writers,
            vocabulary=len(self._tokenizer),
            max_length=self.student.max_length,
            grade=self._grader(rows, ends_of(arguments["model"])),
            flat=self.student.packing,
            **arguments,
        )
        trainer.restore(checkpoint)
        if self.method_settings.writes_alone:
            trainer.add_callback(OpensWriter(trainer))
        return trainer

    def _writers(self, trainer: DistillTrainer) -> Writers:
        """What writes rollouts, and the same with the teacher mixed in, which only transformers can
        do.
        """
        model: Any = trainer.accelerator.unwrap_model(trainer.model)
        vocabulary = len(self._tokenizer)
        eos = ends_of(model)
        pad = self._tokenizer.pad_token_id
        kind = self._kind_of_writer()

        def mixed(share: float) -> TransformersWriter:
            assert self._teacher is not None
            teacher = self._teacher.model
            return TransformersWriter(
                model,
                eos=eos,
                pad=pad,
                vocabulary=vocabulary,
                teacher=teacher,
                mix=share,
                shared=self.shared_tokens(),
            )

        if kind == "transformers":
            plain = TransformersWriter(model, eos=eos, pad=pad, vocabulary=vocabulary)
            return Writers(plain, mixed)
        if kind == "vllm_server" and trainer.accelerator.device.type != "cuda":
            raise ConfigError(
                "[train] rollouts = 'vllm_server' sends weights by NCCL, from a CUDA "
                "device only. Use 'auto'."
            )
        writer = VllmWriter(
            model,
            self._tokenizer,
            trainer.accelerator,
            start=self.folder / layout.ROLLOUTS,
            url=self.settings.rollouts_url if kind == "vllm_server" else None,
            memory=self.settings.rollouts_memory,
            context=self.student.max_length,
        )
        return Writers(writer, mixed)

    def _kind_of_writer(self) -> str:
        """`transformers`, `vllm` or `vllm_server`. Raises ConfigError for one that does not know
        LoRA.
        """
        kind = self.settings.rollouts
        has_lora = self.student.lora is not None
        if kind == "auto":
            has_vllm = importlib.util.find_spec("vllm") is not None
            if torch.cuda.is_available() and has_vllm and not has_lora:
                return "vllm"
            return "transformers"
        if kind != "transformers" and has_lora:
            raise ConfigError(
                f"[train] rollouts = {kind!r}: a student under LoRA writes with rollouts = "
                "'transformers' as yet."
            )
        return kind

    def _grader(self, rows: Sequence[Row], eos: Sequence[int]) -> Grade | None:
        settings = self.method_settings
        if not isinstance(settings, RolloutSettings) or settings.wrong_weight is None:
            return None

        def grade(written: Sequence[tuple[int, list[int]]]) -> list[bool]:
            if self.pool is None:
                self.pool = GradingPool(workers=1)
            items: list[GradeItem] = []
            for place, (number, ids) in enumerate(written):
                row = rows[number]
                gold = self.source.golds.get(row.problem_id, "")
                items.append(grade_item(str(place), self._tokenizer, row, ids, gold, eos))
            return [grade.is_correct for _, grade in self.pool.grade_many(items)]

        return grade

    def teacher_model(self) -> Any:
        """The teacher in memory, if there is one."""
        return self._teacher.model if self._teacher is not None else None

    def shared_tokens(self) -> SharedTokens | None:
        """The tokens of student and teacher; None where all are the same."""
        if self._teacher is not None:
            return self._teacher.shared
        if self._store is not None and self._store.match is not None:
            return shared_tokens(self._store.match, own_device())
        return None

    def token_gap(self) -> TokenGap | None:
        """What they do not share."""
        if self._teacher is not None:
            return self._teacher.gap
        if self._store is not None and self._store.match is not None:
            return self._store.match.gap
        return None

    def figures(self, trainer: Any) -> dict[str, Any]:
        """Fields of TrainingFigures that are known here, or known better."""
        counts = trainer.counts_of_all()
        seconds = trainer.spent()
        rollouts_correct = None
        if counts["graded"]:
            rollouts_correct = counts["rollouts_correct"] / counts["graded"]
        return {
            "tokens": counts["tokens"],
            "loss_tokens": counts["loss_tokens"],
            "teacher": self._teacher_name(),
            "teacher_seconds": round(seconds["teacher"], 2),
            "rollout_seconds": round(seconds["rollouts"], 2),
            "rollout_tokens": counts["rollout_tokens"],
            "rollouts_correct": rollouts_correct,
            "teacher_tokens": self.token_gap(),
        }

    def _teacher_name(self) -> str | None:
        """`name@revision` of whose distributions were learnt."""
        if self._store is not None:
            return ", ".join(sorted(self._store.reader.models))
        return model_identity(self.source.model or "", self.source.revision)

    def strip(self, model: Any) -> None:
        """Take off a model, or a copy of it, what is no part of the finished student."""
        self.method.strip(model)

    def _nobody(self, where: str) -> ConfigError:
        return ConfigError(
            f"[students] {self.student.name} method = {self.student.method!r} learns from a "
            f"teacher {where}; there is none. Give train_student a TeacherSource with it."
        )

    def close(self) -> None:
        """End the grading processes; take away the weights that vLLM began with."""
        if self.pool is not None:
            self.pool.close()
        shutil.rmtree(self.folder / layout.ROLLOUTS, ignore_errors=True)


def grade_item(
    name: str, tokenizer: Any, row: Row, completion: Sequence[int], gold: str, eos: Sequence[int]
) -> GradeItem:
    """What the grader needs of a text by the student; without an end in `eos` it was cut."""
    is_cut = not completion or completion[-1] not in eos
    written = list(completion) if is_cut else list(completion[:-1])
    text = tokenizer.decode(written, skip_special_tokens=False)
    opens = opened_by_ids(tokenizer, row.input_ids[: row.prompt_length])
    parts = split(text, opens=opens, is_cut=is_cut)
    finish = "length" if is_cut else "stop"
    return GradeItem(name, parts.answer, gold, finish, parts.think)


def ends_of(model: Any) -> list[int]:
    """The tokens that end what a model writes."""
    end: Any = model.generation_config.eos_token_id
    return list(end) if isinstance(end, list) else [end]
