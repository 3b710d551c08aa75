"""One launcher at a time: whether jobs of a run are still under way somewhere."""

from __future__ import annotations

import logging
import os

from reasondistill.errors import StageError
from reasondistill.launch import ray_jobs, slurm
from reasondistill.pipeline import Run

log = logging.getLogger(__name__)


def refuse_if_busy(run: Run) -> None:
    """Raise StageError while jobs of this run are in Slurm's queue or its job runs on a Ray
    cluster; two at once would share its files.

    Where the scheduler cannot be asked from here, a warning says so.
    """
    name = run.folder.name
    how = f"`reasondistill status {name}` shows them, `reasondistill cancel {name}` stops them."
    try:
        alive = [state.job.job_id for state in slurm.states(run) if not state.is_over]
    except StageError as error:
        alive = []
        log.warning(
            "%s: was sent to Slurm, which cannot be asked whether its jobs still run (%s)",
            run.folder,
            error,
        )
    if alive:
        raise StageError(f"{run.folder}: its jobs {', '.join(alive)} are still in the queue. {how}")
    if ray_jobs.INSIDE in os.environ or ray_jobs.sent(run) is None:
        return
    try:
        word = ray_jobs.state(run)
    except StageError as error:
        log.warning(
            "%s: was handed in to a Ray cluster that does not answer (%s)", run.folder, error
        )
        return
    if word in ray_jobs.ALIVE:
        raise StageError(f"{run.folder}: its job is {word.lower()} on a Ray cluster. {how}")
