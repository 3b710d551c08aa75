"""`show`, `walk` and `view`: what is in a run's folder."""

from __future__ import annotations

import json
import re
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
    coloured,
    count_text,
    folder_to_read,
    named,
    out,
    place_of,
    say,
)
from reasondistill.cli.fitting import fits, print_table
from reasondistill.cli.results import SCREEN, Results, pair_of, print_result
from reasondistill.cli.speaking import AsJson, Quiet, command_line, print_next, speaking, warn
from reasondistill.durations import duration
from reasondistill.errors import StageError, Stopped
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import replacing
from reasondistill.tables import Table, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reasondistill.cli.documents import ShowDocument
    from reasondistill.pipeline import Run, StageState

# Ids that a wrong one is compared with, and that are named.
_MOST_COMPARED, _MOST_NAMED = 10_000, 5


@app.command(
    epilog="Examples:\n\n  reasondistill show demo\n\n"
    "  reasondistill show demo --json\n\n"
    "  reasondistill show eval/runs/real-traces --quiet"
)
def show(
    name: RunName,
    trust: Trust = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """The state of each stage of a run: counts, also of one under way, drops, also by source of
    problems, time, most memory, what is stale or was kept as it is, and which samples are missing.
    """
    from reasondistill import pipeline

    with speaking("show", quiet=quiet, as_json=as_json) as speech:
        run = pipeline.load_run(folder_to_read(name, runs), trust=trust)
        states = pipeline.stage_states(run)
        with speech.last():
            print_stages(states)
        for state in states:
            for sentence in (*state.sources, *state.costs):
                say(f"  [dim]{named(sentence)}[/]")
            for sentence in (*state.missing, *state.kept):
                warn(f"  [yellow]{named(sentence)}[/]")
        command = command_line("check", name, runs=runs)
        say(f"[dim]Sizes and times were looked at; `{named(command)}` reads all.[/]")
        with speech.last():
            results = print_result(run, says_missing=False, lines=SCREEN - len(states))
        following = next_of_show(name, runs, states, run, results)
        print_next(following)
        if as_json:
            speech.end(show_document(run, states, results, following))


def print_stages(states: Sequence[StageState]) -> None:
    """A row for each stage; why rows were dropped stands below where there is no room beside."""
    rows = [stage_cells(state) for state in states]
    seconds = sum(state.seconds for state in states)
    if seconds:
        rows.append(("all", "", "", "", "", duration(seconds), ""))
    headers = ("stage", "state", "in", "out", "dropped", "time", "memory")
    table = Table(headers, tuple(rows), numbers=2).without_blanks()
    if fits(table):
        out.print(coloured(table))
        return
    narrow = table.without(["dropped"])
    print_table(narrow, drops=("memory",))
    for state in states:
        if state.dropped:
            out.print(f"  [dim]{named(state.name)} dropped {named(dropped_words(state))}[/]")


def dropped_words(state: StageState) -> str:
    """`1,960 wrong, 12 truncated`."""
    return ", ".join(f"{number:,} {reason}" for reason, number in state.dropped.items())


def next_of_show(
    name: str, runs: Path, states: Sequence[StageState], run: Run, results: Results | None
) -> list[str]:
    """What may be done with a run: mend it, go on with it, read it."""
    words = {state.state.split()[0] for state in states}
    if "damaged" in words:
        return [command_line(word, name, runs=runs) for word in ("check", "repair")]
    commands: list[str] = []
    is_here = RunFolder(place_of(name, runs)).state.exists()
    if is_here and words & {"partial", "stale"}:
        commands.append(command_line("resume", name, runs=runs))
    if run.layout.traces.exists():
        commands.append(command_line("view", name, runs=runs))
    if results is not None:
        pair = pair_of(name, run, results)
        if pair:
            commands.append(command_line("compare", *pair, runs=runs))
    return commands


def show_document(
    run: Run, states: Sequence[StageState], results: Results | None, following: Sequence[str]
) -> ShowDocument:
    """What --json prints."""
    from reasondistill.cli.documents import (
        ScoreRow,
        ShowDocument,
        StageRow,
        as_text,
        difference_rows,
    )

    rows: list[StageRow] = []
    for state in states:
        row = StageRow(
            name=state.name,
            state=state.state,
            counts=dict(state.counts),
            dropped=dict(state.dropped),
            seconds=state.seconds or None,
            peak_memory_gib=state.peak_memory_gib or None,
            missing=tuple(map(as_text, state.missing)),
            kept=tuple(map(as_text, state.kept)),
            sources=state.sources,
            costs=state.costs,
        )
        rows.append(row)
    found = results or Results([], [], [])
    files: list[Path] = []
    if results is not None:
        files = results.files(run)
    return ShowDocument(
        command="show",
        name=run.pipeline.name,
        folder=as_text(run.folder),
        stages=tuple(rows),
        scores=tuple(map(ScoreRow.of, found.main_scores)),
        differences=difference_rows(found.differences),
        files=tuple(map(as_text, files)),
        next=tuple(map(as_text, following)),
    )


def stage_cells(state: StageState) -> tuple[str, ...]:
    """One row of `show`."""
    shown = state.state
    if "steps" in state.counts:
        shown += f", step {state.counts['steps']:,}"
    time = ""
    if state.seconds:
        time = duration(state.seconds)
    memory = ""
    if state.peak_memory_gib:
        memory = f"{state.peak_memory_gib:.2f} GiB"
    counts = (count_text(state.counts.get("in")), count_text(state.counts.get("out")))
    return (state.name, shown, *counts, dropped_words(state), time, memory)


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


@app.command(
    epilog="Examples:\n\n  reasondistill view demo\n\n  reasondistill view demo --file traces.html"
)
def view(
    name: RunName,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")
    ] = 0,
    target: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="Write one HTML file that carries all of it, of a small run, and serve nothing.",
        ),
    ] = None,
    runs: RunsDir = Path("runs"),
) -> None:
    """Every problem, trace and sample of a run in a browser: filters, full-text search, siblings of
    a problem, two models side by side, flips, probabilities of tokens, export of a selection.

    Reads the folder as it is now, also of a run at work or a packed one, and changes nothing. It
    listens on this machine alone, and only who has the printed URL is answered. Reports of runs of
    up to 200,000 traces have the same beside them, in 7-report/browser/. With --file it is one
    page, of at most 5 MiB of packed data, that opens from disk and loads nothing.
    """
    from reasondistill.stages.report.browser import count_traces, one_page, serve_browser

    folder = folder_to_read(name, runs)
    if not folder.is_dir():
        raise StageError(f"{folder}: no run is there.")
    traces = count_traces(folder)
    if not traces:
        raise StageError(f"{folder}: holds no traces yet; there is nothing to view.")
    if target is not None:
        if target.exists() or target.is_symlink():
            raise StageError(f"{target}: is there already; name another file.")
        page = one_page(folder, title=folder.resolve().name)
        with replacing(target) as file:
            file.write(page)
        say(f"{named(target)}: {counted(traces, 'trace')}, file://{named(target.resolve())}")
        return
    say(f"Read once for the index: {counted(traces, 'trace')}, samples of evals among them.")
    with serve_browser(folder, title=folder.resolve().name, port=port) as server:
        say(f"{server.url}")
        say("Ctrl-C ends it. From another machine: ssh -L with the same port on both sides.")
        with suppress(KeyboardInterrupt, Stopped):
            server.serve()
