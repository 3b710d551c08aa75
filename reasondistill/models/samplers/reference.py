"""A teacher without a model: its completions are the problems' own reference solutions.

A solution that boxes another answer than the gold keeps it: its verdict is `wrong`, as it would be
for any teacher. Not covered: solutions without a box, whose answer is taken to be the gold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from reasondistill.config import Cluster, ModelSettings
from reasondistill.grading import GradeItem, find_policy
from reasondistill.grading.extract.boxes import last_boxes
from reasondistill.grading.read.golds import alternatives
from reasondistill.grading.serve.items import begin
from reasondistill.models.samplers.base import SamplerBase, SamplerKind
from reasondistill.models.samplers.requests import (
    Rendered,
    Request,
    Sampled,
    failed,
    problem_and_sample,
)
from reasondistill.records import Completion, Message, Problem

MODEL = "reference"
# GSM8K ends its solutions with "#### 42"; the answer is in the box instead.
_ANSWER_LINE = re.compile(r"\s*^####[^\n]*\s*\Z", re.MULTILINE)


class ReferenceSampler(SamplerBase):
    """Reasoning = the reference solution, answer = the boxed gold answer, of alternatives the
    first, or what the solution boxes where that is another one; every sample of a problem is the
    same. Tokens are words.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__()
        self.model = MODEL
        self._problems = {problem.id: problem for problem in problems}

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        return Rendered(messages)

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        for request in requests:
            if self.should_stop():
                return
            problem_id, _ = problem_and_sample(request.id)
            prompt_tokens = sum(
                len(message.content.split()) for message in request.rendered.messages
            )
            yield Sampled(
                request,
                reference_completion(self._problems[problem_id], prompt_tokens=prompt_tokens),
            )


def reference_completion(problem: Problem, *, prompt_tokens: int = 0) -> Completion:
    """The completion that a teacher would have written, had it known the reference solution."""
    if not (problem.reference_solution or "").strip():
        return failed(
            "the problem has no reference solution", fault="input", prompt_tokens=prompt_tokens
        )
    reasoning = _ANSWER_LINE.sub("", problem.reference_solution or "").strip()
    answer = f"\\boxed{{{_other_answer(problem) or alternatives(problem.answer)[0]}}}"
    words = len(reasoning.split()) + len(answer.split())
    return Completion(
        reasoning=reasoning,
        answer_text=answer,
        think="closed",
        finish="stop",
        prompt_tokens=prompt_tokens,
        tokens=words,
        seconds=0.0,
    )


def _other_answer(problem: Problem) -> str | None:
    """What the solution boxes, where it is surely not the gold."""
    solution = problem.reference_solution or ""
    if "\\boxed" not in solution:
        return None
    own = last_boxes(solution, "linked", gold=True)
    if own is None or own.text is None:
        return None
    boxed = f"\\boxed{{{own.text}}}"
    decision = begin(GradeItem("", boxed, problem.answer), find_policy("default")).decision
    if decision.outcome != "wrong" or decision.is_open:
        return None
    return own.text


def _open(model: ModelSettings, cluster: Cluster, problems: Sequence[Problem]) -> ReferenceSampler:
    return ReferenceSampler(problems)


SAMPLER = SamplerKind(open=_open, reads_problems=True, reads_solutions=True)
