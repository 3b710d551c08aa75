"""Runs on a cluster: `status`, `logs`, `cancel`, `resume`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from reasondistill.cli.console import RunsDir, app, out, run_folder
from reasondistill.errors import StageError
from reasondistill.runs.layout import RunFolder

if TYPE_CHECKING:
    from reasondistill.launch.slurm import Job, JobState
    from reasondistill.pipeline import Run, Task

_COLOURS = {
    "done": "green",
    "running": "yellow",
    "waiting": "dim",
    "failed": "red",
    "cancelled": "red",
}
RunName = Annotated[str, typer.Argument(help="A run's name or folder.")]


def submit_to_slurm(job: Run, tasks: list[Task], *, wait: bool) -> None:
    """Send a run's jobs, and say how to look at them; with `wait` follow them to the end."""
    from reasondistill.launch import slurm
    from reasondistill.launch.local import only_one

    if not tasks:
        out.print("Nothing is left to do.")
        return
    with only_one(job.folder):
        jobs = slurm.submit(job, tasks)
    for sent in jobs:
        out.print(f"  {sent.step} [dim]job {sent.job_id}{_elements(sent)}[/]")
    if not wait:
        _print_verbs(job)
        return
    follow(job)


def submit_to_ray(job: Run, *, wait: bool) -> None:
    """Hand a run in as one job of a Ray cluster; with `wait` hand on what it prints."""
    from reasondistill.launch import ray_jobs

    sent = ray_jobs.submit(job)
    out.print(f"  job {sent.job_id} at {sent.address}", soft_wrap=True)
    if wait:
        ray_jobs.follow(job, lambda line: out.print(escape(line), soft_wrap=True))
    else:
        _print_verbs(job)


def _print_verbs(job: Run) -> None:
    name = escape(job.folder.name)
    out.print(
        f"Sent. `reasondistill status {name}` shows where it is, `logs {name}` what it "
        f"says, `cancel {name}` stops it.",
        soft_wrap=True,
    )


def _elements(sent: Job) -> str:
    return f" · {len(sent.elements)} elements" if sent.is_array else ""


def follow(job: Run) -> None:
    """Print every change until all jobs are over. Raises StageError when one failed."""
    from reasondistill.launch import slurm

    slurm.wait(job, lambda state: out.print(f"  {_line(state)}"))


def _line(state: JobState) -> str:
    counts = " · ".join(
        f"[{_COLOURS[word]}]{count} {word}[/]"
        if state.job.is_array
        else f"[{_COLOURS[word]}]{word}[/]"
        for word, count in state.counts.items()
    )
    reason = (
        f" [dim]({escape(state.reason)})[/]" if state.state == "waiting" and state.reason else ""
    )
    return f"{state.job.step} {counts}{reason}"


@app.command(
    epilog="Examples:\n\n  reasondistill status r1_distill\n\n  reasondistill status "
    "r1_distill --follow"
)
def status(
    name: RunName,
    follow_: Annotated[
        bool, typer.Option("--follow", help="Go on until all jobs are over.")
    ] = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Where the jobs of a run on a cluster are, how far its stages are, and what failed."""
    from reasondistill import pipeline
    from reasondistill.launch import ray_jobs, slurm

    job = pipeline.load_run(run_folder(name, runs))
    if ray_jobs.sent(job) is not None and ray_jobs.is_far(job):
        out.print(f"job {escape(ray_jobs.state(job).lower())}")
        if follow_:
            ray_jobs.follow(job, lambda line: out.print(escape(line), soft_wrap=True))
        return
    found = slurm.states(job)
    if not found:
        raise StageError(
            f"{job.folder}: nothing of it was sent to a cluster. `reasondistill show "
            f"{name}` shows the state of its stages."
        )
    table = Table("step", "job", "state", "far", box=None, header_style="bold")
    for state in found:
        table.add_row(
            state.job.step,
            state.job.job_id,
            _line(state).partition(" ")[2],
            pipeline.progress_of(job, state.job.stage),
        )
    out.print(table)
    for error in (error for state in found for error in state.errors):
        out.print(f"[red]{escape(error)}[/]", soft_wrap=True)
    if follow_:
        follow(job)


@app.command(
    epilog="Examples:\n\n  reasondistill logs r1_distill\n\n  reasondistill logs r1_distill "
    "02-traces-3 --follow"
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
    follow_: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on printing what is added.")
    ] = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """The last lines of what a run's tasks wrote, wherever they ran."""
    from reasondistill.launch.local import MARK

    folder = RunFolder(run_folder(name, runs)).logs
    found = [
        path for path in sorted(folder.glob("*.log")) if task is None or path.name.startswith(task)
    ]
    if not found:
        raise StageError(f"{folder}: no log{f' that begins with {task}' if task else ''}.")
    read = dict.fromkeys(found, 0)
    for path in found:
        text = path.read_text(encoding="utf-8", errors="replace")
        read[path] = path.stat().st_size
        out.print(f"[bold]{path.name}[/]")
        out.print(escape("\n".join(text.replace(MARK, "").splitlines()[-lines:])), soft_wrap=True)
    while follow_:
        time.sleep(1.0)
        for path in found:
            with open(path, "rb") as file:
                file.seek(read[path])
                raw = file.read()
            read[path] += len(raw)
            for line in raw.decode("utf-8", "replace").replace(MARK, "").splitlines():
                out.print(f"[dim]{path.stem}[/] {escape(line)}", soft_wrap=True)


@app.command(epilog="Example:\n\n  reasondistill cancel r1_distill")
def cancel(name: RunName, runs: RunsDir = Path("runs")) -> None:
    """Stop the jobs of a run; what was finished is on disk, and `resume` goes on."""
    from reasondistill import pipeline
    from reasondistill.launch import ray_jobs, slurm

    job = pipeline.load_run(run_folder(name, runs))
    if ray_jobs.sent(job) is not None and ray_jobs.is_far(job):
        out.print(
            f"Cancelled. `reasondistill resume {escape(name)}` goes on."
            if ray_jobs.cancel(job)
            else "It was not running."
        )
        return
    stopped = slurm.cancel(job)
    out.print(
        f"Cancelled: {', '.join(stopped)}. `reasondistill resume {escape(name)}` goes on."
        if stopped
        else "No job of it is in the queue."
    )


@app.command(
    epilog="Examples:\n\n  reasondistill resume r1_distill\n\n  reasondistill resume "
    "r1_distill --on big_partition"
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
    runs: RunsDir = Path("runs"),
) -> None:
    """Go on with a run as it was started, doing only what is missing."""
    from dataclasses import replace

    from reasondistill import config, pipeline
    from reasondistill.cli.running import start
    from reasondistill.config import resources

    job = pipeline.load_run(run_folder(name, runs))
    if on is not None:
        job = replace(job, cluster=config.load_cluster(resources.find("clusters", on)))
    start(job, [stage for stage in job.stages if not job.asked or stage in job.asked], wait=wait)
