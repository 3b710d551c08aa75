"""A student whose examples grew is trained anew, and the one that stands is kept."""

from __future__ import annotations

import logging
from typing import Any

from reasondistill.models.weights import model_identity
from reasondistill.runs.growth import stood_in
from reasondistill.runs.kept import keep_student, kept_students, name_to_keep
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import (
    Foreseen,
    Identity,
    Manifest,
    changed_keys,
    foresee,
    read_manifest,
)
from reasondistill.stages.students.identity import student_identity
from reasondistill.stages.students.job import StudentJob

log = logging.getLogger(__name__)


def keep_what_stands(job: StudentJob, identity: Identity) -> None:
    """Move the student of a job's folder to a name of its own when nothing but what it learns from
    has changed, and that has grown. The folder is free then.
    """
    run, before = job.run, has_grown_since(job, identity)
    if run is None or before is None:
        return
    name = job.folder.name
    kept = name_to_keep(run, name, before)
    keep_student(run, name, kept)
    log.warning(
        "student %s: what it learns from has grown, so it is trained anew. The one that was there, "
        "and what was measured of it, is kept as %s (%s)",
        name,
        kept,
        run.student(kept).path,
    )


def has_grown_since(job: StudentJob, identity: Identity) -> Manifest | None:
    """The manifest of the student that stands, where nothing but what it learns from has changed,
    and that has grown.
    """
    run, before = job.run, read_manifest(job.folder)
    if run is None or before is None or before.fingerprint == identity.fingerprint:
        return None
    changed = changed_keys(before.identity, identity.to_dict())
    if not all(_has_grown(job, run, name, old) for name, old, _ in changed):
        return None
    return before


def foresee_student(job: StudentJob, *, keep_old: bool = False) -> Foreseen:
    """What `run_student` would find in the folder; nothing is changed. Raises as it does."""
    identity = student_identity(job)
    if not keep_old:
        before = has_grown_since(job, identity)
        if before is not None:
            return Foreseen("new", before)
    return foresee(job.folder, identity, keep_old=keep_old)


def _has_grown(job: StudentJob, run: RunFolder, name: str, old: Any) -> bool:
    """Whether what a student was made from is still there, and there is more of it."""
    match name.removeprefix("inputs."):
        case "examples" | "unverified":
            return old in stood_in(job.examples)
        case "chosen":  # of other examples than before
            return bool(stood_in(job.examples))
        case "problems":
            return old in stood_in(job.problems)
        case "top_k":
            return job.traces is not None and bool(stood_in(job.traces))
        case "parent":
            return any(manifest.fingerprint == old for _, manifest in kept_students(run))
        case "base":
            return any(
                student.model.exists() and model_identity(str(student.model)) == old
                for student, _ in kept_students(run)
            )
        case _:
            return False
