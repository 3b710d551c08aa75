"""`push`: a student or the data set of a run, with its card, to a repository of the hub or a
folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reasondistill.cli.console import (
    RunName,
    RunsDir,
    app,
    named,
    out,
    plain_table,
    run_folder,
    say,
)
from reasondistill.cli.forecasting import bytes_words
from reasondistill.cli.packing import weights_of
from reasondistill.errors import ConfigError, StageError
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import StopSignal
from reasondistill.tables import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reasondistill.curation.destinations import Destination
    from reasondistill.curation.uploads import Push, Upload

# The hub's identifiers of licences.
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


@app.command(
    epilog="Examples:\n\n  reasondistill push demo ./small --dry-run\n\n"
    "  reasondistill push demo me/small --student distilled --license apache-2.0\n\n"
    "  reasondistill push demo me/small-traces --dataset --public"
)
def push(
    name: RunName,
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="TO...", help="USER/NAME of the hub, or a folder: ./NAME, file:///PATH."
        ),
    ],
    student: Annotated[
        str | None, typer.Option(help="Which student; by default the only one that is no control.")
    ] = None,
    dataset: Annotated[
        bool, typer.Option("--dataset", help="The data set of the examples, not a student.")
    ] = False,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="The student's LoRA adapter alone, not merged.")
    ] = False,
    exports: Annotated[
        bool, typer.Option("--exports", help="With the data set also its exports.")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="A new repository is public; by default private.")
    ] = False,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="The hub's name of a licence for the card: apache-2.0."),
    ] = None,
    message: Annotated[str | None, typer.Option(help="The message of the commit.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would go out, and send nothing.")
    ] = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Publish a student (weights, tokenizer and a card with its scores) or the data set of a run.

    Nothing else goes out: no checkpoints, logs or optimizer states. Texts are searched for secrets
    and paths of this machine. The token is HF_TOKEN's or that of `hf auth login`. Given again it
    sends what is new.
    """
    from reasondistill.curation.destinations import destination_of

    if licence is not None and _LICENCE.fullmatch(licence) is None:
        raise ConfigError(
            f"--license {licence}: want the hub's name of a licence: apache-2.0, mit."
        )
    run = RunFolder(local_run(name, runs))
    destinations = [destination_of(place, run.path) for place in places]
    with StopSignal() as stop, stop.at_once():
        chosen = what_goes_out(run, student, dataset, adapter, exports, licence)
        said = message or f"{chosen.title} of {run.path.resolve().name}, by reasondistill"
        for place in destinations:
            files = chosen.with_card(place.name)
            print_listing(chosen, files, place, public=public)
            if dry_run:
                continue
            sent = place.send(files, kind=chosen.kind, public=public, message=said)
            say(f"{named(sent.where)}: {counted(sent.new, 'file')} sent, {sent.same:,} were there")
    if dry_run:
        say("[dim]Nothing was sent (--dry-run).[/]")


def local_run(name: str, runs: Path) -> Path:
    """The folder of a run on this machine. Raises StageError for one at a URL, and a packed one."""
    from reasondistill.runs.remote import is_url

    if is_url(name):
        raise StageError(
            f"{name}: a run at a URL. Push from a machine that has its weights in a folder, or "
            "copy the run's folder here."
        )
    folder = run_folder(name, runs)
    if not folder.is_dir():
        raise StageError(f"{folder}: there is no such run.")
    return folder


def what_goes_out(
    run: RunFolder,
    student: str | None,
    dataset: bool,
    adapter: bool,
    exports: bool,
    licence: str | None,
) -> Push:
    """The student or the data set that is asked for. Raises ConfigError for options that do not go
    together.
    """
    from reasondistill.curation.uploads import choose_student, dataset_push, student_push

    if dataset and (student is not None or adapter):
        raise ConfigError("--dataset: is not a student's; leave out --student and --adapter.")
    if exports and not dataset:
        raise ConfigError("--exports: are of the data set; say --dataset too.")
    if dataset:
        return dataset_push(run, exports=exports, licence=licence)
    chosen = choose_student(run, student)
    return student_push(run, chosen, weights_of(run), is_adapter=adapter, licence=licence)


def print_listing(push: Push, files: Sequence[Upload], place: Destination, *, public: bool) -> None:
    """Everything that goes out, and what lies beside it and does not."""
    say(f"[bold]To {named(place.describe(push.kind, public=public))}[/]")
    table = plain_table("file", "size", "")
    for file in files:
        table.add_row(named(file.name), bytes_words(file.size), f"[dim]{named(file.note)}[/]")
    out.print(table)
    total = sum(file.size for file in files)
    say(f"{counted(len(files), 'file')}, {bytes_words(total)}")
    if push.left_out:
        names = ", ".join(map(named, push.left_out))
        say(f"[dim]Stays here: {names}[/]")
