"""Reading what a finished stage wrote: whatever its manifest lists is verified while it is read.

    with open_verified(path) as file: ...    # records, line by line
    read_text_verified(path)                 # student.json, scores.json, report.json
    verify_below(model_folder)               # before a library opens what lies there

A file belongs to the stage folder nearest above it whose manifest lists it. Files of unfinished
stages, of earlier versions and from elsewhere have no sums, and are read as they are.
"""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from reasondistill import foreign_json
from reasondistill.errors import DataError
from reasondistill.foreign_files import read_bytes, regular
from reasondistill.records import canonical_json
from reasondistill.runs.layout import MANIFEST, MANIFEST_COPY, is_named_as_stage
from reasondistill.runs.seals import is_ours, seal
from reasondistill.runs.store.guards import parse_guarded, read_guarded, write_guarded
from reasondistill.runs.store.manifests import Manifest, read_manifest
from reasondistill.runs.store.sums import (
    FileSum,
    SummedFile,
    opened,
    refused,
    sum_of,
    unreadable,
    verify,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

log = logging.getLogger(__name__)

# Of the folders above a file, how many may be its stage's: snapshots/step-5/model.safetensors.
_DEPTH = 4
# Manifests that were read: by path, the state of the file then; None for those of others.
_MANIFESTS: dict[Path, tuple[tuple[int, int, int], Manifest | None]] = {}
# Bytes that a reader takes from a verified block at once.
_BUFFER = 1 << 16
# What was verified in this process: path, size and time.
_VERIFIED: set[tuple[str, int, int]] = set()


@dataclass(frozen=True)
class ListedFile:
    """A file that the manifest of a stage folder lists."""

    folder: Path
    name: str
    known: FileSum

    @property
    def path(self) -> Path:
        return self.folder / self.name


def listed(path: Path) -> ListedFile | None:
    """What is known of a file; None where no finished stage has listed it."""
    path = path.absolute()
    for folder in path.parents[:_DEPTH]:
        manifest = _finished(folder)
        if manifest is not None:
            name = path.relative_to(folder).as_posix()
            known = manifest.files.get(name)
            if known is None:
                return None
            return ListedFile(folder, name, known)
    return None


def _finished(folder: Path) -> Manifest | None:
    """The manifest of a finished stage folder; None where there is none, or that of others."""
    path = folder / MANIFEST
    try:
        stat = path.stat()
    except OSError:
        return None
    state = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    remembered = _MANIFESTS.get(path)
    if remembered is None or remembered[0] != state:
        manifest = None
        if _is_of_a_stage(folder):
            manifest = read_manifest(folder)
        remembered = (state, manifest)
        _MANIFESTS[path] = remembered
    manifest = remembered[1]
    if manifest is None or manifest.status != "complete":
        return None
    return manifest


def _is_of_a_stage(folder: Path) -> bool:
    """Whether the manifest in a folder is a stage's: others write files of that name too, in any
    format, above whatever a user names. Where a stage's would be, one that cannot be read is a
    damaged one.
    """
    if is_named_as_stage(folder) or (folder / MANIFEST_COPY).exists():
        return True
    try:
        value: Any = foreign_json.loads(read_bytes(folder / MANIFEST))
    except (OSError, ValueError, DataError):
        return False
    return isinstance(value, dict) and {"identity", "fingerprint", "status"} <= value.keys()


def open_verified(path: Path) -> BinaryIO:
    """The file, open for reading. Raises DataError for one that is not what its stage wrote, at the
    latest when the damaged block is read.
    """
    found = listed(path)
    if found is None:
        return cast("BinaryIO", io.BufferedReader(_NamedFile(path, opener=regular), _BUFFER))
    return cast("BinaryIO", io.BufferedReader(SummedFile(path, found.known), _BUFFER))


class _NamedFile(io.FileIO):
    """A file that no stage has listed. An error in the middle of it says no name by itself."""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        with self._errors():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with self._errors():
            return super().readall()

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.name}: {refused(error)}. If the disk or its server was only out of reach, "
                "the same command goes on."
            ) from error


def open_sized(path: Path) -> BinaryIO:
    """The file, open for reading of samples of it; only its size is compared, for a block would be
    read whole to verify a few bytes. Raises DataError for a file that is missing, or has another
    size than its stage wrote.
    """
    found = listed(path)
    if found is not None:
        opened(path, found.known).close()
    return open(path, "rb", opener=regular)


def read_bytes_verified(path: Path) -> bytes:
    """The content of a file. Raises DataError as `open_verified`."""
    with open_verified(path) as file:
        return file.read()


def read_text_verified(path: Path) -> str:
    """The text of a file. Raises DataError as `open_verified`."""
    return read_bytes_verified(path).decode("utf-8")


def exists_verified(path: Path) -> bool:
    """Whether there is such a file. Raises DataError for one that is missing although its stage
    wrote it.
    """
    if path.exists():
        return True
    found = listed(path)
    if found is not None:
        verify(path, found.known)
    return False


def verify_below(path: Path) -> None:
    """Read a file, or every listed file in a folder and below it: once in a process. For what a
    library opens: weights, Parquet, memory-mapped files.

    Raises DataError for one that is missing or is not what its stage wrote.
    """
    for file in _listed_below(path.absolute()):
        state = _state_of(file.path)
        if state not in _VERIFIED:
            log.debug("%s: %d bytes are verified", file.path, file.known.size)
            verify(file.path, file.known)
            _VERIFIED.add(state)


def _state_of(path: Path) -> tuple[str, int, int]:
    """What tells a file from what it was; size −1 where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return str(path), -1, 0
    return str(path), stat.st_size, stat.st_mtime_ns


def _listed_below(path: Path) -> Iterator[ListedFile]:
    for folder in (path, *path.parents[:_DEPTH]):
        manifest = _finished(folder)
        if manifest is None:
            continue
        for name, known in manifest.files.items():
            if (folder / name).is_relative_to(path):
                yield ListedFile(folder, name, known)
        return


# ---- caches and checkpoints ----------------------------------------------------------------------


def write_sums(path: Path, files: Iterable[Path], *, sealed_as: str = "") -> None:
    """Write the sums of the files of a cache or a checkpoint into a file beside or above them;
    `sealed_as` also a seal of this kind (seals.py).
    """
    sums: dict[str, Any] = {}
    for file in files:
        name = file.relative_to(path.parent).as_posix()
        sums[name] = asdict(sum_of(file))
    value: dict[str, Any] = {"files": sums}
    if sealed_as:
        value["seal"] = seal(sealed_as, canonical_json(sums))
    write_guarded(path, value)


def has_own_seal(path: Path, sealed_as: str) -> bool:
    """Whether this user has written the sums in a file, as `write_sums` did. Raises DataError for
    a file that is not what was written; False where there is none.
    """
    if not path.exists():
        return False
    value = read_guarded(path, "sums of files", "")
    return is_ours(sealed_as, canonical_json(value.get("files")), str(value.get("seal", "")))


def verify_sums(path: Path) -> None:
    """Read all files whose sums `write_sums` wrote. Raises DataError when one of them, or what was
    written, is damaged or cannot be read.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise unreadable(path, error) from error
    for name, known in parse_sums(content, str(path)).items():
        verify(path.parent / name, known)


def set_aside(folder: Path) -> Path:
    """Rename a damaged folder to `.damaged-NAME`, which nobody reads; return its new path."""
    aside = folder.with_name(f".damaged-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    return aside


def fits_sums(path: Path) -> bool:
    """Whether the files of a cache are those whose sums `write_sums` wrote; False also where these
    are missing or damaged. A cache is made anew then.
    """
    if not path.exists():
        return False
    try:
        verify_sums(path)
    except DataError as error:
        log.warning("%s: made anew: %s", path.parent, error)
        return False
    return True


def parse_sums(content: bytes, path: str) -> dict[str, FileSum]:
    """What `write_sums` wrote into the file `path`: the sum of each file by its path in the same
    folder. Raises DataError when it cannot be read or is not what was written.
    """
    value = parse_guarded(content, path, "sums of files", "")
    try:
        sums = {name: FileSum(**known) for name, known in value["files"].items()}
        for name, known in sums.items():
            _require_sum(name, known)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not sums of files: {error}.") from error
    return sums


def _require_sum(name: str, known: FileSum) -> None:
    """Raise TypeError for what no file has: whoever made the folder may have written anything."""
    for key in ("size", "time", "block"):
        if type(getattr(known, key)) is not int:
            raise TypeError(f"{key} of {name} is no whole number")
    if known.size < 0 or known.block < 1:
        raise TypeError(f"{name} has a size that no file has")
    if type(known.digests) is not str:
        raise TypeError(f"digests of {name} are no text")
