"""Checking a run: is every finished file what its stage wrote?

    for checked in check_run(open_tree("runs/demo")):      # or a URL
        checked.place, checked.bytes, checked.faults

Nothing is changed, and nothing that a fault may have spoilt is believed: a file of a stage whose
manifest is damaged cannot be judged, and is said to be so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from reasondistill.errors import DataError, StageError, StorageError
from reasondistill.foreign_files import regular
from reasondistill.runs import layout
from reasondistill.runs.layout import FOLDERS, MANIFEST, STAGE_FOLDERS
from reasondistill.runs.remote import file_system, is_url, left_at_url, storage_errors
from reasondistill.runs.store import FileSum, Manifest
from reasondistill.runs.store.guards import parse_guarded
from reasondistill.runs.store.lines import SUFFIX as LIST_SUFFIX
from reasondistill.runs.store.lines import lists_none_of, parse_list
from reasondistill.runs.store.manifests import parse_manifest
from reasondistill.runs.store.sums import digest_of, is_lost, missing, other_size, refused
from reasondistill.runs.store.verified import parse_sums

_STUDENTS = FOLDERS["students"]
# Files that guard themselves, as patterns in the run's folder.
_GUARDED = (layout.RUN, layout.FORECAST, f"{FOLDERS['evals']}/*/*/{layout.LATENCY}")
# The sums of caches, as patterns in the run's folder.
_CACHES = (
    f"{layout.TOKENS}/*.{layout.CHECKPOINT_SUMS}",
    f"{_STUDENTS}/*/{layout.CHECKPOINTS}/[!.]*/{layout.CHECKPOINT_SUMS}",
)
Tell = Callable[[int], None]


@dataclass(frozen=True)
class Fault:
    """A damaged file of a stage folder (`place`; empty for the run's own), and what was found."""

    place: str
    name: str
    found: str
    # The disk or its server did not give it back; it may do so later.
    is_out_of_reach: bool = False

    @property
    def path(self) -> str:
        """The file's path in the run's folder."""
        return str(PurePosixPath(self.place) / self.name)


@dataclass
class CheckedFolder:
    """One stage folder: how much was read, and what is damaged.

    `state` is complete, partial (its stage is not finished: lines are judged when the same command
    goes on, here only whether they can be), without sums
    (an earlier version finished it) or no manifest (one that is missing or cannot be read). A cache
    (tokenised rows, a checkpoint) has no manifest, and is made again where it is damaged.
    """

    place: str
    state: str = "complete"
    files: int = 0
    bytes: int = 0
    # Weights that were never fetched from the run's URL.
    elsewhere: int = 0
    is_cache: bool = False
    faults: list[Fault] = field(default_factory=list[Fault])

    @property
    def is_unfinished(self) -> bool:
        """Whether its stage has still to finish it: its files were not read."""
        return self.state not in ("complete", "without sums", "no manifest")


class Tree(Protocol):
    """A run's folder, here or at a URL."""

    name: str

    def sizes(self) -> Mapping[str, int]:
        """Every file's size in bytes, by its path in the folder."""
        ...

    def left_at_url(self, paths: Iterable[str]) -> set[str]:
        """Of these files those that this copy of a run never had."""
        ...

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file, open for reading. Raises OSError for one that cannot be read, and StorageError
        where nothing at a URL can be.
        """
        ...


class LocalTree:
    """A run's folder on this machine. With `is_whole` a copy of one at a URL has all that is there:
    what it lacks is missing.
    """

    def __init__(self, folder: Path, *, is_whole: bool = False) -> None:
        self.name, self._folder, self._is_whole = str(folder), folder, is_whole

    def sizes(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for top, folders, names in os.walk(self._folder, onerror=_unlisted, followlinks=True):
            if _leads_back(Path(top)):
                folders.clear()
                continue
            for name in names:
                path = Path(top, name)
                with suppress(FileNotFoundError):  # another process has just removed it
                    if path.is_file():
                        found[path.relative_to(self._folder).as_posix()] = path.stat().st_size
        return found

    def left_at_url(self, paths: Iterable[str]) -> set[str]:
        if self._is_whole:
            return set()
        return left_at_url(self._folder, paths)

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        return open(self._folder / path, "rb", buffering=0, opener=regular)


def _unlisted(error: OSError) -> None:
    """A folder of which nobody can say what is in it is not passed over."""
    if not isinstance(error, FileNotFoundError):
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror}).") from error


def _leads_back(folder: Path) -> bool:
    """Whether it is a link to a folder that it lies in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


class UrlTree:
    """A run's folder at a URL: read in place, no copy is made."""

    def __init__(self, url: str) -> None:
        self.name = url.rstrip("/")
        self._fs, self._root = file_system(self.name)

    def sizes(self) -> Mapping[str, int]:
        with storage_errors(self.name, "cannot be read"):
            found: dict[str, Any] = self._fs.find(self._root, detail=True)
        sizes: dict[str, int] = {}
        for path, info in found.items():
            size = info.get("size")
            if not isinstance(size, int):
                raise StorageError(f"{self.name}: cannot be checked: {path} has no size there.")
            sizes[path[len(self._root) :].lstrip("/")] = size
        return sizes

    def left_at_url(self, paths: Iterable[str]) -> set[str]:
        return set()

    @contextmanager
    def open(self, path: str) -> Generator[BinaryIO]:
        # One that is gone is damage; a store that does not answer says nothing of what it holds.
        errors = storage_errors(f"{self.name}/{path}", "cannot be read", but=(FileNotFoundError,))
        with errors, self._fs.open(f"{self._root}/{path}", "rb") as file:
            yield file


def open_tree(name: str) -> Tree:
    """The run folder of this path or URL. Raises StageError when there is none."""
    tree: Tree = LocalTree(Path(name))
    if is_url(name):
        tree = UrlTree(name)
    if not any(fnmatch(path, f"[1-7]-*/*{MANIFEST}") for path in tree.sizes()):
        raise StageError(f"{name}: not a run folder (no stage in it has a {MANIFEST}).")
    return tree


def check_run(tree: Tree, tell: Tell = lambda count: None) -> Iterator[CheckedFolder]:
    """Check every stage folder in the order of stages, caches, then the run's own files; `tell` is
    called with the bytes that were read since.
    """
    sizes = tree.sizes()
    for place in sorted(_places(sizes)):
        yield check_folder(tree, place, sizes, tell)
    for place, paths in _caches(sizes).items():
        yield _check_cache(tree, place, paths, sizes, tell)
    own = CheckedFolder("")
    if layout.FORECAST_COPY in sizes and layout.FORECAST not in sizes:
        own.faults.append(Fault("", layout.FORECAST, "it is missing"))
    for path in sorted(sizes):
        if any(fnmatch(path, pattern) for pattern in _GUARDED):
            own.files, own.bytes = own.files + 1, own.bytes + sizes[path]
            own.faults += _check_guarded(tree, path)
    yield own


def bytes_to_read(tree: Tree) -> int:
    """The bytes of all files in stage folders and of tokenised rows."""
    tops = (*FOLDERS.values(), layout.TOKENS)
    sizes = tree.sizes().items()
    return sum(size for path, size in sizes if path.partition("/")[0] in tops)


def _places(sizes: Mapping[str, int]) -> set[str]:
    """The stage folders: those with a manifest, and those with files that should have one."""
    places: set[str] = set()
    for path in sizes:
        folder = str(PurePosixPath(path).parent)
        name = PurePosixPath(path).name
        if folder == _STUDENTS or name.startswith("."):
            continue
        if any(_fits(folder, pattern) for pattern in STAGE_FOLDERS):
            places.add(folder)
    return places


def _fits(folder: str, pattern: str) -> bool:
    """As fnmatch, but a star stays within one part of the path."""
    parts, patterns = folder.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch, parts, patterns))


def check_folder(tree: Tree, place: str, sizes: Mapping[str, int], tell: Tell) -> CheckedFolder:
    """Check the files that the manifest of a stage folder lists."""
    checked = CheckedFolder(place)
    path = f"{place}/{MANIFEST}"
    if path not in sizes:
        checked.state = "no manifest"
        checked.faults.append(Fault(place, MANIFEST, "it is missing"))
        return checked
    try:
        with tree.open(path) as file:
            manifest = parse_manifest(Path(path), file.read())
    except (DataError, OSError) as error:
        checked.state = "no manifest"
        checked.faults.append(_fault(place, MANIFEST, error))
        return checked
    checked.faults += _lost_lists(tree, place, sizes)
    if manifest.status != "complete" or not manifest.files:
        checked.state = _state_of(manifest)
        return checked
    _check_files(tree, checked, manifest.files, sizes, tell)
    return checked


def _lost_lists(tree: Tree, place: str, sizes: Mapping[str, int]) -> Iterator[Fault]:
    """The lists beside unfinished shards of a stage folder that are damaged from end to end."""
    own = (f"{place}/*", f"{place}/{layout.TOPK}/*")
    of_workers = f"{place}/{layout.PARTS}/*"
    for path in sorted(sizes):
        shard = path.removesuffix(LIST_SUFFIX)
        is_of_place = any(_fits(path, one) for one in own) or fnmatch(path, of_workers)
        is_beside = path.endswith(f".jsonl{LIST_SUFFIX}") and sizes.get(shard, 0) > 0
        if not is_of_place or not is_beside or shard.endswith(layout.METRICS):
            continue
        name = str(PurePosixPath(path).relative_to(place))
        try:
            with tree.open(path) as file:
                listed = parse_list(file.read().splitlines(keepends=True))
        except OSError as error:
            yield _fault(place, name, error)
            continue
        if listed.is_lost:
            yield Fault(place, name, lists_none_of(PurePosixPath(shard).name))


def _check_files(
    tree: Tree,
    checked: CheckedFolder,
    files: Mapping[str, FileSum],
    sizes: Mapping[str, int],
    tell: Tell,
) -> None:
    """Check the files with these sums in a folder, and note what was found."""
    elsewhere = tree.left_at_url(f"{checked.place}/{name}" for name in files)
    checked.elsewhere += len(elsewhere)
    for name, known in files.items():
        path = f"{checked.place}/{name}"
        if path in elsewhere:
            continue
        checked.files += 1
        size = sizes.get(path)
        try:
            found = _damage_of(tree, path, size, known, tell)
        except OSError as error:
            checked.faults.append(_fault(checked.place, name, error))
            continue
        if found:
            checked.faults.append(Fault(checked.place, name, found))
        elif size is not None:
            checked.bytes += size


# ---- caches: tokenised rows, and what a training goes on from ------------------------------------


def _caches(sizes: Mapping[str, int]) -> dict[str, list[str]]:
    """The files with sums of caches, by their folder."""
    caches: dict[str, list[str]] = {}
    for path in sorted(sizes):
        if any(_fits(path, pattern) for pattern in _CACHES):
            caches.setdefault(str(PurePosixPath(path).parent), []).append(path)
    return caches


def _check_cache(
    tree: Tree, place: str, paths: Sequence[str], sizes: Mapping[str, int], tell: Tell
) -> CheckedFolder:
    checked = CheckedFolder(place, is_cache=True)
    for path in paths:
        try:
            with tree.open(path) as file:
                sums = parse_sums(file.read(), path)
        except (DataError, OSError) as error:
            checked.faults.append(_fault(place, PurePosixPath(path).name, error))
            continue
        _check_files(tree, checked, sums, sizes, tell)
    return checked


def _state_of(manifest: Manifest) -> str:
    if manifest.status == "complete":
        return "without sums"
    return manifest.status


def _damage_of(tree: Tree, path: str, size: int | None, known: FileSum, tell: Tell) -> str:
    """What is wrong with a file; empty where nothing is. Raises OSError where it cannot be read."""
    if size is None:
        return missing(known)
    if size != known.size:
        return other_size(size, known)
    with tree.open(path) as file:
        wrong = list(_wrong_blocks(file, known, tell))
    if not wrong:
        return ""
    return known.where(wrong)


def _wrong_blocks(file: BinaryIO, known: FileSum, tell: Tell) -> Iterator[int]:
    """The numbers of the blocks of an open file that are not what was written."""
    for number in range(known.blocks):
        block = _read_block(file, known.block)
        if digest_of(block) != known.digest(number):
            yield number
        tell(len(block))


def _read_block(file: BinaryIO, size: int) -> bytes:
    """The next bytes, also from a file that gives fewer at once."""
    block = file.read(size)
    while 0 < len(block) < size:
        more = file.read(size - len(block))
        if not more:
            break
        block += more
    return block


def _check_guarded(tree: Tree, path: str) -> Iterator[Fault]:
    try:
        with tree.open(path) as file:
            parse_guarded(file.read(), path, "what was written", "")
    except (DataError, OSError) as error:
        yield _fault("", path, error)


def _fault(place: str, name: str, error: DataError | OSError) -> Fault:
    """What an error says of a file, without its path and the ways out, which stand elsewhere."""
    if isinstance(error, FileNotFoundError):
        return Fault(place, name, "it is missing")
    if isinstance(error, OSError):
        return Fault(place, name, refused(error), not is_lost(error))
    path = PurePosixPath(place) / name
    said = str(error).removeprefix(f"{path}: ")
    return Fault(place, name, said.partition(" Ways out:")[0].strip().rstrip("."))
