"""The registry of checks: each is one function of a run, which registers itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from reasondistill.pipeline import Run


@dataclass(frozen=True)
class RunCheck:
    """One check: `examine` raises a ReasonDistillError that says what is wrong, and what to do.

    A check that `reads_data` opens the sources, which may take a while.
    """

    name: str
    about: str
    examine: Callable[[Run], None]
    reads_data: bool


_CHECKS: dict[str, RunCheck] = {}


def run_check(
    *, reads_data: bool = False
) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Register a function of a run as a check under its own name."""

    def register(examine: Callable[[Run], None]) -> Callable[[Run], None]:
        about = inspect.getdoc(examine) or ""
        _CHECKS[examine.__name__] = RunCheck(examine.__name__, about, examine, reads_data)
        return examine

    return register


def all_checks() -> list[RunCheck]:
    """Every check, in the order in which they are made."""
    return list(_CHECKS.values())
