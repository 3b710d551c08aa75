"""`power`: what a number of problems and samples can show, before a GPU is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from reasondistill.bounds import BENCHMARK_ROWS
from reasondistill.cli.console import RunsDir, app, out, plain_table, say
from reasondistill.cli.measuring import Metric, names_in
from reasondistill.config import resources
from reasondistill.errors import ConfigError
from reasondistill.records import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reasondistill.stages.evals.comparing import Pair
    from reasondistill.statistics import Population

# Numbers of samples that a plan is compared with.
_SAMPLES = (1, 4, 16, 64)


@app.command(
    epilog="Examples:\n\n  reasondistill power --benchmarks aime24,aime25,amc23 --effect 0.03\n\n"
    "  reasondistill power --problems 300 --n 4 --effect 0.05 --base 0.4\n\n"
    "  reasondistill power --benchmarks gsm8k --like demo/distilled --and demo/base"
)
def power(
    benchmarks: Annotated[
        str | None,
        typer.Option(
            "--benchmarks", "-b", help="Names or files, with commas; their problems together."
        ),
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
        typer.Option(
            help="RUN/MODEL, or another tool's log: whose samples are like what is expected …"
        ),
    ] = None,
    and_: Annotated[
        str | None,
        typer.Option("--and", help="… and the RUN/MODEL or log that it was compared with."),
    ] = None,
    metric: Metric = None,
    runs: RunsDir = Path("runs"),
) -> None:
    """How many problems × samples it takes to show a difference, and the smallest difference that a
    plan can show. Nothing is run.
    """
    from reasondistill import statistics

    number = _problems_of(benchmarks, problems)
    population = _population(like, and_, runs, metric or ())
    if base is not None:
        population = replace(population, base=base)
    agreement = (
        f"samples of a problem agree by {population.rho:.2f} · models by {population.alike:.2f}"
    )
    if like is None:
        agreement += " (a guess; --like takes it from a run)"
    elif not population.within_known:
        population = replace(population, rho=statistics.Population().rho)
        agreement = (
            f"one sample each says nothing of how far samples agree; {population.rho} assumed"
        )
    if population.base + effect > 1:
        raise ConfigError(
            f"--effect {effect:g}: a model that is right {100 * population.base:.0f} % of the time "
            "cannot gain that much."
        )
    say(f"{number:,} problems · right {100 * population.base:.0f} % · {agreement}")
    plan = Plan(number, effect, population, chance)
    out.print(power_table(plan, n))
    points = f"{100 * effect:+.1f} points"
    samples = statistics.needed_samples(effect, number, population, chance=chance)
    if samples is None:
        out.print(
            f"{number:,} problems cannot show {points} with any number of "
            "samples: take more problems."
        )
    else:
        out.print(
            f"{number:,} problems show {points} from n = {samples:,} on, "
            f"{100 * chance:.0f} times of 100."
        )


@dataclass(frozen=True)
class Plan:
    """So many problems, to show an effect in such models with this chance."""

    problems: int
    effect: float
    population: Population
    chance: float


def power_table(plan: Plan, n: int) -> Table:
    """A row for each number of samples; that of the plan is bold, the last is what no number of
    samples can better.
    """
    from reasondistill import statistics

    columns = ("samples", f"chance to show {100 * plan.effect:+.1f}", "smallest shown")
    table = plain_table(*columns, "problems needed")
    for k in sorted({*_SAMPLES, n}):
        label = str(k)
        if k == n:
            label = f"[bold]{k}[/]"
        needed = statistics.needed_problems(plan.effect, k, plan.population, chance=plan.chance)
        problems = "none"
        if needed is not None:
            problems = f"{needed:,}"
        table.add_row(label, *_chance_cells(plan, k), problems)
    table.add_row("∞", *_chance_cells(plan, math.inf), "")
    return table


def _chance_cells(plan: Plan, k: float) -> tuple[str, str]:
    """The chance to show the effect with k samples each, and the smallest effect that is shown."""
    from reasondistill import statistics

    chance = statistics.power(plan.problems, k, plan.effect, plan.population)
    smallest = statistics.smallest_effect(plan.problems, k, plan.population, chance=plan.chance)
    points = "none"
    if smallest is not None:
        points = f"{100 * smallest:.1f} points"
    return f"{100 * chance:.0f} %", points


def _problems_of(benchmarks: str | None, problems: int | None) -> int:
    if (benchmarks is None) == (problems is None):
        raise ConfigError("name either --benchmarks or --problems.")
    if problems is not None:
        return problems
    total = 0
    for name in names_in(benchmarks or ""):
        total += rows_of(name)
    return total


def rows_of(name: str) -> int:
    """How many problems a benchmark has: as its file says, else as a file beside it holds. Raises
    ConfigError for one on a hub that does not say it.
    """
    from reasondistill.config import load_benchmark
    from reasondistill.stages.problems import read_problems

    place = resources.find("benchmarks", name)
    benchmark = load_benchmark(place)
    rows = benchmark.rows or benchmark.problems.limit
    if rows is not None:
        return rows
    if benchmark.problems.source == "hub":
        raise ConfigError(f"{name}: its file does not say how many rows it has; use --problems.")
    found = read_problems(benchmark.problems, base=place.parent)
    return sum(isinstance(one, Problem) for one in islice(found, BENCHMARK_ROWS.most))


def _population(
    like: str | None, other: str | None, runs: Path, metrics: Sequence[str]
) -> Population:
    """The usual guess, or what two models of a past run were like, over all benchmarks that both
    answered.
    """
    import numpy as np

    from reasondistill.stages.evals.comparing import paired
    from reasondistill.stages.evals.entrants import parse_entrant
    from reasondistill.stages.evals.stored import compare
    from reasondistill.statistics import Population, estimate_population

    if (like is None) != (other is None):
        raise ConfigError(
            "--like and --and belong together: two models whose samples are like what is expected."
        )
    if like is None or other is None:
        return Population()
    ours, theirs = parse_entrant(like, runs), parse_entrant(other, runs)
    sheets = compare([ours], [theirs], wanted_metrics=metrics).sheets
    k = min(sheet.k for sheet in sheets.values())
    pairs: list[Pair] = []
    for name in dict.fromkeys(benchmark for benchmark, _ in sheets):
        pairs.append(paired(sheets[name, ours.label], sheets[name, theirs.label]))
    first = np.concatenate([pair.ours.correct[:, :k] for pair in pairs])
    second = np.concatenate([pair.theirs.correct[:, :k] for pair in pairs])
    return estimate_population(first, second)
