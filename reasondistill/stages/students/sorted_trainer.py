"""SFTTrainer with our order of rows: random, but sorted by length inside each batch; it stops at
the first loss, gradient or weight that is no number. Imports torch and trl; imported late.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, FullyShardedDataParallelPlugin, PartialState
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTTrainer
from trl.trainer import utils as trl_utils

from reasondistill.errors import StageError
from reasondistill.methods.texts import in_loss
from reasondistill.stages.students import processes, saving
from reasondistill.stages.students.checkpoint_selection import is_out_of_patience
from reasondistill.stages.students.finite import bad_weight, names_on_disk
from reasondistill.stages.students.ordering import order_of_epoch
from reasondistill.stages.students.rows import BLANK, lengths_of
from reasondistill.stages.students.weighing import Weighed, samples_in, token_weights

log = logging.getLogger(__name__)

# A checkpoint that takes so long is told: nothing else moves meanwhile.
_WORTH_SAYING_S = 2.0


class BatchSortedSampler(torch.utils.data.Sampler[int]):
    """A fresh random order each epoch; inside each global batch rows are sorted by length.

    Micro-batches then need little padding, while every optimizer step still sees a uniformly random
    batch: grouping whole batches by length, as Trainer's `group_by_length` does, makes each step
    see one kind of problem. With `fill` an epoch ends with so many blank rows (number
    `len(lengths)`) that it is a multiple of it.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, *, fill: int = 1) -> None:
        self.lengths = lengths
        self.batch = batch
        self.seed = seed
        self.epoch = 0
        self.blanks = -len(lengths) % fill

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) + self.blanks

    def __iter__(self) -> Iterator[int]:
        order = order_of_epoch(len(self.lengths), self.seed, self.epoch)
        for start in range(0, len(order), self.batch):
            yield from sorted(order[start : start + self.batch], key=lambda i: self.lengths[i])
        yield from [len(self.lengths)] * self.blanks


# What a configuration says of the loss that keeps routers from using few of their experts.
ROUTER_KEYS = ("output_router_logits", "router_aux_loss_coef")


@contextmanager
def labelled_positions_alone() -> Generator[None]:
    """While open, TRL's fused head scores the positions that have a label and no others.

    By itself it does so where Triton runs; elsewhere it scores the prompts' positions too, and
    masks them: a quarter of forward and backward of a 0.8M student on a CPU. Losses and gradients
    are the same but for rounding. A TRL without the name goes its own way.
    """
    asks_for_triton = getattr(trl_utils, "_use_triton", None)
    if asks_for_triton is None:
        yield
        return
    trl_utils._use_triton = lambda _: True  # pyright: ignore[reportPrivateUsage]
    try:
        yield
    finally:
        trl_utils._use_triton = asks_for_triton  # pyright: ignore[reportPrivateUsage]


class SortedTrainer(SFTTrainer):
    """SFTTrainer with our sampler. `packing` keeps TRL's own order: its rows are equally long
    already.

    Raises StageError, in all processes at once, where a loss, a gradient's norm or a weight is not
    finite: before the step that would spoil the weights, and before a checkpoint holds them.

    The routers of a mixture of experts have a loss of their own where the model's configuration has
    `output_router_logits`, `router_aux_loss_coef` times: in training by any method, never in
    evaluation.
    """

    def __init__(self, **arguments: Any) -> None:
        config = arguments["model"].config.get_text_config()
        asked = {key: getattr(config, key) for key in ROUTER_KEYS if hasattr(config, key)}
        super().__init__(**arguments)
        # TRL turns this loss on wherever there is one, and writes so into the configuration.
        for key, value in asked.items():
            setattr(config, key, value)
        if not asked.get("output_router_logits", False):
            self.aux_loss_enabled = False

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """TRL's; in evaluation the cross-entropy alone, which all methods can be compared by."""
        is_training: bool = model.training
        if self.by_sample and is_training:
            model = self._weighed(model, inputs, num_items_in_batch)
        has_router_loss = self.aux_loss_enabled
        self.aux_loss_enabled = has_router_loss and is_training
        try:
            with labelled_positions_alone():
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        finally:
            self.aux_loss_enabled = has_router_loss

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """As Trainer does it; the examples of an optimizer step are counted where each of them
        weighs the same.
        """
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.by_sample:
            count = torch.tensor(sum(map(samples_in, batches)), device=device)
            everywhere: Any = self.accelerator.gather(count)
            self._samples = int(everywhere.sum())
        return batches, items

    def _weighed(
        self, model: Any, inputs: Mapping[str, Any], tokens: torch.Tensor | int | None
    ) -> Weighed:
        """The model, its losses weighed so that their sum by `tokens` is the mean of examples."""
        samples = self._samples
        if tokens is None:  # a micro-batch by itself
            tokens, samples = in_loss(inputs).sum(), samples_in(inputs)
        return Weighed(model, token_weights(inputs) * (tokens / max(1, samples)))

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
        lengths = lengths_of(data)
        at_once = arguments.per_device_train_batch_size * processes.world_size()
        batch = at_once * arguments.gradient_accumulation_steps
        whole: Any = self.train_dataset  # with the columns that no model reads
        if whole["row"][-1] == BLANK:
            sampler = BatchSortedSampler(lengths[:-1], batch, arguments.seed, fill=at_once)
        else:
            sampler = BatchSortedSampler(lengths, batch, arguments.seed)
        self.add_callback(TellsEpochs(sampler))
        return sampler

    # Whether the loss of a step is the mean of its examples, and how many these are.
    by_sample = False
    _samples = 0

    # After how many measurements without a lower validation loss it ends; None: never.
    patience: int | None = None

    def is_over(self) -> bool:
        """Whether all steps are done, or those that the validation loss leaves."""
        is_done = self.state.global_step >= self.state.max_steps
        return is_done or is_out_of_patience(self.state, self.patience)

    def take_best(self) -> int:
        """Put the weights of the step with the lowest validation loss into the model; return that
        step. Raises StageError where its checkpoint is gone, DataError where it is damaged.
        """
        best = self.state.best_global_step
        if best is None or best == self.state.global_step:
            return self.state.global_step
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{best}"
        if not folder.is_dir():
            raise StageError(
                f"{folder}: is gone; keep = 'best' would take the student from it. Remove "
                f"{folder.parent} to train anew."
            )
        saving.verify_checkpoint(folder)
        # By its step: a run may have been moved since the path was written down.
        self.state.best_model_checkpoint = str(folder)
        model: Any = self.model
        is_trained = {name: weight.requires_grad for name, weight in model.named_parameters()}
        self._load_best_model()
        for name, weight in model.named_parameters():
            weight.requires_grad_(is_trained[name])  # PEFT has just loaded an adapter to be used
        self._load_converted(folder)
        return best

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """As Trainer does it, and what it passes over."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_converted(Path(resume_from_checkpoint))

    def _load_converted(self, checkpoint: Path) -> None:
        """Load the weights whose names on disk are others than in memory (the experts of Qwen3-MoE,
        one by one there and all in one here): Trainer leaves them as they were, with a warning.
        """
        model: Any = self.model
        if not isinstance(model, PreTrainedModel) or processes.sharding() is not None:
            return  # adapters and split weights keep their names
        stored = names_on_disk(checkpoint)
        missing = [name for name, _ in model.named_parameters() if name not in stored]
        if not missing:
            return
        loaded = dict(type(model).from_pretrained(checkpoint, dtype=model.dtype).named_parameters())
        unknown = [name for name in missing if name not in loaded]
        if unknown:
            raise StageError(f"{checkpoint}: holds no weight {unknown[0]}.")
        with torch.no_grad():
            for name in missing:
                model.get_parameter(name).copy_(loaded[name])

    def _run_epoch(self, *arguments: Any, **options: Any) -> None:
        """As Trainer does it; one that goes on from its own end would do one more step."""
        if self.is_over():
            self.control.should_training_stop = True
            return
        super()._run_epoch(*arguments, **options)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """As Trainer does it, between the backward passes and the optimizer's step: neither it nor
        the loss may be NaN or infinite. A loss scaler (float16) passes over such steps by itself.
        """
        norm: Any = super()._get_grad_norm(model, grad_norm=grad_norm)
        values = {"the loss": float(self._tr_loss)}
        if norm is not None and self.accelerator.scaler is None:
            values["the gradient's norm"] = float(norm)
        self._require_finite(values, f"in step {self.state.global_step + 1}")
        return norm

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """As SFTTrainer does it; the loss must be a number."""
        metrics: dict[str, float] = super().evaluate(*arguments, **options)
        values = {"the validation loss": metrics.get("eval_loss", 0.0)}
        self._require_finite(values, f"after step {self.state.global_step}")
        return metrics

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As Trainer does it, of weights that are all finite; with sums."""
        values: dict[str, float] = {}
        name = bad_weight(self.model)
        if name is not None:
            values[f"weight {name}"] = math.nan
        self._require_finite(values, f"after step {self.state.global_step}")
        arguments: Any = self.args
        saved = Path(arguments.output_dir) / f"checkpoint-{self.state.global_step}"
        best = self.state.best_global_step
        started = time.monotonic()
        processes.on_first(lambda: saving.make_room_for(saved, best))
        super()._save_checkpoint(model, trial)
        processes.on_first(lambda: saving.sum_checkpoint(saved))
        seconds = time.monotonic() - started
        if seconds >= _WORTH_SAYING_S and processes.is_first():
            log.info("step %d · a checkpoint took %.0f s", self.state.global_step, seconds)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """As Trainer does it; not for a training that is over: from its weights alone the student
        is made. Split weights are kept in one with their optimizer.
        """
        if self.is_over() and processes.sharding() is None:
            return
        super()._save_optimizer_and_scheduler(output_dir)

    def _require_finite(self, values: Mapping[str, float], when: str) -> None:
        """Raise StageError where one of the values is NaN or infinite, in any of the processes."""
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if processes.anywhere(bool(bad)):
            what = " and ".join(bad) or "a value of another process"
            processes.on_first(lambda: self._diverge(f"{what} {when}"))

    def _diverge(self, what: str) -> None:
        arguments: Any = self.args
        checkpoint = get_last_checkpoint(arguments.output_dir)
        kept = "No checkpoint had been kept."
        if checkpoint is not None:
            kept = f"The last good checkpoint is {checkpoint}."
        precision = "bf16 = true rounds what it needs in float32"
        if not arguments.bf16:
            precision = "float32 is too narrow for it"
        raise StageError(
            f"{arguments.run_name}: {what} of {self.state.max_steps} is not finite (NaN or "
            f"infinity). Training stopped before any of it was kept. {kept} Likely: "
            f"learning_rate = {arguments.learning_rate:g} is too high for this model (take a "
            f"tenth, or a longer warmup_ratio); the base's weights are damaged; {precision}."
        )

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # What comes after, the state and the sums, says that the checkpoint is whole.
        self.accelerator.wait_for_everyone()


class TellsEpochs(TrainerCallback):
    """Tells the sampler each epoch; accelerate does not reach it where several processes go on from
    the middle of one.
    """

    def __init__(self, sampler: BatchSortedSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.sampler.set_epoch(int(state.epoch or 0))
