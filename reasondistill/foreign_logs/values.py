"""Values of a log that may be anything: what is of the kind that is wanted, or nothing.

text_in(row, "filter")              # None where there is no text of that name
mapping_in(row, "doc")              # {} where there is no object of that name
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.errors import DataError
from reasondistill.hashing import stable_digest


def mapping(value: Any) -> Mapping[str, Any]:
    """The object itself; an empty one for anything else."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value)
    return {}


def items(value: Any) -> Sequence[Any]:
    """The list itself; an empty one for anything else."""
    if isinstance(value, (list, tuple)):
        return cast("Sequence[Any]", value)
    return ()


def mapping_in(row: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The object to which these keys lead."""
    place = row
    for key in keys:
        place = mapping(place.get(key))
    return place


def text_in(row: Mapping[str, Any], key: str) -> str | None:
    """The text of this key, None where there is none."""
    value = row.get(key)
    if isinstance(value, str):
        return value
    return None


def number_in(row: Mapping[str, Any], key: str) -> float | None:
    """The number of this key; None where there is none, or one beyond what a float holds."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def name_in(row: Mapping[str, Any], key: str, where: str) -> str:
    """The text or whole number of this key, as a text. Raises DataError."""
    value = row.get(key)
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{where}: {key} = {str(value)[:80]!r}; want a text or a whole number.")


def hash_of(*values: Any) -> str:
    """16 hex digits that are the same for the same values, wherever they were read."""
    text = json.dumps(values, sort_keys=True, default=str)
    return stable_digest(text).hex()[:16]


def parsed(text: bytes, where: str) -> Mapping[str, Any]:
    """The object that a text of JSON holds. Raises DataError."""
    try:
        value = foreign_json.loads(text.decode("utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{where}: broken JSON: {error}.") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(value).__name__}.")
    return cast("dict[str, Any]", value)


def read_object(path: Path) -> Mapping[str, Any]:
    """The object that a .json file holds. Raises DataError, also beyond JSON_FILE_BYTES."""
    return parsed(foreign_json.read_whole(path), str(path))
