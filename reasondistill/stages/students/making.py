"""The stage itself: open a student's folder, train it or take the untouched base, write what is
known of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reasondistill.curation.provenance import MadeStudent
from reasondistill.errors import MissingDependencyError
from reasondistill.imports import no_collections
from reasondistill.records import Example, Shrunk, Student, TrainingFigures
from reasondistill.runs import layout
from reasondistill.runs.store import (
    Identity,
    Manifest,
    StopSignal,
    ends_at_once,
    finish_stage,
    open_stage,
    require_complete,
    write_text,
)
from reasondistill.stages.students import processes
from reasondistill.stages.students.cards import write_cards, write_own_facts
from reasondistill.stages.students.finished import read_student, remove_checkpoints
from reasondistill.stages.students.growing import keep_what_stands
from reasondistill.stages.students.identity import student_identity
from reasondistill.stages.students.job import StudentJob, TrainingRun
from reasondistill.stages.students.material import (
    Reread,
    all_texts,
    calibration_examples,
    held_out_examples,
    material_of,
    teacher_of,
    training_examples,
)
from reasondistill.stages.students.strategies import check_strategy
from reasondistill.stages.students.train import train_student


@dataclass(frozen=True)
class Made:
    """A model on disk; no `figures` for an untouched base, which may be a hub id."""

    path: Path
    figures: TrainingFigures | None
    dropped: Mapping[str, int]


def run_student(
    job: StudentJob,
    *,
    stop: StopSignal | None = None,
    keep_old: bool = False,
    environment: Mapping[str, Any] | None = None,
) -> Manifest:
    """Make one student; resume from its last checkpoint when it was interrupted. One whose examples
    grew is made anew, and the one that stands is kept under a name of its own.

    Several processes that train it together all call this; the first one writes. Raises StageError
    when there is nothing to train on, ConfigError for a base without weights or for what so many
    processes cannot do, DriftError when the folder holds a student of other settings.
    """
    check_strategy(job.student, job.settings, processes.world_size())
    with processes.together():
        identity = student_identity(job)
        if not keep_old:
            processes.on_first(lambda: keep_what_stands(job, identity))
        opened = processes.on_first(
            lambda: open_stage(job.folder, identity, keep_old=keep_old, environment=environment)
        )
        if opened == "complete":
            processes.on_first(lambda: remove_checkpoints(job.folder))  # a kill may have left them
            return require_complete(job.folder)
        started = time.monotonic()
        examples = training_examples(job)
        try:
            with no_collections():
                from reasondistill.stages.students import bases
        except ModuleNotFoundError as error:
            raise MissingDependencyError(error.name or "transformers", "train") from error
        if job.student.method == "base":
            untouched = partial(
                bases.untouched,
                job.student,
                job.folder,
                all_texts(job),
                calibration=calibration_examples(job),
                plain=job.prompt.prompt.plain,
            )
            with ends_at_once(stop):
                made = Made(processes.on_first(untouched), figures=None, dropped={})
        else:
            made = _train(job, examples, stop)
        count = sum(1 for _ in examples)
        manifest = processes.on_first(lambda: _finish(job, identity, count, made, started))
        processes.on_first(lambda: remove_checkpoints(job.folder))
        return manifest


def _train(job: StudentJob, examples: Reread[Example], stop: StopSignal | None) -> Made:
    """Train a student, a baseline for as many steps as the one that it stands beside."""
    student = job.student
    parent = read_student(job.steps_like).figures if job.steps_like is not None else None
    if parent is not None:
        student = student.model_copy(update={"max_steps": parent.steps})
        if student.packing and student.method == "answer_only":
            # Packed, a short row's batch would hold many times the examples of the
            # trained student's.
            world = processes.world_size()
            batch = world * max(1, round(parent.examples * parent.epochs / parent.steps / world))
            student = student.model_copy(update={"packing": False, "batch_size": batch})
    trained = train_student(
        student,
        material_of(job, examples),
        job.folder,
        teacher=teacher_of(job) if student.distils() else None,
        run=TrainingRun(job.settings, job.snapshots, stop, job.tokens),
    )
    return Made(trained.model, trained.figures, trained.dropped)


def _finish(
    job: StudentJob, identity: Identity, examples: int, made: Made, started: float
) -> Manifest:
    """Write what is known of a student beside its weights."""
    is_ours = made.path.is_relative_to(job.folder)
    path = made.path.relative_to(job.folder) if is_ours else made.path
    trained_on = identity.inputs.get("unverified", identity.inputs.get("examples", ""))
    student = Student(
        name=job.student.name,
        method=job.student.method,
        base=identity.inputs["base"],
        path=str(path),
        examples=trained_on,
        seed=job.student.seed,
        figures=made.figures,
        shrunk=_shrunk(job, made.path) if job.student.shrink is not None else None,
    )
    write_text(job.folder / layout.STUDENT, student.model_dump_json(indent=2) + "\n")
    models = list((job.folder / layout.SNAPSHOTS).glob("step-*"))
    if is_ours:
        models.append(made.path)
    for model in models:
        write_own_facts(job, model)
    counts = {"in": examples, "out": examples - sum(made.dropped.values())}
    if is_ours:
        told = MadeStudent(student, identity.section, counts, made.dropped, identity.fingerprint)
        write_cards(job, told)
    return finish_stage(
        job.folder,
        counts=counts,
        dropped=dict(made.dropped),
        figures=made.figures.model_dump() if made.figures is not None else {},
        seconds=time.monotonic() - started,
    )


def _shrunk(job: StudentJob, model: Path) -> Shrunk:
    """How far a student that was cut out of its base is from it, on held-out examples."""
    from reasondistill.stages.students import held_out

    return held_out.shrunk(
        job.student,
        all_texts(job),
        calibration_examples(job),
        held_out_examples(job),
        plain=job.prompt.prompt.plain,
        trained=None if job.student.method == "base" else model,
    )
