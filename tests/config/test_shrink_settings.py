"""The sizes of a base, in a config.json that anybody may have written."""

from __future__ import annotations

import re
from typing import Any

import pytest

from reasondistill.config import ShrinkSettings
from reasondistill.errors import ConfigError

BASE = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": None,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": "4"}, "base's num_hidden_layers is 4; want a whole number above 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"hidden_size": [64]}, "hidden_size is [64]"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_key_value_heads": -1}, "num_key_value_heads is -1"),
        ({"num_key_value_heads": 8}, "more key-value heads than heads"),
        ({"model_type": ["llama"]}, "of type ['llama']"),
    ],
)
def test_a_base_with_sizes_that_no_model_has_is_refused(change: dict[str, Any], words: str) -> None:
    settings = ShrinkSettings(layers=2, hidden_size=32)
    settings.check(BASE, "s")
    settings.check({**BASE, "hidden_size": None}, "s")
    with pytest.raises(ConfigError, match=re.escape(words)):
        settings.check({**BASE, **change}, "s")
