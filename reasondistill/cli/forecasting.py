"""`forecast`: what a run will cost, before it is begun or while it goes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reasondistill.cli.console import (
    PipelineFile,
    RunsDir,
    app,
    block,
    err,
    folder_to_read,
    named,
    out,
    plain_table,
    print_json,
    say,
)
from reasondistill.cli.rounding import say_not_counted
from reasondistill.cli.starting import start
from reasondistill.config import resources
from reasondistill.errors import ConfigError, Interrupted, ReasonDistillError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from reasondistill.pipeline import Run
    from reasondistill.records import Forecast, Range, StageForecast


@app.command(
    epilog="Examples:\n\n  reasondistill forecast gsm8k_sft --on single_gpu --like runs/trial\n\n"
    "  reasondistill forecast demo --calibrate 20\n\n"
    "  reasondistill forecast r1_distill_qwen_1_5b --on single_gpu "
    "--tokens-per-trace 4500 --tokens-per-second 2600\n\n"
    "  reasondistill forecast r1_distill_qwen_1_5b --on single_gpu --gpus 8xh100 --gpu-hour 2.5\n\n"
    "  reasondistill forecast demo --json"
)
def forecast(
    file: PipelineFile,
    on: Annotated[
        str,
        typer.Option(help="A cluster file, or the name of a shipped one: workers, GPUs, prices."),
    ] = "local",
    like: Annotated[
        list[str] | None,
        typer.Option(help="A run whose lengths and speeds are taken; may be given again."),
    ] = None,
    calibrate: Annotated[
        int | None,
        typer.Option(min=2, help="Run the first so many problems through all stages, and measure."),
    ] = None,
    tokens_per_trace: Annotated[
        float | None,
        typer.Option("--tokens-per-trace", min=1, help="Mean tokens of a trace, as you say."),
    ] = None,
    tokens_per_second: Annotated[
        float | None,
        typer.Option("--tokens-per-second", min=0.01, help="Of one worker, as you say."),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(help="GPUs that nobody has run it on, by data sheet: h100, 4xh200, 1xl40s."),
    ] = None,
    gpu_hour: Annotated[
        float | None,
        typer.Option("--gpu-hour", min=0, help="What one of --gpus costs an hour, in dollars."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one key: traces.n=8; problems.limit=none unsets it"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """What a run will cost: tokens, hours, disk, memory and money of each stage, each with an
    interval that holds 90 % of simulated runs.

    With --gpus it is arithmetic on data sheets and stated assumptions, for GPUs that are not here:
    no weights are needed, and nothing is stored. Other numbers are from the run's own folder, from
    --like, from --calibrate, and from what you give, which stands over what was measured. Where
    nothing is known it says so. Stored as forecast.json in the run folder; the report puts it
    beside what came.
    """
    from reasondistill import config, pipeline
    from reasondistill.forecast import Given, make_forecast, paper_of, save

    if gpu_hour is not None and gpus is None:
        raise ConfigError("--gpu-hour: the price of --gpus; of your own stands in [prices].")
    paper = None
    if gpus is not None:
        paper = paper_of(gpus)
        if calibrate is not None:
            raise ConfigError("--calibrate measures this machine, --gpus is for another one.")
    source = resources.find("pipelines", file)
    settings = config.load_pipeline(source, set_ or [])
    cluster = config.load_cluster(resources.find("clusters", on))
    run = pipeline.Run(settings, cluster, runs / settings.name, source)
    folders = [folder_with_stages(name, runs) for name in like or ()]
    if calibrate is not None:
        do_calibration(run, calibrate, quiet=as_json)
    given = Given(tokens_per_trace, tokens_per_second)
    result = make_forecast(run, like=folders, given=given, paper=paper, usd_hour=gpu_hour)
    path = None
    if paper is None:
        path = save(result, run.folder)
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    print_forecast(result)
    say_not_counted(settings)
    if path is not None:
        say(f"[dim]{named(path)}[/]")


def folder_with_stages(name: str, runs: Path) -> Path:
    """The folder of a run that --like names, by name or path. Raises ConfigError."""
    folder = folder_to_read(name, runs)
    if not folder.is_dir():
        folder = Path(name)
    if not any(folder.glob("[0-9]-*")):
        raise ConfigError(
            f"--like {name}: {folder} holds no stages of a run. Runs are listed under {runs}/."
        )
    return folder


def do_calibration(run: Run, problems: int, *, quiet: bool) -> None:
    """Run the calibration. When it fails half-way the error is printed, and what it measured until
    then is used.
    """
    from reasondistill.forecast.calibrating import STAGES, calibration_run

    scratch = calibration_run(run, problems)
    was_quiet = out.quiet
    out.quiet = quiet
    try:
        start(scratch, list(STAGES), dry_run=False)
    except Interrupted:
        raise
    except ReasonDistillError as error:
        if not scratch.stage("problems").is_dir():
            raise
        err.print(f"[yellow]The calibration ended early:[/] {block(str(error))}", soft_wrap=True)
    finally:
        out.quiet = was_quiet


# ---- the table -----------------------------------------------------------------------------------

# Figures of a stage, as columns of the table, and what each shows.
_FIGURES = ("tokens", "time", "left", "hours", "disk", "memory", "money")
_SEED = r"-seed\d+$"
_STATES = {"new": "", "partial": " [yellow](begun)[/]", "done": " [green]✓[/]"}
_MOST_NAMES = 3
# Rows of which tokens are a part of the cost.
_WITH_TOKENS = ("traces", "students", "evals", "total")


def print_forecast(result: Forecast) -> None:
    """One row for each stage, expected values over their intervals; then where the numbers are
    from.
    """
    has_gpus = any(stage.gpu_hours and stage.gpu_hours.high > 0 for stage in result.stages)
    columns = {name: name for name in _FIGURES}
    columns["hours"] = "CPU-hours"
    if has_gpus:
        columns["hours"] = "GPU-hours"
    if result.total.state == "new":
        del columns["left"]
    if result.total.money is None:
        del columns["money"]
    if all(stage.memory_bytes is None for stage in result.stages):
        del columns["memory"]
    table = plain_table("stage", "work", *columns.values())
    cells = {row.stage: cells_of(row, has_gpus=has_gpus) for row in (*result.stages, result.total)}
    for names in rows_with_seeds_together(result, cells):
        row = names[0]
        label = f"[bold]{named(row.stage)}[/]"
        if row is not result.total:
            label = f"{named(row.stage)}{_STATES[row.state]}"
        if len(names) > 1:
            label = f"{named(row.stage)} ×{len(names)} seeds, each{_STATES[row.state]}"
        shown = [cells[row.stage][column] for column in columns]
        table.add_row(label, named(row.work), *shown)
    say(
        f"[bold]{named(result.run)}[/] on {named(result.cluster)}: expected, and what 90 % "
        "of simulated runs stay between"
    )
    for words in result.assumed:
        say(f"[yellow]{named(words)}[/]")
    out.print(table)
    for text, stages in stages_by_note(result).items():
        print_note(text, stages)


def print_note(text: str, stages: Sequence[str]) -> None:
    """A source, note or gap behind the stages that it is about."""
    names = list(dict.fromkeys(re.sub(_SEED, "", stage) for stage in stages))
    label = ", ".join(names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    if more > 0:
        label += f" and {more} more"
    colour = "dim"
    if text.startswith("unknown"):
        colour = "yellow"
    say(f"[{colour}]{named(label)}: {named(text)}[/]")


def rows_with_seeds_together(
    result: Forecast, cells: Mapping[str, Mapping[str, str]]
) -> list[list[StageForecast]]:
    """Rows that say the same of several seeds of one student are one row."""
    together: dict[tuple[Any, ...], list[StageForecast]] = {}
    for row in (*result.stages, result.total):
        name = re.sub(_SEED, "", row.stage)
        key = (name, row.state, row.work, *cells[row.stage].values())
        together.setdefault(key, []).append(row)
    return list(together.values())


def cells_of(row: StageForecast, *, has_gpus: bool) -> dict[str, str]:
    """What a row shows in each column."""
    hours = row.cpu_hours
    if has_gpus:
        hours = row.gpu_hours
    cells = {
        "tokens": range_text(row.tokens, count_words),
        "time": range_text(row.wall_hours, hours_words),
        "left": range_text(row.left_hours, hours_words),
        "hours": range_text(hours, "{:,.3g}".format),
        "disk": range_text(row.bytes, bytes_words),
        "memory": range_text(row.memory_bytes, bytes_words),
        "money": range_text(row.money, "{:,.2f}".format),
    }
    if row.unknown is None:
        return cells
    has_tokens = row.stage.partition("/")[0] in _WITH_TOKENS
    for name, cell in cells.items():
        if not cell and (name != "tokens" or has_tokens):
            cells[name] = "[yellow]unknown[/]"
    return cells


def range_text(values: Range | None, words: Callable[[float], str]) -> str:
    """`3.1 h` and, below it, its interval; one line where nothing is uncertain."""
    if values is None:
        return ""
    expected, low, high = words(values.expected), words(values.low), words(values.high)
    if expected == low == high:
        return expected
    return f"{expected}\n[dim]{low} – {high}[/]"


def stages_by_note(result: Forecast) -> dict[str, list[str]]:
    """Each source, note and gap with the stages that it is about: students of one kind share
    theirs.
    """
    from reasondistill.forecast.on_paper import NEVER_RUN

    stages: dict[str, list[str]] = {}
    for row in result.stages:
        notes = list(row.notes)
        if row.source == NEVER_RUN:
            notes.insert(0, row.source)
        elif row.source:
            notes.insert(0, f"from {row.source}")
        if row.unknown:
            notes.insert(0, row.unknown)
        for note in notes:
            stages.setdefault(note, []).append(row.stage)
    if result.total.unknown is not None:
        stages[result.total.unknown] = ["total"]
    return stages


def count_words(value: float) -> str:
    """`1.24M`: three figures and a magnitude."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    if value >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:,.0f}"


def bytes_words(value: float) -> str:
    """`1.24 GiB`."""
    for size, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= size:
            return f"{value / size:,.3g} {unit}"
    return f"{value:,.0f} B"


def hours_words(hours: float) -> str:
    """`41 s`, `12 min`, `3.2 h`, `2.1 d`."""
    seconds = 3600 * hours
    if seconds < 100:
        return f"{seconds:.3g} s"
    if hours < 1.67:
        return f"{seconds / 60:.3g} min"
    if hours < 72:
        return f"{hours:.3g} h"
    return f"{hours / 24:.3g} d"
