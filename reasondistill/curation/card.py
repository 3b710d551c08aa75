"""The data set card: the content of the data set, how it was made, and what was dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reasondistill.markdown import inline


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
    """The content of a card. `origins` and `figures` are shown as tables of name and value."""

    title: str
    files: Sequence[DatasetFile]
    funnel: Sequence[FunnelRow]
    origins: Mapping[str, str]
    figures: Mapping[str, str]
    fingerprints: Mapping[str, str]


def dataset_card(facts: CardFacts) -> str:
    """README.md with the YAML head that `datasets.load_dataset` and the hub read. The same facts
    give the same text.
    """
    head = [
        "---",
        "# license: set it yourself; the licences of teacher and problems may restrict it",
        "tags:",
        "- reasondistill",
        "- reasoning",
        "configs:",
    ]
    head += ["- config_name: default", "  data_files:"]
    for file in facts.files:
        head += [f"  - split: {file.split}", f"    path: {file.name}"]
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
        *_section(
            "How it was made",
            ("", ""),
            _pairs(facts.origins),
        ),
        *_section(
            "Funnel",
            ("stage", "in", "out", "dropped"),
            [_funnel_cells(row) for row in facts.funnel],
        ),
        *_section(
            "Figures",
            ("", ""),
            _pairs(facts.figures),
        ),
        *_section(
            "Files",
            ("split", "file", "rows", "sha256"),
            [_file_cells(file) for file in facts.files],
        ),
        *_section(
            "Fingerprints",
            ("stage", "fingerprint"),
            [[inline(name), f"`{value}`"] for name, value in facts.fingerprints.items()],
        ),
        "The train and validation splits share no problem. Not covered: the licence of "
        "the problems and of the teacher's output.",
        "",
    ]
    return "\n".join(head + body)


def _pairs(values: Mapping[str, str]) -> list[list[str]]:
    return [[inline(name), inline(value)] for name, value in values.items()]


def _file_cells(file: DatasetFile) -> list[str]:
    return [inline(file.split), inline(file.name), f"{file.rows:,}", f"`{file.sha256}`"]


def _funnel_cells(row: FunnelRow) -> list[str]:
    dropped = ", ".join(
        f"{reason}: {count:,}"
        for reason, count in sorted(row.dropped.items(), key=lambda item: (-item[1], item[0]))
    )
    return [inline(row.stage), f"{row.entered:,}", f"{row.left:,}", inline(dropped or "–")]


def _section(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
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
