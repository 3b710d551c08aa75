"""The end of the traces stage: canonical order, what failed, figures, manifest."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

from reasondistill.errors import StageError
from reasondistill.runs import layout
from reasondistill.runs.figures import TracesFigures
from reasondistill.runs.missing import cause_of
from reasondistill.runs.store import Manifest, finish_stage
from reasondistill.runs.unfinished import remove_unfinished
from reasondistill.stages.traces import absent, on_disk, servers, summary, trimming
from reasondistill.stages.traces.drawing import cache_figures
from reasondistill.stages.traces.failures import (
    Allowance,
    nothing_but_failures,
    too_many_lost,
    too_many_refused,
)
from reasondistill.stages.traces.work import TraceJob

log = logging.getLogger(__name__)


def finish(job: TraceJob, seconds: float, workers: int = 1) -> Manifest:
    """Sort the traces, count them and say that the folder is complete. `seconds` are those on the
    clock, however many workers there were. Raises StageError when more failed than may fail.
    """
    folder = job.folder
    path = folder / layout.TRACES
    places = {problem.id: place for place, problem in enumerate(job.problems)}
    on_disk.drop_overtaken(path)
    summary.sort(path, places)
    drawing = _trimmed(job)
    not_there = absent.take_out(path, job.traces.n)
    absent.write_fewer(folder, job.problems, not_there, job.traces.n)
    sums = summary.tally(path, job.traces.samples)
    _check_failures(job, sums, _allowance(job, drawing))
    summary.write_set_aside(folder, job.problems, sums)
    _tell_failures(job, sums)
    counts = {"in": len(job.problems), "out": sums.samples}
    if sums.lost:
        counts["failed"] = sums.lost.total()
    if sums.refused_samples:
        counts["refused"] = sums.refused_samples.total()
    if not_there:
        counts["absent"] = not_there.total()
    figures = summary.figures(folder, sums)
    figures = figures.joined(cache_figures(job))
    figures = figures.joined(summary.engine(folder, job.traces, job.serving.cluster))
    figures = figures.joined(servers.figures(folder))
    figures = figures.joined(drawing)
    remove_unfinished(folder)
    if workers > 1:
        figures = figures.joined(TracesFigures(workers=workers))
    return finish_stage(
        folder,
        counts=counts,
        figures=figures.to_dict(),
        seconds=seconds,
        content=summary.content(path),
    )


def _trimmed(job: TraceJob) -> TracesFigures:
    """Leave the samples that the rule keeps, and say what it has saved. Raises StageError while it
    needs more.
    """
    if job.ledger is None:
        return TracesFigures()
    job.ledger.read_failed(job.folder / layout.TRACES)
    plan = job.ledger.plan()
    missing = sum(map(len, plan.missing.values()))
    if missing:
        raise StageError(
            f"{job.folder}: {missing} more samples are needed since lost ones have come; "
            "`reasondistill resume` draws them."
        )
    drawing = trimming.trim(job.folder, plan.endings, job.traces.n)
    budget = job.traces.budget_tokens
    if budget is not None:
        beyond = max(0, drawing.drawn_tokens - budget)
        drawing = drawing.model_copy(update={"beyond_budget": beyond})
    log.info("%s: %s", job.folder, drawing.sentence)
    return TracesFigures(drawing=drawing)


def _allowance(job: TraceJob, drawing: TracesFigures) -> Allowance:
    """What may be lost of the samples that were drawn: where a budget ended it, fewer than were to
    be.
    """
    allowance = job.allowance
    if drawing.drawing is None:
        return allowance
    return replace(allowance, samples=min(allowance.samples, drawing.drawing.drawn))


def _check_failures(job: TraceJob, sums: summary.Tally, allowance: Allowance) -> None:
    """Raise StageError when more failed, by all workers together, than may fail."""
    if sums.lost and sums.failed == sums.asked:
        raise nothing_but_failures(sums.asked, sums.error)
    if sums.lost.total() > allowance.lost:
        raise too_many_lost(job.folder, allowance, sums.lost)
    if allowance.is_refused_too_often(len(sums.refused)):
        causes = Counter(map(cause_of, sums.refused.values()))
        raise too_many_refused(job.folder, allowance, len(sums.refused), causes)


def _tell_failures(job: TraceJob, sums: summary.Tally) -> None:
    if sums.lost:
        log.warning(
            "%s: %d of %d samples were lost; the same command draws them again",
            job.folder,
            sums.lost.total(),
            sums.samples,
        )
    if sums.refused:
        log.warning(
            "%s: %d problems cannot be asked and were set aside (%s)",
            job.folder,
            len(sums.refused),
            layout.SET_ASIDE,
        )


def refuse_what_was_lost(job: TraceJob, done: Manifest) -> None:
    """Raise StageError for a folder that an earlier version, or another setting, took for finished
    without its samples.
    """
    lost = done.counts.get("failed", 0)
    if lost > job.allowance.lost:
        raise StageError(
            f"{job.folder}: {lost} of {job.total} samples were lost, failures_allowed = "
            f"{job.traces.failures_allowed:g} allows {job.allowance.lost}, and what was made of "
            "the rest (5-students) keeps them from being drawn again. Remove what was made of it, "
            "or say that it may stay with --set traces.failures_allowed=1."
        )
