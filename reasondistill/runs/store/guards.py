"""JSON files that guard themselves: the last key, `guard`, is a digest of everything before it.

    write_guarded(path, {"n": 4})       {"format": 2, "n": 4, "guard": "9f1c…"}
    read_guarded(path, "a thing", "")   {"n": 4}, or DataError where the guard does not fit

A file without `format` and `guard` was written by an earlier version and is read as it is. Two
damages at both ends of a file would be needed to make a file of today look like one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.errors import DataError
from reasondistill.foreign_files import read_bytes
from reasondistill.runs.store.files import write_json

# Of run folders: 1 had no sums and no guards.
FORMAT = 2
_FORMAT, _GUARD = "format", "guard"


def write_guarded(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object and its guard atomically. It is ours and written as it is: what others
    wrote is without secrets before it comes here.
    """
    content = {_FORMAT: FORMAT, **value}
    write_json(path, {**content, _GUARD: _digest(content)})


def read_guarded(path: Path, what: str, ways_out: str) -> dict[str, Any]:
    """The object that `write_guarded` wrote, or that an earlier version left without a guard.

    `what` says what the file is: "a manifest". Raises DataError, which ends with the `ways_out`,
    when it is no JSON object or is not what was written, and for a file of a later format.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {ways_out}") from error
    return parse_guarded(content, str(path), what, ways_out)


def is_guarded(path: Path) -> bool:
    """Whether `write_guarded` has written a file: none that is missing or of earlier versions."""
    try:
        content = foreign_json.loads(read_bytes(path))
    except (OSError, ValueError, DataError):
        return False
    return isinstance(content, dict) and _GUARD in cast("dict[str, Any]", content)


def parse_guarded(text: bytes, path: str, what: str, ways_out: str) -> dict[str, Any]:
    """The object that `write_guarded` wrote into the file `path`, as `read_guarded`."""
    try:
        value: Any = foreign_json.loads(text)
    except ValueError as error:  # also bytes that are no text
        raise DataError(f"{path}: not {what}: {error}. {ways_out}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: not {what}: no JSON object. {ways_out}")
    content = cast("dict[str, Any]", value)
    if _FORMAT not in content and _GUARD not in content:
        return content
    version = content.get(_FORMAT)
    if isinstance(version, int) and version > FORMAT:
        raise DataError(
            f"{path}: format {version} of run folders, of a later version or damaged; this version "
            f"reads formats up to {FORMAT}. {ways_out}"
        )
    guard = content.pop(_GUARD, None)
    if guard != _digest(content):
        raise DataError(
            f"{path}: not {what} as it was written: damaged or edited, it does not fit its guard "
            f"({guard}). {ways_out}"
        )
    del content[_FORMAT]
    return content


def _digest(content: Mapping[str, Any]) -> str:
    """Of the object as it is read back: keys are text, sequences are lists."""
    read_back = json.loads(json.dumps(content))
    canonical = json.dumps(read_back, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode("ascii"), digest_size=8).hexdigest()
