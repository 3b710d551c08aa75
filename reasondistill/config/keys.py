"""Every key of a file of settings, explained from the code: what it is for, its type, unit, default
and an example.

    keys = keys_of("pipeline", Pipeline)
    found = keys_called("traces.temperature", keys)[0]
    found.about, found.type, found.default, found.unit, found.example

What a key is for stands below it in its section, as a string: `[tokens]` at its end is its unit,
`Example: …` a value as TOML.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from reasondistill.config.sampling import SamplingSettings
from reasondistill.records import Sampling
from reasondistill.sections import sections_in

# What stands in a place for a name that is the user's to choose.
NAME = "NAME"
_WORDS = re.compile(r"(.*?)(?: \[([^\]]+)\])?(?: Example: (.+))?", re.DOTALL)
# A mistake would go round for ever.
_DEEPEST = 8


@dataclass(frozen=True)
class Key:
    """A key or a section of a kind of `file`. `place` is its dotted name, with NAME where a name is
    the user's; `above` the line of TOML above it, `header` that of a section's own table. `default`
    and `example` are TOML; `default` is None where the key must be given, and empty where it is
    left out.
    """

    file: str
    place: str
    above: str
    header: str
    section: type[BaseModel]
    field: str
    about: str
    type: str
    unit: str
    default: str | None
    example: str
    sections: tuple[type[BaseModel], ...] = ()

    @property
    def name(self) -> str:
        """The last part of its place."""
        return self.place.rpartition(".")[2]

    @property
    def in_a_file(self) -> str:
        """The example as it stands in a file."""
        if not self.example:
            return self.header
        return f"{self.above}\n{self.name} = {self.example}".strip()


def keys_of(
    file: str, kind: type[BaseModel], tables: Mapping[str, type[BaseModel]] | None = None
) -> list[Key]:
    """All keys and sections of a file of this kind, in its order. `tables` are the sections of
    places that hold tables by name: `examples.filters.language`.
    """
    keys = list(_keys_below(file, kind, "", "", 0))
    for place, section in (tables or {}).items():
        header = f"[{place}]"
        about = _paragraph(section)
        words = ("a table", "", "", "")
        keys.append(Key(file, place, "", header, kind, "", about, *words, (section,)))
        for key in _keys_below(file, section, f"{place}.", header, 1):
            keys.append(replace(key, about=key.about or _paragraph(section, whole=True)))
    return keys


def _keys_below(
    file: str, kind: type[BaseModel], before: str, above: str, depth: int
) -> Iterator[Key]:
    properties = cast("dict[str, Any]", kind.model_json_schema(by_alias=True)["properties"])
    for name, field in kind.model_fields.items():
        alias = field.alias or name
        place = below = f"{before}{alias}"
        schema = cast("dict[str, Any]", properties[alias])
        sections = tuple(sections_in(field.annotation))
        if sections and "dict[" in str(field.annotation):
            below = f"{place}.{NAME}"
        header = f"[{below}]"
        if "tuple[" in str(field.annotation):
            header = f"[[{below}]]"
        about, unit, example = words_of(kind, name, field)
        default = default_of(kind, name, field)
        if not sections:
            example = example or default or _value_of(schema)
        words = (type_words(schema), unit, default, example)
        yield Key(file, place, above, header, kind, name, about, *words, sections)
        if depth < _DEEPEST:
            for section in sections:
                yield from _keys_below(file, section, f"{below}.", header, depth + 1)


def keys_called(text: str, keys: Sequence[Key]) -> list[Key]:
    """The keys whose place ends as this dotted name does, those of exactly this place first.
    Numbers (`students.0.base`) and brackets are passed over.
    """
    wanted = [part for part in text.strip("[] ").split(".") if part and not part.isdigit()]
    if not wanted:
        return []
    count = len(wanted)
    found = [key for key in keys if _matches(key.place.split(".")[-count:], wanted)]
    return sorted(found, key=lambda key: key.place.count(".") + 1 != count)


def _matches(place: Sequence[str], wanted: Sequence[str]) -> bool:
    if len(place) != len(wanted):
        return False
    return all(part in (NAME, word) for part, word in zip(place, wanted, strict=True))


# ---- what stands in the code ---------------------------------------------------------------------


@cache
def docstrings_of(section: type[BaseModel]) -> dict[str, str]:
    """The string below each key of a section, of its own keys alone."""
    try:
        source = textwrap.dedent(inspect.getsource(section))
    except (OSError, TypeError):  # made without source
        return {}
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.ClassDef)
    texts: dict[str, str] = {}
    for one, following in zip(tree.body, tree.body[1:], strict=False):
        if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            texts[one.target.id] = inspect.cleandoc(str(following.value.value))
    return texts


def words_of(kind: type[BaseModel], name: str, field: FieldInfo) -> tuple[str, str, str]:
    """What a key is for, its unit and an example, as the code says them."""
    text = field.description or ""
    for section in kind.__mro__:
        if not text and issubclass(section, BaseModel):
            text = docstrings_of(section).get(name, "")
    found = _WORDS.fullmatch(" ".join(text.split()))
    assert found is not None
    about, unit, example = found.groups(default="")
    return about, unit, example


def _paragraph(section: type[BaseModel], *, whole: bool = False) -> str:
    text = inspect.getdoc(section) or ""
    if not whole:
        text = text.partition("\n\n")[0]
    return " ".join(text.split())


def default_of(kind: type[BaseModel], name: str, field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    default = field.get_default(call_default_factory=True, validated_data={})
    if issubclass(kind, SamplingSettings) and name in Sampling.model_fields and default is None:
        default = kind.usual.get(name, Sampling.model_fields[name].default)
    if default is None or isinstance(default, BaseModel):
        return ""
    return toml_text(default)


# ---- words ---------------------------------------------------------------------------------------

_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "object": "a table",
}
_BOUNDS = {
    "minimum": "from {} on",
    "exclusiveMinimum": "above {}",
    "maximum": "{} at most",
    "exclusiveMaximum": "below {}",
    "minItems": "{} or more",
    "pattern": "of the form {}",
}


def type_words(schema: Mapping[str, Any]) -> str:
    """The JSON schema of a value in words: `a whole number, from 1 on`."""
    if "enum" in schema:
        return "one of " + ", ".join(toml_text(value) for value in schema["enum"])
    if "const" in schema:
        return toml_text(schema["const"])
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            parts = [type_words(one) for one in schema[choice] if one.get("type") != "null"]
            if _KINDS["number"] in parts:
                parts = [part for part in parts if part != _KINDS["integer"]]
            return " or ".join(dict.fromkeys(parts))
    if "$ref" in schema or "allOf" in schema:
        return "a table"
    kind = schema.get("type")
    words = _KINDS.get(str(kind), "anything")
    if kind == "array":
        words = f"a list, each item {type_words(schema.get('items', {}))}"
    elif kind == "object":
        of_any_name = (
            schema.get("additionalProperties"),
            *schema.get("patternProperties", {}).values(),
        )
        for value in of_any_name:
            if isinstance(value, Mapping):
                words = f"a table, each value {type_words(cast('Mapping[str, Any]', value))}"
    bounds = [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema]
    return ", ".join([words, *bounds])


def _value_of(schema: Mapping[str, Any]) -> str:
    """Some value of this schema, as TOML."""
    for choice in ("anyOf", "oneOf"):
        for one in schema.get(choice, ()):
            return _value_of(one)
    for value in (*schema.get("enum", ()), *schema.get("examples", ())):
        return toml_text(value)
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return toml_text(schema.get("minimum", 1))
    if kind == "array":
        return f"[{_value_of(schema.get('items', {}))}]"
    if kind == "boolean":
        return "true"
    return toml_text("…")


def toml_text(value: Any) -> str:
    """A value as TOML, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        inside = ", ".join(f"{name} = {toml_text(one)}" for name, one in pairs)
        return f"{{ {inside} }}".replace("{  }", "{}")
    if isinstance(value, (list, tuple)):
        items = map(toml_text, cast("Sequence[Any]", value))
        return f"[{', '.join(items)}]"
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)
