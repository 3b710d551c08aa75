"""How a command starts a run: the checks, the plan, the tasks, the result."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from rich.markup import escape

from reasondistill.checks import BEFORE_A_RUN, IN_A_DRY_RUN
from reasondistill.cli.console import block, named, out, say
from reasondistill.cli.fitting import print_table
from reasondistill.cli.progress import DoneTask, TerminalWatcher, prefixes, units_of
from reasondistill.cli.results import Results, name_of, next_of_run, print_result
from reasondistill.cli.speaking import Speech, command_line, print_next, warn
from reasondistill.durations import duration
from reasondistill.errors import DataError, StageError
from reasondistill.runs.staleness import places_without_sums
from reasondistill.tables import Table, counted

if TYPE_CHECKING:
    from reasondistill.cli.documents import RunDocument
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
    speech: Speech | None = None,
) -> None:
    """Check, then do these stages of a run with progress on the terminal, and print what came out,
    as `speech` wants it. Raises a user's errors.

    A folder that somebody else's run has left is gone on with only with `trust`, where it holds
    what would be executed.
    """
    speech = speech or Speech("run", quiet=False, as_json=False)
    outcome = _started(run, stages, speech, dry_run=dry_run, wait=wait, trust=trust)
    if speech.as_json:
        speech.end(run_document(run, outcome, speech))


@dataclass
class RunOutcome:
    """What a command has come to."""

    status: Literal["done", "sent", "planned"] = "done"
    seconds: float | None = None
    planned: Sequence[PlannedTask] = ()
    ended: Sequence[DoneTask] = ()
    jobs: Sequence[JobState] = ()
    results: Results | None = None
    next: Sequence[str] = ()


@dataclass(frozen=True)
class PlannedTask:
    """A task of a dry run, how far it is, and what it will make."""

    task: Task
    prefix: str
    state: str
    expected: str


def _started(
    run: Run, stages: list[str], speech: Speech, *, dry_run: bool, wait: bool, trust: bool
) -> RunOutcome:
    from reasondistill import doctor, pipeline
    from reasondistill.launch.launcher import launcher_of, refuse_if_busy

    pipeline.require_trust(run, trust=trust)
    launcher = launcher_of(run)
    launcher.check(stages)
    costs = IN_A_DRY_RUN if dry_run else BEFORE_A_RUN
    for finding in doctor.check(replace(run, only=tuple(stages)), costs):
        warn(f"[yellow]{named(finding.check)}:[/] {block(finding.text)}")
    shares = launcher.shares_engine_process()
    tasks = pipeline.plan(run, stages, share_engine_process=shares)
    if dry_run:
        with speech.last():
            planned = print_plan(launcher, tasks)
        return RunOutcome("planned", planned=planned)
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
        return _with_result(RunOutcome(), run, speech)
    with stored(launcher):
        return launch(launcher, tasks, speech, wait=wait)


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
        say(f"[dim]{counted(number, 'file')} fetched from {named(url)}[/]")
        yield


def launch(launcher: Launcher, tasks: list[Task], speech: Speech, *, wait: bool) -> RunOutcome:
    """Start the tasks; with `wait` follow jobs that go on by themselves to their end."""
    run = launcher.run
    unsummed = places_without_sums(run.layout)
    if unsummed:
        folders = counted(len(unsummed), "stage folder")
        say(
            f"[dim]An earlier version, which wrote no sums, has finished {folders} "
            f"({named(unsummed[0])}, …): damage there is not noticed.[/]"
        )
    watcher = TerminalWatcher(run, tasks)
    started = time.monotonic()
    jobs = launcher.start(tasks, watcher)
    outcome = RunOutcome(ended=watcher.ended, jobs=jobs)
    if not launcher.is_detached:
        if not watcher.has_seen_work:
            out.print("Nothing is left to do.")
        outcome.seconds = time.monotonic() - started
        out.print(f"[dim]{duration(outcome.seconds)} in all[/]")
        return _with_result(outcome, run, speech)
    if not jobs:
        out.print("Nothing is left to do.")
    print_jobs(jobs)
    if wait:
        if jobs:
            launcher.follow(watcher)
        outcome.seconds = time.monotonic() - started
        if not launcher.prints_result or speech.quiet or speech.as_json:
            return _with_result(outcome, run, speech)
    elif jobs:
        outcome.status = "sent"
        outcome.seconds = time.monotonic() - started
        name = name_of(run)
        outcome.next = [command_line(word, name) for word in ("status", "logs", "cancel")]
        with speech.last():
            say("Sent. These show how far it is and what it prints, and stop it:")
            print_next(outcome.next)
    else:
        return _with_result(outcome, run, speech)
    return outcome


def _with_result(outcome: RunOutcome, run: Run, speech: Speech) -> RunOutcome:
    """With the scores, which are printed, and what comes next."""
    with speech.last():
        outcome.results = print_result(run)
    outcome.next = next_of_run(run, outcome.results)
    print_next(outcome.next)
    return outcome


def run_document(run: Run, outcome: RunOutcome, speech: Speech) -> RunDocument:
    """What --json prints."""
    from reasondistill.cli.documents import (
        JobRow,
        RunDocument,
        ScoreRow,
        TaskRow,
        as_text,
        difference_rows,
    )

    tasks: list[TaskRow] = []
    for planned in outcome.planned:
        task = planned.task
        row = TaskRow(
            task=planned.prefix,
            stage=task.stage,
            units=task.units,
            state=planned.state,
            expected=planned.expected,
        )
        tasks.append(row)
    for ended in outcome.ended:
        row = TaskRow(
            task=ended.prefix,
            stage=ended.task.stage,
            units=ended.task.units,
            state="done",
            counts=None if ended.counts is None else dict(ended.counts),
            dropped=None if ended.dropped is None else dict(ended.dropped),
            seconds=ended.seconds,
        )
        tasks.append(row)
    jobs: list[JobRow] = []
    for job in outcome.jobs:
        counts = {str(state): number for state, number in job.counts.items()}
        jobs.append(JobRow(name=job.name, job_id=job.job_id, counts=counts))
    results = outcome.results or Results([], [], [])
    return RunDocument(
        command=speech.command,
        name=run.pipeline.name,
        folder=as_text(run.folder),
        status=outcome.status,
        seconds=outcome.seconds,
        tasks=tuple(tasks),
        jobs=tuple(jobs),
        warnings=tuple(speech.warnings),
        scores=tuple(map(ScoreRow.of, results.main_scores)),
        differences=difference_rows(results.differences),
        missing=tuple(map(as_text, results.missing)),
        files=tuple(map(as_text, results.files(run))),
        next=tuple(map(as_text, outcome.next)),
    )


def print_jobs(jobs: Sequence[JobState]) -> None:
    """What was sent, and where."""
    for job in jobs:
        line = f"  {named(job.name)} [dim]job {named(job.job_id)}"
        if job.is_array:
            elements = sum(job.counts.values())
            line += f" · {counted(elements, 'element')}"
        if job.place:
            line += f" at {named(job.place)}"
        say(f"{line}[/]")


# ---- --dry-run -----------------------------------------------------------------------------------


def print_plan(launcher: Launcher, tasks: list[Task]) -> list[PlannedTask]:
    """What would be done, with counts and an estimate, and what would be sent."""
    from reasondistill import doctor, pipeline
    from reasondistill.pipeline.foreseeing import foresee_run

    run = launcher.run
    name, folder = named(run.pipeline.name), named(run.folder)
    standing = pipeline.stage_states(run)
    require_sound(standing, tasks)
    out.print(f"[bold]{name}[/] → {folder} (nothing is done: --dry-run)")
    states = {state.name: state.state for state in standing}
    if run.folder.is_dir() and run.cluster.storage is None:
        states |= foresee_run(run, {task.stage for task in tasks})
    short = prefixes(tasks)
    planned: list[PlannedTask] = []
    rows: list[tuple[str, ...]] = []
    for task in tasks:
        expected = doctor.estimate(run, task)
        row = PlannedTask(task, short[task.name], state_of(task, states), expected)
        planned.append(row)
        rows.append((row.prefix, units_of(task), row.state, row.expected))
    table = Table(("task", "of", "state", "expected"), tuple(rows), numbers=2)
    print_table(table.without_blanks())
    for path in launcher.preview(tasks):
        say(f"\n[bold]{named(path)}[/]")
        say(escape(path.read_text(encoding="utf-8")))
    return planned


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
