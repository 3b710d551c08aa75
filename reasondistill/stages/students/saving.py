"""What a training leaves on disk: checkpoints to go on from, weights on the way, the finished
model. Imported late.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from reasondistill import foreign_json
from reasondistill.config import StudentSettings
from reasondistill.errors import DataError, ReasonDistillError, StageError
from reasondistill.foreign_files import read_bytes
from reasondistill.runs import layout
from reasondistill.runs.seals import CHECKPOINT, SAME_KEY, TRUST, has_key
from reasondistill.runs.store import (
    disk_errors,
    has_own_seal,
    is_guarded,
    read_metrics,
    rewrite_shard,
    set_aside,
    verify_sums,
    write_sums,
)
from reasondistill.stages.students import adapters, bases, processes, reloading
from reasondistill.stages.students.finite import bad_weight_on_disk

log = logging.getLogger(__name__)

# A model of so many parameters, 128 MiB in bfloat16, is saved and loaded before training too.
_REHEARSED = 64 << 20
# What only a checkpoint of split weights has, by who split them (processes.sharding).
_MARKS = {"fsdp": "pytorch_model_fsdp*", "deepspeed": "global_step*"}


def start_from(folder: Path) -> Path | None:
    """The checkpoint that a training goes on from, None for its beginning; what was written after
    it is forgotten, and so are checkpoints that are damaged or whose weights are not finite.

    Raises StageError for one whose weights are split in another way than they will be, and for a
    split one of somebody else; DataError for one that cannot be read now.
    """
    remove_torn_checkpoints(folder)  # first: nothing can be read of what a kill has cut
    set_aside_damaged_checkpoints(folder)
    if processes.sharding() is not None:
        set_aside_unsummed_checkpoints(folder)
    remove_checkpoints_with_bad_weights(folder)
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None:
        splitters = (name for name, mark in _MARKS.items() if any(checkpoint.glob(mark)))
        if next(splitters, None) != processes.sharding():
            raise StageError(
                f"{checkpoint}: was kept under another [train] strategy. Go on with that "
                f"one, or remove {checkpoint.parent} to train anew."
            )
        if processes.sharding() is not None:
            require_own(checkpoint)
    forget_after(folder, checkpoint)
    # What a killed process left.
    for remnant in (*folder.glob(f"*{bases.PART}"), folder / layout.ROLLOUTS):
        shutil.rmtree(remnant, ignore_errors=True)
    return checkpoint


def remove_checkpoints_with_bad_weights(folder: Path) -> None:
    """No training goes on from NaN. Earlier versions kept such checkpoints; of weights that are
    split over processes nobody looks at the files.
    """
    for checkpoint in (folder / layout.CHECKPOINTS).glob("checkpoint-*"):
        weight = bad_weight_on_disk(checkpoint)
        if weight is not None:
            log.warning("%s is removed: its weight %s is not finite", checkpoint, weight)
            shutil.rmtree(checkpoint)


def sum_checkpoint(checkpoint: Path) -> None:
    """Write the sums of a whole checkpoint into it: nobody goes on from a damaged one."""
    sums = checkpoint / layout.CHECKPOINT_SUMS
    # One of an earlier saving of the same step is written anew.
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path != sums]
    with disk_errors(checkpoint):
        write_sums(sums, files, sealed_as=CHECKPOINT)


def make_room_for(checkpoint: Path, best: int | None) -> None:
    """Remove what no training would go on from, before a checkpoint is written: all but the newest
    one before it, and that of the `best` step, from which the student may be taken.

    So there are never more than two, and that one. A kill leaves the one before; where the new one
    is damaged later, it is there too.
    """
    folder = checkpoint.parent
    others = [path for path in folder.glob("checkpoint-*") if path != checkpoint]
    kept = {folder / f"checkpoint-{best}"}
    if others:
        kept.add(max(others, key=step_of))
    for path in others:
        if path not in kept:
            shutil.rmtree(path)


def step_of(checkpoint: Path) -> int:
    """After how many steps a checkpoint was kept; -1 for a folder that is called otherwise."""
    number = checkpoint.name.rpartition("-")[2]
    if not number.isdecimal():
        return -1
    return int(number)


def require_own(checkpoint: Path) -> None:
    """Raise StageError for a checkpoint that this user's trainings have not written, unless the run
    is trusted: of split ones the libraries load pickles, which can execute anything. Of others they
    load tensors and numbers only (`weights_only`).

    Where there is no key nothing can be said, and the command that began has asked.
    """
    if TRUST in os.environ or has_own_seal(checkpoint / layout.CHECKPOINT_SUMS, CHECKPOINT):
        return
    if not has_key():
        log.warning("%s: whose it is cannot be known: there is no key", checkpoint)
        return
    raise StageError(
        f"{checkpoint}: no training of yours has written it (or an earlier version has), and it "
        "holds pickles, which execute what they like. If you trust it, give the same command with "
        f"--trust; else remove {checkpoint.parent} to train anew. {SAME_KEY}"
    )


def verify_checkpoint(checkpoint: Path) -> None:
    """Raises DataError for a checkpoint that is not what was saved. One of an earlier version has
    no sums, and is taken as it is.
    """
    sums = checkpoint / layout.CHECKPOINT_SUMS
    if sums.exists():
        verify_sums(sums)


def set_aside_damaged_checkpoints(folder: Path) -> None:
    """No training goes on from what was not saved: it goes on from the checkpoint before, or begins
    anew. A damaged one took hours, so it is not removed but renamed. Earlier versions kept no sums,
    and their checkpoints are taken as they are.

    Raises DataError for one that cannot be read now.
    """
    for checkpoint in (folder / layout.CHECKPOINTS).glob("checkpoint-*"):
        try:
            verify_checkpoint(checkpoint)
        except DataError as error:
            if isinstance(error.__cause__, OSError):
                raise  # a server out of reach says nothing of what it holds
            aside = set_aside(checkpoint)
            found = str(error).partition(" Nothing of it is used.")[0]
            log.warning("%s is set aside as %s: %s", checkpoint, aside.name, found)


def set_aside_unsummed_checkpoints(folder: Path) -> None:
    """A kill before its sums were written, or published, leaves a checkpoint of which nobody can
    say whose it is. Of split weights it is not loaded unless the run is trusted: the training goes
    on from the one before. Those of earlier versions, which kept no sums, are `require_own`'s.
    """
    if TRUST in os.environ or not is_guarded(folder / layout.MANIFEST):
        return
    for checkpoint in (folder / layout.CHECKPOINTS).glob("checkpoint-*"):
        if not (checkpoint / layout.CHECKPOINT_SUMS).exists():
            aside = set_aside(checkpoint)
            log.warning(
                "%s is set aside as %s: its training was killed before its sums were written",
                checkpoint,
                aside.name,
            )


def remove_torn_checkpoints(folder: Path) -> None:
    """What a kill has left half written is no checkpoint. trainer_state.json is written last, so a
    readable one means whole; the sums come after it.
    """
    for path in (folder / layout.CHECKPOINTS).glob("checkpoint-*"):
        if (path / layout.CHECKPOINT_SUMS).exists():
            continue
        try:
            foreign_json.loads(read_bytes(path / layout.TRAINER_STATE))
        except (OSError, ValueError, DataError):
            shutil.rmtree(path)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint."""
    checkpoints = folder / layout.CHECKPOINTS
    if not checkpoints.exists():
        return None
    newest = get_last_checkpoint(str(checkpoints))
    if not newest:
        return None
    return Path(newest)


def forget_after(folder: Path, checkpoint: Path | None) -> None:
    """Drop metrics lines and snapshots of steps that will be done again: a curve never doubles back
    and shows one training only.
    """
    step = 0
    if checkpoint is not None:
        step = step_of(checkpoint)
    lines = [json.dumps(line) + "\n" for line in read_metrics(folder) if line["step"] <= step]
    metrics = folder / layout.METRICS
    if metrics.exists():
        rewrite_shard(metrics, (line.encode("utf-8") for line in lines))
    for path in (folder / layout.SNAPSHOTS).glob("step-*"):
        number = path.name.removeprefix("step-")
        is_torn = not number.isdecimal()  # by a kill
        if is_torn or int(number) > step:
            shutil.rmtree(path)


def whole_model(trainer: Any, student: StudentSettings, load: Callable[[], Any]) -> Any:
    """The model with all of its weights on the first process, None on the others. All take part:
    the weights may be split over them.

    Split ones are put together on the CPU, in a model that `load` gives: the student before it was
    trained.
    """
    is_split = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    if not is_split:
        if processes.is_first():
            return trainer.model
        return None
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not processes.is_first():
        return None
    with loading_whole():
        model = load()
    model.load_state_dict(state)
    return model


@contextmanager
def loading_whole() -> Generator[None]:
    """While ZeRO-3 is on, transformers splits every model it loads over all processes: one alone
    would wait for the others for ever.
    """
    from transformers.integrations import deepspeed

    before = deepspeed._hf_deepspeed_config_weak_ref  # pyright: ignore[reportPrivateUsage]
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = before  # pyright: ignore[reportPrivateUsage]


def rehearse(
    model: Any, student: StudentSettings, tokenizer: Any, ids: Sequence[int], folder: Path
) -> None:
    """Do before training what is done with the finished model: save it on the same disk, load it
    again, compare both on the row `ids`. Nothing of it stays in `folder`.

    A model of more than 64M parameters is not written twice: of it everything but the weights is
    saved, and what that describes is compared weight by weight, in name and shape. Raises
    StageError where it cannot be done.
    """
    trial = folder / f"trial{bases.PART}"
    parameters = sum(weight.numel() for weight in model.parameters())
    is_whole = processes.sharding() != "deepspeed"  # else this process has a part of the weights
    try:
        with torch.random.fork_rng(devices=[]):  # what is trained begins as if nothing had been
            if is_whole and parameters <= _REHEARSED:
                copied = copy_to_cpu(model)
                if student.lora is not None:
                    copied = adapters.merged(copied, tokenizer)
                save_compared(copied, student, tokenizer, ids, trial)
            elif student.lora is not None:
                bases.save_description(model.get_base_model(), tokenizer, trial)
            else:
                bases.save_description(model, tokenizer, trial)
                reloading.require_same_shapes(model, trial, student.trust_remote_code)
        reloading.require_same_tokenizer(tokenizer, trial, ids, student.trust_remote_code)
    except Exception as error:  # of transformers, a tokenizer, the model's own code
        raise StageError(
            f"[students] {student.name}: such a model cannot be saved and loaded again, as was "
            f"tried before training: {what_was_wrong(error)}"
        ) from error
    finally:
        shutil.rmtree(trial, ignore_errors=True)


@contextmanager
def after_training(folder: Path) -> Generator[None]:
    """Whatever fails inside is said together with what was not lost."""
    try:
        yield
    except Exception as error:  # of transformers, a tokenizer, the model's own code
        checkpoint = last_checkpoint(folder)
        if checkpoint is None:
            raise
        raise StageError(
            f"{what_was_wrong(error)} The training itself is done, and kept in {checkpoint}: the "
            "same command does not train again, it only measures and saves."
        ) from error


def what_was_wrong(error: Exception) -> str:
    """An error in a sentence; of one that is not ours the kind too."""
    if isinstance(error, ReasonDistillError):
        return str(error)
    kind = type(error).__name__
    return f"{kind}: {str(error).strip().rstrip('.')}."


def save_student(
    model: Any, student: StudentSettings, tokenizer: Any, ids: Sequence[int], folder: Path
) -> tuple[int, int]:
    """Write `folder/model`, and the adapter beside it under LoRA; return how many parameters there
    are and how many were trained. It is there when, loaded again, it says of the row `ids` what the
    model says, and the model is used up.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if student.lora is not None:
        with disk_errors(folder / layout.ADAPTER):
            adapters.save(model, tokenizer, folder / layout.ADAPTER)
        log.info("%s: its adapter is merged into its base", student.name)
        model = adapters.merged(model, tokenizer)
    parameters = sum(p.numel() for p in model.parameters())
    log.info(
        "%s: %s parameters are saved, loaded again and compared", student.name, f"{parameters:,}"
    )
    save_compared(model, student, tokenizer, ids, folder / layout.MODEL)
    return parameters, trained


def save_compared(
    model: Any, student: StudentSettings, tokenizer: Any, ids: Sequence[int], folder: Path
) -> None:
    """Write a model as it is served; it appears when, loaded again, it is the same."""

    def check(written: Path) -> None:
        reloading.require_same(model, written, ids, student.trust_remote_code)

    reloading.cast(model, storage_dtype(student))
    bases.save(model, tokenizer, folder, check)


def save_merged(model: Any, student: StudentSettings, tokenizer: Any, folder: Path) -> None:
    """Write the model as it is served, with LoRA's weights merged in. It is used up."""
    if student.lora is not None:
        model = adapters.merged(model, tokenizer)
    reloading.cast(model, storage_dtype(student))
    bases.save(model, tokenizer, folder)


def copy_to_cpu(model: Any, dtype: torch.dtype | None = None) -> Any:
    """A copy of the model on the CPU, floats as `dtype`; the model is not touched, gradients stay
    behind, a GPU needs no room for it.
    """

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        wanted = tensor.dtype
        if dtype is not None and tensor.is_floating_point():
            wanted = dtype
        return tensor.detach().to("cpu", wanted, copy=True)

    # What deepcopy finds in its memo it takes for copied: tied weights stay tied, everything else
    # (config, modules) is copied as usual.
    memo: dict[int, Any] = {}
    for buffer in model.buffers():
        memo[id(buffer)] = copied(buffer)
    for weight in model.parameters():
        memo[id(weight)] = torch.nn.Parameter(copied(weight), requires_grad=False)
    copied_model = copy.deepcopy(model, memo)
    for module in copied_model.modules():
        # What trainers put in the place of a forward would compute with the model, not the copy.
        vars(module).pop("forward", None)
    return copied_model


def storage_dtype(student: StudentSettings) -> torch.dtype:
    """What a finished model's weights are kept as."""
    if student.bf16:
        return torch.bfloat16
    return torch.float32


class Snapshots(TrainerCallback):
    """Keeps copies of the weights in `folder/step-N` while a model is trained; the training does
    not notice.

    After a resume those of another spacing are removed, the later ones are made, and the earlier
    ones stay. `strip` takes off a copy what is no part of the finished student; `load` is that of
    `whole_model`.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        student: StudentSettings,
        tokenizer: Any,
        trainer: Any,
        strip: Callable[[Any], None] | None,
        load: Callable[[], Any],
    ) -> None:
        self.folder, self.count, self.student, self.tokenizer = folder, count, student, tokenizer
        self.trainer, self.strip, self.load = trainer, strip, load

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.count == 0 or not state.is_world_process_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        planned = {f"step-{step}" for step in snapshot_steps(state.max_steps, self.count)}
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in planned:
                shutil.rmtree(path)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step not in snapshot_steps(state.max_steps, self.count):
            return
        model = whole_model(self.trainer, self.student, self.load)
        if model is None:
            return
        if model is self.trainer.model:
            # Under LoRA the sum of base and adapter is made first and rounded after, as for the
            # finished model.
            dtype = None
            if self.student.lora is None:
                dtype = storage_dtype(self.student)
            model = copy_to_cpu(model, dtype)
        if self.strip is not None:
            self.strip(model)
        save_merged(model, self.student, self.tokenizer, self.folder / f"step-{state.global_step}")
        log.info("step %d/%d · weights kept", state.global_step, state.max_steps)


def snapshot_steps(steps: int, count: int) -> list[int]:
    """After which steps weights are kept: `count` evenly spaced points, without the last, which is
    the finished model.

    >>> snapshot_steps(450, 5)
    [90, 180, 270, 360]
    """
    return sorted({round(steps * i / count) for i in range(1, count)} - {0, steps})
