"""Why `datasets` cannot read a folder: what its error says behind the first line, and which file
has other columns than the first one.

    unequal_columns([Path("a.jsonl"), Path("b.jsonl")])
    # " b.jsonl has the column level, a.jsonl has not. …"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from reasondistill import foreign_json
from reasondistill.errors import DataError
from reasondistill.foreign_files import regular
from reasondistill.foreign_text import shortened, shown_line

_LONGEST_CAUSE = 300
# Of a file of text so many rows are looked at.
_ROWS = 20


def cause_of(error: BaseException) -> str:
    """What an error says, on one line: of errors that only say where they were caught the cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return shortened(shown_line(text), _LONGEST_CAUSE)


def unequal_columns(files: Sequence[Path]) -> str:
    """The first file whose columns are not those of the first one, and what to do; empty where
    none is found. Parquet and JSON lines are looked at.
    """
    first: tuple[Path, Mapping[str, str]] | None = None
    for path in files:
        columns = _columns_of(path)
        if columns is None:
            continue
        if first is None:
            first = path, columns
            continue
        difference = _difference(*first, path, columns)
        if difference is not None:
            return (
                f". {difference}. `datasets` wants the same columns in all files of a split: give "
                "their types in the folder's README.md (dataset_info), write the files anew with "
                'one schema, or name one of them with source = "file".'
            )
    return ""


def _difference(
    first: Path, expected: Mapping[str, str], path: Path, columns: Mapping[str, str]
) -> str | None:
    for name in {**columns, **expected}:
        here, there = columns.get(name), expected.get(name)
        column = f"the column {shown_line(name)}"
        if there is None:
            return f"{path.name} has {column}, {first.name} has not"
        if here is None:
            return f"{path.name} has not {column}, {first.name} has"
        if here != there:
            return f"{column} is {here} in {path.name}, and {there} in {first.name}"
    return None


def _columns_of(path: Path) -> Mapping[str, str] | None:
    """The columns of a file and their types; None where they cannot be seen."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            schema = pq.read_schema(path)
            return {field.name: str(field.type) for field in schema}
        if path.suffix not in (".jsonl", ".json"):
            return None
        columns: dict[str, str] = {}
        with open(path, "rb", opener=regular) as file:
            for line in islice(foreign_json.bounded_lines(file, path), _ROWS):
                for name, value in foreign_json.loads(line).items():
                    kind = "null" if value is None else type(value).__name__
                    if columns.get(name, "null") == "null":
                        columns[name] = kind
    except (DataError, OSError, ValueError, AttributeError):  # whoever reads it has said so
        return None
    return columns
