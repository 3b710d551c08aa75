"""`[examples.filters.agreement]`: the answer is what the reasoning came to."""

from __future__ import annotations

from reasondistill.curation.filters.registry import Candidate, example_filter
from reasondistill.grading.extract.answer import extract
from reasondistill.grading.extract.boxes import boxed_answers
from reasondistill.sections import Section


class Agreement(Section):
    """There is nothing to set: `[examples.filters.agreement]` alone turns it on."""


@example_filter(Agreement)
def agreement(candidate: Candidate, settings: Agreement) -> str | None:
    """The last box of the think block says otherwise than the answer.

    Earlier boxes are drafts: a trace may change its mind. The grader compares, in both directions:
    only what it calls wrong either way is a contradiction. A definition of our own. Not covered:
    reasoning that comes to another value without a box.
    """
    completion = candidate.trace.completion
    thought = boxed_answers(completion.reasoning or "")
    if not thought:
        return None
    answer = extract(completion.answer_text)
    if answer.text is None or not answer.has_value:
        return None
    compare = candidate.tools.compare
    for text in (answer.text, answer.other):
        if text is not None:
            outcomes = {compare(thought[-1], text), compare(text, thought[-1])}
            if outcomes != {"wrong"}:
                return None
    return "answer contradicts its reasoning"
