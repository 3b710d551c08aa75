"""`[examples.filters.near_duplicates]`: of traces of a problem that are all but the same, one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reasondistill.curation.filters.registry import Candidate, example_filter
from reasondistill.sections import Section


class NearDuplicates(Section):
    """A trace goes whose runs of `words` words have a Jaccard similarity of `threshold` or more
    with those of an earlier usable trace of its problem. `numbers = "count"`: only where all its
    numbers and signs are the same too; "ignored": whatever they are.
    """

    words: Annotated[int, Field(ge=1, le=1_000)] = 5
    """The length of the runs that are compared. [words]"""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The Jaccard similarity of two texts' runs from which on they are the same."""
    numbers: Literal["count", "words", "ignored"] = "words"
    """Whether other numbers make another trace ("count"), are words like others ("words"), or count
    for nothing ("ignored").
    """


@example_filter(NearDuplicates, is_relative=True)
def near_duplicates(candidate: Candidate, settings: NearDuplicates) -> str | None:
    """All but the same as an earlier trace of its problem that passes all filters: the first stays.

    Word 5-grams and 0.8 are the defaults of MinHash tools (datatrove, NeMo-Curator); here a trace
    is compared exactly with each that stays. A wrong number inside makes no other trace, unlike in
    problems. Equal texts are left to "duplicate text".
    """
    similarity = candidate.earlier.similarity(
        candidate.written, words=settings.words, numbers=settings.numbers
    )
    if similarity >= settings.threshold:
        return "near-duplicate trace"
    return None
