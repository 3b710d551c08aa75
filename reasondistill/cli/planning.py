"""`power`: what a number of problems and samples can show, before a GPU is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from reasondistill.cli.console import RunsDir, app, out
from reasondistill.cli.measuring import names_in
from reasondistill.config import resources
from reasondistill.errors import ConfigError

if TYPE_CHECKING:
    from reasondistill.statistics import Population


@app.command(
    epilog="Examples:\n\n  reasondistill power --benchmarks aime24,aime25,amc23 --effect 0.03\n\n"
    "  reasondistill power --problems 300 --n 4 --effect 0.05 --base 0.4\n\n"
    "  reasondistill power --benchmarks gsm8k --like demo/distilled --and demo/base"
)
def power(
    benchmarks: Annotated[
        str | None,
        typer.Option("--benchmarks", "-b", help="Names, with commas; their problems together."),
    ] = None,
    problems: Annotated[
        int | None, typer.Option(min=2, help="So many problems, instead of benchmarks.")
    ] = None,
    effect: Annotated[
        float,
        typer.Option(min=0.001, max=0.9, help="The difference to be shown: 0.03 is 3 points."),
    ] = 0.03,
    n: Annotated[int, typer.Option(min=1, help="Samples per problem, of both models.")] = 16,
    base: Annotated[
        float | None, typer.Option(min=0.01, max=0.99, help="How often the weaker model is right.")
    ] = None,
    chance: Annotated[
        float, typer.Option(min=0.1, max=0.99, help="The chance to show it that is wanted.")
    ] = 0.8,
    like: Annotated[
        str | None,
        typer.Option(help="RUN/MODEL: a model whose samples are like what is expected …"),
    ] = None,
    and_: Annotated[
        str | None, typer.Option("--and", help="… and the RUN/MODEL that it was compared with.")
    ] = None,
    runs: RunsDir = Path("runs"),
) -> None:
    """How many problems × samples it takes to show a difference, and the smallest difference that a
    plan can show. Nothing is run.
    """
    import math
    from dataclasses import replace

    from reasondistill import statistics

    number = _problems_of(benchmarks, problems)
    population = _population(like, and_, runs)
    population = replace(population, base=base) if base is not None else population
    known = (
        f"right {100 * population.base:.0f} % · samples of a problem agree by "
        f"{population.rho:.2f} · models by {population.alike:.2f}"
    )
    if like is None:
        known += " (a guess; --like takes it from a run)"
    elif not population.within_known:
        population = replace(population, rho=statistics.Population().rho)
        known = (
            f"right {100 * population.base:.0f} % · one sample each says nothing of how far "
            f"samples agree; {population.rho} assumed"
        )
    _check_effect(population.base, effect)
    out.print(f"{number:,} problems · {known}", soft_wrap=True)
    table = Table(
        "samples",
        f"chance to show {100 * effect:+.1f}",
        "smallest shown",
        "problems needed",
        box=None,
        header_style="bold",
    )
    for k in sorted({1, 4, 16, 64, n}):
        smallest = statistics.smallest_effect(number, k, population, chance=chance)
        needed = statistics.needed_problems(effect, k, population, chance=chance)
        cells = (
            f"{100 * statistics.power(number, k, effect, population):.0f} %",
            _points(smallest),
            "none" if needed is None else f"{needed:,}",
        )
        table.add_row(f"[bold]{k}[/]" if k == n else str(k), *cells)
    limit = statistics.power(number, math.inf, effect, population)
    table.add_row(
        "∞",
        f"{100 * limit:.0f} %",
        _points(statistics.smallest_effect(number, math.inf, population, chance=chance)),
        "",
    )
    out.print(table)
    samples = statistics.needed_samples(effect, number, population, chance=chance)
    if samples is None:
        out.print(
            f"{number:,} problems cannot show {100 * effect:+.1f} points with any number of "
            "samples: take more problems."
        )
    else:
        out.print(
            f"{number:,} problems show {100 * effect:+.1f} points from {samples:,} samples "
            f"each on, {100 * chance:.0f} times of 100."
        )


def _check_effect(base: float, effect: float) -> None:
    if base + effect > 1:
        raise ConfigError(
            f"--effect {effect:g}: a model that is right {100 * base:.0f} % of the time "
            "cannot gain that much."
        )


def _points(effect: float | None) -> str:
    return "none" if effect is None else f"{100 * effect:.1f} points"


def _problems_of(benchmarks: str | None, problems: int | None) -> int:
    from reasondistill.config import load_benchmark

    if (benchmarks is None) == (problems is None):
        raise ConfigError("name either --benchmarks or --problems.")
    if problems is not None:
        return problems
    total = 0
    for name in names_in(benchmarks or ""):
        benchmark = load_benchmark(resources.find("benchmarks", name))
        rows = benchmark.rows or benchmark.problems.limit
        if rows is None:
            raise ConfigError(
                f"{name}: its file does not say how many rows it has; use --problems."
            )
        total += rows
    return total


def _population(like: str | None, other: str | None, runs: Path) -> Population:
    """The usual guess, or what two models of a past run were like, over all benchmarks that both
    answered.
    """
    import numpy as np

    from reasondistill.stages.evals.comparing import paired
    from reasondistill.stages.evals.stored import Entrant, compare
    from reasondistill.statistics import Population, estimate_population

    if (like is None) != (other is None):
        raise ConfigError(
            "--like and --and belong together: two models whose samples are like what is expected."
        )
    if like is None or other is None:
        return Population()
    ours, theirs = Entrant.parse(like, runs), Entrant.parse(other, runs)
    sheets = compare([ours], theirs).sheets
    k = min(sheet.k for sheet in sheets.values())
    names = dict.fromkeys(benchmark for benchmark, _ in sheets)
    pairs = [paired(sheets[name, ours.label], sheets[name, theirs.label]) for name in names]
    first = np.concatenate([pair.ours.correct[:, :k] for pair in pairs])
    second = np.concatenate([pair.theirs.correct[:, :k] for pair in pairs])
    return estimate_population(first, second)
