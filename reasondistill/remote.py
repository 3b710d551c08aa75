"""A run folder that lives at a URL (s3://, gs://, any file system that fsspec knows): fetched, worked on here, published.

    with Remote("s3://bucket/runs/demo", Path("runs/demo")) as remote:
        remote.fetch()
        ...                          # work in the folder; what has changed is published every few minutes, and at the end

Object stores show a file only when it is whole. Here a stage's manifest, the mark of being finished, is written after everything that it
speaks of. Only what changed here is written, what was removed here is removed there, and every file has one writer. Claims of workers are
made at the URL at once: as objects that must not exist before, which S3 and Google's store settle themselves.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from reasondistill.errors import ConfigError, MissingDependencyError, ReasonDistillError, StageError
from reasondistill.store import write_json

log = logging.getLogger(__name__)

# Marks of being finished, in the order in which they are published after everything else.
_MARKS = ("trainer_state.json", "attempt.json", "manifest.json")
_PUBLISH_S = 120.0
# Names in the environment: seconds between two publishings, and the folder for copies.
PUBLISH_S = "REASONDISTILL_PUBLISH_S"
SCRATCH = "REASONDISTILL_SCRATCH"
_MEMORY = ".remote.json"
_COPY, _LOCK = "reasondistill-copy-", ".lock"

_open: list[Remote] = []


def is_url(name: str) -> bool:
    return "://" in name


def is_weights(name: str) -> bool:
    """Whether a file is one of the large ones, which only training and sampling read."""
    return name.endswith((".safetensors", ".bin", ".pt"))


def claims_at(folder: Path) -> str | None:
    """The URL of a folder whose run lives elsewhere; None for one that all workers see."""
    for remote in _open:
        if folder.resolve().is_relative_to(remote.folder.resolve()):
            return f"{remote.url}/{folder.resolve().relative_to(remote.folder.resolve()).as_posix()}"
    return None


def exchange(folder: Path) -> None:
    """Publish what changed in a folder whose run lives elsewhere, and fetch what others changed, weights left out."""
    for remote in _open:
        if folder.resolve() == remote.folder.resolve():
            remote.publish()
            remote.fetch(lambda name: not is_weights(name))


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and its path there. Raises MissingDependencyError, ConfigError."""
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(error.name or "fsspec", "storage") from error
    except ValueError as error:
        raise ConfigError(f"storage = {url!r}: {error}") from error


@contextmanager
def _told(place: str, what: str, *, advice: str = "") -> Generator[None]:
    """Raise StageError for whatever a file system raises: botocore's and aiohttp's errors are no OSErrors."""
    try:
        yield
    except ReasonDistillError:
        raise
    except Exception as error:
        raise StageError(f"{place}: {what}: {type(error).__name__}: {error}{advice}") from error


def names_in(fs: Any, place: str) -> list[str]:
    """The names of the objects below a path; none when there is nothing. Raises StageError."""
    fs.invalidate_cache()
    with _told(place, "cannot be read"):
        try:
            return [path.rpartition("/")[2] for path in fs.ls(place, detail=False)]
        except FileNotFoundError:
            return []


def content_of(fs: Any, place: str, name: str) -> str | None:
    """What an object holds; None when it is not there. Raises StageError."""
    with _told(f"{place}/{name}", "cannot be read"):
        try:
            return fs.cat_file(f"{place}/{name}").decode()
        except FileNotFoundError:
            return None


def create(fs: Any, place: str, name: str, content: bytes) -> bool:
    """Make an object that does not exist yet, in one step that only one can win; say whether that was us. Raises StageError."""
    path = f"{place}/{name}"
    with _told(path, "cannot be written"):
        try:
            if _is_local(fs):
                fs.makedirs(place, exist_ok=True)
                with open(path, "xb") as file:
                    file.write(content)
            else:
                fs.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except Exception:  # S3 answers two at the same moment with "conflict"
            if fs.exists(path):
                return False
            raise
    return True


def _is_local(fs: Any) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


@dataclass(frozen=True)
class _Same:
    """Size and time of a file here, and its version there, when both were the same."""

    here: tuple[int, int]
    there: str


def _publish_s() -> float:
    """Seconds between two publishings. Raises ConfigError."""
    text = os.environ.get(PUBLISH_S, str(_PUBLISH_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"{PUBLISH_S}={text}: want a number of seconds above 0.")
    return seconds


class Remote:
    """The folder `url`, and the copy of it in `folder`. While open, changes are published every $REASONDISTILL_PUBLISH_S."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self._publish_s = url.rstrip("/"), folder, _publish_s()
        self._fs, self._root = file_system(self.url)
        self._known = self._remembered()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._publish_now_and_then, daemon=True)

    def fetch(self, is_wanted: Callable[[str], bool] = lambda name: True) -> int:
        """Get every wanted file that is another there than when it was last the same here; return how many came. Raises StageError."""
        came = 0
        with self._lock, _told(self.url, "cannot be read"):
            found = self._found()
            for name, info in found.items():
                known = self._known.get(name)
                if is_wanted(name) and _counts(Path(name)) and (known is None or known.there != _version(info)):
                    with suppress(FileNotFoundError):  # removed there a moment ago
                        self._get(name)
                        self._known[name] = _Same(_state(self.folder / name), _version(info))
                        came += 1
            for name in [name for name in self._known if name not in found and is_wanted(name) and self._is_gone(name)]:
                self._drop(name)
            self._remember()
        return came

    def _found(self) -> dict[str, Any]:
        """What is there. Raises StageError when all of it is gone: then it is kept here."""
        self._fs.invalidate_cache()
        try:
            found: dict[str, Any] = self._fs.find(self._root, detail=True)
        except FileNotFoundError:
            found = {}
        if self._known and not found:
            raise StageError(
                f"{self.url}: is empty, though {len(self._known):,} files of {self.folder} had been published there. "
                f"To publish them again, remove {self.folder / _MEMORY}; to begin anew, remove {self.folder}."
            )
        return {path[len(self._root) :].lstrip("/"): info for path, info in found.items()}

    def _is_gone(self, name: str) -> bool:
        """Whether a file that no listing shows is not there: some file systems leave out of a listing what they fail to read."""
        try:
            self._fs.info(f"{self._root}/{name}")
        except FileNotFoundError:
            return True
        return False

    def _drop(self, name: str) -> None:
        """Remove here what was removed there, unless it has changed here."""
        path = self.folder / name
        if path.exists() and _state(path) == self._known[name].here:
            path.unlink()
        del self._known[name]

    def _get(self, name: str) -> None:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.fetched")
        self._fs.get_file(f"{self._root}/{name}", str(temporary))
        os.replace(temporary, target)

    def publish(self) -> int:
        """Put every file that has changed here, marks of being finished last, and remove what is gone; return how many were put."""
        with self._lock, _told(self.url, "cannot be written", advice=f". What was done is in {self.folder}."):
            here = dict(self._states())
            known = {name: same.here for name, same in self._known.items()}
            changed = sorted((name for name, state in here.items() if known.get(name) != state), key=_order)
            for name in changed:
                try:
                    self._known[name] = _Same(here[name], self._put(name))
                except FileNotFoundError:
                    if (self.folder / name).exists():  # else it was removed here a moment ago
                        raise
            for name in [name for name in self._known if name not in here]:
                if self._fs.exists(f"{self._root}/{name}"):
                    self._fs.rm_file(f"{self._root}/{name}")
                del self._known[name]
            self._remember()
        return len(changed)

    def _put(self, name: str) -> str:
        """Put one file; return its version there."""
        target = f"{self._root}/{name}"
        if _is_local(self._fs):
            self._fs.makedirs(os.path.dirname(target), exist_ok=True)
            self._fs.put_file(str(self.folder / name), f"{target}.part")
            os.replace(f"{target}.part", target)
        else:
            self._fs.put_file(str(self.folder / name), target)
            self._fs.invalidate_cache(target)
        return _version(self._fs.info(target))

    def _remember(self) -> None:
        """What is the same here and there, for the next process."""
        write_json(self.folder / _MEMORY, {name: [*same.here, same.there] for name, same in self._known.items()})

    def _remembered(self) -> dict[str, _Same]:
        path = self.folder / _MEMORY
        if not path.exists():
            return {}
        rows: dict[str, list[Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: _Same((row[0], row[1]), row[2]) for name, row in rows.items()}

    def _states(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for place, _, names in os.walk(self.folder):
            for path in (Path(place, name) for name in names):
                with suppress(FileNotFoundError):  # what is worked on here comes and goes
                    if path.is_file() and not path.is_symlink() and _counts(path.relative_to(self.folder)):
                        yield path.relative_to(self.folder).as_posix(), _state(path)

    def _publish_now_and_then(self) -> None:
        pause = self._publish_s
        while not self._ended.wait(pause):
            began = time.monotonic()
            try:
                self.publish()
            except StageError as error:  # the network comes back, or the last publishing says it
                log.warning("%s", error)
            pause = max(self._publish_s, 20 * (time.monotonic() - began))

    def __enter__(self) -> Remote:
        _open.append(self)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        _open.remove(self)
        self.publish()


@contextmanager
def lent(folder: str, is_wanted: Callable[[str], bool]) -> Generator[Path]:
    """A run folder for one process: itself when it is a path, else a copy of what is wanted of a URL, whose changes are published.

    Copies lie in $REASONDISTILL_SCRATCH, or where temporary files do, and are removed at the end; those of processes that were killed
    when the next one begins.
    """
    if not is_url(folder):
        yield Path(folder)
        return
    with _scratch(Path(os.environ.get(SCRATCH) or tempfile.gettempdir())) as place:
        here = place / folder.rstrip("/").rpartition("/")[2]
        with Remote(folder, here) as remote:
            remote.fetch(is_wanted)
            yield here


@contextmanager
def _scratch(parent: Path) -> Generator[Path]:
    """A new folder in `parent`, removed at the end. Those of this machine that nobody locks any more were of killed processes: they go."""
    prefix = f"{_COPY}{socket.gethostname()}-"
    for left in parent.glob(f"{prefix}*/{_LOCK}"):
        with suppress(OSError), open(left, "ab") as lock:  # another user's; no locks on this file system; alive
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)
    try:
        hidden = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=parent))  # till it is locked
    except OSError as error:
        raise ConfigError(f"{SCRATCH}={parent}: no copy can be made there: {error}") from error
    place = parent / hidden.name.removeprefix(".")
    with open(hidden / _LOCK, "wb") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(place)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _counts(name: Path) -> bool:
    """Files of ours; not what is only on the way (dotted), nor claims."""
    return not any(part.startswith(".") or part == "claims" for part in name.parts) and not name.name.endswith(".part")


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _version(info: Mapping[str, Any]) -> str:
    """What changes when a file there does: its ETag, or size and time."""
    times = [str(info[key]) for key in ("ETag", "etag", "generation", "mtime", "LastModified", "updated") if info.get(key)]
    return f"{info.get('size')} {' '.join(times)}"


def _order(name: str) -> tuple[int, str]:
    last = Path(name).name
    return (_MARKS.index(last) + 1 if last in _MARKS else 0), name
