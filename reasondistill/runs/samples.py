"""Traces as far as they are counted: their texts are not looked at, for there may be millions.

    for row in read_samples(run / "2-traces" / "traces.jsonl"):
        row["completion"]["finish"]

What is counted is of its kind, whoever wrote the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, ValidationError

from reasondistill.errors import DataError
from reasondistill.records import Completion, Natural
from reasondistill.runs.layout import TRACES, TRIMMED
from reasondistill.runs.lenient import LenientRecord
from reasondistill.runs.store import read_keys, read_rows, require_complete
from reasondistill.runs.work_sharing import worker_folders

# The input of examples that says how many samples of each problem count, where there are more.
COUNTED = "samples"


class _Lengths(LenientRecord):
    finish: str
    tokens: Natural
    prompt_tokens: Natural
    seconds: FiniteFloat
    is_estimated: bool = False
    is_masked: bool = False
    continued_at: list[Natural] = []


class _Sample(LenientRecord):
    id: str
    problem_id: str
    model: str
    completion: _Lengths


def read_samples(path: Path) -> Iterator[dict[str, Any]]:
    """Every line of a traces file as plain JSON. Raises DataError(`path:line`) for one whose ids
    or lengths are of another kind.
    """
    for number, row in enumerate(read_rows(path), start=1):
        try:
            _Sample.model_validate(row, strict=True)
        except ValidationError as error:
            raise _not_a_trace(f"{path}:{number}", error) from error
        yield row


def counted_samples(examples: Path) -> int | None:
    """How many samples of each problem count for these examples; None where all do. Raises
    StageError where they are not finished.
    """
    counted: str | None = require_complete(examples).identity["inputs"].get(COUNTED)
    if counted is None or not counted.isdecimal():
        return None
    return int(counted)


def drawn_problems(folder: Path) -> set[str]:
    """The problems that have a trace in a folder of traces, one that was trimmed, or one in what
    its workers have drawn.
    """
    names: set[str] = set()
    drawn = [part / TRACES for part in (folder, *worker_folders(folder))]
    for path in (*drawn, folder / TRIMMED):
        if path.exists():
            names.update(trace_id.rpartition(":")[0] for trace_id in read_keys(path))
    return names


def completion_of(row: Mapping[str, Any], path: Path) -> Completion:
    """The whole completion of such a line. Raises DataError."""
    try:
        return Completion.model_validate(row["completion"])
    except ValidationError as error:
        raise _not_a_trace(f"{path}: {row['id']}", error) from error


def _not_a_trace(where: str, error: ValidationError) -> DataError:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    message = first["msg"]
    return DataError(f"{where}: not a trace: {key}: {message}")
