"""Pseudo-labels: where a problem has no gold answer, its samples vote, and the answer of enough of
them stands in for it.

    figures = vote_on_unlabelled(pool, run / "1-problems" / layout.PROBLEMS, run / "3-verdicts",
    share=0.5)

Answers are counted by equivalence, not by string; a sample without an answer, or with a refusal,
counts as one that disagrees. A tie gives no label. Self-consistency, Wang et al. 2022. Not covered:
a majority that is wrong. `labels.jsonl` says for each problem how many of its samples agreed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from reasondistill.grading import ENGINE_ERROR, INPUT_FAULT, GradingPool
from reasondistill.grading.serve.majority import Vote, majority, same_in
from reasondistill.records import Grade, Outcome, Problem, PseudoLabel, Verdict
from reasondistill.runs import layout
from reasondistill.runs.figures import VerdictsFigures
from reasondistill.runs.store import read_records, write_records

LABELS = layout.VOTED_LABELS

log = logging.getLogger(__name__)


def vote_on_unlabelled(
    pool: GradingPool, problems: Path, folder: Path, share: float
) -> VerdictsFigures:
    """Put verdicts by majority in the place of those on problems without a gold answer, and write
    `labels.jsonl`.

    Returns how many problems were voted on and how many of them got a label. Writing is atomic; a
    second call changes nothing.
    """
    unlabelled = {problem.id for problem in read_records(problems, Problem) if not problem.answer}
    labels: list[PseudoLabel] = []

    def voted() -> Iterator[Verdict]:
        records = read_records(folder / layout.VERDICTS, Verdict)
        for problem_id, group in groupby(records, key=lambda verdict: verdict.problem_id):
            if problem_id not in unlabelled:
                yield from group
                continue
            verdicts = list(group)
            answers = [_answer(verdict) for verdict in verdicts]
            vote = majority(answers, same=same_in(pool))
            if vote is None:
                yield from verdicts
                continue
            is_accepted = vote.votes >= 2 and vote.share >= share and not vote.is_tie
            label = PseudoLabel(
                problem_id=problem_id,
                answer=vote.answer,
                votes=vote.votes,
                n=vote.n,
                accepted=is_accepted,
            )
            labels.append(label)
            yield from with_vote(verdicts, vote, is_accepted)

    if unlabelled:
        write_records(folder / layout.VERDICTS, voted())
        write_records(folder / LABELS, labels)
    accepted = sum(label.accepted for label in labels)
    log.info(
        "%s problems without a gold answer: %s labelled by the majority of their samples",
        f"{len(unlabelled):,}",
        f"{accepted:,}",
    )
    return VerdictsFigures(unlabelled_problems=len(unlabelled), pseudo_labels=accepted)


def _answer(verdict: Verdict) -> str | None:
    """What a sample answered, when it came to an end and did not refuse."""
    grade = verdict.grade
    if grade.outcome in ("truncated", "no_answer") or grade.reason in (ENGINE_ERROR, INPUT_FAULT):
        return None
    return grade.extracted


def with_vote(verdicts: Sequence[Verdict], vote: Vote, is_accepted: bool) -> Iterator[Verdict]:
    """The verdicts of one problem by its vote; as it was where a sample has no answer.

    Undecided, all of them, where the majority is too small to be accepted or is a tie.
    """
    for place, verdict in enumerate(verdicts):
        if _answer(verdict) is None:
            yield verdict
            continue
        outcome: Outcome = "undecided"
        reason = "no_majority"
        if vote.is_tie:
            reason = "tie"
        if is_accepted:
            outcome = "correct" if place in vote.members else "wrong"
            reason = "majority"
        grade: Grade = verdict.grade.model_copy(
            update={"outcome": outcome, "layer": "majority", "reason": reason}
        )
        yield verdict.model_copy(
            update={"grade": grade, "how": "majority", "vote_share": round(vote.share, 6)}
        )
