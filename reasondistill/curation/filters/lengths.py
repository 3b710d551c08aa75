"""`[examples.filters.student_tokens]` and `[examples.filters.length_percentiles]`: how long a trace
is to the student, and among all others.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

from pydantic import Field, model_validator

from reasondistill.config import ExampleSettings
from reasondistill.curation.filters.choosing import ProblemChoice
from reasondistill.curation.filters.registry import (
    Candidate,
    active_filters,
    example_filter,
    table_of,
)
from reasondistill.curation.filters.tools import LengthBounds, StudentTokenizer, Tools
from reasondistill.sections import Section

Percent = Annotated[float, Field(ge=0, le=100)]
UNTOKENISED = "not given back by the tokenizer"


class StudentTokens(Section):
    """`tokenizer` is the student's: a folder or hub id, such as its `base`. `least` and `most`
    bound the tokens of the assistant's turn.
    """

    tokenizer: Annotated[str, Field(min_length=1)]
    """The student's: a folder or hub id, such as its `base`."""
    revision: str | None = None
    """The branch, tag or commit of the tokenizer, where it is on the hub."""
    least: Annotated[int, Field(ge=0)] = 0
    """The fewest tokens of the assistant's turn. [tokens]"""
    most: Annotated[int, Field(ge=1)] | None = None
    """The most tokens of the assistant's turn. [tokens]"""

    @model_validator(mode="after")
    def _are_in_order(self) -> StudentTokens:
        if self.most is not None and self.least > self.most:
            raise ValueError(f"least: {self.least} is above most = {self.most}")
        return self


@example_filter(StudentTokens)
def student_tokens(candidate: Candidate, settings: StudentTokens) -> str | None:
    """Turns shorter or longer than that in the student's own tokens.

    The report of DASD-4B counts with the student's tokenizer: its context is what a trace must fit
    in, and a teacher's tokens are others. Not covered: the prompt (`max_length` of a student is of
    the whole row).
    """
    tokenizer = StudentTokenizer(settings.tokenizer, settings.revision)
    tokens = candidate.tools.count_tokens(tokenizer, candidate.text)
    if tokens is None:
        return UNTOKENISED
    if tokens < settings.least:
        return "too short for the student"
    if settings.most is not None and tokens > settings.most:
        return "too long for the student"
    return None


class LengthPercentiles(Section):
    """What lies below the percentile `lowest` or above the percentile `highest` of the lengths
    goes: `highest = 95` drops the longest twentieth. Lengths are generated tokens, or with a
    `tokenizer` the student's.
    """

    lowest: Percent = 0.0
    """The percentile of the lengths below which traces go; 0 drops none."""
    highest: Percent = 95.0
    """The percentile of the lengths above which traces go; 100 drops none."""
    tokenizer: Annotated[str, Field(min_length=1)] | None = None
    """A folder or hub id, whose tokens are counted; without it the generated tokens."""
    revision: str | None = None
    """The branch, tag or commit of the tokenizer, where it is on the hub."""

    @model_validator(mode="after")
    def _are_in_order(self) -> LengthPercentiles:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest: {self.lowest:g} is not below highest = {self.highest:g}")
        return self


@example_filter(LengthPercentiles, is_relative=True)
def length_percentiles(candidate: Candidate, settings: LengthPercentiles) -> str | None:
    """The shortest and the longest of the traces that pass all other filters.

    A percentile cut after the report of DASD-4B. Percentiles are nearest ranks and equal lengths
    share their fate, so never more than the asked share goes on either side; the default is our
    own. Lengths are counted in a reading of the traces before they are decided on.
    """
    bounds = candidate.tools.lengths
    if bounds is None:
        return None
    length = length_of(candidate, settings)
    if length is None:
        return UNTOKENISED
    if length < bounds.shortest:
        return "among the shortest"
    if length > bounds.longest:
        return "among the longest"
    return None


def tokenizers_of(examples: ExampleSettings) -> list[StudentTokenizer]:
    """The tokenizers that filters count with, each once."""
    found: list[StudentTokenizer] = []
    bounded = table_of(examples, student_tokens.__name__, StudentTokens)
    if bounded is not None:
        found.append(StudentTokenizer(bounded.tokenizer, bounded.revision))
    ranked = percentiles_of(examples)
    if ranked is not None and ranked.tokenizer is not None:
        found.append(StudentTokenizer(ranked.tokenizer, ranked.revision))
    return list(dict.fromkeys(found))


def percentiles_of(examples: ExampleSettings) -> LengthPercentiles | None:
    """The settings of `length_percentiles`; None where it is off."""
    return table_of(examples, length_percentiles.__name__, LengthPercentiles)


def with_lengths(
    tools: Tools,
    candidates: Iterable[Candidate],
    examples: ExampleSettings,
    *,
    verified: bool = True,
) -> Tools:
    """The tools with the lengths between which `length_percentiles` keeps, of what passes all other
    filters; as they are, and no candidate read, where it is off.

    Candidates come in the order of problems; memory is that of the different lengths.
    """
    percentiles = percentiles_of(examples)
    if percentiles is None:
        return tools
    filters = active_filters(examples, verified=verified)
    examples = examples.model_copy(update={"select": "all"})  # nothing is selected here
    choice = ProblemChoice(examples, filters)
    problem_id = ""
    lengths: Counter[int] = Counter()
    for candidate in candidates:
        if candidate.trace.problem_id != problem_id:
            problem_id = candidate.trace.problem_id
            choice = ProblemChoice(examples, filters)
        if choice.see(candidate) is None:
            length = length_of(candidate, percentiles)
            if length is not None:
                lengths[length] += 1
    return replace(tools, lengths=bounds_of(lengths, percentiles))


def length_of(candidate: Candidate, settings: LengthPercentiles) -> int | None:
    """The length that percentiles are taken of; None where the tokenizer gives none."""
    if settings.tokenizer is None:
        return candidate.trace.completion.tokens
    tokenizer = StudentTokenizer(settings.tokenizer, settings.revision)
    return candidate.tools.count_tokens(tokenizer, candidate.text)


def bounds_of(lengths: Counter[int], settings: LengthPercentiles) -> LengthBounds:
    """Between which lengths is kept; memory is that of the different lengths.

    >>> bounds_of(Counter({10: 1, 20: 98, 500: 1}), LengthPercentiles(highest=99))
    LengthBounds(shortest=10, longest=20)
    """
    total = lengths.total()
    below = math.floor(settings.lowest / 100 * total)
    up_to = max(1, math.ceil(settings.highest / 100 * total))
    return LengthBounds(_at_rank(lengths, below + 1), _at_rank(lengths, up_to))


def _at_rank(lengths: Counter[int], rank: int) -> int:
    """The length of this rank, counted from 1; the longest one beyond them, and 0 of none."""
    length = seen = 0
    for length in sorted(lengths):
        seen += lengths[length]
        if seen >= rank:
            break
    return length
