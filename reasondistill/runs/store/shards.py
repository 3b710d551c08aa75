"""Shards: JSONL files of records, appended durably by one writer each, read line by line, sorted
without holding them in memory.
"""

from __future__ import annotations

import json
import math
import os
from array import array
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydantic
from pydantic.config import ExtraValues
from pydantic_core import from_json

from reasondistill.errors import DataError, StageError
from reasondistill.records import Record
from reasondistill.runs import layout
from reasondistill.runs.store.files import disk_errors, replacing
from reasondistill.runs.store.verified import exists_verified, open_verified

R = TypeVar("R", bound=Record)
_BLOCK = 1 << 16


class Shard:
    """One append-only JSONL file with one writer.

    Opening it cuts off a torn last line. `append` writes whole lines, flushes and fsyncs, so a kill
    loses at most the records of the current call.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            repair_tail(path)
            self._file = AppendedFile(path)

    def append(self, records: Iterable[Record]) -> None:
        """Write these records durably. A failed write is cut off again, so the shard stays
        readable.
        """
        lines = [record.to_json().encode("utf-8") + b"\n" for record in records]
        self._file.append(b"".join(lines))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AppendedFile:
    """A file that one writer holds open and appends to.

    What `append` has written is on the disk when it returns. A failed write is cut off again, so
    that the content before it stays readable; if even this fails, the next opening cuts.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Unbuffered: after a failed write a buffer would keep the rest and put it, torn, into
        # the file on close.
        self._file: FileIO = open(path, "ab", buffering=0)  # noqa: SIM115

    @property
    def size(self) -> int:
        """The size on disk, in bytes."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, content: bytes) -> None:
        """Write all of it, or nothing. Raises StageError for an error of the disk."""
        before = self.size
        rest = memoryview(content)
        with disk_errors(self._path):
            try:
                while rest:
                    written = self._file.write(rest)
                    rest = rest[written:]
                os.fsync(self._file.fileno())
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._file.fileno(), before)
                raise

    def close(self) -> None:
        self._file.close()


def repair_tail(path: Path) -> int:
    """Cut off a last line without newline (of a killed writer); return how many bytes were cut."""
    if not path.exists() or (size := path.stat().st_size) == 0:
        return 0
    with open(path, "r+b") as file:
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            end = start
        else:
            keep = 0
        if keep < size:
            file.truncate(keep)
    return size - keep


# ---- reading -------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered whole lines; a torn last line is skipped."""
    if not exists_verified(path):
        raise StageError(f"{path}: missing. Run the stage that writes it first.")
    with open_verified(path) as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield number, line


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
            return kind.model_validate(json.loads(line), extra=extra)
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
    first = f'{{"{key}":"'.encode()
    for number, line in _lines(path):
        if line.startswith(first):
            text = line[len(first) : line.find(b'"', len(first))]
            if text.isascii() and b"\\" not in text:
                yield text.decode()
                continue
        try:
            yield from_json(line)[key]
        except (ValueError, KeyError, TypeError):
            try:
                yield json.loads(line)[key]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}:{number}: no field {key!r} in this line: {error}"
                ) from error


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every line as plain JSON, unchecked: for counting over millions of lines. Memory is one
    line.
    """
    return (row for _, row in _numbered(path, _lines(path)))


def numbered_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and plain JSON of every line of a foreign file; blank lines are skipped."""
    return _numbered(path, ((number, line) for number, line in _lines(path) if not line.isspace()))


def _numbered(path: Path, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Any]]:
    for number, line in lines:
        try:
            yield number, from_json(line)
        except ValueError:  # lone surrogates: valid JSON for the standard library only
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not a JSON line: {error}") from error


def drop_lines(path: Path, unwanted: Container[str], key: str = "id") -> None:
    """Take the lines with these keys out of a shard, atomically; the others stay byte for byte."""
    with replacing(path) as target:
        for name, (_, line) in zip(read_keys(path, key), _lines(path), strict=True):
            if name not in unwanted:
                target.write(line)


def drop_rows(path: Path, is_unwanted: Callable[[dict[str, Any]], bool]) -> None:
    """Take the lines with an unwanted row out of a shard, atomically."""
    with replacing(path) as target:
        for row, (_, line) in zip(read_rows(path), _lines(path), strict=True):
            if not is_unwanted(row):
                target.write(line)


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
    always the same. Memory is 40 bytes per line.
    """
    repair_tail(path)
    numbers, lengths = array("q"), array("q")
    for name, (_, line) in zip(read_keys(path, key), _lines(path), strict=True):
        numbers.append(order(name))
        lengths.append(len(line))
    ranks = np.asarray(numbers)
    if bool((np.diff(ranks) > 0).all()):
        return len(ranks)
    places = np.argsort(ranks, kind="stable")
    places = places[np.concatenate([[True], np.diff(ranks[places]) > 0])]
    sizes = np.asarray(lengths)
    starts = np.cumsum(sizes) - sizes
    with open(path, "rb", buffering=0) as source, replacing(path) as target:
        for block in np.array_split(places, math.ceil(len(places) / _BLOCK)):
            for start, length in zip(starts[block].tolist(), sizes[block].tolist(), strict=True):
                target.write(os.pread(source.fileno(), length, start))
    return len(places)


# ---- metrics -------------------------------------------------------------------------------------


def append_metrics(folder: Path, **values: Any) -> None:
    """Append one line to the folder's metrics.jsonl: numbers over time, for plots."""
    path = folder / layout.METRICS
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        repair_tail(path)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values, ensure_ascii=False) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The folder's metrics lines without torn ones; empty when there are none."""
    path = folder / layout.METRICS
    return list(read_rows(path)) if exists_verified(path) else []
