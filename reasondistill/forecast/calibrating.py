"""A calibration: the same pipeline file on its first problems, each student trained for a few
steps, in a separate folder.

runs/NAME.calibration is made by the real stages and read only by the forecast, never by the run
itself.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from reasondistill.config import CheckpointSettings, Pipeline, StudentSettings
from reasondistill.errors import ConfigError, StageError
from reasondistill.pipeline.runs import Run, load_run

# Steps that each student is trained for: enough to separate loading from training.
STEPS = 8
SUFFIX = ".calibration"
# Everything but the report.
STAGES = ("problems", "traces", "verdicts", "examples", "students", "evals")


def calibration_folder(run: Run) -> Path:
    """The folder of a run's calibration."""
    return run.folder.with_name(run.folder.name + SUFFIX)


def calibration_run(run: Run, problems: int) -> Run:
    """The run's first `problems`, n samples of each; a few steps of each student, one seed; as many
    problems of each benchmark, one answer.

    An earlier calibration with other settings is removed. Raises ConfigError
    for a file that only measures.
    """
    if run.pipeline.problems is None:
        raise ConfigError(
            f"{run.source}: only measures, so there is nothing to calibrate; use --like "
            "with a run of the same models."
        )
    scratch = replace(run, pipeline=small(run.pipeline, problems), folder=calibration_folder(run))
    if scratch.layout.state.exists() and load_run(scratch.folder).pipeline != scratch.pipeline:
        if scratch.folder.is_symlink():
            raise StageError(f"{scratch.folder}: is a link, and is not emptied. Remove the link.")
        shutil.rmtree(scratch.folder)
    return scratch


def small(pipeline: Pipeline, problems: int) -> Pipeline:
    """The same settings for `problems` problems. Prompts, sampling and batch sizes stay, because
    lengths and speed depend on them.
    """
    assert pipeline.problems is not None
    settings = pipeline.evals
    evals = {
        "limit": min(problems, settings.limit or problems),
        "n": 1,
        "prompts": (),
        "latency": 0,
        "against": (),
        "checkpoints": CheckpointSettings(),
    }
    return pipeline.model_copy(
        update={
            "name": pipeline.name + SUFFIX,
            "problems": pipeline.problems.model_copy(
                update={"limit": min(problems, pipeline.problems.limit or problems)}
            ),
            "students": tuple(_short(student) for student in pipeline.students),
            "evals": settings.model_copy(update=evals),
            "rounds": None,
        }
    )


def _short(student: StudentSettings) -> StudentSettings:
    steps = min(STEPS, student.max_steps or STEPS)
    unmeasured = {"evaluate_every": None, "keep": "last", "early_stopping_patience": None}
    return student.model_copy(
        update={"max_steps": steps, "seeds": (), "report_to": ()} | unmeasured
    )
