"""What all commands share: the application, where it prints, how it names things."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reasondistill import tables
from reasondistill.errors import StageError
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import disk_error

app = typer.Typer(
    help="Distil a reasoning model into a small one, and say honestly by how much it worked.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


class _Terminal(Console):
    """Says no more once nobody reads (`| head`). Who can go on without being heard catches the
    BrokenPipeError; else the command ends.
    """

    def on_broken_pipe(self) -> None:
        self.quiet = True
        # What is flushed at the end goes there.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


out = _Terminal(highlight=False)
err = _Terminal(stderr=True, highlight=False)

_COLOURS = {"better": "green", "worse": "red", "tied": "yellow"}

RunsDir = Annotated[Path, typer.Option("--runs", help="Where the folders of runs are.")]
RunName = Annotated[str, typer.Argument(help="A run's name or folder.")]
PipelineFile = Annotated[
    str,
    typer.Argument(help="A pipeline file, or the name of a shipped one (see `list pipelines`)."),
]
ClusterFile = Annotated[
    str, typer.Option(help="A cluster file, or the name of a shipped one (see `list clusters`).")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Check everything that needs no weights, print the plan, do nothing."
    ),
]


def log_lines(mark: str) -> None:
    """Our own log lines on standard output, each with a mark before it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(mark + "%(message)s"))
    logger = logging.getLogger("reasondistill")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def run_folder(name: str, runs: Path) -> Path:
    """The folder of a run: the one that is named, or the one of that name among the runs."""
    folder = Path(name)
    if RunFolder(folder).state.exists():
        return folder
    return runs / name


def say(text: str) -> None:
    """Print a line that is not broken, so that paths and commands in it can be copied."""
    out.print(text, soft_wrap=True)


def plain_table(*columns: str) -> Table:
    """A table without lines."""
    return Table(*columns, box=None, header_style="bold")


def count_text(value: Any) -> str:
    """`12,345`; nothing where it is not known."""
    if isinstance(value, int):
        return f"{value:,}"
    return ""


def shown(content: tables.Table) -> Table:
    """A table of text as the terminal shows it; better, worse and tied in their colour."""
    table = plain_table(*map(escape, content.headers))
    for row in content.rows:
        table.add_row(*map(_coloured, row))
    return table


def _coloured(cell: str) -> str:
    """A verdict in its colour, half of an interval dimmed."""
    if cell in _COLOURS:
        return f"[{_COLOURS[cell]}]{cell}[/]"
    mean, mark, half = escape(cell).partition("±")
    if mark:
        return f"{mean}[dim]±{half}[/]"
    return mean


def refused_by_disk(error: Exception, place: Path | None = None) -> StageError | None:
    """What a disk refused, in whatever library's words, as one clear error; None for any other.

    `place` stands for a file that the error does not name.
    """
    name = getattr(error, "filename", None)
    if isinstance(name, str):
        place = Path(name)
    if place is None:
        return None
    return disk_error(error, place)
