"""A folder at a URL and its copy: which files are fetched and published, in which order, and which
are never overwritten or removed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from reasondistill.errors import ConfigError, StageError, StorageError
from reasondistill.foreign_files import regular
from reasondistill.runs import layout
from reasondistill.runs.layout import JOURNAL
from reasondistill.runs.remote.journal import Journal, Same, read_journal
from reasondistill.runs.remote.objects import file_system, is_local, storage_errors
from reasondistill.runs.store import is_list, list_beside, require_no_links
from reasondistill.runs.store.lines import TAKEN_OUT

log = logging.getLogger(__name__)

# The environment variable with the seconds between two publishings.
PUBLISH_S = "REASONDISTILL_PUBLISH_S"
_PUBLISH_S = 120.0
# How long a publishing that must succeed is retried, when a file system fails.
PATIENCE_S = 300.0
# After so many failed files the others are not tried any more.
_FAILURES = 3
_SMALL = 4 << 20
_BLOCK = 16 << 20

# The marks of finished work, in the order in which they are published after all other files.
_MARKS = (
    layout.TRAINER_STATE,
    layout.CHECKPOINT_SUMS,
    layout.ATTEMPT,
    layout.MANIFEST_COPY,
    layout.MANIFEST,
)
# Hidden files that are published.
_DOTTED = (
    ".metadata",
    layout.MANIFEST_COPY,
    layout.FORECAST_COPY,
    layout.copy_of(layout.TOPK_HEADER),
    layout.copy_of(layout.TOPK_VOCABULARY),
)
# Every machine writes this file about its own command; the last one counts.
_ABOUT = (layout.RUN, f"{layout.LOGS}/", "ray/", f"{layout.SETTLED}/")

# The folders that are open in this process.
OPEN: list[Remote] = []

State = tuple[int, int]


def is_url(name: str) -> bool:
    return "://" in name


def is_weights(name: str) -> bool:
    """Whether a file is one of the large ones, which only training and sampling read."""
    return name.endswith(layout.WEIGHTS)


def left_at_url(folder: Path, names: Iterable[str]) -> set[str]:
    """Of these files of a run, the weights that a copy of the run in `folder` never had: a machine
    that only launches leaves them at the URL. None where the folder is no copy.
    """
    missing = {name for name in names if is_weights(name) and not (folder / name).exists()}
    if not missing or not (folder / JOURNAL).exists():
        return set()
    known = read_journal(folder)
    return {name for name in missing if name not in known or known[name].here is None}


def _publish_s() -> float:
    """Seconds between two publishings. Raises ConfigError."""
    text = os.environ.get(PUBLISH_S, str(_PUBLISH_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"{PUBLISH_S}={text}: must be a number of seconds above 0.")
    return seconds


def patiently(act: Callable[[], object]) -> None:
    """Retry for some minutes while a file system fails. Raises StorageError."""
    deadline, pause = time.monotonic() + PATIENCE_S, 1.0
    while True:
        try:
            act()
            return
        except StorageError as error:
            if time.monotonic() + pause > deadline:
                raise
            log.warning("%s. Next attempt in %.0f s.", error, pause)
        time.sleep(pause)
        pause = min(2 * pause, 60.0)


class Remote:
    """The folder `url`, and its copy `folder`. While open, changes are published every
    $REASONDISTILL_PUBLISH_S.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self._publish_s = url.rstrip("/"), folder, _publish_s()
        self._fs, self._root = file_system(self.url)
        self._known = Journal(folder)
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._publish_now_and_then, daemon=True)
        self.holds_unpublished = self._is_reached = False

    # ---- fetch -----------------------------------------------------------------------------------

    def fetch(
        self, is_wanted: Callable[[str], bool] = lambda name: True, *, is_first: bool = False
    ) -> int:
        """Fetch every needed file that has changed at the URL since both sides were the same;
        return how many were fetched.

        A file that has changed in the copy is kept, and published later. With `is_first`, a file
        that has changed on both sides is an error: another machine has worked on the run since.
        Raises StorageError, StageError.
        """
        with self._lock, storage_errors(self.url, "cannot be read"):
            files = self._found()
            changed = [
                name
                for name, info in files.items()
                if is_wanted(name) and _counts(Path(name)) and self._differs(name, info)
            ]
            if is_first:
                self._refuse_two_histories(
                    sorted(
                        name
                        for name in changed
                        if self._is_ours(name) and not name.startswith(_ABOUT)
                    )
                )
            came = sum(
                self._get(name, _version(files[name]))
                for name in changed
                if not self._is_ours(name)
            )
            for name in [
                name
                for name in self._known
                if name not in files and is_wanted(name) and self._is_gone(name)
            ]:
                self._drop(name)
            self._is_reached = True
        return came

    def _found(self) -> dict[str, Any]:
        """The files at the URL. Raises StageError when all of them are gone; the copy is kept."""
        self._fs.invalidate_cache()
        try:
            files: dict[str, Any] = self._fs.find(self._root, detail=True)
        except FileNotFoundError:
            files = {}
        if self._known and not files:
            raise StageError(
                f"{self.url}: is empty, although {len(self._known):,} files of {self.folder} "
                "had been published there. "
                f"To publish them again, remove {self.folder / JOURNAL}; to start again, "
                f"remove {self.folder}."
            )
        return {path[len(self._root) :].lstrip("/"): info for path, info in files.items()}

    def _differs(self, name: str, info: Mapping[str, Any]) -> bool:
        known = self._known.get(name)
        return known is None or known.here is None or known.there != _version(info)

    def _is_ours(self, name: str) -> bool:
        """Whether a file of the copy has content that was never published."""
        known, state = self._known.get(name), _state(self.folder / name)
        if state is None or (known is not None and known.here is None):
            return False
        return known is None or known.there is None or known.here != state

    def _refuse_two_histories(self, ours: list[str]) -> None:
        """Raise StageError when a file was not merely being published."""
        names = [
            name for name in ours if name not in self._known or self._known[name].there is not None
        ]
        if names:
            raise StageError(
                f"{self.folder}: {len(names):,} files, {names[0]} among them, changed here "
                f"and at {self.url} since both were the same: "
                "another machine has worked on this run. To continue from the files there, "
                f"remove {self.folder}."
            )

    def _get(self, name: str, version: str) -> bool:
        """Fetch one file, unless it was just removed from the URL or changed in the copy; return
        whether it was fetched.
        """
        target = self.folder / name
        require_no_links(target.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.fetched")
        temporary.unlink(missing_ok=True)
        try:
            self._fs.get_file(f"{self._root}/{name}", str(temporary))
        except FileNotFoundError:
            if self._is_gone(name):
                return False
            raise
        if self._is_ours(name):
            temporary.unlink()
            return False
        self._known[name] = Same(None, version)
        os.replace(temporary, target)
        self._known[name] = Same(_state(target), version)
        return True

    def _is_gone(self, name: str) -> bool:
        """Whether a file that no listing shows is really gone: some file systems omit from a
        listing what they fail to read.
        """
        try:
            self._fs.info(f"{self._root}/{name}")
        except FileNotFoundError:
            return True
        return False

    def _drop(self, name: str) -> None:
        """Remove from the copy what was removed from the URL, unless it has changed in the copy."""
        if not self._is_ours(name):
            (self.folder / name).unlink(missing_ok=True)
        del self._known[name]

    # ---- publish ---------------------------------------------------------------------------------

    def publish(self) -> int:
        """Publish every file that has changed in the copy, marks of finished work last, and remove
        what is gone; return how many were published.

        Raises StorageError, and StageError when the copy or all files at the URL have vanished.
        """
        advice = f". All work is in {self.folder}."
        with self._lock, storage_errors(self.url, "cannot be written", advice=advice):
            self._refuse_what_has_vanished()
            marks = {
                name: state for name, state in self._states() if _rank(name)
            }  # before all others: the files that they describe are older
            gone = [
                name for name in self._known if _state(self.folder / name) is None
            ]  # before all others: their lines went elsewhere
            here = dict(self._states())
            changed = [
                name
                for name, state in here.items()
                if self._is_to_put(name, state) and (not _rank(name) or marks.get(name) == state)
            ]
            lists = [name for name in map(_list_of, changed) if name in here]
            changed += sorted(set(lists) - set(changed))
            failed: dict[str, Exception] = {}
            put = 0
            for name in sorted(changed, key=_place_in_order):
                if len(failed) >= _FAILURES or (
                    _rank(name) and (failed or _state(self.folder / name) != here[name])
                ):
                    continue
                if _list_of(name) in failed:
                    continue
                try:
                    put += self._put(name, here[name])
                except Exception as error:  # one that fails does not hold up the others
                    failed[name] = error
            if failed:
                raise next(iter(failed.values()))
            for name in gone:
                if name not in here:
                    self._remove(name)
        self._is_reached = True
        return put

    def _refuse_what_has_vanished(self) -> None:
        """Raises StageError."""
        if not self._known:
            return
        if not (self.folder / JOURNAL).exists() or not any(True for _ in self._states()):
            raise StageError(
                f"{self.folder}: has vanished: nothing more is published, and {self.url} "
                "stays as it is."
            )
        self._fs.invalidate_cache()
        known = layout.RUN if layout.RUN in self._known else next(iter(self._known))
        if self._is_gone(known):
            self._found()

    def _is_to_put(self, name: str, state: State) -> bool:
        known = self._known.get(name)
        return known is None or (
            known.here is not None and (known.there is None or known.here != state)
        )

    def _put(self, name: str, state: State) -> bool:
        """Publish one file, unless it was just removed; return whether it was published."""
        self._known[name] = Same(state, None)
        source, target = self.folder / name, f"{self._root}/{name}"
        try:
            if is_local(self._fs):
                self._fs.makedirs(os.path.dirname(target), exist_ok=True)
                _copy(source, Path(f"{target}.part"), state)
                os.replace(f"{target}.part", target)
            else:
                self._send(source, target, state)
        except FileNotFoundError:
            if source.exists():
                raise
            return False
        self._fs.invalidate_cache(target)
        self._known[name] = Same(state, _version(self._fs.info(target)))
        return True

    def _send(self, source: Path, target: str, state: State) -> None:
        """Write an object. A file that grows meanwhile is sent as it was: some stores refuse an
        upload that is longer than announced.
        """
        size = _size_to_send(source, state)
        if source.suffix in (
            ".safetensors",
            ".pt",
            ".distcp",
        ):  # written once, and sent in parallel parts
            self._fs.put_file(str(source), target)
            return
        with open(source, "rb", opener=regular) as file:
            if size <= _SMALL:
                self._fs.pipe_file(target, file.read(size))
                return
            there = self._fs.open(target, "wb")
            try:
                while size and (block := file.read(min(size, _BLOCK))):
                    there.write(block)
                    size -= len(block)
                there.close()
            except BaseException:  # closing would create an object of what was sent so far
                there.discard()
                there.closed = True
                raise

    def _remove(self, name: str) -> None:
        """Remove from the URL what was removed from the copy."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{name}")
        del self._known[name]

    def _states(self) -> Iterator[tuple[str, State]]:
        """Every file of the copy. Raises OSError when a folder cannot be listed."""
        for place, _, names in os.walk(self.folder, onerror=_raise_unless_gone):
            for path in (Path(place, name) for name in names):
                if (
                    _counts(path.relative_to(self.folder))
                    and not path.is_symlink()
                    and (state := _state(path)) is not None
                ):
                    yield path.relative_to(self.folder).as_posix(), state

    def _publish_now_and_then(self) -> None:
        pause = self._publish_s
        while not self._ended.wait(pause):
            began = time.monotonic()
            try:
                if (
                    self._is_reached
                ):  # else it may turn out that another machine has worked on this run
                    self.publish()
            except StageError as error:  # the network comes back, or the last publishing says it
                log.warning("%s", error)
            pause = max(self._publish_s, 20 * (time.monotonic() - began))

    def __enter__(self) -> Remote:
        OPEN.append(self)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        OPEN.remove(self)
        if self._is_reached or error is None:
            self.holds_unpublished = True
            patiently(self.publish)
            self.holds_unpublished = False


def _list_of(name: str) -> str:
    """The file that lists the lines of a shard."""
    return str(list_beside(Path(name)))


def _size_to_send(source: Path, state: State) -> int:
    """How much of a file is sent. Of a shard that has grown not the new lines: their list was sent
    before it, and no line may be at the URL that is not listed there.
    """
    size = source.stat().st_size
    if list_beside(source).exists():
        return min(size, state[0])
    return size


def _copy(source: Path, target: Path, state: State) -> None:
    with open(source, "rb", opener=regular) as file, open(target, "wb") as there:
        size = _size_to_send(source, state)
        while size and (block := file.read(min(size, _BLOCK))):
            there.write(block)
            size -= len(block)


def _counts(name: Path) -> bool:
    """Files that are published: no temporary files (dotted, except an index that torch writes
    beside split weights, copies from which a repair puts back, and what was taken out of a shard),
    no claims, and no tokenised rows, which a machine makes by itself.
    """
    if name.name.endswith(".part") or name.parts[0] == layout.TOKENS:
        return False
    for part in name.parts:
        is_published = part in _DOTTED or part.endswith(TAKEN_OUT)
        if part == layout.CLAIMS or (part.startswith(".") and not is_published):
            return False
    return True


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _state(path: Path) -> State | None:
    """Size and time of a file; None when there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _version(info: Mapping[str, Any]) -> str:
    """A value that changes when a file at the URL does. Listings and single answers of a store may
    format a time differently, but have one ETag.
    """
    for key in ("ETag", "etag", "generation"):
        if info.get(key):
            return str(info[key]).strip('"')
    times = [str(info[key]) for key in ("mtime", "LastModified", "updated") if info.get(key)]
    return f"{info.get('size')} {' '.join(times)}"


def _place_in_order(name: str) -> tuple[bool, int, str]:
    """Lists of lines are published first, marks last."""
    return not is_list(Path(name)), _rank(name), name


def _rank(name: str) -> int:
    """0, or the number of the mark of finished work that a file is."""
    last = name.rpartition("/")[2]
    return _MARKS.index(last) + 1 if last in _MARKS else 0
