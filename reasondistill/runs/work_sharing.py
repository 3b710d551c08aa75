"""Several workers fill one stage folder in parallel, on any machines that share it: which worker
does which chunk, and how their files become one folder.

    begin(folder, workers=8, chunk=16)          one process opens the stage
    worker = Worker(folder, number)             each worker, on any machine
    for chunk in worker.claims(chunks): ...     its own chunks, then those not begun
    gather(folder)                              one process: their files become the stage's own

Opening the stage takes in the files of earlier workers. While workers run, the folder holds

    parts/attempt.json               the attempt, the number of workers, the size of a chunk
    parts/<attempt>/claims/<chunk>   a symbolic link that names a worker
    parts/<attempt>/w3-5f2c/         the files of that worker since its last start

A link is created by one system call, which succeeds for only one worker. A file has one writer,
even if the worker that was started before under the same number is still alive.

No file locks are used, so NFS and parallel file systems work. A worker that is started again under
its number repeats its own unfinished chunks. Chunks of a worker that is not started again stay
missing: closing the stage reports them, and the next attempt, with any number of workers, does
them. A worker of an attempt that is over writes into a removed folder; if it creates one, the next
attempt takes it in, or it is removed from a complete stage.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from reasondistill.errors import ConfigError, DataError, StageError
from reasondistill.runs import remote
from reasondistill.runs.layout import ATTEMPT, CLAIMS, PARTS
from reasondistill.runs.store import (
    append_shard,
    disk_errors,
    is_list,
    list_beside,
    mend,
    move_taken_out,
    read_guarded,
    write_guarded,
)

log = logging.getLogger(__name__)

# A listing of all claims costs as much as some tens of failed claims.
_PATIENCE = 8
_WAY_OUT = "The same command begins another attempt; what workers wrote is taken in."
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@dataclass(frozen=True)
class Share:
    """The part of a stage that one process does: `open` it, fill it as worker `number` of `of`, or
    `close` it.
    """

    role: Literal["open", "work", "close"]
    number: int = 0
    of: int = 1

    def __str__(self) -> str:
        if self.role == "work":
            return f"{self.number + 1}/{self.of}"
        return self.role

    @property
    def text(self) -> str:
        """The text that `parsed` reads."""
        return f"{self.role}:{self.number}:{self.of}"


def parsed(text: str) -> Share:
    """The share that a command line names: `work:3:8`. Raises ConfigError."""
    match = re.fullmatch(r"(open|work|close):(\d+):(\d+)", text)
    if match is None:
        raise ConfigError(
            f"--share {text}: must be open, work or close, a number and how many: work:3:8."
        )
    return Share(cast("Literal['open', 'work', 'close']", match[1]), int(match[2]), int(match[3]))


@dataclass(frozen=True)
class Attempt:
    """One filling of a folder by `workers`. `chunk` is how many items are claimed at once, `began`
    a Unix time.

    `offsets` are where the chunks begin in the file that is processed, `claims` the URL at which
    chunks are claimed when the workers share no folder.
    """

    name: str
    workers: int
    chunk: int
    began: float
    offsets: tuple[int, ...] = ()
    claims: str = ""


# ---- before and after ----------------------------------------------------------------------------


def begin(folder: Path, *, workers: int, chunk: int, offsets: Sequence[int] = ()) -> Attempt:
    """Start an attempt; files of earlier workers are appended to the folder's own files."""
    gather(folder)
    name = uuid.uuid4().hex[:12]
    claims = remote.claims_at(folder / PARTS / name / CLAIMS) or ""
    attempt = Attempt(name, workers, chunk, time.time(), tuple(offsets), claims)
    with disk_errors(folder):
        (folder / PARTS / attempt.name / CLAIMS).mkdir(parents=True, exist_ok=True)
    write_guarded(folder / PARTS / ATTEMPT, attempt.__dict__)
    return attempt


def current(folder: Path) -> Attempt | None:
    """The current attempt, or None. Raises DataError when its file cannot be read or is not what
    was written.
    """
    path = folder / PARTS / ATTEMPT
    if not path.exists():
        return None
    value = read_guarded(path, "an attempt", _WAY_OUT)
    try:
        value["offsets"] = tuple(value["offsets"])
        return Attempt(**value)
    except (TypeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read: {error}. {_WAY_OUT}") from error


def worker_folders(folder: Path) -> list[Path]:
    """The folders of workers that have not been taken in yet, by attempt and then by worker."""

    def place_in_order(path: Path) -> tuple[str, int, str]:
        number, _, _ = path.name.removeprefix("w").partition("-")
        return path.parent.name, int(number), path.name

    return sorted((folder / PARTS).glob("*/w*"), key=place_in_order)


def gather(folder: Path, *, extras: Iterable[str] = ()) -> int:
    """Append the lines of every worker's JSONL files to the folder's own, durably; return how many
    bytes came in.

    `extras` names subfolders that the caller has taken in already. A kill meanwhile repeats some
    lines and never loses one; sorting the file drops repeated keys. Torn last lines are left out,
    and so are damaged ones, which is said.
    """
    copied = 0
    for part in worker_folders(folder):
        unknown = [
            path.name
            for path in part.iterdir()
            if not _is_shard(path) and path.name not in extras and path.name[0] != "."
        ]
        if unknown:
            raise StageError(f"{part}: holds {unknown[0]}, which has not been taken in.")
        for path in sorted(part.glob("*.jsonl")):
            mend(path)
            move_taken_out(path, folder / path.name)
            copied += append_shard(path, folder / path.name)
            path.unlink()
            list_beside(path).unlink(missing_ok=True)
    discard(folder)
    return copied


def discard(folder: Path) -> None:
    """Remove the files of workers, the mark of their attempt first, so that no worker starts in
    half a folder.
    """
    attempt = None
    try:
        attempt = current(folder)
    except DataError as error:  # nothing of it is needed any more
        log.warning("%s", error)
    if attempt is not None and attempt.claims:
        fs, place = remote.file_system(attempt.claims)
        if fs.exists(place):
            fs.rm(place, recursive=True)
    (folder / PARTS / ATTEMPT).unlink(missing_ok=True)
    shutil.rmtree(folder / PARTS, ignore_errors=True)


def _is_shard(path: Path) -> bool:
    """Whether a worker's file holds lines, or lists those of another one."""
    return path.suffix == ".jsonl" or is_list(path)


# ---- a worker ------------------------------------------------------------------------------------


class Worker:
    """One worker of the current attempt; it writes into `folder`. Raises StageError when there is
    no attempt.
    """

    def __init__(self, stage: Path, number: int) -> None:
        attempt = current(stage)
        if attempt is None:
            raise StageError(
                f"{stage}: is not open for workers. Start the stage with `reasondistill "
                "run` or `resume`."
            )
        self.number, self.attempt = number, attempt
        self.folder = stage / PARTS / attempt.name / f"w{number}-{uuid.uuid4().hex[:8]}"
        self._claims = stage / PARTS / attempt.name / CLAIMS
        self._far: tuple[Any, str] | None = None
        if attempt.claims:
            self._far = remote.file_system(attempt.claims)

    def earlier(self) -> list[Path]:
        """The folders that this worker wrote before it was started again."""
        return sorted(self.folder.parent.glob(f"w{self.number}-*"))

    def claims(self, chunks: int, group: str = "") -> Iterator[int]:
        """The chunks of this worker, each claimed only when it is needed.

        First those that it claimed before it was started again, then its own, then what is left of
        the other workers', beginning at a different place for each worker, so that two seldom try
        the same chunk.
        """
        mine = f"w{self.number}"
        owners = {name: self._owner(name) for name in self._names(group)}
        for name, owner in sorted(owners.items()):
            if owner == mine:
                yield int(name.removeprefix(f"{group}-"))
        workers, number = self.attempt.workers, self.number % self.attempt.workers
        for chunk in range(number, chunks, workers):
            name = f"{group}-{chunk}"
            if name not in owners and self._claim(name):
                yield chunk
        rest = [chunk for chunk in range(chunks) if chunk % workers != number]
        first = number * len(rest) // workers
        yield from self.unclaimed([*rest[first:], *rest[:first]], group)

    def unclaimed(self, chunks: Sequence[int], group: str = "") -> Iterator[int]:
        """The unclaimed ones of `chunks`, each claimed when it is needed. All claims are listed
        first, and again when other workers were quicker a few times.
        """
        taken = set[str]()
        missed = _PATIENCE
        for chunk in chunks:
            if missed >= _PATIENCE:
                taken, missed = set(self._names(group)), 0
            name = f"{group}-{chunk}"
            if name in taken:
                continue
            if self._claim(name):
                yield chunk
            else:
                missed += 1

    def _names(self, group: str) -> list[str]:
        if self._far is not None:
            names = remote.names_in(*self._far)
        else:
            with self._in_time():
                names = os.listdir(self._claims)
        return [name for name in names if name.rpartition("-")[0] == group]

    def _owner(self, name: str) -> str:
        with self._in_time():
            if self._far is not None:
                owner = remote.content_of(*self._far, name)
                if owner is None:
                    raise FileNotFoundError(name)
                return owner
            path = self._claims / name
            if path.is_symlink():
                return os.readlink(path)
            return path.read_text(encoding="ascii")

    @contextmanager
    def _in_time(self) -> Generator[None]:
        try:
            yield
        except FileNotFoundError:
            raise StageError(
                f"{self._claims}: this attempt is over, and another one has begun."
            ) from None

    def _claim(self, name: str) -> bool:
        """Claim a chunk; return whether this worker has it now. A symbolic link is created and
        named in one call, also on NFS.
        """
        us = f"w{self.number}"
        if self._far is not None:
            if remote.create(*self._far, name, us.encode()):
                return True
            # A request that was sent twice finds the object that it has created itself: as below.
            return self._owner(name) == us
        path = self._claims / name
        with self._in_time(), disk_errors(self._claims):
            try:
                os.symlink(us, path)
            except FileExistsError:
                # An NFS server may have done what it is asked a second time: the link is ours
                # although it "exists".
                return self._owner(name) == us
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return create_file(path, us)
        return True


def create_file(path: Path, text: str) -> bool:
    """Create a file that must not exist yet; return whether this process did. It claims a chunk
    where the file system has no links (mounted buckets).
    """
    try:
        with open(path, "x", encoding="ascii") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True
