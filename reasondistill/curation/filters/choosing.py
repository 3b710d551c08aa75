"""Which of one problem's traces become examples: the filters, each text once, then `select`.

    choice = ProblemChoice(pipeline.examples)
    for pair in pairs:
        choice.see(Candidate(pair.trace, pair.verdict, render_assistant(pair.trace.completion)))
    choice.chosen(), choice.selection.reasons

`see` gives the reason why a trace is dropped, `selection` that of usable ones which are not
selected (selecting.py). The examples stage and the forecast both decide with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reasondistill.config import ExampleSettings
from reasondistill.curation.filters.earlier import EarlierTraces
from reasondistill.curation.filters.registry import Candidate, DropReason, active_filters
from reasondistill.curation.filters.selecting import (
    DIVERSE_WORDS,
    Selection,
    Usable,
    score_of,
    select,
)
from reasondistill.hashing import stable_digest

if TYPE_CHECKING:
    from reasondistill.curation.shingles import Words32


class ProblemChoice:
    """Decides about the traces of one problem, which it sees one after the other.

    Memory is that of the usable ones' names and lengths, whatever the length of the texts, and
    where `near_duplicates` is on, 4 bytes a word until they are forgotten.
    """

    def __init__(
        self, examples: ExampleSettings, filters: Sequence[DropReason] | None = None
    ) -> None:
        self.usable: list[Usable] = []
        self._examples = examples
        self._filters = active_filters(examples) if filters is None else filters
        self._texts: set[bytes] = set()
        self._earlier = EarlierTraces()
        self._writers: Counter[str] = Counter()
        # Of `majority`: the first text of each answer, and whether it is right.
        self._answers: list[tuple[str, bool]] = []

    def see(self, candidate: Candidate) -> str | None:
        """The first reason to drop the candidate; a usable one is remembered, and the reason is
        None.
        """
        reason = self._drop_reason(candidate)
        if reason is None:
            self._earlier.keep()
            self._writers[candidate.trace.teacher] += 1
            self.usable.append(self._usable(candidate))
        return reason

    def _drop_reason(self, candidate: Candidate) -> str | None:
        text = stable_digest(candidate.text)
        is_known = text in self._texts
        if not is_known:
            of_writer = self._writers[candidate.trace.teacher]
            candidate = replace(candidate, earlier=self._earlier, of_writer=of_writer)
        for drop_reason in self._filters:
            reason = drop_reason(candidate)
            if reason is not None:
                return reason
        if is_known:
            return "duplicate text"
        self._texts.add(text)
        return None

    def forget(self) -> None:
        """No further trace comes that would be compared with these."""
        self._earlier.forget()

    @property
    def selection(self) -> Selection:
        """The traces that become examples, and why the other usable ones do not."""
        return select(self.usable, self._examples)

    def chosen(self) -> list[Usable]:
        """The traces that become examples."""
        return list(self.selection.chosen)

    def _usable(self, candidate: Candidate) -> Usable:
        """What the rule needs of it."""
        trace, completion = candidate.trace, candidate.trace.completion
        rule, scored_by = self._examples.select, self._examples.scored_by
        usable = Usable(trace.id, completion.tokens, trace.sample, completion.prompt_tokens)
        if rule == "diverse":
            usable = replace(usable, runs=_runs_of(candidate.written))
        elif rule == "majority":
            usable = replace(usable, answer=self._answer_of(candidate))
        elif scored_by is not None:
            measured = candidate.tools.score(trace.id)
            score = score_of(measured, scored_by, self._examples.scores)
            usable = replace(usable, score=score, teacher=trace.teacher)
        return usable

    def _answer_of(self, candidate: Candidate) -> int | None:
        """The number of its answer: that of an earlier trace which gives the same one, by the
        grader, or a new one. Right answers are the same without a comparison.
        """
        grade = candidate.verdict.grade
        if grade.extracted is None:
            return None
        for number, (known, is_correct) in enumerate(self._answers):
            if is_correct and grade.is_correct:
                return number
            if candidate.tools.compare(grade.extracted, known) == "correct":
                return number
        self._answers.append((grade.extracted, grade.is_correct))
        return len(self._answers) - 1


def _runs_of(text: str) -> Words32:
    """The hashes of a text's runs of 4 words, ascending."""
    from reasondistill.curation.shingles import shingled_one

    return shingled_one(text, numbers="words", words=DIVERSE_WORDS).values
