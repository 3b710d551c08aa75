"""`list` and `copy`: the files, and the filters, that come with us."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from reasondistill.cli.console import (
    app,
    named,
    out,
)
from reasondistill.config import resources
from reasondistill.curation.filters import ExampleFilter, all_filters
from reasondistill.errors import ConfigError
from reasondistill.sections import Section, read_toml

_LISTED = ("prompts", "pipelines", "benchmarks", "clusters", "filters")
_COPIED = ("pipelines", "prompts", "benchmarks", "clusters", "orchestrators")


@app.command(name="list", epilog="Example:\n\n  reasondistill list pipelines")
def list_command(
    kind: Annotated[
        str, typer.Argument(help="prompts, pipelines, benchmarks, clusters or filters")
    ],
) -> None:
    """The files of a kind that are at hand, with a line about each; the filters of traces with what
    each drops and its settings.
    """
    if kind not in _LISTED:
        known = ", ".join(_LISTED)
        raise ConfigError(f"list {kind}: unknown. Known: {known}.")
    table = Table(box=None, show_header=False)
    if kind == "filters":
        for one in all_filters():
            if one.has_own_table:
                settings = f"[dim]{named(defaults_of(one.settings))}[/]"
                table.add_row(f"[bold]{named(one.name)}[/]", named(first_words(one)), settings)
        out.print(table)
        return
    for name, path in resources.available(kind).items():
        table.add_row(f"[bold]{named(name)}[/]", named(about(path)), f"[dim]{named(path)}[/]")
    out.print(table)


def first_words(one: ExampleFilter) -> str:
    """What a filter drops: the first paragraph of what it says of itself."""
    return " ".join(one.about.partition("\n\n")[0].split())


def defaults_of(settings: type[Section]) -> str:
    """`least_words = 20, copied = 0.8`; a key without a default alone."""
    keys: list[str] = []
    for name, field in settings.model_fields.items():
        if field.is_required():
            keys.append(name)
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        if default is None:
            keys.append(f"{name} (unset)")
        else:
            keys.append(f"{name} = {json.dumps(default, default=str)}")
    return ", ".join(keys)


def about(path: Path) -> str:
    """What a TOML file says of itself."""
    try:
        about = str(read_toml(path).get("about", ""))
        return " ".join(about.split())
    except ConfigError as error:
        return f"not readable: {error}"


@app.command(epilog="Example:\n\n  reasondistill copy gsm8k_sft mine.toml")
def copy(
    name: Annotated[
        str,
        typer.Argument(
            help="The name of a shipped pipeline, prompt, benchmark or cluster file, skypilot "
            "or kubernetes."
        ),
    ],
    to: Annotated[
        Path | None, typer.Argument(help="Where to; by default its own file name, here.")
    ] = None,
) -> None:
    """Copy a shipped file here, to change it."""
    source = shipped_file(name)
    target = to or Path(source.name)
    if target.is_dir():
        target = target / source.name
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent}: no such folder.")
    if target.exists():
        raise ConfigError(f"{target}: exists already; name another file.")
    shutil.copyfile(source, target)
    out.print(f"{named(source)} → {named(target)}")


def shipped_file(name: str) -> Path:
    """The first shipped file of this name, of whatever kind. Raises ConfigError."""
    for kind in _COPIED:
        path = resources.available(kind).get(Path(name).stem)
        if path is not None:
            return path
    raise ConfigError(
        f"{name}: no shipped file of that name. See `reasondistill list pipelines` "
        "(prompts, benchmarks, clusters)."
    )
