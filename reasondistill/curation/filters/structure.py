"""`[examples.filters.structure]`: a trace is one think block, then one answer, and nothing that
ends a turn.
"""

from __future__ import annotations

from reasondistill.curation.filters.registry import Candidate, example_filter
from reasondistill.grading.extract.boxes import boxed_answers
from reasondistill.sections import Section
from reasondistill.thinking import holds_tag, well_known_token


class Structure(Section):
    """`think`: one think block, closed, without tags in it or behind it. `box`: one box in the
    answer, or several of the same value; parts of one answer ("\\boxed{1} and \\boxed{2}") are one.
    `tokens`: no text that is a special token to well-known models.
    """

    think: bool = True
    """Whether a trace needs one think block, closed, without tags in it or behind it."""
    box: bool = True
    """Whether an answer needs one box, or several of the same value."""
    tokens: bool = True
    """Whether a trace goes that holds a special token of well-known models as text."""


@example_filter(Structure)
def structure(candidate: Candidate, settings: Structure) -> str | None:
    """Anything but one closed think block and one boxed answer; a leaked template token.

    After the report of DASD-4B, whose traces have one closed block, and `drop_multi_boxed` of
    NeMo-Skills. Boxes are compared by the grader: `\\boxed{0.5}` and `\\boxed{\\frac12}` are
    one answer, and what it leaves undecided passes.
    """
    completion = candidate.trace.completion
    reasoning = completion.reasoning or ""
    if settings.think:
        if completion.think == "none":
            return "no think block"
        if completion.think == "open":
            return "think block not closed"
        if holds_tag(reasoning) or holds_tag(completion.answer_text):
            return "several think blocks"
    if settings.tokens and well_known_token(candidate.written):
        return "template token"
    if settings.box:
        return _box_fault(candidate)
    return None


def _box_fault(candidate: Candidate) -> str | None:
    answers = boxed_answers(candidate.trace.completion.answer_text)
    if not answers:
        return "no boxed answer"
    *others, last = answers
    for other in others:
        if candidate.tools.compare(other, last) == "wrong":
            return "unequal boxes"
    return None
