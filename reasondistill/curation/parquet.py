"""Rows of a Parquet file, so that a file of few bytes does not fill the memory.

    for fields in parquet_rows(Path("data/gsm8k.parquet")):
        print(fields["question"])

A value is written once and pointed at from any number of rows, and packs a thousandfold and more:
so what the rows of a batch may come to is reckoned before they are read, from what the file says of
its columns and from the head of each dictionary. A file that lies about its columns costs a page,
at most 2 GiB.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from reasondistill.bounds import (
    BATCH_BYTES,
    COLUMNS,
    DICTIONARY_BYTES,
    ROW_BYTES,
    UNPACKED_RATIO,
)
from reasondistill.curation.cells import picture_columns, require_texts, row_reader
from reasondistill.curation.figures import PICTURE_COLUMNS
from reasondistill.errors import DataError, MissingDependencyError
from reasondistill.foreign_files import regular

_MOST_ROWS = 1024
# So many values in the bytes of one are not written by hand: one value, again and again.
_REPEATED = 100


def parquet_rows(
    path: Path, fields: Sequence[str] = (), texts: Sequence[str] = ()
) -> Iterator[Mapping[str, Any]]:
    """The rows in order, with the columns of these (dotted) fields where the file has all of them,
    else with all columns; each value as its column means it (`cells`). Raises DataError for a file
    that cannot be read, or beyond the bounds, and for a column of `texts` that cannot be a text.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependencyError("pyarrow", "data") from error
    row = 0
    try:
        with (
            open(path, "rb", opener=regular) as raw,
            pq.ParquetFile(path, page_checksum_verification=True) as file,
        ):
            most = _require_few_rows(path, raw, file.metadata)
            schema = file.schema_arrow
            require_one_column(f"{path}:1", schema.names, fields)
            require_texts(f"{path}:1", schema, texts)
            read = row_reader(schema)
            columns = columns_of(schema.names, fields)
            if columns is not None:
                columns += pictures_beside(schema, file.metadata, columns)
            unpacked = 0
            for group in range(file.metadata.num_row_groups):
                size = batch_rows(path, raw, file.metadata, group, columns)
                batches = file.iter_batches(batch_size=size, row_groups=[group], columns=columns)
                for batch in batches:
                    unpacked += batch.num_rows * ROW_BYTES
                    unpacked += sum(map(unpacked_bytes, batch.columns))
                    if unpacked > most:
                        raise DataError(
                            f"{path}:{row + 1}: the rows up to here unpack to {unpacked:,} bytes, "
                            f"those of the file beyond {UNPACKED_RATIO}."
                        )
                    for values in batch.to_pylist():
                        row += 1
                        if read is not None:
                            values = read(values)
                        yield values
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise _unreadable(path, row + 1, error) from error


def columns_of(names: Sequence[str], fields: Sequence[str]) -> list[str] | None:
    """The columns that hold these fields; None for all, where nothing is known of a field."""
    columns: dict[str, None] = {}
    for field in fields:
        first = field.partition(".")[0]
        column = next((name for name in (field, first) if name in names), None)
        if column is None:
            return None
        columns[column] = None
    return list(columns) or None


def pictures_beside(schema: Any, metadata: Any, columns: Sequence[str]) -> list[str]:
    """What else has to be read to know which rows have a picture: columns of pictures without their
    bytes, where these stand apart, and those that are called so.
    """
    of_type = picture_columns(schema)
    leaves = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
    places: list[str] = []
    for name in dict.fromkeys([*of_type, *PICTURE_COLUMNS]):
        if schema.names.count(name) != 1 or name in columns:
            continue
        place = name
        if name in of_type:
            paths = [leaf for leaf in leaves if is_inside(leaf, [name]) and leaf.endswith(".path")]
            place = next(iter(paths), name)
        places.append(place)
    return places


def require_one_column(where: str, names: Sequence[str], fields: Sequence[str]) -> None:
    """Raise DataError where the column of one of these (dotted) fields is there several times."""
    for field in fields:
        name = field
        if field not in names:
            name = field.partition(".")[0]
        count = names.count(name)
        if count > 1:
            raise DataError(
                f'{where}: {count} columns are called "{name}", and nobody says which one is '
                "meant. Rename or remove the others."
            )


def require_bounded(path: Path) -> None:
    """Raise DataError for a Parquet file beyond the bounds, before a library reads it."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependencyError("pyarrow", "data") from error
    try:
        with open(path, "rb", opener=regular) as raw, pq.ParquetFile(path) as file:
            _require_few_rows(path, raw, file.metadata)
            for group in range(file.metadata.num_row_groups):
                batch_rows(path, raw, file.metadata, group)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _unreadable(path, 1, error) from error


def _unreadable(path: Path, row: int, error: Exception) -> DataError:
    lines = str(error).splitlines() or [type(error).__name__]
    return DataError(f"{path}:{row}: not a readable Parquet file: {lines[0]}")


def _require_few_rows(path: Path, raw: BinaryIO, metadata: Any) -> int:
    """The most bytes that the rows of a file may unpack to. Raises DataError for more rows than go
    into so many, and for too many columns.
    """
    size = os.fstat(raw.fileno()).st_size
    most = max(BATCH_BYTES.most, UNPACKED_RATIO.most * size)
    if metadata.num_columns > COLUMNS.most:
        raise DataError(f"{path}:1: {metadata.num_columns:,} columns, beyond {COLUMNS}.")
    if metadata.num_rows * ROW_BYTES > most:
        raise DataError(
            f"{path}:1: {metadata.num_rows:,} rows in a file of {size:,} bytes; each counts "
            f"{ROW_BYTES} bytes at least, together beyond {UNPACKED_RATIO}."
        )
    return most


def unpacked_bytes(column: Any) -> int:
    """What the values of a column take where each is written out, however they share them."""
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        return unpacked_bytes(column.dictionary_decode())
    if types.is_nested(kind):
        parts = column.flatten()
        if not isinstance(parts, list):
            parts = [parts]
        return sum(map(unpacked_bytes, parts))
    return column.nbytes


def batch_rows(
    path: Path,
    raw: BinaryIO,
    metadata: Any,
    group_number: int,
    columns: Sequence[str] | None = None,
) -> int:
    """How many rows of a row group are read at a time, of all columns or these. Raises DataError
    for one beyond the bounds.

    A number is as long as its kind; any other value at most as long as the dictionary of its
    column, and what stands in no dictionary comes page by page.
    """
    group = metadata.row_group(group_number)
    size = os.fstat(raw.fileno()).st_size
    most = max(BATCH_BYTES.most, UNPACKED_RATIO.most * size)
    bytes_of_row = 0.0
    for number in range(group.num_columns):
        column = group.column(number)
        if columns is not None and not is_inside(column.path_in_schema, columns):
            continue
        where = f"{path}:1: column {column.path_in_schema}"
        packed, unpacked = column.total_compressed_size, column.total_uncompressed_size
        longest = dictionary_bytes(raw, column)
        is_large = unpacked > BATCH_BYTES.most or longest > DICTIONARY_BYTES.most
        if is_large and unpacked > UNPACKED_RATIO.most * max(1, packed):
            raise DataError(
                f"{where}: {packed:,} bytes that unpack to {unpacked:,}, beyond {UNPACKED_RATIO}."
            )
        values_of_row = max(1.0, column.num_values / max(1, group.num_rows))
        width = fixed_width(metadata, number)
        if width is None:
            bytes_of_column = values_of_row * max(longest, 8)
        else:
            bytes_of_column = values_of_row * max(width, _NUMBER_BYTES)
            if column.num_values * width > most:
                raise DataError(
                    f"{where}: {column.num_values:,} values of {width} bytes in a file of "
                    f"{size:,}, beyond {UNPACKED_RATIO}."
                )
        is_repeated = column.num_values > _REPEATED * max(1, unpacked - longest)
        if bytes_of_column > BATCH_BYTES.most and is_repeated:
            raise DataError(
                f"{where}: {column.num_values:,} values in {packed:,} bytes, for "
                f"{group.num_rows:,} rows, beyond {BATCH_BYTES}."
            )
        bytes_of_row += bytes_of_column
    return max(1, min(_MOST_ROWS, int(BATCH_BYTES.most / max(1.0, bytes_of_row))))


def is_inside(place: str, columns: Iterable[str]) -> bool:
    """Whether a place of a file's schema (`ids.list.element`) is in one of these columns."""
    return any(f"{place}.".startswith(f"{column}.") for column in columns)


# The bytes of numbers in a file.
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
# What a number takes as an object of Python, with its place in a list.
_NUMBER_BYTES = 40


def fixed_width(metadata: Any, number: int) -> int | None:
    """The bytes of each value of a column; None where each has its own length."""
    column = metadata.schema.column(number)
    if column.physical_type == "FIXED_LEN_BYTE_ARRAY":
        return column.length
    return _WIDTHS.get(column.physical_type)


def dictionary_bytes(raw: BinaryIO, column: Any) -> int:
    """The size, unpacked, of a column's dictionary in a row group, 0 where it has none.

    It stands in the page's header (parquet.thrift, PageHeader; Thrift's compact protocol): field 1
    is the kind of page, field 2 the size, both zigzag varints behind a byte 0x15.
    """
    if not column.has_dictionary_page:
        return 0
    raw.seek(column.dictionary_page_offset)
    header = raw.read(16)
    place = 0
    value = 0
    for _ in range(2):
        if header[place : place + 1] != b"\x15":
            raise ValueError("the head of a dictionary cannot be read")
        place += 1
        value = shift = 0
        while header[place] & 0x80:
            value |= (header[place] & 0x7F) << shift
            shift += 7
            place += 1
        value |= header[place] << shift
        place += 1
    return value >> 1
