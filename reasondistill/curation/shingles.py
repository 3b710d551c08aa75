"""Runs of words as numbers: many texts at once, the same numbers in every process and on every
machine.

    for batch in shingled(texts):
        batch.values[batch.starts[0] : batch.ends[0]]   # the 5-grams of the first text, each once

A shingle is 32 bits of a hash of some words in a row: two different ones of a pair of texts are
taken for the same once in four billion. A text of fewer words is one shingle, an empty one none.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reasondistill.curation.words import meaning, tokens
from reasondistill.hashing import stable_digest

Words32 = NDArray[np.uint32]
Words64 = NDArray[np.uint64]
Places = NDArray[np.int64]

# What numbers are when two texts are compared. "count": texts with other numbers, or other signs
# between them, are different, however many words they share. "words": a number is a word like any
# other. "ignored": any number is like any other, so all problems of a template are the same.
Numbers = Literal["count", "words", "ignored"]

SHINGLE_WORDS = 5

# Tokens of a batch: large enough for numpy, small enough for the cache of a processor.
_BATCH_TOKENS = 1 << 16
_MOST_KNOWN_PIECES = 1 << 19
# Of the pieces of single texts, which are kept as long as the process lives.
_MOST_KEPT_PIECES = 1 << 16
_PADDING = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Text:
    """A text to be compared. Only texts of one group are compared with each other: the traces of a
    problem, say.
    """

    id: str
    text: str
    group: str = ""


@dataclass(frozen=True)
class Batch:
    """Some texts. Those of text i are `values[starts[i]:ends[i]]`, in ascending order, and
    `long_runs[run_starts[i]:run_ends[i]]`, in the order of the text.

    Texts with another `guard` are different whatever they share.
    """

    texts: list[Text]
    guards: Words64
    values: Words32
    starts: Places
    ends: Places
    long_runs: Words64
    run_starts: Places
    run_ends: Places


class _Pieces(dict[str, int]):
    """The number of each piece of text that was met; `words`, `numbers` and `signs` are hashes by
    this number, 0 where a piece counts for nothing.
    """

    def __init__(self, numbers: Numbers) -> None:
        super().__init__()
        self.rule: Numbers = numbers
        self.words, self.numbers, self.signs = array("Q"), array("Q"), array("Q")

    def __missing__(self, piece: str) -> int:
        token = meaning(piece)
        word = token.word
        if token.number and self.rule == "ignored":
            word = "0"
        self.words.append(hashed(word))
        self.numbers.append(hashed(token.number))
        self.signs.append(hashed(token.sign))
        self[piece] = len(self)
        return len(self) - 1

    def forget(self) -> None:
        self.clear()
        self.words, self.numbers, self.signs = array("Q"), array("Q"), array("Q")


def shingled(
    texts: Iterable[Text],
    *,
    numbers: Numbers = "count",
    words: int = SHINGLE_WORDS,
    long_run: int | None = None,
) -> Iterator[Batch]:
    """The texts in their order, some at a time. A shingle has so many `words`; `long_run` asks for
    the runs of so many words too.
    """
    pieces = _Pieces(numbers)
    read = array("q")
    counts: list[int] = []
    batch: list[Text] = []
    for text in texts:
        before = len(read)
        read.extend(map(pieces.__getitem__, tokens(text.text)))
        counts.append(len(read) - before)
        batch.append(text)
        if len(read) >= _BATCH_TOKENS or len(batch) >= _BATCH_TOKENS:
            yield _batch(batch, read, counts, pieces, words, long_run)
            read, counts, batch = array("q"), [], []
            if len(pieces) > _MOST_KNOWN_PIECES:
                pieces.forget()
    if batch:
        yield _batch(batch, read, counts, pieces, words, long_run)


def shingled_one(text: str, *, numbers: Numbers = "count", words: int = SHINGLE_WORDS) -> Batch:
    """A batch of this text alone: what its words are is remembered from one text to the next."""
    pieces = _kept_pieces(numbers)
    if len(pieces) > _MOST_KEPT_PIECES:
        pieces.forget()
    read = array("q", map(pieces.__getitem__, tokens(text)))
    return _batch([Text("", text)], read, [len(read)], pieces, words, None)


@lru_cache(maxsize=3)
def _kept_pieces(numbers: Numbers) -> _Pieces:
    return _Pieces(numbers)


def runs_of(words: Iterable[str], size: int) -> list[int]:
    """The hashes of the runs of `size` words, as `long_runs` has them."""
    hashes = np.array([hashed(word) for word in words], np.uint64)
    if len(hashes) < size:
        return []
    return mixed(_combined(hashes, size)).tolist()


def shingles_of(words: Iterable[str]) -> list[int]:
    """The shingles of five words, as `values` has them, in the order of the text."""
    return [value >> 32 for value in runs_of(words, SHINGLE_WORDS)]


def _batch(
    texts: list[Text],
    read: array[int],
    counts: list[int],
    pieces: _Pieces,
    size: int,
    long_run: int | None,
) -> Batch:
    places = np.frombuffer(read, np.int64)
    owners = np.repeat(np.arange(len(texts)), counts)
    guards = np.zeros(len(texts), np.uint64)
    if pieces.rule == "count":
        guards = _in_order(_looked_up(pieces.numbers, places), owners, len(texts))
    if pieces.rule != "words":
        signs = mixed(_looked_up(pieces.signs, places))
        guards += summed(signs, owners, len(texts))
    words = _looked_up(pieces.words, places)
    has_word = words != 0
    words, owners = words[has_word], owners[has_word]
    sizes = np.bincount(owners, minlength=len(texts))
    values, starts, ends = _distinct(*_padded(words, sizes, size), len(texts))
    long_runs, run_starts, run_ends = np.zeros(0, np.uint64), starts, ends
    if long_run is not None:
        long_runs, run_owners = _runs(words, sizes, long_run)
        run_ends = np.cumsum(np.bincount(run_owners, minlength=len(texts)))
        run_starts = np.concatenate([[0], run_ends[:-1]])
    return Batch(texts, guards, values, starts, ends, long_runs, run_starts, run_ends)


def _looked_up(hashes: array[int], places: Places) -> Words64:
    return np.frombuffer(hashes, np.uint64)[places] if len(places) else np.zeros(0, np.uint64)


@lru_cache(maxsize=1 << 16)
def hashed(text: str) -> int:
    """64 bits, never 0 for a text, and 0 for none."""
    if not text:
        return 0
    return int.from_bytes(stable_digest(text)[:8], "little") | 1


def mixed(values: Words64) -> Words64:
    """Each bit of a value shows in each bit of what comes out; 0 stays 0. (SplitMix64's end, Steele
    et al. 2014.)
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=64)
def factors(count: int, *, seed: int) -> Words64:
    """Odd numbers that look random, the same everywhere. They cannot be written to."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * _PADDING + np.uint64(seed)
    odd = mixed(steps) | np.uint64(1)
    odd.flags.writeable = False
    return odd


def _combined(words: Words64, size: int) -> Words64:
    """One value for each run of `size` words, whatever text they are in."""
    count = len(words) - size + 1
    total = np.zeros(count, np.uint64)
    for place, factor in enumerate(factors(size, seed=1)):
        total += words[place : place + count] * factor
    return total


def summed(values: Words64, owners: Places, count: int) -> Words64:
    """The sum of each owner's values, modulo 2^64."""
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)])
    ends = np.cumsum(np.bincount(owners, minlength=count))
    starts = np.concatenate([[0], ends[:-1]])
    return sums[ends] - sums[starts]


def _in_order(values: Words64, owners: Places, count: int) -> Words64:
    """A hash of each owner's values that are not 0, in their order."""
    counts = values != 0
    values, owners = values[counts], owners[counts]
    sizes = np.bincount(owners, minlength=count)
    ranks = np.arange(len(values)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return summed(mixed(mixed(values) + ranks.astype(np.uint64) * _PADDING), owners, count)


def _padded(words: Words64, sizes: Places, size: int) -> tuple[Words64, Places]:
    """The shingles of each text and whose they are; a short text is filled up to one shingle."""
    is_short = (sizes > 0) & (sizes < size)
    if is_short.any():
        full = np.where(is_short, size, sizes)
        moved = (np.cumsum(full) - full) - (np.cumsum(sizes) - sizes)
        filled = np.full(full.sum(), _PADDING, np.uint64)
        filled[np.arange(len(words)) + np.repeat(moved, sizes)] = words
        words, sizes = filled, full
    return _runs(words, sizes, size)


def _runs(words: Words64, sizes: Places, size: int) -> tuple[Words64, Places]:
    """The runs of `size` words that lie in one text, and whose they are."""
    owners = np.repeat(np.arange(len(sizes)), sizes)
    if len(words) < size:
        return np.zeros(0, np.uint64), owners[:0]
    lies_in_one = owners[: len(words) - size + 1] == owners[size - 1 :]
    return mixed(_combined(words, size)[lies_in_one]), owners[: len(lies_in_one)][lies_in_one]


def _distinct(hashes: Words64, owners: Places, count: int) -> tuple[Words32, Places, Places]:
    """Each text's shingles once, in ascending order, with the places where they start and end."""
    keys = owners.astype(np.uint64) << np.uint64(32) | hashes >> np.uint64(32)
    # Sorted by hand: np.unique hashes first, which takes three times as long.
    keys.sort()
    keys = keys[np.diff(keys, prepend=~keys[:1]) != 0]
    values = keys.astype(np.uint32)
    texts = (keys >> np.uint64(32)).astype(np.int64)
    ends = np.cumsum(np.bincount(texts, minlength=count))
    starts = np.concatenate([[0], ends[:-1]])
    return values, starts, ends


def spans(starts: Places, sizes: Places) -> Places:
    """The places from each start on, as many as its size says, one span behind the other."""
    before = np.cumsum(sizes) - sizes
    return np.arange(sizes.sum()) + np.repeat(starts - before, sizes)


def slices(sizes: Places, *, most: int) -> Iterator[slice]:
    """Neighbours whose sizes add up to `most` or less, or a single larger one."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = ends[start] - sizes[start]
        end = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield slice(start, end)
        start = end
