"""What is saved is what was trained: finite, loadable, of the step that was asked for; nothing that
was paid for is lost.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from test_students import job, scratch, weights
from tiny_model import make_tiny_model

from reasondistill.config import StudentSettings
from reasondistill.errors import ConfigError, Interrupted, StageError
from reasondistill.runs.store import StopSignal, read_metrics
from reasondistill.stages.students import StudentJob, run_student

torch = pytest.importorskip("torch")


class StopAt(StopSignal):
    """Asks to stop once a checkpoint of this step, or a later one, would be the next."""

    def __init__(self, made: StudentJob, lines: int) -> None:
        super().__init__()
        self.made, self.lines = made, lines

    @property
    def requested(self) -> bool:  # type: ignore[override]
        return len(read_metrics(self.made.folder)) >= self.lines

    @requested.setter
    def requested(self, value: bool) -> None: ...


def spoil(folder: Path, value: float = math.nan) -> str:
    """Put one bad value into a model on disk; the name of the weight that has it."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[3] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return name


def bare_numbers(path: Path) -> list[Any]:
    """Every line as strict JSON: a bare NaN is an error."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in {path}")

    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


# ---- numbers that are none -----------------------------------------------------------------------


@pytest.mark.engine
def test_a_training_that_diverges_stops_and_names_the_step_and_the_last_checkpoint(
    tmp_path: Path,
) -> None:
    from reasondistill.stages.students.finite import bad_weight_on_disk

    made = job(tmp_path, scratch(learning_rate=1e30, save_every=1))
    says = r"in step 3 of 8 is not finite.*checkpoint-2\b.*learning_rate = 1e\+30 is too high"
    with pytest.raises(StageError, match=says):
        run_student(made)
    assert not (made.folder / "model").exists()
    for line in bare_numbers(made.folder / "metrics.jsonl"):
        assert line["loss"] > 0
    for checkpoint in (made.folder / "checkpoints").iterdir():
        assert bad_weight_on_disk(checkpoint) is None
    with pytest.raises(StageError, match="in step 3 of 8"):
        run_student(made)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_base_with_a_bad_weight_is_refused_by_the_weight_s_name(
    tmp_path: Path, value: float
) -> None:
    base = make_tiny_model(tmp_path / "base")
    name = spoil(base, value)
    student = StudentSettings(name="s", base=str(base), max_steps=1, max_length=400)
    with pytest.raises(ConfigError, match=rf"base = .*weight {name} is not finite"):
        run_student(job(tmp_path, student))


def test_a_model_with_a_bad_weight_is_never_saved(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reasondistill.stages.students.bases import save

    base = make_tiny_model(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model.model.norm.weight.data[0] = math.inf
    with pytest.raises(StageError, match=r"model\.norm\.weight is not finite"):
        save(model, tokenizer, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.engine
def test_a_bad_checkpoint_of_an_earlier_version_is_not_gone_on_from(tmp_path: Path) -> None:
    student = scratch(epochs=3, save_every=3)
    whole, cut = job(tmp_path, student, name="whole"), job(tmp_path, student, name="cut")
    run_student(whole)
    with pytest.raises(Interrupted):
        run_student(cut, stop=StopAt(cut, 7))
    checkpoints = cut.folder / "checkpoints"
    kept = {path.name for path in checkpoints.glob("checkpoint-*")}
    assert kept == {"checkpoint-6", "checkpoint-8"}
    spoil(checkpoints / "checkpoint-8")
    run_student(cut)
    ours, theirs = weights(cut.folder / "model"), weights(whole.folder / "model")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
