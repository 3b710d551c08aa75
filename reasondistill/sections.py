"""Read a TOML file into a frozen, checked section; every fault names file, section, key and the
nearest known key.

How large, deep and long-winded a file may be stands in bounds.py.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

import pydantic
from pydantic import BaseModel, ConfigDict, TypeAdapter, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from reasondistill import secrets
from reasondistill.bounds import INTEGER_BITS, TOML_BYTES, TOML_DEPTH, TOML_SIGNS
from reasondistill.errors import ConfigError, DataError
from reasondistill.foreign_files import regular
from reasondistill.nearest import nearest


class Section(BaseModel):
    """A frozen section of a file; unknown keys are refused, and so are keys and passwords, which
    would be written into the run folder. `instead` says for a key what to do without them.
    """

    # A key that is a word of Python's (`continue`) has an alias: it is read and written by that.
    model_config = ConfigDict(
        frozen=True, extra="forbid", serialize_by_alias=True, defer_build=True
    )

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
    return check_section(path, kind, read_toml(path), overrides)


# ---- TOML ----------------------------------------------------------------------------------------


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file. Raises ConfigError, also for one beyond its bounds."""
    try:
        with open(path, "rb", opener=regular) as file:
            content = file.read(TOML_BYTES.most + 1)
        if len(content) > TOML_BYTES.most:
            raise ConfigError(f"{path}: larger than {TOML_BYTES}; a TOML file of settings is not.")
        text = content.decode("utf-8-sig")  # some editors write a mark of its order before it
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; a TOML file is wanted.") from None
    except DataError as error:
        raise ConfigError(str(error)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start})."
        ) from None
    return parse_toml(text, str(path))


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The values of TOML. Raises ConfigError, which begins with `where`, also for keys and values
    beyond the bounds of bounds.py; they are seen before anything is built.
    """
    # Universal newlines, as a text file has them.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    _require_bounded(text, where)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{where}: nested deeper than {TOML_DEPTH}.") from None
    except ValueError:  # Python reads no integer of more than 4,300 digits
        raise ConfigError(f"{where}: an integer of more than {INTEGER_BITS} bits.") from None
    _require_integers(values, where)
    return values


# Strings and comments are passed over whole; of the others all that can nest is counted. Each
# character is looked at once: no alternative gives back what it has taken.
_TOML = re.compile(
    r'"""(?:[^"\\]++|\\.|"(?!""))*+"{0,5}'
    r"|'''(?:[^']++|'(?!''))*+'{0,5}"
    r'|"(?:[^"\\\n]++|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|\#[^\n]*+"
    r"|(?P<open>[\[{])|(?P<close>[\]}])|(?P<dot>\.)|(?P<end>[=,\n])",
    re.DOTALL,
)


def _require_bounded(text: str, where: str) -> None:
    """Raise ConfigError for TOML that has too many tables or values, is nested too deep, or has a
    key of too many parts: tomllib takes quadratic time and memory for such a key.
    """
    most = TOML_DEPTH.most
    most_signs = TOML_SIGNS.most
    depth = parts = 0
    for count, found in enumerate(_TOML.finditer(text)):
        if count >= most_signs:
            raise ConfigError(f"{where}: more than {TOML_SIGNS}; a file of settings has fewer.")
        kind = found.lastgroup
        if kind is None:
            continue
        if kind == "dot":
            parts += 1
        else:
            parts = 0
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        if depth > most or parts >= most:
            line = text.count("\n", 0, found.start()) + 1
            raise ConfigError(
                f"{where}: line {line}: lists, tables or parts of a key inside each other beyond "
                f"{TOML_DEPTH}."
            )


def _require_integers(value: Any, where: str) -> None:
    """Raise ConfigError for an integer that TOML does not know. The value is not deep."""
    if isinstance(value, dict):
        for name, inner in cast("dict[str, Any]", value).items():
            _require_integers(inner, f"{where} {short(name)}:")
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            _require_integers(inner, where)
    elif isinstance(value, int) and value.bit_length() > INTEGER_BITS:
        raise ConfigError(f"{where} an integer of more than {INTEGER_BITS} bits.")


def short(text: str) -> str:
    """At most 200 characters of a text, for a message, its secrets masked before it is cut."""
    text = secrets.cleaned(text)
    if len(text) <= _SHOWN:
        return text
    return f"{text[:_SHOWN]}… ({len(text):,} characters)"


_SHOWN = 200


def listed(names: Iterable[str]) -> str:
    """The first of some names in their order, for a message: data of others may have any number of
    names, of any length.
    """
    ordered = sorted(names)
    words = [short(name) for name in ordered[:_LISTED]]
    if len(ordered) > _LISTED:
        words.append(f"and {len(ordered) - _LISTED:,} more")
    return ", ".join(words) or "none"


_LISTED = 12


def check_section(
    path: Path,
    kind: type[S],
    values: dict[str, Any],
    overrides: Sequence[str] = (),
    varied: Sequence[str] = (),
) -> S:
    """The values of a file, or what stands for one, as `kind`: `overrides` were given by --set,
    those that are `varied` by --vary, above them. Raises ConfigError.
    """
    for override in overrides:
        apply_override(values, override, kind)
    for override in varied:
        apply_override(values, override, kind, option=VARY)
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(explain(path, kind, error, overrides, varied)) from None


# By which options a command line sets a key.
SET = "--set"
VARY = "--vary"


def apply_override(
    values: dict[str, Any],
    override: str,
    kind: type[BaseModel] | None = None,
    *,
    option: str = SET,
) -> None:
    """Set `dotted.key=value` in place; the value is read as TOML, else as text.
    `students.0.epochs=2` reaches into lists. `traces.n=none` unsets a key that may be left out of
    the `kind` of section that the values make: it has no value then, or its default where it must
    have one. `"none"` in quotes is the word, and so it is for keys of which it is a value. Raises
    ConfigError, which names the `option`.
    """
    key, equals, text = override.partition("=")
    is_text = _HALF_CHARACTER.search(override) is None
    shown = short(override.encode("utf-8", "backslashreplace").decode())
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(
            f"{option} {shown}: want key=value, for example {option} traces.temperature=1.0"
        )
    where = f"{option} {shown}:"
    if len(parts) > TOML_DEPTH.most:
        raise ConfigError(f"{where} a key of more parts than {TOML_DEPTH}.")
    if not is_text:
        raise ConfigError(f"{where} not UTF-8 text.")
    value = override_value(text, f"{option} {shown}")
    is_unset = False
    if kind is not None and text.strip() == "none":
        unset = _unset(kind, parts)
        if unset == "must be given":
            raise ConfigError(f"{where} the key must be given, so nothing unsets it.")
        if unset == "None":
            value = None
        is_unset = unset == "left out"
    *parents, last = parts
    place: Any = values
    for part in parents:
        if isinstance(place, list):
            place = _item(place, part, where)
        else:
            place = place.setdefault(part, {})
        if not isinstance(place, (dict, list)):
            raise ConfigError(f"{where} {short(part)} is a value, not a section.")
    if isinstance(place, list):
        _item(place, last, where)
        place[int(last)] = value
    elif is_unset:
        place.pop(last, None)
    else:
        place[last] = value


# No key is of a fixed list of words with this one.
_ANY_WORD = "no word of a list"


def _unset(
    kind: type[BaseModel], parts: Sequence[str]
) -> Literal["a word", "None", "left out", "must be given"]:
    """What `none` means for a key: the word itself, None, that it does not stand there, or, of a
    key without a default that takes no word, a fault.
    """
    *parents, last = parts
    fields: list[FieldInfo] = []
    for section in _sections_at(kind, parents):
        for name, field in section.model_fields.items():
            if last == (field.alias or name):
                fields.append(field)
    if not fields:
        return "a word"
    field = fields[0]
    form: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
    is_word = _takes(form, "none")
    if is_word and (field.is_required() or not _takes(form, _ANY_WORD)):
        return "a word"
    if _takes(form, None):
        return "None"
    return "must be given" if field.is_required() else "left out"


def _takes(form: TypeAdapter[Any], value: Any) -> bool:
    try:
        form.validate_python(value)
    except pydantic.ValidationError:
        return False
    return True


# How Python holds bytes of the command line that are no UTF-8.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def override_value(text: str, where: str) -> Any:
    """A value on the command line: TOML, else the text itself. Raises ConfigError beyond the
    bounds.
    """
    toml = f"value = {text}"
    # Any other text has no keys, however many dots.
    if text.lstrip().startswith(("[", "{")) or "\n" in text:
        _require_bounded(toml, where)
    try:
        value: Any = tomllib.loads(toml)["value"]
    except tomllib.TOMLDecodeError:
        return text
    except ValueError:
        raise ConfigError(f"{where}: an integer of more than {INTEGER_BITS} bits.") from None
    _require_integers(value, where)
    return value


def is_place(part: str, count: int) -> bool:
    """Whether a part of a dotted name is a place in a list of so many, counted from 0."""
    if not part.isascii() or not part.isdigit() or len(part) > len(str(count)):
        return False
    return int(part) < count


def _item(place: list[Any], part: str, where: str) -> Any:
    if not is_place(part, len(place)):
        raise ConfigError(
            f"{where} {short(part)} is no place in a list of {len(place)} (count from 0)."
        )
    return place[int(part)]


def explain(
    path: Path,
    kind: type[BaseModel],
    error: pydantic.ValidationError,
    overrides: Sequence[str] = (),
    varied: Sequence[str] = (),
) -> str:
    """One line per fault, for a handful: `file [section] key: what is wrong. Did you mean …?`; of
    what an override set `--set key: what is wrong` (`--vary` for those that are varied), without
    its value, which may be a secret.
    """
    options = dict.fromkeys(keys_set(overrides), SET) | dict.fromkeys(keys_set(varied), VARY)
    faults = _one_for_each_key(error.errors())
    lines: list[str] = []
    for fault in faults[:_MOST_FAULTS]:
        where, text = _explain_one(path, kind, fault)
        place = ".".join(map(str, fault["loc"]))
        for key, option in options.items():
            if place == key:
                where = f"{option} {short(key)}:"
                text = text.removeprefix(f"{fault['loc'][-1]}: ")
            elif place.startswith(f"{key}."):
                where = f"{option} {short(key)}:"
        lines.append(f"{where} {text}")
    if len(faults) > _MOST_FAULTS:
        more = len(faults) - _MOST_FAULTS
        lines.append(f"and {more:,} more faults.")
    return "\n".join(lines)


_MOST_FAULTS = 5


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


def keys_set(overrides: Sequence[str]) -> Iterator[str]:
    """The dotted keys that these overrides set."""
    for override in overrides:
        key = override.partition("=")[0]
        yield ".".join(part.strip() for part in key.split("."))


def _explain_one(path: Path, kind: type[BaseModel], fault: ErrorDetails) -> tuple[str, str]:
    """Where a fault is, and `key: what is wrong`."""
    place = [short(str(part)) for part in fault["loc"]]
    if fault["type"] == "value_error":  # our own validators: their message begins with its key
        text = str(fault.get("ctx", {}).get("error", fault["msg"]))
        if place and text.startswith(f"{place[-1]}: "):
            place.pop()
    else:
        text = f"{place.pop()}: {_what(kind, place, fault)}" if place else fault["msg"]
    if not place:
        return str(path), text
    return f"{path} [{'.'.join(place)}]", text


def _what(kind: type[BaseModel], parents: Sequence[str], fault: ErrorDetails) -> str:
    if fault["type"] == "extra_forbidden":
        return f"unknown key. {nearest(str(fault['loc'][-1]), _keys_at(kind, parents))}"
    if fault["type"] == "missing":
        return "missing; it has no default."
    found = short(repr(fault["input"]))
    words = fault["msg"]
    for theirs, ours in _OUR_WORDS.items():
        words = words.replace(theirs, ours)
    return f"{words} (found {found})"


# What pydantic calls things, and what they are called in a file.
_OUR_WORDS = {
    "Input should be a valid tuple": "should be a list",
    "Input should be a valid list": "should be a list",
    "Input should be a valid string": "should be a text",
    "Input should be a valid integer": "should be a whole number",
    "Input should be a valid number": "should be a number",
    "Input should be a valid boolean": "should be true or false",
    "Input should be a valid dictionary or instance of": "should be a table:",
    "Input should be a valid dictionary": "should be a table",
    "Input should be": "should be",
    "Tuple should have": "should have",
    "List should have": "should have",
    "String should": "should",
}


def _keys_at(kind: type[BaseModel], parents: Sequence[str]) -> list[str]:
    """The field names of the sections that `parents` lead to."""
    names: dict[str, None] = {}
    for section in _sections_at(kind, parents):
        for name, field in section.model_fields.items():
            names[field.alias or name] = None
    return list(names)


def _sections_at(kind: type[BaseModel], parents: Sequence[str]) -> list[type[BaseModel]]:
    """The sections that a place may hold: several where a key is of one form or another."""
    kinds = [kind]
    for part in parents:
        fields = [one.model_fields[part] for one in kinds if part in one.model_fields]
        if not fields:
            continue
        kinds = [inner for field in fields for inner in sections_in(field.annotation)]
    return kinds


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The Sections inside an annotation such as `tuple[X, ...] | Y | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    for argument in getattr(annotation, "__args__", ()):
        found += sections_in(argument)
    return found
