"""What every run prints at its end: scores, what is missing of them, differences, the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from reasondistill.cli.console import gap_text, interval_text, out, percent, plain_table, say
from reasondistill.errors import DataError
from reasondistill.records import VARIANT
from reasondistill.runs.missing import REFUSED

if TYPE_CHECKING:
    from reasondistill.pipeline import Run

# More rows than this are read as models × benchmarks.
_MOST_ROWS = 12


@dataclass(frozen=True)
class Results:
    """What a report.json says: scores, differences, and sentences about what is missing."""

    scores: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    missing: list[str]


def print_result(run: Run, *, says_missing: bool = True) -> None:
    """The scores, what is missing of their samples, the differences, and where the report is."""
    if not run.layout.report.exists():
        return
    results = read_results(run.layout.report)
    scores = [row for row in results.scores if _is_main_score(row)]
    if len(scores) > _MOST_ROWS:
        out.print(score_grid(scores))
    elif scores:
        out.print(score_rows(scores))
    if says_missing:
        for sentence in missing_now(run, results.missing):
            say(f"  [yellow]{escape(sentence)}[/]")
    for row in results.differences[:_MOST_ROWS]:
        points = 100 * row["mean"]
        interval = escape(gap_text(row["low"], row["high"]))
        pair = f"{row['model']} − {row['baseline']} on {row['benchmark']}"
        out.print(f"  {pair}: {points:+.1f} points {interval} {row['word']}")
    more = len(results.differences) - _MOST_ROWS
    if more > 0:
        out.print(f"  … {more} more differences in the report")
    for path in run.layout.report_files:
        if path.exists():
            say(f"{path.name}: file://{path.resolve()}")


def _is_main_score(row: dict[str, Any]) -> bool:
    """pass@1 of a model as it is, without another prompt or snapshot."""
    return row["metric"] == "pass@1" and VARIANT not in row["model"]


def missing_now(run: Run, sentences: list[str]) -> Iterator[str]:
    """What the report says is missing of the scores, and what is missing of the traces now: the
    report may be older.
    """
    from reasondistill.pipeline import missing_of

    yield from missing_of(run, "traces")
    traces = f"{run.stage('traces').name}:"
    for sentence in sentences:
        if not sentence.startswith(traces):
            yield sentence


def read_results(path: Path) -> Results:
    """Read a report.json. Raises DataError for a file that is none."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        rows = report.get("groups", report)  # students of several seeds are one row
        return Results(
            scores=[dict(row) for row in rows["scores"]],
            differences=[dict(row) for row in rows["differences"]],
            missing=[str(sentence) for sentence in report.get("missing", ())],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not a report: {error}. `reasondistill run FILE --only report` writes it anew."
        ) from error


def score_rows(scores: list[dict[str, Any]]) -> Table:
    """One line per score, its interval beside it, and how many samples were cut off, had no answer,
    stayed undecided, or were refused.
    """
    columns = {"truncated": "cut", "no_answer": "none", "undecided": "?"}
    if any(row["outcomes"].get(REFUSED) for row in scores):
        columns[REFUSED] = "refused"
    outcomes = "·".join(columns.values())
    table = plain_table("model", "benchmark", "pass@1", "95 % interval", "n × k", f"{outcomes} %")
    for row in scores:
        shares: list[str] = []
        for name in columns:
            value = 100 * row["outcomes"].get(name, 0)
            shares.append(f"{value:.1f}")
        table.add_row(
            row["model"],
            row["benchmark"],
            percent(row["mean"]),
            escape(interval_text(row["low"], row["high"])),
            f"{row['n']} × {row['k']}",
            "·".join(shares),
        )
    return table


def score_grid(scores: list[dict[str, Any]]) -> Table:
    """Models down, benchmarks across; each cell has half the width of its interval behind it."""
    cells: dict[tuple[str, str], str] = {}
    for row in scores:
        mean, half = 100 * row["mean"], 50 * (row["high"] - row["low"])
        cells[row["model"], row["benchmark"]] = f"{mean:.1f}[dim]±{half:.1f}[/]"
    models = dict.fromkeys(model for model, _ in cells)
    benchmarks = dict.fromkeys(benchmark for _, benchmark in cells)
    table = plain_table("model", *benchmarks)
    for model in models:
        table.add_row(model, *(cells.get((model, benchmark), "") for benchmark in benchmarks))
    return table
