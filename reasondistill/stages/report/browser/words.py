"""Which words stand in which documents: an index of all texts that is searched without them.

    index = WordIndex(folder)
    index.add(7, "So \\\\frac{1}{2} of it.")      # so, frac, 1, 2, of, it
    for word, documents in index.merged(): ...    # by word; ("frac", [7, 12])

Memory is bounded: what was gathered is sorted and set down in a file now and then, and these files
are merged in the end.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory


def _letters() -> str:
    """Letters, their marks and digits as the inside of a class, but for the signs that are words by
    themselves. A range may pass over places where Unicode has nothing.
    """
    ranges: list[list[str]] = []
    goes_on = False
    for number in range(0x10000):
        sign = chr(number)
        category = unicodedata.category(sign)
        if category == "Cn":
            continue
        is_letter = category[0] in "LM" or category == "Nd"
        if is_letter and not _IS_SINGLE.match(sign):
            if not goes_on:
                ranges.append([sign, sign])
            ranges[-1][1] = sign
            goes_on = True
        else:
            goes_on = False
    return "".join(f"{first}-{last}" for first, last in ranges)


# The page is told of the same classes (searching.js). A sign of Chinese, of Japanese syllables, of
# Thai, Lao, Burmese and Khmer is a word by itself: nobody writes spaces there. Signs beyond U+FFFF
# are no words: JavaScript sees two halves.
SINGLE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_IS_SINGLE = re.compile(f"[{SINGLE}]")
LETTERS = _letters()
_WORD = re.compile(f"[{SINGLE}]|[{LETTERS}]+")
# A longer word is found by its beginning.
LONGEST = 40
# Pairs of word and document that are in memory: about 100 MB with their words.
_MOST_PAIRS = 3_000_000


def words_of(text: str) -> set[str]:
    """The words of a text, in small letters."""
    return {word[:LONGEST] for word in _WORD.findall(text.lower())}


def place(word: str) -> bytes:
    """What words are sorted by: as JavaScript compares texts."""
    return word.encode("utf-16-be", "surrogatepass")


class WordIndex:
    """Gathers words; a document's number is never below an earlier one's."""

    def __init__(self) -> None:
        self._files = TemporaryDirectory(prefix="reasondistill-words-")
        self._runs: list[Path] = []
        self._found: dict[str, array[int]] = {}
        self._pairs = 0

    def add(self, document: int, text: str) -> None:
        words = words_of(text)
        for word in words:
            documents = self._found.get(word)
            if documents is None:
                self._found[word] = array("I", [document])
            else:
                documents.append(document)
        self._pairs += len(words)
        if self._pairs >= _MOST_PAIRS:
            self._set_down()

    def merged(self) -> Iterator[tuple[str, list[int]]]:
        """Every word with its documents, each once, in order."""
        sources: list[Iterable[tuple[bytes, str, list[int]]]] = [self._sorted()]
        sources += [_read(path) for path in self._runs]
        # Earlier documents come first: files in their order, what is in memory last.
        everything = heapq.merge(*sources[1:], sources[0], key=lambda entry: entry[0])
        for _, entries in groupby(everything, key=lambda entry: entry[0]):
            words, documents = set[str](), list[int]()
            for _, word, more in entries:
                words.add(word)
                documents += more
            yield words.pop(), documents

    def close(self) -> None:
        self._files.cleanup()

    def _sorted(self) -> Iterator[tuple[bytes, str, list[int]]]:
        for word in sorted(self._found, key=place):
            yield place(word), word, self._found[word].tolist()

    def _set_down(self) -> None:
        path = Path(self._files.name) / f"{len(self._runs)}.txt"
        with path.open("w", encoding="utf-8") as file:
            for _, word, documents in self._sorted():
                numbers = " ".join(map(str, documents))
                file.write(f"{word} {numbers}\n")
        self._runs.append(path)
        self._found, self._pairs = {}, 0


def _read(path: Path) -> Iterator[tuple[bytes, str, list[int]]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            word, *numbers = line.rstrip("\n").split(" ")
            yield place(word), word, list(map(int, numbers))
