"""A student trained as a plain function: records and settings in, weights out. Torch is imported
when it is called (training.py).
"""

from __future__ import annotations

from pathlib import Path

from reasondistill.config import StudentSettings
from reasondistill.errors import MissingDependencyError
from reasondistill.imports import no_collections
from reasondistill.stages.students.job import HERE, Trained, TrainingRun
from reasondistill.stages.students.material import Material, TeacherSource


def train_student(
    student: StudentSettings,
    material: Material,
    folder: Path,
    *,
    teacher: TeacherSource | None = None,
    run: TrainingRun = HERE,
) -> Trained:
    """Train a student by its method and write `folder/model`, which transformers and vLLM load.

        trained = train_student(StudentSettings(name="small", base="Qwen/Qwen3-0.6B-Base"),
                                Material(chosen.kept), Path("small"))

    `teacher` is whom a method that distils learns from; `run` says how it is done here. Resumes
    from the last checkpoint in `folder/checkpoints`. Several processes call it with the same
    folder, where the first one writes; all of them get the figures. Not covered: method `base`,
    which trains nothing.

    Raises MissingDependencyError without the extra `train`; Interrupted after a requested stop,
    with a checkpoint saved; StageError where no example can be trained on; ConfigError for what the
    settings ask and cannot have.
    """
    try:
        with no_collections():
            from reasondistill.stages.students import training
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "transformers", "train") from error
    if not student.distils():
        return training.train(student, material, folder, run)
    return training.train_with_teacher(student, material, folder, run, teacher or TeacherSource())
