"""Stage 5: examples → a student on disk, with its baselines.

`sft` trains on the examples. `answer_only` trains on the same problems and for the same number of
steps with the bare gold answer: did the reasoning help? `unverified` trains for the same number of
steps on the traces that the same rules choose whatever their verdict: did verifying help? `base` is
the untouched base. The other methods (reasondistill/methods/) learn from a teacher's distributions
as well. Every method ends with a folder that transformers and vLLM load, and a `student.json`.

`run_student` is the stage, with folders and resume; it trains with `train_student`, a plain
function of records and settings. A name is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reasondistill.imports import late
from reasondistill.stages.students import processes

if TYPE_CHECKING:
    from reasondistill.stages.students.checks import check_settings
    from reasondistill.stages.students.finished import read_student, snapshots
    from reasondistill.stages.students.growing import foresee_student
    from reasondistill.stages.students.identity import base_identity, no_teacher, student_identity
    from reasondistill.stages.students.job import StudentJob, Trained, TrainingRun
    from reasondistill.stages.students.making import run_student
    from reasondistill.stages.students.material import Material, TeacherSource
    from reasondistill.stages.students.rendering import check_rendering
    from reasondistill.stages.students.strategies import check_strategy
    from reasondistill.stages.students.train import train_student

__all__ = [
    "Material",
    "StudentJob",
    "TeacherSource",
    "Trained",
    "TrainingRun",
    "base_identity",
    "check_rendering",
    "check_settings",
    "check_strategy",
    "foresee_student",
    "no_teacher",
    "processes",
    "read_student",
    "run_student",
    "snapshots",
    "student_identity",
    "train_student",
]

_HOMES = {
    "checks": ("check_settings",),
    "finished": ("read_student", "snapshots"),
    "growing": ("foresee_student",),
    "identity": ("base_identity", "no_teacher", "student_identity"),
    "job": ("StudentJob", "Trained", "TrainingRun"),
    "making": ("run_student",),
    "material": ("Material", "TeacherSource"),
    "rendering": ("check_rendering",),
    "strategies": ("check_strategy",),
    "train": ("train_student",),
}

__getattr__ = late(__name__, _HOMES)
