"""Which servers a folder's samples came from, so that another one under the same model name is
never mixed in unnoticed.

    watch = Watch(folder, target, sampler, keep_old=False)
    watch.look(completion)          # before each sample is written

servers.jsonl beside the traces has a line whenever something new is known of who answered
(`SamplerBase.provenance`); workers write theirs into their own folders, and `work_sharing.gather`
puts them together. A sampler that tells nothing of itself (vLLM, a script) leaves no file.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reasondistill.errors import StageError
from reasondistill.models.samplers import Sampler, SamplerBase
from reasondistill.records import Completion
from reasondistill.runs import layout, work_sharing
from reasondistill.runs.store import disk_errors, read_rows, repair_tail

log = logging.getLogger(__name__)


class Watch:
    """Looks at who answers one teacher's requests, and writes down what is new.

    Another address than that of earlier samples is said; another model, by the name that replies
    carry, stops the stage before its sample is written, unless `keep_old`.
    """

    def __init__(self, folder: Path, target: Path, sampler: Sampler, *, keep_old: bool) -> None:
        self._folder, self._target, self._sampler, self._keep_old = (
            folder,
            target,
            sampler,
            keep_old,
        )
        self._known: dict[str, Any] = {}

    def look(self, completion: Completion) -> None:
        """To be asked before a completion is written. Raises StageError when another model has
        answered.
        """
        told = self._sampler.provenance() if isinstance(self._sampler, SamplerBase) else {}
        if completion.finish == "error" or told == self._known:
            return
        self._known = told
        earlier = [
            row for row in _rows_of_all(self._folder) if row["teacher"] == self._sampler.model
        ]
        self._compare_addresses(told, earlier)
        self._compare_models(told, earlier)
        _append(
            self._target / layout.SERVERS,
            {"teacher": self._sampler.model, "time": round(time.time(), 3), **told},
        )

    def _compare_addresses(self, told: dict[str, Any], earlier: list[dict[str, Any]]) -> None:
        before = _every(earlier, "address")
        if before and told["address"] not in before:
            where = f"samples of {self._sampler.model} came from {', '.join(before)}"
            log.warning(
                "%s: %s until now; from here on they come from %s",
                self._folder,
                where,
                told["address"],
            )

    def _compare_models(self, told: dict[str, Any], earlier: list[dict[str, Any]]) -> None:
        now = told.get("models", [])
        before = _every(earlier, "models") or now[:1]
        new = [model for model in now if model not in before]
        if not new:
            return
        found = (
            f"the server at {told['address']} answers as {', '.join(new)}, earlier samples "
            f"came from {', '.join(before)}"
        )
        if not self._keep_old:
            raise StageError(
                f"{self._folder}: {self._sampler.model} is another model now: {found}.\n"
                "Ways out: give the run another name (--set name=…), ask for the earlier "
                "model by that name, "
                "or go on with both in one folder (--keep-old), which its manifest will say."
            )
        log.warning("%s: %s; both are kept (--keep-old)", self._folder, found)


def figures(folder: Path) -> dict[str, Any]:
    """For the manifest: per teacher everything that was told of it in any session."""
    by_teacher: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(folder / layout.SERVERS):
        by_teacher.setdefault(row["teacher"], []).append(row)
    return (
        {"servers": [_together(teacher, rows) for teacher, rows in by_teacher.items()]}
        if by_teacher
        else {}
    )


def _together(teacher: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Each kind of thing that was told, with all its values."""
    kinds = dict.fromkeys(kind for row in rows for kind in row if kind not in ("teacher", "time"))
    names = {"address": "addresses", "limit": "limits"}
    return {"teacher": teacher} | {names.get(kind, kind): _every(rows, kind) for kind in kinds}


def _every(rows: Iterable[dict[str, Any]], kind: str) -> list[Any]:
    """The different values of a kind in the order in which they came."""
    found: list[Any] = []
    for row in rows:
        value = row.get(kind, [])
        for item in value if isinstance(value, list) else [value]:
            if item not in found:
                found.append(item)
    return found


def _rows_of_all(folder: Path) -> list[dict[str, Any]]:
    """What stands in the folder and in those of workers that fill it now."""
    places = [folder, *work_sharing.worker_folders(folder)]
    return [row for place in places for row in _rows(place / layout.SERVERS)]


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(read_rows(path)) if path.exists() else []


def _append(path: Path, row: dict[str, Any]) -> None:
    """Durably: it is on disk before the sample that it is about."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        repair_tail(path)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
