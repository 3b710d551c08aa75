"""Files of data: each is one call of the page's function with a text that is nothing but base64.

    reasondistill("texts",12,"eJyrVkrLz1eyUkpKLFKqBQA…")

The page compares the text's SHA-256 with the one that it knows, then unpacks it: JSON, compressed
by zlib. It opens from disk like this, where a page may fetch nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reasondistill.foreign_json import with_numbers

Write = Callable[[str, bytes], None]

# Of a chunk before it is compressed, about: fast to load, and a few hundred files at 50,000 traces.
CHUNK_BYTES = 1 << 19


@dataclass(frozen=True)
class Packed:
    """A file of data, and the sum of its text."""

    content: bytes
    sum: str


def packed(kind: str, number: int, text: str) -> Packed:
    """The file of a text of JSON, which holds ASCII alone."""
    payload = base64.b64encode(zlib.compress(text.encode("ascii"), 6))
    digest = hashlib.sha256(payload).hexdigest()
    head = f'reasondistill("{kind}",{number},"'.encode()
    return Packed(head + payload + b'")\n', digest)


def payload_of(content: bytes) -> str:
    """The text that a file hands over."""
    return content.decode("ascii").split('"')[3]


def file_name(kind: str, number: int) -> str:
    return f"{kind}-{number:05}.js"


def in_json(value: Any) -> str:
    """JSON in ASCII that every reader takes: lone surrogates, which a broken decoder can leave in a
    text, are escaped.
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(with_numbers(value), allow_nan=False, separators=(",", ":"))


@dataclass
class Chunks:
    """Rows gathered to files. `first` has the number of the first row of each, `sums` their sums;
    an empty sum is that of a file that is made when it is asked for.
    """

    kind: str
    write: Write
    first: list[int] = field(default_factory=list[int])
    sums: list[str] = field(default_factory=list[str])
    _rows: list[str] = field(default_factory=list[str])
    _size: int = 0

    def begin(self, number: int) -> None:
        """From this row on another file."""
        self.end()
        self.first.append(number)

    def add(self, number: int, row: str) -> None:
        """Add the row of this number; rows come in order."""
        if not self._rows or self._size >= CHUNK_BYTES:
            self.begin(number)
        self.append(row)

    def append(self, row: str) -> None:
        """Add a row to the file that was begun."""
        self._rows.append(row)
        self._size += len(row)

    def leave_out(self) -> None:
        """The file that was begun is made when it is asked for."""
        self.sums.append("")

    def end(self) -> None:
        if not self._rows:
            return
        rows = ",".join(self._rows)
        number = len(self.sums)
        done = packed(self.kind, number, f"[{rows}]")
        self.write(file_name(self.kind, number), done.content)
        self.sums.append(done.sum)
        self._rows, self._size = [], 0

    def described(self) -> dict[str, Any]:
        return {"first": self.first, "sums": self.sums}
