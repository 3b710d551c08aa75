"""Checks: what is looked at before anything is paid for. Each stands beside what it judges and
registers itself here; `doctor/` lists them all, and hands each what it looks at.

    @check(Batch, "nothing-learnt", cost="tokens", remedy="reasondistill run FILE --until examples")
    def something_is_learnt(batch: Batch) -> Iterator[Fault | Advice]:
        \"\"\"Every row has a token that is learnt.\"\"\"
        for text in batch.texts:
            if not text.learnt:
                yield Fault(StageError(f"{text.name}: no token of it is learnt."))

A check raises the error with which the run itself would end, or yields what it finds. A remedy is a
command: FILE in it stands for the pipeline file.
"""

from __future__ import annotations

import inspect
import json
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

from reasondistill.errors import ReasonDistillError

Subject = TypeVar("Subject")

# What a check takes, the least first.
Cost = Literal["files", "rows", "tokens", "server", "batch", "data", "weights"]
COSTS: tuple[Cost, ...] = get_args(Cost)
COST_WORDS: dict[Cost, str] = {
    "files": "reads settings, headers and the run's folder",
    "rows": "reads the first rows of each source",
    "tokens": "loads tokenizers and a few rows",
    "server": "asks each server what it serves",
    "batch": "makes a batch as training does",
    "data": "reads all problems and what was made of them",
    "weights": "loads models",
}
# A dry run and a run make the same ones; what takes more, `doctor` alone. The rows are read by a
# run's first stage, which says the same of them at once.
BEFORE_A_RUN: tuple[Cost, ...] = ("files", "tokens", "server")
IN_A_DRY_RUN: tuple[Cost, ...] = (*BEFORE_A_RUN, "rows")


@dataclass(frozen=True)
class Fault:
    """What is wrong, as an error; another `remedy` than the check's, where there is a nearer one.

    One that `stops` no run costs what it makes: a run says it and goes on, `doctor` fails on it.
    """

    error: ReasonDistillError
    remedy: str | None = None
    stops: bool = True


@dataclass(frozen=True)
class Advice:
    """What is no fault, and better done otherwise."""

    text: str
    remedy: str | None = None


Found = Iterable[Fault | Advice]


def setting(key: str, value: str) -> str:
    """The command that runs a file with another value of a key. People paste it into a shell, and
    servers and tokenizers have a say in values: it is one word there, and one text in TOML where it
    reads as anything.
    """
    return f"reasondistill run FILE --set {shlex.quote(f'{key}={value}')}"


def text_setting(key: str, text: str) -> str:
    """The same of a text, which TOML must not read as a number, a list or a date, and `--set` not
    as the word that unsets a key.
    """
    is_plain = text.strip() != "none"
    try:
        tomllib.loads(f"value = {text}")
        is_plain = False
    except (ValueError, RecursionError):
        pass
    if is_plain:
        return setting(key, text)
    return setting(key, json.dumps(text, ensure_ascii=False))


@dataclass(frozen=True)
class Finding:
    """What a check has found, and the command that mends it. `error` is None where it is no
    fault.
    """

    check: str
    text: str
    remedy: str
    error: ReasonDistillError | None = None
    stops: bool = False

    @property
    def is_fault(self) -> bool:
        return self.error is not None


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One check, of every subject of the kind `of`."""

    name: str
    about: str
    of: type[Subject]
    cost: Cost
    remedy: str
    examine: Callable[[Subject], Found | None]

    def findings(self, subject: Subject) -> Iterator[Finding]:
        """What it finds; what it raises is the last of it."""
        try:
            for found in self.examine(subject) or ():
                yield self._finding(found)
        except ReasonDistillError as error:
            yield self._finding(Fault(error))

    def _finding(self, found: Fault | Advice) -> Finding:
        remedy = found.remedy or self.remedy
        if isinstance(found, Advice):
            return Finding(self.name, found.text, remedy)
        return Finding(self.name, str(found.error), remedy, found.error, found.stops)


_CHECKS: dict[str, Check[Any]] = {}


def check(
    of: type[Subject], name: str, *, cost: Cost, remedy: str
) -> Callable[[Callable[[Subject], Found | None]], Callable[[Subject], Found | None]]:
    """Register a function as the check of this name. Its docstring says what it looks at."""

    def register(
        examine: Callable[[Subject], Found | None],
    ) -> Callable[[Subject], Found | None]:
        about = " ".join((inspect.getdoc(examine) or "").split())
        _CHECKS[name] = Check(name, about, of, cost, remedy, examine)
        return examine

    return register


def all_checks() -> list[Check[Any]]:
    """Every check of the modules that are imported, in the order in which they registered."""
    return list(_CHECKS.values())
