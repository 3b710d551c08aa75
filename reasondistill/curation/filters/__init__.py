"""Filters drop traces that must not become examples, with a reason. A filter is one function in one
file of this package, which registers itself:

    # curation/filters/few_digits.py; on where a pipeline file has [examples.filters.few_digits]
    class FewDigits(Section):
        least: int = 3

    @example_filter(FewDigits)
    def few_digits(candidate: Candidate, settings: FewDigits) -> str | None:
        \"""Drop what has hardly a number in it.\"""
        digits = sum(character.isdigit() for character in candidate.text)
        return "few digits" if digits < settings.least else None

The stage and the forecast use the same filters (`ProblemChoice`).
"""

from reasondistill.curation.filters.choosing import ProblemChoice
from reasondistill.curation.filters.registry import (
    Candidate,
    ExampleFilter,
    active_filters,
    all_filters,
    example_filter,
)
from reasondistill.curation.filters.selecting import SELECT, Usable, select

__all__ = [
    "Candidate",
    "ExampleFilter",
    "SELECT",
    "ProblemChoice",
    "Usable",
    "active_filters",
    "all_filters",
    "example_filter",
    "select",
]
