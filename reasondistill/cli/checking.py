"""`check` and `repair`: whether a run's files are what was written, and what to do where not."""

from __future__ import annotations

import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reasondistill.cli.console import (
    RunName,
    RunsDir,
    app,
    folder_to_read,
    named,
    run_folder,
    say,
)
from reasondistill.cli.forecasting import bytes_words
from reasondistill.errors import DataError, StageError
from reasondistill.tables import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reasondistill.runs.checking import CheckedFolder

_TELL_S = 5.0


@app.command(
    epilog="Example:\n\n  reasondistill check demo\n\n  reasondistill check s3://bucket/runs/demo"
)
def check(name: RunName, runs: RunsDir = Path("runs")) -> None:
    """Read every finished file of a run and compare it with the sum that was written with it.

    NAME may be a URL. Nothing is changed; exit code 2 where anything is damaged.
    """
    from reasondistill.runs.checking import bytes_to_read, check_run, open_tree
    from reasondistill.runs.remote import is_url

    place = name
    if not is_url(name):
        place = str(folder_to_read(name, runs))
    tree = open_tree(place)
    progress = _Progress(bytes_to_read(tree))
    faults, files, size, unsummed = 0, 0, 0, 0
    unfinished: list[CheckedFolder] = []
    for checked in check_run(tree, progress.add):
        faults += len(checked.faults)
        files, size = files + checked.files, size + checked.bytes
        unsummed += checked.state == "without sums"
        if checked.is_unfinished:
            unfinished.append(checked)
        _print_folder(checked)
    if unsummed:
        folders = counted(unsummed, "stage folder was", "stage folders were")
        say(
            f"{folders} finished by an earlier version, which wrote no sums: nobody knows whether "
            "all is sound there. Stages that are made again have sums."
        )
    _say_not_looked_into(unfinished)
    if faults:
        damaged = counted(faults, "file is", "files are")
        raise DataError(
            f"{place}: {damaged} damaged. Ways out: put back copies of them; or "
            f"`reasondistill repair {shlex.quote(name)}`, which keeps what is sound, and the same "
            "command again."
        )
    say(f"{counted(files, 'file')}, {bytes_words(size)}: all are what was written.")


def _say_not_looked_into(unfinished: Sequence[CheckedFolder]) -> None:
    if unfinished:
        places = ", ".join(named(checked.place) for checked in unfinished)
        say(
            f"Not looked into: {places}. The lines of a stage that is not finished are compared "
            "when the same command goes on; one that is damaged is made again."
        )


def _print_folder(checked: CheckedFolder) -> None:
    place = checked.place or "the run's own files"
    if checked.faults:
        say(f"[red]✗[/] {named(place)}")
        for fault in checked.faults:
            say(f"    {named(fault.path)}: {named(fault.found)}")
    elif checked.state == "complete":
        line = f"[green]✓[/] {named(place)} · {counted(checked.files, 'file')}"
        line += f" · {bytes_words(checked.bytes)}"
        if checked.elsewhere:
            weights = counted(checked.elsewhere, "file")
            line += f" · {weights} of weights only at the run's URL"
        say(line)
    else:
        say(f"[yellow]?[/] {named(place)} · {checked.state}")


@app.command(
    epilog="Example:\n\n  reasondistill repair demo\n\n  reasondistill repair s3://bucket/runs/demo"
)
def repair(
    name: RunName,
    runs: RunsDir = Path("runs"),
    again: Annotated[
        bool,
        typer.Option(
            help="Also remove what takes long to make again: damaged students, and samples or a "
            "top-K cache of which nothing can be known."
        ),
    ] = False,
) -> None:
    """Keep what is sound of a damaged run, remove what the same command makes again, and name what
    cannot be mended. Nothing is guessed.

    NAME may be a URL: of a damaged run the files that are needed are fetched, and what is repaired
    is published there.
    """
    from reasondistill.launch.exclusive import only_one
    from reasondistill.runs.checking import bytes_to_read, check_run, open_tree
    from reasondistill.runs.layout import JOURNAL, RunFolder
    from reasondistill.runs.remote import is_url, lent
    from reasondistill.runs.repairing import is_needed, repair_run

    place = name
    if not is_url(name):
        folder = run_folder(name, runs)
        place = str(folder)
        if (folder / JOURNAL).exists():
            raise StageError(
                f"{place}: is a copy of a run that lives at a URL. Give `repair` that URL (storage "
                "of the cluster file, and the run's name). Where only the copy is damaged, remove "
                "it: the next command fetches it again, without what was not published yet. Where "
                f"the run lives here by now, remove {folder / JOURNAL}."
            )
    with ExitStack() as stack:
        if not is_url(name):
            stack.enter_context(only_one(Path(place)))
        tree = open_tree(place)
        progress = _Progress(bytes_to_read(tree))
        found = list(check_run(tree, progress.add))
        damaged = [one for one in found if one.faults]
        _say_not_looked_into([one for one in found if one.is_unfinished])
        if not damaged:
            say(f"{named(place)}: nothing is damaged.")
            return
        places = [one.place for one in damaged]
        here = stack.enter_context(lent(place, lambda path: is_needed(path, places)))
        repairs = list(repair_run(RunFolder(here), damaged, again=again))
    for one in repairs:
        mark = "[red]✗[/]"
        if one.is_mended:
            mark = "[green]✓[/]"
        say(f"{mark} {named(one.path)}: {named(one.done)}")
    hopeless = sum(not one.is_mended for one in repairs)
    if hopeless:
        raise DataError(f"{place}: {counted(hopeless, 'file')} cannot be mended; see above.")
    say("Give the same command again: it makes what is missing.")


class _Progress:
    """A line every few seconds about how much was read."""

    def __init__(self, total: int) -> None:
        self._total, self._read = total, 0
        self._told = time.monotonic()

    def add(self, count: int) -> None:
        self._read += count
        if time.monotonic() - self._told > _TELL_S:
            self._told = time.monotonic()
            say(f"  {bytes_words(self._read)} of at most {bytes_words(self._total)}")
