"""Rows of files of text that somebody else wrote: JSON lines, a list of JSON objects, CSV; also
packed.

    for fields in jsonl_rows(Path("d.jsonl.gz"), ["question", "answer"]):
        print(fields["question"])

Raises DataError(`path:line`) for what is not what its name says, and for a field that is wanted and
there twice.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.bounds import COLUMNS, JSON_FILE_BYTES, LINE_BYTES
from reasondistill.curation.cells import exact_number
from reasondistill.curation.packed import unpacked, without_packing
from reasondistill.curation.parquet import require_one_column
from reasondistill.errors import DataError
from reasondistill.foreign_text import shortened, shown_line

# Python reads no integer of more digits.
_LONG_INTEGER = re.compile(r"[0-9]{4301}")
# What may stand before the first sign of a JSON file, a mark of UTF-8 among it.
_BLANK = b"\xef\xbb\xbf \t\r\n"


# ---- JSON ----------------------------------------------------------------------------------------


def jsonl_rows(path: Path, fields: Sequence[str] = ()) -> Iterator[Mapping[str, Any]]:
    """An object a line; empty lines are passed over."""
    with unpacked(path) as file:
        for number, line in enumerate(foreign_json.bounded_lines(file, path), start=1):
            if line.strip():
                yield _object(_parsed(line, path, number), f"{path}:{number}", fields)


def json_rows(path: Path, fields: Sequence[str] = ()) -> Iterator[Mapping[str, Any]]:
    """A list of objects, or an object a line."""
    if holds_lines(path):
        yield from jsonl_rows(path, fields)
        return
    with unpacked(path) as file:
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


def holds_lines(path: Path) -> bool:
    """Whether a .json file begins with two objects, a line each."""
    with unpacked(path) as file:
        # A list may be one line, and as long as the file.
        if not file.peek(1).lstrip(_BLANK).startswith(b"{"):
            return False
        lines = (line for line in foreign_json.bounded_lines(file, path) if line.strip())
        head = list(islice(lines, 2))
    return len(head) == 2 and all(map(_is_object, head))


def holds_objects(path: Path) -> bool:
    """Whether a file of JSON is one of lines, or in a .json a list that begins with an object."""
    with unpacked(path) as file:
        head = file.peek(1).lstrip(_BLANK)
    is_list = head.startswith(b"[")
    if without_packing(path).suffix.lower() != ".json":
        return not is_list
    return holds_lines(path) or (is_list and head[1:].lstrip(_BLANK).startswith(b"{"))


@dataclass(frozen=True)
class JsonRows:
    """The rows of several files of JSON, one after the other, or a part of them."""

    files: Sequence[Path]
    fields: Sequence[str] = ()
    start: int = 0
    end: int | None = None

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        rows = chain.from_iterable(map(self._rows_of, self.files))
        return islice(rows, self.start, self.end)

    def _rows_of(self, path: Path) -> Iterator[Mapping[str, Any]]:
        if without_packing(path).suffix.lower() == ".json":
            return json_rows(path, self.fields)
        return jsonl_rows(path, self.fields)

    def skip(self, rows: int) -> JsonRows:
        """All but the first rows."""
        return replace(self, start=self.start + rows)

    def take(self, rows: int) -> JsonRows:
        """The first rows alone."""
        return replace(self, end=self.start + rows)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(foreign_json.loads(line.decode("utf-8-sig")), dict)
    except ValueError:
        return False


def _parsed(text: bytes, path: Path, first_line: int) -> Any:
    try:
        words = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = first_line + text[: error.start].count(b"\n")
        raise DataError(f"{path}:{line}: not UTF-8 text ({error.reason}).") from error
    try:
        return foreign_json.loads(words, number=exact_number, pairs=_noting_doubles)
    except json.JSONDecodeError as error:
        # The error of a cut-off line is at its end, and its newline is not another line.
        place = min(error.pos, len(words.rstrip()))
        line = first_line + words.count("\n", 0, place)
        raise DataError(
            f"{path}:{line}: broken JSON: {error.msg} (column {error.colno})."
        ) from error
    except ValueError as error:
        line = first_line
        long = _LONG_INTEGER.search(words)
        if long is not None:
            line += words.count("\n", 0, long.start())
        raise DataError(f"{path}:{line}: {error}.") from error


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


# ---- CSV -----------------------------------------------------------------------------------------


def csv_rows(path: Path, fields: Sequence[str] = ()) -> Iterator[Mapping[str, Any]]:
    """The rows below the header, cells as texts."""
    csv.field_size_limit(LINE_BYTES.most)  # the default of 128 KiB cuts long solutions
    with unpacked(path) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
        lines = foreign_json.bounded_lines(file, path)
        reader = csv.DictReader(lines, strict=True)
        try:
            header = next(lines, "")
            require_commas(f"{path}:1", header, fields)
            reader = csv.DictReader(chain([header], lines), strict=True)
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


_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_LONGEST_HEADER = 80


def require_commas(where: str, header: str, fields: Sequence[str]) -> None:
    """Raise DataError for the header of a CSV that has a wanted field where something else than a
    comma separates them.
    """
    try:
        names = next(csv.reader([header], strict=True), [])
    except csv.Error:  # "a";"b"
        names = []
    missing = [field for field in fields if field not in names]
    for delimiter, word in _OTHER_DELIMITERS.items():
        others = [name.strip().strip('"') for name in header.split(delimiter)]
        if len(others) > 1 and any(field in others for field in missing):
            shown = shortened(shown_line(header.strip()), _LONGEST_HEADER)
            raise DataError(
                f"{where}: the columns seem to be separated by {word}: {shown}. A .csv file has "
                "commas: write it anew with them, or as .jsonl."
            )
