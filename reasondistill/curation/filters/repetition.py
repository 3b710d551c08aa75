"""`[examples.filters.repetition]`: texts that say the same again and again."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from reasondistill.curation.filters.registry import Candidate, example_filter
from reasondistill.sections import Section

Count = Annotated[int, Field(ge=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(gt=1)]

_PARAGRAPH = re.compile(r"\n\s*\n")
# An end of a sentence is a sign and a space, or the end of a line: `3.14` is none. A row of signs
# is looked at from its beginning alone: from each of 100,000 dots it takes minutes.
# The sign stands first, then what must not be before it: so the search jumps from sign to sign.
_SENTENCE = re.compile(
    r"[.!?。！？\n](?<![.!?。！？][.!?。！？\n])[.!?。！？\n]*(?:(?<=[。！？\n])|(?=\s))\s*"
)
_LIST_ITEM = re.compile(r"\s*(?:[-*•]|\d{1,3}[.)])\s")
_FORMULA = re.compile(r"[\\=<>^_$`{}|]|\d\s*[-+*/×÷]\s*\d")
# Shorter ones ("Yes.", "}") say nothing by being there again.
_LEAST_CHARACTERS = 5


class Repetition(Section):
    """A text is dropped when one paragraph stands in it `paragraphs` times, one sentence so many
    times `in_a_row`, or `sentences` times in all; when a larger share than `n_grams` of its runs of
    `n` words were there before; or when zlib packs it by more than `compression`.

    Counts are for prose: formulas and code may repeat twice as often, items of a list three times.
    Shares and ratios are measured on texts of `least_words` words or more.
    """

    paragraphs: Count = 10
    """A text goes in which one paragraph stands so often. [times]"""
    in_a_row: Count = 4
    """A text goes in which one sentence comes so often in a row. [times]"""
    sentences: Count = 40
    """A text goes in which one sentence stands so often in all. [times]"""
    n: Annotated[int, Field(ge=1, le=100)] = 8
    """The length of the runs that `n_grams` counts. [words]"""
    n_grams: Share = 0.3
    """The largest share of runs of `n` words that were there before."""
    compression: Ratio = 6.0
    """The most times that zlib may make a text smaller."""
    least_words: Count = 200
    """Shares and ratios are measured on texts of so many words or more. [words]"""


@example_filter(Repetition)
def repetition(candidate: Candidate, settings: Repetition) -> str | None:
    """A paragraph or sentence too often, too many runs of words again, or a text that packs too
    well.

    Counts and allowances are those of open-instruct's `filter_ngram_repetitions`: ×2 for formulas
    and code, ×3 for lists. The share of repeated word n-grams is after Gopher (Rae et al. 2021,
    arXiv 2112.11446), its default and that of the compression ratio our own. Words stand between
    spaces: single signs would make eight of one formula.
    """
    text = candidate.written
    paragraphs = [part.strip() for part in _PARAGRAPH.split(text)]
    if _is_too_often(Counter(paragraphs), settings.paragraphs):
        return "repeats a paragraph"
    sentences = [part.strip() for part in _SENTENCE.split(text) if part]
    if _is_too_often(Counter(sentences), settings.sentences):
        return "repeats a sentence"
    if _stands_in_a_row(sentences, settings.in_a_row):
        return "repeats a sentence"
    words = text.split()
    if len(words) < settings.least_words:
        return None
    if repeats_more(words, settings.n, settings.n_grams):
        return "repeats its words"
    if compression_ratio(text) > settings.compression:
        return "packs too well"
    return None


def _is_too_often(counts: Counter[str], most: int) -> bool:
    for part, count in counts.items():
        if count >= most and len(part) >= _LEAST_CHARACTERS and count >= most * _allowance(part):
            return True
    return False


def _stands_in_a_row(parts: Sequence[str], most: int) -> bool:
    before, count = "", 0
    for part in parts:
        if part != before:
            before, count = part, 0
        count += 1
        if count >= most and len(part) >= _LEAST_CHARACTERS and count >= most * _allowance(part):
            return True
    return False


def _allowance(part: str) -> int:
    """How many times as often as prose a part may stand in a text."""
    if "\n" in part:
        return 4
    if _LIST_ITEM.match(part):
        return 3
    if _FORMULA.search(part):
        return 2
    return 1


def repeats_more(words: Sequence[str], n: int, share: float) -> bool:
    """Whether `share_repeated` is larger than that.

    Runs that differ in their first two words are different: of most texts that is enough to know,
    and takes a third of the time.
    """
    runs = len(words) - n + 1
    if n > 1 and runs > 0:
        beginnings = set(zip(words[:runs], words[1 : runs + 1], strict=True))
        if 1 - len(beginnings) / runs <= share:
            return False
    return share_repeated(words, n) > share


def share_repeated(words: Sequence[str], n: int) -> float:
    """The share of the runs of `n` words that stood in the text before.

    >>> share_repeated("a b a b a b".split(), 2)
    0.6
    """
    runs = list(zip(*(words[start:] for start in range(n)), strict=False))
    if not runs:
        return 0.0
    return 1 - len(set(runs)) / len(runs)


def compression_ratio(text: str) -> float:
    """How many times shorter zlib makes a text."""
    content = text.encode("utf-8", "surrogatepass")
    return len(content) / max(1, len(zlib.compress(content)))
