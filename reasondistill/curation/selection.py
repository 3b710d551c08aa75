"""Selecting rows of a source: `filter`, `shuffle`, `limit`, after a check that the named fields
exist.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice

from reasondistill.config import ProblemSource
from reasondistill.curation.filter_rules import compiled, filter_keys
from reasondistill.curation.rows import Row, field_names, get_value, has_value
from reasondistill.errors import ConfigError, DataError
from reasondistill.foreign_text import shortened
from reasondistill.hashing import stable_digest
from reasondistill.nearest import nearest

# {field} inside a `question` key.
TEMPLATE = re.compile(r"\{([^{}]+)\}")

_PEEK = 100
_SORTED_AT_ONCE = 500_000
# A procedural stream has no end: a filter that matches more rarely than this counts as one that
# never matches.
_PATIENCE_ROWS, _PATIENCE_PER_PROBLEM = 20_000, 2_000
# Of the values of a filtered field.
_MOST_SEEN, _MOST_SHOWN, _LONGEST_VALUE = 100, 12, 60


def selected(source: ProblemSource, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows that match the filter, shuffled if `shuffle` is set, at most `limit` of them."""
    rows = _matching(source, _checked(source, rows))
    if source.source == "procedural":
        rows = islice(rows, source.limit)
    if not source.shuffle:
        return islice(rows, source.limit)
    # Rows are sorted by a hash of seed and number: memory is `limit` rows, and the order does not
    # depend on the length of the file.
    ranked = ((_rank(source.seed, row.index), row.index, row) for row in rows)
    chosen: Iterable[tuple[bytes, int, Row]]
    if source.limit is None:
        chosen = _sorted(ranked)
    else:
        chosen = heapq.nsmallest(source.limit, ranked)
    return (row for _, _, row in chosen)


def _sorted(ranked: Iterator[tuple[bytes, int, Row]]) -> Iterator[tuple[bytes, int, Row]]:
    """In order. A signal is heard between the pieces, not while one is sorted."""
    pieces: list[list[tuple[bytes, int, Row]]] = []
    while piece := sorted(islice(ranked, _SORTED_AT_ONCE)):
        pieces.append(piece)
    return heapq.merge(*pieces)


def _rank(seed: int, index: int) -> bytes:
    return stable_digest(f"{seed}:{index}")[:8]


def _checked(source: ProblemSource, rows: Iterator[Row]) -> Iterator[Row]:
    """The same rows; raises when there are none, or when none of the first hundred, or of those
    that are wanted, has a mapped field.
    """
    looked_at = _PEEK
    if source.limit is not None and not source.shuffle and not source.filter:
        looked_at = min(_PEEK, source.limit)
    head = list(islice(rows, looked_at))
    if not head:
        raise DataError(f"{source.dataset}: no rows.")
    seen: dict[str, None] = {}
    for row in head:
        seen |= dict.fromkeys(field_names(row.fields))
    known = list(seen)
    for key, name in _wanted(source):
        if name not in known and not any(has_value(row.fields, name) for row in head):
            listed = ", ".join(known[:12])
            if len(known) > 12:
                listed += ", …"
            raise ConfigError(
                f'{key} = "{name}": {source.dataset} has no such field. '
                f"{_close(name, known)}Fields: {listed}."
            )
    return chain(head, rows)


def _close(name: str, known: list[str]) -> str:
    hint = nearest(name, known)
    if not hint.startswith("Did you mean"):
        return ""
    return f"{hint} "


def _wanted(source: ProblemSource) -> list[tuple[str, str]]:
    """Key of the section and field of the rows, for each field that the section names."""
    named = [("answer", name) for name in answer_fields(source)]
    named += [
        (key, getattr(source, key))
        for key in ("solution", "id", "subject", "level", "choice_labels")
    ]
    parts = [("question", name) for name in TEMPLATE.findall(source.question) or [source.question]]
    parts += [
        ("choices", name)
        for name in ([source.choices] if isinstance(source.choices, str) else source.choices or ())
    ]
    return [
        *parts,
        *((key, name) for key, name in named if name),
        *((f"filter.{name}", name) for name in source.filter),
    ]


def answer_fields(source: ProblemSource) -> tuple[str, ...]:
    """The fields that hold gold answers; none where there are no answers."""
    if not source.answer:
        return ()
    if isinstance(source.answer, str):
        return (source.answer,)
    return source.answer


def wanted_fields(source: ProblemSource) -> list[str]:
    """The fields of the rows that the section names."""
    return [name for _, name in _wanted(source)]


# What becomes a text that a model reads or is graded by.
_TEXT_KEYS = ("question", "choices", "answer", "solution")


def text_fields(source: ProblemSource) -> list[str]:
    """The fields of the rows that become question, options, gold answer and solution."""
    return [name for key, name in _wanted(source) if key in _TEXT_KEYS]


def _matching(source: ProblemSource, rows: Iterator[Row]) -> Iterator[Row]:
    if not source.filter:
        yield from rows
        return
    rules = {name: compiled(name, rule) for name, rule in source.filter.items()}
    seen: dict[str, Counter[str]] = {name: Counter() for name in rules}
    matches = 0
    for scanned, row in enumerate(rows):
        if all(matches_rule(get_value(row.fields, name)) for name, matches_rule in rules.items()):
            matches += 1
            yield row
            continue
        for name, values in seen.items():
            if len(values) < _MOST_SEEN:
                values.update(filter_keys(get_value(row.fields, name)))
        if (
            source.source == "procedural"
            and scanned > _PATIENCE_ROWS + _PATIENCE_PER_PROBLEM * matches
        ):
            raise ConfigError(
                f"filter: {matches} of the first {scanned + 1:,} rows match. {_values_seen(seen)}"
            )
    if matches == 0:
        raise ConfigError(f"filter: no row of {source.dataset} matches. {_values_seen(seen)}")


def _values_seen(seen: Mapping[str, Counter[str]]) -> str:
    found: list[str] = []
    for name, values in seen.items():
        few = [shortened(value, _LONGEST_VALUE) for value in sorted(values)[:_MOST_SHOWN]]
        if few:
            found.append(f"{name} is one of {', '.join(map(repr, few))}")
    return f"Found: {'; '.join(found)}."
