"""A model's folder of a stranger is looked over before a library opens it: links, pipes, sizes,
numbers of config.json, headers of safetensors; what is no good is one line that names the file.
"""

from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_tiny_model

from reasondistill.errors import ConfigError, ReasonDistillError
from reasondistill.models import folders
from reasondistill.models.loading import loading
from reasondistill.models.weights import (
    count_parameters,
    made_for,
    model_folder,
    pickled,
    verified_folder,
)

PATIENCE_S = 10.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    shutil.copytree(model, tmp_path / "model")
    return tmp_path / "model"


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_good_folder_passes_and_is_looked_over_once(folder: Path) -> None:
    assert verified_folder(str(folder)) == folder
    looked = folders._look_over_weights.cache_info().misses
    assert verified_folder(str(folder)) == folder
    assert folders._look_over_weights.cache_info().misses == looked
    change(folder / "config.json", num_hidden_layers=200_000)
    with pytest.raises(ConfigError, match="200,000 layers"):
        verified_folder(str(folder))


CONFIGS: dict[str, dict[str, Any]] = {
    "more than 1,000 layers": {"num_hidden_layers": 200_000},
    "2,000 layers": {"n_layer": "2000"},
    "3,000 layers": {"text_config": {"num_hidden_layers": 3_000}},
    "experts in each of": {"num_local_experts": 10**9},
    "num_labels: more than 100,000 labels": {"num_labels": 30_000_000},
    "id2label: more than 100,000 labels": {"id2label": {str(i): "x" for i in range(100_001)}},
    "as weights": {"transformers_weights": "../tiny/model.safetensors"},
    "'/etc/passwd' as weights": {"transformers_weights": "/etc/passwd"},
    "'3' as weights": {"transformers_weights": 3},
}


@pytest.mark.parametrize("words", CONFIGS)
def test_numbers_of_config_json_have_bounds(folder: Path, words: str) -> None:
    change(folder / "config.json", **CONFIGS[words])
    began = time.process_time()
    with pytest.raises(ConfigError, match=words) as found:
        model_folder(str(folder))
    assert time.process_time() - began < PATIENCE_S
    assert str(folder / "config.json") in str(found.value)


@pytest.mark.parametrize("ends", ["x", {"a": 1}, [[1]], [True], 1.5])
def test_an_end_that_is_no_id_is_refused(folder: Path, ends: Any) -> None:
    change(folder / "generation_config.json", eos_token_id=ends)
    with pytest.raises(ConfigError, match=r"generation_config.json: eos_token_id holds"):
        model_folder(str(folder))


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("text", ["[]", "3", "null", "{", "\x00", "[" * 100_000])
def test_a_config_that_is_no_object_is_refused(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=name):
        model_folder(str(folder))


def header(facts: object, data: bytes = b"", length: int | None = None) -> bytes:
    raw = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def tensor(shape: Any, end: int = 4, dtype: str = "F32") -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


FOUR = b"\0" * 4
HEADERS = {
    "length": header(b"{}", length=2**63),
    "length beyond the end": header(b"{}", length=99_999_999),
    "huge shape": header(tensor([10**300] * 50_000), FOUR),
    "many dimensions": header(tensor([1] * 100_000), FOUR),
    "large numbers": header(tensor([2**40, 2**40]), FOUR),
    "a number of 64 bits": header(tensor([0, 2**63]), FOUR),
    "negative": header(tensor([-1]), FOUR),
    "a fraction": header(tensor([1.5]), FOUR),
    "a truth": header(tensor([True]), FOUR),
    "text": header(tensor("99"), FOUR),
    "nested": header(tensor([[1]]), FOUR),
    "cut": header(tensor([3], end=12), FOUR),
    "other size": header(tensor([1], end=4) | {"b": 3}, FOUR),
    "list": header([]),
    "number": header(b"9" * 5_000),
    "deep": header(b'{"a":' * 50_000),
    "no offsets": header({"a": {"dtype": "F32", "shape": [1]}}, FOUR),
    "empty": b"",
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_says_what_cannot_be_is_refused_at_once(folder: Path, name: str) -> None:
    (folder / "model.safetensors").write_bytes(HEADERS[name] or b"\0")
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"model.safetensors: not a safetensors file"):
        verified_folder(str(folder))
    assert time.process_time() - began < PATIENCE_S


def test_counting_parameters_takes_no_header_for_granted(folder: Path) -> None:
    assert (count_parameters(folder) or 0) > 0
    for name in ("huge shape", "many dimensions", "negative", "a fraction", "nested"):
        (folder / "model.safetensors").write_bytes(HEADERS[name])
        began = time.process_time()
        with pytest.raises(ConfigError, match="not a safetensors file"):
            count_parameters(folder)
        assert time.process_time() - began < PATIENCE_S


@pytest.mark.parametrize("bits", [0.5, 0, -0.5, float("inf"), float("nan")])
def test_weights_of_no_bits_are_a_message(folder: Path, bits: float) -> None:
    change(folder / "config.json", quantization_config={"bits": bits})
    (folder / "model.safetensors").write_bytes(header(tensor([1], dtype="I32"), FOUR))
    if bits == -0.5:  # a number, though no sensible one
        assert count_parameters(folder) is not None
        return
    with pytest.raises(ConfigError, match="quantization_config"):
        count_parameters(folder)


def test_a_header_of_a_million_tensors_is_refused(folder: Path) -> None:
    facts = {
        f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(600_000)
    }
    (folder / "model.safetensors").write_bytes(header(facts))
    with pytest.raises(ConfigError, match=r"its header is larger than 32 MiB"):
        verified_folder(str(folder))


def test_tensors_of_all_files_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_MODEL_TENSORS", "20")
    facts = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(15)}
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (folder / name).write_bytes(header(facts))
    with pytest.raises(ConfigError, match="more than 20 tensors"):
        verified_folder(str(folder))


@pytest.mark.parametrize(
    "name", ["../tiny/model.safetensors", "/etc/passwd", "x.bin", "gone.safetensors", "/dev/zero"]
)
def test_an_index_names_files_beside_it(folder: Path, name: str) -> None:
    (folder / folders.INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ConfigError, match=r"index.json: names"):
        verified_folder(str(folder))


@pytest.mark.parametrize("text", ["[]", "{}", "[" * 100_000, '{"weight_map": []}'])
def test_an_index_is_a_map(folder: Path, text: str) -> None:
    (folder / folders.INDEX).write_text(text)
    with pytest.raises(ConfigError, match="index.json"):
        verified_folder(str(folder))


# ---- links and what is no file -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["f.safetensors", "merges.txt", "chat_template.jinja", "x.json"])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(ReasonDistillError, match=f"{name}: is a pipe"):
        model_folder(str(folder))


@pytest.mark.parametrize("name", ["merges.txt", "tokenizer.json", "y.safetensors"])
def test_a_link_to_a_device_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(ReasonDistillError, match=f"{name}: is a device"):
        model_folder(str(folder))


@pytest.mark.parametrize("place", ["chat_template.jinja", "additional_chat_templates/x.jinja"])
def test_a_link_to_a_private_file_is_refused(folder: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "secret.txt").write_text("the secret")
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).unlink(missing_ok=True)
    (folder / place).symlink_to(tmp_path / "secret.txt")
    with pytest.raises(ConfigError, match=f"{place}: is a link to .*secret.txt") as found:
        model_folder(str(folder))
    assert "copy it" in str(found.value)


def test_a_folder_of_templates_may_not_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.jinja").write_text("hi")
    (folder / folders.TEMPLATES).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="a link that leads out of the model's folder"):
        model_folder(str(folder))


def test_a_link_without_end_is_a_message(folder: Path) -> None:
    (folder / "y.safetensors").symlink_to("y.safetensors")
    with pytest.raises(ConfigError, match="it cannot be read"):
        model_folder(str(folder))


def test_the_hubs_cache_and_folders_that_share_files_pass(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot = blobs.parent / "snapshots" / ("0" * 40)
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        blob = blobs / f"{number:040x}"
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    with caplog.at_level("INFO"):
        assert verified_folder(str(snapshot)) == snapshot
        assert not [record for record in caplog.records if "link" in record.getMessage()]
        shared = tmp_path / "shared"
        shared.mkdir()
        for path in folder.iterdir():
            (shared / path.name).symlink_to(path)
        assert verified_folder(str(shared)) == shared
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert f"tokenizer.json: is a link to {folder / 'tokenizer.json'}" in text, "it is named"


# ---- sizes ---------------------------------------------------------------------------------------

SIZES = {
    "additional_chat_templates/x.jinja": "4 MiB",
    "chat_template.jinja": "4 MiB",
    "tokenizer.model.v3": "256 MiB",
    "a.tiktoken": "256 MiB",
    "tekken.json": "256 MiB",
    "vocab.bpe": "256 MiB",
    "processor_config.json": "64 MiB",
    "preprocessor_config.json": "64 MiB",
    "special_tokens_map.json": "64 MiB",
}


@pytest.mark.parametrize("name", SIZES)
def test_files_that_libraries_read_whole_have_bounds(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    with open(folder / name, "wb") as file:
        file.truncate(4 << 30)
    with pytest.raises(ConfigError, match=f"larger than {SIZES[name]}"):
        model_folder(str(folder))


def test_many_small_templates_count_together(folder: Path) -> None:
    (folder / folders.TEMPLATES).mkdir()
    for number in range(5):
        with open(folder / folders.TEMPLATES / f"{number}.jinja", "wb") as file:
            file.truncate(1 << 20)
    with pytest.raises(ConfigError, match="templates larger than 4 MiB"):
        model_folder(str(folder))


@pytest.mark.parametrize("name", ["optimizer.pt", "trainer_state.json", "x.gguf", "data.parquet"])
def test_large_files_that_nobody_opens_do_not_matter(folder: Path, name: str) -> None:
    with open(folder / name, "wb") as file:
        file.truncate(4 << 30)
    assert model_folder(str(folder)) == folder


# ---- what a folder says of itself ----------------------------------------------------------------


@pytest.mark.parametrize("said", [5, ["a"], None, "/etc/passwd", "../prompt.toml"])
def test_a_folder_names_a_prompt_and_no_file(folder: Path, said: Any) -> None:
    own = folder / "reasondistill.json"
    own.write_text(json.dumps({"prompt": "question"}))
    assert made_for(str(folder)) == "question"
    own.write_text(json.dumps({"prompt": said}))
    with pytest.raises(ConfigError, match="the prompt that this model was trained with"):
        made_for(str(folder))


# ---- adapters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{}", "[]", '{"peft_type": "LORA", "target_modules": "(.*)*x"}'])
def test_a_model_with_an_adapter_beside_it_is_refused(folder: Path, text: str) -> None:
    (folder / "adapter_config.json").write_text(text)
    (folder / "adapter_model.safetensors").write_bytes(header(tensor([1]), FOUR))
    with pytest.raises(ConfigError, match="a model and a LoRA adapter beside it") as found:
        model_folder(str(folder))
    assert "adapter_config.json" in str(found.value)


HOSTILE_NAME = "me/x'); import os; os.system('touch PWNED') #\"$(touch PWNED)`touch PWNED`\n"


@pytest.mark.parametrize("base", [HOSTILE_NAME, "x" * 5_000, ["a"]])
def test_a_command_that_is_to_be_pasted_holds_names_as_texts(tmp_path: Path, base: Any) -> None:
    adapter = tmp_path / "it's $(here)"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (adapter / "adapter_model.safetensors").write_bytes(header(tensor([1]), FOUR))
    with pytest.raises(ConfigError, match="Merge them") as found:
        model_folder(str(adapter))
    known = base if base == HOSTILE_NAME else "BASE"
    assert texts_in(str(found.value)) == {str(adapter), known, f"{adapter}-merged"}
    assert texts_in(str(pickled(HOSTILE_NAME))) == {HOSTILE_NAME, "CONVERTED"}


def texts_in(message: str) -> set[str]:
    """The texts in the program of the command at the end of a message, which loads and saves."""
    command = message[message.rindex("\npython -c ") :]
    python, option, program = shlex.split(command)
    assert (python, option) == ("python", "-c")
    nodes = list(ast.walk(ast.parse(program)))
    called = {node.func.attr for node in nodes if isinstance(node, ast.Call)}  # type: ignore[attr-defined]
    assert called <= {"from_pretrained", "merge_and_unload", "save_pretrained"}
    return {str(node.value) for node in nodes if isinstance(node, ast.Constant)}


# ---- what a library raises -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [KeyError("nosuch"), ZeroDivisionError("x"), AssertionError(), ValueError("a\nb")]
)
def test_what_a_library_raises_is_one_line(folder: Path, error: Exception) -> None:
    with pytest.raises(ConfigError) as found, loading(f"model {folder}", folder):
        raise error
    text = str(found.value)
    assert text.startswith(f"model {folder} cannot be loaded: {type(error).__name__}")
    assert "\n" not in text


PASSING: list[Callable[[], BaseException]] = [
    KeyboardInterrupt,
    MemoryError,
    lambda: ImportError("peft"),
    lambda: ConfigError("ours"),
    lambda: OSError(5, "Input/output error"),
]


@pytest.mark.parametrize("make", PASSING)
def test_stops_and_want_of_memory_pass(folder: Path, make: Callable[[], BaseException]) -> None:
    error = make()
    with pytest.raises(type(error)) as found, loading("model", folder):
        raise error
    assert found.value is error


# ---- half of a folder ----------------------------------------------------------------------------


def in_shards(folder: Path, count: int = 3) -> list[Path]:
    """The weights of a folder in several files, as transformers cuts them."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards: list[Path] = []
    weights: dict[str, str] = {}
    for number in range(count):
        path = folder / f"model-{number + 1:05}-of-{count:05}.safetensors"
        part = {name: tensors[name] for name in sorted(tensors)[number::count]}
        save_file(part, path, metadata={"format": "pt"})
        weights |= dict.fromkeys(part, path.name)
        shards.append(path)
    (folder / folders.INDEX).write_text(json.dumps({"weight_map": weights}))
    return shards


def test_a_whole_folder_in_shards_passes(folder: Path) -> None:
    in_shards(folder)
    assert verified_folder(str(folder)) == folder


@pytest.mark.parametrize("left", [None, ".cache/huggingface/download/x.incomplete", "x.part"])
def test_a_folder_that_is_half_written_is_named_with_what_is_missing(
    folder: Path, left: str | None
) -> None:
    first, second, third = in_shards(folder)
    if left is not None:
        (folder / left).parent.mkdir(parents=True, exist_ok=True)
        (folder / left).write_bytes(b"half")
    cut = "$" if left is None else f" A download was cut here: {folder / left}. Fetch the model"
    content = third.read_bytes()
    third.unlink()
    with pytest.raises(
        ConfigError, match=rf"names '{third.name}', and there is no such file.{cut}"
    ):
        verified_folder(str(folder))
    index = (folder / folders.INDEX).read_bytes()
    (folder / folders.INDEX).unlink()
    with pytest.raises(ConfigError, match=f"{third.name} is missing; {first.name} is here"):
        verified_folder(str(folder))
    third.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{folders.INDEX} is missing"):
        verified_folder(str(folder))
    (folder / folders.INDEX).write_bytes(index)
    third.write_bytes(content[:-1])
    with pytest.raises(ConfigError, match=f"{third.name}: not a safetensors file; was it copied"):
        verified_folder(str(folder))
    shutil.copy(second, third)
    with pytest.raises(ConfigError, match=f"says that {third.name} holds .*, and it does not"):
        verified_folder(str(folder))


def test_a_folder_of_real_size_that_is_cut_is_named_without_reading_it(folder: Path) -> None:
    """3 GB by its header, sparse on disk: the file ends a byte early."""
    shape = [1_500_000_000]
    facts = {"x": {"dtype": "BF16", "shape": shape, "data_offsets": [0, 2 * shape[0]]}}
    text = json.dumps(facts).encode()
    file = folder / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(file, 8 + len(text) + 2 * shape[0])
    assert verified_folder(str(folder)) == folder
    os.truncate(file, 8 + len(text) + 2 * shape[0] - 1)
    with pytest.raises(ConfigError, match="not a safetensors file; was it copied whole"):
        verified_folder(str(folder))


def test_weights_that_are_still_to_come_are_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.safetensors.incomplete")
    with pytest.raises(ConfigError, match=r"without weights.*cut here: .*model.safetensors.incomp"):
        model_folder(str(folder))


def test_a_folder_without_tokenizer_is_named(folder: Path) -> None:
    folders.require_tokenizer(folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"has no tokenizer \(no tokenizer.json"):
        folders.require_tokenizer(folder)
