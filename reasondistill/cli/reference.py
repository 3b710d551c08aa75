"""The pages of the documents that are made from the code: every key of each kind of file, every
command, the JSON Schemas.

    pages = reference_pages()      # {"reference/keys/traces.md": "# …", …}

What a key is for is what `explain` says of it, what a command does is what its `--help` says.
`docs/hooks.py` gives the pages to mkdocs.
"""

from __future__ import annotations

import html
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import typer
from typer.main import get_command

from reasondistill.cli.documents import DOCUMENTS, ErrorDocument, Row
from reasondistill.cli.explaining import (
    all_keys,
    default_text,
    example_in,
    is_below,
    shipped_examples,
)
from reasondistill.cli.files import kinds_with_words, parts_of
from reasondistill.cli.schema import Subject, json_schema

if TYPE_CHECKING:
    from reasondistill.config.keys import Key

_HEADLINES = {
    "cluster": "Cluster file",
    "benchmark": "Benchmark file",
    "prompt": "Prompt file",
}
# Above each of these pages, whose tables have the rest.
_INTRODUCTIONS = {
    "cluster": "Where a run is done: `--on NAME`. Nothing in it counts as another run.",
    "benchmark": "What is measured: a file in `eval/benchmarks/`, named in `[evals] benchmarks`.",
    "prompt": "What a model is asked: a file in `prompts/`.",
}
_OF_PIPELINES = """# Pipeline file

What a run does: problems, models, sampling, data, students, measures. Each section has a page:

* [`[problems]`](problems.md): where the problems come from, and which are set aside
* [`[traces]`](traces.md): who writes traces, how many, how they are sampled
* [`[verdicts]`](verdicts.md): how answers are graded, a judge, a vote
* [`[examples]`](examples.md): which traces become examples, filters, exports
* [`[[students]]`](students.md): what is trained, by which method, beside which baselines
* [`[evals]`](evals.md): what is measured, with how many samples
* [`[report]`](report.md): what the report shows"""
_COLUMNS = ("key", "what it is for", "type", "default", "example")
_CODE = re.compile(r"`([^`]+)`")
_END_OF_CLAUSE = re.compile(r"[.,;:](?:\s|$)")
_MARKUP = re.compile(r"\[/?(?:bold|dim|red|yellow|green|cyan)?\]")


def reference_pages() -> dict[str, str]:
    """Path below docs/ → content of every page and file that is made from the code."""
    keys = all_keys()
    pages: dict[str, str] = {}
    of_pipelines = [key for key in keys if key.file == "pipeline"]
    examples = shipped_examples("pipeline")
    at_the_top = [key for key in of_pipelines if "." not in key.place and not key.sections]
    pages["reference/keys/pipeline.md"] = keys_page(_OF_PIPELINES, at_the_top, examples)
    for section in sections_at_the_top(of_pipelines):
        inside = [key for key in of_pipelines if key.place.split(".")[0] == section.place]
        title = f"# {section.header}\n\nA section of a pipeline file."
        pages[f"reference/keys/{section.place}.md"] = keys_page(title, inside, examples)
    for file, headline in _HEADLINES.items():
        inside = [key for key in keys if key.file == file]
        title = f"# {headline}\n\n{_INTRODUCTIONS[file]}"
        pages[f"reference/keys/{file}.md"] = keys_page(title, inside, shipped_examples(file))
    pages["reference/commands.md"] = commands_page()
    pages["reference/parts.md"] = parts_page()
    for subject in Subject:
        schema = json.dumps(json_schema(subject), indent=1)
        pages[f"reference/schemas/{subject.value}.schema.json"] = f"{schema}\n"
    return pages


# ---- keys ----------------------------------------------------------------------------------------


def sections_at_the_top(keys: Sequence[Key]) -> list[Key]:
    """The sections that a file begins with, one of each name."""
    found = {key.place: key for key in keys if key.sections and "." not in key.place}
    return list(found.values())


def keys_page(title: str, keys: Sequence[Key], examples: Mapping[str, tuple[str, Path]]) -> str:
    """A page with a table of keys for each section of a file, in the file's order."""
    parts = [title]
    at_the_top = [key for key in keys if "." not in key.place and not key.sections]
    if at_the_top:
        parts.append("## At the top of the file")
        parts.append(keys_table(at_the_top, examples))
    for section in one_of_each(key for key in keys if key.sections):
        parts.append(f"## `{section.header}` {{ #{section.place} }}")
        parts.extend(words_of_section(section))
        inside = one_of_each(key for key in keys if is_below(key, section) and not key.sections)
        if inside:
            parts.append(keys_table(inside, examples))
        tables = one_of_each(key for key in keys if is_below(key, section) and key.sections)
        if tables:
            links = ", ".join(f"[`{table.header}`](#{table.place})" for table in tables)
            parts.append(f"Tables inside it: {links}.")
    return "\n\n".join(parts) + "\n"


def one_of_each(keys: Iterator[Key]) -> list[Key]:
    """Keys without those that stand at the same place, and say the same, a second time."""
    found: dict[tuple[str, str, str], Key] = {}
    for key in keys:
        found.setdefault((key.place, key.about, key.type), key)
    return list(found.values())


def words_of_section(section: Key) -> Iterator[str]:
    """What a section is for, what its class says of itself, and where that stands. Where the class
    begins with the same words, they stand there once.
    """
    begins = _END_OF_CLAUSE.split(section.about)[0]
    docstrings = [" ".join((inspect.getdoc(kind) or "").split()) for kind in section.sections]
    is_said_by_class = any(text.startswith(begins) for text in docstrings)
    if section.about and not is_said_by_class:
        yield paragraph(section.about)
    for kind in section.sections:
        for text in (inspect.getdoc(kind) or "").split("\n\n"):
            said = " ".join(text.split())
            if said:
                yield paragraph(said)
        module = kind.__module__.replace(".", "/")
        yield f"Source: `{module}.py`, `{kind.__name__}`."


def keys_table(keys: Sequence[Key], examples: Mapping[str, tuple[str, Path]]) -> str:
    """One row for each key. In HTML: patterns of values would be marks of Markdown."""
    rows = [f"<tr>{''.join(f'<th>{column}</th>' for column in _COLUMNS)}</tr>"]
    for key in keys:
        kind = key.type
        if key.unit:
            kind = f"{kind} [{key.unit}]"
        text, path = example_in(examples, key)
        example = f"<code>{html.escape(text.splitlines()[-1])}</code>"
        if path is not None:
            example += f"<br>as in {html.escape(path.name)}"
        default = html.escape(default_text(key))
        if key.default:
            default = f"<code>{default}</code>"
        name = f'<code id="{html.escape(key.place)}">{html.escape(key.name)}</code>'
        cells = (name, cell(key.about), cell(kind), default, example)
        rows.append(f"<tr>{''.join(f'<td>{one}</td>' for one in cells)}</tr>")
    inside = "\n".join(rows)
    return f"<table>\n{inside}\n</table>"


def cell(text: str) -> str:
    """A text as HTML, with `code` in it."""
    return _CODE.sub(r"<code>\1</code>", html.escape(text))


def paragraph(text: str) -> str:
    """A paragraph as HTML."""
    return f"<p>{cell(text)}</p>"


# ---- parts ---------------------------------------------------------------------------------------


def parts_page() -> str:
    """What `list` shows of every kind of part. Where files lie differs from machine to machine."""
    parts = [
        "# Parts",
        "What comes with the package, by kind, as `reasondistill list KIND` says it.",
    ]
    for kind, about in kinds_with_words().items():
        parts.append(f"## {kind}")
        parts.append(paragraph(f"{about[:1].upper()}{about[1:]}."))
        rows: list[str] = []
        for name, words, more in parts_of(kind):
            shown = (f"<code>{html.escape(name)}</code>", cell(words), html.escape(more))
            if Path(more).is_absolute():
                shown = shown[:2]
            rows.append(f"<tr>{''.join(f'<td>{one}</td>' for one in shown)}</tr>")
        inside = "\n".join(rows)
        parts.append(f"<table>\n{inside}\n</table>")
    return "\n\n".join(parts) + "\n"


# ---- commands ------------------------------------------------------------------------------------


def commands_page() -> str:
    """What `--help` says of every command, in alphabetical order."""
    from reasondistill.cli.entry import app  # with all of them

    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    parts = ["# Commands", plain(str(app.info.epilog)), *words_of_json()]
    for name in sorted(commands):
        if not commands[name].hidden:
            parts.extend(words_of_command(name, commands[name]))
    return "\n\n".join(parts) + "\n"


def words_of_json() -> Iterator[str]:
    """What holds for every `--json`, and the document of an error."""
    names = ", ".join(f"[`{name}`](#json-{name})" for name in DOCUMENTS)
    yield (
        f"With `--json` these print one JSON document on standard output: {names}. All else goes "
        "to standard error. Fields have a fixed order; what is not known, or is no number, "
        "is null, never NaN. With `--quiet` besides, standard error has errors and warnings alone."
    )
    yield f"An error is a document too. {first_line(ErrorDocument)}"
    yield fields_table(ErrorDocument)
    for row in rows_inside(ErrorDocument):
        yield paragraph(f"`{row.__name__}`: {first_line(row)}")
        yield fields_table(row)


def words_of_command(name: str, command: Any) -> Iterator[str]:
    """Usage, what it does, arguments and options, examples."""
    context = typer.Context(command, info_name=f"reasondistill {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"## {name}"
    yield f"```text\nreasondistill {name} {usage}\n```"
    for text in inspect.cleandoc(command.help or "").split("\n\n"):
        yield paragraph(plain(text))
    rows: list[str] = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            words, said = record
            rows.append(
                f"<tr><td><code>{html.escape(words)}</code></td><td>{cell(plain(said))}</td></tr>"
            )
    inside = "\n".join(rows)
    yield f"<table>\n{inside}\n</table>"
    if name in DOCUMENTS:
        yield from words_of_document(name)
    lines = [line.strip() for line in (command.epilog or "").splitlines()]
    examples = [line for line in lines if line.startswith("reasondistill ")]
    if examples:
        joined = "\n".join(examples)
        yield f"```console\n{joined}\n```"


def words_of_document(name: str) -> Iterator[str]:
    """What `--json` prints: a table of fields, and below it one for each kind of row inside."""
    document = DOCUMENTS[name]
    yield f"### What `{name} --json` prints {{ #json-{name} }}"
    yield fields_table(document)
    for row in rows_inside(document):
        yield paragraph(f"`{row.__name__}`: {first_line(row)}")
        yield fields_table(row)


def fields_table(kind: type[Row]) -> str:
    """One row for each field of a document."""
    rows = ["<tr><th>field</th><th>what it says</th><th>type</th></tr>"]
    for name, field in kind.model_fields.items():
        kind_of = html.escape(type_words(field.annotation))
        words = cell(" ".join((field.description or "").split()))
        rows.append(f"<tr><td><code>{name}</code></td><td>{words}</td><td>{kind_of}</td></tr>")
    inside = "\n".join(rows)
    return f"<table>\n{inside}\n</table>"


def rows_inside(kind: type[Row]) -> list[type[Row]]:
    """The kinds of rows that a document has in lists or fields of its own."""
    found: dict[type[Row], None] = {}
    for field in kind.model_fields.values():
        inside = [field.annotation, *get_args(field.annotation)]
        for one in inside:
            if isinstance(one, type) and issubclass(one, Row):
                found[one] = None
    return list(found)


def type_words(annotation: Any) -> str:
    """`list of ScoreRow`, `number or null`, `"done" | "sent"`."""
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Literal:
        return " | ".join(json.dumps(value) for value in arguments)
    if origin is tuple:
        return f"list of {type_words(arguments[0])}"
    if origin is dict:
        return f"object of {type_words(arguments[1])}"
    if arguments:
        return " or ".join(map(type_words, arguments))
    return _JSON_TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)))


_JSON_TYPES: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "null",
}


def first_line(kind: type[Row]) -> str:
    """What the class of a document says of itself."""
    return " ".join((inspect.getdoc(kind) or "").split())


def plain(text: str) -> str:
    """A text of `--help` on one line, without marks of its colours."""
    return " ".join(_MARKUP.sub("", text).split())
