"""How a run goes on, as the terminal shows it."""

from __future__ import annotations

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


class TerminalWatcher:
    """Prints what a launcher tells of one run: a `launch.launcher.Watcher`."""

    def __init__(self, run: Run) -> None:
        self.run = run
        # Whether any task was begun.
        self.has_seen_work = False

    def line(self, task: Task, text: str) -> None:
        """What a task says."""
        self.has_seen_work = True
        say(f"  [dim]{named(task.label)}[/] {named(text)}")

    def done(self, task: Task, seconds: float) -> None:
        """When a task ends: what went in, what came out, what was dropped, how long it took."""
        self.has_seen_work = True
        counts, dropped = self.counts_of(task)
        time = duration(seconds)
        say(f"[green]✓[/] {named(task.label)} · {counts}{time}[dim]{named(dropped)}[/]")

    def counts_of(self, task: Task) -> tuple[str, str]:
        """Of the stage that a task has finished; nothing for a task that did a part of it."""
        from reasondistill.pipeline import folder_of, measures_all
        from reasondistill.runs.store import read_manifest

        if task.stage == "evals" and task.units and not measures_all(self.run, task):
            return "", ""
        if task.share is not None and task.share.role != "close":
            return "", ""
        manifest = read_manifest(folder_of(self.run, task))
        if manifest is None:
            return "", ""
        went_in, came_out = manifest.counts.get("in", 0), manifest.counts.get("out", 0)
        counts = f"{went_in:,} in · {came_out:,} out · "
        dropped = [f" · {number:,} {reason}" for reason, number in manifest.dropped.items()]
        return counts, "".join(dropped)

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
