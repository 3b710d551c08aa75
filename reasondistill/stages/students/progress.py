"""How a training is followed: lines of metrics, progress in the log, and a stop that saves first.
Imports transformers; imported late.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reasondistill.runs.metrics import TrainingLine
from reasondistill.runs.store import StopSignal, append_metrics, read_metrics
from reasondistill.stages.students import processes

log = logging.getLogger(__name__)

# What a training tells, besides its loss, when the student writes texts of its own.
ROLLOUT_FACTS = ("rollout_tokens", "rollouts_correct")


class Progress(TrainerCallback):
    """Writes metrics lines, reports progress, and stops after a saved checkpoint when asked to."""

    def __init__(self, folder: Path, stop: StopSignal | None, started: float) -> None:
        self.folder = folder
        self.stop = stop
        self.started = started
        lines = TrainingLine.of(folder)
        earlier = [line.seconds for line in lines if line.seconds is not None]
        self.before = max(earlier, default=0.0)
        self.delivered_step: int | None = None

    def seconds(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        return self.before + time.monotonic() - self.started

    def deliver(self, step: int, state: TrainerState) -> None:
        """Say which step became the student; what is measured of it after this is in the curve
        already.
        """
        self.delivered_step = step
        log.info("step %d of %d is the student: the lowest validation loss", step, state.max_steps)
        if not state.is_world_process_zero:
            return
        # A training that is over, and only saved again, has said so before.
        if not any("delivered_step" in line for line in read_metrics(self.folder)):
            seconds = round(self.seconds(), 2)
            append_metrics(
                self.folder, step=state.global_step, seconds=seconds, delivered_step=step
            )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or not state.is_world_process_zero:
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
            self.report(state, logs)
        elif "eval_loss" in logs and self.delivered_step is None:
            values = {"tokens": None, "validation_loss": logs["eval_loss"]}
        else:
            return
        append_metrics(
            self.folder, step=state.global_step, seconds=round(self.seconds(), 2), **values
        )

    def report(self, state: TrainerState, logs: Mapping[str, float]) -> None:
        """One line in the log."""
        left = state.max_steps - state.global_step
        seconds_left = self.seconds() / max(1, state.global_step) * left
        rollouts = ""
        if logs.get("rollout_tokens"):
            rollouts = f" · {logs['rollout_tokens']:,} tokens by the student"
        if "rollouts_correct" in logs:
            percent = 100 * logs["rollouts_correct"]
            rollouts += f", {percent:.0f} % right"
        accuracy = ""
        if "mean_token_accuracy" in logs:
            percent = 100 * logs["mean_token_accuracy"]
            accuracy = f" · {percent:.1f} % of tokens right"
        log.info(
            "step %d/%d · loss %.4f%s%s · %.0f s left",
            state.global_step,
            state.max_steps,
            logs["loss"],
            accuracy,
            rollouts,
            seconds_left,
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if processes.stop_requested(self.stop):
            control.should_save = True
            control.should_training_stop = True
