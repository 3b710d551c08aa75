"""Small pieces of HTML that all sections of the page share. Whatever goes in as text is escaped
here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from reasondistill.records import OUTCOMES
from reasondistill.runs.missing import REFUSED
from reasondistill.stages.report import wording
from reasondistill.stages.report.plots import Line

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def text(value: object) -> str:
    """Escaped for HTML text and attributes; control characters, lone surrogates become U+FFFD."""
    return escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value)), quote=True)


def facts_list(facts: Mapping[str, object]) -> str:
    items = "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in facts.items())
    return f'<dl class="facts">{items}</dl>'


def plain(content: wording.Table) -> str:
    """A table of text."""
    rows = [[text(cell) for cell in row] for row in content.rows]
    return table(content.headers, rows, numbers=set(range(content.numbers, len(content.headers))))


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: set[int] | None = None,
    texts: set[int] | None = None,
) -> str:
    """Rows of ready HTML; the first cell of each heads its row. `numbers` are right-aligned
    columns, `texts` may wrap anywhere.
    """
    kinds = dict.fromkeys(numbers or (), ' class="number"')
    kinds |= dict.fromkeys(texts or (), ' class="text"')
    head = "".join(
        f'<th scope="col"{kinds.get(place, "")}>{text(name)}</th>'
        for place, name in enumerate(headers)
    )
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
    words: list[str] = []
    for name, value in parts.items():
        amount = wording.whole(value)
        if is_share:
            amount = f"{wording.percent(value)} %"
        words.append(f"{wording.label(name)} {amount}")
    said = ", ".join(words)
    total = sum(parts.values()) or 1
    pieces = "".join(
        f'<b class="{tone(name)}" style="flex:{value / total:.5f} 1 0"></b>'
        for name, value in parts.items()
        if value
    )
    return (
        f'<div class="stack" role="img" aria-label="{text(said)}" '
        f'title="{text(said)}">{pieces}</div>'
    )


def legend(names: Iterable[str]) -> str:
    items = ""
    for name in names:
        label = text(wording.label(name))
        items += f'<li><i class="{tone(name)}"></i>{label}</li>'
    return f'<ul class="legend">{items}</ul>'


def figure(plot: str, lines: Sequence[Line], caption: str) -> str:
    if not plot:
        return ""
    marks = "".join(_mark(line) for line in lines if line.points)
    return (
        f"<figure>{plot}<ul "
        f'class="legend">{marks}</ul><figcaption>{text(caption)}</figcaption></figure>'
    )


def _mark(line: Line) -> str:
    """The legend's entry of a curve."""
    colour = f"s{line.colour % 6}"
    look = f'class="{colour}"'
    if line.dashed:
        look = f'class="dash" style="border-color:var(--{colour})"'
    return f"<li><i {look}></i>{text(line.name)}</li>"
