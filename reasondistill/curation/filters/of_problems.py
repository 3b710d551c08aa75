"""`[examples.filters.of_problems]`: only the traces of some problems."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reasondistill.curation.filters.registry import Candidate, example_filter
from reasondistill.sections import Section


class OfProblems(Section):
    """`ids` are beginnings of problem ids: `ids = ["real/train/gsm8k-"]`."""

    ids: Annotated[tuple[str, ...], Field(min_length=1)]
    """Beginnings of the ids of problems whose traces stay.

    Example: ["real/train/gsm8k-"]
    """


@example_filter(OfProblems)
def of_problems(candidate: Candidate, settings: OfProblems) -> str | None:
    """Traces of problems whose id begins otherwise."""
    if candidate.trace.problem_id.startswith(settings.ids):
        return None
    return "of other problems"
