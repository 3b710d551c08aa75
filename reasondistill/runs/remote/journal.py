"""A journal of the files that were the same in a copy and at a URL, one line per fetched or
published file. After a kill it shows which transfer was under way.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path

from reasondistill import foreign_json
from reasondistill.foreign_files import read_text
from reasondistill.runs.layout import JOURNAL
from reasondistill.runs.store import open_to_write


@dataclass(frozen=True)
class Same:
    """Size and time of a file in the copy, and its version at the URL, when both were the same.

    Without `here` it was being fetched, so the file in the copy does not count; without `there` it
    was being published.
    """

    here: tuple[int, int] | None
    there: str | None


class Journal(dict[str, Same]):
    """File name → Same, kept in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = folder / JOURNAL
        if self._path.exists():
            self._read()

    def _read(self) -> None:
        self.update(read_journal(self._path.parent))
        short = self._path.with_name(f"{JOURNAL}.short")
        lines = "".join(_line(name, same) for name, same in self.items())
        with BufferedWriter(open_to_write(short, "wb")) as file:
            file.write(lines.encode("utf-8"))
        short.replace(self._path)

    def __setitem__(self, name: str, same: Same) -> None:
        super().__setitem__(name, same)
        self._append(_line(name, same), is_intent=same.here is None or same.there is None)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._append(_line(name, None))

    def _append(self, line: str, *, is_intent: bool = False) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with BufferedWriter(open_to_write(self._path, "ab")) as file:
            file.write(line.encode("utf-8"))
            file.flush()
            if is_intent:
                os.fsync(file.fileno())


def read_journal(folder: Path) -> dict[str, Same]:
    """What the journal of a folder says; nothing is written, another process may be at work."""
    known: dict[str, Same] = {}
    for line in read_text(folder / JOURNAL).splitlines():
        with suppress(ValueError):  # torn
            name, *values = foreign_json.loads(line)
            known.pop(name, None)
            if values:
                known[name] = Same(tuple(values[0]) if values[0] else None, values[1])
    return known


def _line(name: str, same: Same | None) -> str:
    """Begins with a newline, because the line before may be torn."""
    return "\n" + json.dumps([name] if same is None else [name, same.here, same.there])
