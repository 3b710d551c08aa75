"""Which samples stand in a traces file already, and which of them are to be drawn again."""

from __future__ import annotations

import logging
from itertools import count
from pathlib import Path
from typing import Any

from reasondistill.foreign_files import regular
from reasondistill.runs import layout
from reasondistill.runs.samples import read_samples
from reasondistill.runs.store import drop_rows, read_keys, repair_tail

log = logging.getLogger(__name__)


def finished_samples(folder: Path) -> set[str]:
    """The ids of all traces on disk that stay. What failed is drawn again, whoever was at fault:
    settings, server and context may be others now. Its line stays until another takes its place
    (`drop_overtaken`).
    """
    path = folder / layout.TRACES
    repair_tail(folder / layout.METRICS)
    if not path.exists():
        return set()
    repair_tail(path)
    finished: set[str] = set()
    failed: set[str] = set()
    for row in read_samples(path):
        is_open = is_failed(row["completion"]) and not is_absent(row["completion"])
        place = failed if is_open else finished
        place.add(row["id"])
    if failed - finished:
        log.info("%s: drawing %d failed samples again", folder, len(failed - finished))
    return finished


def is_failed(completion: dict[str, Any]) -> bool:
    """Whether this is no completion but an error."""
    return completion["finish"] == "error"


def is_lost(completion: dict[str, Any]) -> bool:
    """Whether the service failed; files of earlier versions do not say whose fault an error is."""
    return is_failed(completion) and completion.get("fault") not in ("input", "absent")


def is_absent(completion: dict[str, Any]) -> bool:
    """Whether a data set has no such published trace."""
    return is_failed(completion) and completion.get("fault") == "absent"


def finished_ids(path: Path) -> set[str]:
    """The ids of all traces of a file that only others write."""
    return set(read_keys(path)) if path.exists() else set()


def whole_ids(path: Path) -> set[str]:
    """The ids of the traces of a file that did not fail."""
    rows = read_samples(path) if path.exists() else ()
    return {row["id"] for row in rows if not is_failed(row["completion"])}


def settled_ids(path: Path) -> set[str]:
    """The ids of the traces of a file that the service did not lose."""
    rows = read_samples(path) if path.exists() else ()
    return {row["id"] for row in rows if not is_lost(row["completion"])}


def drawn_by(path: Path, first: int | None = None) -> dict[str, str]:
    """Which model has drawn each problem that has a sample which did not fail; only the `first` so
    many of each count, where others stand behind them that models write of every problem.
    """
    if not path.exists():
        return {}
    whole = (row for row in read_samples(path) if not is_failed(row["completion"]))
    if first is not None:
        whole = (row for row in whole if row["sample"] < first)
    return {row["problem_id"]: row["model"] for row in whole}


def drop_overtaken(path: Path) -> None:
    """Take out the lines of failed samples that were drawn again: the whole one stays, else the
    latest failure.
    """
    if not _has_failed(path):
        return
    latest = {row["id"]: place for place, row in enumerate(read_samples(path))}
    whole = whole_ids(path)
    places = count()

    def is_overtaken(row: dict[str, Any]) -> bool:
        place = next(places)
        return is_failed(row["completion"]) and (row["id"] in whole or latest[row["id"]] != place)

    drop_rows(path, is_overtaken)


def _has_failed(path: Path) -> bool:
    """Whether a failed sample may stand in the file, without parsing it."""
    if not path.exists():
        return False
    with open(path, "rb", opener=regular) as file:
        return any(b'"finish":"error"' in line for line in file)
