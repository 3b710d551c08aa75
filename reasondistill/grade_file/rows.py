"""The rows of a file of answers: `id`, `prediction`, `gold` and, where it is known, `finish`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from reasondistill.errors import DataError, StageError
from reasondistill.foreign_files import regular
from reasondistill.foreign_json import bounded_lines
from reasondistill.grading import GradeItem
from reasondistill.records import Finish
from reasondistill.runs.store import numbered_rows


def read_answers(source: Path) -> Iterator[tuple[Any, GradeItem]]:
    """Each row's id and what the grader needs of it. Raises DataError, naming the line."""
    for number, row in numbered_rows(source):
        if not isinstance(row, dict):
            raise DataError(f"{source}:{number}: not a JSON object.")
        missing = [key for key in ("id", "prediction", "gold") if key not in row]
        if missing:
            raise DataError(
                f"{source}:{number}: no field {missing[0]!r}; this row has "
                f"{', '.join(map(repr, row)) or 'none'}."
            )
        if isinstance(row["id"], bool | list | dict):
            raise DataError(
                f"{source}:{number}: id = {json.dumps(row['id'])}; a text or a number is wanted."
            )
        finish = row.get("finish", "stop")
        if finish not in get_args(Finish):
            raise DataError(
                f"{source}:{number}: finish = {finish!r}; one of "
                f"{', '.join(get_args(Finish))} is wanted."
            )
        yield (
            row["id"],
            GradeItem(str(number), _text(row["prediction"]), _text(row["gold"]), finish),
        )


def _text(value: Any) -> str:
    """A string as it is, null as nothing, a number or a list as JSON writes it."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False)


def count_answers(source: Path) -> int:
    """How many rows there are. Raises StageError (no such file) or DataError (its last line is not
    whole).
    """
    if not source.exists():
        raise StageError(f"{source}: no such file.")
    if source.is_dir():
        raise StageError(f"{source}: is a folder; a file is wanted.")
    with open(source, "rb", opener=regular) as file:
        file.seek(0, 2)
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                raise DataError(
                    f"{source}: its last line does not end; is it still being written? Add "
                    "a newline when it is whole."
                )
    with open(source, "rb", opener=regular) as file:
        return sum(not line.isspace() for line in bounded_lines(file, source))


def digest_of(source: Path) -> str:
    """16 hex digits over the file's bytes."""
    with open(source, "rb", opener=regular) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
