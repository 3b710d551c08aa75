"""Small pieces of HTML that all sections of the page share, as templates/pieces.html writes them.
What goes in as text is escaped there; what was made here stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reasondistill.records import OUTCOMES
from reasondistill.runs.missing import REFUSED
from reasondistill.stages.report import wording
from reasondistill.stages.report.plots import Line
from reasondistill.stages.report.rendering import macro, text
from reasondistill.tables import Table, percent, whole

__all__ = ["Pictures", "plain", "text"]


@dataclass(frozen=True)
class Pictures:
    """A column of pictures that stands behind the column `behind`."""

    behind: str
    header: str
    cells: Sequence[Markup]


def piece(name: str, *arguments: object, **named: object) -> Markup:
    """A macro of pieces.html."""
    return macro("pieces.html", name, *arguments, **named)


def joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def plain(content: Table, *pictures: Pictures, label: str = "all") -> Markup:
    """A table of text, columns of pictures between; better, worse and tied have their colour."""
    names = list(content.headers)
    numbers = {name for name in names[content.numbers :] if name}
    columns: list[Sequence[str]] = [content.column(name) for name in names]
    for more in pictures:
        place = names.index(more.behind) + 1
        names.insert(place, more.header)
        columns.insert(place, more.cells)
    rows = list(zip(*columns, strict=True))
    places = {place for place, name in enumerate(names) if name in numbers}
    return table(names, rows, numbers=places, label=label)


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    label: str,
    numbers: Iterable[int] = (),
    texts: Iterable[int] = (),
) -> Markup:
    """Rows of text or pieces; the first cell of each heads its row. `numbers` are right-aligned
    columns, `texts` may wrap anywhere. `label` says what scrolls there.
    """
    kinds = [""] * len(headers)
    for place in numbers:
        kinds[place] = "number"
    for place in texts:
        kinds[place] = "text"
    return piece("table", headers, rows, kinds, label)


def facts_list(facts: Mapping[str, object]) -> Markup:
    return piece("facts_list", facts)


def tone(name: str) -> str:
    known = {"out": "s0", "answered": "s0", "train": "s0", "validation": "s5"}
    if name in (*OUTCOMES, REFUSED):
        return name
    return known.get(name, "other")


def stack(parts: Mapping[str, float], *, is_share: bool) -> Markup:
    """A bar cut in proportion; the label says it in words."""
    total = sum(parts.values()) or 1
    said: list[str] = []
    pieces: list[dict[str, object]] = []
    start = 0.0
    for name, value in parts.items():
        amount = whole(value)
        if is_share:
            amount = f"{percent(value)} %"
        words = f"{wording.label(name)} {amount}"
        said.append(words)
        width = 100 * value / total
        if value:
            drawn: dict[str, object] = {"tone": tone(name), "words": words}
            pieces.append(drawn | {"start": start, "width": width})
        start += width
    return piece("stack", pieces, ", ".join(said))


def legend(names: Iterable[str]) -> Markup:
    return piece("legend", [(tone(name), wording.label(name)) for name in names])


def folded(title: str, inside: Markup, *, note: str = "", is_open: bool = False) -> Markup:
    """A part that one opens to read it, with a note at its head."""
    return piece("folded", title, inside, note, is_open)


def note_line(note: str) -> Markup:
    """A paragraph in small print; nothing where there is nothing to say."""
    return piece("note", note)


def figure(plot: Markup, lines: Sequence[Line], caption: str) -> Markup:
    if not plot:
        return Markup("")
    signs: list[tuple[str, str]] = []
    for line in lines:
        if line.points:
            colour = f"s{line.colour % 6}"
            sign = f"dash {colour}" if line.dashed else colour
            signs.append((sign, line.name))
    return piece("figure", plot, signs, caption)
