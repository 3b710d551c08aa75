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

from reasondistill.runs.layout import RunFolder

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
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), self.file.fileno()
        )  # what is flushed at the end goes there
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


out = _Terminal(highlight=False)
err = _Terminal(stderr=True, highlight=False)

RunsDir = Annotated[Path, typer.Option("--runs", help="Where run folders are.")]


def log_lines(mark: str) -> None:
    """Our own log lines on standard output, each with a mark before it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(mark + "%(message)s"))
    logger = logging.getLogger("reasondistill")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def run_folder(name: str, runs: Path) -> Path:
    given = Path(name)
    return given if RunFolder(given).state.exists() else runs / name


def count_text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""
