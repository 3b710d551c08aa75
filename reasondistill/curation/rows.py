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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.bounds import COLUMNS, JSON_FILE_BYTES, LINE_BYTES
from reasondistill.curation.cells import exact_number, require_texts, row_reader
from reasondistill.curation.dataset_files import files_of, require_own_files, require_own_metadata
from reasondistill.curation.parquet import parquet_rows, require_one_column
from reasondistill.curation.unequal import cause_of, unequal_columns
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


# ---- files ---------------------------------------------------------------------------------------


def find_path(name: str, base: Path | None) -> Path | None:
    """The existing file or folder `name`: relative to the working directory, else to `base`."""
    places = [Path(name)] if base is None else [Path(name), base / name]
    return next((place for place in places if place.exists()), None)


def open_file(
    path: Path,
    *,
    revision: str,
    split: str,
    fields: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> OpenedRows:
    """The rows of a .jsonl, .json, .csv or .parquet file; `fields` are those that are wanted, where
    that is known, `texts` those that become texts. Raises ConfigError, and DataError(`path:line`)
    while reading, also for a wanted field that is there twice.
    """
    readers: dict[str, Callable[[Path], Iterator[Mapping[str, Any]]]] = {
        ".jsonl": partial(_jsonl, fields=fields),
        ".json": partial(_json, fields=fields),
        ".csv": partial(_csv, fields=fields),
        ".parquet": partial(parquet_rows, fields=fields, texts=texts),
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


def _jsonl(path: Path, fields: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    with open(path, "rb", opener=regular) as file:
        for number, line in enumerate(foreign_json.bounded_lines(file, path), start=1):
            if line.strip():
                yield _object(_parsed(line, path, number), f"{path}:{number}", fields)


def _json(path: Path, fields: Sequence[str]) -> Iterator[Mapping[str, Any]]:
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
        yield _object(row, f"{path}: item {number}", fields)


def _parsed(text: bytes, path: Path, first_line: int) -> Any:
    try:
        return foreign_json.loads(
            text.decode("utf-8-sig"), number=exact_number, pairs=_noting_doubles
        )
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


def _object(value: Any, where: str, fields: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(value).__name__}.")
    row = cast("Mapping[str, Any]", value)
    for field in fields:
        _require_once(row, field, where)
    return row


class _Doubled(dict[str, Any]):
    """An object of JSON in which a key is there several times; the last one counts, as for
    Python.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.values_of = Counter(key for key, _ in pairs)


def _noting_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        return _Doubled(pairs)
    return row


def _require_once(row: Mapping[str, Any], field: str, where: str) -> None:
    """Raise DataError where a key on the way to a dotted field is there several times."""
    parts = [field] if field in row else field.split(".")
    place: Any = row
    for part in parts:
        if isinstance(place, _Doubled) and place.values_of[part] > 1:
            raise DataError(
                f'{where}: the key "{part}" is there more than once, and nobody says which one is '
                "meant. Rename or remove the others."
            )
        if not isinstance(place, dict):
            return
        place = cast("dict[str, Any]", place).get(part)


def _csv(path: Path, fields: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(LINE_BYTES.most)  # the default of 128 KiB cuts long solutions
    with open(path, encoding="utf-8-sig", newline="", opener=regular) as file:
        reader = csv.DictReader(foreign_json.bounded_lines(file, path), strict=True)
        try:
            names = reader.fieldnames or ()
            if len(names) > COLUMNS.most:
                raise DataError(f"{path}:1: more than {COLUMNS}.")
            require_one_column(f"{path}:1", names, fields)
            for row in reader:
                if None in row:
                    raise DataError(
                        f"{path}:{reader.line_num}: more cells than the "
                        f"{len(names)} columns of the header."
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
    texts: Sequence[str] = (),
) -> OpenedRows:
    """The rows of a hub dataset, or of a dataset folder when `folder` is given (then `revision` is
    its content's hash). `texts` are the fields that become texts.

    `streaming` reads no more than is needed. Raises ConfigError, and DataError while reading, and
    for a column whose type cannot be a text.
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
    if folder is None:
        extra["revision"] = revision
    opening = partial(datasets.load_dataset_builder, str(folder or dataset), config, **extra)
    try:
        builder = opening()
        require_own_files(builder, folder, split)
        builder = _with_csv_as_text(builder, opening, split, texts)
        if streaming or folder:
            parts = _streamed(builder, split)
        else:
            parts = [_downloaded(builder, split)]
        rows = chain.from_iterable([_as_meant(part, dataset, texts) for part in parts])
    except ReasonDistillError:
        raise
    except Exception as error:  # what others wrote makes libraries raise anything
        raise ConfigError(
            f'dataset = "{dataset}" (config {config}, split {split}, revision {revision}): '
            f"{cause_of(error)}"
        ) from error
    if folder is not None:
        files = files_of(builder, split)
        return OpenedRows(
            _hub_rows(rows, dataset, files), folder.name, revision or "unknown", split
        )
    commit = builder.hash or ""
    if not re.fullmatch("[0-9a-f]{40}", commit):
        commit = revision or "unknown"
    return OpenedRows(_hub_rows(rows, dataset, []), dataset, commit, split)


def _with_csv_as_text(
    builder: Any, opening: Callable[..., Any], split: str, texts: Sequence[str]
) -> Any:
    """The builder, or one that reads a CSV as the texts that stand in it, where the card gives no
    types: pandas would make numbers and missing values of them, and rename equal columns.
    """
    from datasets import Features, Value
    from datasets.packaged_modules.csv.csv import Csv
    from datasets.utils.file_utils import xpandas_read_csv

    if not isinstance(builder, Csv) or builder.info.features is not None:
        return builder
    settings: Any = builder.config
    files = settings.data_files or {}
    first = files.get(split.partition("+")[0].partition("[")[0].strip())
    options = settings.pd_read_csv_kwargs
    if not first or options.get("header") != "infer" or options.get("names"):
        return builder
    # With the first row: where it has more cells than the head, pandas would move all of them.
    of_head = {"header": None, "nrows": 2, "chunksize": None, "dtype": str, "na_filter": False}
    head = xpandas_read_csv(first[0], **options | of_head)
    # A column without a name gets this one of pandas.
    names = [name or f"Unnamed: {place}" for place, name in enumerate(head.iloc[0])]
    require_one_column(f"{Path(first[0]).name}:1", names, texts)
    as_text = Features({name: Value("string") for name in names})
    return opening(features=as_text, keep_default_na=False)


def _streamed(builder: Any, split: str) -> list[Any]:
    """Streams know single splits only; `train+test` is both in turn."""
    parts = [builder.as_streaming_dataset(part.strip()) for part in split.split("+")]
    return [_undecoded(part) for part in parts]


def _downloaded(builder: Any, split: str) -> Any:
    builder.download_and_prepare()
    return _undecoded(builder.as_dataset(split).to_iterable_dataset())


def _undecoded(rows: Any) -> Any:
    """Without the images and sounds of a row: they would be fetched from where the row says."""
    if rows.features is None:  # then there is nothing that would be decoded
        return rows
    return rows.decode(False)


def _as_meant(rows: Any, dataset: str, texts: Sequence[str]) -> Iterable[Any]:
    """The rows with the values that their columns mean. Raises DataError for a column whose type
    cannot be a text.
    """
    if rows.features is None:
        return rows
    schema = rows.features.arrow_schema
    require_texts(dataset, schema, texts)
    read = row_reader(schema)
    if read is None:
        return rows
    return map(read, rows)


def _hub_rows(rows: Iterable[Any], dataset: str, files: Sequence[Path]) -> Iterator[Row]:
    """The rows, which `datasets` reads from these files where they lie here."""
    index = -1
    try:
        for index, fields in enumerate(rows):
            yield Row(index, fields)
    except Exception as error:  # of the library, which reads what others wrote
        differ = unequal_columns(files)
        raise DataError(
            f"{dataset}:{index + 2}: cannot be read: {cause_of(error)}{differ}"
        ) from error


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
