"""Single objects at a URL, on any file system that fsspec knows: names, contents, and making one
that only one process can make.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from reasondistill.errors import (
    ConfigError,
    MissingDependencyError,
    ReasonDistillError,
    StorageError,
)


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and its path there. Raises MissingDependencyError, ConfigError."""
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(error.name or "fsspec", "storage") from error
    except ValueError as error:
        raise ConfigError(f"storage = {url!r}: {error}") from error


def is_local(fs: Any) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


@contextmanager
def told(place: str, what: str, *, advice: str = "") -> Generator[None]:
    """Raise StorageError for whatever a file system raises: botocore's and aiohttp's errors are no
    OSErrors.
    """
    try:
        yield
    except ReasonDistillError:
        raise
    except Exception as error:
        raise StorageError(f"{place}: {what}: {type(error).__name__}: {error}{advice}") from error


def names_in(fs: Any, place: str) -> list[str]:
    """The names of the objects below a path; none when there is nothing. Raises StorageError."""
    fs.invalidate_cache()
    with told(place, "cannot be read"):
        try:
            return [path.rpartition("/")[2] for path in fs.ls(place, detail=False)]
        except FileNotFoundError:
            return []


def content_of(fs: Any, place: str, name: str) -> str | None:
    """What an object holds; None when it is not there. Raises StorageError."""
    with told(f"{place}/{name}", "cannot be read"):
        try:
            return fs.cat_file(f"{place}/{name}").decode()
        except FileNotFoundError:
            return None


def create(fs: Any, place: str, name: str, content: bytes) -> bool:
    """Make an object that does not exist yet, in one step that only one can win; say whether that
    was us. Raises StorageError.
    """
    path = f"{place}/{name}"
    with told(path, "cannot be written"):
        try:
            if is_local(fs):
                fs.makedirs(place, exist_ok=True)
                with open(path, "xb") as file:
                    file.write(content)
            else:
                fs.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except Exception:  # S3 answers two at the same moment with "conflict"
            fs.invalidate_cache()  # a listing from before does not have it
            if fs.exists(path):
                return False
            raise
    return True
