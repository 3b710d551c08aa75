"""`explain`: what a key of a pipeline, cluster, benchmark or prompt file is for."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.markup import escape

from reasondistill.cli.console import app, named, out, plain_table, say
from reasondistill.config import resources
from reasondistill.errors import ConfigError
from reasondistill.nearest import nearest
from reasondistill.sections import read_toml
from reasondistill.tables import counted

if TYPE_CHECKING:
    from pydantic import BaseModel

    from reasondistill.config.keys import Key

# The kinds of file, and where examples of each are looked up, the first that has the key.
_FILES = {
    "pipeline": "pipelines",
    "cluster": "clusters",
    "benchmark": "benchmarks",
    "prompt": "prompts",
}
_LONGEST_EXAMPLE = 100


@app.command(
    epilog="Examples:\n\n  reasondistill explain traces.temperature\n\n"
    "  reasondistill explain students.lora\n\n"
    "  reasondistill explain cluster.vllm\n\n"
    "  reasondistill explain gpus"
)
def explain(
    key: Annotated[
        str | None,
        typer.Argument(
            help="A section or key of a pipeline, cluster, benchmark or prompt file, or its last "
            "part: traces.temperature, students.lora, cluster.vllm, gpus. Without it the sections."
        ),
    ] = None,
) -> None:
    """What a key of a settings file is for: its type, unit, default, allowed values, an example."""
    keys = all_keys()
    if key is None:
        for file in _FILES:
            print_list(file, [one for one in keys if one.file == file and "." not in one.place])
        return
    found = keys_meant(key, keys)
    # What a pipeline file has at this very place comes before all that is called alike.
    chosen = [one for one in found if one.file == "pipeline" and one.place == found[0].place]
    if found[0].file != "pipeline" or found[0].place.count(".") > key.count("."):
        chosen = found
    if len({(one.file, one.place) for one in chosen}) == 1:
        for one in chosen:
            print_key(one, keys)
        others = {f"{one.file}.{one.place}": None for one in found if one not in chosen}
        if others:
            say(f"[dim]also: {named(', '.join(others))}[/]")
        return
    number = counted(len(found), "key is", "keys are")
    say(f"{number} called {named(key)}; a longer name shows one of them.")
    for file in _FILES:
        print_list(file, [one for one in found if one.file == file])


@cache
def all_keys() -> tuple[Key, ...]:
    """Every key of each kind of file."""
    from reasondistill.config import Benchmark, Cluster, Pipeline
    from reasondistill.config.keys import keys_of
    from reasondistill.curation.filters import all_filters
    from reasondistill.models.prompts import Prompt

    filters: dict[str, type[BaseModel]] = {}
    for one in all_filters():
        if one.has_own_table:
            filters[f"examples.filters.{one.name}"] = one.settings
    return (
        *keys_of("pipeline", Pipeline, filters),
        *keys_of("cluster", Cluster),
        *keys_of("benchmark", Benchmark),
        *keys_of("prompt", Prompt),
    )


def keys_meant(text: str, keys: Sequence[Key]) -> list[Key]:
    """The keys that a text may mean, `cluster.about` that of a cluster file. Raises ConfigError,
    naming the nearest, where there is none.
    """
    from reasondistill.config.keys import keys_called

    file, _, rest = text.partition(".")
    known = keys
    if file in _FILES and rest:
        known, text = [one for one in keys if one.file == file], rest
    found = keys_called(text, known)
    if not found:
        words = [one.place for one in known] + [one.name for one in known]
        raise ConfigError(
            f"explain {text}: no such key. {nearest(text, list(dict.fromkeys(words)))}"
        )
    unique: dict[tuple[str, str, str], Key] = {}
    for one in found:
        unique.setdefault((one.file, one.place, one.about), one)
    return list(unique.values())


def print_list(file: str, keys: Sequence[Key]) -> None:
    """One line for each key of a kind of file."""
    if not keys:
        return
    table = plain_table(f"{file} file", "", "default")
    for one in keys:
        default = ""
        if not one.sections or one.default is None:
            default = default_text(one)
        table.add_row(f"[bold]{named(one.place)}[/]", named(one.about), named(default))
    out.print(table)


def print_key(key: Key, keys: Sequence[Key]) -> None:
    """All that there is to say of a key; of a section also its own keys."""
    say(f"[bold]{named(key.place)}[/] [dim]{key.file} file[/]")
    say(f"  {named(key.about)}")
    table = plain_table("", "")
    table.show_header = False
    table.add_row("  type", named(key.type))
    if key.unit:
        table.add_row("  unit", named(key.unit))
    if not key.sections or key.default is None:
        table.add_row("  default", named(default_text(key)))
    example, path = example_of(key)
    table.add_row("  example", escape(example))
    if path is not None:
        table.add_row("", f"[dim]as in {named(path.name)}[/]")
    out.print(table)
    parent = key.place.rpartition(".")[0]
    if parent and not key.sections:
        say(f"  [dim]more: reasondistill explain {named(f'{key.file}.{parent}')}[/]")
    for section in key.sections:
        for paragraph in (inspect.getdoc(section) or "").split("\n\n"):
            say(f"\n  {named(' '.join(paragraph.split()))}")
    inside = {one.place: one for one in keys if one.file == key.file and is_below(one, key)}
    print_list(key.file, list(inside.values()))


def is_below(one: Key, section: Key) -> bool:
    """Whether a key stands in a section itself, not in a section inside it."""
    rest = one.place.removeprefix(f"{section.place}.").removeprefix("NAME.")
    return one.place.startswith(f"{section.place}.") and "." not in rest


def default_text(key: Key) -> str:
    """The default as a cell."""
    if key.default is None:
        return "must be given"
    return key.default or "left out"


def example_of(key: Key) -> tuple[str, Path | None]:
    """The key as it stands in a file that comes with us, which is named; else as its words say
    it.
    """
    if key.sections:
        return key.in_a_file, None
    return example_in(shipped_examples(key.file), key)


def example_in(examples: Mapping[str, tuple[str, Path]], key: Key) -> tuple[str, Path | None]:
    """The key as it stands in one of `shipped_examples`; else as its words say it."""
    if key.place not in examples:
        return key.in_a_file, None
    value, path = examples[key.place]
    return f"{key.above}\n{key.name} = {value}".strip(), path


def shipped_examples(file: str) -> dict[str, tuple[str, Path]]:
    """Dotted name → value as TOML, and the first file at hand that has it, of a kind of file."""
    from reasondistill.config.keys import toml_text

    found: dict[str, tuple[str, Path]] = {}
    for path in resources.available(_FILES[file]).values():
        try:
            values = read_toml(path)
        except ConfigError:  # a file of the user's, who asks about a key
            continue
        for place, value in values_in(values):
            text = toml_text(value)
            if len(text) <= _LONGEST_EXAMPLE:
                found.setdefault(place, (text, path))
    return found


def values_in(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of everything in a file that is no table."""
    for name, value in values.items():
        place = f"{before}{name}"
        inner: list[Any] = [value]
        if isinstance(value, list):
            inner = cast("list[Any]", value)
        for one in inner:
            if isinstance(one, dict):
                yield from values_in(cast("dict[str, Any]", one), f"{place}.")
        yield place, value
