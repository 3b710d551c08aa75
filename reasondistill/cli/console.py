"""What all commands share: the application, where it prints, how it names things."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.errors import MarkupError
from rich.markup import RE_TAGS, escape
from rich.protocol import is_renderable
from rich.table import Table
from rich.text import Text

from reasondistill import tables
from reasondistill.errors import StageError
from reasondistill.foreign_json import with_numbers
from reasondistill.foreign_text import (
    ShownFormatter,
    cleaned_texts,
    shown,
    shown_json,
    shown_line,
    shown_stream,
    write_as_is,
)
from reasondistill.runs.layout import PACK, RunFolder
from reasondistill.runs.store import disk_error
from reasondistill.secrets import cleaned

app = typer.Typer(
    help="Distil a reasoning model into a small one, and say honestly by how much it worked.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 2 a message for you (file, folder, setting, full disk); 130 after "
    "Ctrl-C, 143 after SIGTERM; 1 is a fault of ours.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


class _Terminal(Console):
    """Shows what others wrote as text, also where a command forgot to: of markup it knows our own
    few styles.

    Says no more once nobody reads (`| head`). Who can go on without being heard catches the
    BrokenPipeError; else the command ends.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        texts: list[Any] = []
        for one in objects:
            if is_renderable(one):
                texts.append(one)
            else:
                texts.append(escape(str(one)))
        super().print(*texts, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        known = RE_TAGS.sub(_own_style, shown(cleaned(text)))
        try:
            return super().render_str(known, **options)
        except MarkupError:
            options["markup"] = False
            return super().render_str(known, **options)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        # What is flushed at the end goes there.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


# The styles that our own markup has.
_STYLES = {"/", "bold", "dim", "red", "yellow", "green", "cyan", "bold red"}


def _own_style(found: re.Match[str]) -> str:
    """A tag of markup that is one of our styles; another one is text."""
    whole, backslashes, tag = found.groups()[:3]
    is_text_already = len(backslashes) % 2 == 1
    if is_text_already or tag in _STYLES:
        return whole
    return f"{backslashes}\\{whole[len(backslashes) :]}"


out = _Terminal(highlight=False, emoji=False)
err = _Terminal(stderr=True, highlight=False, emoji=False)

_COLOURS = {
    "better": "green",
    "worse": "red",
    "tied": "yellow",
    "complete": "green",
    "partial": "yellow",
    "stale": "red",
    "damaged": "red",
    "new": "dim",
    "skipped": "dim",
    "kept": "dim",
}

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

Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Take the run's folder for your own, although you did not start it: its shell lines "
        "are executed, its modules imported, its checkpoints loaded.",
    ),
]


# By these the libraries that print in colour do so where no terminal is, too.
_COLOURED = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS")


def show_streams() -> None:
    """From here on all that this process prints is shown as text, tracebacks and what libraries
    print too.
    """
    is_forced = any(os.environ.get(name) for name in _COLOURED)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None:
            has_colours = is_forced or stream.isatty()
            setattr(sys, name, shown_stream(stream, has_colours=has_colours))
    if logging.lastResort is not None:  # writes the warnings of commands that write no log
        logging.lastResort.setFormatter(ShownFormatter())


class _MessageHandler(logging.Handler):
    """Each log line as a message to the launcher that started this task."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word

    def emit(self, record: logging.LogRecord) -> None:
        from reasondistill.launch.reporting import message

        line = message(self._word, {"line": self.format(record)})
        write_as_is(sys.stdout, f"{line}\n")


def print_json(value: Any) -> None:
    """Print a value as JSON, whose texts are cleaned and do nothing to a terminal; what is no
    number is null.
    """
    clean = with_numbers(cleaned_texts(value))
    text = json.dumps(clean, indent=2, ensure_ascii=False, allow_nan=False)
    write_as_is(sys.stdout, f"{shown_json(text)}\n")


def log_lines(before: str = "", *, word: str | None = None) -> None:
    """Our own log lines on standard output, each with a text `before` it; with the `word` of a
    task as messages to its launcher.
    """
    handler: logging.Handler = logging.StreamHandler(sys.stdout)
    if word:
        handler = _MessageHandler(word)
    handler.setFormatter(ShownFormatter(f"{before}%(message)s"))
    logger = logging.getLogger("reasondistill")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def run_folder(name: str, runs: Path) -> Path:
    """The folder of a run: the one that is named, or the one of that name among the runs. Raises
    StageError for a packed run, in which nothing can be done.
    """
    folder = place_of(name, runs)
    if (folder / PACK).exists():
        raise StageError(
            f"{folder}: is a packed run, which is only read. `reasondistill unpack {folder}` makes "
            "a run's folder of it."
        )
    return folder


def folder_to_read(name: str, runs: Path) -> Path:
    """As `run_folder`; of a packed run the folder of a copy, which ends with this command."""
    from reasondistill.runs.unpacking import opened

    return opened(place_of(name, runs))


def place_of(name: str, runs: Path) -> Path:
    """Where a run is that is named by its folder, or by its name among the runs."""
    folder = Path(name)
    if RunFolder(folder).state.exists() or (folder / PACK).exists():
        return folder
    return runs / name


def named(text: object) -> str:
    """What others named, as markup shows it: on one line, no markup itself."""
    return escape(shown_line(str(text)))


def block(text: str) -> str:
    """Several lines of what others wrote, as markup shows them: those below the first stand further
    in, so that none looks like a line of ours.
    """
    return escape(text.replace("\n", "\n    "))


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


def coloured(content: tables.Table) -> Table:
    """A table of text as the terminal shows it: verdicts and states in their colour, a heading (it
    is ours) on one line or several.
    """
    headings = ["\n".join(map(named, header.split("\n"))) for header in content.headers]
    table = plain_table(*headings)
    for column in table.columns:
        column.overflow = "fold"
    for row in content.rows:
        table.add_row(*map(_coloured, row))
    return table


def _coloured(cell: str) -> str:
    """A verdict or a state in its colour, half of an interval dimmed."""
    word = cell.partition(" (")[0].partition(",")[0]
    if word in _COLOURS:
        return f"[{_COLOURS[word]}]{named(cell)}[/]"
    mean, mark, half = named(cell).partition("±")
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
