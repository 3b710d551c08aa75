"""A base that a stranger made: whatever transformers raises at its files is one line that names the
folder, and nothing of an adapter gets into a student in silence.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_tiny_model

from reasondistill.config import StudentSettings
from reasondistill.errors import ConfigError
from reasondistill.stages.students import bases


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    shutil.copytree(model, tmp_path / "model")
    return tmp_path / "model"


CONFIGS: dict[str, dict[str, Any]] = {
    "rope": {"rope_parameters": {"rope_type": "yarn", "factor": 1e308, "rope_theta": 1}},
    "rope type": {"rope_parameters": {"rope_type": "nosuch"}},
    "rope factor": {
        "rope_parameters": {
            "rope_type": "longrope",
            "short_factor": [1],
            "long_factor": [],
            "factor": "a",
            "rope_theta": 0,
        }
    },
    "hidden": {"hidden_size": 10**9},
    "negative": {"hidden_size": -1},
    "no heads": {"num_attention_heads": 0},
    "activation": {"hidden_act": "nosuch"},
    "pad": {"pad_token_id": 10**9},
    "model type": {"model_type": "../../x"},
    "a list": {"model_type": ["a"]},
    "text": {"text_config": {"model_type": "nosuch"}},
    "quantised by text": {"quantization_config": "x"},
    "method": {"to_dict": 3},
    "layers": {"num_hidden_layers": 200_000},
}
GENERATION: dict[str, dict[str, Any]] = {
    "end": {"eos_token_id": "x"},
    "ends": {"eos_token_id": [[1]]},
    "watermark": {"watermarking_config": {"x": 1}},
    "method": {"validate": "x"},
    "methods": {"to_diff_dict": 3, "save_pretrained": 1},
}


def load(folder: Path) -> Any:
    student = StudentSettings(name="s", base=str(folder))
    return bases.load_model(student, bases.load_tokenizer(student, []))


def require_message(folder: Path) -> None:
    with pytest.raises(ConfigError) as found:
        load(folder)
    assert str(folder) in str(found.value)
    assert "\n" not in str(found.value)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_transformers_trips_over_is_one_line(folder: Path, case: str) -> None:
    change(folder / "config.json", **CONFIGS[case])
    require_message(folder)


@pytest.mark.parametrize("case", GENERATION)
def test_a_generation_config_that_it_trips_over_is_one_line(folder: Path, case: str) -> None:
    change(folder / "generation_config.json", **GENERATION[case])
    require_message(folder)


def test_ends_of_config_json_are_ids_too(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    change(folder / "config.json", eos_token_id=["a"])
    require_message(folder)


@pytest.mark.parametrize("data", [b"\0", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]"])
def test_weights_that_are_none_are_one_line(folder: Path, data: bytes) -> None:
    (folder / "model.safetensors").write_bytes(data)
    require_message(folder)


def test_a_good_base_is_loaded(folder: Path) -> None:
    assert load(folder).num_parameters() > 0
