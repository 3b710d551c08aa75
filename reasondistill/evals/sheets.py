"""What one model did on one benchmark: its stored samples and grades as arrays, complete or refused.

    sheet = read_sheet(run / "6-evals", "gsm8k", "distilled", n=4)
    sheet.correct.mean()          # pass@1; (problems, samples)

Sampling and grading have filled `<benchmark>/problems`, `<benchmark>/<model>/traces` and `…/verdicts`; here they are only joined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reasondistill.errors import StageError
from reasondistill.records import OUTCOMES, EvalRecord, Problem, Trace, Verdict
from reasondistill.store import Manifest, read_records, require_complete


@dataclass
class Sheet:
    """The samples of one model on one benchmark. `correct` and `tokens` are (problems, samples); rows are `problems`, in order.

    `wrong` counts each problem's answers that were not correct, as extracted; samples without an answer are in none.
    """

    model: str
    benchmark: str
    problems: tuple[str, ...]
    correct: NDArray[np.bool_]
    tokens: NDArray[np.int32]
    max_tokens: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    wrong: list[Counter[str]] = field(default_factory=list[Counter[str]])

    @classmethod
    def empty(cls, model: str, benchmark: str, problems: Iterable[str], samples: int) -> Sheet:
        names = tuple(problems)
        shape = (len(names), samples)
        return cls(model, benchmark, names, np.zeros(shape, np.bool_), np.zeros(shape, np.int32), wrong=[Counter() for _ in names])

    @property
    def samples(self) -> int:
        return int(self.correct.size)

    @property
    def k(self) -> int:
        """Samples per problem."""
        return int(self.correct.shape[1])

    def shares(self) -> dict[str, float]:
        """The share of each outcome; they add up to 1."""
        return {outcome: self.outcomes[outcome] / self.samples for outcome in OUTCOMES}

    def rows(self, keep: Callable[[str], bool]) -> NDArray[np.bool_]:
        """`correct` of the problems that `keep` says yes to."""
        return self.correct[[keep(name) for name in self.problems]]


def read_sheet(evals_folder: Path, benchmark: str, model: str, *, n: int | None = None) -> Sheet:
    """The finished samples of a model, all of them or the first `n` of each problem. Raises StageError as `fill`."""
    folder = evals_folder / benchmark
    names = asked_problems(read_problems(folder), folder / model / "traces")
    sheet = Sheet.empty(model, benchmark, names, n or int(require_complete(folder / model / "traces").section.get("n", 1)))
    for _ in fill(sheet, folder / model):
        pass
    return sheet


def read_problems(benchmark_folder: Path) -> dict[str, Problem]:
    """The benchmark's problems by id, in order. Raises StageError when they have not been loaded."""
    path = benchmark_folder / "problems" / "problems.jsonl"
    if not path.exists():
        known = sorted(folder.parent.name for folder in benchmark_folder.parent.glob("*/problems"))
        raise StageError(f"{benchmark_folder}: no such benchmark here. There are: {', '.join(known) or 'none, run the evals first'}.")
    return {problem.id: problem for problem in read_records(path, Problem)}


def asked_problems(known: Iterable[str], traces_folder: Path) -> tuple[str, ...]:
    """The problems that these traces were asked for: all, or the first `limit`."""
    limit = _manifest(traces_folder).section.get("limit")
    return tuple(islice(known, limit))


def _manifest(folder: Path) -> Manifest:
    if not folder.is_dir():
        raise StageError(f"{folder}: missing. Run the evals of this model first.")
    return require_complete(folder)


# ---- joining ------------------------------------------------------------------------------------------------------


def fill(sheet: Sheet, folder: Path) -> Iterator[EvalRecord]:
    """Yield the records of `folder`, filling the sheet on the way; more samples than the sheet has columns are left aside.

    Raises StageError, naming the first gap, unless all problems × samples came: fewer samples than asked never deflate a score.
    """
    sheet.max_tokens = int(_manifest(folder / "traces").section.get("sampling", {}).get("max_tokens", 0))
    require_complete(folder / "verdicts")
    rows = {name: row for row, name in enumerate(sheet.problems)}
    seen = np.zeros_like(sheet.correct)
    failed: list[str] = []
    for trace, verdict in _pairs(folder):
        row = rows.get(trace.problem_id)
        if row is None or trace.sample >= sheet.k:
            continue
        if trace.completion.finish == "error":
            failed.append(trace.id)
            continue
        seen[row, trace.sample] = True
        _enter(sheet, row, trace, verdict)
        yield _record(sheet, trace, verdict)
    if failed:
        raise StageError(
            f"{folder}: {len(failed)} samples failed in the engine, {failed[0]} first. Run the same command: they are drawn again."
        )
    if not seen.all():
        raise StageError(_gap(seen, sheet.problems, folder))


def _pairs(folder: Path) -> Iterator[tuple[Trace, Verdict]]:
    """Each trace with its verdict; they stand in the same order. Raises StageError when they do not belong together."""
    traces = read_records(folder / "traces" / "traces.jsonl", Trace)
    verdicts = read_records(folder / "verdicts" / "verdicts.jsonl", Verdict)
    for trace, verdict in zip_longest(traces, verdicts):
        if trace is None or verdict is None or trace.id != verdict.trace_id:
            found = "no trace" if trace is None else trace.id
            graded = "no verdict" if verdict is None else f"the verdict of {verdict.trace_id}"
            raise StageError(f"{folder}: traces and verdicts do not match: {found} stands beside {graded}. Grade these traces again.")
        yield trace, verdict


def _enter(sheet: Sheet, row: int, trace: Trace, verdict: Verdict) -> None:
    grade = verdict.grade
    sheet.correct[row, trace.sample] = grade.is_correct
    sheet.tokens[row, trace.sample] = trace.completion.tokens
    sheet.outcomes[grade.outcome] += 1
    if grade.extracted is not None and not grade.is_correct:
        sheet.wrong[row][grade.extracted] += 1


def _record(sheet: Sheet, trace: Trace, verdict: Verdict) -> EvalRecord:
    return EvalRecord(
        model=sheet.model,
        benchmark=sheet.benchmark,
        problem_id=trace.problem_id,
        sample=trace.sample,
        trace_id=trace.id,
        finish=trace.completion.finish,
        tokens=trace.completion.tokens,
        grade=verdict.grade,
    )


def _gap(seen: NDArray[np.bool_], problems: tuple[str, ...], where: Path) -> str:
    row, sample = (int(place) for place in np.argwhere(~seen)[0])
    return (
        f"{where}: {int(seen.sum())} of {seen.size} samples ({seen.shape[0]} problems × {seen.shape[1]}); the first that is missing is "
        f"{problems[row]}:{sample}. A score of fewer samples would mislead: run the same command, it draws what is missing."
    )
