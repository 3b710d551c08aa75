"""A LoRA adapter that is named like a model: what it is, whose it is, and where both lie merged.

    adapter = adapter_of(settings)      # None for a model
    adapter.identity                    # "mine@0f3c…+Qwen/Qwen2.5-0.5B@060d…"
    adapter.merged                      # the folder of the merged model, there or not

An adapter's folder is a stranger's: it names a base, and modules as patterns. No pattern of it is
ever tried: what it was put on is read from the names of its weights. Raises ConfigError, by name,
for what is no LoRA adapter that can be merged. Imports nothing heavy: stages/students/merging.py
merges.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from reasondistill.bounds import MODEL_TENSORS
from reasondistill.config import ModelSettings
from reasondistill.errors import ConfigError
from reasondistill.foreign_text import shortened
from reasondistill.hashing import stable_digest
from reasondistill.models import weights
from reasondistill.models.folders import (
    TensorFacts,
    header_of,
    read_object,
    require_sound,
    require_sound_weights,
)
from reasondistill.models.quantised import quantisation_of
from reasondistill.models.shapes import configured_folder
from reasondistill.models.weights import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    LONGEST_NAME,
    adapter_alone,
    folder_fingerprint,
    is_adapter_alone,
    is_hub_id,
    model_folder,
    model_identity,
    named_folder,
    read_config,
)
from reasondistill.runs import layout

# Where merged models lie, instead of in the user's cache.
PLACE = "REASONDISTILL_MERGED"
# How a line of its log begins that the process that merges has written.
SAID = "merging: "
# What peft puts before the name of each weight.
# The name of a tokenizer's own configuration, and the files that one is of no use without.
TOKENIZER_CONFIG = "tokenizer_config.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_PREFIX = "base_model.model."
_NAME = re.compile(r"\w+(\.\w+)*")
_LORA = re.compile(r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B)")
_MAGNITUDE = ".lora_magnitude_vector"
_TOKENS = ".token_adapter.trainable_tokens_delta"
# Whole weights: of modules_to_save, and of embeddings that have grown. Beside the trained one peft
# may save what it was before.
_WHOLE = re.compile(r"(?P<module>.+?)(\.base_layer|\.modules_to_save)?\.(?P<part>weight|bias)")
_BEFORE = ".original_module"
_RANK, _ALPHA = 8, 8.0
# A key of rank_pattern or alpha_pattern that is a name and no pattern.
_PLAIN_KEY = re.compile(r"\^?[\w.]+\$?")

# Settings of peft that change nothing of what a finished adapter computes.
_INERT = {
    *("auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying"),
    *("eva_config", "exclude_modules", "inference_mode", "layers_pattern", "layers_to_transform"),
    *("loftq_config", "lora_dropout", "lora_ga_config", "megatron_core", "peft_type"),
    *("peft_version", "qalora_group_size", "rank_pattern", "revision", "runtime_config"),
    *("target_modules", "task_type", "init_lora_weights"),
}
_KNOWN = {
    *("alpha_pattern", "bias", "fan_in_fan_out", "lora_alpha", "modules_to_save", "r"),
    *("trainable_token_indices", "use_dora", "use_rslora"),
}
# Beginnings that leave the base as it is. Others take away from it what they put in the adapter.
_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")
_TASKS = (None, "CAUSAL_LM")


@dataclass(frozen=True)
class Lora:
    """What an adapter's own settings and the names and shapes of its weights say of it.

    `ranks` has each module that it was put on, `sizes` what that reads and writes (two numbers,
    the smaller first); `alphas` those with another alpha than `alpha`.
    `whole` are weights that replace the base's, `tokens` the ids whose rows do, by module.
    """

    ranks: Mapping[str, int]
    sizes: Mapping[str, tuple[int, ...]]
    alpha: float
    alphas: Mapping[str, float]
    use_dora: bool
    use_rslora: bool
    fan_in_fan_out: bool
    whole: Mapping[str, tuple[int, ...]]
    tokens: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Adapter:
    """An adapter in a folder, and its base: a hub id or a folder. `hub` is the id of an adapter
    from the hub, whose folder has the name of its commit.
    """

    folder: Path
    hub: str | None
    base: str
    base_revision: str | None
    trust_remote_code: bool

    @cached_property
    def identity(self) -> str:
        """`name@revision` of both: other weights of either are another model."""
        own = f"{self.name}@{folder_fingerprint(self.folder)}"
        if self.hub is not None:
            own = f"{self.hub}@{self.folder.name}"
        return f"{own}+{model_identity(self.base, self.base_revision)}"

    @property
    def name(self) -> str:
        """What it is called: its id, or the last part of its path."""
        return self.hub or self.folder.resolve().name

    @property
    def place(self) -> Path:
        """Where the merged model and its sums belong; by content, whatever the folder is called."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name)[:60]
        key = stable_digest(self.identity).hex()[:16]
        return merged_place() / f"{name.lstrip('.-') or 'adapter'}-{key}"

    @property
    def merged(self) -> Path:
        """The folder of the merged model, there or not."""
        return self.place / layout.MODEL

    @property
    def sums(self) -> Path:
        """The sums of the merged model's files, written last."""
        return self.place / layout.CHECKPOINT_SUMS

    @property
    def is_merged(self) -> bool:
        """Whether the merged model is there, whole."""
        return self.sums.is_file() and self.merged.is_dir()

    @property
    def has_tokenizer(self) -> bool:
        """Whether the adapter brings a tokenizer of its own."""
        return (self.folder / TOKENIZER_CONFIG).is_file()


def merged_place() -> Path:
    """The folder below which merged models are kept. Raises ConfigError where there is none."""
    named = os.environ.get(PLACE, "")
    if named:
        return Path(named).absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "")
    if not cache.is_absolute():
        try:
            cache = Path.home() / ".cache"
        except RuntimeError as error:
            raise ConfigError(
                f"there is no home folder to keep merged adapters in; set {PLACE} to a folder."
            ) from error
    return cache / "reasondistill" / "merged"


# ---- which models are adapters -------------------------------------------------------------------


def adapter_of(model: ModelSettings, *, asks_hub: bool = True) -> Adapter | None:
    """The adapter that a model's name means; None for a model, and for what a server or a script
    calls so. One on the hub that is not in its cache is fetched, where `asks_hub` lets it be.

    Raises ConfigError, as `read_lora`, and for a base that is none.
    """
    if not model.capabilities.has_weights:
        return None
    folder = _adapter_folder(model, asks_hub=asks_hub)
    if folder is None:
        if model.base is not None and asks_hub:
            raise ConfigError(
                f"model {model.model}: base = {model.base!r} is for a LoRA adapter, and this is "
                "none. Leave `base` out."
            )
        return None
    read_lora(folder)
    _require_whole_tokenizer(model.model, folder)
    base, revision = _base_of(model, folder)
    if model.trust_remote_code and model.base is None:
        raise ConfigError(
            f"model {model.model}: trust_remote_code would run code of {shortened(base, 200)}, the "
            "base that only the adapter's folder names. Name the base that you trust as `base`, or "
            "leave trust_remote_code out."
        )
    _require_base(model.model, base, revision)
    hub = None
    if not named_folder(model.model).exists():
        hub = model.model
    return Adapter(folder, hub, base, revision, model.trust_remote_code)


def _require_whole_tokenizer(name: str, folder: Path) -> None:
    """Raise ConfigError for an adapter with a part of a tokenizer: with the base's in its place the
    model would be asked in other tokens than it was trained on.
    """
    if (folder / TOKENIZER_CONFIG).is_file():
        return
    parts = [part for part in _TOKENIZERS if (folder / part).is_file()]
    if parts:
        raise ConfigError(
            f"model {name}: the adapter brings {parts[0]} and no {TOKENIZER_CONFIG}. Save the "
            "tokenizer there whole (tokenizer.save_pretrained), or remove that file, if it is the "
            "base's."
        )


def is_local_adapter(model: str) -> bool:
    """Whether a name means a folder here that holds an adapter and no model."""
    return is_adapter_alone(named_folder(model))


def _adapter_folder(model: ModelSettings, *, asks_hub: bool) -> Path | None:
    path = named_folder(model.model)
    if path.exists():
        if not is_adapter_alone(path):
            return None
        if path.name == layout.ADAPTER and (path.parent / layout.MODEL / "config.json").is_file():
            raise adapter_alone(model.model, path)  # it points to the merged one, which knows more
        return path
    if not is_hub_id(model.model):
        return None
    return _hub_adapter(model.model, model.revision, asks_hub=asks_hub)


def _hub_adapter(model: str, revision: str | None, *, asks_hub: bool) -> Path | None:
    """The folder in the hub's cache of an adapter on the hub, fetched where it is not there and
    the hub may be asked.
    """
    try:
        import huggingface_hub
    except ImportError:
        return None
    if configured_folder(model, revision) is not None:
        return None
    newest = None
    if asks_hub:
        newest = weights.hub_commit(model, revision)
    cached = huggingface_hub.try_to_load_from_cache(model, ADAPTER_CONFIG, revision=revision)
    if isinstance(cached, str) and (Path(cached).parent / ADAPTER_WEIGHTS).exists():
        folder = Path(cached).parent
        if newest in (None, folder.name):
            return folder
    if not asks_hub or not _is_adapter_on_hub(model, revision):
        return None
    try:
        folder = huggingface_hub.snapshot_download(
            model, revision=revision, allow_patterns=[*_FETCHED, *_TEXTS]
        )
    except Exception as error:  # each version of its HTTP client has errors of its own
        raise ConfigError(
            f"model {model}: an adapter on the hub, which could not be fetched: "
            f"{type(error).__name__}: {shortened(str(error), 200)}"
        ) from error
    return Path(folder)


@functools.cache
def _is_adapter_on_hub(model: str, revision: str | None) -> bool:
    """Whether the hub says that an id has an adapter and no model."""
    commit = weights.hub_commit(model, revision)
    if commit is None:
        return False
    names = weights.hub_files(model, commit)
    return ADAPTER_CONFIG in names and "config.json" not in names


_FETCHED = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
_TEXTS = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt"),
    *("*.model", "chat_template*", layout.OWN_FACTS),
)


def _base_of(model: ModelSettings, folder: Path) -> tuple[str, str | None]:
    """The base and its revision: what the user says, else what the adapter says."""
    if model.base is not None:
        base, at, revision = model.base.rpartition("@")
        if at and not named_folder(model.base).exists():
            return base, revision
        return model.base, None
    path = folder / ADAPTER_CONFIG
    config = read_object(path)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base:
        raise ConfigError(f"{path}: names no base_model_name_or_path. {_ASK}")
    if len(base) > LONGEST_NAME or not base.isprintable():
        raise ConfigError(f"{path}: its base_model_name_or_path is no name of a model. {_ASK}")
    # Which of this machine's folders is read is not a stranger's to say with `..` and `~`.
    is_named = Path(base).is_absolute() or is_hub_id(base)
    if not is_named or ".." in Path(base).parts:
        raise ConfigError(
            f"{path}: base_model_name_or_path = {base!r} is neither a hub id nor a whole path. "
            f"{_ASK}"
        )
    if revision is not None and not (isinstance(revision, str) and len(revision) <= LONGEST_NAME):
        raise ConfigError(f"{path}: its revision is no name. {_ASK}")
    return base, revision or None


_ASK = "Say which model it was trained on: `base` of the model, or --base."


def _require_base(model: str, base: str, revision: str | None) -> None:
    where = f"model {model}: its base {base}"
    if is_local_adapter(base):
        raise ConfigError(
            f"{where} is an adapter itself. Merge that one first, and name what comes out as `base`"
            " (--base)."
        )
    if Path(base).is_absolute() and not Path(base).exists():
        raise ConfigError(f"{where} is not on this machine. {_ASK}")
    found = model_folder(base) or configured_folder(base, revision)
    if found is not None:
        require_whole_weights(where, read_config(found))


def require_whole_weights(where: str, config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a base whose config says that its weights are quantised."""
    quantisation = quantisation_of(config)
    if quantisation is None:
        return
    method = shortened(str(quantisation.get("quant_method", "in few bits")), 40)
    raise ConfigError(
        f"{where} is quantised ({method}): what LoRA has learnt cannot be added to such "
        "weights. Name the model that it was made of as `base` (--base)."
    )


# ---- what an adapter holds -----------------------------------------------------------------------


def read_lora(folder: Path) -> Lora:
    """What an adapter's folder holds. Raises ConfigError for a kind that is not known here, for
    settings of the wrong type, and for weights that are no safetensors or nothing of LoRA's.
    """
    require_sound(folder)
    path = folder / ADAPTER_CONFIG
    config = read_object(path)
    _require_known(path, config)
    path_of_weights = folder / ADAPTER_WEIGHTS
    if not path_of_weights.is_file():
        if any(folder.glob("*.bin")):
            raise ConfigError(
                f"{folder}: its weights are a pickle (adapter_model.bin), which can execute what "
                "it likes when it is loaded; only safetensors are. Load it with peft where you "
                "trust it, and save it again."
            )
        raise ConfigError(f"{folder}: has no {ADAPTER_WEIGHTS}. Was the folder copied whole?")
    require_sound_weights(folder)
    header = header_of(path_of_weights)
    if len(header) > MODEL_TENSORS.most:
        raise ConfigError(f"{path_of_weights}: more than {MODEL_TENSORS}.")
    return _lora(path, config, path_of_weights, header)


def _require_known(path: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ConfigError(
            f"{path}: peft_type = {_shown(kind)}: only LORA can be merged and measured here. Other "
            "kinds: merge them into their base with peft, where it can, and name the result."
        )
    task = config.get("task_type")
    if task not in _TASKS:
        raise ConfigError(f"{path}: task_type = {_shown(task)}: want CAUSAL_LM, a model of text.")
    beginning = config.get("init_lora_weights")
    if beginning not in _BEGINNINGS:
        raise ConfigError(
            f"{path}: init_lora_weights = {_shown(beginning)}: this takes weights out of the base "
            "before training, so that the adapter does not fit the base itself. Save it with peft's"
            " path_initial_model_for_weight_conversion, or merge it with peft."
        )
    if config.get("bias") not in (None, "none"):
        raise ConfigError(f"{path}: bias = {_shown(config['bias'])}: trained biases are not known.")
    for key in sorted(config.keys() - _INERT - _KNOWN):
        if config[key] not in (None, False, {}, []) and config[key] != "":
            raise ConfigError(
                f"{path}: {shortened(key, 60)} = {_shown(config[key])} is not known here, and the "
                "model may be another one with it. Merge the adapter with peft, and name the "
                "result."
            )


def _shown(value: object) -> str:
    return shortened(repr(value), 60)


def _lora(
    path: Path, config: Mapping[str, Any], file: Path, header: Mapping[str, TensorFacts]
) -> Lora:
    ranks: dict[str, int] = {}
    halves: dict[str, dict[str, int]] = {}
    magnitudes: set[str] = set()
    whole: dict[str, tuple[int, ...]] = {}
    rows: dict[str, int] = {}
    for name, tensor in header.items():
        own = name.removeprefix(_PREFIX)
        stem = own.removesuffix(".weight")
        if own == name or _NAME.fullmatch(own) is None:
            raise _stranger(file, name)
        lora = _LORA.fullmatch(stem)
        if lora is not None:
            module, part = lora["module"], lora["part"]
            if len(tensor.shape) != 2:
                raise ConfigError(f"{file}: {name[:200]}: want a matrix.")
            rank, size = tensor.shape
            if part.endswith("_B"):
                size, rank = tensor.shape
            halves.setdefault(module, {})[part] = size
            if ranks.setdefault(module, rank) != rank or rank == 0:
                raise ConfigError(f"{file}: the two parts of {module[:200]} do not fit.")
        elif stem.endswith(_MAGNITUDE):
            magnitudes.add(stem.removesuffix(_MAGNITUDE))
        elif own.endswith(_TOKENS) and len(tensor.shape) == 2:
            rows[own.removesuffix(_TOKENS)] = tensor.shape[0]
        else:
            target = whole_weight(name)
            if target is not None:
                whole[target] = tensor.shape
            elif not stem.endswith(_BEFORE):
                raise _stranger(file, name)
    use_dora = _boolean(path, config, "use_dora")
    for module, parts in halves.items():
        if set(parts) not in ({"lora_A", "lora_B"}, {"lora_embedding_A", "lora_embedding_B"}):
            raise ConfigError(f"{file}: {module[:200]} has one part of two.")
    if magnitudes != (set(ranks) if use_dora else set()):
        raise ConfigError(f"{file}: its DoRA magnitudes are not those of use_dora = {use_dora}.")
    tokens = _tokens(path, config, rows)
    if not ranks and not whole and not tokens:
        raise ConfigError(f"{file}: holds no weights.")
    return Lora(
        ranks=ranks,
        sizes={module: tuple(sorted(parts.values())) for module, parts in halves.items()},
        alpha=_number(path, config, "lora_alpha", _ALPHA),
        alphas=_alphas(path, config, ranks),
        use_dora=use_dora,
        use_rslora=_boolean(path, config, "use_rslora"),
        fan_in_fan_out=_boolean(path, config, "fan_in_fan_out"),
        whole=whole,
        tokens=tokens,
    )


def whole_weight(name: str) -> str | None:
    """Which weight of the base one of the adapter's takes the place of; None for what is no whole
    weight, or the base's own.
    """
    found = _WHOLE.fullmatch(name.removeprefix(_PREFIX))
    if found is None or found["module"].endswith(_BEFORE):
        return None
    return f"{found['module']}.{found['part']}"


def _stranger(file: Path, name: str) -> ConfigError:
    return ConfigError(
        f"{file}: holds {_shown(name)}, which is nothing that LoRA trains as peft names it."
    )


def _boolean(path: Path, config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise ConfigError(f"{path}: {key} = {_shown(value)}: want true or false.")
    return value


def _number(path: Path, config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) <= _MOST_ALPHA:  # NaN is neither above nor below
        raise ConfigError(f"{path}: {key} = {_shown(value)}: want a number.")
    return float(value)


_MOST_ALPHA = 1e6


def _alphas(path: Path, config: Mapping[str, Any], ranks: Mapping[str, int]) -> dict[str, float]:
    """alpha_pattern by module. Its keys are patterns to peft; here they are names, whole or their
    ends.
    """
    pattern = config.get("alpha_pattern") or {}
    if not isinstance(pattern, dict):
        raise ConfigError(f"{path}: alpha_pattern = {_shown(pattern)}: want a table.")
    given = cast("dict[str, Any]", pattern)
    alphas: dict[str, float] = {}
    keys = list(given)
    for key in keys:
        if _PLAIN_KEY.fullmatch(key) is None:
            raise ConfigError(
                f"{path}: alpha_pattern has the pattern {_shown(key)}; only names of modules are "
                "read. Merge the adapter with peft."
            )
    for module in ranks:
        key = _first_key(keys, module)
        if key is not None:
            alphas[module] = _number(path, given, key, _ALPHA)
    return alphas


def _first_key(keys: Sequence[str], module: str) -> str | None:
    for key in keys:
        name = key.strip("^$")
        if module == name or (not key.startswith("^") and module.endswith(f".{name}")):
            return key
    return None


def _tokens(
    path: Path, config: Mapping[str, Any], rows: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    """The ids of trained rows, by module; as many as there are rows."""
    named: Any = config.get("trainable_token_indices")
    tokens: dict[str, tuple[int, ...]] = {}
    for module, count in rows.items():
        ids = named
        if isinstance(named, dict):
            table = cast("dict[str, Any]", named)
            ids = next((table[k] for k in table if module == k or module.endswith(f".{k}")), None)
        if not isinstance(ids, list) or not all(map(_is_id, cast("list[Any]", ids))):
            raise ConfigError(
                f"{path}: trainable_token_indices does not say which tokens the rows of "
                f"{module[:200]} are."
            )
        numbers = tuple(cast("list[int]", ids))
        if len(numbers) != count or len(set(numbers)) != count:
            raise ConfigError(
                f"{path}: trainable_token_indices names {len(numbers):,} tokens for the {count:,} "
                f"rows of {module[:200]}."
            )
        tokens[module] = numbers
    return tokens


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


# ---- what is read of it before it is merged ------------------------------------------------------


def config_source(model: ModelSettings) -> ModelSettings:
    """The model whose config.json says what this one is: an adapter's base, or the model itself."""
    adapter = adapter_of(model, asks_hub=False)
    if adapter is None:
        return model
    return _read_from(model, adapter.base, adapter.base_revision)


def tokenizer_source(model: ModelSettings) -> ModelSettings:
    """The model, or folder of an adapter, whose tokenizer this one has."""
    adapter = adapter_of(model, asks_hub=False)
    if adapter is None:
        return model
    if adapter.has_tokenizer:
        return _read_from(model, str(adapter.folder), None)
    return _read_from(model, adapter.base, adapter.base_revision)


def merged_source(model: ModelSettings, folder: Path) -> ModelSettings:
    """The same model as the folder in which it lies merged."""
    return _read_from(model, str(folder), None)


def _read_from(model: ModelSettings, name: str, revision: str | None) -> ModelSettings:
    return model.model_copy(update={"model": name, "revision": revision, "base": None})
