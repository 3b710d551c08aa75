"""Sums of the lines of a shard that is not finished: what a stopped or killed session left is
verified before another one goes on with it.

    traces.jsonl         {"id":"gsm8k/train/12:3",…}
    traces.jsonl.sums    9f1c04ab27…3d 5e81c0…    digests of lines of an `append`, their guard
                         +7a20e1…91 0c42d7…       more of the same `append`

A line counts when its digest is listed beside it, in any place and order: lines may be sorted or
taken out. It is listed, durably, before it is written, so a kill at any moment leaves no line that
is whole and does not count. What is not listed was damaged, or is newer than its list, as in a copy
of a run at work: it is never read, the next session moves it to `.traces.jsonl.taken-out`, where
nothing reads it, and makes its record anew. When the stage is finished its manifest has sums of
whole files, and the list is removed.

A shard without a list was written by an earlier version; its lines are listed as they are when a
writer opens it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedWriter
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import xxhash

from reasondistill.errors import DataError, StageError
from reasondistill.foreign_files import read_bytes, regular
from reasondistill.foreign_json import bounded_lines
from reasondistill.runs.layout import METRICS, UNFINISHED
from reasondistill.runs.store.appending import AppendedFile, repair_tail
from reasondistill.runs.store.files import disk_errors, open_to_write, replacing

SUFFIX = ".sums"
TAKEN_OUT = ".taken-out"
_DIGEST_BYTES = 8
# Digests behind one guard: a damage of the list costs the lines of a batch.
_BATCH = 100
# Begins a batch that goes on with an append.
_GOES_ON = b"+"
# A message names so many damaged lines.
_NAMED = 3

log = logging.getLogger(__name__)


def list_beside(path: Path) -> Path:
    """The file that lists a shard's lines."""
    return path.with_name(f"{path.name}{SUFFIX}")


def is_list(path: Path) -> bool:
    """Whether a file lists the lines of a shard."""
    return path.name.endswith((f".jsonl{SUFFIX}", f".json{SUFFIX}"))


def digest_of_line(line: bytes) -> bytes:
    """The digest of a line, its newline included."""
    return xxhash.xxh3_64_digest(line)


# ---- the list ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ListedLines:
    """The digests that are listed beside a shard, in order; the last `in_hand` are those of the
    last `append`, which may not have come to its end. `is_whole` where nothing of it is damaged.
    """

    digests: Sequence[bytes]
    in_hand: int
    is_whole: bool

    @property
    def is_lost(self) -> bool:
        """Whether nothing of it is left, so that no line of the shard can be judged."""
        return not self.digests and not self.is_whole


def read_list(path: Path) -> ListedLines | None:
    """What is listed beside a shard, without what is damaged of it; None where there is no list."""
    try:
        with open(list_beside(path), "rb", opener=regular) as file:
            return parse_list(file)
    except FileNotFoundError:
        return None


def parse_list(lines: Iterable[bytes]) -> ListedLines:
    """What the lines of a list hold, without what is damaged of it."""
    digests: list[bytes] = []
    in_hand = count = damaged = 0
    for text in lines:
        count += 1
        batch = _digests_in(text)
        if batch is None:
            damaged += 1
            batch = []
        if not text.startswith(_GOES_ON):
            in_hand = 0
        in_hand += len(batch)
        digests += batch
    return ListedLines(digests, in_hand, is_whole=count > 0 and not damaged)


def _digests_in(text: bytes) -> list[bytes] | None:
    """The digests that a line of a list holds; None where it is torn or damaged."""
    listed, _, guard = text.removesuffix(b"\n").partition(b" ")
    if guard != digest_of_line(listed).hex().encode():
        return None
    whole = bytes.fromhex(listed.removeprefix(_GOES_ON).decode("ascii"))
    return [whole[start : start + _DIGEST_BYTES] for start in range(0, len(whole), _DIGEST_BYTES)]


def as_listed(digests: Iterable[bytes]) -> bytes:
    """The lines of a list that hold these digests, those of one append."""
    written: list[bytes] = []
    rest = iter(digests)
    batch = list(islice(rest, _BATCH))
    while batch or not written:
        listed = b"".join(batch).hex().encode()
        if written:
            listed = _GOES_ON + listed
        guard = digest_of_line(listed).hex().encode()
        written.append(listed + b" " + guard + b"\n")
        batch = list(islice(rest, _BATCH))
    return b"".join(written)


def list_anew(path: Path) -> None:
    """List the lines of a shard as they are, atomically; nothing else stays listed."""
    if not path.exists():
        list_beside(path).unlink(missing_ok=True)
        return
    with open(path, "rb", opener=regular) as file:
        list_lines(path, (line for line in file if line.endswith(b"\n")))


def list_lines(path: Path, lines: Iterable[bytes]) -> int:
    """List these lines beside a shard, atomically; nothing else stays listed. Return how many there
    are.
    """
    count = 0
    digests = map(digest_of_line, lines)
    with replacing(list_beside(path)) as target:
        batch = list(islice(digests, _BATCH))
        while batch:
            target.write(as_listed(batch))
            count += len(batch)
            batch = list(islice(digests, _BATCH))
        target.write(as_listed([]))  # all of them were there: no append is in hand
    return count


def open_list(path: Path) -> None:
    """Make ready for a writer: cut off what is torn, list what an earlier version wrote, and forget
    the list of a shard that is not there.
    """
    repair_tail(path)
    if not path.exists():
        list_beside(path).unlink(missing_ok=True)
    elif list_beside(path).exists():
        repair_tail(list_beside(path))
    elif path.stat().st_size > 0:
        log.info("%s: has no sums of its lines (an earlier version): taken as it is", path)
        list_anew(path)


class AppendedLines:
    """Lines of a shard, appended durably by one writer and listed beside it."""

    def __init__(self, path: Path) -> None:
        open_list(path)
        self._list = AppendedFile(list_beside(path))
        self._file = AppendedFile(path)

    def append(self, lines: Sequence[bytes]) -> None:
        """Write these lines, each with its newline: all or none. Raises StageError for an error of
        the disk.
        """
        if not lines:
            return
        before = self._list.size
        self._list.append(as_listed(map(digest_of_line, lines)))
        try:
            self._file.append(b"".join(lines))
        except StageError:
            self._list.cut(before)
            raise

    def close(self) -> None:
        """Close it, and say that the last append has come to its end."""
        with suppress(StageError):
            self._list.append(as_listed([]))
        self._list.close()
        self._file.close()


def append_line(path: Path, line: bytes, *, durably: bool = False) -> None:
    """Append one line, with its newline, to a shard that is not held open. It is waited for until
    it is on the disk where it is to be written `durably`.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        open_list(path)
        listed = as_listed([digest_of_line(line)])
        for target, content in ((list_beside(path), listed), (path, line)):
            with BufferedWriter(open_to_write(target, "ab")) as file:
                file.write(content)
                if durably:
                    file.flush()
                    os.fsync(file.fileno())


def add_to_list(path: Path, digests: Sequence[bytes]) -> None:
    """List these lines beside a shard, durably, as those of one append."""
    with disk_errors(path):
        target = AppendedFile(list_beside(path))
        target.append(as_listed(digests))
        target.close()


# ---- reading -------------------------------------------------------------------------------------


class LineFilter:
    """Which lines of a shard count. Its writer may go on meanwhile: a list that has grown is read
    again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = -1
        self._digests: frozenset[bytes] = frozenset()
        self.has_list = self._is_read_again()

    def _is_read_again(self) -> bool:
        """Read the list, unless it is as it was."""
        try:
            size = list_beside(self._path).stat().st_size
        except FileNotFoundError:
            return False
        if size == self._size:
            return False
        listed = read_list(self._path)
        if listed is None:
            return False
        self._size, self._digests = size, frozenset(listed.digests)
        return True

    def counts(self, line: bytes) -> bool:
        """Whether a line is one that was written."""
        if not self.has_list:
            return True
        digest = digest_of_line(line)
        if digest in self._digests:
            return True
        return self._is_read_again() and digest in self._digests


def counted_lines(
    path: Path, file: BinaryIO, *, refuses: bool = False
) -> Iterator[tuple[int, bytes]]:
    """The numbered whole lines of an open shard that count. Raises DataError for one that does not,
    where `refuses` says so.
    """
    lines = LineFilter(path)
    for number, line in enumerate(bounded_lines(file, path), start=1):
        if not line.endswith(b"\n"):
            return  # torn, or being written
        if lines.counts(line):
            yield number, line
        elif refuses:
            raise damaged_meanwhile(path, number)


class FinishedLines:
    """Looks at the blocks of a shard that is about to be finished: every line must count.

    Raises DataError, at the block in which it ends, for a line that is another one than was
    written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = LineFilter(path)
        self._number = 0
        self._rest = b""

    def see(self, block: bytes) -> None:
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._number += 1
            if not self._lines.counts(line + b"\n"):
                raise damaged_meanwhile(self._path, self._number)

    def end(self) -> None:
        """After the last block."""
        if self._rest:
            raise damaged_meanwhile(self._path, self._number + 1)


def damaged_meanwhile(path: Path, number: int) -> DataError:
    """The error for a line that was damaged while its stage was at work."""
    return DataError(
        f"{path}:{number}: damaged: this line is not one that was written. The same command takes "
        "it out and makes its record again."
    )


def require_all_lines(path: Path) -> None:
    """Read a small file whose lines are listed. Raises DataError for one that does not count."""
    if list_beside(path).exists():
        lines = FinishedLines(path)
        lines.see(read_bytes(path))
        lines.end()


# ---- mending -------------------------------------------------------------------------------------


def mend(path: Path, *, in_order: bool = False) -> None:
    """Leave of an unfinished shard what counts; say which lines are taken out, and how many are
    missing, except those of a last `append` that did not come to its end. What is taken out stays
    in a hidden file beside it.

    With `in_order`, where records have no id and the place says what a line is about, nothing stays
    behind the first line that is not the one that was written there. Raises DataError where no
    line counts because the list is lost, unless the lines are numbers over time or what was begun,
    which is begun anew.
    """
    listed = read_list(path)
    open_list(path)
    if listed is None:
        return
    digests: list[bytes] = []
    if path.exists():
        with open(path, "rb", opener=regular) as file:
            digests += map(digest_of_line, file)
    if digests and listed.is_lost and path.name not in (METRICS, UNFINISHED):
        raise DataError(
            f"{list_beside(path)}: damaged: {lists_none_of(path.name)}, so none of them is used. "
            "Ways out: put back a copy of it; `reasondistill repair --again`, which takes them "
            "out, and the same command makes their records again; or remove it, and the lines "
            "are taken as they are."
        )
    wrong = _unlisted(digests, listed)
    if in_order:
        wrong = list(range(_first_difference(digests, listed.digests), len(digests)))
    there = frozenset(digests)
    acknowledged = frozenset(listed.digests[: len(listed.digests) - listed.in_hand])
    missing = len(acknowledged - there)
    if wrong:
        _take_out(path, frozenset(wrong))
    elif listed.is_lost or not there.issuperset(listed.digests):
        list_anew(path)
    if wrong or missing:
        log.warning("%s: damaged since it was written: %s", path, _what(path, wrong, missing))


def lists_none_of(name: str) -> str:
    """What is said of the list of a shard that is lost."""
    return f"it lists none of the lines of {name}"


def take_all_out(path: Path) -> None:
    """Take every line out of a shard whose list is lost; they stay in a hidden file beside it."""
    with disk_errors(path), open(path, "rb", opener=regular) as file:
        count = sum(1 for _ in file)
    _take_out(path, frozenset(range(count)))


def _unlisted(digests: Sequence[bytes], listed: ListedLines) -> list[int]:
    """The places of the lines that are not listed."""
    known = frozenset(listed.digests)
    return [place for place, digest in enumerate(digests) if digest not in known]


def _first_difference(digests: Sequence[bytes], listed: Sequence[bytes]) -> int:
    """The place of the first line that is not the one that is listed at its place."""
    for place, (digest, other) in enumerate(zip(digests, listed, strict=False)):
        if digest != other:
            return place
    return min(len(digests), len(listed))


def taken_out_of(path: Path) -> Path:
    """Where the lines are that were taken out of a shard; nothing reads them."""
    return path.with_name(f".{path.name}{TAKEN_OUT}")


def _take_out(path: Path, places: frozenset[int]) -> None:
    """Write a shard without the lines at these places, then its list; move them beside it."""
    taken_out = open_to_write(taken_out_of(path), "ab")
    with (
        disk_errors(path),
        open(path, "rb", opener=regular) as file,
        BufferedWriter(taken_out) as beside,
    ):
        for place, line in enumerate(file):
            if place in places:
                beside.write(line)
        beside.flush()
        os.fsync(beside.fileno())
    with replacing(path) as target, open(path, "rb", opener=regular) as file:
        for place, line in enumerate(file):
            if place not in places:
                target.write(line)
    list_anew(path)


def _what(path: Path, wrong: Sequence[int], missing: int) -> str:
    """What is damaged, in words."""
    parts: list[str] = []
    where = ""
    if wrong:
        names = ", ".join(str(place + 1) for place in wrong[:_NAMED])
        if len(wrong) > _NAMED:
            names += ", …"
        parts.append(f"{len(wrong):,} lines are taken out (line {names})")
        where = f" What was taken out stays in {taken_out_of(path).name}, which nothing reads."
    others = missing - len(wrong)
    if others > 0:
        parts.append(f"{others:,} lines are missing")
    return f"{'; '.join(parts)}. What is lost of records is made again.{where}"


def move_taken_out(source: Path, target: Path) -> None:
    """Move what was taken out of a shard to what was taken out of another one."""
    there = taken_out_of(source)
    if there.exists():
        with open(there, "rb", opener=regular) as lines:
            taken_out = open_to_write(taken_out_of(target), "ab")
            with disk_errors(target), BufferedWriter(taken_out) as file:
                shutil.copyfileobj(lines, file)
        there.unlink()


def keep_listed(path: Path) -> None:
    """Leave of an unfinished shard the lines that are listed, in silence."""
    with replacing(path) as target, open(path, "rb", opener=regular) as file:
        for _, line in counted_lines(path, file):
            target.write(line)
    list_anew(path)


def mend_all(folder: Path) -> None:
    """Mend every shard of an unfinished stage folder that has a list."""
    for path in folder.glob(f"*.jsonl{SUFFIX}"):
        mend(path.with_name(path.name.removesuffix(SUFFIX)))


def remove_lists(folder: Path, summed: Iterable[str]) -> None:
    """Remove the lists beside those files of a finished stage folder that its manifest sums. Any
    other list is all that guards its file: what is being added was not sealed.
    """
    for name in summed:
        path = list_beside(folder / name)
        if is_list(path):
            path.unlink(missing_ok=True)
