"""What is saved is what was trained: finite, loadable, of the step that was asked for; nothing that
was paid for is lost.
"""

from __future__ import annotations

import copy
import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from architectures import ARCHITECTURES, make_architecture, save_architecture
from pydantic import ValidationError
from test_students import example, job, scratch, weights
from tiny_model import make_tiny_model, make_tokenizer

from reasondistill.config import LoraSettings, StudentSettings
from reasondistill.errors import ConfigError, DataError, Interrupted, StageError
from reasondistill.runs import layout
from reasondistill.runs.store import Identity, StopSignal, open_stage, read_metrics
from reasondistill.stages.students import StudentJob, read_student, run_student

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
    (checkpoints / "checkpoint-8" / "sums.json").unlink()
    run_student(cut)
    ours, theirs = weights(cut.folder / "model"), weights(whole.folder / "model")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.engine
@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "trainer_state.json"])
def test_a_damaged_checkpoint_is_not_gone_on_from(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    student = scratch(epochs=3, save_every=3)
    whole, cut = job(tmp_path, student, name="whole"), job(tmp_path, student, name="cut")
    run_student(whole)
    with pytest.raises(Interrupted):
        run_student(cut, stop=StopAt(cut, 7))
    path = cut.folder / "checkpoints" / "checkpoint-8" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    run_student(cut)
    said = f"checkpoint-8 is set aside as .damaged-checkpoint-8: {path}: damaged: bytes"
    assert said in caplog.text
    assert (path.parents[1] / ".damaged-checkpoint-8" / name).read_bytes() == content
    ours, theirs = weights(cut.folder / "model"), weights(whole.folder / "model")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("content", [b"{", b"", None])
def test_a_checkpoint_with_sums_is_never_taken_for_half_written(
    tmp_path: Path, content: bytes | None
) -> None:
    from reasondistill.stages.students.saving import start_from, sum_checkpoint

    checkpoint = tmp_path / "checkpoints" / "checkpoint-8"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    (checkpoint / "optimizer.pt").write_bytes(b"hours")
    sum_checkpoint(checkpoint)
    (checkpoint / "trainer_state.json").unlink()
    if content is not None:
        (checkpoint / "trainer_state.json").write_bytes(content)
    assert start_from(tmp_path) is None
    aside = checkpoint.with_name(".damaged-checkpoint-8")
    assert not checkpoint.exists() and (aside / "optimizer.pt").read_bytes() == b"hours"


def test_a_checkpoint_that_is_out_of_reach_is_no_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reasondistill.stages.students.saving import start_from, sum_checkpoint

    checkpoint = tmp_path / "checkpoints" / "checkpoint-8"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    sum_checkpoint(checkpoint)

    def refuse(*arguments: object) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "pread", refuse)
    with pytest.raises(DataError, match=r"it cannot be read \(Stale file handle\)"):
        start_from(tmp_path)
    assert checkpoint.exists()


def test_a_split_checkpoint_of_somebody_else_is_not_loaded_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its libraries unpickle it; of others tensors and numbers are loaded, and nothing runs."""
    from reasondistill.runs.seals import KEY, TRUST
    from reasondistill.stages.students import processes
    from reasondistill.stages.students.saving import start_from, sum_checkpoint

    monkeypatch.setattr(processes, "sharding", lambda: "fsdp")
    checkpoint = tmp_path / "checkpoints" / "checkpoint-8"
    (checkpoint / "pytorch_model_fsdp_0").mkdir(parents=True)
    (checkpoint / "pytorch_model_fsdp_0" / ".metadata").write_bytes(b"cos\nsystem\n")
    (checkpoint / "trainer_state.json").write_text("{}")
    with pytest.raises(StageError, match=r"checkpoint-8: no training of yours .* --trust"):
        start_from(tmp_path)
    sum_checkpoint(checkpoint)
    assert start_from(tmp_path) == checkpoint
    monkeypatch.setenv(KEY, "0" * 64)  # another user
    with pytest.raises(StageError, match="no training of yours"):
        start_from(tmp_path)
    monkeypatch.setenv(TRUST, "1")
    assert start_from(tmp_path) == checkpoint
    monkeypatch.delenv(TRUST)
    monkeypatch.setenv(KEY, "no key")
    assert start_from(tmp_path) == checkpoint
    assert "whose it is cannot be known" in caplog.text


def test_a_split_checkpoint_without_sums_is_what_a_kill_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its training goes on from the one before, and nobody is asked whose it is."""
    from reasondistill.runs.seals import TRUST
    from reasondistill.stages.students import processes
    from reasondistill.stages.students.saving import start_from, sum_checkpoint

    monkeypatch.setattr(processes, "sharding", lambda: "fsdp")
    open_stage(tmp_path, Identity("students", 1, {}, {}))
    for step in (4, 8):
        checkpoint = tmp_path / "checkpoints" / f"checkpoint-{step}"
        (checkpoint / "pytorch_model_fsdp_0").mkdir(parents=True)
        (checkpoint / "trainer_state.json").write_text("{}")
    whole, killed = (tmp_path / "checkpoints" / f"checkpoint-{step}" for step in (4, 8))
    sum_checkpoint(whole)
    monkeypatch.setenv(TRUST, "run")
    assert start_from(tmp_path) == killed
    monkeypatch.delenv(TRUST)
    assert start_from(tmp_path) == whole
    assert killed.with_name(".damaged-checkpoint-8").exists()
    (whole / layout.CHECKPOINT_SUMS).unlink()
    assert start_from(tmp_path) is None


@pytest.mark.engine
def test_a_checkpoint_that_a_kill_has_cut_is_not_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from reasondistill.stages.students import saving

    for name in ("checkpoint-4", "checkpoint-8"):
        checkpoint = tmp_path / "checkpoints" / name
        checkpoint.mkdir(parents=True)
        save_file({"weight": torch.ones(1000)}, checkpoint / "model.safetensors")
    whole, cut = sorted((tmp_path / "checkpoints").iterdir())
    (whole / "trainer_state.json").write_text("{}", encoding="utf-8")
    file = cut / "model.safetensors"
    file.write_bytes(file.read_bytes()[:2000])
    assert saving.start_from(tmp_path) == whole
    assert not cut.exists()


# ---- saving --------------------------------------------------------------------------------------


OWN_TOKENIZER = """
from transformers import PreTrainedTokenizerFast

class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.mark.engine
def test_a_tokenizer_with_code_of_its_own_is_loaded_again_as_it_was(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    (base / "tokenization_own.py").write_text(OWN_TOKENIZER, encoding="utf-8")
    config = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["tokenizer_class"] = "OwnTokenizer"
    config["auto_map"] = {"AutoTokenizer": [None, "tokenization_own.OwnTokenizer"]}
    (base / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    student = StudentSettings(
        name="student", base=str(base), max_length=200, max_steps=1, trust_remote_code=True
    )
    made = job(tmp_path, student)
    run_student(made)
    assert (made.folder / "model" / "tokenization_own.py").is_file()


@pytest.mark.engine
def test_an_invalid_generation_config_of_the_base_is_mended_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import GenerationConfig

    base = make_tiny_model(tmp_path / "base")
    file = base / "generation_config.json"
    values = {"temperature": 0.6, "top_p": 0.9, "max_length": 99}
    file.write_text(json.dumps(values | {"eos_token_id": 1, "repetition_penalty": 1.1}))
    student = StudentSettings(name="s", base=str(base), max_steps=1, max_length=400)
    made = job(tmp_path, student)
    run_student(made)
    said = "s: the base's generation_config.json is not valid; the student's is without "
    (line,) = [line for line in caplog.messages if line.startswith(said)]
    assert line.removeprefix(said) == "temperature = 0.6, top_p = 0.9"
    kept = GenerationConfig.from_pretrained(made.folder / "model")
    assert (kept.eos_token_id, kept.repetition_penalty, kept.max_length) == ([1, 2], 1.1, 99)
    assert kept.temperature is None and kept.top_p is None


def test_a_valid_generation_config_stays_as_it_is(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    from reasondistill.stages.students.bases import valid_generation

    given = GenerationConfig(do_sample=True, temperature=0.6, top_p=0.9, eos_token_id=[1, 2])
    assert valid_generation(given, "s") is given


def test_what_cannot_be_saved_is_known_before_training(tmp_path: Path) -> None:
    from reasondistill.stages.students import Material, train_student

    base = make_tiny_model(tmp_path / "base")
    student = StudentSettings(name="s", base=str(base), max_steps=1, max_length=400)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "trial.part.part").write_text("in the way")
    says = r"\[students\] s: such a model cannot be saved and loaded again, as was tried before"
    with pytest.raises(StageError, match=says):
        train_student(student, Material([example(1)]), tmp_path / "s")
    assert not read_metrics(tmp_path / "s")


def test_a_large_model_is_tried_without_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reasondistill.stages.students import saving

    monkeypatch.setattr(saving, "_REHEARSED", 1000)
    base = make_tiny_model(tmp_path / "base")
    model, tokenizer = (
        kind.from_pretrained(base) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    student = StudentSettings(name="s", base=str(base))
    saving.rehearse(model, student, tokenizer, [5, 6, 7], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    model.config.intermediate_size = 64
    with pytest.raises(StageError, match=r"gate_proj\.weight is .*64.*; here it is .*128"):
        saving.rehearse(model, student, tokenizer, [5, 6, 7], tmp_path)


def test_another_model_on_disk_than_in_memory_is_noticed(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from reasondistill.stages.students.reloading import require_same

    base = make_tiny_model(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    model.model.norm.weight.data[:8] *= 0.7
    with pytest.raises(StageError, match=r"another model than the one in memory: 0\.\d+ nats"):
        require_same(model, base, list(range(5, 60)), trust_remote_code=False)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("bf16", [False, True])
def test_saved_is_reloaded_for_every_architecture(tmp_path: Path, name: str, bf16: bool) -> None:
    from transformers import AutoModelForCausalLM

    from reasondistill.stages.students.reloading import cast, row_log_probs
    from reasondistill.stages.students.saving import save_compared, storage_dtype

    tokenizer = make_tokenizer()
    student = StudentSettings(name="s", base="b", bf16=bf16)
    model = make_architecture(name, vocabulary=len(tokenizer))
    ids = list(range(5, 60))
    rounded = cast(cast(copy.deepcopy(model), storage_dtype(student)), torch.float32)
    save_compared(model, student, tokenizer, ids, tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert row_log_probs(rounded, ids).distance(row_log_probs(loaded, ids)) < 1e-8
    assert (
        row_log_probs(rounded, ids).distance(row_log_probs(make_architecture(name, seed=1), ids))
        > 0.01
    )


class Spoils(StopSignal):
    """Puts something in the way of the finished model while it is trained."""

    def __init__(self, made: StudentJob) -> None:
        super().__init__()
        self.obstacle = made.folder / "model.part"

    @property
    def requested(self) -> bool:  # type: ignore[override]
        self.obstacle.write_text("in the way")
        return False

    @requested.setter
    def requested(self, value: bool) -> None: ...


@pytest.mark.engine
@pytest.mark.parametrize("steps", [6, 8])  # of 4 steps an epoch
def test_what_fails_after_training_is_done_again_without_training(
    tmp_path: Path, steps: int
) -> None:
    student = scratch(max_steps=steps)
    whole, made = job(tmp_path, student, name="whole"), job(tmp_path, student, name="made")
    run_student(whole)
    obstacle = Spoils(made)
    says = rf"Not a directory.*training itself is done, and kept in .*checkpoint-{steps}: the same"
    with pytest.raises(StageError, match=says):
        run_student(made, stop=obstacle)
    trained = [line for line in read_metrics(made.folder) if "loss" in line]
    obstacle.obstacle.unlink()
    run_student(made)
    again = [line for line in read_metrics(made.folder) if "loss" in line]
    assert again == trained
    ours, theirs = weights(made.folder / "model"), weights(whole.folder / "model")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# ---- which step ----------------------------------------------------------------------------------


def measured(made: StudentJob) -> dict[int, float]:
    """Validation losses by step."""
    lines = read_metrics(made.folder)
    return {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line}


# Trained on one answer and measured on another: its validation loss falls while it learns what both
# begin and end with, and rises with how sure it is of the digits, on any make of CPU.
OVERFITS: dict[str, Any] = {
    "learning_rate": 3e-2,
    "max_steps": 20,
    "evaluate_every": 2,
    "schedule": "constant",
    "warmup_ratio": 0,
    "bf16": False,
}


def overfitting(folder: Path, name: str, **changes: object) -> StudentJob:
    rows = [example(i, answer="\\boxed{1111}", split="train") for i in range(8)]
    rows += [example(i, answer="\\boxed{2222}", split="validation") for i in range(8, 16)]
    return job(folder, scratch(**(OVERFITS | changes)), examples=rows, name=name)


@pytest.mark.engine
@pytest.mark.parametrize("lora", [None, LoraSettings(r=16, alpha=32)])
def test_the_step_with_the_lowest_validation_loss_is_the_student(
    tmp_path: Path, lora: LoraSettings | None
) -> None:
    changes: dict[str, object] = {}
    if lora is not None:
        base = make_tiny_model(tmp_path / "base")
        changes = {"architecture": None, "base": str(base), "lora": lora}
    last = overfitting(tmp_path, "last", **changes)
    best = overfitting(tmp_path, "best", keep="best", **changes)
    run_student(last)
    run_student(best)
    losses = measured(best)
    assert losses == measured(last), "training does not notice"
    lowest = min(losses, key=lambda step: losses[step])
    assert lowest < 20 and losses[20] > 1.05 * losses[lowest], losses
    figures, others = read_student(best.folder).figures, read_student(last.folder).figures
    assert figures is not None and others is not None
    assert (figures.steps, figures.delivered_step) == (20, lowest)
    assert figures.trained_parameters == others.trained_parameters
    assert figures.validation_loss == pytest.approx(losses[lowest], rel=1e-5)
    of_last = [line["step"] for line in read_metrics(last.folder) if "validation_loss" in line]
    assert of_last.count(20) == 1 and others.validation_loss == losses[20], "measured once"
    short = overfitting(tmp_path, "short", **changes, max_steps=lowest)
    run_student(short)
    ours, theirs = weights(best.folder / "model"), weights(short.folder / "model")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert read_metrics(best.folder)[-1]["delivered_step"] == lowest
    assert "delivered_step" not in (last.folder / "student.json").read_text()


def test_a_damaged_checkpoint_is_not_taken_for_the_best(tmp_path: Path) -> None:
    from reasondistill.stages.students.saving import sum_checkpoint
    from reasondistill.stages.students.sorted_trainer import SortedTrainer

    checkpoint = tmp_path / "checkpoint-2"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    sum_checkpoint(checkpoint)
    (checkpoint / "model.safetensors").write_bytes(b"weightz")
    state = SimpleNamespace(best_global_step=2, global_step=4)
    trainer: Any = SimpleNamespace(state=state, args=SimpleNamespace(output_dir=str(tmp_path)))
    with pytest.raises(DataError, match="model.safetensors: damaged"):
        SortedTrainer.take_best(trainer)


@pytest.mark.engine
def test_a_training_out_of_patience_stops_and_is_over_when_it_is_run_again(tmp_path: Path) -> None:
    wanted: dict[str, object] = {"keep": "best", "early_stopping_patience": 2}
    whole = overfitting(tmp_path, "whole", **wanted)
    run_student(whole)
    losses = measured(whole)
    lowest = min(losses, key=lambda step: losses[step])
    assert max(losses) == lowest + 4 < 20
    cut = overfitting(tmp_path, "cut", **wanted)
    with pytest.raises(Interrupted):
        run_student(cut, stop=StopAt(cut, 5))
    moved = tmp_path / "moved"
    cut.folder.rename(moved)
    cut = replace(cut, folder=moved)
    with pytest.raises(StageError, match="training itself is done"):
        run_student(cut, stop=Spoils(cut))
    (moved / "model.part").unlink()
    run_student(cut)
    assert measured(cut) == losses
    ours, theirs = weights(cut.folder / "model"), weights(whole.folder / "model")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_goes_by_the_validation_loss_needs_one(tmp_path: Path) -> None:
    for key, value in (("keep", "best"), ("early_stopping_patience", 1)):
        with pytest.raises(ValidationError, match=f"{key}: goes by the validation loss; set"):
            scratch(**{key: value})
    made = job(tmp_path, scratch(keep="best", evaluate_every=1), examples=[example(1)])
    with pytest.raises(ConfigError, match="no example is for validation"):
        run_student(made)


def test_how_often_validation_is_measured_bears_identity_where_it_chooses(tmp_path: Path) -> None:
    from reasondistill.stages.students.identity import identity_section

    def section(**changes: object) -> dict[str, Any]:
        return identity_section(job(tmp_path, scratch(**changes)))

    assert section() == section(evaluate_every=5)
    assert {"keep", "early_stopping_patience", "evaluate_every"}.isdisjoint(section())
    chosen = section(evaluate_every=5, keep="best")
    assert (chosen["keep"], chosen["evaluate_every"]) == ("best", 5)


# ---- going on ------------------------------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.parametrize("name", ["qwen3_moe", "gemma3", "mamba2"])
def test_a_resumed_training_has_all_weights_of_its_checkpoint(tmp_path: Path, name: str) -> None:
    """Experts stand one by one in a checkpoint, and all in one in memory."""
    base = save_architecture(name, tmp_path / "base")
    values: dict[str, Any] = {"batch_size": 8, "learning_rate": 1e-2, "max_length": 250}
    student = StudentSettings(name="s", base=str(base), max_steps=6, bf16=False, **values)
    whole, cut = job(tmp_path, student, name="whole"), job(tmp_path, student, name="cut")
    run_student(whole)
    with pytest.raises(Interrupted):
        run_student(cut, stop=StopAt(cut, 3))
    run_student(cut)
    ours, theirs = weights(cut.folder / "model"), weights(whole.folder / "model")
    assert all(torch.equal(ours[weight], theirs[weight]) for weight in theirs)


# ---- how well the traces are known ---------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.parametrize("method", ["kd", "feature", "relation", "distillm2", "reverse_kl"])
def test_training_accuracy_is_the_share_of_labels_that_are_the_likeliest_tokens(
    tmp_path: Path, method: str
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reasondistill.stages.students.tokens import IGNORE, tokenise

    base = make_tiny_model(tmp_path / "base")
    teacher = make_tiny_model(tmp_path / "teacher", seed=3)
    values: dict[str, Any] = {"max_steps": 1, "batch_size": 28, "learning_rate": 1e-12}
    values |= {"max_length": 120, "bf16": False}
    student = StudentSettings(name="s", method=method, base=str(base), **values)
    made = replace(job(tmp_path, student), teacher=str(teacher))
    run_student(made)
    (line,) = [line for line in read_metrics(made.folder) if "loss" in line]
    if method == "reverse_kl":  # all that it trains on it wrote itself
        assert line["accuracy"] is None
        return
    model, tokenizer = (
        kind.from_pretrained(base) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    hits, tokens = 0, 0
    for number in range(32):
        if number % 8 == 0:
            continue
        row = tokenise(example(number), tokenizer, plain=False)
        labels = torch.tensor(row.labels[1:])
        with torch.no_grad():
            likeliest = model(torch.tensor([row.input_ids])).logits[0, :-1].argmax(-1)
        hits += int((likeliest == labels).sum())
        tokens += int((labels != IGNORE).sum())
    assert line["accuracy"] == pytest.approx(hits / tokens, abs=1e-6)
