"""`power`: what a number of problems and samples can show, before a GPU is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reasondistill.bounds import BENCHMARK_ROWS
from reasondistill.cli.console import RunsDir, app, out
from reasondistill.cli.fitting import print_table
from reasondistill.cli.measuring import LEAST_EFFECT, MOST_EFFECT, Metric, names_in
from reasondistill.cli.speaking import AsJson, Quiet, command_line, print_next, speaking
from reasondistill.config import resources
from reasondistill.errors import ConfigError
from reasondistill.records import Problem
from reasondistill.tables import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reasondistill.cli.documents import PowerDocument
    from reasondistill.stages.evals.comparing import Pair
    from reasondistill.statistics import Population

# Numbers of samples that a plan is compared with.
_SAMPLES = (1, 4, 16, 64)


@app.command(
    epilog="Examples:\n\n  reasondistill power --benchmarks aime24,aime25,amc23 --effect 0.03\n\n"
    "  reasondistill power --problems 300 --n 4 --effect 0.05 --base 0.4\n\n"
    "  reasondistill power --benchmarks gsm8k --like demo/distilled --and demo/base\n\n"
    "  reasondistill power --problems 300 --effect 0.05 --json"
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
        typer.Option(
            min=LEAST_EFFECT, max=MOST_EFFECT, help="The difference to be shown: 0.03 is 3 points."
        ),
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
    quiet: Quiet = False,
    as_json: AsJson = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """How many problems × samples it takes to show a difference, and the smallest difference that a
    plan can show. Nothing is run.
    """
    from reasondistill import statistics

    with speaking("power", quiet=quiet, as_json=as_json) as speech:
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
                f"--effect {effect:g}: a model that is right {100 * population.base:.0f} % of the "
                "time cannot gain that much."
            )
        out.print(f"{number:,} problems · right {100 * population.base:.0f} % · {agreement}")
        plan = Plan(number, effect, population, chance)
        chances = chances_of(plan, n)
        print_table(power_table(plan, chances))
        samples = statistics.needed_samples(effect, number, population, chance=chance)
        following = next_of_plan(benchmarks, number, samples)
        with speech.last():
            out.print(sentence_of(plan, samples))
        print_next(following)
        if as_json:
            speech.end(plan_document(plan, n, chances, samples, following, is_guess=like is None))


def sentence_of(plan: Plan, samples: int | None) -> str:
    """What a plan shows, in one sentence."""
    points = f"{100 * plan.effect:+.1f} points"
    problems = f"{plan.problems:,} problems"
    if samples is None:
        return f"{problems} cannot show {points} with any number of samples: take more problems."
    times = f"{100 * plan.chance:.0f} times of 100"
    return f"{problems} show {points} from n = {samples:,} on, {times}."


def next_of_plan(benchmarks: str | None, problems: int, samples: int | None) -> list[str]:
    """The evals of a plan that can show something; MODEL and BASE are to be filled in."""
    if samples is None or benchmarks is None:
        return []
    asked = [f"--benchmarks={benchmarks}", f"--n={samples}", "--against=base"]
    return [command_line("eval", "MODEL", "base=BASE", options=asked)]


@dataclass(frozen=True)
class Plan:
    """So many problems, to show an effect in such models with this chance."""

    problems: int
    effect: float
    population: Population
    chance: float


@dataclass(frozen=True)
class Chance:
    """What `samples` per problem can show: infinitely many are what no number betters."""

    samples: float
    chance: float
    smallest: float | None
    problems: int | None
    is_planned: bool = False


def chances_of(plan: Plan, n: int) -> list[Chance]:
    """For several numbers of samples, that of the plan among them, infinitely many last."""
    from reasondistill import statistics

    found: list[Chance] = []
    for k in (*sorted({*_SAMPLES, n}), math.inf):
        needed = None
        if not math.isinf(k):
            needed = statistics.needed_problems(
                plan.effect, int(k), plan.population, chance=plan.chance
            )
        chance = statistics.power(plan.problems, k, plan.effect, plan.population)
        smallest = statistics.smallest_effect(plan.problems, k, plan.population, chance=plan.chance)
        found.append(Chance(k, chance, smallest, needed, is_planned=k == n))
    return found


def power_table(plan: Plan, chances: Sequence[Chance]) -> Table:
    """A row for each number of samples; that of the plan is marked."""
    rows: list[tuple[str, ...]] = []
    for one in chances:
        label, problems = f"{one.samples:,.0f}", "none"
        if one.problems is not None:
            problems = f"{one.problems:,}"
        if one.is_planned:
            label = f"{label} ←"
        if math.isinf(one.samples):
            label, problems = "∞", ""
        smallest = "none"
        if one.smallest is not None:
            smallest = f"{100 * one.smallest:.1f} points"
        rows.append((label, f"{100 * one.chance:.0f} %", smallest, problems))
    headers = ("samples", f"chance to show {100 * plan.effect:+.1f}", "smallest shown")
    return Table((*headers, "problems needed"), tuple(rows))


def plan_document(
    plan: Plan,
    n: int,
    chances: Sequence[Chance],
    samples: int | None,
    following: Sequence[str],
    *,
    is_guess: bool,
) -> PowerDocument:
    """What --json prints."""
    from reasondistill.cli.documents import PowerDocument, PowerRow, as_text

    rows: list[PowerRow] = []
    for one in chances:
        number = None
        if not math.isinf(one.samples):
            number = int(one.samples)
        row = PowerRow(
            samples=number,
            chance=one.chance,
            smallest_effect=one.smallest,
            problems_needed=one.problems,
        )
        rows.append(row)
    return PowerDocument(
        command="power",
        problems=plan.problems,
        n=n,
        effect=plan.effect,
        chance=plan.chance,
        base=plan.population.base,
        rho=plan.population.rho,
        alike=plan.population.alike,
        is_guess=is_guess,
        rows=tuple(rows),
        samples_needed=samples,
        next=tuple(map(as_text, following)),
    )


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
