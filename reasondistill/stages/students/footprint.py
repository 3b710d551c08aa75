"""What training a student takes: memory of the device that trains it, and room on disk. Estimates
from the model's shape, made before anything is loaded.

    plan = footprint(student, settings, shape_of("Qwen/Qwen2.5-0.5B"), DeviceKind())
    plan.memory / 2**30, plan.disk(steps=300) / 2**30
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.errors import StageError
from reasondistill.models.shapes import ModelShape, shape_of, shape_of_config, shape_of_cut
from reasondistill.models.weights import has_cpu_bf16
from reasondistill.runs import layout

GIB = 2**30
# Bytes of optimizer state for each trained parameter: AdamW has two float32; Muon one for matrices,
# AdamW's two for embeddings (5.1 measured).
OPTIMIZER_BYTES = {"adamw": 8, "muon": 5}
# What is kept of a token in one layer for the backward pass, in numbers: of the layer's width (two
# norms, their inputs, the inputs of two groups of projections), of the queries' (before and after
# rotation, the result, its copy), of the keys', and of the MLP's.
_WIDTHS, _QUERIES, _KEYS, _GATES = 8, 4, 6, 4
# A CPU's allocator keeps half as much again: 6.46 GiB were held in the first step of a 135M with
# 1,992 tokens, before there was an optimizer, where tensors of 2.7 GiB are saved.
_CPU_HEAP = 1.45
# Two thirds of these numbers are of the type that is computed in, norms stay in float32.
_MIXED_BYTES = 2.7
# Attention that is no kernel holds its scores: before and after the softmax, and for the gradient.
_SCORES = 3
# So many tokens at a time get logits, in float32, with their gradient.
_HEAD_TOKENS, _HEAD_COPIES = 256, 3
# Python, torch and the trainer: 0.75 GiB on a CPU, of which a GPU holds its own part.
_LIBRARIES = 0.75 * GIB


@dataclass(frozen=True)
class DeviceKind:
    """What of a device memory depends on: `computes_in_bf16`, and whether it `is_gpu`."""

    computes_in_bf16: bool = False
    is_gpu: bool = False


def device_here() -> DeviceKind:
    """The device of this machine, as far as can be said without torch."""
    if shutil.which("nvidia-smi") is not None:
        return DeviceKind(computes_in_bf16=True, is_gpu=True)
    return DeviceKind(computes_in_bf16=has_cpu_bf16())


@dataclass(frozen=True)
class Footprint:
    """Bytes of a training's memory, by what they are for, and of what it writes.

    `checkpoint` is one to go on from, `last` that of a training that is over, `model` the finished
    student with its adapter.
    """

    parameters: int
    trained: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    libraries: float
    checkpoint: float
    last: float
    model: float
    snapshots: int
    save_every: int
    keeps_best: bool

    @property
    def memory(self) -> float:
        """The most that is held at once."""
        held = self.weights + self.gradients + self.optimizer + self.activations
        return held + self.libraries

    @property
    def left(self) -> float:
        """What stays on disk when the student is finished."""
        return self.model * max(1, self.snapshots)

    def disk(self, steps: int | None = None, *, with_stop: bool = False) -> float:
        """The most that lies on disk at once while so many steps are trained, or very many.

        A stop keeps one checkpoint more than the training by itself.
        """
        kept = 2
        if steps is not None:
            kept = min(kept, (steps - 1) // self.save_every)
        if with_stop:
            kept = max(1, kept)
        best = 0.0
        if self.keeps_best:
            best = self.checkpoint
        before_the_end = min(kept, 1) * self.checkpoint
        at_work = kept * self.checkpoint + self.model * max(0, self.snapshots - 1)
        return best + max(at_work, before_the_end + self.last + self.left)


def footprint(
    student: StudentSettings,
    settings: TrainSettings,
    shape: ModelShape,
    device: DeviceKind,
    *,
    longest: int | None = None,
    snapshots: int = 0,
    trained: int | None = None,
) -> Footprint:
    """The footprint of one process that trains a student; rows have `longest` tokens, by default as
    many as `max_length`. `trained` parameters are counted here where they are not given.

    Not in it: a teacher's weights, and what vLLM takes for texts that the student writes.
    """
    if trained is None:
        trained = shape.parameters
        if student.lora is not None:
            trained = adapter_parameters(shape, student.lora.r)
    parts = parts_of(settings)
    weight = 4.0
    if student.lora is not None and device.is_gpu:
        weight = 2.0
    in_bf16 = student.bf16 and device.computes_in_bf16
    weights = shape.parameters * weight / parts.weights
    if in_bf16 and weight == 4.0:
        weights += shape.parameters * 2 / parts.weights  # a copy in the type that is computed in
    state = 4 + OPTIMIZER_BYTES[student.optimizer]
    stored = 2 if student.bf16 else 4
    adapter = 4 * trained if student.lora is not None else 0
    activations = _activations(student, settings, shape, longest, in_bf16=in_bf16)
    if not device.is_gpu:
        activations *= _CPU_HEAP
    gradients = 4.0 * trained / parts.gradients
    if settings.processes > 1 and settings.strategy == "ddp":
        gradients *= 2  # those that are sent are copies
    return Footprint(
        parameters=shape.parameters,
        trained=trained,
        weights=weights,
        gradients=gradients,
        optimizer=float(OPTIMIZER_BYTES[student.optimizer] * trained) / parts.gradients,
        activations=activations,
        libraries=_LIBRARIES,
        checkpoint=float(state * trained),
        last=4.0 * trained,
        model=float(stored * shape.parameters + adapter),
        snapshots=snapshots,
        save_every=student.save_every,
        keeps_best=student.keep == "best",
    )


@dataclass(frozen=True)
class Parts:
    """Among how many processes weights are split, and gradients with the optimizer."""

    weights: int = 1
    gradients: int = 1


def parts_of(settings: TrainSettings) -> Parts:
    """How the strategy of the cluster file splits a training over the processes of one node."""
    if settings.strategy in ("fsdp2", "zero3"):
        return Parts(settings.processes, settings.processes)
    if settings.strategy == "zero2":
        return Parts(1, settings.processes)
    return Parts()


def adapter_parameters(shape: ModelShape, rank: int) -> int:
    """The parameters of an adapter on all linear layers."""
    queries, keys = shape.attention_width, shape.key_value_width
    attention = 2 * (shape.hidden + queries) + 2 * (shape.hidden + keys)
    mlp = 3 * (shape.hidden + shape.intermediate)
    return rank * shape.layers * (attention + mlp)


def _activations(
    student: StudentSettings,
    settings: TrainSettings,
    shape: ModelShape,
    longest: int | None,
    *,
    in_bf16: bool,
) -> float:
    """What the backward pass needs of one micro-batch."""
    length = student.max_length
    if longest is not None and not student.packing:
        length = min(length, longest)
    rows = min(settings.micro_batch_size, max(1, student.batch_size // settings.processes))
    tokens = rows * length
    number = _MIXED_BYTES if in_bf16 else 4.0
    of_a_layer = (
        _WIDTHS * shape.hidden
        + _QUERIES * shape.attention_width
        + _KEYS * shape.key_value_width
        + _GATES * shape.intermediate
    )
    layers = float(shape.layers)
    held = tokens * of_a_layer * number
    if student.attn_implementation == "eager":
        heads = max(1, shape.attention_width // 64)
        held += _SCORES * rows * heads * float(length) ** 2 * number
    if settings.gradient_checkpointing:
        # The inputs of all layers, and one layer that is computed again.
        held += tokens * shape.hidden * number * layers
    else:
        held *= layers
    head = min(tokens, _HEAD_TOKENS) * shape.vocabulary * 4 * _HEAD_COPIES
    return held + head


# ---- of a student's settings ---------------------------------------------------------------------


def start_shape(student: StudentSettings) -> ModelShape | None:
    """The shape that a student is trained in; None where it is not known before: of one that goes
    on from another, or whose base is not here.
    """
    if student.starts_from is not None:
        return None
    if student.shrink is not None:
        return shape_of_cut(student.base or "", student.revision, student.shrink.sizes)
    if student.architecture is None:
        return shape_of(student.base or "", student.revision)
    config = student.architecture.model_dump()
    config["num_key_value_heads"] = config["num_key_value_heads"] or config["num_attention_heads"]
    return shape_of_config(config | {"model_type": student.architecture.type})


def plan_of(
    student: StudentSettings,
    settings: TrainSettings,
    *,
    device: DeviceKind | None = None,
    snapshots: int = 0,
) -> Footprint | None:
    """The footprint of a student that is trained here, or on another `device`, by its settings
    alone; None where it is not trained, or its shape is not known.
    """
    shape = None
    if student.method != "base":
        shape = start_shape(student)
    if shape is None:
        return None
    return footprint(student, settings, shape, device or device_here(), snapshots=snapshots)


def gib(size: float) -> str:
    """`18.5 GiB`, `0.52 GiB`, `41 MiB`."""
    number = size / GIB
    if number < 0.1:
        return f"{1024 * number:,.0f} MiB"
    digits = 1 if number >= 10 else 2
    return f"{number:,.{digits}f} GiB"


def memory_words(plan: Footprint) -> str:
    """What the memory is for, in a sentence's part."""
    parts = {
        "weights": plan.weights,
        "gradients": plan.gradients,
        "optimizer": plan.optimizer,
        "activations": plan.activations,
        "libraries": plan.libraries,
    }
    named = ", ".join(f"{name} {size / GIB:,.2f}" for name, size in parts.items())
    return f"about {gib(plan.memory)} ({named})"


def ways_to_less(student: StudentSettings, settings: TrainSettings) -> str:
    """Which settings lower the memory of a training, those first that change no result."""
    ways = list(_ways(student, settings))
    return "; ".join(ways)


def can_take_an_adapter(student: StudentSettings) -> bool:
    """Whether `lora` would lower what its training takes: it has none, and a base to adapt."""
    return student.lora is None and student.base is not None


def _ways(student: StudentSettings, settings: TrainSettings) -> Iterator[str]:
    if settings.micro_batch_size > 1:
        fewer = max(1, settings.micro_batch_size // 2)
        yield (
            f"[train] micro_batch_size = {fewer} in the cluster file ({settings.micro_batch_size} "
            f"now; the batch of {student.batch_size} is then added up in more parts)"
        )
    if not settings.gradient_checkpointing:
        yield "[train] gradient_checkpointing = true there (slower, same result)"
    if settings.processes > 1 and settings.strategy == "ddp":
        yield "[train] strategy = 'fsdp2' there, which splits the model over the processes"
    yield f"max_length below {student.max_length} (longer rows are then left out)"
    if can_take_an_adapter(student):
        yield "lora = {}, which trains an adapter and not the model"
    if student.lora is None and student.optimizer == "adamw":
        yield "optimizer = 'muon' (5 bytes a parameter in the place of 8)"


# ---- room on disk --------------------------------------------------------------------------------


def written_so_far(folder: Path) -> int:
    """The bytes of a student's folder that its training will replace or count on."""
    size = 0
    for name in (layout.CHECKPOINTS, layout.SNAPSHOTS):
        for place, _, names in os.walk(folder / name):
            size += sum((Path(place) / one).lstat().st_size for one in names)
    return size


def require_room(student: str, plan: Footprint, folder: Path, steps: int) -> None:
    """Raise StageError where the disk of `folder` has less room than the checkpoints and the model
    of so many steps will surely take.
    """
    free = shutil.disk_usage(folder).free
    needed = plan.disk(steps) - written_so_far(folder)
    if needed <= free:
        return
    raise StageError(
        f"{folder}: the disk is too full: {gib(free)} are free, and training {student} writes at "
        f"most {gib(plan.disk(steps))} there at once: checkpoints of {gib(plan.checkpoint)} each "
        f"(the last two; weights and optimizer in float32) and the model ({gib(plan.model)}). "
        "Nothing was trained. Free some space, or put the run on a larger disk (--runs); less is "
        f"written {_less_on_disk(plan, steps)}."
    )


def _less_on_disk(plan: Footprint, steps: int) -> str:
    ways = ["with lora = {}"]
    if plan.save_every < steps:
        ways.append(f"with save_every = {steps} (now {plan.save_every}): one, at the end")
    if plan.snapshots > 1:
        ways.append(f"with fewer [evals.checkpoints] count (now {plan.snapshots})")
    if plan.keeps_best:
        ways.append("with keep = 'last'")
    return ", or ".join(ways)
