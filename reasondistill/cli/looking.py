"""`show`, `walk` and `view`: what is in a run's folder."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reasondistill.cli.console import (
    RunName,
    RunsDir,
    Trust,
    app,
    block,
    count_text,
    folder_to_read,
    named,
    out,
    plain_table,
    say,
)
from reasondistill.cli.results import print_result
from reasondistill.durations import duration
from reasondistill.errors import StageError, Stopped

if TYPE_CHECKING:
    from reasondistill.pipeline import Run, StageState

# Ids that a wrong one is compared with, and that are named.
_MOST_COMPARED, _MOST_NAMED = 10_000, 5
_COLOURS = {
    "complete": "green",
    "partial": "yellow",
    "stale": "red",
    "new": "dim",
    "skipped": "dim",
    "kept": "dim",
}


@app.command(epilog="Example:\n\n  reasondistill show demo")
def show(name: RunName, trust: Trust = False, runs: RunsDir = Path("runs")) -> None:
    """The state of each stage of a run: counts, also of one under way, drops, also by source of
    problems, time, most memory, what is stale or was kept as it is, and which samples are missing.
    """
    from reasondistill import pipeline

    run = pipeline.load_run(folder_to_read(name, runs), trust=trust)
    table = plain_table("stage", "state", "in", "out", "dropped", "time", "memory")
    states = pipeline.stage_states(run)
    for state in states:
        table.add_row(*stage_cells(state))
    seconds = sum(state.seconds for state in states)
    if seconds:
        table.add_row("[bold]all[/]", "", "", "", "", duration(seconds), "")
    out.print(table)
    for state in states:
        for sentence in (*state.sources, *state.costs):
            say(f"  [dim]{named(sentence)}[/]")
        for sentence in state.missing:
            say(f"  [yellow]{named(sentence)}[/]")
        for sentence in state.kept:
            say(f"  [yellow]{named(sentence)}[/]")
    command = f"reasondistill check {shlex.quote(name)}"
    say(f"[dim]Sizes and times were looked at; `{named(command)}` reads all.[/]")
    print_result(run, says_missing=False)


def stage_cells(state: StageState) -> list[str]:
    """One row of `show`."""
    word = state.state.split()[0]
    shown = state.state
    if "steps" in state.counts:
        shown += f", step {state.counts['steps']:,}"
    colour = _COLOURS.get(word, "red")
    dropped = ", ".join(f"{number:,} {reason}" for reason, number in state.dropped.items())
    time = ""
    if state.seconds:
        time = duration(state.seconds)
    memory = ""
    if state.peak_memory_gib:
        memory = f"{state.peak_memory_gib:.2f} GiB"
    return [
        named(state.name),
        f"[{colour}]{named(shown)}[/]",
        count_text(state.counts.get("in")),
        count_text(state.counts.get("out")),
        named(dropped),
        time,
        memory,
    ]


@app.command(
    epilog="Examples:\n\n  reasondistill walk demo gsm_symbolic/seed1/12\n\n"
    "  reasondistill walk demo seed1/12"
)
def walk(
    name: RunName,
    problem_id: Annotated[
        str,
        typer.Argument(help="A problem's id, as in problems.jsonl, or a part that no other has."),
    ],
    trust: Trust = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """One problem through all stages: question, traces, verdicts, examples, samples of evals."""
    from reasondistill import pipeline

    run = pipeline.load_run(folder_to_read(name, runs), trust=trust)
    if not print_walk(run, problem_id):
        print_walk(run, problem_meant(run, problem_id))


def print_walk(run: Run, problem_id: str) -> bool:
    """Print what each stage holds about a problem; whether there was anything."""
    from reasondistill import pipeline

    is_known = False
    for title, rows in pipeline.walk(run, problem_id):
        for row in rows:
            is_known = True
            out.print(f"[bold]{named(title)}[/]")
            for key, value in row.items():
                text = value
                if not isinstance(value, str):
                    text = json.dumps(value, ensure_ascii=False)
                say(f"  [cyan]{named(key)}[/] {block(text)}")
    return is_known


def problem_meant(run: Run, part: str) -> str:
    """The one problem whose id has this part, or that a sample (`gsm8k/train/12:3`) is of. Raises
    StageError, naming those that may be meant.
    """
    from reasondistill import pipeline

    of_sample = part.rpartition(":")[0]
    meant: dict[str, None] = {}
    first: list[str] = []
    for problem_id in pipeline.problem_ids(run):
        if len(first) < _MOST_COMPARED:
            first.append(problem_id)
        if problem_id == of_sample:
            return problem_id
        # At an end of a word: 12 is no part of 120.
        if re.search(rf"(?<!\w){re.escape(part)}(?!\w)", problem_id):
            meant[problem_id] = None
    if len(meant) == 1:
        return next(iter(meant))
    if meant:
        some = ", ".join(list(meant)[:_MOST_NAMED])
        raise StageError(f"{part}: {len(meant):,} problems have this in their id: {some}, …")
    close = get_close_matches(part, first, n=1, cutoff=0.5) or first[:1]
    like = "They"
    if close:
        like = f"One is called {close[0]}; they"
    raise StageError(f"{run.folder}: no problem {part!r}. {like} stand in {run.layout.problems}.")


@app.command(epilog="Example:\n\n  reasondistill view demo")
def view(
    name: RunName,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")
    ] = 0,
    runs: RunsDir = Path("runs"),
) -> None:
    """Every problem, trace and sample of a run in a browser: filters, full-text search, siblings of
    a problem, two models side by side, flips, probabilities of tokens, export of a selection.

    Reads the folder as it is now, also of a run at work or a packed one, and changes nothing. It
    listens on this machine alone, and only who has the printed URL is answered. Reports of runs of
    up to 200,000 traces have the same beside them, in 7-report/browser/.
    """
    from reasondistill.stages.report.browser import count_traces, serve_browser

    folder = folder_to_read(name, runs)
    if not folder.is_dir():
        raise StageError(f"{folder}: no run is there.")
    traces = count_traces(folder)
    if not traces:
        raise StageError(f"{folder}: holds no traces yet; there is nothing to view.")
    say(f"{traces:,} traces and samples are read once for the index.")
    with serve_browser(folder, title=folder.resolve().name, port=port) as server:
        say(f"{server.url}")
        say("Ctrl-C ends it. From another machine: ssh -L with the same port on both sides.")
        with suppress(KeyboardInterrupt, Stopped):
            server.serve()
