"""What is read of a row: the published traces in it, each with what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from reasondistill.errors import DataError
from reasondistill.records import Finish


@dataclass(frozen=True)
class StoredText:
    """One published trace: its text with the marks of its reasoning, or `thinking` apart from it.
    None is what nobody says.
    """

    text: str
    thinking: str | None = None
    finish: Finish = "unknown"
    teacher: str | None = None
    tokens: int | None = None
    prompt_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    mean_logprob: float | None = None


@dataclass(frozen=True)
class StoredRow:
    """The traces of a row and what it asks. `left_out` says why traces that it has, or should have,
    are not among them, a reason each.
    """

    question: str | None
    texts: tuple[StoredText, ...]
    left_out: tuple[str, ...] = ()


def kind_of(value: object) -> str:
    """What a value is, in the words of a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    for kind, words in _KINDS.items():
        if isinstance(value, kind):
            return words
    return type(value).__name__


_KINDS: Mapping[type, str] = {
    str: "a text",
    int: "a number",
    float: "a number",
    Decimal: "a number",
    Mapping: "an object",
    list: "a list",
    bytes: "bytes",
}


def wrong_type(place: str, field: str, value: object, wanted: str) -> DataError:
    """What to raise for a value of another type: its Python form would pass for what was
    written.
    """
    return DataError(f"{place}: {field}: holds {kind_of(value)}, want {wanted}.")


def as_objects(value: object) -> list[Mapping[str, Any]] | None:
    """A list of objects; None for what is none. `datasets` may give an object of lists for one."""
    if isinstance(value, Mapping):
        columns = cast("Mapping[str, object]", value)
        several = {name: column for name, column in columns.items() if isinstance(column, list)}
        lengths = {len(column) for column in several.values()}
        if len(several) < len(columns) or len(lengths) != 1:
            return None
        return [{name: column[i] for name, column in several.items()} for i in range(*lengths)]
    if not isinstance(value, list) or not value:
        return None
    items = cast("list[object]", value)
    if not all(isinstance(item, Mapping) for item in items):
        return None
    return cast("list[Mapping[str, Any]]", items)
