"""What the folders of a run that has grown were before: by it a later stage sees that all it was
made from is still there.

    stood = stood_in(run / "1-problems")
    old.identity["inputs"]["questions"] in stood

A folder that has grown keeps in its manifest the outputs that it had (`stood`); of problems also
the digests of what was asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast

from reasondistill.records import Problem
from reasondistill.runs.store import Manifest, read_manifest, read_records


def asked_in(problems: Path, *, first: int | None = None) -> str:
    """16 hex digits over the ids and questions of a problems file, or of the `first` so many of
    them: all that a model is asked.
    """
    digest = hashlib.sha256()
    for problem in islice(read_records(problems, Problem), first):
        digest.update(f"{problem.id}\0{problem.question}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def also_of(traces: Manifest, place: int) -> dict[str, Any]:
    """What a traces manifest says of the model at this place of `also`, the first is 1; nothing
    where it says nothing that can be read.
    """
    told = traces.section.get("also")
    about: Any = None
    if isinstance(told, dict):
        about = cast("dict[str, Any]", told).get(str(place))
    return cast("dict[str, Any]", about) if isinstance(about, dict) else {}


def also_writers(traces: Manifest) -> dict[str, dict[str, Any]]:
    """`name@revision` → what a traces manifest says of each model that has written of every
    problem besides the teachers.
    """
    told = traces.section.get("also")
    writers: dict[str, dict[str, Any]] = {}
    if not isinstance(told, dict):
        return writers
    for about in cast("dict[str, Any]", told).values():
        if not isinstance(about, dict):
            continue
        settings = cast("dict[str, Any]", about)
        name = str(settings.get("model", ""))
        if settings.get("name"):
            name = f"{settings['name']}@{name.rpartition('@')[2]}"
        writers[name] = settings
    return writers


def also_rounds(writers: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """`name@revision` → the round whose student it is."""
    rounds: dict[str, int] = {}
    for name, about in writers.items():
        number = about.get("of_round")
        if isinstance(number, int):
            rounds[name] = number
    return rounds


def stood_in(folder: Path) -> frozenset[str]:
    """What a stage folder held before it grew, by the outputs that it had then."""
    manifest = read_manifest(folder)
    if manifest is None:
        return frozenset()
    return frozenset(manifest.stood)
