"""What is imported late, and how large packages are imported without delay."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def no_collections() -> Generator[None]:
    """No garbage is collected while modules are imported: torch, vLLM and their like make 1.2
    million objects, none of them garbage, and looking at these again and again took a tenth to a
    fifth of that time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def late(package: str, homes: Mapping[str, tuple[str, ...]]) -> Callable[[str], object]:
    """The `__getattr__` of a package whose names are imported when they are first asked for.
    `homes`: module below the package → the names that it has.

    >>> late("json", {"decoder": ("JSONDecodeError",)})("JSONDecodeError").__name__
    'JSONDecodeError'
    """

    def find(name: str) -> object:
        for home, names in homes.items():
            if name in names:
                value = getattr(import_module(f"{package}.{home}"), name)
                setattr(sys.modules[package], name, value)
                return value
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
