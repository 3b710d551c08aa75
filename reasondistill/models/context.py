"""The context length of a model, from its config.

limit = context_of(AutoConfig.from_pretrained(path))        # 32768, or None
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

# More tokens than any model reads, and a larger factor than any.
_LONGEST = 1e12
# Their max_position_embeddings already says what the scaling reaches.
_COUNTED_IN = {"default", "llama3", "longrope", "su", "mrope", "proportional"}


def context_of(config: Any) -> int | None:
    """The longest row that a model was made for; None for models without a bound (state space
    models, ALiBi).

    A scaled RoPE reaches further than `max_position_embeddings` says: `factor` times, YaRN counted
    from its `original_max_position_embeddings`. Where both say something the larger one counts.
    """
    text = config.get_text_config()
    positions = _number(getattr(text, "max_position_embeddings", None))
    if positions is None:
        return None
    # Gemma 3's positions are those after its scaling.
    if str(text.model_type).startswith("gemma3"):
        return int(positions)
    reach = positions
    for scaling in _scalings(text):
        kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
        factor = _number(scaling.get("factor"))
        if kind in _COUNTED_IN or factor is None:
            continue
        start = positions
        if kind == "yarn":
            start = _number(scaling.get("original_max_position_embeddings")) or positions
        reach = max(reach, start * factor)
    return int(reach)


def _number(value: object) -> float | None:
    """A length or factor of a configuration that others wrote; None for what cannot be one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if 0 <= value < _LONGEST else None


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
