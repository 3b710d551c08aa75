"""Which step of a training becomes the student: the last one, or the one with the lowest validation
loss; and when to stop. Imports transformers; imported late.
"""

from __future__ import annotations

import logging
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reasondistill.config import StudentSettings

log = logging.getLogger(__name__)


def measured_since_best(state: TrainerState) -> int:
    """How many validation losses were measured after the lowest one. They are in the log that a
    checkpoint holds: a training that goes on from it counts on.
    """
    losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
    if not losses:
        return 0
    return len(losses) - 1 - losses.index(min(losses))


def is_out_of_patience(state: TrainerState, patience: int | None) -> bool:
    """Whether the validation loss has not fallen for so many measurements."""
    return patience is not None and measured_since_best(state) >= patience


class SelectsCheckpoint(TrainerCallback):
    """Keeps a checkpoint of the step with the lowest validation loss where the student is to be
    that one, and ends a training that is out of patience.
    """

    def __init__(self, student: StudentSettings) -> None:
        self.keeps_best = student.keep == "best"
        self.patience = student.early_stopping_patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.keeps_best and measured_since_best(state) == 0:
            control.should_save = True
        if is_out_of_patience(state, self.patience) and state.global_step < state.max_steps:
            log.info(
                "step %d/%d · stopped early: %d validation losses in a row were no lower",
                state.global_step,
                state.max_steps,
                self.patience,
            )
            # Kept, so that the same command knows that this training is over.
            control.should_save = control.should_training_stop = True
