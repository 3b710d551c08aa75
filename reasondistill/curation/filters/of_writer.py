"""`[examples.filters.of_writer]`: whose traces become examples, and how many of each problem."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reasondistill.curation.filters.registry import Candidate, example_filter
from reasondistill.records import name_and_revision
from reasondistill.sections import Section


class OfWriter(Section):
    """A trace goes that has `most` usable ones of its problem by the same writer before it, and
    with `only` each that another one has written.
    """

    writers: tuple[str, ...] = ()
    """Who is meant, named without a revision; empty for all. Example: ["distilled-round-1"]"""
    most: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """How many usable traces of a problem each of them may have. [traces] Example: 4"""
    only: bool = False
    """Whether what others have written goes."""


@example_filter(OfWriter, is_relative=True)
def of_writer(candidate: Candidate, settings: OfWriter) -> str | None:
    """More than its share of a problem by one writer, or by a writer who is not wanted.

    Easy problems, which a model solves each time, would outnumber the hard ones: ReST-EM keeps 10
    solutions of a problem at most for this reason (Singh et al. 2023, arXiv 2312.06585),
    rejection-sampling fine-tuning the distinct ones (Yuan et al. 2023, arXiv 2308.01825).
    """
    teacher = candidate.trace.teacher
    name = name_and_revision(teacher)[0] or teacher
    if settings.writers and name not in settings.writers:
        return "by another writer" if settings.only else None
    if settings.most is not None and candidate.of_writer >= settings.most:
        return f"beyond {settings.most} traces of its writer"
    return None
