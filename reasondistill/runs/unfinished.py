"""Samples that were begun and are not finished, kept in a folder of traces while they are drawn.

    unfinished.jsonl    {"id":"gsm8k/train/12:3","key":"9f1c…","seconds":61.2,"continued_at":[],
                         "token_ids":[3838,374,…]}

    file = UnfinishedFile(folder)
    file.write(begun)                     every half minute, and when the stage stops
    read_begun([folder, *parts])          by the next session: what each sample goes on from

The file is written whole each time, atomically, and its lines are listed beside it as those of a
shard are, so that a damaged one is not gone on from. It is no part of a finished stage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic_core import to_json

from reasondistill.records import Begun
from reasondistill.runs import layout
from reasondistill.runs.store import (
    read_records,
    remove_with_list,
    rewrite_listed,
)
from reasondistill.secrets import holds_secret


@dataclass(frozen=True)
class Kept:
    """How many samples are begun and not finished, and how many tokens they have."""

    samples: int = 0
    tokens: int = 0

    def words(self) -> str:
        """`12 unfinished samples, 8,412 tokens`."""
        noun = "samples"
        if self.samples == 1:
            noun = "sample"
        return f"{self.samples:,} unfinished {noun}, {self.tokens:,} tokens"

    @classmethod
    def of(cls, begun: Iterable[Begun]) -> Kept:
        lengths = [len(one.token_ids) for one in begun]
        return cls(len(lengths), sum(lengths))


def read_begun(folders: Iterable[Path]) -> dict[str, Begun]:
    """What is begun in these folders, by the id of the sample; of several beginnings of one the
    furthest. Raises DataError for a line that is nothing of the kind.
    """
    begun: dict[str, Begun] = {}
    for folder in folders:
        path = folder / layout.UNFINISHED
        if not path.exists():
            continue
        for one in read_records(path, Begun):
            other = begun.get(one.id)
            if other is None or _far(one) > _far(other):
                begun[one.id] = one
    return begun


def _far(begun: Begun) -> tuple[int, int]:
    """A session went on from what the one before had kept."""
    return len(begun.continued_at), len(begun.token_ids)


# A secret that begins before what was looked through last is found, unless it is longer than this.
_LONGEST_SECRET = 8192


@dataclass
class _Known:
    """What was made of a sample so far: the ids of `count` tokens as JSON, without brackets, and
    how many characters of its text hold no secret.
    """

    count: int = 0
    ids: bytearray = field(default_factory=bytearray)
    clean: int = 0

    def is_clean(self, text: str) -> bool:
        """Whether no secret of the environment stands in the text, which only grows."""
        if holds_secret(text[max(0, self.clean - _LONGEST_SECRET) :]):
            return False
        self.clean = len(text)
        return True

    def add(self, token_ids: Sequence[int]) -> None:
        if not token_ids:
            return
        if self.ids:
            self.ids += b","
        self.ids += to_json(token_ids)[1:-1]
        self.count += len(token_ids)


class UnfinishedFile:
    """The file of one folder, and its one writer. Only what has come since the last `write` is
    looked through and made into text.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / layout.UNFINISHED
        # Between two places where it is continued a sample only grows.
        self._known: dict[tuple[str, tuple[int, ...]], _Known] = {}

    def write(self, begun: Iterable[Begun]) -> Kept:
        """Put these samples in the place of what was there; return what is kept. One in whose text
        a secret of the environment stands is left out. Raises StageError for an error of the disk.
        """
        before, self._known = self._known, {}
        kept: list[Begun] = []
        lines: list[bytes] = []
        for one in begun:
            name = one.id, one.continued_at
            known = before.get(name, _Known())
            if not known.is_clean(one.text):
                continue
            known.add(one.token_ids[known.count :])
            self._known[name] = known
            kept.append(one)
            lines.append(_line(one, known))
        if lines:
            rewrite_listed(self._path, lines)
        else:
            remove_with_list(self._path)
        return Kept.of(kept)


def _line(begun: Begun, known: _Known) -> bytes:
    """As `Begun.to_json`, of tokens that are text already."""
    head = begun.model_dump(mode="json", exclude={"token_ids"})
    text = json.dumps(head, separators=(",", ":"))
    return text[:-1].encode() + b',"token_ids":[' + known.ids + b"]}\n"


def remove_unfinished(folder: Path) -> None:
    """Forget what is begun in a folder."""
    remove_with_list(folder / layout.UNFINISHED)
