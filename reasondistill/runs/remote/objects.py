"""Single objects at a URL, on any file system of fsspec: names, contents, and creating an object
that only one process can create.
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
    """The file system of a URL, and its path there. Raises MissingDependencyError, ConfigError,
    StorageError: some ask a server here already.
    """
    try:
        import fsspec

        with storage_errors(url, "cannot be reached", but=(ImportError, ValueError)):
            return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(error.name or "fsspec", "storage") from error
    except ValueError as error:
        raise ConfigError(f"storage = {url!r}: {error}") from error


def is_local(fs: Any) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


@contextmanager
def storage_errors(
    place: str, what: str, *, advice: str = "", but: tuple[type[Exception], ...] = ()
) -> Generator[None]:
    """Turn every error of a file system into a StorageError, but these: those of botocore and
    aiohttp are not OSErrors.
    """
    try:
        yield
    except (ReasonDistillError, *but):
        raise
    except Exception as error:
        raise StorageError(f"{place}: {what}: {type(error).__name__}: {error}{advice}") from error


def names_in(fs: Any, place: str) -> list[str]:
    """The names of the objects below a path; none when there is nothing. Raises StorageError."""
    fs.invalidate_cache()
    with storage_errors(place, "cannot be read"):
        try:
            return [path.rpartition("/")[2] for path in fs.ls(place, detail=False)]
        except FileNotFoundError:
            return []


def content_of(fs: Any, place: str, name: str) -> str | None:
    """The content of an object; None when it does not exist. Raises StorageError."""
    with storage_errors(f"{place}/{name}", "cannot be read"):
        try:
            return fs.cat_file(f"{place}/{name}").decode()
        except FileNotFoundError:
            return None


def create(fs: Any, place: str, name: str, content: bytes) -> bool:
    """Create an object that does not exist yet, in one step in which only one process succeeds;
    return whether it was this one. Raises StorageError.
    """
    path = f"{place}/{name}"
    with storage_errors(path, "cannot be written"):
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
