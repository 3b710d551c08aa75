"""Traces in, verdicts out: graded by rules, and by a judge where the rules come to no decision.

    with GradingPool() as grader:
        for verdict in judge_traces(traces, problems, grader):
            print(verdict.trace_id, verdict.grade.outcome)

Nothing here knows a folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Protocol

from reasondistill.config import Cluster, JudgeSettings
from reasondistill.errors import StageError
from reasondistill.grading import GradeItem
from reasondistill.models.samplers import Sampler, make_ready
from reasondistill.models.samplers.base import never
from reasondistill.models.samplers.opening import OpenSampler, open_sampler
from reasondistill.records import Grade, JudgeReply, Problem, Trace, Verdict
from reasondistill.stages.verdicts.judge import (
    Judge,
    Question,
    ask_judge,
    is_open,
    question_of,
    with_reply,
)

# Undecided answers among so many verdicts are asked about together.
WINDOW = 1_000


class Grader(Protocol):
    """What is needed of a grading.GradingPool."""

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[tuple[str, Grade]]:
        """Grades in the order of the items."""
        ...


def judge_traces(
    traces: Iterable[Trace],
    problems: Iterable[Problem],
    grader: Grader,
    *,
    judge: JudgeSettings | None = None,
    cluster: Cluster | None = None,
    open_sampler: OpenSampler = open_sampler,
) -> Iterator[Verdict]:
    """Yield exactly one Verdict per Trace, in order. A bad trace never raises.

        with GradingPool() as grader:
            verdicts = list(judge_traces(traces, problems, grader))

    A `judge` is asked about what the rules leave undecided, each question once; `cluster` says how
    it is served. What it fails to answer stays undecided. Raises StageError for a trace whose
    problem is not among `problems`, ConfigError for a judge that cannot be asked. Not covered:
    problems without a gold answer (`[verdicts] majority` in a pipeline file lets samples vote).
    """
    by_id = {problem.id: problem for problem in problems}
    answers = {problem.id: problem.answer for problem in by_id.values()}
    verdicts = grade_traces(traces, answers, grader)
    if judge is None:
        return verdicts
    return ask_about_undecided(verdicts, by_id, Judge.of(judge, cluster or Cluster(), open_sampler))


def grade_traces(
    traces: Iterable[Trace], answers: Mapping[str, str], grader: Grader
) -> Iterator[Verdict]:
    """Yield exactly one Verdict per Trace by rules alone, in order; `answers` are the gold answers
    by problem. A bad trace never raises; one of an unknown problem raises StageError.
    """
    items = (to_item(trace, answers) for trace in traces)
    for trace_id, grade in grader.grade_many(items):
        # Seconds differ from run to run; without them an interrupted run's file equals an
        # uninterrupted one's.
        timeless = grade.model_copy(update={"seconds": 0.0})
        problem_id = trace_id.rpartition(":")[0]
        yield Verdict(trace_id=trace_id, problem_id=problem_id, grade=timeless)


def to_item(trace: Trace, answers: Mapping[str, str]) -> GradeItem:
    """What the grader needs of a trace. Raises StageError when its problem has no place among the
    gold answers.
    """
    if trace.problem_id not in answers:
        raise StageError(
            f"trace {trace.id}: its problem {trace.problem_id} is not in the problems "
            "folder; sample the traces again."
        )
    return GradeItem.of(trace, answers[trace.problem_id])


def ask_about_undecided(
    verdicts: Iterable[Verdict], problems: Mapping[str, Problem], judge: Judge
) -> Iterator[Verdict]:
    """Yield each verdict, in order, with the judge's in the place of an undecided one. The judge's
    model is opened at the first question.
    """
    replies: dict[str, JudgeReply] = {}
    # Those that failed too: a question is asked once.
    asked_keys: set[str] = set()
    coming = iter(verdicts)
    sampler: Sampler | None = None
    with ExitStack() as stack:
        while True:
            window = list(islice(coming, WINDOW))
            if not window:
                return
            questions = _questions(window, problems, judge)
            unknown = {question.key: question for question in questions.values()}
            missing = [unknown[key] for key in unknown if key not in asked_keys]
            asked_keys.update(unknown)
            if missing:
                if sampler is None:
                    opened = judge.open_sampler(judge.judge, judge.cluster, list(problems.values()))
                    sampler = stack.enter_context(opened)
                    make_ready(sampler, never)
                replies |= _replies(judge, sampler, missing)
            for verdict in window:
                question = questions.get(verdict.trace_id)
                reply = replies.get(question.key) if question is not None else None
                yield with_reply(verdict, reply)


def _questions(
    verdicts: Iterable[Verdict], problems: Mapping[str, Problem], judge: Judge
) -> dict[str, Question]:
    """What is to be asked about these verdicts, by trace."""
    questions: dict[str, Question] = {}
    for verdict in verdicts:
        if is_open(verdict):
            question = question_of(judge, verdict, problems[verdict.problem_id])
            questions[verdict.trace_id] = question
    return questions


def _replies(
    judge: Judge, sampler: Sampler, questions: Sequence[Question]
) -> dict[str, JudgeReply]:
    """The replies that came, by the question's key."""
    replies: dict[str, JudgeReply] = {}
    for sampled in ask_judge(judge, sampler, questions):
        request, completion = sampled.request, sampled.completion
        if completion.finish != "error":
            replies[request.key] = JudgeReply(
                key=request.key,
                judge=sampler.model,
                trace_id=request.id,
                completion=completion,
            )
    return replies
