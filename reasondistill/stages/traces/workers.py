"""Several workers fill one traces folder: one process opens it, workers draw the chunks that they
claim, one process closes it. The traces are the same for any number of them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from reasondistill.errors import StageError
from reasondistill.records import Problem
from reasondistill.runs import layout, work_sharing
from reasondistill.runs.store import Identity, Manifest, require_open
from reasondistill.runs.unfinished import read_begun
from reasondistill.runs.work_sharing import Share, Worker
from reasondistill.stages.traces import capture, on_disk
from reasondistill.stages.traces.drawing import capture_later, draw_rest, work_on
from reasondistill.stages.traces.finishing import finish
from reasondistill.stages.traces.ledger import Ledger
from reasondistill.stages.traces.unfinished import Unfinished, go_back
from reasondistill.stages.traces.work import ModelWork, TraceJob, plan_work

# Workers claim so many samples at once: few enough that all end together, enough that claiming
# costs nothing.
CHUNK_SAMPLES, CHUNKS_PER_WORKER = 64, 16
log = logging.getLogger(__name__)


def gather_parts(folder: Path) -> None:
    """What workers left behind becomes the folder's own."""
    for part in work_sharing.worker_folders(folder):
        capture.take_in(folder, part)
    work_sharing.gather(folder, extras=[capture.FOLDER])


def open_for_workers(job: TraceJob, workers: int, *, missing: int) -> Manifest:
    """An attempt of so many workers at what is missing."""
    chunk = chunk_of(len(job.problems), job.traces.first_round, workers)
    work_sharing.begin(job.folder, workers=workers, chunk=chunk)
    rounds = ""
    if job.ledger is not None:
        rounds = ", in the rounds that problems are in"
    log.info(
        "%d samples to draw%s by %d workers, %d problems at a time",
        missing,
        rounds,
        workers,
        chunk,
    )
    return require_open(job.folder, None)


def take_part(job: TraceJob, share: Share, identity: Identity) -> Manifest:
    """What a worker does in an open folder, and who closes it. Raises DriftError when the folder
    was opened for other settings, StageError when nobody has opened it.
    """
    manifest = require_open(job.folder, None if job.session.keep_old else identity)
    is_worker = share.role == "work"
    if manifest.status == "partial":
        return fill(job, share.number) if is_worker else close(job)
    return manifest if is_worker else capture_later(job, manifest)


def chunk_of(problems: int, n: int, workers: int) -> int:
    """How many problems are claimed at once."""
    fair = math.ceil(problems / (workers * CHUNKS_PER_WORKER))
    return max(1, min(CHUNK_SAMPLES // n, fair))


def fill(job: TraceJob, number: int) -> Manifest:
    """One worker's part: per model the chunks that it can claim. An engine starts only when there
    is one.
    """
    worker = Worker(job.folder, number)
    part = replace(job, part=worker.folder, workers=worker.attempt.workers)
    earlier = worker.earlier()
    if job.traces.goes_on:
        begun = read_begun([job.folder, *earlier])
        for folder in earlier:
            go_back(folder, begun)
        unfinished = Unfinished(worker.folder, begun, is_shared=True)
        part = replace(part, unfinished=unfinished)
    finished = on_disk.whole_ids(job.folder / layout.TRACES)
    for folder in earlier:
        finished |= on_disk.settled_ids(folder / layout.TRACES)
    if job.ledger is None:
        missing = job.missing(finished)
    else:
        for folder in (job.folder, *earlier):
            job.ledger.read(folder / layout.TRACES, finished)
        missing = job.ledger.rounds_ignoring_budget()
    for work in plan_work(job, missing, set()):
        claimed = _claimed(work, worker)
        if job.ledger is not None:
            claimed = _within_budget(claimed, job.ledger)
        waves = Waves(claimed, work.missing, job.ledger, part.workers)
        if waves.are_left:
            work_on(part, work, finished=finished, claimed=waves)
        part.check_stop()
    return require_open(job.folder, None)


def _claimed(work: ModelWork, worker: Worker) -> Iterator[Problem]:
    """The problems of the chunks that this worker gets, as long as they lack samples."""
    size = worker.attempt.chunk
    chunks = math.ceil(len(work.hand) / size)
    for chunk in worker.claims(chunks, group=f"teacher{work.number}"):
        for problem in work.hand[chunk * size : (chunk + 1) * size]:
            if problem.id in work.missing:
                yield problem


class Waves:
    """The problems that a worker claims, for one engine. To go through them is to take a wave: all
    that are left, or, while the worker has seen no sample, those that it may hold until then, and
    one at least.
    """

    def __init__(
        self,
        claimed: Iterator[Problem],
        missing: Mapping[str, Sequence[int]],
        ledger: Ledger | None,
        workers: int,
    ) -> None:
        self._claimed, self._missing = claimed, missing
        self._ledger, self._workers = ledger, workers
        self._next = next(claimed, None)

    @property
    def are_left(self) -> bool:
        """Whether there is another wave."""
        return self._next is not None

    def __iter__(self) -> Iterator[Problem]:
        held = 0
        while self._next is not None:
            problem = self._next
            held += len(self._missing[problem.id])
            is_first = held == len(self._missing[problem.id])
            if not is_first and not self._may_hold(held):
                return
            # Another problem is claimed when it is asked for, not before.
            self._next = None
            yield problem
            self._next = next(self._claimed, None)

    def _may_hold(self, samples: int) -> bool:
        return self._ledger is None or self._ledger.may_hold(samples, self._workers)


def _within_budget(claimed: Iterator[Problem], ledger: Ledger) -> Iterator[Problem]:
    """Of these problems those whose next round comes before the budget is spent, as far as that is
    known here. None is claimed behind the first that does not begin.
    """
    planned = ledger.plan().missing
    for problem in claimed:
        if problem.id in planned:
            yield problem
        elif not ledger.is_begun(problem.id):
            if not ledger.may_begin(problem.id):
                return
            yield problem


def close(job: TraceJob) -> Manifest:
    """All workers' traces in one file, complete or not closed: raises StageError saying how many
    are missing.

    With a budget workers do not know what the others spend: what their guesses left out is drawn
    here.
    """
    attempt = work_sharing.current(job.folder)
    gather_parts(job.folder)
    path = job.folder / layout.TRACES
    on_disk.drop_overtaken(path)
    finished = on_disk.finished_ids(path)
    if job.ledger is not None:
        job.ledger.read(path, finished)
    missing = sum(map(len, job.missing(finished).values()))
    if missing > 0 and job.traces.budget_tokens is None:
        total = missing + len(finished)
        raise StageError(
            f"{job.folder}: {missing} of {total} samples are missing: a worker has ended "
            "early (see the logs of this run). What there is, is safe; `reasondistill resume` "
            "draws the rest."
        )
    draw_rest(job, finished)
    if attempt is None:
        return finish(job, 0.0)
    return finish(job, time.time() - attempt.began, attempt.workers)
