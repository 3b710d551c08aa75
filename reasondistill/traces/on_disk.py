"""Which samples stand in a traces file already, and which of them failed."""

from __future__ import annotations

import logging
from pathlib import Path

from reasondistill.store import drop_lines, drop_rows, read_keys, read_rows, repair_tail

FILE = "traces.jsonl"
log = logging.getLogger(__name__)


def finished_samples(folder: Path) -> set[str]:
    """The ids of all traces on disk; failed ones are taken out of the file, to be drawn again."""
    path = folder / FILE
    repair_tail(folder / "metrics.jsonl")
    if not path.exists():
        return set()
    repair_tail(path)
    finish = {row["id"]: row["completion"]["finish"] == "error" for row in read_rows(path)}
    failed = {name for name, is_failed in finish.items() if is_failed}
    if failed:
        log.info("%s: drawing %d failed samples again", folder, len(failed))
        drop_lines(path, failed)
    return finish.keys() - failed


def finished_ids(path: Path) -> set[str]:
    """The ids of all traces of a file that only others write."""
    return set(read_keys(path)) if path.exists() else set()


def whole_ids(path: Path) -> set[str]:
    """The ids of the traces of a file that did not fail."""
    rows = read_rows(path) if path.exists() else ()
    return {row["id"] for row in rows if row["completion"]["finish"] != "error"}


def drop_overtaken(path: Path) -> None:
    """Failed samples that a worker drew again after it was started again: the whole one stays."""
    failed = [row["id"] for row in read_rows(path) if row["completion"]["finish"] == "error"]
    if overtaken := whole_ids(path) & set(failed):
        drop_rows(path, lambda row: row["id"] in overtaken and row["completion"]["finish"] == "error")
