"""How much a command says, and where: all of it, its end alone (`--quiet`), or one JSON document
(`--json`); and what comes next.

    with speaking("show", quiet=quiet, as_json=as_json) as speech:
        warn("[yellow]a sample is missing[/]")     # said in any case
        with speech.last():                        # the result, said with --quiet too
            out.print(table)
        speech.end(document)                       # with --json: the document on standard output

With --json all else goes to standard error, and an error that the user is to read is a document
too.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reasondistill.cli.console import err, named, out, print_json, refused_by_disk, say
from reasondistill.errors import ReasonDistillError, Stopped, gave_up, is_panic
from reasondistill.launch.noise import VERBOSE

if TYPE_CHECKING:
    from reasondistill.cli.documents import Document

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print errors, warnings and the result only.")
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON document on standard output, also of an error; all else goes to "
        "standard error.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        help="Keep in the logs what engines and libraries print, progress bars too; "
        f"so does {VERBOSE}=1.",
    ),
]


@dataclass
class Speech:
    """What one command says. `warnings` are those that were said so far, as plain text."""

    command: str
    quiet: bool
    as_json: bool
    warnings: list[str] = field(default_factory=list[str])

    @contextmanager
    def last(self) -> Generator[None]:
        """Within it is the result: printed with --quiet too, but beside a document."""
        was_quiet = out.quiet
        out.quiet = was_quiet and (self.as_json or not self.quiet)
        try:
            yield
        finally:
            out.quiet = was_quiet

    def end(self, document: Document) -> None:
        """With --json print the document."""
        if self.as_json:
            print_json(document.values())


# The innermost is that of the command at work.
_speeches: list[Speech] = []


@contextmanager
def speaking(command: str, *, quiet: bool = False, as_json: bool = False) -> Generator[Speech]:
    """How a command says what it says, from `with` to its end."""
    speech = Speech(command, quiet, as_json)
    before = (out.quiet, out.stderr)
    out.quiet, out.stderr = out.quiet or quiet, out.stderr or as_json
    _speeches.append(speech)
    try:
        yield speech
    except BaseException as error:
        if as_json:
            _print_error(command, error)
        raise
    finally:
        _speeches.remove(speech)
        out.quiet, out.stderr = before


def _print_error(command: str, error: BaseException) -> None:
    """The document of an error that `main` says in one line; none of a fault of ours."""
    from reasondistill.cli.documents import ErrorDocument, WhatFailed, as_text

    said: BaseException | None = None
    if isinstance(error, ReasonDistillError | Stopped):
        said = error
    elif isinstance(error, Exception):
        said = refused_by_disk(error)
    elif is_panic(error):
        said = gave_up(error)
    if said is None:
        return
    code = getattr(said, "exit_code", 2)
    failed = WhatFailed(kind=type(said).__name__, message=as_text(said), exit_code=code)
    print_json(ErrorDocument(command=command, error=failed).values())


def warn(text: str) -> None:
    """Say a warning, in our own markup; with --quiet and --json on standard error."""
    if not _speeches:
        say(text)
        return
    speech = _speeches[-1]
    speech.warnings.append(_plain(text))
    if speech.quiet or speech.as_json:
        err.print(text, soft_wrap=True)
    else:
        say(text)


def _plain(markup: str) -> str:
    return out.render_str(markup).plain.strip()


def be_verbose() -> None:
    """What this process starts keeps in its logs what engines print."""
    os.environ[VERBOSE] = "1"


# ---- what comes next -----------------------------------------------------------------------------


def command_line(*words: str, runs: Path = Path("runs"), options: Sequence[str] = ()) -> str:
    """A command as a shell takes it: the words that others named are one word each, and none of
    them is an option.

    command_line("view", "my run")    # reasondistill view 'my run'
    """
    name, *arguments = words
    line = ["reasondistill", name, *options]
    if runs != Path("runs"):
        line += ["--runs", str(runs)]
    if any(argument.startswith("-") for argument in arguments):
        line.append("--")
    return shlex.join([*line, *arguments])


def print_next(commands: Sequence[str]) -> None:
    """The last lines of a command: what one may do next."""
    if not commands:
        return
    say("[dim]next:[/]")
    for command in commands:
        say(f"  {named(command)}")
