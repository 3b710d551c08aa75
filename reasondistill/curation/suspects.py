"""Golds under suspicion: the samples of a problem agree with each other, and not with the gold.

    suspect = suspect_gold(problem, pairs, ExampleSettings(), tools.compare)
    suspect.answer, suspect.votes, suspect.n        # "12", 7, 8

Either the gold is wrong, or the question misleads its teacher: a look at both tells. A vote of the
samples as in self-consistency (Wang et al. 2022, arXiv 2203.11171), among those that are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from reasondistill.config import ExampleSettings
from reasondistill.records import Graded, Outcome, Problem, SuspectGold

# Two samples are the fewest that can agree.
_LEAST_VOTES = 2
# Answers that are compared for each sample, at most: with up to 33 samples all are.
_COMPARED_PER_SAMPLE = 16


def suspect_gold(
    problem: Problem,
    pairs: Sequence[Graded],
    examples: ExampleSettings,
    compare: Callable[[str, str], Outcome],
) -> SuspectGold | None:
    """The problem's gold, where more than the share `suspect_share` of its samples, and two, say
    one other answer: more than say the gold or any third one. None where they do not.

    The share is of all samples that were written. Equal answers are what `compare` calls correct.
    An undecided sample, one that was cut off and one without an answer agree with nobody: so one
    sample, a tie, and a problem without a gold put nothing under suspicion.
    """
    if not problem.answer.strip():
        return None
    written = [pair for pair in pairs if pair.trace.completion.finish != "error"]
    wrong = [_wrong_answer(pair) for pair in written]
    answers = [answer for answer in wrong if answer is not None]
    n = len(written)
    least = max(_LEAST_VOTES, math.floor(examples.suspect_share * n) + 1)
    if len(answers) < least:
        return None
    from reasondistill.grading.serve.majority import majority

    left = _COMPARED_PER_SAMPLE * n

    def same(answer: str, other: str) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and compare(answer, other) == "correct"

    vote = majority(answers, same=same)
    correct = sum(pair.verdict.grade.is_correct for pair in written)
    if vote is None or vote.is_tie or vote.votes < least or vote.votes <= correct:
        return None
    return SuspectGold(
        problem_id=problem.id,
        gold=problem.answer,
        answer=vote.answer,
        votes=vote.votes,
        n=n,
        correct=correct,
    )


def _wrong_answer(pair: Graded) -> str | None:
    """What a sample answered that is decided not to be the gold, where that is known in whole."""
    from reasondistill.grading import LONGEST_SHOWN

    grade = pair.verdict.grade
    if grade.outcome != "wrong" or grade.extracted is None:
        return None
    if len(grade.extracted) > LONGEST_SHOWN:
        return None
    return grade.extracted
