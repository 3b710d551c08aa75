"""What every run prints at its end: scores, what is missing of them, differences, the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reasondistill import foreign_json
from reasondistill.cli.console import named, out, say
from reasondistill.cli.fitting import print_grid, print_table
from reasondistill.cli.speaking import command_line, warn
from reasondistill.errors import DataError
from reasondistill.records import VARIANT, Difference, Score
from reasondistill.runs.layout import BROWSER
from reasondistill.runs.missing import REFUSED
from reasondistill.runs.store import exists_verified, read_bytes_verified, verify_below
from reasondistill.tables import (
    UNANSWERED,
    ScoreRow,
    Table,
    counted,
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
# Lines of the end of a run, without the commands that come next; so many differences in any case.
SCREEN, _FEWEST_LINES = 33, 3
# What outcomes are called where there is little room.
_SHORT = {"truncated": "cut", "no_answer": "none", "undecided": "?"}


@dataclass(frozen=True)
class Results:
    """What a report.json says: scores, differences, and sentences about what is missing."""

    scores: list[ReportedScore]
    differences: list[Difference]
    missing: list[str]

    @property
    def main_scores(self) -> list[ReportedScore]:
        """pass@1 of each model as it is, without another prompt or snapshot."""
        return [row for row in self.scores if _is_main_score(row)]

    def files(self, run: Run) -> list[Path]:
        """The files of the report that are there."""
        return [path for path in run.layout.report_files if path.exists()]


def print_result(run: Run, *, says_missing: bool = True, lines: int = SCREEN) -> Results | None:
    """The scores, what is missing of their samples, the differences, and where the report is: on
    one screen, of which so many `lines` are left. Returns all of it; None where there is no report.
    """
    if not exists_verified(run.layout.report):
        return None
    results = read_results(run.layout.report)
    left = lines - len(results.files(run))
    missing: list[str] = []
    if says_missing:
        missing = [*missing_now(run, results.missing)]
    results = replace(results, missing=missing)
    with out.capture() as scores:
        print_scores(results.main_scores)
    print_scores(results.main_scores)
    left -= scores.get().count("\n")
    for sentence in missing:
        warn(f"  [yellow]{named(sentence)}[/]")
        left -= lines_of(f"  {sentence}")
    print_differences(results.differences, max(left, _FEWEST_LINES))
    for path in results.files(run):
        verify_below(path)
        say(f"{_name_of(path)}: file://{named(path.resolve())}")
    return results


def print_scores(scores: Sequence[ReportedScore]) -> None:
    """A row for each score; of many, models down and benchmarks across."""
    if len(scores) > _MOST_ROWS:
        print_grid(score_grid(scores, half_text), most_rows=_MOST_ROWS)
    elif scores:
        table = narrow_table(scores)
        print_table(table, last_drops=table.headers[-1:])


def print_differences(differences: Sequence[Difference], lines: int) -> None:
    """As many differences as have room in so many lines: one each, or below a line for each pair of
    long names.
    """
    before = ""
    for place, row in enumerate(differences):
        pair = f"  {row.model} − {row.baseline}"
        gap = f"on {row.benchmark}: {gap_text(row)} {row.word}"
        texts = [f"{pair} {gap}"]
        if lines_of(texts[0]) > 1:
            texts = [pair, f"    {gap}"]
        if texts[0] == before:
            del texts[0]
        else:
            before = texts[0]
        lines -= sum(map(lines_of, texts))
        if lines < 0 or place == _MOST_ROWS:
            more = counted(len(differences) - place, "more difference")
            out.print(f"  … {more} in the report")
            return
        for text in texts:
            out.print(named(text))


def lines_of(text: str) -> int:
    """How many lines of the terminal a text takes."""
    return len(out.render_lines(named(text)))


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


def next_of_run(run: Run, results: Results | None) -> list[str]:
    """The commands that make sense when a run has come to its end: to read, to compare, or to see
    how far it is.
    """
    name = name_of(run)
    if results is None:
        commands = [command_line("show", name)]
        if run.layout.traces.exists():
            commands.append(command_line("view", name))
        return commands
    commands = [command_line("view", name)]
    pair = pair_of(name, run, results)
    if pair:
        commands.append(command_line("compare", *pair))
    return commands


def pair_of(name: str, run: Run, results: Results) -> tuple[str, ...]:
    """Two models as `compare` takes them, of the first difference whose models have samples of
    their own here; of a student with several seeds, which is one row in a report, its first one.
    Empty where there is no difference.
    """
    if "=" in name.partition("/")[0]:  # else it would be a label
        name = f"./{name}"
    has_samples = {path.parent.name for path in run.stage("evals").glob("*/*/traces")}
    seeds = run.pipeline.seed_groups()
    for row in results.differences:
        pair = [seeds.get(name, (name,))[0] for name in (row.model, row.baseline)]
        if has_samples.issuperset(pair):
            return tuple(f"{name}/{model}" for model in pair)
    return ()


def name_of(run: Run) -> str:
    """What a command calls a run: its name where it is looked up by that, else its folder."""
    folder = run.folder
    is_by_name = folder.parent == Path("runs") and not Path(folder.name).exists()
    if is_by_name:
        return folder.name
    return str(folder)
