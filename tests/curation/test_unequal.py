"""A folder whose files have not the same columns: which column, in which file, and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasondistill.config import ProblemSource
from reasondistill.curation.unequal import cause_of, unequal_columns
from reasondistill.errors import DataError
from reasondistill.records import Problem
from reasondistill.stages.problems import read_problems


def folder_of(folder: Path, suffix: str, *files: Sequence[Mapping[str, Any]]) -> Path:
    folder.mkdir()
    for number, rows in enumerate(files):
        path = folder / f"train-0000{number}-of-00002.{suffix}"
        if suffix == "parquet":
            pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def rows_of(first: int, **others: Any) -> list[dict[str, Any]]:
    return [{"question": f"q{i}", "answer": str(i), **others} for i in range(first, first + 3)]


def read(folder: Path, **keys: Any) -> list[str]:
    source = ProblemSource(source="hub", dataset=str(folder), **keys)
    return [entry.id for entry in read_problems(source) if isinstance(entry, Problem)]


def test_a_column_that_is_null_in_the_first_file_is_named_with_both_files(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", "parquet", rows_of(0, level=None), rows_of(3, level="x"))
    with pytest.raises(DataError) as caught:
        read(folder)
    message = str(caught.value)
    first, second = "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"
    assert f"the column level is string in {second}, and null in {first}" in message
    assert "README.md (dataset_info)" in message and 'source = "file"' in message


def test_a_column_that_one_file_has_alone_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", "parquet", rows_of(0), rows_of(3, level=3))
    with pytest.raises(DataError, match=r"train-00001\S+ has the column level, train-00000\S+ has"):
        read(folder)
    assert len(read(folder, limit=3)) == 3  # no more is read than is wanted
    assert len(read(folder_of(tmp_path / "json", "jsonl", rows_of(0), rows_of(3, level=3)))) == 6


def test_the_cause_is_what_stands_behind_the_error_on_one_line() -> None:
    try:
        try:
            raise TypeError("Couldn't cast\na: string\nto\nb: null")
        except TypeError as error:
            raise RuntimeError("An error occurred while generating the dataset") from error
    except RuntimeError as error:
        assert cause_of(error) == "Couldn't cast a: string to b: null"
    assert cause_of(ValueError()) == "ValueError"
    assert len(cause_of(ValueError("x" * 5_000))) < 400


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[1, 2]\n", b"{", b""])
def test_a_file_that_cannot_be_looked_at_tells_nothing(tmp_path: Path, content: bytes) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.parquet", tmp_path / "c.jsonl", tmp_path / "d"]
    for path in files[:3]:
        path.write_bytes(content)
    assert unequal_columns(files) == ""
