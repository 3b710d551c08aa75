"""The data set card: the content of the data set, how it was made, and what was dropped; and the
one of the exports, by which `datasets` finds their shapes and splits.

`datasets` keeps what it has read under the name of the folder and what the card says of its files,
and takes it again where both are equal. So the card says what is in them: `description` is part of
what it compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reasondistill.curation.export import READ_BY
from reasondistill.hashing import stable_digest
from reasondistill.markdown import inline
from reasondistill.runs.figures import MixedGroup, SourceFigures, WriterFigures

# In the head of a card whose licence nobody has told.
NO_LICENCE = "# license: set it yourself; the licences of teacher and problems may restrict it"


@dataclass(frozen=True)
class FunnelRow:
    """One stage: records in, records out, and why the others were dropped."""

    stage: str
    entered: int
    left: int
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class DatasetFile:
    """One Parquet file of the data set."""

    split: str
    name: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class CardFacts:
    """The content of a card. `origins` and `figures` are shown as tables of name and value;
    `sources` are those of the problems where there are several, `mixture` the groups of a mixture,
    `writers` those who have written of every problem.
    """

    title: str
    files: Sequence[DatasetFile]
    funnel: Sequence[FunnelRow]
    origins: Mapping[str, str]
    figures: Mapping[str, str]
    fingerprints: Mapping[str, str]
    sources: Sequence[SourceFigures] = ()
    mixture: Sequence[MixedGroup] = ()
    writers: Sequence[WriterFigures] = ()


def dataset_card(facts: CardFacts) -> str:
    """README.md with the YAML head that `datasets.load_dataset` and the hub read. The same facts
    give the same text.
    """
    head = [
        "---",
        NO_LICENCE,
        "tags:",
        "- reasondistill",
        "- reasoning",
        "configs:",
        *_config("default", facts.files),
    ]
    body = [
        "---",
        "",
        f"# {inline(facts.title)}",
        "",
        "Worked solutions written by a teacher, graded against known answers and selected by "
        "reasondistill. Each row is one example: the prompt's turns, then the "
        "assistant's turn to learn.",
        "",
        "Texts are verbatim: where a question or an answer spells a special token of some model "
        "(`<|im_end|>`), it stands here as text. Tokenise the contents of turns without special "
        "tokens (`split_special_tokens=True`), or such text ends turns and texts.",
        "",
        *section(
            "How it was made",
            ("", ""),
            pairs(facts.origins),
        ),
        *section(
            "Funnel",
            ("stage", "in", "out", "dropped"),
            [funnel_cells(row) for row in facts.funnel],
        ),
        *section(
            "Sources",
            ("source", "tag", "dataset", "revision", "rows", "problems", "set aside"),
            [_source_cells(source) for source in facts.sources],
        ),
        *section(
            "Mixture",
            ("group", "weight", "examples", "tokens", "rows", "tokens of these", ""),
            [_group_cells(group) for group in facts.mixture],
        ),
        *section(
            "Writers",
            ("writer", "", "traces", "correct", "examples", "dropped"),
            [_writer_cells(writer) for writer in facts.writers],
        ),
        *section(
            "Figures",
            ("", ""),
            pairs(facts.figures),
        ),
        *section(
            "Files",
            ("split", "file", "rows", "sha256"),
            [_file_cells(file) for file in facts.files],
        ),
        *section(
            "Fingerprints",
            ("stage", "fingerprint"),
            [[inline(name), f"`{value}`"] for name, value in facts.fingerprints.items()],
        ),
        "The train and validation splits share no problem. Not covered: the licence of "
        "the problems and of the teacher's output.",
        "",
    ]
    return "\n".join(head + body)


def exports_card(shapes: Mapping[str, Sequence[DatasetFile]]) -> str:
    """README.md of the exports: each shape is a configuration, the first one the default."""
    head = ["---", "configs:"]
    for place, (shape, several) in enumerate(shapes.items()):
        head += _config(shape, several)
        if place == 0:
            head.append("  default: true")
    files = [_file_cells(file) for several in shapes.values() for file in several]
    read_by = [[inline(shape), inline(READ_BY.get(shape, ""))] for shape in shapes]
    body = [
        "---",
        "",
        "# Exports",
        "",
        "The same examples in several shapes, each a configuration of its own: "
        "`load_dataset(FOLDER, SHAPE)`.",
        "",
        *section("Shapes", ("shape", "read by"), read_by),
        *section("Files", ("split", "file", "rows", "sha256"), files),
    ]
    return "\n".join(head + body)


def _config(name: str, files: Sequence[DatasetFile]) -> list[str]:
    """A configuration of the head: its files, and a word that is another one for others."""
    content = stable_digest("\n".join(f"{file.split} {file.sha256}" for file in files)).hex()[:16]
    lines = [f"- config_name: {name}", f"  description: content {content}", "  data_files:"]
    for file in files:
        lines += [f"  - split: {file.split}", f"    path: {file.name}"]
    return lines


def pairs(values: Mapping[str, str]) -> list[list[str]]:
    """Names and values as rows of a table."""
    return [[inline(name), inline(value)] for name, value in values.items()]


def _file_cells(file: DatasetFile) -> list[str]:
    return [inline(file.split), inline(file.name), f"{file.rows:,}", f"`{file.sha256}`"]


def funnel_cells(row: FunnelRow) -> list[str]:
    """A stage as the row of a table: most frequent reasons first."""
    dropped = ", ".join(
        f"{reason}: {count:,}"
        for reason, count in sorted(row.dropped.items(), key=lambda item: (-item[1], item[0]))
    )
    return [inline(row.stage), f"{row.entered:,}", f"{row.left:,}", inline(dropped or "–")]


def _source_cells(source: SourceFigures) -> list[str]:
    where = (source.name, source.tag, source.dataset, source.revision)
    counts = [f"{source.rows:,}", f"{source.problems:,}"]
    return [*map(inline, where), *counts, inline(source.reasons or "–")]


def _writer_cells(writer: WriterFigures) -> list[str]:
    counts = (writer.traces, writer.correct, writer.kept)
    dropped = inline(writer.reasons or "–")
    return [inline(writer.name), writer.whose, *(f"{count:,}" for count in counts), dropped]


def _group_cells(group: MixedGroup) -> list[str]:
    counts = (group.examples, group.tokens, group.rows, group.mixed_tokens)
    numbers = [f"{count:,}" for count in counts]
    return [inline(group.name), f"{group.weight:g}", *numbers, group.fate]


def section(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A heading and a table; nothing where there are no rows."""
    if not rows:
        return []
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    return [
        f"## {title}",
        "",
        *lines,
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
