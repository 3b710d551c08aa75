"""How a run goes on, as the terminal shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reasondistill.cli.console import (
    named,
    out,
    say,
)
from reasondistill.durations import duration

if TYPE_CHECKING:
    from reasondistill.launch.launcher import JobState
    from reasondistill.pipeline import Run, Task

_COLOURS = {
    "done": "green",
    "running": "yellow",
    "waiting": "dim",
    "failed": "red",
    "cancelled": "red",
}
# So many students or models are named where a task is introduced.
_MOST_UNITS = 3


def prefixes(tasks: Sequence[Task]) -> dict[str, str]:
    """What stands before the lines of each task, by its name: `evals`, or `evals 2/3` for the
    second of three tasks of a stage.
    """
    of_stage = Counter(task.stage for task in tasks)
    seen: Counter[str] = Counter()
    short: dict[str, str] = {}
    for task in tasks:
        seen[task.stage] += 1
        short[task.name] = task.stage
        if of_stage[task.stage] > 1:
            short[task.name] = f"{task.stage} {seen[task.stage]}/{of_stage[task.stage]}"
    return short


def units_of(task: Task) -> str:
    """What a task does of its stage: `distilled, base and 5 more`, `worker 2/4`; nothing for all of
    it.
    """
    if task.share is not None:
        words = str(task.share)
        if task.share.role == "work":
            words = f"worker {words}"
        return words
    units = ", ".join(task.units[:_MOST_UNITS])
    more = len(task.units) - _MOST_UNITS
    if more > 0:
        units += f" and {more:,} more"
    return units


@dataclass(frozen=True)
class DoneTask:
    """A task that has ended: what the stage's manifest counts, nothing for a part of a stage."""

    task: Task
    prefix: str
    counts: Mapping[str, int] | None
    dropped: Mapping[str, int] | None
    seconds: float


class TerminalWatcher:
    """Prints what a launcher tells of one run, each line behind the short name of its task: a
    `launch.launcher.Watcher`. `tasks` are all that the command does.
    """

    def __init__(self, run: Run, tasks: Sequence[Task] = ()) -> None:
        self.run = run
        # Whether any task was begun.
        self.has_seen_work = False
        self.ended: list[DoneTask] = []
        self._prefixes = prefixes(tasks)
        self._introduced: set[str] = set()
        self._has_told_numbers = False

    def line(self, task: Task, text: str) -> None:
        """What a task says."""
        self.has_seen_work = True
        prefix = self._prefixes.get(task.name, task.stage)
        self._introduce(task, prefix)
        say(f"  [dim]{named(prefix)}[/] {named(text)}")

    def _introduce(self, task: Task, prefix: str) -> None:
        """Say once what a short name stands for."""
        if task.name in self._introduced:
            return
        self._introduced.add(task.name)
        units = units_of(task)
        if not units:
            return
        number = ""
        if prefix != task.stage and not self._has_told_numbers:
            self._has_told_numbers = True
            number = f" (task {prefix.partition(' ')[2].replace('/', ' of ')} of this stage)"
        say(f"  [dim]{named(prefix)}{number}: {named(units)}[/]")

    def done(self, task: Task, seconds: float) -> None:
        """When a task ends: what went in, what came out, what was dropped, how long it took."""
        self.has_seen_work = True
        prefix = self._prefixes.get(task.name, task.stage)
        ended = self.ended_task(task, prefix, seconds)
        self.ended.append(ended)
        parts = [f"[green]✓[/] {named(prefix)}"]
        if prefix != task.stage:
            parts.append(named(units_of(task)))
        if ended.counts is not None:
            parts.append(f"{ended.counts['in']:,} in · {ended.counts['out']:,} out")
        parts.append(duration(seconds))
        dropped = [f" · {number:,} {reason}" for reason, number in (ended.dropped or {}).items()]
        say(f"{' · '.join(parts)}[dim]{named(''.join(dropped))}[/]")

    def ended_task(self, task: Task, prefix: str, seconds: float) -> DoneTask:
        """With the counts of the stage that it has finished."""
        from reasondistill.pipeline import folder_of, measures_all
        from reasondistill.runs.store import read_manifest

        is_part = task.stage == "evals" and task.units and not measures_all(self.run, task)
        is_share = task.share is not None and task.share.role != "close"
        manifest = None
        if not is_part and not is_share:
            manifest = read_manifest(folder_of(self.run, task))
        if manifest is None:
            return DoneTask(task, prefix, None, None, seconds)
        counts = {name: manifest.counts.get(name, 0) for name in ("in", "out")}
        return DoneTask(task, prefix, counts, manifest.dropped, seconds)

    def changed(self, state: JobState) -> None:
        """A job is in another state than before."""
        out.print(f"  {named(state.name)} {counts_text(state)}")

    def printed(self, text: str) -> None:
        """What a job prints that does the whole run."""
        say(named(text))


def counts_text(state: JobState) -> str:
    """`3 running · 1 done`, and why it waits."""
    parts: list[str] = []
    for word, count in state.counts.items():
        text = word
        if state.is_array:
            text = f"{count} {word}"
        parts.append(f"[{_COLOURS[word]}]{text}[/]")
    counts = " · ".join(parts)
    if state.state == "waiting" and state.reason:
        return f"{counts} [dim]({named(state.reason)})[/]"
    return counts
