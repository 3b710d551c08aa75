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
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from reasondistill.errors import StageError
from reasondistill.models.samplers import Sampler, SamplerBase
from reasondistill.records import Completion
from reasondistill.runs import layout, work_sharing
from reasondistill.runs.figures import ServerFigures, TracesFigures
from reasondistill.runs.store import append_line, read_rows
from reasondistill.secrets import masked_values

log = logging.getLogger(__name__)


class Watch:
    """Looks at who answers one teacher's requests, and writes down what is new.

    Another address than that of earlier samples is said; another model, by the name that replies
    carry, stops the stage before its sample is written, unless `keep_old`.
    """

    def __init__(self, folder: Path, target: Path, sampler: Sampler, *, keep_old: bool) -> None:
        self._folder = folder
        self._target = target
        self._sampler = sampler
        self._keep_old = keep_old
        self._known: dict[str, Any] = {}

    def look(self, completion: Completion) -> None:
        """To be asked before a completion is written. Raises StageError when another model has
        answered.
        """
        provenance: dict[str, Any] = {}
        if isinstance(self._sampler, SamplerBase):
            provenance = self._sampler.provenance()
        if completion.finish == "error" or provenance == self._known:
            return
        self._known = provenance
        model = self._sampler.model
        earlier = [row for row in rows_of_all(self._folder) if row["teacher"] == model]
        self.compare_addresses(provenance, earlier)
        self.compare_models(provenance, earlier)
        told = masked_values(provenance, but=model)
        row = {"teacher": model, "time": round(time.time(), 3), **told}
        append_row(self._target / layout.SERVERS, row)

    def compare_addresses(
        self, provenance: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]
    ) -> None:
        """Warn when the address is none of those that earlier samples came from."""
        before = _every(earlier, "address")
        if before and provenance["address"] not in before:
            addresses = ", ".join(before)
            log.warning(
                "%s: samples of %s came from %s until now; from here on they come from %s",
                self._folder,
                self._sampler.model,
                addresses,
                provenance["address"],
            )

    def compare_models(
        self, provenance: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]
    ) -> None:
        """Raise StageError when another model answers than before; with `keep_old` only warn."""
        now = provenance.get("models", [])
        before = _every(earlier, "models") or now[:1]
        new = [model for model in now if model not in before]
        if not new:
            return
        address = provenance["address"]
        new_names = ", ".join(new)
        old_names = ", ".join(before)
        change = (
            f"the server at {address} answers as {new_names}, earlier samples came from {old_names}"
        )
        if not self._keep_old:
            raise StageError(
                f"{self._folder}: {self._sampler.model} is another model now: {change}.\n"
                "Ways out: give the run another name (--set name=…), ask for the earlier "
                "model by that name, "
                "or go on with both in one folder (--keep-old), which its manifest will say."
            )
        log.warning("%s: %s; both are kept (--keep-old)", self._folder, change)


def figures(folder: Path) -> TracesFigures:
    """For the manifest: per teacher everything that was told of it in any session."""
    by_teacher: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(folder / layout.SERVERS):
        by_teacher.setdefault(row["teacher"], []).append(row)
    if not by_teacher:
        return TracesFigures()
    return TracesFigures(
        servers=[summary_of(teacher, rows) for teacher, rows in by_teacher.items()]
    )


def summary_of(teacher: str, rows: Sequence[Mapping[str, Any]]) -> ServerFigures:
    """Each kind of thing that was told of one teacher, with all its values."""
    names = {"address": "addresses", "limit": "limits"}
    kinds: dict[str, None] = {}
    for row in rows:
        kinds |= dict.fromkeys(row)
    values: dict[str, list[Any]] = {}
    for kind in kinds:
        if kind not in ("teacher", "time"):
            values[names.get(kind, kind)] = _every(rows, kind)
    return ServerFigures.model_validate({"teacher": teacher, **values})


def _every(rows: Iterable[Mapping[str, Any]], kind: str) -> list[Any]:
    """The different values of a kind in the order in which they came."""
    values: list[Any] = []
    for row in rows:
        value = row.get(kind, [])
        items = value if isinstance(value, list) else [value]
        for item in cast("list[Any]", items):
            if item not in values:
                values.append(item)
    return values


def rows_of_all(folder: Path) -> list[dict[str, Any]]:
    """What stands in the folder and in those of workers that fill it now."""
    rows: list[dict[str, Any]] = []
    for place in [folder, *work_sharing.worker_folders(folder)]:
        rows += _rows(place / layout.SERVERS)
    return rows


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return list(read_rows(path))


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Durably: it is on disk before the sample that it is about."""
    line = json.dumps(row, ensure_ascii=False) + "\n"
    append_line(path, line.encode("utf-8"), durably=True)
