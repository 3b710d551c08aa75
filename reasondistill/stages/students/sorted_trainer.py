"""SFTTrainer with our order of rows: random, but sorted by length inside each batch. Imports torch
and trl; imported late.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import torch
from accelerate import DistributedType, FullyShardedDataParallelPlugin, PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from reasondistill.stages.students import processes
from reasondistill.stages.students.tokens import IGNORE, Row

# The number of a row that fills a batch.
BLANK = -1


def dataset_of(rows: Sequence[Row], *, with_blank: bool = False) -> datasets.Dataset:
    """The rows by number, and after them perhaps one that has no labels."""
    columns: dict[str, list[Any]] = {
        "input_ids": [row.input_ids for row in rows],
        "labels": [row.labels for row in rows],
        "row": list(range(len(rows))),
    }
    if with_blank:
        columns["input_ids"].append([0, 0])
        columns["labels"].append([IGNORE, IGNORE])
        columns["row"].append(BLANK)
    return datasets.Dataset.from_dict(columns)


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
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order: list[int] = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(order), self.batch):
            yield from sorted(order[start : start + self.batch], key=lambda i: self.lengths[i])
        yield from [len(self.lengths)] * self.blanks


class SortedTrainer(SFTTrainer):
    """SFTTrainer with our sampler. `packing` keeps TRL's own order: its rows are equally long
    already.
    """

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
        lengths = [len(ids) for ids in data["input_ids"]]
        at_once = arguments.per_device_train_batch_size * processes.world_size()
        batch = at_once * arguments.gradient_accumulation_steps
        whole: Any = self.train_dataset  # with the columns that no model reads
        if whole["row"][-1] == BLANK:
            sampler = BatchSortedSampler(lengths[:-1], batch, arguments.seed, fill=at_once)
        else:
            sampler = BatchSortedSampler(lengths, batch, arguments.seed)
        self.add_callback(TellsEpochs(sampler))
        return sampler

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()  # what comes after says that the checkpoint is whole


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
