"""A student cut out of a larger model: `[students.shrink]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from reasondistill.errors import ConfigError
from reasondistill.sections import Section, short

SHRINKABLE = ("llama", "qwen2", "qwen3")
# Our key → its name in a Hugging Face config.
SIZES = {
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_key_value_heads": "num_key_value_heads",
}
Size = Annotated[int, Field(ge=1)] | None


class ShrinkSettings(Section):
    """The sizes of the student, cut out of its `base`; a size that is left out stays as in the
    base. Training then recovers what was lost.

    `layers`: how many are kept; `choose` says which: `even` copies every k-th layer (DistilBERT,
    arXiv 1910.01108), `importance` keeps those that change their input most (block influence:
    Minitron, arXiv 2407.14679; ShortGPT, arXiv 2403.03853). `hidden_size` and `intermediate_size`
    keep the channels, `num_key_value_heads` the attention groups (a key-value head with all of its
    query heads) that are most active on `calibration` training examples.
    """

    layers: Size = None
    """How many layers are kept. Example: 12"""
    choose: Literal["even", "importance"] = "even"
    """Which layers are kept: every k-th, or those that change their input most."""
    hidden_size: Size = None
    """The width of the hidden states that is kept. Example: 512"""
    intermediate_size: Size = None
    """The width of the feed-forward layers that is kept. Example: 1024"""
    num_key_value_heads: Size = None
    """How many key-value heads are kept, each with its query heads. Example: 2"""
    calibration: Annotated[int, Field(ge=1)] = 256
    """How many training examples say what is most active. [examples]"""

    @property
    def sizes(self) -> dict[str, int]:
        """What a Hugging Face config of the student has in place of its base's numbers."""
        named = {theirs: getattr(self, key) for key, theirs in SIZES.items()}
        return {theirs: size for theirs, size in named.items() if size is not None}

    @property
    def is_calibrated(self) -> bool:
        """True when what is kept depends on the training examples."""
        by_width = (self.hidden_size, self.intermediate_size, self.num_key_value_heads)
        return any(size is not None for size in by_width) or (
            self.layers is not None and self.choose == "importance"
        )

    def check(self, base: Mapping[str, Any], place: str) -> None:
        """Raise ConfigError, which names `place`, for a base whose config does not allow these
        sizes. A size that the config does not give is not checked.
        """
        kind = base.get("model_type")
        if kind not in SHRINKABLE:
            known = ", ".join(SHRINKABLE)
            raise ConfigError(
                f"{place} shrink: the base is of type {kind!r}; types that can be shrunk: "
                f"{known}; mixtures of experts cannot."
            )
        for theirs in (*SIZES.values(), "num_attention_heads"):
            _require_size(base, theirs, place)
        for key, theirs in SIZES.items():
            wanted, has = getattr(self, key), base.get(theirs)
            if wanted is not None and has is not None and wanted > has:
                raise ConfigError(
                    f"{place} shrink.{key} = {wanted}: larger than the base, whose {theirs} "
                    f"is {has}."
                )
        if base.get("hidden_size") and base.get("num_attention_heads"):
            self._check_heads(base, kind, place)

    def _check_heads(self, base: Mapping[str, Any], kind: str, place: str) -> None:
        key = "hidden_size" if self.hidden_size is not None else "num_key_value_heads"
        if self.hidden_size is None and self.num_key_value_heads is None:
            return
        groups = base.get("num_key_value_heads") or base["num_attention_heads"]
        if groups > base["num_attention_heads"]:
            raise ConfigError(f"{place} shrink: the base has more key-value heads than heads.")
        heads = base["num_attention_heads"] // groups * (self.num_key_value_heads or groups)
        hidden = self.hidden_size or base["hidden_size"]
        fault = (
            f"{place} shrink.{key} = {getattr(self, key)}: hidden_size {hidden} with {heads} "
            "attention heads"
        )
        if kind == "llama" and hidden % heads:
            raise ConfigError(f"{fault}; transformers needs a multiple.")
        if kind == "qwen2" and hidden * base["num_attention_heads"] != base["hidden_size"] * heads:
            # vLLM's Qwen2 divides hidden_size by the heads, whatever head_dim says.
            each = base["hidden_size"] // base["num_attention_heads"]
            raise ConfigError(
                f"{fault}; a qwen2 has {each} for each head: shrink hidden_size and "
                "num_key_value_heads by the same factor."
            )

    @model_validator(mode="after")
    def _shrinks_something(self) -> ShrinkSettings:
        if all(getattr(self, key) is None for key in SIZES):
            raise ValueError(f"shrink: set at least one of {', '.join(SIZES)}")
        return self


def _require_size(base: Mapping[str, Any], name: str, place: str) -> None:
    """Whoever made the base may have written anything in the place of a size."""
    size = base.get(name)
    is_size = isinstance(size, int) and not isinstance(size, bool) and size > 0
    if size is not None and not is_size:
        raise ConfigError(
            f"{place} shrink: the base's {name} is {short(str(size))}; want a whole number above 0."
        )
