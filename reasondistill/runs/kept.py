"""Students that a run keeps when it trains them anew: each under a name of its own, with all that
was measured of it.

    keep_student(RunFolder(Path("runs/demo")), "distilled", "distilled-of-120")

5-students/distilled-of-120                the student: its record goes on saying `distilled`
6-evals/gsm8k/distilled-of-120             its samples and their grades
6-evals/gsm8k/distilled-of-120@qwen_math
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from reasondistill.errors import DataError, StageError
from reasondistill.records import VARIANT
from reasondistill.runs.layout import RunFolder, StudentFolder
from reasondistill.runs.remote import left_at_url
from reasondistill.runs.store import (
    Manifest,
    disk_errors,
    read_manifest,
    require_no_links_below,
)


def is_kept(folder: PurePath, manifest: Manifest) -> bool:
    """Whether a student's folder holds one that was trained under another name: it was kept when
    that name was trained anew.
    """
    return manifest.section.get("name", folder.name) != folder.name


def kept_students(run: RunFolder) -> Iterator[tuple[StudentFolder, Manifest]]:
    """The students that were kept, by name. A damaged folder tells of none."""
    for student in run.students():
        try:
            manifest = read_manifest(student.path)
        except DataError:
            continue
        if manifest is not None and is_kept(student.path, manifest):
            yield student, manifest


def name_to_keep(run: RunFolder, name: str, manifest: Manifest) -> str:
    """Under which name a student is kept: with the number of its examples, or as unfinished."""
    what = f"{name}-unfinished"
    if manifest.status == "complete":
        what = f"{name}-of-{manifest.counts.get('out', 0)}"
    free, number = what, 1
    while run.student(free).path.exists():
        number += 1
        free = f"{what}-{number}"
    return free


def keep_student(run: RunFolder, name: str, kept: str) -> None:
    """Move a student, and before it what was measured of it: a kill in between leaves a student
    that is moved by the next call. Raises StageError where something is in the way.
    """
    student = run.student(name).path
    moves: list[tuple[Path, Path]] = []
    for benchmark in run.evals.path.glob("*/"):
        for cell in benchmark.glob("*/"):
            if cell.name == name or cell.name.startswith(f"{name}{VARIANT}"):
                moves.append((cell, benchmark / f"{kept}{cell.name.removeprefix(name)}"))
    moves.append((student, run.student(kept).path))
    require_free(run, moves)
    for source, target in moves:
        with disk_errors(target):
            os.rename(source, target)


def require_free(run: RunFolder, moves: Iterable[tuple[Path, Path]]) -> None:
    """Raise StageError where one of these moves cannot be made whole."""
    for source, target in moves:
        require_no_links_below(source)
        if target.exists():
            raise StageError(
                f"{target}: is in the way of {source}, which is to be kept there. Move it away, or "
                "remove it: no student of the run has this name."
            )
        manifest = read_manifest(source)
        if manifest is None:
            continue
        names = (run.place_of(source / name) for name in manifest.files)
        left = sorted(left_at_url(run.path, names))
        if left:
            raise StageError(
                f"{source}: {left[0]} was never fetched to this machine, so it cannot be kept "
                "under another name from here. Train where the weights are."
            )
