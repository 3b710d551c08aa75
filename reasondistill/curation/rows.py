"""Rows of a hub dataset, a file or a procedural set, one at a time, with any fields.

    path = Path("data/gsm8k.jsonl")
    opened = open_file(path, revision=content_hash(path), split="train")
    for row in opened.rows:
        print(row.index, value_at(row.fields, "metadata.answer_cot"))

Covered: JSONL, a JSON list, CSV, also packed, and Parquet; any dataset that `datasets` can load;
any reasoning-gym set. Not covered: datasets that need their own loading script.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

from reasondistill.curation.cells import may_be_rounded, require_texts, row_reader
from reasondistill.curation.dataset_files import (
    files_of,
    json_files,
    require_own_files,
    require_own_metadata,
)
from reasondistill.curation.packed import OPENERS, without_packing
from reasondistill.curation.parquet import parquet_rows, require_one_column
from reasondistill.curation.splits import parts_of
from reasondistill.curation.text_files import (
    JsonRows,
    csv_rows,
    json_rows,
    jsonl_rows,
    require_commas,
)
from reasondistill.curation.unequal import cause_of, unequal_columns
from reasondistill.errors import (
    ConfigError,
    DataError,
    MissingDependencyError,
    ReasonDistillError,
)
from reasondistill.foreign_files import regular
from reasondistill.nearest import nearest
from reasondistill.sections import is_place


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
    """The rows of a .jsonl, .ndjson, .json or .csv file, also packed (.gz, …), or of a .parquet
    file; `fields` are those that are wanted, where that is known, `texts` those that become texts.
    Raises ConfigError, and DataError(`path:line`) while reading, also for a wanted field that is
    there twice.
    """
    readers: dict[str, Callable[[Path], Iterator[Mapping[str, Any]]]] = {
        ".jsonl": partial(jsonl_rows, fields=fields),
        ".ndjson": partial(jsonl_rows, fields=fields),
        ".json": partial(json_rows, fields=fields),
        ".csv": partial(csv_rows, fields=fields),
        ".parquet": partial(parquet_rows, fields=fields, texts=texts),
    }
    if path.is_dir():
        raise ConfigError(
            f'dataset = "{path}": is a folder. Name a file, or use source = "hub" to load a '
            "dataset folder."
        )
    if "[" in split:
        raise ConfigError(
            f'split = "{split}": of a file the split is only a word in the ids of its problems, '
            "and takes no part of its rows. Use limit."
        )
    kind = without_packing(path).suffix.lower()
    is_packed = without_packing(path) != path
    if kind not in readers or (is_packed and kind == ".parquet"):
        packed = "".join(path.suffixes[-2:]) if is_packed else path.suffix
        raise ConfigError(
            f'dataset = "{path}": cannot read "{packed}" files. Known: {", ".join(readers)}; all '
            f"but the last also packed ({', '.join(OPENERS)})."
        )
    rows = (Row(index, fields) for index, fields in enumerate(readers[kind](path)))
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
    theirs offline. JSON that lies here is read by ourselves, as it is written.
    """
    try:
        import datasets
        from datasets.packaged_modules.json.json import Json
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
        if folder is not None:
            of_json = json_files(builder)
            if of_json is not None:
                return _opened_json(of_json, folder, split, revision, texts)
        builder = _with_csv_as_text(builder, opening, split, texts)
        if folder or (streaming and "[" not in split):
            parts = _streamed(builder, split)
        else:
            parts = [_downloaded(builder, split)]
        rows = chain.from_iterable([_as_meant(part, dataset, texts) for part in parts])
        if isinstance(builder, Json):
            rows = _whole_numbers_kept(rows, dataset, texts)
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


def _opened_json(
    files: Mapping[str, Sequence[Path]],
    folder: Path,
    split: str,
    revision: str | None,
    texts: Sequence[str],
) -> OpenedRows:
    """The rows of a folder of JSON, each value as it is written: of a column with a fraction, or an
    integer beyond 64 bits, the library would make doubles, and of a date a point in time.
    """

    def open_split(name: str) -> JsonRows:
        if name not in files:
            raise ConfigError(
                f'dataset = "{folder}": has no split {name}. {nearest(name, sorted(files))}'
            )
        return JsonRows(files[name], texts)

    parts = chain.from_iterable(parts_of(split, open_split))
    rows = (Row(index, fields) for index, fields in enumerate(parts))
    return OpenedRows(rows, folder.name, revision or "unknown", split)


def _whole_numbers_kept(
    rows: Iterable[Any], dataset: str, texts: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """The rows that a library has read of JSON. Raises DataError for a double of these fields that
    may have been another integer.
    """
    for number, fields in enumerate(rows, start=1):
        for name in texts:
            value = get_value(fields, name)
            listed = cast("list[Any]", value) if isinstance(value, list) else [value]
            if any(map(may_be_rounded, listed)):
                raise DataError(
                    f"{dataset}:{number}: {name}: {value} is what `datasets` makes of a long "
                    "integer in JSON, and the last digits may be others. Write it as a text, or "
                    'read the file itself (source = "file").'
                )
        yield fields


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
    head_line = f"{Path(first[0]).name}:1"
    of_head = {"header": None, "nrows": 1, "chunksize": None, "dtype": str, "na_filter": False}
    if options.get("sep") in (None, ","):
        header = xpandas_read_csv(first[0], **options | of_head)
        require_commas(head_line, ",".join(header.iloc[0]), texts)
    # With the first row: where it has more cells than the head, pandas would move all of them.
    head = xpandas_read_csv(first[0], **options | of_head | {"nrows": 2})
    # A column without a name gets this one of pandas.
    names = [name or f"Unnamed: {place}" for place, name in enumerate(head.iloc[0])]
    require_one_column(head_line, names, texts)
    as_text = Features({name: Value("string") for name in names})
    return opening(features=as_text, keep_default_na=False)


def _streamed(builder: Any, split: str) -> list[Any]:
    """Streams know whole splits only; `train[:2]+test` is the head of one, then the other."""
    return parts_of(split, lambda name: _undecoded(builder.as_streaming_dataset(name)))


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
    require_texts(f"{dataset}:1", schema, texts)
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
    except ReasonDistillError:
        raise
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
