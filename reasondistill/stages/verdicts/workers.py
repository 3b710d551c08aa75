"""Several workers fill one verdicts folder: one process opens it, workers grade the chunks that
they claim, one process closes it. The verdicts are the same for any number of them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator

from reasondistill.errors import StageError
from reasondistill.grading import GradingPool
from reasondistill.records import Problem, Trace
from reasondistill.runs import layout, work_sharing
from reasondistill.runs.store import (
    Manifest,
    Shard,
    count_lines,
    offsets_of,
    read_records,
    records_at,
    require_open,
)
from reasondistill.runs.work_sharing import Worker
from reasondistill.stages.verdicts.counts import VerdictCounts
from reasondistill.stages.verdicts.job import VerdictJob, graded_traces
from reasondistill.stages.verdicts.judging import grade_traces

# Workers claim so many traces at once, fewer where there are few: all end together.
CHUNK_TRACES, CHUNKS_PER_WORKER = 1_000, 16

log = logging.getLogger(__name__)


def open_for_workers(job: VerdictJob, workers: int) -> Manifest:
    """An attempt of so many workers."""
    count = count_lines(job.traces)
    chunk = max(1, min(CHUNK_TRACES, math.ceil(count / (workers * CHUNKS_PER_WORKER))))
    offsets = offsets_of(job.traces, chunk)
    work_sharing.begin(job.folder, workers=workers, chunk=chunk, offsets=offsets)
    log.info("%d traces to grade by %d workers, %d at a time", count, workers, chunk)
    return require_open(job.folder, None)


def fill(job: VerdictJob, pool: GradingPool, number: int) -> Manifest:
    """One worker's part: the traces of the chunks that it claims."""
    worker, started = Worker(job.folder, number), time.monotonic()
    golds = {problem.id: problem.answer for problem in read_records(job.problems, Problem)}
    done = graded_traces(job.verdicts)
    for part in worker.earlier():
        done |= graded_traces(part / layout.VERDICTS)
    counts = VerdictCounts()
    with Shard(worker.folder / layout.VERDICTS) as shard:
        for traces in _claimed(job, worker):
            missing = [trace for trace in traces if trace.id not in done]
            chunk = list(grade_traces(missing, golds, pool))
            shard.append(chunk)
            counts.add(chunk)
            seconds = time.monotonic() - started
            counts.report(worker.folder, seconds, session=worker.folder.name)
            job.check_stop()
    return require_open(job.folder, None)


def _claimed(job: VerdictJob, worker: Worker) -> Iterator[list[Trace]]:
    """The traces of the chunks that this worker gets."""
    attempt = worker.attempt
    for chunk in worker.claims(len(attempt.offsets)):
        yield list(records_at(job.traces, Trace, attempt.offsets[chunk], attempt.chunk))


def take_in(job: VerdictJob) -> None:
    """All workers' verdicts in one file, in the order of the traces. Raises StageError when some
    are missing.
    """
    work_sharing.gather(job.folder)
    job.put_in_order()
    graded = count_lines(job.verdicts)
    traces = count_lines(job.traces)
    if graded < traces:
        raise StageError(
            f"{job.folder}: {traces - graded} of {traces} verdicts are missing: a worker has "
            "ended early (see the logs of this run). What "
            "there is, is safe; `reasondistill resume` grades the rest."
        )
