"""The seven stages in order: what to skip, resume, refuse.

    Problem ─▶ Trace ─▶ Verdict ─▶ Example ─▶ Student ─▶ EvalRecord ─▶ Report

A `Run` is a pipeline file, a cluster file and a folder. `plan` lists its tasks in order; `run_task`
does one of them and may be called in any process on any machine that sees the folder: stages meet
on disk.
"""

from __future__ import annotations

from reasondistill.pipeline.doing import run_task
from reasondistill.pipeline.measured import eval_models, served_teachers, teacher_of
from reasondistill.pipeline.runs import (
    FOLDERS,
    RUN,
    STAGES,
    Run,
    Task,
    benchmarks,
    is_needed,
    load_run,
    located,
    save_run,
)
from reasondistill.pipeline.status import (
    StageState,
    folder_of,
    missing_of,
    problem_ids,
    progress_of,
    remaining,
    settle,
    stage_states,
    walk,
)
from reasondistill.pipeline.tasks import measures_all, plan, select_stages
from reasondistill.pipeline.trust import require_trust

__all__ = [
    "FOLDERS",
    "RUN",
    "STAGES",
    "Run",
    "StageState",
    "Task",
    "benchmarks",
    "eval_models",
    "folder_of",
    "is_needed",
    "load_run",
    "located",
    "measures_all",
    "plan",
    "problem_ids",
    "progress_of",
    "remaining",
    "require_trust",
    "run_task",
    "save_run",
    "select_stages",
    "served_teachers",
    "settle",
    "missing_of",
    "stage_states",
    "teacher_of",
    "walk",
]
