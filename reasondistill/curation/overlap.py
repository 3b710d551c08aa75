"""Which benchmark problems may be contaminated by a training set: those that share a run of 13
words with one of its questions.

13-grams of words, numbers included, as in the check of GPT-3 (Brown et al. 2020, arXiv 2005.14165,
appendix C); LaTeX and plain text are the same words (`curation/words.py`). A shared run does not
prove that the answer was learnt, and paraphrases are not found: the report has the scores of both
halves, for comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reasondistill.curation.words import read

N_GRAM = 13

Words = tuple[str, ...]


def overlapping(
    questions: Mapping[str, str], training: Iterable[str], *, n: int = N_GRAM
) -> frozenset[str]:
    """Ids of the questions that share `n` words in a row with a training text; shorter ones must
    equal a whole text.

    Memory is that of the questions; the training texts are streamed.
    """
    owners: dict[Words, set[str]] = {}
    for name, question in questions.items():
        for run in _runs(question, n):
            owners.setdefault(run, set()).add(name)
    names: set[str] = set()
    for text in training:
        for run in _runs(text, n):
            if run in owners:
                names |= owners[run]
    return frozenset(names)


def _runs(text: str, n: int) -> Iterator[Words]:
    words = read(text).words
    if len(words) < n:
        yield words
    for start in range(len(words) - n + 1):
        yield words[start : start + n]
