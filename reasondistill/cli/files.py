"""`list` and `copy`: the files, and all other parts, that come with us."""

from __future__ import annotations

import importlib
import inspect
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from reasondistill.cli.console import app, named, out, say
from reasondistill.config import VENDOR_SETTINGS, resources
from reasondistill.config.students import PLAIN_METHODS
from reasondistill.curation.filters import ExampleFilter, all_filters
from reasondistill.errors import ConfigError
from reasondistill.foreign_logs.values import read_object
from reasondistill.grading.policies import POLICIES
from reasondistill.methods import METHODS
from reasondistill.nearest import nearest
from reasondistill.sections import Section, read_toml

_FILES = {
    "prompts": "what a model is asked, a file each",
    "pipelines": "what a run does, a file each",
    "benchmarks": "what is measured, a file each",
    "clusters": "where a run is done, a file each",
}
_COPIED = ("pipelines", "prompts", "benchmarks", "clusters", "orchestrators")
Rows = Iterator[tuple[str, str, str]]


@app.command(name="list", epilog="Example:\n\n  reasondistill list pipelines")
def list_command(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="prompts, pipelines, benchmarks, clusters, filters, methods, policies, settings, "
            "samplers, models or checks. Without it these kinds."
        ),
    ] = None,
) -> None:
    """What comes with us, of a kind, with a line about each: files that are at hand, filters of
    traces, methods, grading policies, vendors' sampling settings, samplers, models, checks.
    """
    rows: Rows = ((name, words, "") for name, words in kinds_with_words().items())
    if kind is not None:
        rows = parts_of(kind)
    table = Table(box=None, show_header=False)
    for name, words, more in rows:
        table.add_row(f"[bold]{named(name)}[/]", named(words), f"[dim]{named(more)}[/]")
    out.print(table)


def kinds_with_words() -> dict[str, str]:
    """Each kind, and what it is."""
    parts = {name: inspect.getdoc(rows) or "" for name, rows in _PARTS.items()}
    return _FILES | parts


def parts_of(kind: str) -> Rows:
    """Name, what it is, and more, of everything of a kind. Raises ConfigError."""
    if kind in _FILES:
        return files_of(kind)
    if kind in _PARTS:
        return _PARTS[kind]()
    raise ConfigError(f"list {kind}: unknown. {nearest(kind, [*_FILES, *_PARTS])}")


def files_of(kind: str) -> Rows:
    """Name, what it says of itself, place."""
    for name, path in resources.available(kind).items():
        yield name, about(path), str(path)


def filters() -> Rows:
    """what keeps a trace from becoming an example: a table each below [examples.filters]"""
    for one in all_filters():
        if one.has_own_table:
            yield one.name, first_words(one), defaults_of(one.settings)


def methods() -> Rows:
    """how a student learns: method of [[students]]"""
    for name, words in PLAIN_METHODS.items():
        yield name, words, ""
    for name, method in METHODS.items():
        yield name, first_paragraph(method.settings_class), defaults_of(method.settings_class)


def policies() -> Rows:
    """how strict the grader is: policy of [verdicts]"""
    usual = POLICIES["default"]
    for policy in POLICIES.values():
        words = f"imitates {policy.imitates}"
        if not policy.imitates:
            words = "our own rules"
        others: list[str] = []
        for key, value in asdict(policy).items():
            is_rule = key not in ("name", "engine", "imitates")
            if is_rule and not policy.imitates and value != getattr(usual, key):
                others.append(f"{key} = {json.dumps(value)}")
        yield policy.name, words, ", ".join(others)


def settings() -> Rows:
    """what vendors recommend for sampling their models: settings of [traces] and [evals]"""
    for name, values in VENDOR_SETTINGS.items():
        yield name, ", ".join(f"{key} = {value}" for key, value in values.items()), ""


def samplers() -> Rows:
    """where completions come from: sampler of a teacher or of a measured model"""
    from reasondistill.config.sampler_kinds import SAMPLERS, capabilities_of, sampler_names

    for name in sampler_names():
        module = importlib.import_module(f"{SAMPLERS}.{name}")
        able = [key for key, value in asdict(capabilities_of(name)).items() if value is True]
        yield name, first_paragraph(module), ", ".join(able)


def models() -> Rows:
    """models that come with the package: base or model = "shipped:NAME\""""
    for name, path in resources.shipped_models().items():
        config = read_object(path / "config.json")
        sizes = f"{config.get('num_hidden_layers')} layers of {config.get('hidden_size')}"
        yield f"shipped:{name}", f"{config.get('model_type')}, {sizes}", str(path)


def checks() -> Rows:
    """what is looked at before a run begins, by run and by doctor"""
    from reasondistill.doctor import all_checks

    for check in all_checks():
        yield check.name, " ".join(check.about.partition("\n\n")[0].split()), ""


_PARTS: dict[str, Callable[[], Rows]] = {
    "filters": filters,
    "methods": methods,
    "policies": policies,
    "settings": settings,
    "samplers": samplers,
    "models": models,
    "checks": checks,
}


def first_paragraph(part: object) -> str:
    """The first paragraph of what a part of ours says of itself."""
    text = inspect.getdoc(part) or ""
    return " ".join(text.partition("\n\n")[0].split())


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
        Path | None,
        typer.Argument(
            help="Where to; by default where its name is looked up: pipelines/, prompts/, "
            "eval/benchmarks/ or pipelines/clusters/, here."
        ),
    ] = None,
) -> None:
    """Copy a shipped file to where its name is looked up, or anywhere else, to change it."""
    kind, source = shipped_file(name)
    target = to
    if target is None:
        target = Path(source.name)
        if kind != "orchestrators":  # nobody looks these up by name
            target = resources.own_folder(kind) / source.name
    if target.is_dir():
        target = target / source.name
    if to is None and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent}: no such folder.")
    if target.exists():
        raise ConfigError(f"{target}: exists already; name another file.")
    shutil.copyfile(source, target)
    out.print(f"{named(source)} → {named(target)}")
    folder = resources.own_folder(kind)
    if kind in _FILES and target.parent.resolve() != folder.resolve():
        say(f"[dim]It is meant by its path, {named(target)}; by name where it is in {folder}/.[/]")


def shipped_file(name: str) -> tuple[str, Path]:
    """Kind and path of the first shipped file of this name. Raises ConfigError."""
    known: dict[str, tuple[str, Path]] = {}
    for kind in _COPIED:
        for stem, path in resources.available(kind).items():
            known.setdefault(stem, (kind, path))
    stem = Path(name).stem
    if stem not in known:
        raise ConfigError(f"{name}: no shipped file of that name. {nearest(stem, list(known))}")
    return known[stem]
