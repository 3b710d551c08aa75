"""What a run's folder makes its next user do: run.json names shell lines, modules and servers, and
checkpoints are pickles. Of a run that this user has started all of it is his own; of any other it
is shown, and done only when he says so.

    require_trust(run, trust=False)     # StageError with the lines, where there are any
"""

from __future__ import annotations

from pathlib import Path

from reasondistill.errors import ConfigError, DataError, StageError
from reasondistill.pipeline.executed import refusal, what_it_runs
from reasondistill.pipeline.runs import Run, is_own_folder, named_benchmark
from reasondistill.runs.layout import CHECKPOINT_SUMS, CHECKPOINTS, FOLDERS
from reasondistill.runs.seals import CHECKPOINT, is_trusted, trust_only
from reasondistill.runs.store import has_own_seal, read_manifest


def require_trust(run: Run, *, trust: bool) -> None:
    """Raise StageError for a folder that holds what somebody else wrote and this run would execute,
    or load as a pickle, unless the user takes it for his own: then its tasks do so, too.
    """
    if trust or is_trusted(run.folder):
        trust_only(run.folder)
        return
    trust_only(None)  # what another run was trusted for
    lines: list[str] = []
    is_own = is_own_folder(run.folder)
    if not run.is_own and not is_own:
        pipeline = run.pipeline.model_dump(mode="json", exclude_unset=True)
        lines += what_it_runs("pipeline", pipeline, run.source.parent)
        lines += _of_benchmarks(run)
        if not run.has_own_cluster:
            cluster = run.cluster.model_dump(mode="json", exclude_unset=True)
            lines += what_it_runs("cluster", cluster)
    lines += checkpoints_of(run, is_own_run=is_own)
    if lines:
        raise StageError(refusal(str(run.folder), lines))


def _of_benchmarks(run: Run) -> list[str]:
    """What the benchmarks that a run names would run, as far as their files are here."""
    evals = run.pipeline.evals
    lines: list[str] = []
    for name in dict.fromkeys((*evals.benchmarks, *evals.checkpoints.benchmarks)):
        try:
            benchmark = named_benchmark(run, name)
        except ConfigError:  # whoever goes on is told
            continue
        values = benchmark.model_dump(mode="json", exclude_unset=True)
        lines += what_it_runs(f"benchmark {name}", values, run.source.parent)
    return lines


def checkpoints_of(run: Run, *, is_own_run: bool) -> list[str]:
    """The checkpoints from which unfinished students of this run would go on; beside a run.json of
    this user's those that others have summed. One that was just being written has no sums yet.
    """
    lines: list[str] = []
    pattern = f"{FOLDERS['students']}/*/{CHECKPOINTS}/checkpoint-*"
    for checkpoint in sorted(run.folder.glob(pattern)):
        student = checkpoint.parents[1]
        manifest = read_manifest(student)
        is_finished = manifest is not None and manifest.status == "complete"
        if not is_finished and not (is_own_run and _may_be_own(checkpoint / CHECKPOINT_SUMS)):
            place = checkpoint.relative_to(run.folder)
            lines.append(f"{place}: a checkpoint, which holds pickles")
    return lines


def _may_be_own(sums: Path) -> bool:
    """Whether sums are sealed by this user, or there are none that can be read: then no training
    goes on from split weights, and of others it loads tensors only.
    """
    try:
        return not sums.exists() or has_own_seal(sums, CHECKPOINT)
    except DataError:
        return True
