"""Sentences that many texts of a set share: instructions, not content.

    common_sentences(problem.question for problem in problems)
    # {"express your answer as a common fraction", …}

"Express your answer as a common fraction in lowest terms." shares 13 words with hundreds of
problems and gives away none of them. A sentence counts as an instruction when at least 1 % of the
texts have it, and at least three; one that is a whole text is none.
"""

from __future__ import annotations

from collections.abc import Iterable

from reasondistill.curation.words import Read, read_sentence, split_sentences

SHARE = 0.01
LEAST_TEXTS = 3
# The error of a count, as a part of what is asked for.
_ERROR = 0.1


def sentence_key(sentence: Read) -> str:
    """By which two sentences are the same."""
    return " ".join(sentence.words)


def common_sentences(texts: Iterable[str], *, share: float = SHARE) -> frozenset[str]:
    """The keys of the sentences that at least `share` of the texts have, letter by letter.

    Counted in one pass and bounded memory (lossy counting, Manku and Motwani 2002): what has the
    share is always found, what has less than nine tenths of it never. Fewer than 1,000 texts are
    counted exactly.
    """
    width = round(1 / (share * _ERROR))
    # Each with its count, and how many there may have been before it was counted.
    counted: dict[str, tuple[int, int]] = {}
    read = 0
    for read, text in enumerate(texts, start=1):
        parts = {part.strip() for part in split_sentences(text.lower())} - {""}
        if len(parts) > 1:
            for part in parts:
                count, missed = counted.get(part, (0, read // width))
                counted[part] = (count + 1, missed)
        if read % width == 0:
            passed = read // width
            counted = {part: seen for part, seen in counted.items() if sum(seen) > passed}
    least = max(LEAST_TEXTS, share * read - read // width)
    common = [part for part, (count, _) in counted.items() if count >= least]
    return frozenset(map(sentence_key, map(read_sentence, common))) - {""}
