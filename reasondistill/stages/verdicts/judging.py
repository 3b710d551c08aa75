"""Traces in, verdicts out: graded by rules, and by a judge where the rules come to no decision.

    with GradingPool() as grader:
        for verdict in judge_traces(traces, problems, grader):
            print(verdict.trace_id, verdict.grade.outcome)

Nothing here knows a folder.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import islice
from typing import Protocol

from reasondistill.config import JudgeSettings
from reasondistill.errors import StageError
from reasondistill.grading import GradeItem
from reasondistill.models.samplers import Sampler, make_ready, without_secrets
from reasondistill.models.samplers.opening import Serving
from reasondistill.records import Grade, JudgeReply, Problem, Trace, Verdict
from reasondistill.runs.missing import cause_of
from reasondistill.stages.verdicts.judge import (
    Judge,
    Question,
    is_open,
    question_of,
    read_verdict,
    requests_of,
    with_reply,
)

# Undecided answers among so many verdicts are asked about together.
WINDOW = 1_000
_TELL_SECONDS = 10.0

log = logging.getLogger(__name__)


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
    serving: Serving | None = None,
) -> Iterator[Verdict]:
    """Yield exactly one Verdict per Trace, in order. A bad trace never raises.

        with GradingPool() as grader:
            verdicts = list(judge_traces(traces, problems, grader))

    A `judge` is asked about what the rules leave undecided, each question once; `serving` says how
    it is served. What it fails to answer stays undecided. Raises StageError for a trace whose
    problem is not among `problems`, ConfigError for a judge that cannot be asked. Not covered:
    problems without a gold answer (`[verdicts] majority` in a pipeline file lets samples vote).
    """
    if judge is None:
        answers = {problem.id: problem.answer for problem in problems}
        return grade_traces(traces, answers, grader)
    by_id = {problem.id: problem for problem in problems}
    answers = {problem.id: problem.answer for problem in by_id.values()}
    verdicts = grade_traces(traces, answers, grader)
    opened = Judge.of(judge, serving or Serving())
    return ask_about_undecided(verdicts, by_id, opened, Replies())


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


# ---- a judge -------------------------------------------------------------------------------------


class Replies:
    """What a judge has replied, by the question's key. A question is asked once, one that failed
    too; `lost` counts by cause what the service failed to answer.
    """

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()
        self._replies: dict[str, JudgeReply] = {}
        self._asked: set[str] = set()

    @property
    def asked(self) -> int:
        """How many different questions there were."""
        return len(self._asked)

    def new(self, questions: Iterable[Question]) -> list[Question]:
        """Those that nobody has asked yet, each once; from now on they are."""
        new: dict[str, Question] = {}
        for question in questions:
            if question.key not in self._asked:
                new.setdefault(question.key, question)
        self._asked.update(new)
        return list(new.values())

    def of(self, question: Question) -> JudgeReply | None:
        """The reply to a question, where one came."""
        return self._replies.get(question.key)

    def put(self, reply: JudgeReply) -> None:
        """Keep a reply that has come."""
        self._replies[reply.key] = reply

    def should_stop(self) -> bool:
        """Whether no more replies are wanted."""
        return False

    def loading(self) -> AbstractContextManager[None]:
        """Around the loading of the judge's model: nothing is in hand that a stop could spoil."""
        return nullcontext()


def ask_about_undecided(
    verdicts: Iterable[Verdict],
    problems: Mapping[str, Problem],
    judge: Judge,
    replies: Replies,
    *,
    window: int = WINDOW,
) -> Iterator[Verdict]:
    """Yield each verdict, in order, with the judge's in the place of an undecided one.

    What is undecided among `window` verdicts is asked about together. The judge's model is opened
    at the first question that has no reply yet.
    """
    coming = iter(verdicts)
    sampler: Sampler | None = None
    with ExitStack() as stack:
        while True:
            together = list(islice(coming, window))
            if not together:
                return
            questions: dict[str, Question] = {}
            for verdict in together:
                if is_open(verdict):
                    question = question_of(judge, verdict, problems[verdict.problem_id])
                    questions[verdict.trace_id] = question
            new = replies.new(questions.values())
            if new:
                log.info(
                    "judge %s: %d undecided answers to ask about", judge.how["model"], len(new)
                )
                if sampler is None:
                    opened = judge.serving.open(judge.judge, list(problems.values()))
                    with replies.loading():
                        sampler = stack.enter_context(opened)
                ask_judge(judge, sampler, new, replies)
            for verdict in together:
                question = questions.get(verdict.trace_id)
                reply = replies.of(question) if question is not None else None
                yield with_reply(verdict, reply)


def ask_judge(
    judge: Judge, sampler: Sampler, questions: Iterable[Question], replies: Replies
) -> None:
    """Put what the judge's model replies to each question among the `replies`, as it comes; one
    that fails is counted there. Ends early when they are to stop.
    """
    requests = list(requests_of(judge, sampler, questions))
    if not requests:
        return
    with replies.loading():
        ends_thinking = judge.judge.thinking_budget is not None
        make_ready(sampler, replies.should_stop, ends_thinking=ends_thinking)
    outcomes: Counter[str] = Counter()
    last_report = time.monotonic()
    for sampled in sampler.sample(requests):
        request, completion = sampled.request, without_secrets(sampled.completion)
        if completion.finish == "error":
            log.warning("judge %s, %s: %s", sampler.model, request.id, completion.error)
            outcomes["failed"] += 1
            if completion.is_lost:
                replies.lost[cause_of(completion)] += 1
        else:
            reply = JudgeReply(
                key=request.key,
                judge=sampler.model,
                trace_id=request.id,
                completion=completion,
            )
            replies.put(reply)
            outcomes[read_verdict(completion)] += 1
        is_last = outcomes.total() == len(requests)
        if time.monotonic() - last_report > _TELL_SECONDS or is_last:
            last_report = time.monotonic()
            counts = ", ".join(f"{n} {name}" for name, n in outcomes.items())
            log.info("judge: %d/%d · %s", outcomes.total(), len(requests), counts)
        if replies.should_stop():
            break
