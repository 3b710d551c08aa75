"""`main`: do what the arguments say, and end in one message and the right exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

import reasondistill
from reasondistill.cli import (
    ablating,
    cascading,
    checking,
    doctoring,
    explaining,
    files,
    forecasting,
    grading,
    jobs,
    looking,
    measuring,
    packing,
    planning,
    pushing,
    quantising,
    running,
    schema,
    task,
)
from reasondistill.cli.console import app, block, err, out, refused_by_disk, show_streams
from reasondistill.errors import Interrupted, ReasonDistillError, Stopped, gave_up, is_panic

# Each of them registers its commands.
COMMANDS = (
    running,
    ablating,
    looking,
    checking,
    doctoring,
    packing,
    jobs,
    forecasting,
    measuring,
    cascading,
    planning,
    pushing,
    quantising,
    grading,
    files,
    explaining,
    schema,
    task,
)


def main() -> None:
    """Do what the arguments say. A ReasonDistillError is one clear message and exit code 2, a
    requested stop 130 or 143.

    So is what a disk refuses. Every other error is a fault of ours, and crashes. Whatever is
    printed, by whom it may be, is shown as text.
    """
    show_streams()
    try:
        try:
            app()
        finally:
            leave()
    except (Interrupted, Stopped) as error:
        err.print(f"[yellow]{block(str(error))}[/]", soft_wrap=True)
        sys.exit(error.exit_code)
    except ReasonDistillError as error:
        refuse(error)
    except Exception as error:
        refused = refused_by_disk(error)
        if refused is None:
            raise
        refuse(refused)
    except BaseException as error:
        if not is_panic(error):
            raise
        refuse(gave_up(error))


def leave() -> None:
    """From here on a signal ends the process without a word, and it does not matter whether anybody
    reads what was printed.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def refuse(error: ReasonDistillError) -> NoReturn:
    """Print an error of the user's, and exit with 2."""
    kind = type(error).__name__
    err.print(f"[bold red]{kind}:[/] {block(str(error))}", soft_wrap=True)
    sys.exit(2)


def print_version(is_asked: bool) -> None:
    """Print the version and exit, when it is asked for."""
    if is_asked:
        out.print(reasondistill.__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None: ...
