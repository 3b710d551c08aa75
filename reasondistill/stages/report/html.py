"""Small pieces of HTML that all sections of the page share. Whatever goes in as text is escaped
here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from reasondistill.bounds import PAGE_FACT, PAGE_TEXT, Bound
from reasondistill.foreign_text import shortened, shown
from reasondistill.records import OUTCOMES
from reasondistill.runs.missing import REFUSED
from reasondistill.stages.report import wording
from reasondistill.stages.report.plots import Line
from reasondistill.tables import Table, percent, whole


def text(value: object, bound: Bound = PAGE_TEXT) -> str:
    """Escaped for HTML text and attributes, and shortened. What one would not see, or what turns
    the direction of reading, is shown.
    """
    return escape(shown(shortened(str(value), bound.most)), quote=True)


def facts_list(facts: Mapping[str, object]) -> str:
    items = ""
    for key, value in facts.items():
        items += f"<dt>{text(key, PAGE_FACT)}</dt><dd>{text(value, PAGE_FACT)}</dd>"
    return f'<dl class="facts">{items}</dl>'


@dataclass(frozen=True)
class Pictures:
    """A column of pictures, as HTML, that stands behind the column `behind`."""

    behind: str
    header: str
    cells: Sequence[str]


def plain(content: Table, *pictures: Pictures) -> str:
    """A table of text, columns of pictures between; better, worse and tied have their colour."""
    names = list(content.headers)
    numbers = {name for name in names[content.numbers :] if name}
    columns = [[_coloured(cell) for cell in content.column(name)] for name in names]
    for more in pictures:
        place = names.index(more.behind) + 1
        names.insert(place, more.header)
        columns.insert(place, list(more.cells))
    rows = list(zip(*columns, strict=True))
    places = {place for place, name in enumerate(names) if name in numbers}
    return table(names, rows, numbers=places)


def _coloured(cell: str) -> str:
    if cell in ("better", "worse", "tied"):
        return f'<span class="{cell}">{cell}</span>'
    return text(cell)


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Iterable[int] = (),
    texts: Iterable[int] = (),
) -> str:
    """Rows of ready HTML; the first cell of each heads its row. `numbers` are right-aligned
    columns, `texts` may wrap anywhere.
    """
    kinds = dict.fromkeys(numbers, ' class="number"')
    kinds |= dict.fromkeys(texts, ' class="text"')
    head = ""
    for place, name in enumerate(headers):
        kind = kinds.get(place, "")
        head += f'<th scope="col"{kind}>{text(name)}</th>'
    body = ""
    for row in rows:
        body += f'<tr><th scope="row">{row[0]}</th>'
        for place, cell in enumerate(row[1:], start=1):
            kind = kinds.get(place, "")
            body += f"<td{kind}>{cell}</td>"
        body += "</tr>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="Table">{table}</div>'


def tone(name: str) -> str:
    known = {"out": "s0", "answered": "s0", "train": "s0", "validation": "s5"}
    if name in (*OUTCOMES, REFUSED):
        return name
    return known.get(name, "other")


def stack(parts: Mapping[str, float], *, is_share: bool) -> str:
    """A bar cut in proportion; the label says it in words."""
    total = sum(parts.values()) or 1
    words: list[str] = []
    pieces = ""
    for name, value in parts.items():
        amount = whole(value)
        if is_share:
            amount = f"{percent(value)} %"
        words.append(f"{wording.label(name)} {amount}")
        if value:
            part = value / total
            pieces += f'<b class="{tone(name)}" style="flex:{part:.5f} 1 0"></b>'
    label = text(", ".join(words))
    return f'<div class="stack" role="img" aria-label="{label}" title="{label}">{pieces}</div>'


def legend(names: Iterable[str]) -> str:
    items = ""
    for name in names:
        label = text(wording.label(name))
        items += f'<li><i class="{tone(name)}"></i>{label}</li>'
    return f'<ul class="legend">{items}</ul>'


def folded(title: str, inside: str, *, note: str = "", is_open: bool = False) -> str:
    """A part that one opens to read it, with a note at its head; `inside` is HTML already."""
    state = ""
    if is_open:
        state = " open"
    head = f"<details{state}><summary>{text(title)}</summary>"
    return f'{head}<div class="inside">{note_line(note)}{inside}</div></details>'


def note_line(note: str) -> str:
    """A paragraph in small print; nothing where there is nothing to say."""
    if not note:
        return ""
    return f'<p class="note">{text(note)}</p>'


def figure(plot: str, lines: Sequence[Line], caption: str) -> str:
    if not plot:
        return ""
    marks = "".join(_mark(line) for line in lines if line.points)
    legend = f'<ul class="legend">{marks}</ul>'
    return f"<figure>{plot}{legend}<figcaption>{text(caption)}</figcaption></figure>"


def _mark(line: Line) -> str:
    """The legend's entry of a curve."""
    colour = f"s{line.colour % 6}"
    look = f'class="{colour}"'
    if line.dashed:
        look = f'class="dash" style="border-color:var(--{colour})"'
    return f"<li><i {look}></i>{text(line.name)}</li>"
