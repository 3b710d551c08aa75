"""Which texts for training hold a question of a benchmark.

    index = LeakIndex(HeldOut("gsm8k", problem.id, problem.question) for problem in benchmark)
    for text, leaks in index.search(texts):
        leaks[0].method, leaks[0].score, leaks[0].question

Three ways, the first that fits is told: the texts are *equal* after normalisation; the text has
most of the question's word 5-grams (*near*: at least 0.8 of them, wherever they stand, so text
around the question hides nothing, and a pair of Jaccard similarity 0.8 is always found); it shares
a *run* of 13 words, as in the check of GPT-3 (Brown et al. 2020, appendix C). How a text is set
does not count (`curation/words.py`).

Two things keep what is harmless apart. Sentences that stand in at least 1 % of a benchmark, or of
the training set (`common`), are instructions and no evidence, nor are five words of one in a row
where they stand in a longer sentence ("…, where m and n are relatively prime"). And a leak has all
numbers of the question in their order, and its signs; the same words with other numbers are a
*look-alike*, another problem of the same template. `numbers="words"` takes both for leaks.

The search is exact but for hashes that are equal by chance. Memory is that of the benchmarks'
questions, some 4 KB each. Not found: paraphrases, translations, a part of a question without its
numbers (a look-alike), and a question of fewer than eight words inside another text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasondistill.curation.benchmarks import HeldOut
from reasondistill.curation.instructions import common_sentences, sentence_key
from reasondistill.curation.overlap import N_GRAM
from reasondistill.curation.shingles import (
    SHINGLE_WORDS,
    Batch,
    Places,
    Text,
    runs_of,
    shingled,
    shingles_of,
    slices,
    spans,
)
from reasondistill.curation.words import (
    Read,
    is_quantity,
    normalise_question,
    question_forms,
    read,
    sentences,
)
from reasondistill.markdown import inline
from reasondistill.records import Leak
from reasondistill.secrets import masked

CONTAINED = 0.8
# A shorter question, or one of fewer than 13 words without a number, counts only where it is the
# whole text: "find the value of x" stands in many.
_LEAST_WORDS = 8
_MOST_SHOWN = 2_000
_MOST_PAIRS = 5
_AT_ONCE = 1 << 22

Method = Literal["equal", "near", "run"]


@dataclass(frozen=True)
class _Question:
    """`runs` are its words without instructions. `must_hold`: of one that has next to nothing
    beside its instructions, what there is.
    """

    held_out: HeldOut
    runs: list[list[str]]
    must_hold: list[tuple[str, ...]]
    numbers: tuple[str, ...]
    signs: Counter[str]
    is_short: bool

    def is_told_by(self, text: Read) -> bool:
        """The text has what there is beside the instructions."""
        words = f" {' '.join(text.words)} "
        return all(f" {' '.join(part)} " in words for part in self.must_hold)

    def counts_in(self, text: Read) -> bool:
        """The text has the question's numbers in their order, and its signs."""
        rest = iter(text.numbers)
        has_numbers = all(number in rest for number in self.numbers)
        return has_numbers and self.signs <= Counter(text.signs)


class _Found(NamedTuple):
    text: int
    question: int
    method: Method
    score: float


class LeakIndex:
    """The questions of benchmarks, to be looked for in any number of texts.

    `common` are the `common_sentences` of the training set; those of each benchmark are found here.
    """

    def __init__(
        self,
        held_out: Iterable[HeldOut],
        *,
        common: frozenset[str] = frozenset(),
        numbers: Literal["count", "words"] = "count",
        contained: float = CONTAINED,
        n_gram: int = N_GRAM,
    ) -> None:
        self.numbers: Literal["count", "words"] = numbers
        self.contained = contained
        self.n_gram = n_gram
        self.questions = _read_questions(list(held_out), common)
        self.equal: dict[str, list[int]] = {}
        shingles: list[set[int]] = []
        runs: list[set[int]] = []
        for number, question in enumerate(self.questions):
            for form in question_forms(question.held_out.question):
                self.equal.setdefault(form, []).append(number)
            shingles.append(set())
            runs.append(set())
            for words in question.runs:
                if not question.is_short:
                    shingles[-1].update(shingles_of(words))
                if not question.must_hold:
                    runs[-1].update(runs_of(words, n_gram))
        self.sizes = np.array([len(values) for values in shingles], np.int64)
        self.shingles = _Postings(shingles)
        self.runs = _Postings(runs)

    def search(self, texts: Iterable[Text]) -> Iterator[tuple[Text, tuple[Leak, ...]]]:
        """Each text in its order with what it holds, of each benchmark the five best at most."""
        for batch in shingled(texts, numbers="words", long_run=self.n_gram):
            found: dict[int, list[_Found]] = {}
            for pair in self._pairs(batch):
                found.setdefault(pair.text, []).append(pair)
            for number, text in enumerate(batch.texts):
                yield text, tuple(self._leaks(text, found.get(number, [])))

    def _pairs(self, batch: Batch) -> Iterator[_Found]:
        """All pairs that one of the three ways finds, each once."""
        seen: set[tuple[int, int]] = set()
        for number, text in enumerate(batch.texts):
            for question in self.equal.get(normalise_question(text.text), []):
                seen.add((number, question))
                yield _Found(number, question, "equal", 1.0)
        texts, questions, counts = self.shingles.shared(batch.values, batch.starts, batch.ends)
        scores = counts / self.sizes[questions]
        near = np.flatnonzero(scores >= self.contained)
        run_texts, run_questions, _ = self.runs.shared(
            batch.long_runs, batch.run_starts, batch.run_ends
        )
        run_scores = _scores_of(run_texts, run_questions, texts, questions, scores)
        found = [
            *_founds(texts[near], questions[near], "near", scores[near]),
            *_founds(run_texts, run_questions, "run", run_scores),
        ]
        for pair in found:
            if (pair.text, pair.question) not in seen:
                seen.add((pair.text, pair.question))
                yield pair

    def _leaks(self, text: Text, found: list[_Found]) -> Iterator[Leak]:
        if not found:
            return
        words = read(text.text)
        given: Counter[str] = Counter()
        judged = (self._judged(text, words, pair) for pair in found)
        leaks = list(chain.from_iterable(judged))
        leaks.sort(key=lambda leak: (leak.kind, -leak.score, leak.benchmark, leak.question_id))
        for leak in leaks:
            given[leak.benchmark] += 1
            if given[leak.benchmark] <= _MOST_PAIRS:
                yield leak

    def _judged(self, text: Text, words: Read, pair: _Found) -> Iterator[Leak]:
        question = self.questions[pair.question]
        is_equal = pair.method == "equal"
        if not is_equal and not question.is_told_by(words):
            return
        kind: Literal["leak", "look_alike"] = "leak"
        if self.numbers == "count" and not is_equal and not question.counts_in(words):
            kind = "look_alike"
        yield Leak(
            id=text.id,
            benchmark=question.held_out.benchmark,
            question_id=question.held_out.id,
            kind=kind,
            method=pair.method,
            score=round(pair.score, 4),
            text=masked(text.text)[:_MOST_SHOWN],
            question=masked(question.held_out.question)[:_MOST_SHOWN],
        )


def _read_questions(held_out: Sequence[HeldOut], common: frozenset[str]) -> list[_Question]:
    by_benchmark: dict[str, list[str]] = {}
    for item in held_out:
        by_benchmark.setdefault(item.benchmark, []).append(item.question)
    masks = {
        benchmark: _Mask(common | common_sentences(questions))
        for benchmark, questions in by_benchmark.items()
    }
    return [_read_question(item, masks[item.benchmark]) for item in held_out]


class _Mask:
    """What of a sentence is instruction."""

    def __init__(self, keys: frozenset[str]) -> None:
        self.keys = keys
        self.shingles: set[int] = set()
        for key in keys:
            self.shingles.update(shingles_of(key.split(" ")))

    def runs(self, sentence: Read) -> list[tuple[str, ...]]:
        """Its words that are content, in runs."""
        if sentence_key(sentence) in self.keys:
            return []
        is_masked = [False] * len(sentence.words)
        for place, shingle in enumerate(shingles_of(sentence.words)):
            if shingle in self.shingles:
                is_masked[place : place + SHINGLE_WORDS] = [True] * SHINGLE_WORDS
        runs: list[tuple[str, ...]] = []
        pairs = zip(sentence.words, is_masked, strict=True)
        for is_instruction, group in groupby(pairs, key=lambda pair: pair[1]):
            if not is_instruction:
                runs.append(tuple(word for word, _ in group))
        return runs


def _read_question(item: HeldOut, mask: _Mask) -> _Question:
    parts = sentences(item.question)
    runs: list[list[str]] = [[]]
    signs: Counter[str] = Counter()
    for part in parts:
        content = mask.runs(part)
        if content:
            signs.update(part.signs)
        if content != [part.words]:
            runs.append([])
        for run in content:
            runs[-1] += run
            if content != [part.words]:
                runs.append([])
    runs = [run for run in runs if run]
    must_hold: list[tuple[str, ...]] = []
    whole = list(chain.from_iterable(part.words for part in parts))
    if sum(map(len, runs)) < _LEAST_WORDS:
        # Hardly anything is left of it: it is looked for with its instructions, and what is left
        # must stand there.
        if runs != [whole]:
            must_hold = [tuple(run) for run in runs]
        runs = [whole]
        signs = Counter(chain.from_iterable(part.signs for part in parts))
    numbers = tuple(filter(is_quantity, chain.from_iterable(runs)))
    count = sum(map(len, runs))
    return _Question(
        held_out=item,
        runs=runs,
        must_hold=must_hold,
        numbers=numbers,
        signs=signs,
        is_short=count < _LEAST_WORDS or (count < N_GRAM and not numbers),
    )


class _Postings:
    """Which questions have a value."""

    def __init__(self, values: Sequence[set[int]]) -> None:
        pairs: list[tuple[int, int]] = []
        for number, of in enumerate(values):
            pairs += [(value, number) for value in of]
        pairs.sort()
        every = np.array([value for value, _ in pairs], np.uint64)
        self.questions = np.array([number for _, number in pairs], np.int64)
        self.count = max(1, len(values))
        self.values, self.starts = np.unique(every, return_index=True)
        self.ends = np.append(self.starts[1:], len(every)).astype(np.int64)

    def shared(
        self, values: NDArray[np.unsignedinteger], starts: Places, ends: Places
    ) -> tuple[Places, Places, Places]:
        """Texts, questions, and how many values both have, in the order of texts and questions."""
        owners = np.repeat(np.arange(len(starts)), ends - starts)
        if not len(self.values) or not len(values):
            return owners[:0], owners[:0], owners[:0]
        values = values.astype(np.uint64)
        places = np.minimum(np.searchsorted(self.values, values), len(self.values) - 1)
        is_known = self.values[places] == values
        owners, places = owners[is_known], places[is_known]
        keys, counts = [owners[:0]], [owners[:0]]
        sizes = self.ends[places] - self.starts[places]
        for some in slices(sizes, most=_AT_ONCE):
            spread = spans(self.starts[places[some]], sizes[some])
            pairs = np.repeat(owners[some], sizes[some]) * self.count + self.questions[spread]
            found, times = np.unique(pairs, return_counts=True)
            keys.append(found)
            counts.append(times)
        found, whose = np.unique(np.concatenate(keys), return_inverse=True)
        totals = np.zeros(len(found), np.int64)
        np.add.at(totals, whose, np.concatenate(counts))
        return found // self.count, found % self.count, totals


def _scores_of(
    texts: Places,
    questions: Places,
    scored_texts: Places,
    scored_questions: Places,
    scores: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The scores of some pairs, looked up among those that are scored; 0 where they are not."""
    if not len(scores):
        return np.zeros(len(texts))
    most = 1 + max(int(questions.max(initial=0)), int(scored_questions.max()))
    known = scored_texts * most + scored_questions
    wanted = texts * most + questions
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[places] == wanted, scores[places], 0.0)


def _founds(
    texts: Places, questions: Places, method: Method, scores: NDArray[np.float64]
) -> Iterator[_Found]:
    for text, question, score in zip(texts, questions, scores, strict=True):
        yield _Found(int(text), int(question), method, float(score))


def leaks_as_markdown(benchmark: str, leaks: Iterable[Leak]) -> Iterator[str]:
    """The pairs of a benchmark side by side, as lines of Markdown."""
    yield f"### {inline(benchmark)}"
    yield ""
    yield "| kind | method | score | text for training | question of the benchmark |"
    yield "|---|---|---|---|---|"
    for leak in leaks:
        if leak.benchmark == benchmark:
            cells = (leak.kind, leak.method, f"{leak.score:.2f}", leak.text, leak.question)
            yield f"| {' | '.join(map(inline, cells))} |"
