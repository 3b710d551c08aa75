"""An int8 copy of a student: what is rounded and what stays, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_model import make_tiny_model
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from typer.testing import CliRunner

from reasondistill.cli.entry import app
from reasondistill.errors import ConfigError, StageError
from reasondistill.models.quantised import bits_of, quantisation_of
from reasondistill.models.weights import model_identity, verified_folder, weight_bytes
from reasondistill.stages.students import int8
from reasondistill.stages.students.int8 import Int8Copy, kept_modules, make_int8_copy
from reasondistill.stages.students.reloading import row_log_probs


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_tiny_model(tmp_path_factory.mktemp("made") / "model")
    (folder / "reasondistill.json").write_text('{"prompt": "question"}')
    return folder


@pytest.fixture(scope="module")
def made(student: Path) -> tuple[Path, Int8Copy]:
    target = student.parent / "copies" / "int8"
    return target, make_int8_copy(student, target)


def test_linear_layers_are_rounded_to_the_nearest_and_all_else_stays(
    student: Path, made: tuple[Path, Int8Copy]
) -> None:
    """Against the stored tensors: w lies within half a step of q · scale, the step of a channel is
    its largest weight by 127.5.
    """
    before = load_file(student / "model.safetensors")
    after = load_file(made[0] / "model.safetensors")
    rounded = {name for name in after if after[name].dtype == torch.int8}
    assert len(rounded) == made[1].layers == 2 * 7
    for name, weight in before.items():
        if name not in rounded:
            assert torch.equal(after[name], weight), name
            continue
        scale = after[f"{name}_scale"]
        assert scale.dtype == torch.float32 and scale.shape == (weight.shape[0], 1)
        largest = weight.abs().amax(1, keepdim=True)
        assert torch.allclose(scale, largest / 127.5, rtol=1e-5)
        gap = (weight - after[name] * scale).abs()
        assert (gap <= scale * 0.5001).all()
    beside = {f"{name}_scale" for name in rounded}
    assert set(after) == set(before) | beside and made[1].kept == ("lm_head",)
    assert not any(name.startswith(("model.embed", "lm_head")) for name in rounded)


def test_what_tokens_and_prompt_depend_on_is_copied_byte_for_byte(
    student: Path, made: tuple[Path, Int8Copy]
) -> None:
    names = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
    for name in (*names, "chat_template.jinja", "reasondistill.json"):
        assert (made[0] / name).read_bytes() == (student / name).read_bytes()
    config = json.loads((made[0] / "config.json").read_text())
    quantised = quantisation_of(config)
    assert quantised is not None and bits_of(quantised) == 8
    assert quantised["quant_method"] == "compressed-tensors"
    assert quantised["ignore"] == ["lm_head"]


def test_the_copy_is_a_model_of_its_own_and_its_record_says_what_loading_both_gives(
    student: Path, made: tuple[Path, Int8Copy]
) -> None:
    target, copy = made
    assert verified_folder(str(target)) == target
    assert copy.source == model_identity(str(student)) != model_identity(str(target))
    assert copy.weight_bytes == weight_bytes(target) < weight_bytes(student) == copy.source_bytes
    assert json.loads((target / "int8.json").read_text())["kl"] == copy.kl
    first = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)
    second = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    ids = list(range(40))
    apart = row_log_probs(first, ids).distance(row_log_probs(second, ids))
    assert 0 < apart < 0.2 and 0 < copy.kl < 0.2 and copy.top1 > 0.7
    assert "That is no score" in (target / "README.md").read_text()


def test_a_whole_copy_is_taken_and_nothing_else_is_overwritten(
    student: Path, made: tuple[Path, Int8Copy], tmp_path: Path
) -> None:
    target, copy = made
    stamp = (target / "model.safetensors").stat().st_mtime_ns
    assert make_int8_copy(student, target) == copy
    assert (target / "model.safetensors").stat().st_mtime_ns == stamp
    cut = shutil.copytree(target, tmp_path / "cut")
    (cut / "int8.json").write_text("[]")
    other = make_tiny_model(tmp_path / "other", seed=1)
    for source, place in ((other, target), (student, cut), (student, other)):
        with pytest.raises(StageError, match="Nothing is overwritten"):
            make_int8_copy(source, place)


def test_what_a_killed_command_left_is_begun_anew(student: Path, tmp_path: Path) -> None:
    (tmp_path / "int8.part").mkdir()
    (tmp_path / "int8.part" / "model-00001-of-00002.safetensors").write_bytes(b"half")
    shown = CliRunner().invoke(app, ["quantise", str(student), str(tmp_path / "int8")])
    assert shown.exit_code == 0, shown.output
    assert "begun anew" in shown.output and "nats per token from the student" in shown.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8"]
    assert not (tmp_path / "int8" / "model-00001-of-00002.safetensors").exists()


@pytest.mark.parametrize("link", ["copy", "copy.part"])
@pytest.mark.parametrize("points_to", ["there", "nowhere"])
def test_a_link_in_the_way_is_refused_before_work_and_stays(
    student: Path, tmp_path: Path, link: str, points_to: str
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / link).symlink_to(tmp_path / points_to)
    with pytest.raises(StageError, match=rf"{link}: is a link"):
        make_int8_copy(student, tmp_path / "copy")
    assert (tmp_path / link).is_symlink() and (tmp_path / "there").is_dir()


def test_a_copy_inside_its_model_is_refused(student: Path) -> None:
    with pytest.raises(StageError, match="which stays as it is"):
        make_int8_copy(student, student / "int8")
    assert not (student / "int8").exists()


def test_models_of_which_we_do_not_know_enough_are_refused_by_name(
    student: Path, made: tuple[Path, Int8Copy], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="quantised already .compressed-tensors"):
        make_int8_copy(made[0], tmp_path / "twice")
    seeing = shutil.copytree(student, tmp_path / "seeing")
    config = json.loads((seeing / "config.json").read_text())
    (seeing / "config.json").write_text(json.dumps(config | {"vision_config": {"depth": 2}}))
    with pytest.raises(ConfigError, match="has vision_config"):
        make_int8_copy(seeing, tmp_path / "int8")
    with pytest.raises(ConfigError, match="no such folder"):
        make_int8_copy(Path("org/model"), tmp_path / "int8")
    old = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1, n_positions=8))
    with pytest.raises(ConfigError, match=r"h\.0\.attn\.c_attn\.weight is a weight of a Conv1D"):
        kept_modules(old, student)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "moe_intermediate_size": 8, "vocab_size": 8}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}
    mixture = Qwen3MoeConfig(num_hidden_layers=1, num_experts=2, **sizes, **heads)
    with pytest.raises(ConfigError, match=r"mlp\.experts is experts of a mixture"):
        kept_modules(Qwen3MoeForCausalLM(mixture), student)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seeing"]


def test_a_copy_that_is_another_model_is_not_kept(
    student: Path, made: tuple[Path, Int8Copy], tmp_path: Path
) -> None:
    """Against what a model with other weights says of the same rows."""
    other = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path / "other", seed=1))
    rows = [list(range(30))]
    expected = [row_log_probs(other, rows[0])]
    with pytest.raises(StageError, match="it is another model"):
        int8.distance_of(made[0], rows, expected, torch.float32, False)


def test_a_full_disk_and_a_small_memory_are_said_before_work(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(int8, "free_memory", lambda _: 1000.0)
        with pytest.raises(StageError, match="GB of memory"):
            make_int8_copy(student, tmp_path / "int8")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StageError, match="on another disk"):
        make_int8_copy(student, tmp_path / "int8")
    assert not list(tmp_path.iterdir())
