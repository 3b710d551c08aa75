"""The traces of a data set by the problem that they are of.

    holding = Holding(problems)
    holding.fill(opened, read)           # one pass over the rows
    holding.count("sums/train/7"), holding.get("sums/train/7", 0)
    holding.left_out.words()            # no problem asks this: 3 (rows 5, 6)

A row's traces are those of the problem with the same question (`normalise_question`), else of the
one that was read from the same row of the same data set, if its question stands in what the row
asks, or the row asks it without its options, or says nothing of that. Without its options a
question of another row is none: many sets ask "Which of these is true?" of many options. And where
they are not asked with the question, the row must show them in the problem's order: shuffled ones
have other letters than the trace was written for. The traces wait in a temporary file, which is
gone with the process: of a trace only its place there is in memory.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reasondistill.bounds import ROWS
from reasondistill.curation.choices import shows_options, without_options
from reasondistill.curation.rows import OpenedRows, Row
from reasondistill.curation.words import normalise_question, question_forms
from reasondistill.errors import DataError
from reasondistill.hashing import stable_digest
from reasondistill.models.samplers.stored.texts import StoredRow, StoredText
from reasondistill.records import Problem, Published

# Bytes of texts that wait in memory; more of them wait on disk.
_IN_MEMORY = 64 << 20
# So many of those who wrote traces are counted by name.
_MOST_TEACHERS = 50
# So many rows are named of each reason.
_MOST_NAMED = 5
NO_PROBLEM, NO_QUESTION = "no problem asks this", "no question by which to know the problem"
NO_ORDER = "nobody knows the order of the options that its letters name"
NO_OPTIONS = "asks a question of multiple choice without its options"


@dataclass
class LeftOut:
    """Traces that no problem gets, by reason, and the first rows of each."""

    counts: Counter[str] = field(default_factory=Counter[str])
    rows: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    def add(self, reason: str, row: int, traces: int = 1) -> None:
        """Count these traces of a row."""
        self.counts[reason] += traces
        named = self.rows.setdefault(reason, [])
        if len(named) < _MOST_NAMED and row not in named:
            named.append(row)

    def words(self) -> str:
        """`no text: 2 (rows 4, 9); no problem asks this: 3 (row 5)`."""
        parts: list[str] = []
        for reason, count in self.counts.most_common():
            named = self.rows[reason]
            rows = "row" if len(named) == 1 else "rows"
            listed = ", ".join(map(str, named))
            if count > len(named):
                listed += ", …"
            parts.append(f"{reason}: {count:,} ({rows} {listed})")
        return "; ".join(parts)


class Holding:
    """What each of these problems has."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.left_out = LeftOut()
        self.rows = self.traces = self.matched = 0
        self.teachers: Counter[str] = Counter()
        self._origin: Mapping[str, str] = {}
        self._ids: list[str] = []
        self._places: dict[str, array[int]] = {}
        self._by_row: dict[tuple[str, str, str], dict[int, int]] = {}
        self._by_question: dict[bytes, int] = {}
        self._without_options: set[bytes] = set()
        self._questions: list[str] = []
        self._waiting = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (see close)
        for problem in problems:
            self._add(problem)

    def _add(self, problem: Problem) -> None:
        number = len(self._ids)
        self._ids.append(problem.id)
        self._questions.append(problem.question)
        origin = problem.origin
        source = (origin.dataset, origin.revision, origin.split)
        self._by_row.setdefault(source, {})[origin.row] = number
        whole = normalise_question(problem.question)
        self._by_question.setdefault(_digest(whole), number)
        self._without_options.update(map(_digest, question_forms(problem.question) - {whole}))

    def close(self) -> None:
        """Let go of the texts."""
        self._waiting.close()

    def fill(self, opened: OpenedRows, read: Callable[[Row], StoredRow]) -> None:
        """Take what belongs to a problem out of all rows. Raises DataError."""
        self._origin = {
            "dataset": opened.dataset,
            "revision": opened.revision,
            "split": opened.split,
        }
        rows_here = self._by_row.get((opened.dataset, opened.revision, opened.split), {})
        for row in opened.rows:
            if row.index >= ROWS.most:
                raise DataError(f"{opened.dataset}:{row.index + 1}: more than {ROWS}.")
            self.rows += 1
            self.take(row, read(row), rows_here.get(row.index))
        self._waiting.flush()

    def take(self, read: Row, found: StoredRow, same_row: int | None) -> None:
        """Keep the traces of a row for their problem; `same_row` is the one that was read there."""
        row = read.index
        for reason in found.left_out:
            self.left_out.add(reason, row)
        self.traces += len(found.texts)
        if not found.texts:
            return
        number = self.problem_of(found.question, same_row, read.fields)
        if isinstance(number, str):
            self.left_out.add(number, row, len(found.texts))
            return
        places = self._places.setdefault(self._ids[number], array("q"))
        for place, text in enumerate(found.texts):
            places.append(self._waiting.tell())
            line = json.dumps({"row": row, "place": place, **asdict(text)})
            self._waiting.write(line.encode() + b"\n")
            self.count_teacher(text.teacher or "unknown")
        self.matched += len(found.texts)

    def count_teacher(self, name: str) -> None:
        """Count a trace by who wrote it."""
        if name not in self.teachers and len(self.teachers) >= _MOST_TEACHERS:
            name = "others"
        self.teachers[name] += 1

    def problem_of(
        self, question: str | None, same_row: int | None, fields: Mapping[str, Any]
    ) -> int | str:
        """The problem with this question; else that of the same row, whose question may stand among
        other words; or why there is none. `fields` are those of the row.
        """
        if question is None:
            return NO_QUESTION if same_row is None else self._in_order(same_row, fields)
        asked = normalise_question(question)
        number = self._by_question.get(_digest(asked))
        if number is not None:
            return number
        if same_row is not None:
            own = self._questions[same_row]
            wanted = normalise_question(own)
            if wanted and wanted in asked:
                return same_row
            if asked in question_forms(own):
                return self._in_order(same_row, fields)
        if _digest(asked) in self._without_options:
            return NO_OPTIONS
        return NO_PROBLEM

    def _in_order(self, number: int, fields: Mapping[str, Any]) -> int | str:
        """The problem of a row that does not ask it with its options, or why its letters say
        nothing: the row does not show the options as the problem has them.
        """
        own = self._questions[number]
        if own == without_options(own) or shows_options(own, fields):
            return number
        return NO_ORDER

    def count(self, problem_id: str) -> int:
        """How many traces of a problem there are."""
        return len(self._places.get(problem_id, ()))

    def get(self, problem_id: str, sample: int) -> tuple[StoredText, Published]:
        """One of them, in the order of the data set."""
        self._waiting.seek(self._places[problem_id][sample])
        stored: dict[str, Any] = json.loads(self._waiting.readline())
        row, place = stored.pop("row"), stored.pop("place")
        text = StoredText(**stored)
        published = Published(
            **self._origin,
            row=row,
            place=place,
            teacher=text.teacher,
            temperature=text.temperature,
            top_p=text.top_p,
            seed=text.seed,
            mean_logprob=text.mean_logprob,
        )
        return text, published


def _digest(text: str) -> bytes:
    return stable_digest(text)[:16]
