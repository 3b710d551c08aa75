"""Runs on a cluster: `status`, `logs`, `cancel`, `resume`."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from reasondistill.bounds import LINE_BYTES
from reasondistill.cli.console import (
    RunName,
    RunsDir,
    Trust,
    app,
    block,
    named,
    out,
    plain_table,
    run_folder,
    say,
)
from reasondistill.cli.progress import TerminalWatcher, counts_text
from reasondistill.cli.rounding import do_later_rounds, rounds_of
from reasondistill.cli.starting import start
from reasondistill.config import resources
from reasondistill.errors import StageError
from reasondistill.foreign_files import regular
from reasondistill.runs.layout import RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reasondistill.launch.launcher import JobState
    from reasondistill.pipeline import Run


@app.command(
    epilog="Examples:\n\n"
    "  reasondistill status r1_distill\n\n"
    "  reasondistill status r1_distill --follow"
)
def status(
    name: RunName,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until all jobs are over.")
    ] = False,
    trust: Trust = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Where the jobs of a run on a cluster are, how far its stages are, and what failed."""
    from reasondistill import pipeline
    from reasondistill.launch.launcher import sent_jobs

    run = pipeline.load_run(run_folder(name, runs), trust=trust)
    sent = sent_jobs(run)
    if sent is None:
        raise StageError(
            f"{run.folder}: no job of this run was sent to a cluster. `reasondistill show "
            f"{shlex.quote(name)}` shows the state of its stages."
        )
    print_states(run, sent.states)
    if follow:
        sent.launcher.follow(TerminalWatcher(run))


def print_states(run: Run, states: Sequence[JobState]) -> None:
    """A line for each job, then the errors."""
    from reasondistill import pipeline

    table = plain_table("step", "job", "state", "far")
    for state in states:
        progress = ""
        if state.stage is not None:
            progress = pipeline.progress_of(run, state.stage)
        table.add_row(named(state.name), named(state.job_id), counts_text(state), named(progress))
    out.print(table)
    for state in states:
        for error in state.errors:
            say(f"[red]{block(error)}[/]")


@app.command(
    epilog="Examples:\n\n"
    "  reasondistill logs r1_distill\n\n"
    "  reasondistill logs r1_distill 02-traces-3 --follow"
)
def logs(
    name: RunName,
    task: Annotated[
        str | None,
        typer.Argument(help="A log's name, or how it begins; all of them when left out."),
    ] = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", help="How many lines of each, from the end.")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on printing what is added.")
    ] = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """The last lines of what a run's tasks wrote, wherever they ran."""
    folder = RunFolder(run_folder(name, runs)).logs
    beginning = task or ""
    files = [
        LogFile(path) for path in sorted(folder.glob("*.log")) if path.name.startswith(beginning)
    ]
    if not files:
        which = ""
        if task is not None:
            which = f" that begins with {task}"
        raise StageError(f"{folder}: no log{which}.")
    for file in files:
        text = "\n".join(file.new_lines()[-lines:])
        out.print(f"[bold]{named(file.path.name)}[/]")
        say(escape(text))
    while follow:
        time.sleep(1.0)
        for file in files:
            for line in file.new_lines():
                say(f"[dim]{named(file.path.stem)}[/] {named(line)}")


@dataclass
class LogFile:
    """A log, and how many bytes of it were read."""

    path: Path
    read: int = 0

    def new_lines(self) -> list[str]:
        """What was added since we last looked."""
        from reasondistill.launch.reporting import readable

        with open(self.path, "rb", opener=regular) as file:
            # Of a log without end the last part.
            self.read = max(self.read, os.fstat(file.fileno()).st_size - LINE_BYTES.most)
            file.seek(self.read)
            added = file.read(LINE_BYTES.most)
        self.read += len(added)
        # A progress bar begins its line again; \x85 and its like begin none.
        text = added.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
        if not text:
            return []
        return readable(text.removesuffix("\n")).split("\n")


@app.command(epilog="Example:\n\n  reasondistill cancel r1_distill")
def cancel(name: RunName, trust: Trust = False, runs: RunsDir = Path("runs")) -> None:
    """Stop the jobs of a run; what was finished is on disk, and `resume` goes on."""
    from reasondistill import pipeline
    from reasondistill.launch.launcher import sent_jobs

    run = pipeline.load_run(run_folder(name, runs), trust=trust)
    sent = sent_jobs(run)
    stopped: list[str] = []
    if sent is not None:
        stopped = sent.launcher.cancel(sent.states)
    if stopped:
        ids = ", ".join(stopped)
        run = named(shlex.quote(name))
        out.print(f"Cancelled: {named(ids)}. `reasondistill resume {run}` goes on.")
    else:
        out.print("No job of this run is waiting or running.")


@app.command(
    epilog="Examples:\n\n"
    "  reasondistill resume r1_distill\n\n"
    "  reasondistill resume r1_distill --on big_partition"
)
def resume(
    name: RunName,
    on: Annotated[
        str | None,
        typer.Option(
            help="Another cluster file than before: other shards, other partitions, this machine."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="On a cluster: stay until all jobs are over.")
    ] = False,
    trust: Trust = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Go on with a run as it was started, doing only what is missing."""
    from reasondistill import config, pipeline

    run = pipeline.load_run(run_folder(name, runs), trust=trust)
    if on is not None:
        cluster = config.load_cluster(resources.find("clusters", on))
        run = replace(run, cluster=cluster, has_own_cluster=True)
    stages = list(run.stages)
    if run.only:
        stages = [stage for stage in stages if stage in run.only]
    rounds = rounds_of(run)
    start(run, stages, wait=wait, trust=trust)
    if rounds is not None:
        do_later_rounds(rounds, stages, dry_run=False, wait=wait, trust=trust)
