"""What a run.json makes its next user do: shell lines, modules that are imported, servers that are
asked with keys of the user's environment. A run's folder is code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_origin

from reasondistill.config import Benchmark, Cluster, EnvironmentSettings, Pipeline
from reasondistill.foreign_text import shown_line
from reasondistill.pipeline.decisions import decision_of, section_in
from reasondistill.runs.seals import SAME_KEY
from reasondistill.sections import Section

# So many lines are shown.
_MOST = 40


def refusal(folder: str, lines: Sequence[str]) -> str:
    """Why a stranger's run is not gone on with, and the way to do so."""
    shown_lines = [f"  {shown_line(line)}" for line in lines[:_MOST]]
    if len(lines) > _MOST:
        shown_lines.append(f"  … and {len(lines) - _MOST:,} more")
    listed = "\n".join(shown_lines)
    return (
        f"{folder}: was not started by you with this version (its run.json is not sealed with your "
        f"key). A run's folder is code; going on with it would use:\n{listed}\n"
        "Read this. If you would run it yourself, --trust takes the folder for "
        "your own; else start from its pipeline file under another name. "
        f"{SAME_KEY}"
    )


def what_it_runs(where: str, section: object, base: Path | None = None) -> list[str]:
    """One line for each thing in the JSON of a `pipeline`, a `cluster` file or a `benchmark` that
    is executed, imported, read outside of the working directory, or spoken to with a key of this
    user's environment (decisions.py). `base` is where relative paths are also tried.
    """
    return list(_found(where, _KINDS[where.partition(" ")[0]], section, base))


_KINDS: Mapping[str, type[Section]] = {
    "pipeline": Pipeline,
    "cluster": Cluster,
    "benchmark": Benchmark,
}


def _found(where: str, kind: type[Section], value: object, base: Path | None) -> Iterator[str]:
    """The lines of a section, of a list of them, or of a table whose values they are."""
    if isinstance(value, list):
        for number, item in enumerate(cast("list[object]", value)):
            yield from _found(f"{where}.{number}", kind, item, base)
    if not isinstance(value, dict):
        return
    for key, item in cast("dict[str, Any]", value).items():
        place = f"{where}.{key}"
        field = kind.model_fields.get(key)
        annotation = None
        if field is not None:
            annotation = field.annotation
        inner = section_in(annotation, item)
        if inner is not None and get_origin(annotation) is dict and isinstance(item, dict):
            for name, section in cast("dict[str, Any]", item).items():
                yield from _found(f"{place}.{name}", inner, section, base)
        elif inner is not None:
            yield from _found(place, inner, item, base)
        elif item and decision_of(kind, key).is_shown(item, base):
            yield from _lines(place, kind, item)


def _lines(place: str, kind: type[Section], value: Any) -> Iterator[str]:
    """What is shown of a value; of what a shell does, each line."""
    if kind is not EnvironmentSettings:
        yield f"{place} = {value!r}"
        return
    values = value
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        values = [f"{variable}={text}" for variable, text in named.items()]
    if not isinstance(values, list):
        values = [values]
    for line in cast("list[object]", values):
        yield f"{place}: {line}"


def imported_samplers(pipeline: object, where: str = "pipeline") -> list[str]:
    """Modules that are imported when the pipeline of a run.json is only looked at."""
    lines: list[str] = []
    if isinstance(pipeline, list):
        for number, item in enumerate(cast("list[object]", pipeline)):
            lines += imported_samplers(item, f"{where}.{number}")
    if isinstance(pipeline, dict):
        for key, item in cast("dict[str, object]", pipeline).items():
            if key == "sampler" and ":" in str(item):
                lines.append(f"{where}.{key} = {item!r}")
            lines += imported_samplers(item, f"{where}.{key}")
    return lines
