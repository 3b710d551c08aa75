"""How large a model is, by its configuration alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_model import make_tiny_model

from reasondistill.config.shrinking import ShrinkSettings
from reasondistill.models.shapes import PUBLISHED, shape_of, shape_of_config, shape_of_cut
from reasondistill.models.weights import count_parameters


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("Qwen/Qwen2.5-Math-1.5B", 1_543_714_304),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", 32_763_876_352),
        ("Qwen/Qwen2.5-0.5B", 494_032_768),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
    ],
)
def test_published_shapes_have_the_parameters_that_their_makers_say(
    model: str, parameters: int
) -> None:
    shape = shape_of_config(PUBLISHED[model])
    assert shape is not None and shape.parameters == parameters


def test_a_folder_s_shape_is_that_of_its_weights(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    shape = shape_of(str(folder))
    assert shape is not None and shape.parameters == count_parameters(folder)
    (folder / "model.safetensors").unlink()
    by_config = shape_of(str(folder))
    assert by_config is not None
    assert by_config.parameters == pytest.approx(shape.parameters, rel=0.01)


def test_a_cache_of_keys_and_values_is_known() -> None:
    """DeepSeek-R1-Distill-Qwen-32B: 64 layers, 8 heads of 128, keys and values."""
    shape = shape_of_config(PUBLISHED["deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"])
    assert shape is not None and shape.key_value_numbers == 2 * 64 * 8 * 128


def test_what_no_configuration_tells_is_unknown() -> None:
    assert shape_of("nobody/nothing-7B") is None
    assert shape_of_config({"hidden_size": 64}) is None


def test_what_is_cut_out_of_a_model_has_the_shape_that_is_trained() -> None:
    cut = shape_of_cut("shipped:demo-teacher", None, ShrinkSettings(layers=2).sizes)
    assert cut is not None and (cut.layers, cut.parameters) == (2, 1_309_056)
    name = "Qwen/Qwen3-0.6B"
    whole, narrow = shape_of(name), shape_of_cut(name, None, {"num_key_value_heads": 4})
    assert whole is not None and narrow is not None
    assert narrow.key_value_width == whole.key_value_width // 2
    assert narrow.attention_width == whole.attention_width // 2
    assert shape_of_cut("nobody/nothing", None, {"num_hidden_layers": 2}) is None
