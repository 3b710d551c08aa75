"""A run's folder as the rows of the browser: the teachers' traces, the samples of evals and what
was set aside, each in the order of its file.

Texts are streamed: of a trace nothing stays in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from reasondistill.records import (
    Dropped,
    Example,
    Problem,
    SetAside,
    SuspectGold,
    Trace,
    Verdict,
)
from reasondistill.runs.graded import Located, located_graded
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.missing import LOST, REFUSED
from reasondistill.runs.store import count_lines, read_records
from reasondistill.runs.work_sharing import worker_folders

SET_ASIDE = "set aside"
NOT_GRADED = "not graded"
ABSENT = "not in the data set"


@dataclass(frozen=True)
class Group:
    """Traces of one file: those of the teachers (`benchmark` and `model` empty), or a model's
    samples of a benchmark.
    """

    traces: Path
    verdicts: Path
    benchmark: str = ""
    model: str = ""


@dataclass(frozen=True)
class AskedProblem:
    """A problem of the training side, or of a benchmark."""

    problem: Problem
    benchmark: str
    suspect: SuspectGold | None = None


@dataclass(frozen=True)
class Sample:
    """A trace with its verdict, and what became of it: the split of its example, or why it was
    dropped.
    """

    group: Group
    located: Located
    fate: str = ""

    @property
    def trace(self) -> Trace:
        return self.located.trace

    @property
    def verdict(self) -> Verdict | None:
        return self.located.verdict

    @property
    def outcome(self) -> str:
        """That of the grade; a sample that failed has none of the grader's."""
        completion = self.trace.completion
        if completion.is_absent:
            return ABSENT
        if completion.is_refused:
            return REFUSED
        if completion.finish == "error":
            return LOST
        if self.verdict is None:
            return NOT_GRADED
        return self.verdict.grade.outcome


def count_traces(run_folder: Path) -> int:
    """How many traces and samples a run has, without reading them."""
    groups = RunRows(RunFolder(run_folder)).groups()
    return sum(count_lines(group.traces) for group in groups)


@dataclass(frozen=True)
class RunRows:
    """What a run's folder holds for the browser, as far as the run has come."""

    run: RunFolder
    # What became of each trace, by its id: some 150 bytes each.
    _fates: dict[str, str] = field(default_factory=dict[str, str])

    def groups(self) -> Iterator[Group]:
        """The files of traces; while several workers draw them, those of each worker too."""
        wholes = [Group(self.run.traces, self.run.verdicts)]
        for benchmark in self.run.evals.benchmarks():
            for cell in benchmark.cells():
                wholes.append(Group(cell.traces, cell.verdicts, benchmark.name, cell.name))
        for whole in wholes:
            folder = whole.traces.parent
            for part in (folder, *worker_folders(folder)):
                traces = part / whole.traces.name
                if traces.exists():
                    yield replace(whole, traces=traces)

    def problems(self) -> Iterator[AskedProblem]:
        suspects: dict[str, SuspectGold] = {}
        if self.run.suspects.exists():
            for suspect in read_records(self.run.suspects, SuspectGold):
                suspects[suspect.problem_id] = suspect
        if self.run.problems.exists():
            for problem in read_records(self.run.problems, Problem):
                yield AskedProblem(problem, "", suspects.get(problem.id))
        for benchmark in self.run.evals.benchmarks():
            if benchmark.problems.exists():
                for problem in read_records(benchmark.problems, Problem):
                    yield AskedProblem(problem, benchmark.name)

    def set_aside(self) -> Iterator[SetAside]:
        if self.run.set_aside.exists():
            yield from read_records(self.run.set_aside, SetAside)

    def samples(self, group: Group) -> Iterator[Sample]:
        if not group.benchmark:
            self._read_fates()
        for located in located_graded(group.traces, group.verdicts):
            fate = ""
            if not group.benchmark:
                fate = self._fates.get(located.trace.id, "")
            yield Sample(group, located, fate)

    def _read_fates(self) -> None:
        if self.run.examples.exists():
            for example in read_records(self.run.examples, Example):
                if example.trace_id is not None:
                    self._fates[example.trace_id] = f"kept: {example.split}"
        if self.run.dropped.exists():
            for dropped in read_records(self.run.dropped, Dropped):
                self._fates.setdefault(dropped.trace_id, dropped.reason)
