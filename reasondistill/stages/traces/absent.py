"""Samples that a data set of published traces does not hold: they have lines while the stage is at
work, so that all workers know of them, and go when it ends; what is left of them is fewer.jsonl.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reasondistill.errors import DataError
from reasondistill.foreign_files import regular
from reasondistill.records import FewerTraces, Problem
from reasondistill.runs import layout
from reasondistill.runs.samples import read_samples
from reasondistill.runs.store import drop_rows, write_records
from reasondistill.stages.traces.on_disk import is_absent

log = logging.getLogger(__name__)

_ABSENT = b'"fault":"absent"'
# So many problems are named in a message.
_MOST_NAMES = 5


def take_out(path: Path, asked: int) -> Counter[str]:
    """Take the lines of absent samples out of a traces file; return how many each problem had of
    the first `asked`.
    """
    absent: Counter[str] = Counter()
    if not _has_absent(path):
        return absent
    for row in read_samples(path):
        if is_absent(row["completion"]) and row["sample"] < asked:
            absent[row["problem_id"]] += 1

    def is_one(row: dict[str, Any]) -> bool:
        return is_absent(row["completion"])

    drop_rows(path, is_one)
    return absent


def _has_absent(path: Path) -> bool:
    """Whether there may be such a line, without parsing any."""
    with open(path, "rb", opener=regular) as file:
        return any(_ABSENT in line for line in file)


def write_fewer(
    folder: Path, problems: Sequence[Problem], absent: Mapping[str, int], asked: int
) -> None:
    """Keep by name which problems have fewer traces than were asked for; no file where none has.
    Raises DataError when no problem has any.
    """
    path = folder / layout.FEWER
    if not absent:
        path.unlink(missing_ok=True)
        return
    fewer: list[FewerTraces] = []
    for problem in problems:
        if problem.id in absent:
            fewer.append(_fewer(problem.id, asked - absent[problem.id], asked))
    none = [one.problem_id for one in fewer if one.traces == 0]
    if len(none) == len(problems):
        raise DataError(
            f"{folder}: none of the {len(problems):,} problems has a trace in the data set: no row "
            f"asks what {none[0]} asks. Do [problems] and [traces.teachers.stored] question name "
            "the same text?"
        )
    write_records(path, fewer)
    log.warning(
        "%s: %d of %d problems have fewer than n = %d published traces, %d of them none (%s). "
        "%s names all",
        folder,
        len(fewer),
        len(problems),
        asked,
        len(none),
        ", ".join((none or [one.problem_id for one in fewer])[:_MOST_NAMES]),
        layout.FEWER,
    )


def _fewer(problem_id: str, traces: int, asked: int) -> FewerTraces:
    reason = f"only {traces} published"
    if traces == 0:
        reason = "no published trace"
    return FewerTraces(problem_id=problem_id, traces=traces, asked=asked, reason=reason)
