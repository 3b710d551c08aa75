"""Shards: JSONL files of records, appended durably by one writer each, read line by line, sorted
without holding them in memory.
"""

from __future__ import annotations

import json
import math
import os
from array import array
from collections.abc import Callable, Container, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

import pydantic
from pydantic.config import ExtraValues
from pydantic_core import from_json

from reasondistill import foreign_json
from reasondistill.errors import DataError, StageError
from reasondistill.foreign_files import regular
from reasondistill.records import Record
from reasondistill.runs import layout
from reasondistill.runs.store.appending import AppendedFile, repair_tail
from reasondistill.runs.store.files import disk_errors, replacing
from reasondistill.runs.store.lines import (
    AppendedLines,
    add_to_list,
    append_line,
    counted_lines,
    digest_of_line,
    list_anew,
    list_beside,
    list_lines,
)
from reasondistill.runs.store.verified import exists_verified, open_verified
from reasondistill.secrets import holds_secret

R = TypeVar("R", bound=Record)
_BLOCK = 1 << 16
# Bytes that are appended to another shard at once.
_APPENDED = 16 << 20


class Shard:
    """One append-only JSONL file with one writer.

    Opening it cuts off a torn last line. `append` writes whole lines, flushes and fsyncs, so a kill
    loses at most the records of the current call. Each line is listed beside the file, so that a
    later session knows what was written; without `goes_on`, for a file that no later session goes
    on with, nothing is listed.
    """

    def __init__(self, path: Path, *, goes_on: bool = True) -> None:
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if goes_on:
                self._lines = AppendedLines(path)
            else:
                self._lines = _UnlistedLines(path)

    def append(self, records: Iterable[Record]) -> None:
        """Write these records durably. A failed write is cut off again, so the shard stays
        readable.
        """
        self._lines.append([line_of(record) for record in records])

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def line_of(record: Record) -> bytes:
    """The line of a record, without secrets of the environment in what others wrote."""
    line = record.to_json()
    if holds_secret(line):
        line = record.without_secrets().to_json()
    return line.encode("utf-8") + b"\n"


class _UnlistedLines:
    """As AppendedLines, without a list."""

    def __init__(self, path: Path) -> None:
        repair_tail(path)
        self._file = AppendedFile(path)

    def append(self, lines: list[bytes]) -> None:
        self._file.append(b"".join(lines))

    def close(self) -> None:
        self._file.close()


# ---- reading -------------------------------------------------------------------------------------


def _lines(path: Path, *, refuses: bool = False) -> Iterator[tuple[int, bytes]]:
    """Numbered whole lines; a torn last line is skipped, and so are lines of an unfinished shard
    that are not those that were written, unless it `refuses` them.
    """
    if not exists_verified(path):
        raise StageError(f"{path}: missing. Run the stage that writes it first.")
    with open_verified(path) as file:
        yield from counted_lines(path, file, refuses=refuses)


def read_records(path: Path, kind: type[R], *, passes_foreign: bool = False) -> Iterator[R]:
    """Yield a shard's records in order.

    Raises DataError(`path:line`) for a line that is not such a record, and DataError for a file
    that is not what its stage wrote. A torn last line of an unfinished stage is skipped. With
    `passes_foreign`, fields that the record does not have are ignored: for viewing a folder that
    another version wrote.
    """
    extra: ExtraValues = "forbid"
    if passes_foreign:
        extra = "ignore"
    return (_record(line, kind, f"{path}:{number}", extra) for number, line in _lines(path))


def located_records(path: Path, kind: type[R], offset: int = 0) -> Iterator[tuple[int, R]]:
    """A shard's records, each with the byte offset at which its line begins, from one on."""
    if not exists_verified(path):
        raise StageError(f"{path}: missing. Run the stage that writes it first.")
    with open_verified(path) as file:
        file.seek(offset)
        for number, line in counted_lines(path, file):
            place = f"{path}:{number}"
            if offset:
                place = f"{path}: line {number} after byte {offset}"
            yield file.tell() - len(line), _record(line, kind, place)


def records_at(path: Path, kind: type[R], offset: int, count: int) -> Iterator[R]:
    """At most `count` records of a shard, from a byte offset of `offsets_of` on."""
    with open_verified(path) as file:
        file.seek(offset)
        for number, line in enumerate(islice(file, count), start=1):
            if line.endswith(b"\n"):
                yield _record(line, kind, f"{path}: line {number} after byte {offset}")


def offsets_of(path: Path, every: int) -> list[int]:
    """The byte offsets of a shard's lines 0, `every`, 2 × `every`, …"""
    offset, offsets = 0, list[int]()
    for number, line in _lines(path):
        if (number - 1) % every == 0:
            offsets.append(offset)
        offset += len(line)
    return offsets


def _record(line: bytes, kind: type[R], place: str, extra: ExtraValues = "forbid") -> R:
    try:
        return kind.model_validate_json(line, extra=extra)
    except pydantic.ValidationError:
        try:  # lone surrogates: valid JSON for the standard library only
            return kind.model_validate(foreign_json.loads(line), extra=extra)
        except ValueError as error:
            raise DataError(f"{place}: not a {kind.__name__}: {_first_fault(error)}") from error


def _first_fault(error: ValueError) -> str:
    """What is wrong, in one line."""
    if isinstance(error, pydantic.ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}".removeprefix(": ")
    return str(error)


def read_keys(path: Path, key: str = "id") -> Iterator[str]:
    """Yield one string field of every line without building records: for resuming and counting.

    Lines of our shards begin with their id, which is read without parsing JSON: a million lines in
    a gigabyte take seconds. Memory is one line.
    """
    return (name for name, _ in _keyed_lines(path, key))


def _keyed_lines(path: Path, key: str, *, refuses: bool = False) -> Iterator[tuple[str, bytes]]:
    """Every line with the string field that names it."""
    first = f'{{"{key}":"'.encode()
    for number, line in _lines(path, refuses=refuses):
        if line.startswith(first):
            text = line[len(first) : line.find(b'"', len(first))]
            if text.isascii() and b"\\" not in text:
                yield text.decode(), line
                continue
        try:
            name = from_json(line)[key]
        except (ValueError, KeyError, TypeError):
            try:
                name = foreign_json.loads(line)[key]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}:{number}: no field {key!r} in this line: {error}"
                ) from error
        if not isinstance(name, str):
            raise DataError(f"{path}:{number}: the field {key!r} of this line is no text.")
        yield name, line


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every line as plain JSON, its values unchecked: for counting over millions of lines.
    Memory is one line. Raises DataError for a line that is no object.
    """
    for number, row in _numbered(path, _lines(path)):
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: not a JSON object.")
        yield cast("dict[str, Any]", row)


def numbered_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and plain JSON of every line of a foreign file; blank lines are skipped."""
    return _numbered(path, _foreign_lines(path))


def _foreign_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered whole lines that are not blank."""
    if not exists_verified(path):
        raise StageError(f"{path}: missing. Run the stage that writes it first.")
    with open_verified(path) as file:
        for number, line in enumerate(foreign_json.bounded_lines(file, path), start=1):
            if line.endswith(b"\n") and not line.isspace():
                yield number, line


def _numbered(path: Path, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Any]]:
    for number, line in lines:
        try:
            yield number, from_json(line)
        except ValueError:  # lone surrogates: valid JSON for the standard library only
            try:
                yield number, foreign_json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not a JSON line: {error}") from error


def append_shard(source: Path, target: Path) -> int:
    """Append the lines of a shard to another one, durably; return how many bytes they are."""
    size = 0
    with disk_errors(target):
        own = AppendedLines(target)
        batch: list[bytes] = []
        waiting = 0
        for _, line in _lines(source):
            batch.append(line)
            waiting += len(line)
            if waiting >= _APPENDED:
                own.append(batch)
                size += waiting
                batch, waiting = [], 0
        own.append(batch)
        own.close()
    return size + waiting


def drop_lines(path: Path, unwanted: Container[str], key: str = "id") -> None:
    """Take the lines with these keys out of a shard, atomically; the others stay byte for byte."""
    with replacing(path) as target:
        for name, line in _keyed_lines(path, key):
            if name not in unwanted:
                target.write(line)
    _list_what_is_left(path)


def drop_rows(path: Path, is_unwanted: Callable[[dict[str, Any]], bool]) -> None:
    """Take the lines with an unwanted row out of a shard, atomically."""
    with replacing(path) as target:
        for row, (_, line) in zip(read_rows(path), _lines(path), strict=True):
            if not is_unwanted(row):
                target.write(line)
    _list_what_is_left(path)


def _list_what_is_left(path: Path) -> None:
    """What was taken out on purpose is not to be missed later."""
    if list_beside(path).exists():
        list_anew(path)


def count_lines(path: Path) -> int:
    """How many whole lines a shard has; 0 when it does not exist."""
    if not exists_verified(path):
        return 0
    count = 0
    with open_verified(path) as file:
        while block := file.read(1 << 20):
            count += block.count(b"\n")
    return count


def sort_shard(path: Path, order: Callable[[str], int], key: str = "id") -> int:
    """Put a shard's lines into canonical order and drop repeated keys (the first stays); return how
    many lines it has.

    `order` gives each key its own number. Workers finish in any order; after this the file is
    always the same. Memory is 40 bytes per line. Raises DataError for a line of an unfinished shard
    that is not one that was written.
    """
    import numpy as np

    repair_tail(path)
    numbers, lengths = array("q"), array("q")
    for name, line in _keyed_lines(path, key, refuses=True):
        numbers.append(order(name))
        lengths.append(len(line))
    ranks = np.asarray(numbers)
    if bool((np.diff(ranks) > 0).all()):
        return len(ranks)
    places = np.argsort(ranks, kind="stable")
    places = places[np.concatenate([[True], np.diff(ranks[places]) > 0])]
    sizes = np.asarray(lengths)
    starts = np.cumsum(sizes) - sizes
    with open(path, "rb", buffering=0, opener=regular) as source, replacing(path) as target:
        for block in np.array_split(places, math.ceil(len(places) / _BLOCK)):
            for start, length in zip(starts[block].tolist(), sizes[block].tolist(), strict=True):
                target.write(os.pread(source.fileno(), length, start))
    if len(places) < len(ranks):
        _list_what_is_left(path)
    return len(places)


def rewrite_shard(path: Path, lines: Iterable[bytes]) -> int:
    """Write a shard anew, atomically; return how many lines it has. Of one whose lines are listed
    the new ones are listed before they take the place of the old ones.
    """
    is_listed = list_beside(path).exists()
    digests: list[bytes] = []
    count = 0
    with replacing(path) as file:
        for line in lines:
            file.write(line)
            count += 1
            if is_listed:
                digests.append(digest_of_line(line))
        if is_listed:
            add_to_list(path, digests)
    if is_listed:
        list_anew(path)
    return count


def rewrite_listed(path: Path, lines: Iterable[bytes]) -> int:
    """Write a shard anew, atomically, and list its lines, whether any were listed before or not."""
    if not list_beside(path).exists():
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        list_lines(path, ())
    return rewrite_shard(path, lines)


def remove_with_list(path: Path) -> None:
    """Remove a shard, if there is one, and the list of its lines: no line is missed then."""
    with disk_errors(path):
        list_beside(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write a whole shard atomically; return how many records it holds."""
    return rewrite_shard(path, map(line_of, records))


# ---- metrics -------------------------------------------------------------------------------------


def append_metrics(folder: Path, **values: Any) -> None:
    """Append one line to the folder's metrics.jsonl: numbers over time, for plots."""
    line = json.dumps(values, ensure_ascii=False) + "\n"
    append_line(folder / layout.METRICS, line.encode("utf-8"))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The folder's metrics lines without torn ones; empty when there are none."""
    path = folder / layout.METRICS
    return list(read_rows(path)) if exists_verified(path) else []
