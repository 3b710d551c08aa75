"""The runs of an ablation: each variant's at its three times.

    ablation = Ablation.of(asked, Path("runs/demo-ablate"), run)
    first = ablation.runs[0]
    first.making()          # problems, traces, verdicts, examples
    first.beginning()       # the students that the compared one goes on from
    first.training(120, …)  # the compared student with 120 steps, its evals, its report

The steps of the compared student are known when the examples of all variants are there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reasondistill.config import Pipeline, StudentSettings
from reasondistill.config.varying import Asked, Variant
from reasondistill.errors import ConfigError, StageError
from reasondistill.pipeline.runs import Run, Task
from reasondistill.pipeline.tasks import plan, student_tasks

# The stages before a student, and those behind it.
MAKING = ("problems", "traces", "verdicts", "examples")
MEASURING = ("evals", "report")


@dataclass(frozen=True)
class Work:
    """Tasks of the run of one variant."""

    run: Run
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class VariantRun:
    """One variant and its run, whose pipeline is the variant's own."""

    variant: Variant
    run: Run

    @property
    def name(self) -> str:
        return self.variant.name

    def making(self) -> Work:
        """What is made before any student."""
        run = replace(self.run, only=MAKING)
        return Work(run, tuple(plan(run, MAKING, share_engine_process=True)))

    def beginning(self) -> Work:
        """The students that the compared one goes on from."""
        run = self._with(only=("students",), students=self._ancestors())
        return Work(run, tuple(student_tasks(run)))

    def training(self, steps: int, *, share_engine_process: bool) -> Work:
        """The compared student with so many steps, its evals and its report."""
        run = self.whole(steps)
        run = replace(run, only=("students", *MEASURING))
        members = self.variant.members
        trained = [task for task in student_tasks(run) if task.units[0] in members]
        measured = plan(run, MEASURING, share_engine_process=share_engine_process)
        return Work(run, (*trained, *measured))

    def whole(self, steps: int | None) -> Run:
        """All that the variant's folder will be made from; with the file's own steps as long as
        nobody knows them.
        """
        student = self.variant.student
        if steps is not None:
            student = student.model_copy(update={"max_steps": steps})
        return self._with(only=self.run.stages, students=(*self._ancestors(), student))

    def _ancestors(self) -> tuple[StudentSettings, ...]:
        """Those in front of the compared student, as the file has them."""
        return self.run.pipeline.students[:-1]

    def _with(self, only: tuple[str, ...], **update: Any) -> Run:
        """The same run with another pipeline. What a file could not say is refused here, not by the
        tasks.
        """
        values = self.run.pipeline.model_copy(update=update).model_dump()
        return replace(self.run, pipeline=Pipeline.model_validate(values), only=only)


@dataclass(frozen=True)
class Ablation:
    """All variants of a file in one folder."""

    asked: Asked
    folder: Path
    runs: tuple[VariantRun, ...]

    @classmethod
    def of(cls, asked: Asked, folder: Path, like: Run) -> Ablation:
        """The variants in a folder, in the manner of a run. Raises ConfigError where the run's
        files live at a URL, StageError where the folder of a variant is a link.
        """
        if like.cluster.storage is not None:
            raise ConfigError(
                f"cluster file storage = {like.cluster.storage!r}: ablate copies what variants "
                "have in common between their folders here. Leave it out, and use a folder that "
                "all machines see."
            )
        runs: list[VariantRun] = []
        for variant in asked.variants:
            run = replace(like, pipeline=variant.pipeline, folder=folder / variant.name)
            if run.folder.is_symlink():
                raise StageError(
                    f"{run.folder}: is a link; nothing is written through it. To keep an ablation "
                    "on another disk, link its whole folder."
                )
            runs.append(VariantRun(variant, run))
        return cls(asked, folder, tuple(runs))

    def before(self, run: VariantRun) -> Iterable[VariantRun]:
        """The variants before this one, from which it takes what they have in common."""
        return self.runs[: self.runs.index(run)]
