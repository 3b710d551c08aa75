"""The registry of filters, and the filters of a pipeline file."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from reasondistill.config import ExampleSettings
from reasondistill.curation.filters.earlier import EarlierTraces
from reasondistill.curation.filters.tools import NO_TOOLS, Tools
from reasondistill.errors import ConfigError
from reasondistill.nearest import nearest
from reasondistill.records import Problem, Trace, Verdict
from reasondistill.sections import Section, check_section

S = TypeVar("S", bound=Section)
PACKAGE = "reasondistill.curation.filters"


@dataclass(frozen=True)
class Candidate:
    """A trace that may become an example, its verdict, and the text that a student would learn.

    `problem` is what was asked, where that is known; `tools` compare answers and count tokens;
    `earlier` are the usable traces of the problem so far, `of_writer` of which are by who has
    written this one; `pass_rate` is the share of correct ones
    among all its decided traces, None where none was decided.
    """

    trace: Trace
    verdict: Verdict
    text: str
    problem: Problem | None = None
    tools: Tools = NO_TOOLS
    earlier: EarlierTraces = field(default_factory=EarlierTraces)
    of_writer: int = 0
    pass_rate: float | None = None

    @property
    def written(self) -> str:
        """Reasoning and answer, without the tags that are ours."""
        completion = self.trace.completion
        reasoning = completion.reasoning or ""
        return f"{reasoning}\n\n{completion.answer_text}".strip()


# Why a candidate is dropped, or None where the filter lets it pass.
DropReason = Callable[[Candidate], str | None]


@dataclass(frozen=True)
class ExampleFilter:
    """One filter. Its `settings` are `[examples]` itself, and then it is always on, or its own
    table `[examples.filters.NAME]`, and then it is on where that table is given.
    """

    name: str
    about: str
    drop_reason: Callable[[Candidate, Any], str | None]
    settings: type[Section]
    looks_at_verdict: bool
    is_relative: bool

    @property
    def has_own_table(self) -> bool:
        return self.settings is not ExampleSettings


_FILTERS: dict[str, ExampleFilter] = {}


def example_filter(
    settings: type[S], *, looks_at_verdict: bool = False, is_relative: bool = False
) -> Callable[[Callable[[Candidate, S], str | None]], Callable[[Candidate, S], str | None]]:
    """Register a function as a filter under its own name.

    A filter that `looks_at_verdict` is left out where verdicts do not count (`unverified`
    students). One that `is_relative`, to what the others let pass, comes last.
    """

    def register(
        drop_reason: Callable[[Candidate, S], str | None],
    ) -> Callable[[Candidate, S], str | None]:
        name = drop_reason.__name__
        about = inspect.getdoc(drop_reason) or ""
        _FILTERS[name] = ExampleFilter(
            name, about, drop_reason, settings, looks_at_verdict, is_relative
        )
        return drop_reason

    return register


def all_filters() -> list[ExampleFilter]:
    """Every filter in the order of use: those of `[examples]` itself, then those with their own
    table, by name, and relative ones at the end.
    """
    package = importlib.import_module(PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{PACKAGE}.{module.name}")
    shared = [one for one in _FILTERS.values() if not one.has_own_table]
    with_own_table = [one for one in _FILTERS.values() if one.has_own_table]
    return shared + sorted(with_own_table, key=lambda one: (one.is_relative, one.name))


def _bound(one: ExampleFilter, settings: Section) -> DropReason:
    def drop_reason(candidate: Candidate) -> str | None:
        return one.drop_reason(candidate, settings)

    return drop_reason


def _checked(name: str, kind: type[S], values: dict[str, Any]) -> S:
    return check_section(Path(f"[examples.filters.{name}]"), kind, values)


def table_of(examples: ExampleSettings, name: str, kind: type[S]) -> S | None:
    """The settings of one filter; None where it is off. Raises ConfigError for a table that does
    not fit.
    """
    values = examples.filters.get(name)
    if values is None:
        return None
    return _checked(name, kind, dict(values))


def active_filters(examples: ExampleSettings, *, verified: bool = True) -> list[DropReason]:
    """The filters that these settings turn on, each with its settings.

    Raises ConfigError for a table without a filter, and for a table that does not fit its filter.
    """
    filters = all_filters()
    tables = dict(examples.filters)
    active: list[DropReason] = []
    for one in filters:
        settings: Section = examples
        if one.has_own_table:
            if one.name not in tables:
                continue
            settings = _checked(one.name, one.settings, tables.pop(one.name))
        if verified or not one.looks_at_verdict:
            active.append(_bound(one, settings))
    if tables:
        unknown = next(iter(tables))
        known = [one.name for one in filters if one.has_own_table]
        hint = nearest(unknown, known) if known else "There are none yet."
        raise ConfigError(f"[examples.filters] {unknown}: no such filter. {hint}")
    return active
