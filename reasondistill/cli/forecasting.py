"""`forecast`: what a run will cost, before it is begun or while it goes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from reasondistill.cli.console import RunsDir, app, err, out, run_folder
from reasondistill.cli.running import start
from reasondistill.config import resources
from reasondistill.errors import ConfigError, Interrupted, ReasonDistillError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reasondistill.pipeline import Run
    from reasondistill.records import Forecast, Range, StageForecast


@app.command(
    epilog="Examples:\n\n  reasondistill forecast gsm8k_sft --on single_gpu --like runs/trial\n\n"
    "  reasondistill forecast demo --calibrate 20\n\n"
    "  reasondistill forecast r1_distill_qwen_1_5b --on single_gpu "
    "--tokens-per-trace 4500 --tokens-per-second 2600\n\n"
    "  reasondistill forecast demo --json"
)
def forecast(
    file: Annotated[
        str,
        typer.Argument(
            help="A pipeline file, or the name of a shipped one (see `list pipelines`)."
        ),
    ],
    on: Annotated[
        str,
        typer.Option(
            help="A cluster file, or the name of one in pipelines/clusters: workers, GPUs, prices."
        ),
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
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key: traces.n=8")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """What a run will cost: tokens, hours, disk and money of each stage, each with an interval that
    holds 90 % of simulated runs.

    Numbers are from the run's own folder, from --like, from --calibrate, and from what you give,
    which stands over what was measured. Where nothing is known it says so. Stored as forecast.json
    in the run folder; the report puts it beside what came.
    """
    from reasondistill import config, pipeline
    from reasondistill.forecast import Given, make_forecast, save

    source = resources.find("pipelines", file)
    settings = config.load_pipeline(source, set_ or [])
    cluster = config.load_cluster(resources.find("clusters", on))
    job = pipeline.Run(settings, cluster, runs / settings.name, source)
    folders = [_like(name, runs) for name in like or ()]
    if calibrate is not None:
        _calibrate(job, calibrate, quiet=as_json)
    told = make_forecast(job, like=folders, given=Given(tokens_per_trace, tokens_per_second))
    path = save(told, job.folder)
    if as_json:
        print(told.model_dump_json(indent=2))
        return
    print_forecast(told)
    out.print(f"[dim]{path}[/]", soft_wrap=True)


def _like(name: str, runs: Path) -> Path:
    folder = run_folder(name, runs)
    folder = folder if folder.is_dir() else Path(name)
    if not any(folder.glob("[0-9]-*")):
        raise ConfigError(
            f"--like {name}: {folder} holds no stages of a run. Runs are listed under {runs}/."
        )
    return folder


def _calibrate(job: Run, problems: int, *, quiet: bool) -> None:
    """Run the calibration; what went wrong in it is told, and what it measured before that is used."""
    from reasondistill.forecast.calibrating import STAGES, calibration_run

    scratch = calibration_run(job, problems)
    was_quiet, out.quiet = out.quiet, quiet
    try:
        start(scratch, list(STAGES), dry_run=False)
    except Interrupted:
        raise
    except ReasonDistillError as error:
        if not scratch.stage("problems").is_dir():
            raise
        err.print(f"[yellow]The calibration ended early:[/] {escape(str(error))}", soft_wrap=True)
    finally:
        out.quiet = was_quiet


# ---- the table -----------------------------------------------------------------------------------


def print_forecast(told: Forecast) -> None:
    """One row for each stage, expected values over their intervals; then where the numbers are
    from.
    """
    hours = (
        "GPU-hours"
        if any(stage.gpu_hours is not None and stage.gpu_hours.high > 0 for stage in told.stages)
        else "CPU-hours"
    )
    columns = ["tokens", "time", "left", hours, "disk", "money"]
    rows = {
        row.stage: dict(zip(columns, _cells(row, has_gpus=hours == "GPU-hours"), strict=True))
        for row in (*told.stages, told.total)
    }
    if told.total.state == "new":
        columns.remove("left")
    if told.total.money is None:
        columns.remove("money")
    table = Table("stage", "work", *columns, box=None, header_style="bold")
    for names, row in _together((*told.stages, told.total), rows):
        seeds = f" ×{len(names)} seeds, each" if len(names) > 1 else ""
        label = (
            f"[bold]{row.stage}[/]"
            if row is told.total
            else f"{escape(row.stage)}{seeds}{_STATES[row.state]}"
        )
        table.add_row(label, escape(row.work), *(rows[row.stage][column] for column in columns))
    out.print(
        f"[bold]{escape(told.run)}[/] on {escape(told.cluster)}: expected, and what 90 % "
        "of simulated runs stay between",
        soft_wrap=True,
    )
    out.print(table)
    for text, stages in _said(told).items():
        stages = list(dict.fromkeys(re.sub(_SEED, "", stage) for stage in stages))
        names = ", ".join(stages[:3]) + (f" and {len(stages) - 3} more" if len(stages) > 3 else "")
        colour = "yellow" if text.startswith("unknown") else "dim"
        out.print(f"[{colour}]{escape(names)}: {escape(text)}[/]", soft_wrap=True)


_SEED = r"-seed\d+$"
_STATES = {"new": "", "partial": " [yellow](begun)[/]", "done": " [green]✓[/]"}


def _together(
    told: Sequence[StageForecast], cells: dict[str, dict[str, str]]
) -> list[tuple[list[str], StageForecast]]:
    """Rows that say the same of several seeds of one student are one row."""
    found: dict[tuple[Any, ...], tuple[list[str], StageForecast]] = {}
    for row in told:
        key = (re.sub(_SEED, "", row.stage), row.state, row.work, *cells[row.stage].values())
        found.setdefault(key, ([], row))[0].append(row.stage)
    return list(found.values())


def _cells(row: StageForecast, *, has_gpus: bool) -> list[str]:
    return [
        _both(row.tokens, count_words),
        _both(row.wall_hours, hours_words),
        _both(row.left_hours, hours_words),
        _both(row.gpu_hours if has_gpus else row.cpu_hours, lambda value: f"{value:,.3g}"),
        _both(row.bytes, bytes_words),
        _both(row.money, lambda value: f"{value:,.2f}"),
    ]


def _both(found: Range | None, words: Callable[[float], str]) -> str:
    """`3.1 h` and, below it, its interval; one line where nothing is uncertain."""
    if found is None:
        return ""
    said, low, high = words(found.expected), words(found.low), words(found.high)
    return said if said == low == high else f"{said}\n[dim]{low} – {high}[/]"


def _said(told: Forecast) -> dict[str, list[str]]:
    """Each source, note and gap with the stages that it is about: students of one kind share
    theirs.
    """
    found: dict[str, list[str]] = {}
    for row in told.stages:
        for text in (
            *([row.unknown] if row.unknown else []),
            *([f"from {row.source}"] if row.source else []),
            *row.notes,
        ):
            found.setdefault(text, []).append(row.stage)
    if told.total.unknown is not None:
        found[told.total.unknown] = ["total"]
    return found


def count_words(value: float) -> str:
    """`1.24M`: three figures and a magnitude."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{value:,.0f}"


def bytes_words(value: float) -> str:
    for size, letter in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= size:
            return f"{value / size:,.3g} {letter}"
    return f"{value:,.0f} B"


def hours_words(hours: float) -> str:
    """`41 s`, `12 min`, `3.2 h`, `2.1 d`."""
    seconds = 3600 * hours
    if seconds < 100:
        return f"{seconds:.3g} s"
    return (
        f"{seconds / 60:.3g} min"
        if hours < 1.67
        else f"{hours:.3g} h"
        if hours < 72
        else f"{hours / 24:.3g} d"
    )
