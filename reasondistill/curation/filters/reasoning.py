"""`[examples.filters.reasoning]`: reasoning of the model's own, and some of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Annotated

from pydantic import Field

from reasondistill.curation.filters.registry import Candidate, example_filter
from reasondistill.sections import Section

# A word, a number, a sign; a letter of Chinese, Japanese or Korean, which divide words by no space.
_WORD = re.compile(r"[\u2e80-\ud7ff]|[^\W\u2e80-\ud7ff]+|[^\w\s]")
# Shorter runs are shared by texts that have nothing to do with each other.
_RUN = 8


class Reasoning(Section):
    """`least_words`: words, numbers and signs of a think block. `copied`: the share of its runs of
    eight that stand in the question, or in the data set's own solution, from which on it is a copy.
    """

    least_words: Annotated[int, Field(ge=1)] = 20
    """The fewest words, numbers and signs of a think block. [words]"""
    copied: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The share of a think block's runs of eight words that stand in the question, or in the data
    set's own solution, from which on it is a copy.
    """


@example_filter(Reasoning)
def reasoning(candidate: Candidate, settings: Reasoning) -> str | None:
    """A think block with hardly a word, or that is the question or the known solution again.

    Traces without a think block pass: `require_think` is about those. A definition of our own; 20
    words stand for 20 tokens. Reasoning that restates the question and goes on is none: the share
    is of all of it. Not covered: a copy in other words, and one in a language without spaces.
    """
    completion = candidate.trace.completion
    if completion.think == "none" or completion.reasoning is None:
        return None
    words = islice(_WORD.finditer(completion.reasoning), settings.least_words)
    if len(list(words)) < settings.least_words:
        return "empty reasoning"
    problem = candidate.problem
    if problem is None:
        return None
    words = _words(completion.reasoning)
    # Runs that begin with different words are different: there are as many of them, at least.
    least = len(set(words[: 1 - _RUN]))
    for source in (problem.question, problem.reference_solution or ""):
        of_source = _words(source)
        if len(of_source) - _RUN + 1 < settings.copied * max(1, least):
            continue
        runs = _runs(words)
        copied = len(runs & _runs(of_source))
        if copied >= settings.copied * max(1, len(runs)):
            return "copied reasoning"
    return None


def _words(text: str) -> list[str]:
    """The words as they stand between spaces, whatever their case."""
    return text.lower().split()


def _runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    """Every eight words in a row."""
    return set(zip(*(words[start:] for start in range(_RUN)), strict=False))
