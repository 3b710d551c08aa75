"""`grade` and `matrix`: answers against golds, under one policy or several. Nothing is generated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from reasondistill.cli.console import RunsDir, app, log_lines, out, run_folder
from reasondistill.errors import ConfigError

if TYPE_CHECKING:
    from reasondistill.grade_file.matrix import Matrix


@app.command(
    epilog="Examples:\n\n  reasondistill grade answers.jsonl --out verdicts.jsonl\n\n"
    "  reasondistill grade answers.jsonl --out strict.jsonl --policy strict --workers 8\n\n"
    'A row that goes in: {"id": "7", "prediction": "So it is $\\\\frac12$.", "gold": "0.5"}'
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
            help="Strictness, or another grader's rules: default, strict, lenient, lighteval, …"
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
    table = Table("outcome", "rows", "share", box=None, header_style="bold")
    for name in OUTCOMES:
        table.add_row(
            name, f"{outcomes[name]:,}", f"{100 * outcomes[name] / max(1, outcomes.total()):.1f} %"
        )
    out.print(table)
    out.print(f"{target}: {outcomes.total():,} rows", soft_wrap=True)


@app.command(
    epilog="Examples:\n\n  reasondistill matrix answers.jsonl\n\n"
    "  reasondistill matrix answers.jsonl --policies default,lighteval --out matrix\n\n"
    "  reasondistill matrix demo --benchmark gsm_symbolic_12"
)
def matrix(
    answers: Annotated[
        str,
        typer.Argument(help="JSONL as for `grade`; or, with --benchmark, a run's name or folder."),
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
    from reasondistill.grade_file.matrix import (
        compare_policies,
        file_answers,
        find_policies,
        run_answers,
    )
    from reasondistill.grading import GradingPool
    from reasondistill.pipeline import load_run
    from reasondistill.runs.store import StopSignal

    log_lines("  ")
    names = find_policies(policies)
    if benchmark is not None:
        sources = run_answers(load_run(run_folder(answers, runs)).stage("evals"), benchmark)
    elif (folder := run_folder(answers, runs)).is_dir() and not Path(answers).is_file():
        raise ConfigError(f"{folder}: is a run; say which samples with --benchmark NAME.")
    else:
        sources = [file_answers(Path(answers))]
    with GradingPool(workers=workers, deadline_s=deadline_s) as pool, StopSignal() as stop:
        made = compare_policies(sources, names, pool, out=target, stop=stop)
    _print_matrix(made)
    if target is not None:
        out.print(
            f"{target}: matrix.json; disagreements.jsonl, {made.differing:,} answers",
            soft_wrap=True,
        )


def _print_matrix(made: Matrix) -> None:
    """Accuracies, then for each source who accepts what another does not."""
    table = Table(
        "answers",
        "policy",
        "correct",
        "95 % interval",
        "n × k",
        "undecided",
        box=None,
        header_style="bold",
    )
    for row in made.scores:
        interval = f"[{100 * row.low:.1f}, {100 * row.high:.1f}]"
        table.add_row(
            *(escape(row.source), row.policy, f"{100 * row.mean:.1f} %", escape(interval)),
            *(f"{row.n:,} × {row.k}", f"{row.outcomes.get('undecided', 0):,}"),
        )
    out.print(table)
    for source in dict.fromkeys(row.source for row in made.scores):
        counts = Table(
            f"{escape(source)}: accepted by ↓ but not by →",
            *made.policies,
            box=None,
            header_style="bold",
        )
        for first in made.policies:
            cells = (
                "·" if first == second else f"{made.accepted_by_one[source, first, second]:,}"
                for second in made.policies
            )
            counts.add_row(first, *cells)
        out.print()
        out.print(counts)
