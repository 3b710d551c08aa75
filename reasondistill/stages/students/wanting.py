"""What a training says of the memory and the disk that it takes: before it begins, and where one of
them does not do. Imports transformers and torch; imported late.
"""

from __future__ import annotations

import logging
import resource
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.errors import StageError
from reasondistill.models.shapes import ModelShape, shape_of_config
from reasondistill.runs.memory import wanting, words_of
from reasondistill.runs.store import is_no_room
from reasondistill.stages.students import processes, saving
from reasondistill.stages.students.distilling.teacher import free_memory
from reasondistill.stages.students.footprint import (
    DeviceKind,
    Footprint,
    footprint,
    gib,
    memory_words,
    require_room,
    ways_to_less,
)
from reasondistill.stages.students.trainer_settings import bf16_is_fast

log = logging.getLogger(__name__)


class AtWork:
    """What the training of one student is `doing`, and its plan as soon as the model is there: for
    the message of one that has no more memory.
    """

    def __init__(self, student: StudentSettings, settings: TrainSettings, folder: Path) -> None:
        self.student, self.settings, self.folder = student, settings, folder
        self.doing = "while its base was loaded"
        self.plan: Footprint | None = None

    @contextmanager
    def telling(self) -> Generator[None]:
        """Raise StageError, with what was expected and what takes less, where memory is out or the
        disk is full.
        """
        try:
            yield
        except Exception as error:
            cause = wanting(error)
            if cause is not None:
                raise StageError(self.message(cause)) from error
            if self.plan is not None and is_no_room(error):
                raise StageError(self.no_room(self.plan)) from error
            raise

    def no_room(self, plan: Footprint) -> str:
        """What needs how much, how much is free, what is safe, what to do. What was half written is
        removed first.
        """
        if processes.is_first():
            saving.remove_torn_checkpoints(self.folder)
        free = shutil.disk_usage(self.folder).free
        checkpoint = saving.last_checkpoint(self.folder)
        kept = "No checkpoint had been kept yet; the same command begins anew"
        if checkpoint is not None:
            kept = f"{checkpoint} is safe, and the same command goes on from it"
        return (
            f"{self.folder}: the disk is full, {self.doing}. Training {self.student.name} takes "
            f"checkpoints of {gib(plan.checkpoint)}, at most two beside {gib(plan.left)} of the "
            f"finished model; {gib(free)} are free now. Free some space. {kept}."
        )

    def message(self, error: BaseException) -> str:
        """Who, doing what, what was expected, what is kept, what to do."""
        expected = ""
        if self.plan is not None:
            expected = f"The plan was {memory_words(self.plan)}. "
        checkpoint = saving.last_checkpoint(self.folder)
        kept = "No checkpoint had been kept yet"
        if checkpoint is not None:
            kept = f"Nothing that was saved is lost: the same command goes on from {checkpoint}"
        return (
            f"[students] {self.student.name}: out of memory {self.doing} "
            f"({words_of(error)}). {expected}{kept}. Less is taken by: "
            f"{ways_to_less(self.student, self.settings)}. The first of these change no result, "
            "and the same command goes on with them; the others make another student."
        )

    def plan_for(self, model: Any, longest: int, snapshots: int) -> None:
        """Know what the training of this model on rows of so many tokens will take."""
        parameters = list(model.parameters())
        count = sum(weight.numel() for weight in parameters)
        trained = sum(weight.numel() for weight in parameters if weight.requires_grad)
        shape = shape_of_config(model.config.to_dict())
        if shape is None:  # of another build: without what its layers keep of a token
            shape = ModelShape(count, 0, 0, 0, 0, 0, 0)
        self.plan = footprint(
            self.student,
            self.settings,
            replace(shape, parameters=count),
            DeviceKind(bf16_is_fast(), torch.cuda.is_available()),
            longest=longest,
            snapshots=snapshots,
            trained=trained,
        )


class SaysWhatItTakes(TrainerCallback):
    """Says before the first step what a training takes, and refuses one for whose checkpoints the
    disk has no room; notes what is being done.
    """

    def __init__(self, at_work: AtWork) -> None:
        self.at_work = at_work

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        plan, student = self.at_work.plan, self.at_work.student
        if plan is None:
            return
        processes.on_first(lambda: self._say(plan, state.max_steps))
        processes.on_first(
            lambda: require_room(student.name, plan, self.at_work.folder, state.max_steps)
        )

    def _say(self, plan: Footprint, steps: int) -> None:
        student, folder = self.at_work.student, self.at_work.folder
        free = shutil.disk_usage(folder).free
        most = plan.disk(steps, with_stop=True)
        log.info(
            "%s: %s of %s parameters are trained: %s of memory; at most %s on disk (%s are free), "
            "%s when it is done",
            student.name,
            f"{plan.trained:,}",
            f"{plan.parameters:,}",
            memory_words(plan),
            gib(most),
            gib(free),
            gib(plan.left),
        )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        held = 0.0
        if device.type == "cpu":
            held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
        room = free_memory(device) + held
        if plan.memory > room:
            log.warning(
                "%s: may not fit: %s are free. Less is taken by: %s",
                student.name,
                gib(room),
                ways_to_less(student, self.at_work.settings),
            )

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.at_work.doing = f"in step {state.global_step + 1} of {state.max_steps}"

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.at_work.doing = f"after step {state.global_step} of {state.max_steps}"

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.at_work.doing = "while the finished model was measured and saved"
