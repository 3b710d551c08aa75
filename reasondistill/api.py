"""The whole road as plain functions: records in, records out, no folder and no pipeline file.

    problems = [...]                                             # reasondistill.records.Problem
    with ReferenceSampler(problems) as teacher, GradingPool() as grader:
        traces = list(sample_traces(problems, teacher, load_prompt("question"), Sampling(), n=1))
        verdicts = list(judge_traces(traces, problems, grader))
    chosen = make_examples(problems, traces, verdicts, load_prompt("question"), ExampleSettings())
    trained = train_student(StudentSettings(name="small", base="Qwen/Qwen3-0.6B-Base"),
                            Material(chosen.kept), Path("small"))

A pipeline (`reasondistill run`) goes through the same functions and puts folders, resume, work
sharing and caches around them. Nothing heavy is imported before it is used: torch comes with
`train_student`, an engine with the sampler that needs one. `examples/flat_distill.py` walks the
road in one file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.errors import MissingDependencyError
from reasondistill.runs.store import StopSignal
from reasondistill.stages.evals import Evaluation, evaluate
from reasondistill.stages.examples import ChosenExamples, make_examples
from reasondistill.stages.students import Material, TeacherSource
from reasondistill.stages.traces import sample_traces
from reasondistill.stages.verdicts import judge_traces

if TYPE_CHECKING:
    from reasondistill.stages.students.training import Trained

__all__ = [
    "ChosenExamples",
    "Evaluation",
    "Material",
    "TeacherSource",
    "evaluate",
    "judge_traces",
    "make_examples",
    "sample_traces",
    "train_student",
]


def train_student(
    student: StudentSettings,
    material: Material,
    folder: Path,
    *,
    settings: TrainSettings | None = None,
    teacher: TeacherSource | None = None,
    max_steps: int | None = None,
    snapshots: int = 0,
    stop: StopSignal | None = None,
) -> Trained:
    """Train a student by its method and write `folder/model`, which transformers and vLLM load.

        trained = train_student(StudentSettings(name="small", base="Qwen/Qwen3-0.6B-Base"),
                                Material(chosen.kept), Path("small"))

    `settings` say how it runs on this machine, `teacher` whom a method that distils learns from;
    `max_steps` stands above the student's own. Called again with the same folder it goes on from
    its last checkpoint. Raises MissingDependencyError without the extra `train`, Interrupted after
    a requested stop, StageError where no example can be trained on, ConfigError for what the
    settings ask and cannot have.
    """
    try:
        from reasondistill.stages.students import training
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "transformers", "train") from error
    return training.train_student(
        student,
        material,
        folder,
        settings=settings,
        teacher=teacher,
        max_steps=max_steps,
        snapshots=snapshots,
        stop=stop,
    )
