"""What a library raises while it loads a model, as one line of ours.

    with loading(f"model {source}", source):
        config = AutoConfig.from_pretrained(source)

A stranger's config.json can make a library raise anything: KeyError, ZeroDivisionError,
AssertionError. Only the call of the library stands inside, so that faults of ours stay visible.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reasondistill.errors import ConfigError, ReasonDistillError, is_panic
from reasondistill.runs.memory import is_out_of_memory

# What is wrong with the folder and not with its disk; libraries raise OSError without a number.
_OF_FILES = (None, errno.ENOENT, errno.EISDIR, errno.EINVAL)
# The library logs a table and raises a text that points to it.
_OTHER_SHAPES = "ignore_mismatched_sizes"


@contextmanager
def loading(
    what: str, source: str | Path, *, passing: tuple[type[Exception], ...] = ()
) -> Generator[None]:
    """Raise ConfigError, `what` and the cause in one line, for what a library raises inside while
    it loads the folder or hub id `source`.

    Errors of ours and those of `passing` pass, as do a package that is missing, want of memory, and
    what a disk or a hub refuses.
    """
    try:
        yield
    except (ReasonDistillError, ImportError, MemoryError, *passing):
        raise
    except Exception as error:  # a library raises whatever its input makes it raise
        # Where shapes differ, giant numbers of the config are at fault, not the memory.
        has_other_shapes = _OTHER_SHAPES in str(error)
        is_out = is_out_of_memory(error) and not has_other_shapes
        if is_out or is_of_disk_or_hub(error, source):
            raise
        raise cannot_load(what, error) from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise cannot_load(what, error) from error


def is_of_disk_or_hub(error: Exception, source: str | Path) -> bool:
    """Whether the same files could be loaded another time."""
    if not isinstance(error, OSError):
        return False
    return not Path(source).is_dir() or error.errno not in _OF_FILES


def cannot_load(what: str, error: BaseException) -> ConfigError:
    """The ConfigError for what cannot be loaded, with the first words of the library's."""
    if _OTHER_SHAPES in str(error):
        return ConfigError(
            f"{what} cannot be loaded: its weights have other shapes than its config.json says."
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = type(error).__name__
    if lines:
        reason = f"{reason}: {lines[0][:300]}"
    return ConfigError(f"{what} cannot be loaded: {reason}")


def require_no_methods(values: Any, kind: type, where: object) -> None:
    """Raise ConfigError for a config that says `{"validate": 3}`: the library would set the value
    in place of its own method.
    """
    for name in values:
        if callable(getattr(kind, str(name), None)) and not str(name).startswith("__"):
            raise ConfigError(f"{where}: {str(name)!r} is no key of such a file.")
