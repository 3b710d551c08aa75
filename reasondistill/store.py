"""Shards and manifests: append, fsync, resume, read back, fingerprint.

A stage folder holds shards (`*.jsonl`, one record a line), `metrics.jsonl` and `manifest.json`. One writer per shard.
A line counts once its newline is on disk: a torn last line is dropped and its record made again. Finished files appear
by rename. Nothing here relies on file locks.

    state = open_stage(folder, Identity("traces", 1, section, inputs), grows=("n",))
    with Shard(folder / "traces.jsonl") as shard:
        shard.append(records)
    finish_stage(folder, counts={"out": 12}, dropped={}, seconds=3.5)
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import signal
import time
from array import array
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from io import FileIO
from itertools import islice
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, BinaryIO, Literal, TypeVar

import numpy as np
import pydantic
from pydantic_core import from_json

from reasondistill.errors import DataError, DriftError, Interrupted, StageError
from reasondistill.records import Record, canonical_json, fingerprint

R = TypeVar("R", bound=Record)
StageState = Literal["new", "partial", "complete"]

MANIFEST = "manifest.json"
_BLOCK = 1 << 16
# The environment variable with the seconds that SIGUSR1 leaves.
GRACE = "REASONDISTILL_GRACE_S"


# ---- identity -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity:
    """What a stage's output is a function of. Paths, GPUs and batch sizes are not in it."""

    stage: str
    version: int
    section: Mapping[str, Any]
    inputs: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {"stage": self.stage, "version": self.version, "section": dict(self.section), "inputs": dict(self.inputs)}

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.to_dict())


# ---- writing files ------------------------------------------------------------------------------------------------


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NOT_OURS = (errno.EACCES, errno.EROFS, errno.EPERM)
_IN_THE_WAY = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EFBIG, errno.EIO)


@contextmanager
def disk_errors(path: Path) -> Generator[None]:
    """Turn what a disk can refuse (full, not writable, a file where a folder should be) into one clear StageError."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StageError(
                f"{path}: the disk is full. What was written before is safe; free some space and run the same command."
            ) from error
        if error.errno in _NOT_OURS:
            raise StageError(f"{path}: not writable ({error.strerror}).") from error
        if error.errno in _IN_THE_WAY:
            raise StageError(f"{path}: cannot be written ({error.strerror}).") from error
        raise


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """A file that takes the name `path` only when it is whole and on disk: readers see the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole file atomically; lone surrogates, which a broken decoder can emit, are escaped."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write a whole shard atomically; return how many records it holds."""
    count = 0
    with replacing(path) as file:
        for record in records:
            file.write(record.to_json().encode("utf-8") + b"\n")
            count += 1
    return count


class Shard:
    """One append-only JSONL file with one writer.

    Opening it cuts a torn last line off. `append` writes whole lines, flushes and fsyncs, so a kill loses at most the
    records of the call in hand.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            repair_tail(path)
            # Unbuffered: after a failed write a buffer would keep the rest and put it, torn, into the file on close.
            self._file: FileIO = open(path, "ab", buffering=0)  # noqa: SIM115 - held open; closed by __exit__

    def append(self, records: Iterable[Record]) -> None:
        """Write these records durably. A failed write is cut off again, so the shard stays readable."""
        rest = memoryview(b"".join(record.to_json().encode("utf-8") + b"\n" for record in records))
        start = os.fstat(self._file.fileno()).st_size
        with disk_errors(self.path):
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
            except OSError:
                with suppress(OSError):  # if even this fails, the next opening cuts the torn line off
                    os.ftruncate(self._file.fileno(), start)
                raise

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def repair_tail(path: Path) -> int:
    """Cut off a last line without newline (a killed writer's); return how many bytes went."""
    if not path.exists() or (size := path.stat().st_size) == 0:
        return 0
    with open(path, "r+b") as file:
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            end = start
        else:
            keep = 0
        if keep < size:
            file.truncate(keep)
    return size - keep


# ---- reading ------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered whole lines; a torn last one is passed over."""
    if not path.exists():
        raise StageError(f"{path}: missing. Run the stage that writes it first.")
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield number, line


def read_records(path: Path, kind: type[R]) -> Iterator[R]:
    """Yield a shard's records in order.

    Raises DataError(`path:line`) for a line that is not such a record. A torn last line is passed over.
    """
    return (_record(line, kind, f"{path}:{number}") for number, line in _lines(path))


def records_at(path: Path, kind: type[R], offset: int, count: int) -> Iterator[R]:
    """At most `count` records of a shard, from a byte offset on that `offsets_of` gave."""
    with open(path, "rb") as file:
        file.seek(offset)
        for number, line in enumerate(islice(file, count), start=1):
            if line.endswith(b"\n"):
                yield _record(line, kind, f"{path}: line {number} behind byte {offset}")


def offsets_of(path: Path, every: int) -> list[int]:
    """The byte offsets of a shard's lines 0, `every`, 2 × `every`, …"""
    offset, found = 0, list[int]()
    for number, line in _lines(path):
        if (number - 1) % every == 0:
            found.append(offset)
        offset += len(line)
    return found


def _record(line: bytes, kind: type[R], place: str) -> R:
    try:
        return kind.model_validate_json(line)
    except pydantic.ValidationError:
        try:  # lone surrogates: valid JSON for the stdlib only
            return kind.model_validate(json.loads(line))
        except ValueError as error:
            raise DataError(f"{place}: not a {kind.__name__}: {_first_fault(error)}") from error


def _first_fault(error: ValueError) -> str:
    """What is wrong, in one line."""
    if isinstance(error, pydantic.ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}".removeprefix(": ")
    return str(error)


def read_keys(path: Path, key: str = "id") -> Iterator[str]:
    """Yield one string field of every line without building records: what resume and counting need.

    Our own lines begin with their id: no JSON is parsed then, and a million lines of a gigabyte take seconds. Memory is one line.
    """
    first = f'{{"{key}":"'.encode()
    for number, line in _lines(path):
        if line.startswith(first):
            text = line[len(first) : line.find(b'"', len(first))]
            if text.isascii() and b"\\" not in text:
                yield text.decode()
                continue
        try:
            yield from_json(line)[key]
        except (ValueError, KeyError, TypeError):
            try:
                yield json.loads(line)[key]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}:{number}: no field {key!r} in this line: {error}") from error


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every line as plain JSON, its shape unchecked: for counting over millions of lines. Memory is one line."""
    return (row for _, row in _numbered(path, _lines(path)))


def numbered_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and plain JSON of every line of a file that others wrote; blank lines are passed over."""
    return _numbered(path, ((number, line) for number, line in _lines(path) if not line.isspace()))


def _numbered(path: Path, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Any]]:
    for number, line in lines:
        try:
            yield number, from_json(line)
        except ValueError:  # lone surrogates: valid JSON for the stdlib only
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not a JSON line: {error}") from error


def drop_lines(path: Path, unwanted: Container[str], key: str = "id") -> None:
    """Take the lines with these keys out of a shard, atomically; the others stay byte for byte."""
    with replacing(path) as target:
        for name, (_, line) in zip(read_keys(path, key), _lines(path), strict=True):
            if name not in unwanted:
                target.write(line)


def count_lines(path: Path) -> int:
    """How many whole lines a shard has; 0 when it does not exist."""
    if not path.exists():
        return 0
    count = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            count += block.count(b"\n")
    return count


def sort_shard(path: Path, order: Callable[[str], int], key: str = "id") -> int:
    """Put a shard's lines into canonical order and drop repeated keys (the first stays); return how many lines it has.

    `order` gives each key a number of its own. Workers finish out of order; after this the file is the same whatever happened on the way.
    Holds 40 bytes of each line in memory, never the lines.
    """
    repair_tail(path)
    numbers, lengths = array("q"), array("q")
    for name, (_, line) in zip(read_keys(path, key), _lines(path), strict=True):
        numbers.append(order(name))
        lengths.append(len(line))
    ranks = np.asarray(numbers)
    if bool((np.diff(ranks) > 0).all()):
        return len(ranks)
    places = np.argsort(ranks, kind="stable")
    places = places[np.concatenate([[True], np.diff(ranks[places]) > 0])]
    sizes = np.asarray(lengths)
    starts = np.cumsum(sizes) - sizes
    with open(path, "rb", buffering=0) as source, replacing(path) as target:
        for block in np.array_split(places, math.ceil(len(places) / _BLOCK)):
            for start, length in zip(starts[block].tolist(), sizes[block].tolist(), strict=True):
                target.write(os.pread(source.fileno(), length, start))
    return len(places)


# ---- manifests ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Manifest:
    """What a stage folder says of itself. `status` is `partial` until the stage has finished."""

    identity: dict[str, Any]
    fingerprint: str
    status: Literal["partial", "complete"]
    counts: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    environment: dict[str, Any] = field(default_factory=dict)
    content: str = ""

    @property
    def output(self) -> str:
        """What a later stage takes as its input: what this one wrote, where that is known, else what it was made from.

        A stage that is removed and made again may come out otherwise (samplers on a GPU do); then what was made from it is stale.
        """
        return self.content or self.fingerprint

    @property
    def section(self) -> dict[str, Any]:
        return self.identity["section"]


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's manifest, or None when there is none. Raises DataError when it is not readable."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: not a manifest: {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest atomically."""
    write_json(folder / MANIFEST, manifest.__dict__)


def open_stage(
    folder: Path,
    identity: Identity,
    *,
    grows: tuple[str, ...] = (),
    derived: bool = False,
    remade: bool = False,
    keep_old: bool = False,
    environment: Mapping[str, Any] | None = None,
    beside: Container[str] = (),
) -> StageState:
    """Say whether the folder is new, partial or complete for this identity, and claim it.

    `grows` names section keys (dotted) that may be raised without starting over: the stage is then partial and is topped up.
    `beside` names what is not this stage's own (evals: one folder per benchmark) or serves its next making too: it is left alone.
    A `derived` stage is cheap and a pure function of its inputs: when only its *inputs* changed it is emptied and made anew.
    A `remade` one is made anew whatever changed: what was made from it says for itself whether it still fits.
    Raises DriftError, naming each changed key and the ways out, when the folder was made from something else.
    """
    if folder.exists() and not folder.is_dir():
        raise DriftError(f"{folder}: is a file; a run folder is wanted there. Choose another name, or move that file.")
    old = read_manifest(folder)
    if old is None:
        strangers = [p.name for p in folder.iterdir() if not p.name.startswith(".") and p.name not in beside] if folder.exists() else []
        if strangers:
            raise DriftError(
                f"{folder}: holds {', '.join(sorted(strangers)[:3])} but no {MANIFEST}: not a run folder of ours. "
                "Choose another name, or remove that folder."
            )
        state: StageState = "new"
    elif old.fingerprint == identity.fingerprint:
        if old.status == "complete":
            return "complete"
        state = "partial"
    else:
        changed = changed_keys(old.identity, identity.to_dict())
        if keep_old and old.status == "complete":
            return "complete"
        if all(_grew(name, a, b, grows) for name, a, b in changed):
            state = "partial"
        elif remade or (derived and all(name.startswith("inputs.") or name == "version" for name, _, _ in changed)):
            _empty(folder, old, beside)
            state = "new"
        else:
            raise DriftError(drift_message(folder, changed))
    write_manifest(folder, Manifest(identity.to_dict(), identity.fingerprint, "partial", environment=dict(environment or {})))
    return state


def reopen_stage(folder: Path, identity: Identity, failed: str) -> bool:
    """Make a finished folder partial again when its count or figure `failed` says that something is to be tried again; say whether so."""
    manifest = require_complete(folder)
    if manifest.fingerprint != identity.fingerprint or not (manifest.counts.get(failed) or manifest.figures.get(failed)):
        return False
    write_manifest(folder, replace(manifest, status="partial"))
    return True


def _empty(folder: Path, old: Manifest, beside: Container[str]) -> None:
    """Remove a folder's files but those `beside`. A kill on the way leaves it unfinished: the manifest stays, and says so first."""
    write_manifest(folder, replace(old, status="partial"))
    for path in folder.iterdir():
        if path.is_file() and path.name != MANIFEST and path.name not in beside:
            path.unlink()


def finish_stage(
    folder: Path,
    *,
    counts: Mapping[str, int],
    dropped: Mapping[str, int] | None = None,
    figures: Mapping[str, Any] | None = None,
    seconds: float,
    files: Iterable[str] = (),
    content: str = "",
) -> Manifest:
    """Mark the folder complete. `counts` holds at least `in` and `out`.

    `files` names the shards that later stages read; `content` stands for them where not every byte counts.
    """
    old = read_manifest(folder)
    if old is None:
        raise StageError(f"{folder}: no {MANIFEST}; open_stage comes first")
    done = replace(
        old,
        status="complete",
        counts=dict(counts),
        dropped=dict(dropped or {}),
        figures=dict(figures or {}),
        seconds=seconds,
        content=content or content_of(folder, files),
    )
    write_manifest(folder, done)
    return done


def content_of(folder: Path, files: Iterable[str]) -> str:
    """16 hex digits over the bytes of these files; empty when none is named."""
    digests: list[str] = []
    for name in files:
        with open(folder / name, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return fingerprint(digests) if digests else ""


def require_complete(folder: Path) -> Manifest:
    """The manifest of a finished stage. Raises StageError when it is missing or unfinished."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.status != "complete":
        state = "missing" if manifest is None else "not finished"
        raise StageError(f"{folder}: {state}. Run that stage first (the same command without --only or --from).")
    return manifest


def require_open(folder: Path, identity: Identity | None) -> Manifest:
    """The manifest of a stage that another process has opened. Raises StageError when none has, DriftError when it was made from other
    settings than `identity`.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise StageError(f"{folder}: is not open for workers. Start the stage with `reasondistill run` or `resume`.")
    if identity is not None and manifest.fingerprint != identity.fingerprint:
        raise DriftError(drift_message(folder, changed_keys(manifest.identity, identity.to_dict())))
    return manifest


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """The dotted keys whose values differ, with both values (None where absent)."""
    rows: list[tuple[str, Any, Any]] = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            rows += changed_keys(a, b, f"{prefix}{key}.")
        elif canonical_json(a) != canonical_json(b):
            rows.append((f"{prefix}{key}", a, b))
    return rows


def drift_message(folder: Path, changed: list[tuple[str, Any, Any]]) -> str:
    """One clear text: what changed, and the ways out."""
    shown = "; ".join(f"{name.removeprefix('section.')} was {_short(a)}, is {_short(b)}" for name, a, b in changed[:5])
    more = f" (and {len(changed) - 5} more)" if len(changed) > 5 else ""
    return (
        f"{folder}: made from other settings: {shown}{more}.\n"
        "Ways out: give the run another name (--set name=…), remove that folder to make it again, "
        "or go on with what it holds (--keep-old)."
    )


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def _grew(name: str, old: Any, new: Any, grows: tuple[str, ...]) -> bool:
    return name.removeprefix("section.") in grows and isinstance(old, int) and isinstance(new, int) and new >= old


# ---- stopping and metrics -----------------------------------------------------------------------------------------


class StopSignal:
    """While open, SIGINT and SIGTERM only set a flag: `check()` then raises Interrupted at the next safe point.

    A second signal acts at once, as usual. SIGUSR1, by which schedulers announce the end of the time, asks as well, but leaves `grace_s`
    seconds until it `is_urgent`: to end what is in hand, not to begin anything. Outside the main thread it does nothing.
    """

    def __init__(self, how_to_resume: str = "Run the same command to go on.") -> None:
        self.requested = False
        self._how = how_to_resume
        self._urgent_at = 0.0
        self._old: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.is_urgent:
            signal.signal(number, self._old[number])
            signal.raise_signal(number)
        self.requested, self._urgent_at = True, 0.0

    def _announce(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._urgent_at = True, time.monotonic() + float(os.environ.get(GRACE, "60"))

    @property
    def is_urgent(self) -> bool:
        """A stop was requested and what is in hand is to be dropped."""
        return self.requested and time.monotonic() >= self._urgent_at

    def check(self) -> None:
        """Raise Interrupted when a signal came in."""
        if self.requested:
            raise Interrupted(f"Stopped on request; everything finished so far is saved. {self._how}")

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread
                return self
        self._old[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._announce)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


def append_metrics(folder: Path, **values: Any) -> None:
    """Append one line to the folder's metrics.jsonl: numbers over time, for plots."""
    path = folder / "metrics.jsonl"
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        repair_tail(path)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values, ensure_ascii=False) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The folder's metrics lines, torn ones passed over; empty when there are none."""
    path = folder / "metrics.jsonl"
    return list(read_rows(path)) if path.exists() else []
