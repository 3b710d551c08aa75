"""How a command starts a run: the checks, the plan, the tasks, the result."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.markup import escape

from reasondistill.checks import BEFORE_A_RUN, IN_A_DRY_RUN
from reasondistill.cli.console import (
    block,
    named,
    out,
    plain_table,
    say,
)
from reasondistill.cli.progress import TerminalWatcher
from reasondistill.cli.results import print_result
from reasondistill.durations import duration
from reasondistill.errors import DataError, StageError
from reasondistill.runs.staleness import places_without_sums

if TYPE_CHECKING:
    from reasondistill.launch.launcher import JobState, Launcher
    from reasondistill.pipeline import Run, StageState, Task

# So many tasks are named in one message.
_MOST_NAMES = 3


def start(
    run: Run,
    stages: list[str],
    *,
    dry_run: bool = False,
    wait: bool = False,
    trust: bool = False,
) -> None:
    """Check, then do these stages of a run with progress on the terminal, and print what came out.
    Raises a user's errors.

    A folder that somebody else's run has left is gone on with only with `trust`, where it holds
    what would be executed.
    """
    from reasondistill import doctor, pipeline
    from reasondistill.launch.launcher import launcher_of, refuse_if_busy

    pipeline.require_trust(run, trust=trust)
    launcher = launcher_of(run)
    launcher.check(stages)
    costs = IN_A_DRY_RUN if dry_run else BEFORE_A_RUN
    for finding in doctor.check(replace(run, only=tuple(stages)), costs):
        say(f"[yellow]{named(finding.check)}:[/] {block(finding.text)}")
    shares = launcher.shares_engine_process()
    tasks = pipeline.plan(run, stages, share_engine_process=shares)
    if dry_run:
        print_plan(launcher, tasks)
        return
    title = f"[bold]{named(run.pipeline.name)}[/]"
    if run.pipeline.about:
        about = " ".join(run.pipeline.about.split())
        title += f" · {named(about)}"
    say(title)
    refuse_if_busy(run)
    if run.folder.exists() and not os.access(run.folder, os.W_OK):
        refuse_if_unfinished(run, tasks)
        folder = named(run.folder)
        say(f"[dim]{folder}: all is done; nothing is written here, nor could it be[/]")
        print_result(run)
        return
    with stored(launcher):
        launch(launcher, tasks, wait=wait)


def refuse_if_unfinished(run: Run, tasks: list[Task]) -> None:
    """Raise StageError when something is left to do in a folder that cannot be written."""
    from reasondistill import pipeline

    left = pipeline.remaining(run, tasks)
    if not left:
        return
    names = ", ".join(task.label for task in left[:_MOST_NAMES])
    more = len(left) - _MOST_NAMES
    if more > 0:
        names += f" and {more} more"
    raise StageError(
        f"{run.folder}: not writable (a read-only file system, or no right to), and "
        f"this is left to do: {names}."
    )


@contextmanager
def stored(launcher: Launcher) -> Generator[None]:
    """With `storage`: begin with the files at its URL, and publish what this run makes.

    Jobs that go on by themselves do that themselves.
    """
    from reasondistill.launch.exclusive import only_one
    from reasondistill.launch.reporting import url_of
    from reasondistill.runs.remote import Remote

    folder = launcher.run.folder
    url = url_of(launcher.run)
    if url is None or launcher.is_detached:
        yield
        return
    with only_one(folder), Remote(url, folder) as remote:
        number = remote.fetch(is_first=True)
        say(f"[dim]{number:,} files fetched from {named(url)}[/]")
        yield


def launch(launcher: Launcher, tasks: list[Task], *, wait: bool) -> None:
    """Start the tasks; with `wait` follow jobs that go on by themselves to their end."""
    run = launcher.run
    unsummed = places_without_sums(run.layout)
    if unsummed:
        say(
            f"[dim]{len(unsummed)} stage folders ({named(unsummed[0])}, …) were finished by an "
            "earlier version, which wrote no sums: damage in them is not noticed.[/]"
        )
    watcher = TerminalWatcher(run)
    started = time.monotonic()
    jobs = launcher.start(tasks, watcher)
    if not launcher.is_detached:
        if not watcher.has_seen_work:
            out.print("Nothing is left to do.")
        time_taken = duration(time.monotonic() - started)
        out.print(f"[dim]{time_taken} in all[/]")
        print_result(run)
        return
    if not jobs:
        out.print("Nothing is left to do.")
    print_jobs(jobs)
    if wait:
        if jobs:
            launcher.follow(watcher)
        if not launcher.prints_result:
            print_result(run)
    elif jobs:
        name = named(shlex.quote(run.folder.name))
        say(
            f"Sent. `reasondistill status {name}` shows how far it is, `reasondistill logs {name}` "
            f"what it prints, `reasondistill cancel {name}` stops it."
        )


def print_jobs(jobs: Sequence[JobState]) -> None:
    """What was sent, and where."""
    for job in jobs:
        line = f"  {named(job.name)} [dim]job {named(job.job_id)}"
        if job.is_array:
            elements = sum(job.counts.values())
            line += f" · {elements} elements"
        if job.place:
            line += f" at {named(job.place)}"
        say(f"{line}[/]")


# ---- --dry-run -----------------------------------------------------------------------------------


def print_plan(launcher: Launcher, tasks: list[Task]) -> None:
    """What would be done, with counts and an estimate, and what would be sent."""
    from reasondistill import doctor, pipeline
    from reasondistill.pipeline.foreseeing import foresee_run

    run = launcher.run
    name, folder = named(run.pipeline.name), named(run.folder)
    standing = pipeline.stage_states(run)
    require_sound(standing, tasks)
    out.print(f"[bold]{name}[/] → {folder} (nothing is done: --dry-run)")
    table = plain_table("task", "state", "expected")
    states = {state.name: state.state for state in standing}
    if run.folder.is_dir() and run.cluster.storage is None:
        states |= foresee_run(run, {task.stage for task in tasks})
    for task in tasks:
        expected = doctor.estimate(run, task)
        table.add_row(named(task.label), named(state_of(task, states)), named(expected))
    out.print(table)
    for path in launcher.preview(tasks):
        say(f"\n[bold]{named(path)}[/]")
        say(escape(path.read_text(encoding="utf-8")))


def require_sound(states: Sequence[StageState], tasks: Sequence[Task]) -> None:
    """Raise DataError, as the run does, for a finished stage that it opens and whose files are not
    what was written. Of the evals it opens only what it measures, and a report is made anew.
    """
    opened = {task.stage for task in tasks} - {"evals", "report"}
    opened |= {f"{task.stage}/{unit}" for task in tasks for unit in task.units}
    for state in states:
        if state.state == "damaged" and state.name in opened:
            raise DataError(state.missing[-1])


def state_of(task: Task, states: Mapping[str, str]) -> str:
    """How far the stage, student or model of a task is, or what becomes of it."""
    names = [task.stage]
    if task.units:
        names.insert(0, f"{task.stage}/{task.units[0]}")
    found = [states[name] for name in names if name in states]
    return next(iter(found), "new")
