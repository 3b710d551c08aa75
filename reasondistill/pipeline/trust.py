"""What a run's folder makes its next user do: run.json names shell lines, modules and servers, and
checkpoints are pickles. Of a run that this user has started all of it is his own; of any other it
is shown, and done only when he says so.

    require_trust(run, trust=False)     # StageError with the lines, where there are any
"""

from __future__ import annotations

import os

from reasondistill.errors import StageError
from reasondistill.pipeline.executed import refusal, what_it_runs
from reasondistill.pipeline.runs import Run, is_own_folder
from reasondistill.runs.layout import CHECKPOINTS, FOLDERS
from reasondistill.runs.seals import TRUST
from reasondistill.runs.store import read_manifest


def require_trust(run: Run, *, trust: bool) -> None:
    """Raise StageError for a folder that holds what somebody else wrote and this run would execute,
    or load as a pickle, unless the user takes it for his own: then its tasks do so, too.
    """
    if trust or TRUST in os.environ:
        os.environ[TRUST] = "1"
        return
    if is_own_folder(run.folder):
        return
    lines: list[str] = []
    if not run.is_own:
        pipeline = run.pipeline.model_dump(mode="json", exclude_unset=True)
        lines += what_it_runs("pipeline", pipeline)
        if not run.has_own_cluster:
            cluster = run.cluster.model_dump(mode="json", exclude_unset=True)
            lines += what_it_runs("cluster", cluster)
    lines += checkpoints_of(run)
    if lines:
        raise StageError(refusal(str(run.folder), lines))


def checkpoints_of(run: Run) -> list[str]:
    """The checkpoints from which unfinished students of this run would go on."""
    lines: list[str] = []
    pattern = f"{FOLDERS['students']}/*/{CHECKPOINTS}/checkpoint-*"
    for checkpoint in sorted(run.folder.glob(pattern)):
        student = checkpoint.parents[1]
        manifest = read_manifest(student)
        if manifest is None or manifest.status != "complete":
            place = checkpoint.relative_to(run.folder)
            lines.append(f"{place}: a checkpoint, which holds pickles")
    return lines
