"""A model's folder, looked over before any library opens it.

    require_sound(folder)           # files, links, sizes, numbers of config.json
    require_sound_weights(folder)   # and the headers of its safetensors

What is refused here would cost minutes, gigabytes or a wait without end in a library, or take the
text of a file elsewhere on the machine into a student. A folder that was looked over is not looked
over again until one of its files changes. Raises ConfigError and DataError that name the file.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.bounds import (
    CONFIG_BYTES,
    HEADER_BYTES,
    MODEL_EXPERTS,
    MODEL_LABELS,
    MODEL_LAYERS,
    MODEL_TENSORS,
    TEMPLATE_BYTES,
    TOKENIZER_BYTES,
    Bound,
)
from reasondistill.errors import ConfigError
from reasondistill.foreign_files import read_bytes, require_regular
from reasondistill.runs import layout
from reasondistill.runs.store import open_verified

log = logging.getLogger(__name__)

WEIGHTS = ".safetensors"
INDEX = "model.safetensors.index.json"
TEMPLATES = "additional_chat_templates"
# What libraries read as JSON into memory, whole.
_CONFIGS = re.compile(
    r".*config\.json|.*\.index\.json|special_tokens_map\.json|added_tokens\.json"
    r"|chat_template\.json|params\.json|reasondistill\.json"
)
# What else they read into memory; others, such as optimizer states and data, nobody opens.
_TEXTS = re.compile(
    r".*\.(json|txt|jinja|model|tiktoken|vocab|bpe|spm|codes|py)|(tokenizer|vocab|merges|tekken).*"
)
_UNREAD = {layout.TRAINER_STATE}
# Stores by content: the hub's cache, git-annex, DVC.
_BY_CONTENT = re.compile(r"[0-9a-f]{30,}|(MD5|SHA)\w*-s\d+--.*")


@dataclass(frozen=True)
class File:
    """A file of a model's folder as it was when it was looked at: `target` is where a link that
    leads out of the folder leads.
    """

    path: Path
    size: int
    changed_ns: int
    mode: int
    target: str = ""


def require_sound(folder: Path) -> None:
    """Raise ConfigError, or DataError for a pipe, for a folder whose files, sizes or numbers no
    honest model has. The weights are not opened.
    """
    _look_over(_files_of(folder))


def require_sound_weights(folder: Path) -> None:
    """`require_sound`, and the header of each safetensors file, as `header_of`, and their index."""
    files = _files_of(folder)
    _look_over(files)
    _look_over_weights(files)


# ---- files ---------------------------------------------------------------------------------------


def _files_of(folder: Path) -> tuple[File, ...]:
    """The files that a library could open, sorted by name."""
    root = folder.resolve()
    return (*_listed(folder, root), *_listed(folder / TEMPLATES, root))


def _listed(folder: Path, root: Path) -> Iterator[File]:
    if not folder.is_dir():
        return
    if not folder.resolve().is_relative_to(root):
        raise ConfigError(f"{folder}: a link that leads out of the model's folder.")
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.endswith(WEIGHTS) or is_read(entry.name):
            file = looked_at(Path(entry.path), root, is_link=entry.is_symlink())
            if file is not None:
                yield file


def is_read(name: str) -> bool:
    """Whether a library may read a file of this name into memory."""
    return _TEXTS.fullmatch(name) is not None and name not in _UNREAD


def looked_at(path: Path, root: Path, *, is_link: bool) -> File | None:
    """A file as it is; None for a folder. Raises ConfigError for what cannot be read."""
    try:
        facts = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be read ({error.strerror}).") from error
    if path.is_dir():
        return None
    require_regular(path, facts.st_mode)
    target = ""
    if is_link:
        led_to = path.resolve()
        if not led_to.is_relative_to(root) and _BY_CONTENT.fullmatch(led_to.name) is None:
            target = str(led_to)
    return File(path, facts.st_size, facts.st_mtime_ns, facts.st_mode, target)


@functools.lru_cache(maxsize=64)
def _look_over(files: tuple[File, ...]) -> None:
    templates = 0
    for file in files:
        require_named_link(file)
        if file.path.name.endswith(WEIGHTS):
            continue
        most = most_bytes_of(file.path.name)
        if file.size > most.most:
            raise ConfigError(f"{file.path}: larger than {most}.")
        if file.path.suffix == ".jinja":
            templates += file.size
        if templates > TEMPLATE_BYTES.most:
            raise ConfigError(
                f"{file.path}: with the other templates larger than {TEMPLATE_BYTES}."
            )
        if file.path.name == "config.json":
            require_sane_config(file.path)
        elif file.path.name == "generation_config.json":
            require_sane_generation(file.path)


def require_named_link(file: File) -> None:
    """Raise ConfigError for a link to a private file, whose text would go where the model goes. One
    to a file of the same name, as whoever shares files among folders lays it, is named in the log.
    """
    if not file.target:
        return
    if Path(file.target).name != file.path.name and not file.path.name.endswith(WEIGHTS):
        raise ConfigError(
            f"{file.path}: is a link to {file.target}, out of the model's folder. If the model "
            "needs that file, copy it to this place."
        )
    log.info("%s: is a link to %s, out of the model's folder", file.path, file.target)


def most_bytes_of(name: str) -> Bound:
    """How large a file of this name may be."""
    if name.endswith(".jinja"):
        return TEMPLATE_BYTES
    if _CONFIGS.fullmatch(name) is not None:
        return CONFIG_BYTES
    return TOKENIZER_BYTES


def read_object(path: Path) -> Mapping[str, Any]:
    """A JSON object in a file. Raises ConfigError for anything else."""
    try:
        value = foreign_json.loads(read_bytes(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: broken JSON: {error}.") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}.") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: is no JSON object.")
    return cast("Mapping[str, Any]", value)


# ---- numbers of config.json ----------------------------------------------------------------------

_LAYERS = re.compile(r"(num_|n_)?(\w+_)?(layers?|blocks?)")
_EXPERTS = re.compile(r"(num_|n_)\w*experts")
_LABELS = ("id2label", "label2id", "pruned_heads")


def require_sane_config(path: Path) -> None:
    """Raise ConfigError for a config.json from which a library would build for minutes."""
    config = read_object(path)
    for part in configs_in(config):
        layers = 0
        experts = 0
        for key, value in part.items():
            labels = 0
            if key in _LABELS and isinstance(value, Mapping | list):
                labels = len(cast("Sequence[Any]", value))
            elif key == "num_labels":
                labels = _count(value)
            elif _LAYERS.fullmatch(key):
                layers = max(layers, _count(value))
            elif _EXPERTS.fullmatch(key):
                experts = max(experts, _count(value))
            if labels > MODEL_LABELS.most:
                raise ConfigError(f"{path}: {key}: more than {MODEL_LABELS}.")
        if layers > MODEL_LAYERS.most:
            raise ConfigError(f"{path}: {layers:,} layers, more than {MODEL_LAYERS}.")
        if layers * experts > MODEL_EXPERTS.most:
            raise ConfigError(
                f"{path}: {experts:,} experts in each of {layers:,} layers, more than "
                f"{MODEL_EXPERTS}."
            )
    # transformers loads what this names in place of the folder's.
    named = config.get("transformers_weights")
    if named is not None:
        _require_weights_name(path, named)


def configs_in(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The config and the configs in it: of text, vision, audio."""
    parts = [config]
    for value in config.values():
        if isinstance(value, dict):
            parts.append(cast("dict[str, Any]", value))
    return parts


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        return int(value)
    except (ValueError, OverflowError):
        return 0


def _require_weights_name(path: Path, name: Any) -> None:
    is_name = isinstance(name, str) and name == os.path.basename(name)
    if not is_name or not name.endswith((WEIGHTS, ".index.json")):
        raise ConfigError(
            f"{path}: names {str(name)[:100]!r} as weights; want a *.safetensors file beside it."
        )


def require_sane_generation(path: Path) -> None:
    """Raise ConfigError for ends that are no ids."""
    ends = read_object(path).get("eos_token_id")
    if not isinstance(ends, list):
        ends = [ends]
    for end in cast("list[Any]", ends):
        is_id = isinstance(end, int) and not isinstance(end, bool)
        if end is not None and not is_id:
            raise ConfigError(
                f"{path}: eos_token_id holds {str(end)[:60]!r}; want the id of a token, or a list "
                "of ids."
            )


# ---- a tokenizer ---------------------------------------------------------------------------------

# One of these holds the tokens of a tokenizer, whatever its kind.
_TOKENS = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken", "tekken.json", "tokenization_*.py")


def require_tokenizer(folder: Path) -> None:
    """Raise ConfigError for a model's folder without the files of a tokenizer."""
    if any(path for pattern in _TOKENS for path in folder.glob(pattern)):
        return
    raise ConfigError(
        f"{folder}: has no tokenizer (no tokenizer.json, *.model or vocab.*). Was the folder "
        f"copied whole?{cut_download(folder / 'tokenizer.json')}"
    )


# ---- headers of safetensors ----------------------------------------------------------------------

_MOST_DIMENSIONS = 8
# One of several files: model-00001-of-00003.safetensors. Those of other names no library of ours
# loads.
_SHARD = re.compile(r"model-\d{5}-of-(\d{5})\.safetensors")
# What hub clients and others call a file until it is whole.
_CUT = (
    ".cache/huggingface/download/*.incomplete",
    "*.incomplete",
    "*.part",
    "*.partial",
    "*.tmp",
    "*.crdownload",
    "*.aria2",
)
_BITS = {
    **{"F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32},
    **{"F16": 16, "BF16": 16, "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
    **{"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4},
}


@dataclass(frozen=True)
class TensorFacts:
    """What a header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]


@functools.lru_cache(maxsize=64)
def _look_over_weights(files: tuple[File, ...]) -> None:
    tensors = 0
    held: dict[str, set[str]] = {}
    for file in files:
        if file.path.name.endswith(WEIGHTS):
            held[file.path.name] = set(header_of(file.path))
            tensors += len(held[file.path.name])
        if tensors > MODEL_TENSORS.most:
            raise ConfigError(f"{file.path}: with the other files more than {MODEL_TENSORS}.")
    for file in files:
        if file.path.name == INDEX:
            require_sound_index(file.path, held)
    for file in files:
        require_all_shards(file.path)


def require_sound_index(path: Path, held: Mapping[str, Collection[str]]) -> None:
    """Raise ConfigError for an index of shards that names anything but safetensors beside it, or a
    weight that its shard does not hold: `held` has the weights of each file.
    """
    named = read_object(path).get("weight_map")
    if not isinstance(named, dict):
        raise ConfigError(f"{path}: has no weight_map.")
    shards = {weight: str(file) for weight, file in cast("dict[str, Any]", named).items()}
    for name in sorted(set(shards.values())):
        _require_weights_name(path, name)
        if not (path.parent / name).is_file():
            raise ConfigError(
                f"{path}: names {name[:100]!r}, and there is no such file.{cut_download(path)}"
            )
    for weight, name in shards.items():
        if weight not in held.get(name, ()):
            raise ConfigError(
                f"{path}: says that {name} holds {weight[:100]!r}, and it does not. Was the folder "
                "copied whole, and from one place?"
            )


def require_all_shards(path: Path) -> None:
    """Raise ConfigError for one of several shards where another one, or their index, is missing."""
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return
    shards = [f"model-{number:05}-of-{match[1]}{WEIGHTS}" for number in range(1, int(match[1]) + 1)]
    for name in (*shards, INDEX):
        if not (path.parent / name).is_file():
            raise ConfigError(
                f"{path.parent}: {name} is missing; {path.name} is here. Was the folder copied "
                f"whole?{cut_download(path)}"
            )


def cut_download(path: Path) -> str:
    """A sentence that names what a download that was cut has left beside a file; empty where there
    is nothing of that kind.
    """
    for pattern in _CUT:
        for left in sorted(path.parent.glob(pattern)):
            return f" A download was cut here: {left}. Fetch the model again."
    return ""


def header_of(path: Path, *, is_whole: bool = True) -> dict[str, TensorFacts]:
    """The tensors of a safetensors file by name, from its header: 8 bytes of its length,
    little-endian, and that much JSON: {"name": {"dtype": …, "shape": […], "data_offsets": […]}}.

    Raises ConfigError for a file that is no safetensors, and, where `is_whole` says that they must
    be there, for one that lacks the weights.
    """
    try:
        size = path.stat().st_size - 8
        with open_verified(path) as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError("a header beyond the end")
            if length > HEADER_BYTES.most:
                raise ConfigError(f"{path}: its header is larger than {HEADER_BYTES}.")
            header = foreign_json.loads(file.read(length))
        header.pop("__metadata__", None)
        tensors: dict[str, TensorFacts] = {}
        for name, tensor in header.items():
            tensors[name] = tensor_facts(tensor)
            if is_whole:
                require_there(tensors[name], tensor["data_offsets"], size - length)
        return tensors
    except (ValueError, AttributeError, KeyError, TypeError):
        raise ConfigError(
            f"{path}: not a safetensors file; was it copied whole?{cut_download(path)}"
        ) from None


def tensor_facts(tensor: Mapping[str, Any]) -> TensorFacts:
    """What an entry of a header says. Raises ValueError, KeyError or TypeError for nonsense."""
    shape: Any = tensor["shape"]
    if not isinstance(shape, list):
        raise TypeError("no shape")
    sizes = cast("list[Any]", shape)
    if len(sizes) > _MOST_DIMENSIONS:
        raise ValueError("a shape of too many dimensions")
    _require_numbers(sizes)
    return TensorFacts(str(tensor["dtype"]), tuple(sizes))


def _require_numbers(numbers: Sequence[Any]) -> None:
    for number in numbers:
        if type(number) is not int or not 0 <= number < 1 << 63:
            raise ValueError("no number of elements or bytes")


def require_there(tensor: TensorFacts, offsets: Any, size: int) -> None:
    """Raise ValueError for a tensor that does not lie in `size` bytes, or not in as many as its
    shape says.
    """
    begin, end = offsets
    _require_numbers((begin, end))
    if not begin <= end <= size:
        raise ValueError("beyond the end")
    bits = _BITS.get(tensor.dtype)
    if bits is not None and math.prod(tensor.shape) * bits != (end - begin) * 8:
        raise ValueError("of another size")
