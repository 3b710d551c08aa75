"""`grade` and `matrix`: answers against golds, under one policy or several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reasondistill.cli.console import (
    RunsDir,
    app,
    folder_to_read,
    log_lines,
    named,
    out,
    plain_table,
    say,
)
from reasondistill.cli.fitting import print_grid, print_table
from reasondistill.cli.speaking import command_line, print_next
from reasondistill.errors import ConfigError
from reasondistill.grading.policies import POLICIES
from reasondistill.tables import Table, counted, interval, percent, size_text

if TYPE_CHECKING:
    from reasondistill.grade_file.matrix import Matrix


# Of so many sources it is printed what one policy accepts and another does not, and of so many
# policies.
_MOST_SOURCES, _MOST_POLICIES = 4, 40
IMITATIONS = [policy for policy in POLICIES.values() if policy.imitates]
IMITATED = "Imitations:\n\n" + "\n\n".join(
    f"  {policy.name}: {policy.imitates}" for policy in IMITATIONS
)


@app.command(
    epilog="Examples:\n\n  reasondistill grade answers.jsonl --out verdicts.jsonl\n\n"
    "  reasondistill grade answers.jsonl --out strict.jsonl --policy strict --workers 8\n\n"
    'A row that goes in: {"id": "7", "prediction": "So it is $\\\\frac12$.", "gold": "0.5"}\n\n'
    + IMITATED
)
def grade(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSONL; each row has id, prediction (a completion or an answer), gold."
        ),
    ],
    target: Annotated[
        Path,
        typer.Option(
            "--out", help="Where the verdicts go: id, outcome, extracted, layer, reason, seconds."
        ),
    ],
    policy: Annotated[
        str,
        typer.Option(
            help="How strict: default, strict or lenient; or another grader's rules: "
            f"{', '.join(policy.name for policy in IMITATIONS)} (see below)."
        ),
    ] = "default",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes for what needs sympy; by default one per core."),
    ] = None,
    deadline_s: Annotated[
        float,
        typer.Option(
            "--deadline-s", min=0.05, help="Seconds that one row may take; then it is undecided."
        ),
    ] = 5.0,
) -> None:
    """Grade a file of answers against their golds; killed, the same command goes on where it
    stopped.
    """
    from reasondistill.grade_file import grade_file
    from reasondistill.records import OUTCOMES
    from reasondistill.runs.store import StopSignal

    log_lines("  ")
    with StopSignal() as stop:
        outcomes = grade_file(
            file, target, policy=policy, workers=workers, deadline_s=deadline_s, stop=stop
        )
    table = plain_table("outcome", "rows", "share")
    total = outcomes.total()
    for name in OUTCOMES:
        number = outcomes[name]
        table.add_row(named(name), f"{number:,}", f"{percent(number / max(1, total))} %")
    out.print(table)
    say(f"{named(target)}: {counted(total, 'row')}")
    print_next([command_line("matrix", str(file))])


@app.command(
    epilog="Examples:\n\n  reasondistill matrix answers.jsonl\n\n"
    "  reasondistill matrix answers.jsonl --policies default,lighteval --out matrix\n\n"
    "  reasondistill matrix demo --benchmark gsm_symbolic_12\n\n"
    "  reasondistill matrix out/a/samples_gsm8k_2025-01-01T12-00-00.0.jsonl\n\n" + IMITATED
)
def matrix(
    answers: Annotated[
        str,
        typer.Argument(
            help="JSONL as for `grade`; another tool's log (lm-eval, inspect, lighteval); or, with "
            "--benchmark, a run's name or folder."
        ),
    ],
    benchmark: Annotated[
        str | None,
        typer.Option(help="Compare on the samples that the run's evals stored for this benchmark."),
    ] = None,
    policies: Annotated[
        str | None,
        typer.Option(help="Names with commas between them; by default all that we know."),
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--out", help="A folder for matrix.json and disagreements.jsonl.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes for what needs sympy; by default one per core."),
    ] = None,
    deadline_s: Annotated[
        float,
        typer.Option("--deadline-s", min=0.05, help="Seconds per answer; then it is undecided."),
    ] = 5.0,
    runs: RunsDir = Path("runs"),
) -> None:
    """Grade stored answers under several policies: what each accepts, and on how many answers any
    two disagree. Nothing is generated.
    """
    from reasondistill.foreign_logs.finding import is_log
    from reasondistill.grade_file.matrix import (
        compare_policies,
        file_answers,
        find_policies,
        log_answers,
        run_answers,
    )
    from reasondistill.grading import GradingPool
    from reasondistill.pipeline import load_run
    from reasondistill.runs.store import StopSignal

    log_lines("  ")
    names = find_policies(policies)
    folder = folder_to_read(answers, runs)
    if is_log(Path(answers)):
        sources = log_answers(Path(answers), benchmark)
    elif benchmark is not None:
        sources = run_answers(load_run(folder).stage("evals"), benchmark)
    elif folder.is_dir() and not Path(answers).is_file():
        raise ConfigError(f"{folder}: is a run; say which samples with --benchmark NAME.")
    else:
        sources = [file_answers(Path(answers))]
    with GradingPool(workers=workers, deadline_s=deadline_s) as pool, StopSignal() as stop:
        compared = compare_policies(sources, names, pool, out=target, stop=stop)
    print_matrix(compared)
    if target is not None:
        differing = counted(compared.differing, "answer")
        say(f"{named(target)}: matrix.json; disagreements.jsonl, {differing}")
    if compared.ranking:
        out.print(named(compared.ranking))
    if target is None and compared.differing:
        options = ["--out=matrix"]
        if benchmark is not None:
            options.append(f"--benchmark={benchmark}")
        if policies is not None:
            options.append(f"--policies={policies}")
        print_next([command_line("matrix", answers, runs=runs, options=options)])


def print_matrix(compared: Matrix) -> None:
    """Accuracies, then for each source who accepts what another does not; of many sources that
    alone for the first ones.
    """
    rows: list[tuple[str, ...]] = []
    for row in compared.scores:
        undecided = row.outcomes.get("undecided", 0)
        numbers = (f"{percent(row.mean)} %", interval(row), size_text(row), f"{undecided:,}")
        rows.append((row.source, row.policy, *numbers))
    headers = ("answers", "policy", "correct", "95 % interval", "n × k", "undecided")
    print_table(Table(headers, tuple(rows), numbers=2), drops=("undecided",))
    if len(compared.policies) < 2:
        return
    sources = list(dict.fromkeys(row.source for row in compared.scores))
    for source in sources[:_MOST_SOURCES]:
        out.print()
        out.print(f"[bold]{named(source)}[/]")
        print_grid(acceptance_table(compared, source), most_rows=_MOST_POLICIES)
    more = len(sources) - _MOST_SOURCES
    if more > 0:
        say(f"  [dim]… of {more:,} more in matrix.json (--out)[/]")


def acceptance_table(compared: Matrix, source: str) -> Table:
    """How many answers of a source the policy of a row accepts and that of a column does not."""
    rows: list[tuple[str, ...]] = []
    for first in compared.policies:
        cells: list[str] = []
        for second in compared.policies:
            cell = "·"
            if first != second:
                number = compared.accepted_by_one[source, first, second]
                cell = f"{number:,}"
            cells.append(cell)
        rows.append((first, *cells))
    return Table(("accepted by ↓ but not by →", *compared.policies), tuple(rows))
