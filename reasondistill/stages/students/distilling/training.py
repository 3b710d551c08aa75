"""From a student's settings to a training with its method: teacher, writers and lesson put
together. Imported late.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import set_seed

from reasondistill.config import (
    Distillm2,
    Feature,
    Gkd,
    Kd,
    Method,
    Minillm,
    Relation,
    ReverseKl,
    Rollouts,
    SkewKl,
    StudentSettings,
    TopkKd,
    TrainSettings,
)
from reasondistill.errors import ConfigError
from reasondistill.grading import GradeItem, GradingPool
from reasondistill.models.weights import model_identity
from reasondistill.stages.students import ROLLOUTS, processes
from reasondistill.stages.students.distilling.classic import (
    LEAST_RELATED,
    PROJECTORS,
    FeatureLesson,
    RelationLesson,
)
from reasondistill.stages.students.distilling.divergences import (
    Distillm2Lesson,
    GkdLesson,
    KdLesson,
    SkewKlLesson,
    TopkLesson,
)
from reasondistill.stages.students.distilling.lessons import Lesson
from reasondistill.stages.students.distilling.minillm import MinillmLesson
from reasondistill.stages.students.distilling.rollouts import TransformersWriter, VllmWriter, Writer
from reasondistill.stages.students.distilling.stored import StoredTopK
from reasondistill.stages.students.distilling.teacher import Teacher, load_teacher
from reasondistill.stages.students.distilling.trainer import DistillTrainer, Grade, OpensWriter
from reasondistill.stages.students.sft import SortedTrainer, Training
from reasondistill.stages.students.tokens import Row
from reasondistill.thinking import opened_by, split

log = logging.getLogger(__name__)


@dataclass
class Distillation(Training):
    """The training of one student that distils.

    `teacher` is a hub id or folder (unused by methods without a teacher in memory), `golds` the
    gold answer by problem id, `top_k` the folder with the teacher's stored log-probabilities,
    `folder` the student's own.
    """

    student: StudentSettings
    settings: TrainSettings
    teacher: str
    revision: str | None
    golds: Mapping[str, str]
    top_k: Path
    folder: Path
    pool: GradingPool | None = None
    _lesson: Lesson | None = None
    _teacher: Teacher | None = None
    _store: StoredTopK | None = None
    _tokenizer: Any = None

    knows_blank_rows = (
        False  # each row is a text to learn from or to answer; a few are dealt out twice instead
    )

    def rows(self, rows: list[Row], tokenizer: Any) -> tuple[list[Row], dict[str, int]]:
        if self.student.method != "topk_kd":
            return rows, {}
        settings = cast("TopkKd", self.student.method_settings())
        self._store = StoredTopK(self.top_k, settings.k, tokenizer)
        return self._store.rows(rows, self.student.max_length)

    def prepare(self, model: Any, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._lesson = self._make_lesson()
        if not self._lesson.needs_teacher:
            return
        # The trainer, which would say, comes later: it wants the model with what is trained beside
        # it.
        device = (
            torch.device("cuda", processes.local_rank())
            if torch.cuda.is_available()
            else torch.device("cpu")
        )
        self._teacher = load_teacher(
            self.teacher,
            self.revision,
            student_tokenizer=tokenizer,
            trust_remote_code=self.student.trust_remote_code,
            device=device,
        )
        set_seed(self.student.seed)  # what is trained beside the student begins with its seed too
        self._lesson.prepare(model, self._teacher.model)
        if self._lesson.needs_attentions:  # other implementations never make the attention matrix
            model.set_attn_implementation("eager")
            self._teacher.model.set_attn_implementation("eager")

    def _make_lesson(self) -> Lesson:
        settings: Method = self.student.method_settings()
        if isinstance(settings, TopkKd):
            assert self._store is not None
            return TopkLesson(settings, self._store.stored)
        made: dict[type[Any], Callable[[Any], Lesson]] = {
            Kd: lambda own: KdLesson(own.alpha, own.temperature),
            Gkd: lambda own: GkdLesson(own, self.student.seed),
            ReverseKl: lambda own: GkdLesson(own, self.student.seed),
            SkewKl: lambda own: SkewKlLesson(own, self.student.seed),
            Distillm2: Distillm2Lesson,
            Minillm: MinillmLesson,
            Feature: FeatureLesson,
            Relation: RelationLesson,
        }
        return made[type(settings)](settings)

    def trainer(
        self,
        rows: Sequence[Row],
        held_out: Sequence[Row],
        checkpoint: Path | None,
        **arguments: Any,
    ) -> SortedTrainer:
        assert self._lesson is not None
        settings = self.student.method_settings()
        if isinstance(settings, SkewKl) and not held_out:
            raise ConfigError(
                f"[students] {self.student.name}: skew_kl looks at the loss on held-out "
                "traces to decide who writes; there are none. "
                "Set [examples] validation above 0."
            )
        if (
            isinstance(settings, Relation)
            and arguments["args"].per_device_train_batch_size < LEAST_RELATED
        ):
            raise ConfigError(
                f"[students] {self.student.name}: relation looks at the angles between "
                f"{LEAST_RELATED} answers; raise [train] "
                "micro_batch_size (and batch_size) to as many or more."
            )
        arguments["args"].remove_unused_columns = False
        # Every weight gets its gradient, though not all through the model's own forward.
        arguments["args"].ddp_find_unused_parameters = False
        # TRL packs rows before training; here texts change from step to step, so each micro-batch
        # becomes one row by itself.
        arguments["args"].packing, arguments["args"].dataset_kwargs = (
            False,
            {"skip_prepare_dataset": True},
        )
        trainer = DistillTrainer(
            lesson=self._lesson,
            rows=rows,
            held_out=held_out,
            teacher=self._teacher,
            writers=self._writers,
            vocabulary=len(self._tokenizer),
            max_length=self.student.max_length,
            grade=self._grader(rows, settings, ends_of(arguments["model"])),
            flat=self.student.packing,
            **arguments,
        )
        trainer.restore(checkpoint)
        if _writes_alone(settings):
            trainer.add_callback(OpensWriter(trainer))
        return trainer

    def _writers(self, trainer: DistillTrainer) -> tuple[Writer, Callable[[float], Writer]]:
        """What writes rollouts, and the same with the teacher mixed in, which only transformers can
        do.
        """
        model = trainer.accelerator.unwrap_model(trainer.model)
        eos, pad = ends_of(model), self._tokenizer.pad_token_id
        kind = self.settings.rollouts
        if kind == "auto":
            kind = (
                "vllm"
                if torch.cuda.is_available() and _has_vllm() and self.student.lora is None
                else "transformers"
            )
        if kind != "transformers" and self.student.lora is not None:
            raise ConfigError(
                f"[train] rollouts = {kind!r}: a student under LoRA writes with rollouts = "
                "'transformers' as yet."
            )

        def mixed(share: float) -> Writer:
            assert self._teacher is not None
            return TransformersWriter(
                model,
                eos=eos,
                pad=pad,
                vocabulary=len(self._tokenizer),
                teacher=self._teacher.model,
                mix=share,
            )

        if kind == "transformers":
            return TransformersWriter(
                model, eos=eos, pad=pad, vocabulary=len(self._tokenizer)
            ), mixed
        if kind == "vllm_server" and trainer.accelerator.device.type != "cuda":
            raise ConfigError(
                "[train] rollouts = 'vllm_server' sends weights by NCCL, from a CUDA "
                "device only. Use 'auto'."
            )
        writer = VllmWriter(
            model,
            self._tokenizer,
            trainer.accelerator,
            start=self.folder / ROLLOUTS,
            url=self.settings.rollouts_url if kind == "vllm_server" else None,
            memory=self.settings.rollouts_memory,
            context=self.student.max_length,
        )
        return writer, mixed

    def _grader(self, rows: Sequence[Row], settings: Method, eos: Sequence[int]) -> Grade | None:
        if not isinstance(settings, Rollouts) or settings.wrong_weight is None:
            return None

        def grade(written: Sequence[tuple[int, list[int]]]) -> list[bool]:
            if self.pool is None:
                self.pool = GradingPool(workers=1)
            golds = [self.golds.get(rows[row].problem_id, "") for row, _ in written]
            items = [
                grade_item(str(place), self._tokenizer, rows[row], ids, gold, eos)
                for place, ((row, ids), gold) in enumerate(zip(written, golds, strict=True))
            ]
            return [found.is_correct for _, found in self.pool.grade_many(items)]

        return grade

    def teacher_model(self) -> Any:
        return self._teacher.model if self._teacher is not None else None

    def figures(self, trainer: Any) -> dict[str, Any]:
        counts, seconds = trainer.counts_of_all(), trainer.spent()
        return {
            "tokens": counts["tokens"],
            "loss_tokens": counts["loss_tokens"],
            "teacher": self._teacher_name(),
            "teacher_seconds": round(seconds["teacher"], 2),
            "rollout_seconds": round(seconds["rollouts"], 2),
            "rollout_tokens": counts["rollout_tokens"],
            "rollouts_correct": counts["rollouts_correct"] / counts["graded"]
            if counts["graded"]
            else None,
        }

    def _teacher_name(self) -> str | None:
        """`name@revision` of whose distributions were learnt."""
        if self._store is not None:
            return ", ".join(sorted(self._store.reader.models))
        return model_identity(self.teacher, self.revision)

    def strip(self, model: Any) -> None:
        if hasattr(model, PROJECTORS):
            delattr(model, PROJECTORS)

    def close(self) -> None:
        """End the grading processes; take away the weights that vLLM began with."""
        if self.pool is not None:
            self.pool.close()
        shutil.rmtree(self.folder / ROLLOUTS, ignore_errors=True)


def _writes_alone(settings: Method) -> bool:
    """Whether the student writes texts with no teacher mixed in."""
    if isinstance(settings, Minillm):
        return settings.teacher_mix == 0
    if isinstance(settings, Gkd | ReverseKl):
        return settings.on_policy > 0
    return isinstance(settings, Rollouts)


def grade_item(
    name: str, tokenizer: Any, row: Row, completion: Sequence[int], gold: str, eos: Sequence[int]
) -> GradeItem:
    """What the grader needs of a text that the student wrote; one without an end in `eos` was cut."""
    is_cut = not completion or completion[-1] not in eos
    text = tokenizer.decode(
        list(completion if is_cut else completion[:-1]), skip_special_tokens=False
    )
    prompt = tokenizer.decode(row.input_ids[: row.prompt_length], skip_special_tokens=False)
    found = split(text, opens=opened_by(prompt), is_cut=is_cut)
    return GradeItem(name, found.answer, gold, "length" if is_cut else "stop", found.think)


def ends_of(model: Any) -> list[int]:
    """The tokens that end what a model writes."""
    end: Any = model.generation_config.eos_token_id
    return list(end) if isinstance(end, list) else [end]


def _has_vllm() -> bool:
    return importlib.util.find_spec("vllm") is not None
