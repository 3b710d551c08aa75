"""How large quantised weights are, and how many; how much a model reads at once."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reasondistill.models.context import context_of
from reasondistill.models.quantised import bits_of, bytes_in_memory, quantisation_of
from reasondistill.models.shapes import PUBLISHED, shape_of_config
from reasondistill.models.weights import count_parameters

GROUPS = {"group_0": {"weights": {"num_bits": 4}}, "group_1": {"weights": {"num_bits": 8}}}


@pytest.mark.parametrize(
    ("settings", "bits"),
    [
        ({"quant_method": "gptq", "bits": 3}, 3),
        ({"quant_method": "awq", "bits": 4}, 4),
        ({"quant_method": "awq", "w_bit": 4}, 4),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}, 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8),
        ({"quant_method": "mxfp4"}, 4.25),
        ({"quant_method": "compressed-tensors", "config_groups": GROUPS}, 8),
        ({"quant_method": "of tomorrow"}, None),
    ],
)
def test_the_bits_of_a_weight_are_what_the_config_says(
    settings: dict[str, Any], bits: float | None
) -> None:
    assert bits_of(settings) == bits


def test_the_config_of_the_text_part_counts_too() -> None:
    assert quantisation_of({"text_config": {"quantization_config": {"bits": 4}}}) == {"bits": 4}
    assert quantisation_of({"quantization_config": None}) is None


def test_quantised_weights_take_their_bits_and_others_their_type() -> None:
    assert bytes_in_memory({"bits": 4}, 1_000, 100, itemsize=2) == 1_000 * 4.5 / 8 + 200
    # Of an unknown method the type is taken: rather too much than too little.
    assert bytes_in_memory({}, 1_000, 100, itemsize=2) == 2_200


def safetensors(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    """The header of a file alone: nothing reads its weights."""
    facts = {
        name: {"dtype": kind, "shape": shape, "data_offsets": [0, 0]}
        for name, (kind, shape) in tensors.items()
    }
    header = json.dumps(facts).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


LAYER = "model.layers.0.mlp.up_proj"


@pytest.mark.parametrize(
    ("settings", "tensors"),
    [
        (
            {"quant_method": "gptq", "bits": 4},
            {
                f"{LAYER}.qweight": ("I32", [8, 128]),
                f"{LAYER}.qzeros": ("I32", [1, 16]),
                f"{LAYER}.scales": ("F16", [1, 128]),
                f"{LAYER}.g_idx": ("I32", [64]),
            },
        ),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            {
                f"{LAYER}.weight": ("U8", [4096, 1]),
                f"{LAYER}.weight.absmax": ("U8", [128]),
                f"{LAYER}.weight.quant_map": ("F32", [16]),
                f"{LAYER}.weight.quant_state.bitsandbytes__nf4": ("U8", [90]),
            },
        ),
        (
            {"quant_method": "fp8"},
            {
                f"{LAYER}.weight": ("F8_E4M3", [128, 64]),
                f"{LAYER}.weight_scale_inv": ("F32", [1, 1]),
            },
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": GROUPS},
            {
                f"{LAYER}.weight_packed": ("I32", [128, 16]),
                f"{LAYER}.weight_scale": ("BF16", [128, 1]),
                f"{LAYER}.weight_shape": ("I64", [2]),
            },
        ),
        (
            {"quant_method": "mxfp4"},
            {f"{LAYER}_blocks": ("U8", [1, 128, 2, 16]), f"{LAYER}_scales": ("U8", [1, 128, 2])},
        ),
    ],
)
def test_packed_weights_count_as_those_that_they_stand_for(
    settings: dict[str, Any], tensors: dict[str, tuple[str, list[int]]], tmp_path: Path
) -> None:
    """128 × 64 weights, and an embedding that nobody quantised."""
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": settings}))
    embedding = {"model.embed_tokens.weight": ("BF16", [10, 64])}
    safetensors(tmp_path / "model.safetensors", tensors | embedding)
    assert count_parameters(tmp_path) == 128 * 64 + 640


def test_without_quantisation_every_element_counts(tmp_path: Path) -> None:
    safetensors(tmp_path / "model.safetensors", {"a.scales": ("F32", [3]), "b": ("U8", [4])})
    assert count_parameters(tmp_path) == 7


# ---- context -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "limit"),
    [
        ("llama", {"max_position_embeddings": 4096}, 4096),
        ("gpt2", {"n_positions": 1024}, 1024),
        ("bloom", {}, None),
        ("mamba2", {}, None),
        (
            "qwen2",
            {
                "max_position_embeddings": 32768,
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32768,
                },
            },
            131_072,
        ),
        (
            "llama",
            {
                "max_position_embeddings": 131_072,
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8192,
                },
            },
            131_072,
        ),
        (
            "llama",
            {
                "max_position_embeddings": 2048,
                "rope_scaling": {"rope_type": "linear", "factor": 2.0},
            },
            4096,
        ),
        ("gemma3_text", {"max_position_embeddings": 131_072}, 131_072),
    ],
)
def test_the_context_is_what_the_positions_and_their_scaling_reach(
    kind: str, settings: dict[str, Any], limit: int | None
) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(kind, **settings)
    assert context_of(config) == limit


@pytest.mark.parametrize("odd", ["8", True, [8], {}, float("inf"), float("nan"), 10**400, -1])
def test_a_length_or_factor_that_is_none_is_passed_over(odd: Any) -> None:
    def configured(positions: Any, **scaling: Any) -> Any:
        config = SimpleNamespace(
            model_type="llama", max_position_embeddings=positions, rope_parameters=scaling
        )
        config.get_text_config = lambda: config
        return config

    assert context_of(configured(odd)) is None
    assert context_of(configured(512, rope_type="linear", factor=odd)) == 512
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": odd}
    assert context_of(configured(512, **yarn)) == 2048
    assert context_of(configured(512, rope_type=odd, factor=2)) in (512, 1024)


ODD_BITS = [True, "4", [4], {}]


@pytest.mark.parametrize("odd", ODD_BITS)
def test_bits_that_are_no_number_are_not_known(odd: Any) -> None:
    assert bits_of({"bits": odd}) is None
    assert bits_of({"config_groups": {"a": {"weights": {"num_bits": odd}}}}) is None
    assert bits_of({"config_groups": {"a": {"weights": odd}, "b": odd}}) is None


@pytest.mark.parametrize("odd", ["gptq", [1], 4, True])
def test_a_quantisation_that_is_no_table_is_none(odd: Any) -> None:
    assert quantisation_of({"quantization_config": odd, "text_config": odd}) is None


@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "num_attention_heads"])
@pytest.mark.parametrize("odd", [10**400, -1, True, "8", 1.5])
def test_a_size_that_no_model_has_makes_no_shape(key: str, odd: Any) -> None:
    config = PUBLISHED["Qwen/Qwen3-0.6B"]
    assert shape_of_config(config) is not None
    assert shape_of_config({**config, key: odd}) is None
