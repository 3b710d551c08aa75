"""Read a TOML file into a frozen, checked section; every fault names file, section, key and the
nearest known key.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import ErrorDetails

from reasondistill import secrets
from reasondistill.errors import ConfigError


class Section(BaseModel):
    """A frozen section of a file; unknown keys are refused, and so are keys and passwords, which
    would be written into the run folder. `instead` says for a key what to do without them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    instead: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="after")
    def _holds_no_secret(self) -> Self:
        for name in self.model_fields_set:
            for place, kind in secrets.found_below(getattr(self, name)):
                key = f"{name}.{place}".rstrip(".")
                instead = self.instead.get(name, "take it out")
                raise ValueError(
                    f"{key}: holds {kind}, which would be written into the run folder. Secrets "
                    f"come from the environment alone; {instead}"
                )
        return self


S = TypeVar("S", bound=Section)


def load_section(path: Path, kind: type[S], overrides: Sequence[str] = ()) -> S:
    """Read one TOML file as `kind`. Raises ConfigError."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; a TOML file is wanted.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start})."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return check_section(path, kind, values, overrides)


def check_section(
    path: Path, kind: type[S], values: dict[str, Any], overrides: Sequence[str] = ()
) -> S:
    """The values of a file, or what stands for one, as `kind`. Raises ConfigError."""
    for override in overrides:
        apply_override(values, override)
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(explain(path, kind, error)) from None


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set `dotted.key=value` in place; the value is read as TOML, else as text.
    `students.0.epochs=2` reaches into lists.
    """
    key, equals, text = override.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise ConfigError(
            f"--set {override}: want key=value, for example --set traces.temperature=1.0"
        )
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.strip().split(".")
    place: Any = values
    for part in parents:
        if isinstance(place, list):
            place = _item(place, part, override)
        else:
            place = place.setdefault(part, {})
        if not isinstance(place, (dict, list)):
            raise ConfigError(f"--set {override}: {part} is a value, not a section.")
    if isinstance(place, list):
        _item(place, last, override)
        place[int(last)] = value
    else:
        place[last] = value


def _item(place: list[Any], part: str, override: str) -> Any:
    if not part.isdigit() or int(part) >= len(place):
        raise ConfigError(
            f"--set {override}: {part} is no place in a list of {len(place)} (count from 0)."
        )
    return place[int(part)]


def explain(path: Path, kind: type[BaseModel], error: pydantic.ValidationError) -> str:
    """One line per fault: `file [section] key: what is wrong. Did you mean …?`"""
    return "\n".join(
        _explain_one(path, kind, fault) for fault in _one_for_each_key(error.errors())[:5]
    )


# What pydantic puts behind a key that may be of several types: `n = 0` is neither a whole number ≥
# 1 nor "recommended".
_TYPE_TAG = re.compile(r"constrained-\w+|literal\[.*\]|int|str|float|bool|none")


def _one_for_each_key(faults: list[ErrorDetails]) -> list[ErrorDetails]:
    """The faults without type tags; of several about one key the first."""
    by_place: dict[tuple[int | str, ...], ErrorDetails] = {}
    for fault in faults:
        *parents, last = fault["loc"] or ("",)
        is_tag = parents and isinstance(last, str) and _TYPE_TAG.fullmatch(last)
        place = tuple(parents) if is_tag else fault["loc"]
        named = fault.copy()
        named["loc"] = place
        by_place.setdefault(place, named)
    return list(by_place.values())


def _explain_one(path: Path, kind: type[BaseModel], fault: ErrorDetails) -> str:
    place = [str(part) for part in fault["loc"]]
    if fault["type"] == "value_error":  # our own validators: their message begins with its key
        text = str(fault.get("ctx", {}).get("error", fault["msg"]))
        if place and text.startswith(f"{place[-1]}: "):
            place.pop()
    else:
        text = f"{place.pop()}: {_what(kind, place, fault)}" if place else fault["msg"]
    return f"{path} [{'.'.join(place)}] {text}" if place else f"{path} {text}"


def _what(kind: type[BaseModel], parents: Sequence[str], fault: ErrorDetails) -> str:
    if fault["type"] == "extra_forbidden":
        return f"unknown key. {nearest(str(fault['loc'][-1]), _keys_at(kind, parents))}"
    if fault["type"] == "missing":
        return "missing; it has no default."
    return f"{fault['msg']} (found {fault['input']!r})"


def nearest(word: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """`Did you mean x?`, or the list of what is known."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(sorted(known))}."


def _keys_at(kind: type[BaseModel], parents: Sequence[str]) -> list[str]:
    """The field names of the section that `parents` lead to."""
    for part in parents:
        if part.isdigit() or part not in kind.model_fields:
            continue
        inner = _model_in(kind.model_fields[part].annotation)
        if inner is None:
            return []
        kind = inner
    return list(kind.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The Section inside an annotation such as `tuple[X, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (model := _model_in(argument)) is not None:
            return model
    return None
