"""Weights in fewer bits than their type says: GPTQ, AWQ, fp8, bitsandbytes and their kin, as
`quantization_config` of a config.json describes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

# The bits of a weight by method, where the config names no number of its own. The scales of a block
# of 32 take a quarter of a bit more in MXFP4.
_BITS = {"fp8": 8.0, "fbgemm_fp8": 8.0, "mxfp4": 4.25, "bitnet": 2.0, "aqlm": 2.0}
# What a group's scales and zero points take beside its weights, in bits of a weight: a float16
# scale and a zero point for each group of 128, or a float32 one for each of 64 (bitsandbytes).
_SCALES_BITS = 0.5


def quantisation_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The `quantization_config` of a config as JSON, that of its text part too; None where the
    weights are as their type says.
    """
    for part in (config, config.get("text_config"), config.get("llm_config")):
        if not isinstance(part, Mapping):
            continue
        found = cast("Mapping[str, Any]", part).get("quantization_config")
        if found and isinstance(found, Mapping):
            return cast("Mapping[str, Any]", found)
    return None


def bits_of(quantisation: Mapping[str, Any]) -> float | None:
    """How many bits a weight takes, without its share of the scales; None for what we do not
    know.
    """
    if quantisation.get("load_in_4bit"):
        return 4.0
    if quantisation.get("load_in_8bit"):
        return 8.0
    for name in ("bits", "w_bit", "wbits", "nbits"):
        bits = _bits_in(quantisation, name)
        if bits is not None:
            return bits
    groups = quantisation.get("config_groups")
    if isinstance(groups, Mapping):
        return _widest(cast("Mapping[str, Any]", groups).values())
    return _BITS.get(str(quantisation.get("quant_method", "")).lower())


def _widest(groups: Iterable[Any]) -> float | None:
    """The most bits of any group of compressed-tensors."""
    found: list[float] = []
    for group in groups:
        if not isinstance(group, Mapping):
            continue
        weights: object = cast("Mapping[str, Any]", group).get("weights")
        if not isinstance(weights, Mapping):
            continue
        bits = _bits_in(cast("Mapping[str, Any]", weights), "num_bits")
        if bits is not None:
            found.append(bits)
    return max(found, default=None)


def _bits_in(settings: Mapping[str, Any], name: str) -> float | None:
    """The bits that settings, which others wrote, name; None for what is no number. Raises
    OverflowError for one beyond what a float holds.
    """
    bits = settings.get(name)
    if isinstance(bits, bool) or not isinstance(bits, (int, float)):
        return None
    return float(bits)


def bytes_in_memory(
    quantisation: Mapping[str, Any], quantised: int, others: int, itemsize: int
) -> float:
    """What weights take: `quantised` of them in the bits of the method (in their own type where
    that is not known), `others`, as embeddings and norms, `itemsize` bytes each.
    """
    bits = bits_of(quantisation)
    if bits is None:
        return float((quantised + others) * itemsize)
    return quantised * (bits + _SCALES_BITS) / 8 + others * itemsize


# ---- how many weights there are ------------------------------------------------------------------

# What stands beside a quantised weight and is none: scales, zero points, orders, tables of codes.
_BESIDE = (
    *(".qzeros", ".scales", ".g_idx", ".absmax", ".quant_map", ".nested_absmax"),
    *(".nested_quant_map", ".weight_scale", ".weight_scale_inv", ".weight_shape"),
    *(".weight_zero_point", ".weight_g_idx", ".input_scale", ".input_global_scale"),
    *(".weight_global_scale", ".SCB", ".weight_format", "_scales"),
)
_BYTE_BITS = {"I8": 8, "U8": 8, "I32": 32, "U32": 32, "I64": 64}


def weights_in(name: str, kind: str, shape: Iterable[int], bits: float | None) -> int:
    """How many weights a tensor of a quantised checkpoint stands for: `kind` is its type in the
    header of a safetensors file. 0 for what only describes others.
    """
    if name.endswith(_BESIDE) or ".quant_state." in name:
        return 0
    elements = math.prod(shape)
    container = _BYTE_BITS.get(kind)
    if container is None or bits is None:
        return elements
    # 8 weights of 4 bits in an int32, 2 in a byte; 32 of 3 bits lie in three int32s.
    return round(elements * container / math.floor(bits))
