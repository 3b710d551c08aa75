"""Training rows on disk: tokenised once, memory-mapped, shared by the students of a run and by
trainings that are resumed. Imports datasets; imported late.

    store = RowStore(Path("tokens"))
    rows = store.keep(key, lambda: tokenise_each(examples, tokenizer, plain=False))
    rows[3].input_ids

A set of rows is one Arrow file, named by the fingerprint of whatever its tokens depend on, and
beside it the examples that did not become a row, and the sums of both. The folder can be deleted at
any time: the next training makes it again, as it does a set that is not what was written. Of any
number of rows only those in hand are in memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, overload

import datasets
import numpy as np
import pyarrow
import pyarrow.compute

from reasondistill.config import StudentSettings
from reasondistill.errors import StageError
from reasondistill.methods.texts import IGNORE
from reasondistill.models.tokenising import is_end_ordinary, rewrites_text
from reasondistill.records import Dropped, Split, fingerprint
from reasondistill.runs import layout
from reasondistill.runs.store import (
    StopSignal,
    fits_sums,
    read_records,
    replacing,
    write_records,
    write_sums,
)
from reasondistill.stages.students import processes
from reasondistill.stages.students.material import Material
from reasondistill.stages.students.tokens import Row, tokenise_each

log = logging.getLogger(__name__)

# Made when it is imported, which no checker of types sees.
_compute: Any = pyarrow.compute

# Raised when the same examples and tokenizer give other rows than before.
VERSION = 1
# The number of a row that fills a batch.
BLANK = -1
_SCHEMA = pyarrow.schema(
    [
        ("input_ids", pyarrow.list_(pyarrow.int32())),
        ("labels", pyarrow.list_(pyarrow.int32())),
        ("row", pyarrow.int64()),
        ("problem_id", pyarrow.string()),
        ("trace_id", pyarrow.string()),
    ]
)
# What a trainer reads of a row.
_TRAINED_ON = ["input_ids", "labels", "row"]
# Rows that are written at once, and seconds between two lines about it.
_AT_ONCE = 64
_REPORT_S = 15.0


class StoredRows(Sequence[Row]):
    """Rows in a memory-mapped file, and the examples that did not become one."""

    def __init__(self, dataset: datasets.Dataset, set_aside: Sequence[Dropped], key: str) -> None:
        self._dataset = dataset
        self.set_aside = set_aside
        self.key = key

    def __len__(self) -> int:
        return len(self._dataset)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        facts: Any = self._dataset[place]
        return Row(facts["input_ids"], facts["labels"], facts["problem_id"], facts["trace_id"])

    @property
    def dropped(self) -> dict[str, int]:
        """How many examples were set aside, by reason."""
        return dict(Counter(one.reason for one in self.set_aside))

    @cached_property
    def _lengths(self) -> list[int]:
        return lengths_of(self._dataset)

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(self._lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest row; 0 without any."""
        return max(self._lengths, default=0)

    @property
    def loss_tokens(self) -> int:
        """The tokens that have a label."""
        return sum(self.loss_tokens_of_each())

    def loss_tokens_of_each(self) -> Iterator[int]:
        """The tokens of each row that have a label, in their order."""
        for labels in _chunks(self._dataset, "labels"):
            is_learnt = _compute.not_equal(_compute.list_flatten(labels), IGNORE)
            learnt_before = np.concatenate([[0], np.cumsum(is_learnt.to_numpy(False))])
            lengths = _compute.list_value_length(labels).to_numpy(False)
            ends = np.concatenate([[0], np.cumsum(lengths)])
            yield from np.diff(learnt_before[ends]).tolist()

    def dataset(self, *, with_blank: bool = False) -> datasets.Dataset:
        """What a trainer reads of the rows, and after them perhaps one that has no labels."""
        trained_on: datasets.Dataset = self._dataset.select_columns(_TRAINED_ON)
        if not with_blank:
            return trained_on
        blank = {"input_ids": [[0, 0]], "labels": [[IGNORE, IGNORE]], "row": [BLANK]}
        last = datasets.Dataset.from_dict(blank, features=trained_on.features)
        return datasets.concatenate_datasets([trained_on, last])


@dataclass(frozen=True)
class RowStore:
    """A folder with sets of rows. `stop` is asked while one is written, which can take long."""

    folder: Path
    stop: StopSignal | None = None

    def keep(self, key: str, make: Callable[[], Iterable[Row | Dropped]]) -> StoredRows:
        """The set of rows of this key, made where it is not there; of several processes that train
        together the first one makes it.

        Raises Interrupted after a requested stop, StageError where the disk is full, and what
        `make` raises; then nothing is kept.
        """
        file = self.folder / f"{key}.arrow"
        beside = self.folder / f"{key}.{layout.SET_ASIDE}"
        sums = self.folder / f"{key}.{layout.CHECKPOINT_SUMS}"

        def fill() -> None:
            if file.exists() and fits_sums(sums):
                return
            with replacing(file) as stream:
                set_aside = _write_rows(stream, self._watched(make()))
                # First: the name of the rows' own file says that the set is whole.
                write_records(beside, set_aside)
            write_sums(sums, (file, beside))

        processes.on_first(fill)
        fill()  # on a node that has a disk of its own
        rows = datasets.Dataset.from_file(str(file))
        return StoredRows(rows, list(read_records(beside, Dropped)), key)

    def _watched(self, made: Iterable[Row | Dropped]) -> Iterator[Row | Dropped]:
        """The same; now and then a line says how far it is."""
        reported = time.monotonic()
        try:
            for count, one in enumerate(made):
                if self.stop is not None:
                    self.stop.check()
                if time.monotonic() - reported > _REPORT_S:
                    reported = time.monotonic()
                    log.info("%d examples tokenised", count)
                yield one
        except StageError:
            # A scheduler's signal ends the processes that tokenise too.
            if self.stop is not None:
                self.stop.check()
            raise


def stored_rows(
    student: StudentSettings, material: Material, tokenizer: Any, store: RowStore
) -> tuple[StoredRows, StoredRows]:
    """Rows to train a student on, and rows to validate it on. Raises StageError where there are
    none to train on.
    """
    how: dict[str, Any] = {"plain": material.plain, "max_length": student.max_length}
    content = material.content

    def rows_of(split: Split) -> StoredRows:
        key = rows_key(content, tokenizer, how | {"split": split})
        examples = material.split(split)
        make = partial(tokenise_each, examples, tokenizer, **how)
        return store.keep(key, make)

    training = rows_of("train")
    validation = rows_of("validation")
    if not training:
        reasons = ", ".join(f"{count} {reason}" for reason, count in training.dropped.items())
        raise StageError(
            f"{student.name}: no example can be trained on ({reasons}; max_length = "
            f"{student.max_length})."
        )
    return training, validation


def rows_key(content: str, tokenizer: Any, how: Mapping[str, Any]) -> str:
    """The key of the rows of examples with this content, by a tokenizer, tokenised as `how` says
    (tokenise_each's arguments, the split).
    """
    facts = {
        "version": VERSION,
        "examples": content,
        "tokenizer": _tokenizer_content(tokenizer),
        "how": dict(how),
        "libraries": [version("transformers"), version("tokenizers")],
    }
    if is_end_ordinary(tokenizer):
        facts["ends"] = "only behind a text"
    if not how.get("plain") and rewrites_text(tokenizer):
        facts["template"] = "makes no tokens of foreign text"
    return fingerprint(facts)


def _tokenizer_content(tokenizer: Any) -> str:
    """The fingerprint of whatever a tokenizer does to text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    settings: dict[str, str] = {}
    if backend is not None:
        rules: str = backend.to_str()
    else:
        rules = json.dumps(tokenizer.get_vocab(), sort_keys=True)
        settings = {name: str(value) for name, value in tokenizer.init_kwargs.items()}
        settings["class"] = type(tokenizer).__name__
    digest = hashlib.sha256(rules.encode("utf-8", "surrogatepass")).hexdigest()
    # A template may write these, and a tokenizer without rules of its own adds them.
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return fingerprint([digest, tokenizer.chat_template, tokenizer.eos_token_id, special, settings])


def lengths_of(dataset: datasets.Dataset) -> list[int]:
    """Tokens of each row of a dataset, in its order; no row is made a list of numbers."""
    lengths: list[int] = []
    for ids in _chunks(dataset, "input_ids"):
        lengths += _compute.list_value_length(ids).to_pylist()
    return lengths


def _chunks(dataset: datasets.Dataset, column: str) -> Iterator[Any]:
    """A column of a dataset, some rows at once."""
    tables: Any = dataset.select_columns([column]).with_format("arrow")
    for table in tables.iter(batch_size=_AT_ONCE):
        yield from table.column(column).chunks


def _write_rows(stream: BinaryIO, made: Iterable[Row | Dropped]) -> list[Dropped]:
    """Write the rows; return what is none."""
    set_aside: list[Dropped] = []

    def rows() -> Iterator[Row]:
        for one in made:
            if isinstance(one, Row):
                yield one
            else:
                set_aside.append(one)

    with pyarrow.ipc.new_stream(stream, _SCHEMA) as writer:
        start = 0
        left = rows()
        while some := list(islice(left, _AT_ONCE)):
            columns = {
                "input_ids": [row.input_ids for row in some],
                "labels": [row.labels for row in some],
                "row": list(range(start, start + len(some))),
                "problem_id": [row.problem_id for row in some],
                "trace_id": [row.trace_id for row in some],
            }
            writer.write_batch(pyarrow.RecordBatch.from_pydict(columns, schema=_SCHEMA))
            start += len(some)
    return set_aside
