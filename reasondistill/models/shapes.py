"""How large a model is, and what its tokens cost, from its configuration: no weight is read.

    shape = shape_of("Qwen/Qwen2.5-Math-1.5B", None)
    shape.parameters, shape.key_value_width         # 1_543_714_304, 256

The configuration is that of the folder, of the hub's cache, or of a short list of models whose
shape their makers have published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reasondistill.models.folders import INDEX
from reasondistill.models.weights import count_parameters, named_folder, read_config

# The parts of a configuration that have the text model's numbers where it has several models.
_TEXT = ("text_config", "llm_config", "language_config")
# A larger number is none of a model's.
_MOST = 1 << 40


@dataclass(frozen=True)
class ModelShape:
    """A decoder of transformers' common build: layers of attention and a gated MLP, all `hidden`
    wide. `key_value_width` is the width of a token's keys in one layer, and of its values.

    Of a mixture of experts `intermediate` is the width of those experts that a token goes through.
    """

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    attention_width: int
    key_value_width: int
    vocabulary: int

    @property
    def key_value_numbers(self) -> int:
        """The numbers that a token leaves in the cache of keys and values."""
        return 2 * self.layers * self.key_value_width


def shape_of(model: str, revision: str | None = None) -> ModelShape | None:
    """The shape of a folder, `shipped:NAME` or hub id; None where nothing here tells it."""
    folder = configured_folder(model, revision)
    if folder is None:
        return shape_of_config(PUBLISHED.get(model, {}))
    shape = shape_of_config(read_config(folder))
    if shape is None:
        return None
    return _as_counted(shape, folder)


def shape_of_cut(model: str, revision: str | None, sizes: Mapping[str, int]) -> ModelShape | None:
    """The shape of what is cut out of a model: some numbers of its configuration are others.
    Fewer key-value heads take their query heads with them.
    """
    folder = configured_folder(model, revision)
    config = PUBLISHED.get(model, {}) if folder is None else read_config(folder)
    heads = _number(config, "num_attention_heads")
    groups = _number(config, "num_key_value_heads") or heads
    cut = {**config, **sizes}
    if groups:
        cut["num_attention_heads"] = heads // groups * sizes.get("num_key_value_heads", groups)
    return shape_of_config(cut)


def configured_folder(model: str, revision: str | None) -> Path | None:
    """The folder here that has a model's configuration."""
    folder = named_folder(model)
    if not folder.is_dir():
        folder = _cached(model, revision) or folder
    if not (folder / "config.json").is_file():
        return None
    return folder


def _cached(model: str, revision: str | None) -> Path | None:
    """The folder in the hub's cache with a hub id's configuration; None where there is none."""
    try:
        import huggingface_hub

        cached = huggingface_hub.try_to_load_from_cache(model, "config.json", revision=revision)
    except (ImportError, ValueError):  # of what is no hub id
        return None
    if not isinstance(cached, str):
        return None
    return Path(cached).parent


def _as_counted(shape: ModelShape, folder: Path) -> ModelShape:
    """With the parameters that the weights beside the configuration have, where they are here."""
    counted = count_parameters(folder)
    if counted is None or (folder / INDEX).exists():
        return shape
    return replace(shape, parameters=counted)


def shape_of_config(config: Mapping[str, Any]) -> ModelShape | None:
    """The shape that a config.json describes; None where it lacks one of the usual numbers."""
    for part in _TEXT:
        if isinstance(config.get(part), dict):
            config = {**config, **config[part]}
    hidden, layers = _number(config, "hidden_size"), _number(config, "num_hidden_layers")
    heads, vocabulary = _number(config, "num_attention_heads"), _number(config, "vocab_size")
    if not (hidden and layers and heads and vocabulary):
        return None
    head = _number(config, "head_dim") or hidden // heads
    attention = heads * head
    keys = (_number(config, "num_key_value_heads") or heads) * head
    intermediate = _number(config, "intermediate_size") or 4 * hidden
    experts = _number(config, "num_experts") or _number(config, "num_local_experts")
    through = intermediate
    feed_forward = 3 * hidden * intermediate
    if experts:
        width = _number(config, "moe_intermediate_size") or intermediate
        through = width * (_number(config, "num_experts_per_tok") or 1)
        feed_forward = experts * (3 * hidden * width + hidden)
    layer = 2 * hidden * attention + 2 * hidden * keys + feed_forward + 2 * hidden
    kind = str(config.get("model_type", ""))
    if kind.startswith("qwen2"):
        layer += attention + 2 * keys  # biases
    elif kind.startswith("qwen3"):
        layer += 2 * head  # norms of queries and keys
    embeddings = vocabulary * hidden
    if not config.get("tie_word_embeddings", False):
        embeddings *= 2
    return ModelShape(
        parameters=embeddings + layers * layer + hidden,
        layers=layers,
        hidden=hidden,
        intermediate=through,
        attention_width=attention,
        key_value_width=keys,
        vocabulary=vocabulary,
    )


def _number(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        return 0
    return value


def _published(
    kind: str,
    hidden: int,
    layers: int,
    heads: tuple[int, int],
    intermediate: int,
    vocabulary: int,
    *,
    tied: bool = False,
    head: int | None = None,
) -> dict[str, Any]:
    """A configuration by its numbers; `heads` are those of queries and those of keys."""
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        **({"head_dim": head} if head else {}),
    }


_QWEN2_0_5B = _published("qwen2", 896, 24, (14, 2), 4864, 151_936, tied=True)
_QWEN2_1_5B = _published("qwen2", 1536, 28, (12, 2), 8960, 151_936, tied=True)
_QWEN2_3B = _published("qwen2", 2048, 36, (16, 2), 11_008, 151_936, tied=True)
_QWEN2_7B = _published("qwen2", 3584, 28, (28, 4), 18_944, 152_064)
_QWEN2_14B = _published("qwen2", 5120, 48, (40, 8), 13_824, 152_064)
_QWEN2_32B = _published("qwen2", 5120, 64, (40, 8), 27_648, 152_064)
_LLAMA_8B = _published("llama", 4096, 32, (32, 8), 14_336, 128_256)
_SIZES = {
    "0.5B": _QWEN2_0_5B,
    "1.5B": _QWEN2_1_5B,
    "3B": _QWEN2_3B,
    "7B": _QWEN2_7B,
    "14B": _QWEN2_14B,
    "32B": _QWEN2_32B,
}
# As the config.json of each says on the hub, for models that people name before they fetch them.
PUBLISHED: dict[str, Mapping[str, Any]] = {
    **{f"Qwen/Qwen2.5-{size}": config for size, config in _SIZES.items()},
    **{f"Qwen/Qwen2.5-{size}-Instruct": config for size, config in _SIZES.items()},
    **{f"Qwen/Qwen2.5-Coder-{size}-Instruct": config for size, config in _SIZES.items()},
    "Qwen/Qwen2.5-Math-1.5B": _QWEN2_1_5B,
    "Qwen/Qwen2.5-Math-1.5B-Instruct": _QWEN2_1_5B,
    "Qwen/Qwen2.5-Math-7B": _QWEN2_7B,
    "Qwen/Qwen2.5-Math-7B-Instruct": _QWEN2_7B,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": _QWEN2_1_5B | {"tie_word_embeddings": False},
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": _QWEN2_7B,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": _QWEN2_14B,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": _QWEN2_32B,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": _LLAMA_8B,
    "Qwen/QwQ-32B": _QWEN2_32B,
    "Qwen/Qwen3-0.6B": _published("qwen3", 1024, 28, (16, 8), 3072, 151_936, tied=True, head=128),
    "Qwen/Qwen3-1.7B": _published("qwen3", 2048, 28, (16, 8), 6144, 151_936, tied=True, head=128),
    "Qwen/Qwen3-4B": _published("qwen3", 2560, 36, (32, 8), 9728, 151_936, tied=True, head=128),
    "Qwen/Qwen3-8B": _published("qwen3", 4096, 36, (32, 8), 12_288, 151_936, head=128),
    "Qwen/Qwen3-14B": _published("qwen3", 5120, 40, (40, 8), 17_408, 151_936, head=128),
    "Qwen/Qwen3-32B": _published("qwen3", 5120, 64, (64, 8), 25_600, 151_936, head=128),
    "HuggingFaceTB/SmolLM2-135M-Instruct": _published(
        "llama", 576, 30, (9, 3), 1536, 49_152, tied=True
    ),
    "HuggingFaceTB/SmolLM2-360M-Instruct": _published(
        "llama", 960, 32, (15, 5), 2560, 49_152, tied=True
    ),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": _published(
        "llama", 2048, 24, (32, 32), 8192, 49_152, tied=True
    ),
    "meta-llama/Llama-3.1-8B": _LLAMA_8B,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_8B,
}
