"""What is known of the samples of a folder whose problems are drawn until enough are correct:
graded by rule between two rounds.

    ledger.read(folder / TRACES, finished)      what stands
    ledger.add(trace)                           what comes
    ledger.plan().missing                       what is to be drawn now

A grade is not kept: the verdicts stage grades all traces again, and so does the next session here,
which costs a small part of what sampling does.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from reasondistill.config import TraceSettings
from reasondistill.grading import GradeItem, GradingPool
from reasondistill.models.samplers import problem_and_sample
from reasondistill.records import Problem, Trace
from reasondistill.runs.samples import read_samples
from reasondistill.runs.store import read_records
from reasondistill.stages.traces.on_disk import is_failed
from reasondistill.stages.traces.rounds import Plan, Rule, Sample, plan_rounds

# So many answers wait to be graded; their texts are in memory.
_WAITING = 4096
FAILED = Sample(tokens=0, is_correct=False)


def rule_of(traces: TraceSettings) -> Rule | None:
    """When a problem has enough samples; None where each gets `n`."""
    if traces.accepted is None:
        return None
    return Rule(traces.accepted, traces.first_round, traces.n, traces.budget_tokens)


class Ledger:
    """The samples of these problems as far as they are known, and what follows from that.

    `most_tokens` is what a sample may take. The grader's processes start with the first answer.
    """

    def __init__(
        self,
        rule: Rule,
        problems: Sequence[Problem],
        *,
        most_tokens: int,
        open_grader: Callable[[], GradingPool],
    ) -> None:
        self.rule = rule
        self._most_tokens = most_tokens
        self._places = {problem.id: place for place, problem in enumerate(problems)}
        self._answers = {problem.id: problem.answer for problem in problems}
        self._known: dict[str, dict[int, Sample]] = {}
        self._waiting: list[GradeItem] = []
        self._tokens: dict[str, int] = {}
        self._seen = self._seen_tokens = 0
        self._open_grader = open_grader
        self._grader: GradingPool | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    # ---- samples -------------------------------------------------------------------------------

    def read(self, path: Path, wanted: Container[str]) -> None:
        """The traces of a file that are `wanted`."""
        if not path.exists():
            return
        for trace in read_records(path, Trace):
            if trace.id in wanted:
                self.add(trace)

    def read_failed(self, path: Path) -> None:
        """The samples of a file that failed and have not come since."""
        self._grade()
        for row in read_samples(path):
            if is_failed(row["completion"]) and row["problem_id"] in self._answers:
                problem_id, number = problem_and_sample(row["id"])
                self._known.setdefault(problem_id, {}).setdefault(number, FAILED)

    def add(self, trace: Trace) -> None:
        """A sample that was drawn. One of a problem that is gone is told when the stage ends."""
        if trace.problem_id not in self._answers:
            return
        if trace.completion.finish == "error":
            self._known.setdefault(trace.problem_id, {})[trace.sample] = FAILED
            return
        self._seen += 1
        self._seen_tokens += trace.completion.tokens
        self._waiting.append(GradeItem.of(trace, self._answers[trace.problem_id]))
        self._tokens[trace.id] = trace.completion.tokens
        if len(self._waiting) >= _WAITING:
            self._grade()

    def _grade(self) -> None:
        """What has come since it was asked last."""
        if not self._waiting:
            return
        if self._grader is None:
            self._grader = self._opened.enter_context(self._open_grader())
        for trace_id, grade in self._grader.grade_many(self._waiting):
            problem_id, number = problem_and_sample(trace_id)
            sample = Sample(self._tokens[trace_id], grade.is_correct)
            self._known.setdefault(problem_id, {})[number] = sample
        self._waiting.clear()
        self._tokens.clear()

    # ---- what follows --------------------------------------------------------------------------

    def plan(self, mine: Container[str] | None = None) -> Plan:
        """What is missing now, of those problems that are `mine`."""
        return self._plan(self.rule, mine)

    def rounds_ignoring_budget(self) -> dict[str, tuple[int, ...]]:
        """What is missing of the round that each problem is in, whatever it costs."""
        return self._plan(replace(self.rule, budget_tokens=None), None).missing

    def is_begun(self, problem_id: str) -> bool:
        """Whether a sample of this problem is known."""
        return problem_id in self._known

    def may_begin(self, problem_id: str) -> bool:
        """Whether the first rounds of the problems before this one leave something of the budget,
        if they take what those that have come did.
        """
        if self.rule.budget_tokens is None:
            return True
        mean = self._seen_tokens / max(1, self._seen)
        return self._places[problem_id] * self.rule.first * mean < self.rule.budget_tokens

    def may_hold(self, samples: int, workers: int) -> bool:
        """Whether one of so many workers may have so many samples in hand. While it has seen none
        it knows of no tokens: it holds what its part of the budget pays for if each takes the most.
        """
        if self.rule.budget_tokens is None or self._seen:
            return True
        return samples * self._most_tokens * workers <= self.rule.budget_tokens

    def _plan(self, rule: Rule, mine: Container[str] | None) -> Plan:
        self._grade()
        return plan_rounds(
            rule, list(self._places), self._known, most_tokens=self._most_tokens, mine=mine
        )
