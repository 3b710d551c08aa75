"""What can be known of a model without its weights: its tokenizer, its configuration and the tokens
that end its texts, as far as they lie here or the hub answers for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.config import ModelSettings
from reasondistill.errors import ConfigError
from reasondistill.models.loading import loading
from reasondistill.models.shapes import configured_folder
from reasondistill.models.tokenizer_files import open_tokenizer
from reasondistill.models.weights import hub_commit, is_hub_id, named_folder
from reasondistill.runs.store import read_bytes_verified

log = logging.getLogger(__name__)

_END = "eos_token_id"


def is_at_hand(model: str, revision: str | None) -> bool:
    """Whether a model's tokenizer can be looked at: it lies here or the hub answers for it, and
    transformers is installed.
    """
    if find_spec("transformers") is None:
        return False
    if named_folder(model).is_dir():
        return True
    return is_hub_id(model) and hub_commit(model, revision) is not None


def is_out_of_reach(model: str, revision: str | None) -> bool:
    """Whether a model is named by a hub id, does not lie here, and the hub does not answer for it:
    nothing can be said of it.
    """
    if named_folder(model).is_dir() or not is_hub_id(model):
        return False
    return hub_commit(model, revision) is None


def loaded_tokenizer(name: str, load: Callable[[], Any]) -> Any:
    """What `load` loads; None, and a word in the log, for a hub id whose files do not come here.
    Raises ConfigError for a folder without a tokenizer that can be read.
    """
    try:
        return load()
    except (OSError, ValueError) as error:
        if named_folder(name).is_dir():
            fault = f"model {name}: its tokenizer cannot be loaded: {error}"
            raise ConfigError(fault) from error
        log.info("%s: its chat template is not looked at: %s", name, error)
        return None


def tokenizer_of(model: ModelSettings) -> Any:
    """The tokenizer of a model's folder or hub id."""
    source = named_folder(model.model)
    name = model.model
    if source.is_dir():
        name = str(source)
    return open_tokenizer(name, revision=model.revision, trust_remote_code=model.trust_remote_code)


def config_of(model: str, revision: str | None, *, trust_remote_code: bool = False) -> Any:
    """transformers' configuration of a model; None where it is not here. Raises ConfigError for one
    that it does not take.
    """
    folder = configured_folder(model, revision)
    if folder is None:
        return None
    from transformers import AutoConfig

    with loading(f"model {model}: its config.json", str(folder)):
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)


def generation_ends(model: str, revision: str | None) -> frozenset[int]:
    """The ids that end a model's texts by its generation_config.json, or else by its config.json;
    empty where neither is here or says so.
    """
    folder = configured_folder(model, revision)
    if folder is None:
        return frozenset()
    for name in ("generation_config.json", "config.json"):
        ends: Any = _values(folder / name).get(_END)
        if ends is None:
            continue
        if not isinstance(ends, list):
            ends = [ends]
        return frozenset(filter(_is_id, cast("list[Any]", ends)))
    return frozenset()


def _is_id(end: Any) -> bool:
    return isinstance(end, int) and not isinstance(end, bool) and end >= 0


def _values(path: Path) -> Mapping[str, Any]:
    try:
        values: Any = foreign_json.loads(read_bytes_verified(path))
    except (OSError, ValueError):
        return {}
    if not isinstance(values, dict):
        return {}
    return cast("Mapping[str, Any]", values)
