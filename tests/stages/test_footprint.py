"""What a training takes is said before it begins; what it does not get is a message, and nothing
that was saved is lost.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_saving import StopAt
from test_students import job, scratch, weights

from reasondistill.config import LoraSettings, StudentSettings, TrainSettings
from reasondistill.errors import Interrupted, StageError
from reasondistill.models.shapes import PUBLISHED, ModelShape, shape_of_config
from reasondistill.runs.store import StopSignal, require_complete
from reasondistill.stages.students import StudentJob, footprint, run_student

torch = pytest.importorskip("torch")

MATH_1_5B = StudentSettings(name="s", base="Qwen/Qwen2.5-Math-1.5B", save_every=200)
CPU, GPU = footprint.DeviceKind(), footprint.DeviceKind(computes_in_bf16=True, is_gpu=True)


def shape_1_5b() -> ModelShape:
    shape = shape_of_config(PUBLISHED["Qwen/Qwen2.5-Math-1.5B"])
    assert shape is not None
    return shape


def planned(student: StudentSettings = MATH_1_5B, **settings: object) -> footprint.Footprint:
    train = TrainSettings.model_validate({"micro_batch_size": 1} | settings)
    return footprint.footprint(student, train, shape_1_5b(), CPU, longest=512)


# ---- arithmetic ----------------------------------------------------------------------------------


def test_a_checkpoint_holds_three_float32_of_each_parameter_and_the_last_one_one() -> None:
    plan = planned()
    parameters = shape_1_5b().parameters
    assert (plan.checkpoint, plan.last) == (12 * parameters, 4 * parameters)
    assert plan.left == 2 * parameters  # bfloat16
    assert plan.disk(1000) == 2 * plan.checkpoint
    assert plan.disk(200) == plan.last + plan.model
    assert plan.disk(200, with_stop=True) == plan.checkpoint + plan.last + plan.model
    best = planned(MATH_1_5B.model_copy(update={"keep": "best"}))
    assert best.disk(1000) == 3 * plan.checkpoint


def test_a_full_training_holds_four_float32_of_each_parameter_and_what_tokens_leave() -> None:
    plan, parameters = planned(), shape_1_5b().parameters
    held = plan.weights + plan.gradients + plan.optimizer
    assert held == 16 * parameters
    assert plan.memory == held + plan.activations + plan.libraries
    longer = footprint.footprint(MATH_1_5B, TrainSettings(), shape_1_5b(), CPU, longest=4096)
    assert longer.activations > 8 * plan.activations
    checkpointed = planned(gradient_checkpointing=True)
    assert checkpointed.activations < plan.activations / 5
    split = planned(processes=4, strategy="fsdp2")
    assert split.weights + split.gradients + split.optimizer == held / 4


def test_an_adapter_needs_little_beside_the_weights() -> None:
    plan = planned(MATH_1_5B.model_copy(update={"lora": LoraSettings(r=16)}))
    # As PEFT counts for r = 16 on all linear layers of this model.
    assert plan.trained == 18_464_768
    assert plan.weights == 4 * plan.parameters and plan.checkpoint < 0.25 * 2**30
    on_gpu = footprint.footprint(
        MATH_1_5B.model_copy(update={"lora": LoraSettings()}), TrainSettings(), shape_1_5b(), GPU
    )
    assert on_gpu.weights == 2 * plan.parameters


# ---- memory --------------------------------------------------------------------------------------


class WantsMemory(StopSignal):
    """Asks for more memory than any machine has, in the middle of a training."""

    def __init__(self, made: StudentJob) -> None:
        super().__init__()
        self.made = made

    @property
    def requested(self) -> bool:  # type: ignore[override]
        if (self.made.folder / "checkpoints" / "checkpoint-3").exists():
            torch.empty(1 << 50)
        return False

    @requested.setter
    def requested(self, value: bool) -> None: ...


@pytest.mark.engine
def test_a_training_without_memory_says_so_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    student = scratch(save_every=3)
    whole, made = job(tmp_path, student, name="whole"), job(tmp_path, student, name="made")
    run_student(whole)
    says = (
        r"\[students\] s: out of memory after step 4 of 8 \(RuntimeError: .*can't allocate memory.*"
        r"The plan was about \d\.\d\d GiB \(weights .*goes on from .*checkpoint-3\. Less is taken "
        r"by: \[train\] micro_batch_size = 2 .*gradient_checkpointing = true .*max_length below"
    )
    with pytest.raises(StageError, match=says):
        run_student(made, stop=WantsMemory(made))
    less = made.settings.model_copy(update={"micro_batch_size": 2})
    run_student(replace(made, settings=less))
    ours, theirs = weights(made.folder / "model"), weights(whole.folder / "model")
    assert ours.keys() == theirs.keys()
    assert require_complete(made.folder).peak_memory_gib > 0.1


# ---- disk ----------------------------------------------------------------------------------------


@pytest.mark.engine
def test_a_training_keeps_what_it_goes_on_from_and_a_finished_student_nothing_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student = scratch(save_every=2)
    made = job(tmp_path, student)
    caplog.set_level("INFO")
    with pytest.raises(Interrupted):
        run_student(made, stop=StopAt(made, 7))
    checkpoints = made.folder / "checkpoints"
    kept = {path.name for path in checkpoints.glob("checkpoint-*")}
    assert kept == {"checkpoint-6", "checkpoint-8"}
    assert (checkpoints / "checkpoint-6" / "optimizer.pt").exists()
    over = {path.name for path in (checkpoints / "checkpoint-8").iterdir()}
    assert "model.safetensors" in over and "optimizer.pt" not in over
    run_student(made)
    assert not checkpoints.exists()
    assert "parameters are trained: about" in caplog.text and "on disk" in caplog.text


def test_a_disk_without_room_for_the_checkpoints_is_said_before_the_first_step(
    mounted: Callable[..., Path],
) -> None:
    disk = mounted("size=1m")
    plan = planned()
    says = (
        r"is too full: 1 MiB are free, and training s writes at most 34\.5 GiB there at once: "
        r"checkpoints of 17\.3 GiB each .*save_every = 1000 \(now 200\)"
    )
    with pytest.raises(StageError, match=says):
        footprint.require_room("s", plan, disk, steps=1000)
    small = replace(plan, checkpoint=300_000, last=100_000, model=50_000)
    footprint.require_room("s", small, disk, steps=1000)
    kept = disk / "checkpoints" / "checkpoint-200"
    kept.mkdir(parents=True)
    (kept / "optimizer.pt").write_bytes(bytes(600_000))
    # What lies there already is a part of what is needed.
    footprint.require_room("s", replace(small, checkpoint=450_000), disk, steps=1000)


@pytest.mark.engine
def test_a_disk_that_is_full_at_a_checkpoint_says_what_it_takes_and_goes_on(
    tmp_path: Path, mounted: Callable[..., Path]
) -> None:
    disk = mounted("size=100m")
    student = scratch(save_every=2)
    whole, made = job(tmp_path, student, name="whole"), job(disk, student, name="made")
    run_student(whole)

    class Fills(StopSignal):
        @property
        def requested(self) -> bool:  # type: ignore[override]
            room = shutil.disk_usage(disk).free
            if (made.folder / "checkpoints" / "checkpoint-2").exists() and room > 100_000:
                (disk / "others").write_bytes(bytes(room - 100_000))
            return False

        @requested.setter
        def requested(self, value: bool) -> None: ...

    says = (
        r"the disk is full, after step 4 of 8. Training s takes checkpoints of \d MiB.*are free now"
        r".*checkpoint-2 is safe, and the same command goes on from it"
    )
    with pytest.raises(StageError, match=says):
        run_student(made, stop=Fills())
    checkpoints = made.folder / "checkpoints"
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-2"]
    (disk / "others").unlink()
    run_student(made)
    ours, theirs = weights(made.folder / "model"), weights(whole.folder / "model")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
