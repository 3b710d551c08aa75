"""The context length of a model, from its config.

limit = context_of(AutoConfig.from_pretrained(path))        # 32768, or None
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

# Their max_position_embeddings already says what the scaling reaches.
_COUNTED_IN = {"default", "llama3", "longrope", "su", "mrope", "proportional"}


def context_of(config: Any) -> int | None:
    """The longest row that a model was made for; None for models without a bound (state space
    models, ALiBi).

    A scaled RoPE reaches further than `max_position_embeddings` says: `factor` times, YaRN counted
    from its `original_max_position_embeddings`. Where both say something the larger one counts.
    """
    text = config.get_text_config()
    positions: int | None = getattr(text, "max_position_embeddings", None)
    if positions is None:
        return None
    # Gemma 3's positions are those after its scaling.
    if str(text.model_type).startswith("gemma3"):
        return positions
    reach = positions
    for scaling in _scalings(text):
        kind = scaling.get("rope_type") or scaling.get("type") or "default"
        factor = scaling.get("factor")
        if kind in _COUNTED_IN or factor is None:
            continue
        start = positions
        if kind == "yarn":
            start = scaling.get("original_max_position_embeddings") or positions
        reach = max(reach, int(start * factor))
    return reach


def _scalings(config: Any) -> Iterator[Mapping[str, Any]]:
    """How RoPE is scaled: once for all layers, or by kind of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        found = getattr(config, name, None)
        if not isinstance(found, Mapping):
            continue
        scaling = cast("Mapping[str, Any]", found)
        yield scaling
        for inner in scaling.values():
            if isinstance(inner, Mapping):
                yield cast("Mapping[str, Any]", inner)
