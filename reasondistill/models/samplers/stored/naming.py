"""What names a data set of traces: a file or folder that is here, or a hub's data set."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from reasondistill.config import ModelSettings
from reasondistill.curation.rows import content_hash
from reasondistill.errors import ConfigError
from reasondistill.models.samplers.base import named_identity

# What ends so is the name of a file, and no hub's data set.
_OF_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".gz")


def path_of(model: ModelSettings) -> Path | None:
    """The file or folder that `model` is; None for a data set of the hub. Raises ConfigError for
    the name of a file that is not there.
    """
    path = Path(model.model)
    if path.exists():
        return path
    is_path = model.model.startswith(("/", "./", "../", "~"))
    if is_path or path.suffix.lower() in _OF_FILES:
        raise ConfigError(
            f"model = {model.model!r}: no such data set of traces (looked in the "
            "working directory)."
        )
    return None


def stored_identity(model: ModelSettings) -> str:
    """`name@revision` of a hub's data set, `name@content` of a file or folder. Raises
    ConfigError.
    """
    path = path_of(model)
    if path is None:
        return named_identity(model)
    return f"{path.stem}@{hash_of(path)[:12]}"


def hash_of(path: Path) -> str:
    """The hash of what a file or folder holds; of a file that has not changed it is taken once."""
    if path.is_dir():
        return content_hash(path)
    state = path.stat()
    return _file_hash(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=32)
def _file_hash(path: Path, size: int, changed_ns: int) -> str:
    return content_hash(path)
