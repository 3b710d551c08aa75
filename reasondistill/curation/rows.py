"""Rows of a hub dataset, a file or a procedural set, one at a time, with any fields.

    path = Path("data/gsm8k.jsonl")
    opened = open_file(path, revision=content_hash(path), split="train")
    for row in opened.rows:
        print(row.index, value_at(row.fields, "metadata.answer_cot"))

Covered: JSONL, a JSON list, CSV, Parquet; any dataset that `datasets` can load; any reasoning-gym
set. Not covered: compressed files, datasets that need their own loading script.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.bounds import COLUMNS, JSON_FILE_BYTES, LINE_BYTES
from reasondistill.curation.dataset_files import require_own_files, require_own_metadata
from reasondistill.curation.parquet import parquet_rows
from reasondistill.errors import (
    ConfigError,
    DataError,
    MissingDependencyError,
    ReasonDistillError,
)
from reasondistill.foreign_files import regular
from reasondistill.sections import is_place, nearest


@dataclass(frozen=True)
class Row:
    """One row and its number in the source."""

    index: int
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class OpenedRows:
    """An opened source and its rows."""

    rows: Iterator[Row]
    dataset: str
    revision: str
    split: str


# ---- fields --------------------------------------------------------------------------------------


def value_at(fields: Mapping[str, Any], name: str) -> Any:
    """The value at a dotted name; numbers reach into lists (`final_answer.0`). Raises KeyError."""
    if name in fields:
        return fields[name]
    place: Any = fields
    for part in name.split("."):
        if isinstance(place, Mapping) and part in place:
            place = place[part]
        elif isinstance(place, list) and is_place(part, len(cast("list[Any]", place))):
            place = place[int(part)]
        else:
            raise KeyError(name)
    return place


def has_value(fields: Mapping[str, Any], name: str) -> bool:
    """Whether `value_at` finds a value."""
    try:
        value_at(fields, name)
    except KeyError:
        return False
    return True


def get_value(fields: Mapping[str, Any], name: str | None) -> Any:
    """The value, or None where this row lacks it."""
    if name is None or not has_value(fields, name):
        return None
    return value_at(fields, name)


def field_names(fields: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every dotted name that `value_at` finds in nested mappings: none of a key inside that has a
    dot itself, nor of what stands below one.
    """
    names: list[str] = []
    for key, value in fields.items():
        has_dot = "." in key
        if not (prefix and has_dot):
            names.append(f"{prefix}{key}")
        if isinstance(value, Mapping) and not has_dot:
            names += field_names(cast("Mapping[str, Any]", value), f"{prefix}{key}.")
    return names


def as_text(value: Any) -> str:
    """A cell as text. JSON has one kind of number, so 43.0 is written 43; a missing value is
    empty.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


# ---- files ---------------------------------------------------------------------------------------


def find_path(name: str, base: Path | None) -> Path | None:
    """The existing file or folder `name`: relative to the working directory, else to `base`."""
    places = [Path(name)] if base is None else [Path(name), base / name]
    return next((place for place in places if place.exists()), None)


def open_file(path: Path, *, revision: str, split: str, fields: Sequence[str] = ()) -> OpenedRows:
    """The rows of a .jsonl, .json, .csv or .parquet file; `fields` are those that are wanted, where
    that is known. Raises ConfigError, and DataError(`path:line`) while reading.
    """
    readers: dict[str, Callable[[Path], Iterator[Mapping[str, Any]]]] = {
        ".jsonl": _jsonl,
        ".json": _json,
        ".csv": _csv,
        ".parquet": partial(parquet_rows, fields=fields),
    }
    if path.is_dir():
        raise ConfigError(
            f'dataset = "{path}": is a folder. Name a file, or use source = "hub" to load a '
            "dataset folder."
        )
    if path.suffix.lower() not in readers:
        raise ConfigError(
            f'dataset = "{path}": cannot read "{path.suffix}" files. Known: {", ".join(readers)}.'
        )
    rows = (Row(index, fields) for index, fields in enumerate(readers[path.suffix.lower()](path)))
    return OpenedRows(rows, path.name, revision, split)


def content_hash(path: Path) -> str:
    """16 hex digits of a file's SHA-256; of a folder's, over the names and contents of its
    files.
    """
    digest = hashlib.sha256()
    files = [path]
    if path.is_dir():
        inside = [file for file in path.rglob("*") if file.is_file()]
        files = sorted(file for file in inside if not file.name.startswith("."))
    for file in files:
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with open(file, "rb", opener=regular) as opened:
            for block in iter(lambda: opened.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()[:16]


def _jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    with open(path, "rb", opener=regular) as file:
        for number, line in enumerate(foreign_json.bounded_lines(file, path), start=1):
            if line.strip():
                yield _object(_parsed(line, path, number), f"{path}:{number}")


def _json(path: Path) -> Iterator[Mapping[str, Any]]:
    with open(path, "rb", opener=regular) as file:
        text = file.read(JSON_FILE_BYTES.most + 1)
    if len(text) > JSON_FILE_BYTES.most:
        raise DataError(
            f"{path}:1: a .json file is read whole; this one is beyond {JSON_FILE_BYTES}. Write "
            "it as .jsonl, an object a line."
        )
    rows = _parsed(text, path, 1)
    if not isinstance(rows, list):
        raise DataError(f"{path}:1: expected a JSON list of objects, found {type(rows).__name__}.")
    for number, row in enumerate(cast("list[Any]", rows), start=1):
        yield _object(row, f"{path}: item {number}")


def _parsed(text: bytes, path: Path, first_line: int) -> Any:
    try:
        return foreign_json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = first_line + text[: error.start].count(b"\n")
        raise DataError(f"{path}:{line}: not UTF-8 text ({error.reason}).") from error
    except json.JSONDecodeError as error:
        # The error of a cut-off line is at its end, and its newline is not another line.
        line = first_line + text[: error.pos].rstrip().count(b"\n")
        raise DataError(
            f"{path}:{line}: broken JSON: {error.msg} (column {error.colno})."
        ) from error
    except ValueError as error:
        raise DataError(f"{path}:{first_line}: {error}.") from error


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(value).__name__}.")
    return cast("Mapping[str, Any]", value)


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(LINE_BYTES.most)  # the default of 128 KiB cuts long solutions
    with open(path, encoding="utf-8-sig", newline="", opener=regular) as file:
        reader = csv.DictReader(foreign_json.bounded_lines(file, path), strict=True)
        try:
            if len(reader.fieldnames or ()) > COLUMNS.most:
                raise DataError(f"{path}:1: more than {COLUMNS}.")
            for row in reader:
                if None in row:
                    raise DataError(
                        f"{path}:{reader.line_num}: more cells than the "
                        f"{len(reader.fieldnames or ())} columns of the header."
                    )
                yield row
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: broken CSV: {error}.") from error
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{reader.line_num + 1}: not UTF-8 text ({error.reason})."
            ) from error


# ---- hub -----------------------------------------------------------------------------------------


def open_hub(
    dataset: str,
    folder: Path | None,
    *,
    config: str | None,
    split: str,
    revision: str | None,
    streaming: bool,
    trust_remote_code: bool,
) -> OpenedRows:
    """The rows of a hub dataset, or of a dataset folder when `folder` is given (then `revision` is
    its content's hash).

    `streaming` reads no more than is needed. Raises ConfigError, and DataError while reading.
    The builder's hash is the commit that the hub resolved the revision to; cached datasets keep
    theirs offline.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError("datasets", "data") from error
    if folder is not None:
        require_own_metadata(folder)
    extra: dict[str, Any] = {}
    if trust_remote_code:
        if "trust_remote_code" not in inspect.signature(datasets.load_dataset_builder).parameters:
            raise ConfigError(
                f"trust_remote_code: datasets {datasets.__version__} cannot run dataset scripts. "
                'Use the dataset\'s Parquet copy: revision = "refs/convert/parquet".'
            )
        extra["trust_remote_code"] = True
    try:
        builder = datasets.load_dataset_builder(
            str(folder or dataset), config, revision=None if folder else revision, **extra
        )
        require_own_files(builder, folder, split)
        rows = _streamed(builder, split) if streaming or folder else _downloaded(builder, split)
    except ReasonDistillError:
        raise
    except Exception as error:  # what others wrote makes libraries raise anything
        raise ConfigError(
            f'dataset = "{dataset}" (config {config}, split {split}, revision {revision}): '
            f"{_first_line(error)}"
        ) from error
    if folder is not None:
        return OpenedRows(_hub_rows(rows, dataset), folder.name, revision or "unknown", split)
    commit = builder.hash or ""
    if not re.fullmatch("[0-9a-f]{40}", commit):
        commit = revision or "unknown"
    return OpenedRows(_hub_rows(rows, dataset), dataset, commit, split)


def _streamed(builder: Any, split: str) -> Iterable[Any]:
    """Streams know single splits only; `train+test` is both in turn."""
    parts = [builder.as_streaming_dataset(part.strip()) for part in split.split("+")]
    return chain.from_iterable([_undecoded(part) for part in parts])


def _downloaded(builder: Any, split: str) -> Any:
    builder.download_and_prepare()
    return _undecoded(builder.as_dataset(split).to_iterable_dataset())


def _undecoded(rows: Any) -> Any:
    """Without the images and sounds of a row: they would be fetched from where the row says."""
    return rows.decode(False)


def _hub_rows(rows: Iterable[Any], dataset: str) -> Iterator[Row]:
    index = -1
    try:
        for index, fields in enumerate(rows):
            yield Row(index, fields)
    except Exception as error:  # of the library, which reads what others wrote
        raise DataError(f"{dataset}:{index + 2}: cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# ---- procedural ----------------------------------------------------------------------------------

# Example i of a reasoning-gym set draws from Random(seed + i): neighbouring seeds share all but one
# of their examples. Our seeds are therefore this far apart, and each has this many rows.
SEED_STRIDE = 10_000_000
# Rows are made in blocks of a fixed size, so that asking for more rows never changes the ones
# before.
BLOCK = 1_000


def open_procedural(name: str, *, seed: int, options: Mapping[str, Any]) -> OpenedRows:
    """The endless (10 million rows) stream of a reasoning-gym set: entry fields, and `template`
    where the set has templates.

    Seed s is the library's seeds s · 10,000,000 and up: two seeds never share a row.
    """
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise MissingDependencyError("reasoning-gym", "data") from error
    if name not in DATASETS:
        raise ConfigError(
            f'dataset = "{name}": reasoning-gym has no such dataset. '
            f"{nearest(name, sorted(DATASETS))}"
        )
    if seed < 0:
        raise ConfigError(
            f"seed = {seed}: a procedural dataset needs a seed of 0 or more."
        )  # Random(-1) is Random(1)

    def make(block: int) -> Any:
        try:
            return reasoning_gym.create_dataset(
                name, size=BLOCK, seed=seed * SEED_STRIDE + block * BLOCK, **options
            )
        except (TypeError, ValueError, AssertionError) as error:
            fault = str(error) or "the dataset refuses these values"
            raise ConfigError(
                f'options of "{name}": {fault.removeprefix("__init__() ")}'
            ) from error

    first = make(0)  # a wrong option is reported before any row is read
    return OpenedRows(
        _blocks(first, make), name, f"{procedural_version()} seed {seed}", f"seed{seed}"
    )


def procedural_version() -> str:
    """`reasoning-gym 0.1.25`: another version may make other rows.

    Raises MissingDependencyError.
    """
    try:
        return f"reasoning-gym {importlib.metadata.version('reasoning-gym')}"
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingDependencyError("reasoning-gym", "data") from error


def _blocks(first: Any, make: Callable[[int], Any]) -> Iterator[Row]:
    for block in range(SEED_STRIDE // BLOCK):
        entries = first
        if block > 0:
            entries = make(block)
        templates = getattr(entries, "task_indices", None)
        for i in range(BLOCK):
            fields = dict(entries[i])
            if templates is not None:
                fields["template"] = templates[i]
            yield Row(block * BLOCK + i, fields)
