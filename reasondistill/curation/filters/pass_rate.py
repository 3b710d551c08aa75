"""`[examples.filters.pass_rate]`: only the traces of problems that are neither too hard for the
teacher nor too easy.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from reasondistill.curation.filters.registry import Candidate, example_filter
from reasondistill.sections import Section

Share = Annotated[float, Field(ge=0, le=1)]


class PassRate(Section):
    """`low` and `high` belong to it: `high = 0.75` leaves out what the teacher solves more often
    than three times in four.

    Of a problem that was drawn until enough samples are correct (`traces.accepted`) the share is
    larger than what it would be of a fixed number: the last one is always correct.
    """

    low: Share = 0.0
    """The smallest share of a problem's decided samples that are correct."""
    high: Share = 1.0
    """The largest share of a problem's decided samples that are correct."""

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low: larger than high = {self.high:g}; no problem is both")
        return self


@example_filter(PassRate, looks_at_verdict=True)
def pass_rate(candidate: Candidate, settings: PassRate) -> str | None:
    """Traces of problems of which the teacher solved another share of the decided samples."""
    rate = candidate.pass_rate
    if rate is None:
        return "pass rate unknown"
    if rate < settings.low:
        return "pass rate too low"
    if rate > settings.high:
        return "pass rate too high"
    return None
