"""What every run prints at its end: scores, what is missing of them, differences, the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reasondistill import foreign_json
from reasondistill.cli.console import (
    coloured,
    named,
    out,
    say,
)
from reasondistill.errors import DataError
from reasondistill.records import VARIANT, Difference, Score
from reasondistill.runs.layout import BROWSER
from reasondistill.runs.missing import REFUSED
from reasondistill.runs.store import exists_verified, read_bytes_verified, verify_below
from reasondistill.tables import (
    UNANSWERED,
    ScoreRow,
    Table,
    gap_text,
    half_text,
    score_grid,
    score_table,
    share_header,
)

if TYPE_CHECKING:
    from reasondistill.pipeline import Run
    from reasondistill.stages.report import ReportedScore

# More rows than this are read as models × benchmarks.
_MOST_ROWS = 12
# What outcomes are called where there is little room.
_SHORT = {"truncated": "cut", "no_answer": "none", "undecided": "?"}


@dataclass(frozen=True)
class Results:
    """What a report.json says: scores, differences, and sentences about what is missing."""

    scores: list[ReportedScore]
    differences: list[Difference]
    missing: list[str]


def print_result(run: Run, *, says_missing: bool = True) -> None:
    """The scores, what is missing of their samples, the differences, and where the report is."""
    if not exists_verified(run.layout.report):
        return
    results = read_results(run.layout.report)
    scores = [row for row in results.scores if _is_main_score(row)]
    if len(scores) > _MOST_ROWS:
        out.print(coloured(score_grid(scores, half_text)))
    elif scores:
        out.print(coloured(narrow_table(scores)))
    if says_missing:
        for sentence in missing_now(run, results.missing):
            say(f"  [yellow]{named(sentence)}[/]")
    for row in results.differences[:_MOST_ROWS]:
        pair = f"{row.model} − {row.baseline} on {row.benchmark}"
        out.print(named(f"  {pair}: {gap_text(row)} {row.word}"))
    more = len(results.differences) - _MOST_ROWS
    if more > 0:
        out.print(f"  … {more} more differences in the report")
    for path in run.layout.report_files:
        if path.exists():
            verify_below(path)
            say(f"{_name_of(path)}: file://{named(path.resolve())}")


def _name_of(path: Path) -> str:
    if path.parent.name == BROWSER:
        return "all traces"
    return path.name


def _is_main_score(score: Score) -> bool:
    """pass@1 of a model as it is, without another prompt or snapshot."""
    return score.metric == "pass@1" and VARIANT not in score.model


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
    from reasondistill.stages.report import ReportedScore

    try:
        report = foreign_json.loads(read_bytes_verified(path))
        rows = report.get("groups", report)  # students of several seeds are one row
        return Results(
            scores=[ReportedScore.model_validate(row, extra="ignore") for row in rows["scores"]],
            differences=[
                Difference.model_validate(row, extra="ignore") for row in rows["differences"]
            ],
            missing=[str(sentence) for sentence in report.get("missing", ())],
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: not a report: {error}. `reasondistill run FILE --only report` writes it anew."
        ) from error


def narrow_table(scores: Sequence[ReportedScore]) -> Table:
    """One line per score, its interval beside it, and how many samples were cut off, had no answer,
    stayed undecided, or were refused.
    """
    outcomes = [*UNANSWERED]
    if any(score.outcomes.get(REFUSED) for score in scores):
        outcomes.append(REFUSED)
    rows: list[ScoreRow] = []
    for score in scores:
        rows.append(ScoreRow(score.model, score.benchmark, score, outcomes=score.outcomes))
    table = score_table(rows, outcomes=outcomes).without(["tokens"])
    shares = "·".join(_SHORT.get(outcome, outcome) for outcome in outcomes)
    return table.joined(share_header(outcomes[0]), f"{shares} %")
