"""Texts that are all but the same, found among millions without comparing each with each.

    texts = (Text(problem.id, problem.question) for problem in problems)
    for found in near_duplicates(texts):
        found.id, found.of, found.similarity       # "set/train/7", "set/train/2", 0.91

Two texts are near-duplicates when the Jaccard similarity of their word 5-grams is at least 0.8, and
their numbers and signs are the same ones in the same order (`numbers="words"` and `"ignored"` ask
otherwise). Such pairs are joined to clusters, whose first text, in the order of the file, stays.

That is strict for short texts: a word that is changed in the middle of 50 leaves 0.8, of 30 leaves
0.68. `words=3, threshold=0.7` finds nine of ten such problems, and, since numbers count, joined no
two different ones of five public sets (`eval/FINDINGS.md`).

Candidates come from MinHash with banding (Broder 1997; Leskovec et al., Mining of Massive Datasets,
chapter 3): 16 bands of 6 hashes find a pair of similarity 0.8 with probability 0.992, one of 0.85
with 0.9995, one of 0.5 with 0.22. Each candidate is then compared exactly, on all its shingles:
nothing below the threshold is ever joined, but for hashes that are equal by chance
(`curation/shingles.py`). What comes out is a function of the texts and their order alone.

Memory is below 1 KB a text, however long; the shingles wait in a file (4 bytes a word). Equal
texts are found first and count as one. A bucket of very many texts that are not alike is compared
in part, which is said in the log.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasondistill.curation.shingles import (
    SHINGLE_WORDS,
    Batch,
    Numbers,
    Places,
    Text,
    Words32,
    Words64,
    factors,
    hashed,
    mixed,
    shingled,
    slices,
    spans,
    summed,
)
from reasondistill.errors import ConfigError
from reasondistill.records import NearDuplicate

THRESHOLD = 0.8
RECALL = 0.99

MOST_HASHES = 128
_MOST_IN_A_BAND = 12
# Of a bucket, so many texts are compared with all others; the time for n texts that were made to
# meet in all buckets stays linear in n.
MOST_COMPARED = 1_000
# A candidate whose signature says that it is this many standard deviations below is not read.
_DEVIATIONS = 3.3
_AT_ONCE = 1 << 18

logger = logging.getLogger(__name__)


class Banding(NamedTuple):
    """`bands` times `rows` hashes: texts are compared when all rows of one band agree."""

    bands: int
    rows: int

    @property
    def hashes(self) -> int:
        """All of them."""
        return self.bands * self.rows

    def probability(self, similarity: float) -> float:
        """That a pair of this Jaccard similarity is compared: 1 − (1 − sʳ)ᵇ."""
        return 1 - (1 - similarity**self.rows) ** self.bands


def banding(threshold: float, *, recall: float = RECALL) -> Banding:
    """The most selective banding of at most MOST_HASHES hashes that compares a pair at the
    threshold with probability `recall`. Raises ConfigError where none does.

    >>> banding(0.8)
    Banding(bands=16, rows=6)
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"similarity = {threshold}: want a number above 0 and at most 1.")
    if not 0 < recall < 1:
        raise ConfigError(f"recall = {recall}: want a number between 0 and 1.")
    for rows in range(_MOST_IN_A_BAND, 0, -1):
        agreeing = threshold**rows
        bands = 1
        if agreeing < 1:
            bands = math.ceil(math.log(1 - recall) / math.log1p(-agreeing))
        if bands * rows <= MOST_HASHES:
            return Banding(bands, rows)
    raise ConfigError(
        f"similarity = {threshold}: {MOST_HASHES} hashes do not find {recall:.1%} of such pairs. "
        "Want a larger one."
    )


def near_duplicates(
    texts: Iterable[Text],
    *,
    threshold: float = THRESHOLD,
    words: int = SHINGLE_WORDS,
    numbers: Numbers = "count",
    recall: float = RECALL,
    folder: Path | None = None,
) -> Iterator[NearDuplicate]:
    """Each text that is all but the same as an earlier one, in the order of the texts.

    `words` is the length of a shingle. `folder` takes the file of shingles, which has no name and
    goes with the process. Raises ConfigError for a threshold that cannot be had.
    """
    plan = banding(threshold, recall=recall)
    with tempfile.TemporaryFile(dir=folder) as file:
        batches = shingled(texts, numbers=numbers, words=words)
        read = _read(batches, plan, file)
        linked = _Linking(read, threshold, plan)
        linked.join_equal()
        linked.join_similar()
        yield from linked.found()


@dataclass
class _ReadTexts:
    """What is kept of the texts. `kinds`: texts of another kind (group, numbers, signs) are never
    compared. The shingles of text i are `values[starts[i]:starts[i + 1]]`.
    """

    ids: list[str]
    kinds: Words64
    equal: Words64
    signatures: NDArray[np.uint8]
    bands: list[Words64]
    starts: Places
    values: Words32


def _read(batches: Iterable[Batch], plan: Banding, file: BinaryIO) -> _ReadTexts:
    ids: list[str] = []
    kinds: list[Words64] = []
    equal: list[Words64] = []
    signatures: list[NDArray[np.uint8]] = []
    bands: list[list[Words64]] = [[] for _ in range(plan.bands)]
    sizes: list[Places] = [np.zeros(1, np.int64)]
    for batch in batches:
        ids += [text.id for text in batch.texts]
        groups = np.array([hashed(text.group) for text in batch.texts], np.uint64)
        kind = mixed(batch.guards + mixed(groups))
        kinds.append(kind)
        equal.append(mixed(_content(batch) + kind))
        signature = _signatures(batch, plan.hashes)
        # Of each hash 8 bits are enough to say how much two texts have in common.
        signatures.append(signature.astype(np.uint8).T.copy())
        for band, keys in enumerate(bands):
            keys.append(_band(signature[band * plan.rows :][: plan.rows], kind))
        sizes.append(batch.ends - batch.starts)
        file.write(batch.values.tobytes())
    file.flush()
    starts = np.cumsum(np.concatenate(sizes))
    values = np.zeros(0, np.uint32)
    if starts[-1]:
        values = np.asarray(np.memmap(file, np.uint32, "r"))
    none = np.zeros(0, np.uint64)
    return _ReadTexts(
        ids=ids,
        kinds=np.concatenate([none, *kinds]),
        equal=np.concatenate([none, *equal]),
        signatures=np.concatenate([np.zeros((0, plan.hashes), np.uint8), *signatures]),
        bands=[np.concatenate([none, *keys]) for keys in bands],
        starts=starts,
        values=values,
    )


def _content(batch: Batch) -> Words64:
    """The same for equal sets of shingles."""
    owners = np.repeat(np.arange(len(batch.texts)), batch.ends - batch.starts)
    values = mixed(batch.values.astype(np.uint64) + np.uint64(1))
    return summed(values, owners, len(batch.texts))


def _signatures(batch: Batch, hashes: int) -> Words32:
    """MinHash: the smallest of each text's shingles under each of the hashes, (hashes, texts).

    The shingles look random already: an odd factor modulo 2^32 puts them in another order.
    """
    is_any = batch.ends > batch.starts
    least = np.zeros((hashes, len(batch.texts)), np.uint32)
    if not is_any.any():
        return least
    starts = batch.starts[is_any]
    permuted = np.empty_like(batch.values)
    for row, factor in enumerate((factors(hashes, seed=2) >> np.uint64(31)).astype(np.uint32)):
        np.multiply(batch.values, factor | np.uint32(1), out=permuted)
        least[row, is_any] = np.minimum.reduceat(permuted, starts)
    return least


def _band(rows: Words32, kinds: Words64) -> Words64:
    """One key for the rows of a band and the kind."""
    total = kinds.copy()
    for row, factor in zip(rows, factors(len(rows), seed=3), strict=True):
        total += mixed(row.astype(np.uint64) + np.uint64(1)) * factor
    return mixed(total)


class _Linking:
    """Joins texts to clusters (union-find). The root of a cluster is its first text."""

    def __init__(self, read: _ReadTexts, threshold: float, plan: Banding) -> None:
        self.read = read
        self.threshold = threshold
        self.parents = np.arange(len(read.ids))
        self.sizes = np.diff(read.starts)
        spread = math.sqrt(plan.hashes * threshold * (1 - threshold))
        self.agreeing = plan.hashes * threshold - _DEVIATIONS * spread
        self.left_out = 0

    def join_equal(self) -> None:
        """A million equal texts are one from here on."""
        whole = np.flatnonzero(self.sizes)
        for same in _buckets(self.read.equal, whole):
            others = same[1:]
            is_equal = self.similarities(same[0], others) == 1
            self.parents[others[is_equal]] = same[0]

    def join_similar(self) -> None:
        """Compare what meets in a bucket."""
        # One shingle more or less is too much for small sets: only equal ones are near-duplicates.
        can_differ = self.sizes / (self.sizes + 1) >= self.threshold
        is_first = self.parents == np.arange(len(self.parents))
        compared = np.flatnonzero(can_differ & is_first)
        for keys in self.read.bands:
            for bucket in _buckets(keys, compared, apart=self.roots(compared)):
                self.join_bucket(bucket)
        if self.left_out:
            logger.warning(
                "near-duplicates: %d texts met in crowds of more than %d that are not alike, and "
                "were not compared with all of them",
                self.left_out,
                MOST_COMPARED,
            )

    def join_bucket(self, bucket: Places) -> None:
        """Compare all pairs that are not in one cluster yet."""
        for place, head in enumerate(bucket[:-1]):
            roots = self.roots(bucket)
            if (roots == roots[0]).all():
                return
            if place == MOST_COMPARED:
                self.left_out += len(bucket) - place
                return
            later = bucket[place + 1 :]
            apart = later[roots[place + 1 :] != roots[place]]
            apart = self.promising(head, apart)
            is_similar = self.similarities(head, apart) >= self.threshold
            for other in apart[is_similar]:
                self.join(int(head), int(other))

    def promising(self, one: int, others: Places) -> Places:
        """Those whose signatures agree often enough, and that are of the same kind and size."""
        small = np.minimum(self.sizes[others], self.sizes[one])
        large = np.maximum(self.sizes[others], self.sizes[one])
        may_be = (small >= self.threshold * large - 1e-6) & (
            self.read.kinds[others] == self.read.kinds[one]
        )
        others = others[may_be]
        kept: list[Places] = [others[:0]]
        for start in range(0, len(others), _AT_ONCE):
            some = others[start : start + _AT_ONCE]
            agreeing = (self.read.signatures[some] == self.read.signatures[one]).sum(1)
            kept.append(some[agreeing >= self.agreeing])
        return np.concatenate(kept)

    def similarities(self, one: int, others: Places) -> NDArray[np.float64]:
        """The exact Jaccard similarities of a text with others."""
        found = np.zeros(len(others))
        for some in slices(self.sizes[others], most=_AT_ONCE):
            found[some] = self._similarities(one, others[some])
        return found

    def _similarities(self, one: int, others: Places) -> NDArray[np.float64]:
        starts, values = self.read.starts, self.read.values
        mine = values[starts[one] : starts[one + 1]]
        sizes = self.sizes[others]
        owners = np.repeat(np.arange(len(others)), sizes)
        theirs = values[spans(starts[others], sizes)]
        places = np.minimum(np.searchsorted(mine, theirs), len(mine) - 1)
        shared = np.bincount(owners[mine[places] == theirs], minlength=len(others))
        return shared / (sizes + len(mine) - shared)

    def roots(self, texts: Places) -> Places:
        """The first texts of their clusters."""
        roots = self.parents[texts]
        while True:
            above = self.parents[roots]
            if (above == roots).all():
                self.parents[texts] = roots
                return roots
            roots = above

    def join(self, one: int, other: int) -> None:
        first, second = sorted(self.roots(np.array([one, other])))
        self.parents[second] = first

    def found(self) -> Iterator[NearDuplicate]:
        """What was found, in the order of the texts."""
        roots = self.roots(np.arange(len(self.parents)))
        similarity = np.ones(len(roots))
        joined = np.flatnonzero(roots != np.arange(len(roots)))
        for members in _buckets(roots.astype(np.uint64), joined, least=1):
            similarity[members] = self.similarities(int(roots[members[0]]), members)
        ids = self.read.ids
        for place in joined.tolist():
            yield NearDuplicate(
                id=ids[place], of=ids[roots[place]], similarity=round(float(similarity[place]), 4)
            )


def _buckets(
    keys: Words64, places: Places, *, least: int = 2, apart: Places | None = None
) -> Iterator[Places]:
    """The places that have a key in common, ascending, `least` or more of them; with `apart`, which
    has a value for each place, only where two of these differ.
    """
    if not len(places):
        return
    sorting = np.argsort(keys[places], kind="stable")
    order = places[sorting]
    differs = np.flatnonzero(np.diff(keys[order])) + 1
    edges = np.concatenate([[0], differs, [len(order)]])
    is_wanted = np.diff(edges) >= least
    if apart is not None:
        smallest = np.minimum.reduceat(apart[sorting], edges[:-1])
        largest = np.maximum.reduceat(apart[sorting], edges[:-1])
        is_wanted &= smallest != largest
    for number in np.flatnonzero(is_wanted):
        yield order[edges[number] : edges[number + 1]]
