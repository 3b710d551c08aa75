"""JSON and lines that others wrote: whatever is wrong with them is said in one line, and neither
the stack nor memory comes to its end.

    try:
        row = loads(line)
    except ValueError as error:
        raise DataError(f"{path}:{number}: broken JSON: {error}") from error
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, AnyStr, cast

from reasondistill.bounds import JSON_DEPTH, JSON_FILE_BYTES, LINE_BYTES
from reasondistill.errors import DataError
from reasondistill.foreign_files import regular


def loads(
    text: str | bytes,
    *,
    number: Callable[[str], Any] | None = None,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """The value, nested at most JSON_DEPTH deep, its integers of at most 4,300 digits (Python's own
    bound). `number` makes what has a point or an exponent, `pairs` an object; both may raise
    ValueError.

    Raises ValueError: json.JSONDecodeError with the place for broken JSON, UnicodeDecodeError.
    """
    try:
        value = json.loads(text, parse_float=number, object_pairs_hook=pairs)
    except RecursionError:
        raise too_deep() from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError as error:
        if "integer string conversion" not in str(error):
            raise
        # It tells how to lift Python's bound for the whole process.
        raise ValueError("an integer with more digits than anybody counts") from None
    require_flat(value, text)
    return value


def with_numbers(value: Any) -> Any:
    """A value of JSON with null for what is no number: a stranger's file may hold NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        return {name: with_numbers(inner) for name, inner in pairs}
    if isinstance(value, list | tuple):
        return [with_numbers(inner) for inner in cast("Sequence[Any]", value)]
    return value


def require_flat(value: Any, text: str | bytes) -> None:
    """Raise ValueError for a value of `text` that is nested deeper than JSON_DEPTH."""
    most = JSON_DEPTH.most
    # Nearly always enough, and as fast as memory.
    if isinstance(text, str):
        brackets = text.count("[") + text.count("{")
    else:
        brackets = text.count(b"[") + text.count(b"{")
    if brackets > most and is_deeper(value, most):
        raise too_deep()


def is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and mappings stand in each other more than `levels` deep. Does not recurse."""
    inside: list[Any] = [value]
    for _ in range(levels):
        outer, inside = inside, []
        for place in outer:
            if isinstance(place, dict):
                inside += cast("dict[Any, Any]", place).values()
            elif isinstance(place, list):
                inside += cast("list[Any]", place)
        if not inside:
            return False
    return any(isinstance(place, (dict, list)) for place in inside)


def too_deep() -> ValueError:
    """The error of what is nested too deep."""
    return ValueError(f"nested deeper than {JSON_DEPTH}")


def read_whole(path: Path) -> bytes:
    """The content of a file that is read whole. Raises DataError beyond JSON_FILE_BYTES, and for a
    pipe or a device.
    """
    most = JSON_FILE_BYTES.most
    with open(path, "rb", opener=regular) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise DataError(f"{path}: is read whole, and is beyond {JSON_FILE_BYTES}.")
    return content


def bounded_lines(file: IO[AnyStr], path: Path) -> Iterator[AnyStr]:
    """The lines of an open file, each with its end. Raises DataError for one beyond LINE_BYTES,
    before the rest of it is read.
    """
    most = LINE_BYTES.most
    number = 0
    while line := file.readline(most + 1):
        number += 1
        if len(line) > most:
            raise DataError(f"{path}:{number}: a line beyond {LINE_BYTES}.")
        yield line
