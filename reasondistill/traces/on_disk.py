"""Which samples stand in a traces file already, and which of them are to be drawn again."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasondistill.store import drop_lines, drop_rows, read_keys, read_rows, repair_tail

FILE = "traces.jsonl"
# How the error of a prompt begins that left no room for an answer: another context may hold it.
TOO_LONG = "prompt longer than the context"
log = logging.getLogger(__name__)


@dataclass
class Standing:
    """The ids of all traces on disk that stay, and the problems that were set aside."""

    finished: set[str] = field(default_factory=set[str])
    refused: set[str] = field(default_factory=set[str])


def standing(folder: Path) -> Standing:
    """What stands in a folder. What a service lost is taken out of the file, to be drawn again; so are prompts that were
    too long, since the context may have been raised.
    """
    path = folder / FILE
    repair_tail(folder / "metrics.jsonl")
    found = Standing()
    if not path.exists():
        return found
    repair_tail(path)
    again: set[str] = set()
    for row in read_rows(path):
        if is_drawn_again(row["completion"]):
            again.add(row["id"])
        elif is_failed(row["completion"]):
            found.refused.add(row["problem_id"])
        found.finished.add(row["id"])
    if again:
        log.info("%s: drawing %d failed samples again", folder, len(again))
        drop_lines(path, again)
    found.finished -= again
    return found


def is_failed(completion: dict[str, Any]) -> bool:
    """Whether this is no completion but an error."""
    return completion["finish"] == "error"


def is_lost(completion: dict[str, Any]) -> bool:
    """Whether the service failed; files of earlier versions do not say whose fault an error is."""
    return is_failed(completion) and completion.get("fault") != "input"


def is_drawn_again(completion: dict[str, Any]) -> bool:
    """Whether another try may bring the sample."""
    return is_lost(completion) or (is_failed(completion) and (completion["error"] or "").startswith(TOO_LONG))


def finished_ids(path: Path) -> set[str]:
    """The ids of all traces of a file that only others write."""
    return set(read_keys(path)) if path.exists() else set()


def settled_ids(path: Path) -> set[str]:
    """The ids of the traces of a file that the service did not lose."""
    rows = read_rows(path) if path.exists() else ()
    return {row["id"] for row in rows if not is_lost(row["completion"])}


def drop_overtaken(path: Path) -> None:
    """Lost samples that a worker drew again after it was started again: the whole one stays."""
    lost = {row["id"] for row in read_rows(path) if is_lost(row["completion"])}
    if overtaken := settled_ids(path) & lost:
        drop_rows(path, lambda row: row["id"] in overtaken and is_lost(row["completion"]))
