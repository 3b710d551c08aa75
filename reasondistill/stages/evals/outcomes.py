"""One model on one benchmark: its stored samples and grades as arrays. An incomplete set is an
error.

    sheet = read_sheet(run / "6-evals", "gsm8k", "distilled", n=4)
    sheet.correct.mean()          # pass@1; (problems, samples)

Sampling and grading have filled `<benchmark>/problems`, `<benchmark>/<model>/traces` and
`…/verdicts`; here they are only joined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reasondistill.errors import StageError
from reasondistill.records import OUTCOMES, EvalRecord, Graded, Problem, SetAside, Trace, Verdict
from reasondistill.runs import layout
from reasondistill.runs.graded import read_graded
from reasondistill.runs.layout import BenchmarkFolder, CellFolder
from reasondistill.runs.limits import allowed_losses
from reasondistill.runs.missing import REFUSED, cause_of, in_brackets, is_allowed
from reasondistill.runs.store import Manifest, read_records, require_complete


@dataclass
class Sheet:
    """The samples of one model on one benchmark. `correct` and `tokens` are (problems, samples);
    rows are `problems`, in order.

    `wrong` counts each problem's answers that were not correct, as extracted; samples without an
    answer are in none. `outcomes` counts those of each problem's samples. Samples whose input was
    `refused` are not correct and have an outcome of their own; `refused` says of each problem with
    such samples why. `lost` names the samples that the service lost: their problems are not among
    the rows.
    """

    model: str
    benchmark: str
    problems: tuple[str, ...]
    correct: NDArray[np.bool_]
    tokens: NDArray[np.int32]
    max_tokens: int = 0
    outcomes: list[Counter[str]] = field(default_factory=list[Counter[str]])
    wrong: list[Counter[str]] = field(default_factory=list[Counter[str]])
    refused: dict[str, str] = field(default_factory=dict[str, str])
    lost: tuple[str, ...] = ()

    @classmethod
    def empty(cls, model: str, benchmark: str, problems: Iterable[str], samples: int) -> Sheet:
        names = tuple(problems)
        shape = (len(names), samples)
        return cls(
            model,
            benchmark,
            names,
            correct=np.zeros(shape, np.bool_),
            tokens=np.zeros(shape, np.int32),
            outcomes=[Counter[str]() for _ in names],
            wrong=[Counter[str]() for _ in names],
        )

    @property
    def samples(self) -> int:
        return int(self.correct.size)

    @property
    def k(self) -> int:
        """Samples per problem."""
        return int(self.correct.shape[1])

    @property
    def lost_problems(self) -> set[str]:
        """The problems that are no rows because a sample of theirs is lost."""
        return {sample.rpartition(":")[0] for sample in self.lost}

    def counts(self) -> Counter[str]:
        """How many samples have each outcome."""
        return sum(self.outcomes, Counter[str]())

    def shares(self) -> dict[str, float]:
        """The share of each outcome, and of what was refused; they add up to 1."""
        counts = self.counts()
        return {outcome: counts[outcome] / self.samples for outcome in (*OUTCOMES, REFUSED)}

    def mean_tokens(self) -> float | None:
        """Of the samples that were answered; None when none was."""
        answered = self.samples - self.counts()[REFUSED]
        if not answered:
            return None
        return float(self.tokens.sum() / answered)

    def only(self, names: Sequence[str]) -> Sheet:
        """The rows of these problems, in this order."""
        if list(self.problems) == list(names):
            return self
        place = {name: row for row, name in enumerate(self.problems)}
        rows = [place[name] for name in names]
        return replace(
            self,
            problems=tuple(names),
            correct=self.correct[rows],
            tokens=self.tokens[rows],
            outcomes=[self.outcomes[row] for row in rows],
            wrong=[self.wrong[row] for row in rows],
            refused={name: self.refused[name] for name in names if name in self.refused},
        )

    def rows(self, keep: Callable[[str], bool]) -> NDArray[np.bool_]:
        """`correct` of the problems that `keep` says yes to."""
        return self.correct[[keep(name) for name in self.problems]]


def read_sheet(evals_folder: Path, benchmark: str, model: str, *, n: int | None = None) -> Sheet:
    """The finished samples of a model, all of them or the first `n` of each problem.

    Lost samples are left out where they were allowed when the samples were drawn. Raises StageError
    as `fill`.
    """
    folder = evals_folder / benchmark
    traces_folder = CellFolder(folder / model).traces_folder
    names = asked_problems(read_problems(folder), traces_folder)
    manifest = require_complete(traces_folder)
    samples = n or int(manifest.section.get("n", 1))
    sheet = Sheet.empty(model, benchmark, names, samples)
    failures_allowed = 0.0
    if is_allowed(manifest):
        failures_allowed = 1.0
    for _ in fill(sheet, folder / model, failures_allowed=failures_allowed):
        pass
    return sheet


def read_problems(benchmark_folder: Path) -> dict[str, Problem]:
    """The benchmark's problems by id, in order. Raises StageError when they are not loaded yet."""
    path = BenchmarkFolder(benchmark_folder).problems
    if not path.exists():
        known = sorted(folder.parent.name for folder in benchmark_folder.parent.glob("*/problems"))
        names = ", ".join(known) or "none, run the evals first"
        raise StageError(f"{benchmark_folder}: no such benchmark here. There are: {names}.")
    return {problem.id: problem for problem in read_records(path, Problem)}


def asked_problems(known: Iterable[str], traces_folder: Path) -> tuple[str, ...]:
    """The problems that these traces were asked for: all, or the first `limit`."""
    limit = _manifest(traces_folder).section.get("limit")
    return tuple(islice(known, limit))


def _manifest(folder: Path) -> Manifest:
    if not folder.is_dir():
        raise StageError(f"{folder}: missing. Run the evals of this model first.")
    return require_complete(folder)


# ---- joining -------------------------------------------------------------------------------------


def fill(sheet: Sheet, folder: Path, *, failures_allowed: float = 0.0) -> Iterator[EvalRecord]:
    """Yield the records of `folder`, filling the sheet on the way, as `enter_samples` does. Raises
    StageError also when the folder is unfinished.
    """
    cell = CellFolder(folder)
    sampling = _manifest(cell.traces_folder).section.get("sampling", {})
    sheet.max_tokens = int(sampling.get("max_tokens", 0))
    require_complete(cell.verdicts_folder)
    reasons: dict[str, str] = {}
    set_aside = cell.traces_folder / layout.SET_ASIDE
    if set_aside.exists():
        reasons = {aside.id: aside.reason for aside in read_records(set_aside, SetAside)}
    graded = read_graded(cell.traces, cell.verdicts)
    yield from enter_samples(
        sheet, graded, where=str(folder), reasons=reasons, failures_allowed=failures_allowed
    )


def enter_samples(
    sheet: Sheet,
    graded: Iterable[Graded],
    *,
    where: str,
    reasons: Mapping[str, str] | None = None,
    failures_allowed: float = 0.0,
) -> Iterator[EvalRecord]:
    """Enter graded samples into the sheet, a problem's samples one after another, and yield the
    record of each; more samples than the sheet has columns are left aside.

    Refused samples count as not correct; `reasons` says of a problem why it was refused, where that
    is known. A problem with a lost sample is left out and named in `sheet.lost`, as long as the
    share of lost samples is at most `failures_allowed`. Raises StageError, naming `where` and the
    first gap, when it is more, and unless all other problems × samples came: fewer samples than
    asked never deflate a score.
    """
    rows = {name: row for row, name in enumerate(sheet.problems)}
    reasons = reasons or {}
    seen = np.zeros_like(sheet.correct)
    drawn, lost = 0, list[Trace]()
    for problem_id, group in groupby(graded, key=lambda pair: pair.trace.problem_id):
        pairs = list(group)
        drawn += len(pairs)
        lost += [pair.trace for pair in pairs if pair.trace.completion.is_lost]
        wanted = [pair for pair in pairs if pair.trace.sample < sheet.k]
        if problem_id not in rows:
            continue
        row = rows[problem_id]
        seen[row, [pair.trace.sample for pair in wanted]] = True
        if any(pair.trace.completion.is_lost for pair in wanted):
            continue
        for pair in wanted:
            enter(sheet, row, pair.trace, pair.verdict, reasons)
            yield record_of(sheet, pair.trace, pair.verdict)
    sheet.lost = tuple(
        trace.id for trace in lost if trace.problem_id in rows and trace.sample < sheet.k
    )
    if sheet.lost and len(lost) > allowed_losses(failures_allowed, drawn):
        causes = in_brackets(Counter(cause_of(trace.completion) for trace in lost))
        raise StageError(
            f"{where}: {len(lost)} of {drawn} samples lost{causes}, {lost[0].id} first; "
            f"[evals] failures_allowed = {failures_allowed:g}. Run the same command: they are "
            "drawn again. With a larger share allowed they are left out by name."
        )
    if not seen.all():
        raise StageError(_gap(seen, sheet.problems, where))
    leave_out_lost(sheet, where)


def leave_out_lost(sheet: Sheet, where: str) -> None:
    """Take the problems with a lost sample out of the sheet."""
    gone = sheet.lost_problems
    answered = [name for name in sheet.problems if name not in gone]
    if gone and not answered:
        raise StageError(
            f"{where}: each problem has a lost sample; there is nothing to score. Run the "
            "same command again."
        )
    left = sheet.only(answered)
    sheet.problems, sheet.correct, sheet.tokens = left.problems, left.correct, left.tokens
    sheet.outcomes, sheet.wrong = left.outcomes, left.wrong


def enter(
    sheet: Sheet, row: int, trace: Trace, verdict: Verdict, reasons: Mapping[str, str]
) -> None:
    """Count a sample in its cell of the sheet."""
    grade = verdict.grade
    if trace.completion.is_refused:
        sheet.outcomes[row][REFUSED] += 1
        reason = reasons.get(trace.problem_id) or cause_of(trace.completion)
        sheet.refused.setdefault(trace.problem_id, reason)
        return
    sheet.correct[row, trace.sample] = grade.is_correct
    sheet.tokens[row, trace.sample] = trace.completion.tokens
    sheet.outcomes[row][grade.outcome] += 1
    if grade.outcome in ("wrong", "undecided") and grade.extracted is not None:
        sheet.wrong[row][grade.extracted] += 1


def record_of(sheet: Sheet, trace: Trace, verdict: Verdict) -> EvalRecord:
    """One graded sample as records.jsonl holds it."""
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


def _gap(seen: NDArray[np.bool_], problems: tuple[str, ...], where: str) -> str:
    row, sample = np.argwhere(~seen)[0].tolist()
    came = int(seen.sum())
    asked_problems, asked_samples = seen.shape
    return (
        f"{where}: {came} of {seen.size} samples ({asked_problems} problems × {asked_samples}); "
        f"the first that is missing is {problems[row]}:{sample}. A score of fewer samples would "
        "mislead: run the same command, it draws what is missing."
    )
