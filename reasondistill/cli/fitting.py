"""Tables at the width of the terminal, whatever models are called.

    print_table(score_table(rows), drops=["n × k"])
    print_grid(score_grid(scores))

A table that is too wide loses the columns that may go, which is said below it. Where that is not
enough its names stand on lines of their own; a grid becomes several, one below the other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap

from rich.cells import cell_len
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment, Segments

from reasondistill.cli.console import coloured, named, out
from reasondistill.foreign_text import shown_line
from reasondistill.tables import Table, counted

# Wider than any terminal: what a table would like to have.
_ANY_WIDTH = 100_000
# Headings that stand before names only where the name would say nothing else.
_PLAIN_NAMES = ("", "model", "benchmark", "stage", "answers", "policy", "task", "setting")
# Of what stands below a line of names.
_INDENT = 2
# Of a name in a grid.
_SHORTEST_NAME = 12


def fits(table: Table, room: int = 0) -> bool:
    """Whether all columns have room beside each other, no cell folded, and so many signs more."""
    options = out.options.update_width(_ANY_WIDTH)
    laid_out = coloured(table)
    laid_out.pad_edge = not room
    return Measurement.get(out, options, laid_out).maximum <= out.width - room


def print_table(
    table: Table, drops: Sequence[str] = (), groups: int = 1, last_drops: Sequence[str] = ()
) -> None:
    """Print a table: whole where it has room, else without the columns `drops`, the first first, as
    far as it takes; else with its first `groups` names on lines of their own, above what belongs to
    them, without `last_drops` too; else row by row, with all of it.
    """
    narrow, left_out = narrowed(table, drops)
    if fits(narrow):
        out.print(coloured(narrow))
    else:
        parts = None
        if table.numbers > groups:
            parts = _grouped(table, (*drops, *last_drops), groups)
        if parts is None:
            print_rows(table)
            return
        left_out = parts.left_out
        _print_grouped(parts)
    if left_out:
        out.print(f"[dim]no room for: {named(', '.join(left_out))}[/]")


def narrowed(table: Table, drops: Sequence[str], room: int = 0) -> tuple[Table, list[str]]:
    """A table without as many of these columns as it takes to have room, its headings on several
    lines before that, and the headings of what it lost. `room` is left beside it.
    """
    left_out: list[str] = []
    for header in (*drops, None):
        for lines in (1, 2, 3):
            folded = with_folded_headers(table, lines)
            if fits(folded, room):
                return folded, left_out
        if header in table.headers:
            table = table.without([header])
            left_out.append(str(header))
    return table, left_out


def with_folded_headers(table: Table, lines: int) -> Table:
    """The same table, headings of several words on about so many lines each, where they are wider
    than what stands below them.
    """
    if lines == 1:
        return table
    headers: list[str] = []
    for place, header in enumerate(table.headers):
        width = max((cell_len(row[place]) for row in table.rows), default=1)
        width = max(width, cell_len(header) // lines + 1)
        headers.append("\n".join(wrap(header, width, break_long_words=False)))
    return replace(table, headers=tuple(headers))


@dataclass(frozen=True)
class _Groups:
    """Names of each row that stand on a line of their own, and the rest of the table."""

    names: list[str]
    rest: Table
    left_out: list[str]


def _grouped(table: Table, drops: Sequence[str], groups: int) -> _Groups | None:
    """Rows of the same names after each other. None where the rest has no room either."""
    of_names: dict[str, list[tuple[str, ...]]] = {}
    for row in table.rows:
        of_names.setdefault(names_of(table.headers[:groups], row), []).append(row)
    names = [name for name, rows in of_names.items() for _ in rows]
    rows = tuple(row for rows in of_names.values() for row in rows)
    together = replace(table, rows=rows).without(table.headers[:groups])
    rest, left_out = narrowed(together, drops, room=_INDENT)
    if not fits(rest, _INDENT):
        return None
    return _Groups(names, rest, left_out)


def _print_grouped(parts: _Groups) -> None:
    # No cell is folded: the last lines are those of the rows.
    laid_out = coloured(parts.rest)
    laid_out.pad_edge = False
    lines = out.render_lines(laid_out, pad=False)
    rows = lines[-len(parts.names) :]
    for line in lines[: -len(parts.names)]:
        _print_line(line)
    before = None
    for name, line in zip(parts.names, rows, strict=True):
        if name != before:
            out.print(named(name))
        before = name
        _print_line(line)


def _print_line(line: Sequence[Segment]) -> None:
    out.print(Segments([Segment(" " * _INDENT), *line, Segment.line()]), end="")


def names_of(headers: Sequence[str], row: Sequence[str]) -> str:
    """The names at the beginning of a row, each behind its heading where that says more."""
    names: list[str] = []
    for header, cell in zip(headers, row, strict=False):
        if header in _PLAIN_NAMES:
            names.append(cell)
        elif cell:
            names.append(f"{header} {cell}")
    return " · ".join(name for name in names if name)


def print_rows(table: Table) -> None:
    """Two lines for each row: names, then numbers with their headings."""
    for row in table.rows:
        numbers: list[str] = []
        for header, cell in zip(table.headers[table.numbers :], row[table.numbers :], strict=True):
            if cell:
                numbers.append(f"{header} {cell}".strip())
        out.print(named(names_of(table.headers[: table.numbers], row)))
        out.print(Padding(f"[dim]{named(' · '.join(numbers))}[/]", (0, 0, 0, 2), expand=False))


def print_grid(table: Table, *, most_rows: int = 12, most_pieces: int = 3) -> None:
    """Print a table of names down and names across: below each other the columns that have no room
    beside each other, so many pieces at most, long names shortened in their middle.
    """
    # Names across are foreign; a heading of ours may have several lines.
    headers = tuple(map(shown_line, table.headers))
    shown = replace(table, headers=headers, rows=table.rows[:most_rows])
    pieces = grid_pieces(shown)
    for number, piece in enumerate(pieces[:most_pieces]):
        if number:
            out.print()
        out.print(coloured(piece))
    more: list[str] = []
    rows_left = len(table.rows) - len(shown.rows)
    if rows_left:
        more.append(counted(rows_left, "more row"))
    columns_left = sum(len(piece.headers) - 1 for piece in pieces[most_pieces:])
    if columns_left:
        more.append(counted(columns_left, "more column"))
    if more:
        out.print(f"  [dim]… {' and '.join(more)}[/]")


def grid_pieces(table: Table) -> list[Table]:
    """The same table as several that have room, the names down repeated in each."""
    if fits(table):
        return [table]
    table = _with_short_names(table, max(_SHORTEST_NAME, out.width // 3))
    pieces: list[Table] = []
    first, *others = table.headers
    across: list[str] = []
    for header in others:
        if across and not fits(table.only([first, *across, header])):
            pieces.append(table.only([first, *across]))
            across = []
        across.append(header)
    return [*pieces, table.only([first, *across])]


def _with_short_names(table: Table, most: int) -> Table:
    headers = (table.headers[0], *short_names(table.headers[1:], most))
    names = short_names([row[0] for row in table.rows], most)
    rows = [(name, *row[1:]) for name, row in zip(names, table.rows, strict=True)]
    return replace(table, headers=headers, rows=tuple(rows))


def short_names(names: Sequence[str], most: int) -> list[str]:
    """The names with at most so many signs, cut in their middle; all as they are where two would
    look alike.
    """
    short = [shortened_inside(name, most) for name in names]
    if _are_different(names) and not _are_different(short):
        return list(names)
    return short


def _are_different(names: Collection[str]) -> bool:
    return len(set(names)) == len(names)


def shortened_inside(name: str, most: int) -> str:
    """`Qwen2.5-M…-distilled`: both ends of a long name."""
    if len(name) <= most:
        return name
    end = most // 2
    begin = most - end - 1
    return f"{name[:begin]}…{name[-end:]}"
