"""The weights of a model name: a local folder or a hub id, and their identity, without loading
them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import re
import shlex
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.config import resources
from reasondistill.errors import ConfigError, DataError
from reasondistill.foreign_files import read_text
from reasondistill.models.folders import (
    cut_download,
    header_of,
    require_sound,
    require_sound_weights,
)
from reasondistill.models.quantised import bits_of, quantisation_of, weights_in
from reasondistill.runs import layout
from reasondistill.runs.store import open_sized, read_bytes_verified, verify_below

log = logging.getLogger(__name__)

SHIPPED = "shipped:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
# The files on which a model's tokens depend. Optimizer states, logs and READMEs of a checkpoint
# folder do not count.
_CONTENT = (
    *("config.json", "generation_config.json", "chat_template*", "adapter_config.json"),
    *(
        "tokenizer*",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.*",
        "merges.txt",
        "*.model",
    ),
    *_WEIGHTS,
)
# Models that are folders although they could be hub ids, and were named.
_named: set[str] = set()
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Of a model's name or path.
LONGEST_NAME = 4_096
_OF_ADAPTERS = {ADAPTER_WEIGHTS, "adapter_model.bin"}
# Of larger files this many blocks, evenly spread, and the size stand for the whole: other weights
# differ nearly everywhere.
_WHOLE_BYTES, _BLOCKS, _BLOCK_BYTES = 64 << 20, 256, 64 << 10


def named_folder(name: str) -> Path:
    """The folder that a name would mean, whether it is there or not: that of a shipped model for
    `shipped:NAME`. Raises ConfigError when no such model is shipped, and for a `~` where there is
    no such home.
    """
    if name.startswith(SHIPPED):
        return resources.shipped_model(name.removeprefix(SHIPPED))
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        home = Path(name).parts[0]
        raise ConfigError(
            f"{name}: there is no home folder {home} here. Give the whole path, or set HOME."
        ) from error


def files_like(folder: Path, patterns: Iterable[str]) -> set[Path]:
    """The files of a folder whose names fit one of the patterns."""
    files: set[Path] = set()
    for pattern in patterns:
        files.update(file for file in folder.glob(pattern) if file.is_file())
    return files


def is_hub_id(name: str) -> bool:
    """Whether a hub could have a model of this name."""
    return _HUB_ID.fullmatch(name) is not None


def model_folder(model: str) -> Path | None:
    """The local folder that `model` means (`shipped:NAME` included), or None for a hub id.

    Raises ConfigError when it is neither, or when the folder holds no config, no weights, or an
    adapter without its base.
    """
    path = named_folder(model)
    if not path.exists():
        if (path.parent / layout.WEIGHTS_LEFT_OUT).is_file():
            raise ConfigError(
                f"model {model}: its weights are not here; the run was packed elsewhere, without "
                f"them. Copy that folder from there to go on with its samples, or remove "
                f"{path.parent} and its folders in {layout.FOLDERS['evals']} to train and measure "
                "it again."
            )
        if not _HUB_ID.fullmatch(model):
            raise ConfigError(f"model {model}: no such folder.")
        return None
    is_like_an_id = _HUB_ID.fullmatch(model) is not None and "/" in model
    if is_like_an_id and model not in _named:
        _named.add(model)
        log.info("model %s: the folder %s, not the hub's model of this name", model, path.resolve())
    if is_adapter_alone(path):
        raise adapter_alone(model, path)
    if not (path / "config.json").is_file():
        raise ConfigError(
            f"model {model}: has no config.json, so it is not a Hugging Face model folder."
            f"{cut_download(path / 'config.json')}"
        )
    if weight_bytes(path) == 0:
        raise ConfigError(
            f"model {model}: a model folder without weights (no *.safetensors and no "
            f"pytorch_model*.bin).{cut_download(path / 'config.json')}"
        )
    if not any(path.glob("*.safetensors")):
        raise pickled(model)
    if (path / ADAPTER_CONFIG).exists():
        raise _adapter_beside(model, str(path / ADAPTER_CONFIG))
    require_sound(path)
    return path


def verified_folder(model: str) -> Path | None:
    """As `model_folder`, for one who loads it: every file that a stage wrote is verified.

    Raises DataError for one that is missing or is not what its stage wrote, ConfigError for weights
    that are no whole safetensors.
    """
    folder = model_folder(model)
    if folder is not None:
        verify_below(folder)
        require_sound_weights(folder)
    return folder


def require_sound_snapshot(model: str, revision: str | None = None) -> None:
    """What `verified_folder` looks at, of a hub id as far as the hub's cache has it. Raises
    ConfigError.
    """
    import huggingface_hub

    if ADAPTER_CONFIG in hub_files(model, revision):
        raise _adapter_beside(model, f"its {ADAPTER_CONFIG}")
    cached = huggingface_hub.try_to_load_from_cache(model, "config.json", revision=revision)
    if isinstance(cached, str):
        require_sound_weights(Path(cached).parent)


def pickled(model: str) -> ConfigError:
    """What to raise for weights that are no safetensors."""
    converted = quoted("CONVERTED")
    return ConfigError(
        f"model {model}: its weights are pickles (*.bin), which can execute what they like when "
        "they are loaded; only safetensors are. Convert them once, where you trust them:\n"
        + python_command(
            "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T",
            f"M.from_pretrained({quoted(model)}).save_pretrained({converted})",
            f"T.from_pretrained({quoted(model)}).save_pretrained({converted})",
        )
    )


def quoted(text: str) -> str:
    """A text as Python reads it, in ASCII and on one line."""
    return json.dumps(text)


def python_command(*statements: str) -> str:
    """The command that does this. People paste it, and strangers name models: a name is one text
    in it, for the shell and for Python.
    """
    return f"python -c {shlex.quote('; '.join(statements))}"


@contextmanager
def only_safetensors(model: str) -> Generator[None]:
    """Where a library loads a hub id with `use_safetensors`: raise ConfigError for one that has
    none.
    """
    try:
        yield
    except OSError as error:
        if "safetensors" not in str(error):
            raise
        raise pickled(model) from error


def is_adapter_alone(path: Path) -> bool:
    """Whether a folder holds what LoRA has learnt and no model to which it belongs."""
    if not (path / ADAPTER_CONFIG).is_file():
        return False
    weights = {file.name for file in files_like(path, _WEIGHTS)}
    is_model = (path / "config.json").is_file() and bool(weights - _OF_ADAPTERS)
    return not is_model


def _adapter_beside(model: str, file: str) -> ConfigError:
    """What to raise for a model with an adapter in its folder."""
    return ConfigError(
        f"model {model}: holds a model and a LoRA adapter beside it ({file}), which transformers "
        "would put into the model in silence, and other programs would not. Take the adapter's "
        "files out, or merge the adapter into the model first."
    )


def adapter_alone(model: str, path: Path) -> ConfigError:
    """What to raise for an adapter: whose it is, and how to make a model of both."""
    base = "BASE"
    try:
        adapter = foreign_json.loads(read_text(path / ADAPTER_CONFIG))
        named: Any = adapter["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        named = None
    if isinstance(named, str) and len(named) <= LONGEST_NAME:
        base = named
    fault = (
        f"model {model}: a LoRA adapter of {base}, not a model. Where models are asked (eval, "
        "[[evals.models]], teachers, a judge) it is merged with its base; here it is not."
    )
    merged = path.parent / layout.MODEL
    if (merged / "config.json").is_file() and path.name == layout.ADAPTER:
        return ConfigError(f"{fault} That is here: {merged}")
    # One that has grown has a tokenizer of its own.
    tokenizer = base
    if (path / "tokenizer_config.json").is_file():
        tokenizer = str(path)
    target = quoted(f"{path}-merged")
    command = python_command(
        "from peft import AutoPeftModelForCausalLM as M",
        "from transformers import AutoTokenizer as T",
        f"M.from_pretrained({quoted(str(path))}).merge_and_unload().save_pretrained({target})",
        f"T.from_pretrained({quoted(tokenizer)}).save_pretrained({target})",
    )
    return ConfigError(f"{fault} Merge them:\n{command}")


def _identity_left(folder: Path) -> str | None:
    """Which weights a student had that came from a packed run, which has none; None for a folder
    that is there. Raises DataError.
    """
    path = folder.parent / layout.WEIGHTS_LEFT_OUT
    if folder.exists() or not path.is_file():
        return None
    try:
        value = foreign_json.loads(read_text(path))
        return str(value["identity"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: does not say which weights were left out: {error}.") from error


def model_identity(model: str, revision: str | None = None) -> str:
    """`name@revision` of the weights, without an engine: a folder's fingerprint, or a hub id's
    commit where it can be known.

    Raises ConfigError as `model_folder`.
    """
    left_out = _identity_left(named_folder(model))
    if left_out is not None:
        return left_out
    folder = model_folder(model)
    if folder is not None:
        return f"{folder.resolve().name}@{folder_fingerprint(folder)}"
    return f"{model}@{hub_commit(model, revision) or revision or 'main'}"


def tokenizer_identity(tokenizer: str, revision: str | None = None) -> str:
    """`name@revision` of a tokenizer: a folder's fingerprint, or a hub id's commit where it can be
    known. Raises ConfigError.
    """
    folder = named_folder(tokenizer)
    if folder.is_dir():
        return f"{folder.resolve().name}@{folder_fingerprint(folder)}"
    if not _HUB_ID.fullmatch(tokenizer):
        raise ConfigError(f"tokenizer {tokenizer}: no such folder.")
    return f"{tokenizer}@{hub_commit(tokenizer, revision) or revision or 'main'}"


def folder_fingerprint(folder: Path) -> str:
    """12 hex digits over config, tokenizer and weights; of files above 64 MiB the size and 16 MiB
    of blocks count. Paths do not.
    """
    digest = hashlib.sha256()
    for file in sorted(files_like(folder, _CONTENT), key=lambda file: file.name):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        if size <= _WHOLE_BYTES:
            digest.update(read_bytes_verified(file))
            continue
        # Whoever loads the weights verifies all of them.
        with open_sized(file) as content:
            for block in range(_BLOCKS):
                content.seek((size - _BLOCK_BYTES) * block // (_BLOCKS - 1))
                digest.update(content.read(_BLOCK_BYTES))
    return digest.hexdigest()[:12]


@functools.cache
def hub_commit(model: str, revision: str | None) -> str | None:
    """The commit that a hub id's branch or tag points to: asked of the hub, else of the local
    cache; None when neither knows.
    """
    if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    try:
        import huggingface_hub
    except ImportError:
        return None
    try:
        return huggingface_hub.HfApi().model_info(model, revision=revision, timeout=10).sha
    # no network, offline mode, no such model: each version of its HTTP client has errors of its own
    except Exception as error:
        log.debug("%s: the hub did not answer (%s); looking in the local cache", model, error)
    for name in ("config.json", "tokenizer_config.json"):
        cached = huggingface_hub.try_to_load_from_cache(model, name, revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent.name
    return None


def require_safetensors(model: str, revision: str | None) -> None:
    """Raise ConfigError for a hub id that has no safetensors but pickles, which vLLM would load, as
    far as the hub or the local cache says what it has.
    """
    names = [name for name in hub_files(model, revision) if "/" not in name]
    if any(name.endswith(".safetensors") for name in names):
        return
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        raise pickled(model)


def hub_files(model: str, revision: str | None) -> list[str]:
    """The names of a hub id's files: asked of the hub, else those in the local cache; none when
    neither knows.
    """
    try:
        import huggingface_hub
    except ImportError:
        return []
    try:
        info = huggingface_hub.HfApi().model_info(model, revision=revision, timeout=10)
        return [file.rfilename for file in info.siblings or ()]
    except Exception as error:  # as in hub_commit
        log.debug("%s: the hub did not answer (%s); looking in the local cache", model, error)
    cached = huggingface_hub.try_to_load_from_cache(model, "config.json", revision=revision)
    if not isinstance(cached, str):
        return []
    return [path.name for path in Path(cached).parent.iterdir()]


# ---- how large they are --------------------------------------------------------------------------


def count_parameters(folder: Path) -> int | None:
    """The elements of all tensors in the safetensors of a folder, from their headers; None where
    there are none.

    Weights that are quantised into packed integers count as those that they stand for, scales do
    not. Raises ConfigError for a file that is no safetensors.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return None
    quantisation = quantisation_of(read_config(folder))
    return sum(_count_elements(file, quantisation) for file in files)


def read_config(folder: Path) -> Mapping[str, Any]:
    """The config.json of a model folder, unchanged; empty where it cannot be read."""
    try:
        config = foreign_json.loads(read_bytes_verified(folder / "config.json"))
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict):
        return {}
    return cast("Mapping[str, Any]", config)


def _count_elements(path: Path, quantisation: Mapping[str, Any] | None) -> int:
    count = 0
    for name, tensor in header_of(path, is_whole=False).items():
        if quantisation is None:
            count += math.prod(tensor.shape)
        else:
            try:
                bits = bits_of(quantisation)
                count += weights_in(name, tensor.dtype, tensor.shape, bits)
            except (ArithmeticError, ValueError):  # of half a bit, or of infinitely many
                raise ConfigError(
                    f"{path.parent}: the quantization_config of its config.json has no such bits."
                ) from None
    return count


def weight_bytes(folder: Path) -> int:
    """The size of all weight files of a folder."""
    return sum(file.stat().st_size for file in files_like(folder, _WEIGHTS))


def made_for(model: str) -> str | None:
    """The name of the prompt that a student's model folder was trained with; None where the folder
    does not have it.
    """
    folder = named_folder(model)
    if not is_adapter_alone(folder):
        folder = model_folder(model) or Path(model)
    path = folder / layout.OWN_FACTS
    if not path.is_file():
        return None
    try:
        name: Any = foreign_json.loads(read_bytes_verified(path))["prompt"]
    except (ValueError, KeyError, TypeError):
        name = None
    # Whoever made the folder names a prompt, and no file of its user.
    if not isinstance(name, str) or "/" in name:
        raise ConfigError(
            f'{path}: must be {{"prompt": "NAME"}}, the prompt that this model was trained with.'
        )
    return name


def has_cpu_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """True when the CPU multiplies bf16 in hardware (x86: AMX or AVX512; ARM: bf16)."""
    if not cpuinfo.exists():
        return False
    text = cpuinfo.read_text(encoding="utf-8")
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    if flags is None:
        return False
    return not {"amx_bf16", "avx512_bf16", "bf16"}.isdisjoint(flags[1].split())
