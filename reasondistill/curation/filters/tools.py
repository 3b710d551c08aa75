"""What filters and rules of `select` may need beside a trace: whether two answers are the same, how
many tokens a text has to a student, between which lengths `length_percentiles` keeps, what a model
says of a trace.

    with opened_tools(GradingPool, token_counter) as tools:
        tools.compare(r"\\frac12", "0.5")       # "correct"

A grader's processes and a tokenizer are opened by who first needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reasondistill.errors import StageError
from reasondistill.records import Outcome, TraceScore

if TYPE_CHECKING:
    from reasondistill.grading import GradingPool

OpenPool = Callable[[], "GradingPool"]
# The tokens of a text; None for one that the tokenizer does not give back.
CountTokens = Callable[[str], int | None]


@dataclass(frozen=True)
class StudentTokenizer:
    """The tokenizer of a student: a folder, or a hub id at a revision."""

    name: str
    revision: str | None = None


@dataclass(frozen=True)
class LengthBounds:
    """The shortest and the longest length that are kept."""

    shortest: int
    longest: int


def _nobody_scores(trace_id: str) -> TraceScore:
    raise StageError(f"select goes by scores, and nobody has scored {trace_id}.")


@dataclass(frozen=True)
class Tools:
    """`compare` is the grader's outcome for an answer and another: correct, wrong or undecided.

    `lengths` is None while lengths are measured, and where nobody asks for them. `score` is what a
    model says of a trace, by its id.
    """

    compare: Callable[[str, str], Outcome]
    count_tokens: Callable[[StudentTokenizer, str], int | None]
    lengths: LengthBounds | None = None
    score: Callable[[str], TraceScore] = _nobody_scores


def _nobody_compares(answer: str, other: str) -> Outcome:
    raise StageError("a filter compares answers, and nobody gave it a grader.")


def _nobody_counts(tokenizer: StudentTokenizer, text: str) -> int | None:
    raise StageError(f"a filter counts tokens, and nobody gave it {tokenizer.name}.")


# For filters that look at the trace alone.
NO_TOOLS = Tools(_nobody_compares, _nobody_counts)


@contextmanager
def opened_tools(
    open_pool: OpenPool,
    open_counter: Callable[[str, str | None], CountTokens],
) -> Generator[Tools]:
    """Tools that open what they need when they first need it; the grader is closed at the end."""
    counters: dict[StudentTokenizer, CountTokens] = {}
    pools: list[GradingPool] = []
    with ExitStack() as stack:

        def compare(answer: str, other: str) -> Outcome:
            if not pools:
                pools.append(stack.enter_context(open_pool()))
            return _compared(pools[0], answer, other)

        def count_tokens(tokenizer: StudentTokenizer, text: str) -> int | None:
            if tokenizer not in counters:
                counters[tokenizer] = open_counter(tokenizer.name, tokenizer.revision)
            return counters[tokenizer](text)

        yield Tools(compare, count_tokens)


def new_pool() -> GradingPool:
    """A grader with the default policy."""
    from reasondistill.grading import GradingPool

    return GradingPool()


def _compared(pool: GradingPool, answer: str, other: str) -> Outcome:
    """By the cheap layers here, else by a process of the pool."""
    from reasondistill.grading import GradeItem, find_policy
    from reasondistill.grading.decide.layers import decide_cheaply

    decision = decide_cheaply(answer, other, find_policy(pool.policy))
    if not decision.is_open:
        return decision.outcome
    item = GradeItem("", f"\\boxed{{{answer}}}", f"\\boxed{{{other}}}")
    return pool.grade_one(item).outcome
