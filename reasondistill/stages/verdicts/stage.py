"""The folder of the verdicts stage: what of it stands, what is graded anew, who grades it.

Cheap beside sampling, and a pure function of its inputs: when the traces or the grader change it is
made anew. A judge, where the file names one, is asked about what the rules left undecided
(`judge.py`); evals grade with the same function.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from reasondistill.config import Cluster, VerdictSettings
from reasondistill.errors import StageError
from reasondistill.grading import ENGINE_ERROR, GRADER, INPUT_FAULT, GradingPool
from reasondistill.models.samplers import problem_and_sample, rank
from reasondistill.models.samplers.opening import OpenSampler, open_sampler
from reasondistill.records import OUTCOMES, Problem, Trace, Verdict
from reasondistill.runs import layout, work_sharing
from reasondistill.runs.figures import VerdictsFigures
from reasondistill.runs.store import (
    Identity,
    Manifest,
    Shard,
    StopSignal,
    append_metrics,
    count_lines,
    finish_stage,
    offsets_of,
    open_stage,
    read_keys,
    read_manifest,
    read_records,
    records_at,
    reopen_stage,
    require_complete,
    require_open,
    sort_shard,
)
from reasondistill.runs.work_sharing import Share, Worker
from reasondistill.stages.verdicts.judge import REPLIES, Judge, judge_undecided
from reasondistill.stages.verdicts.judging import grade_traces
from reasondistill.stages.verdicts.vote import vote_on_unlabelled

VERSION = 1
_CHUNK = 1_000
# Workers claim fewer at once where there are few: all end together.
CHUNKS_PER_WORKER = 16

logger = logging.getLogger(__name__)


def run_verdicts(
    verdicts: VerdictSettings,
    problems_folder: Path,
    traces_folder: Path,
    folder: Path,
    *,
    workers: int | None = None,
    memory_mib: int = 1024,
    cluster: Cluster | None = None,
    open_sampler: OpenSampler = open_sampler,
    stop: StopSignal | None = None,
    keep_old: bool = False,
    heal: bool = True,
    share: Share | None = None,
    failures_allowed: float = 0.01,
) -> Manifest:
    """Grade every trace into `verdicts.jsonl`; a run that was killed goes on with what is missing.

    With `share` this process opens the folder for workers, is one of them, or closes it, which is
    also when traces vote and a judge speaks.

    Another grader version, policy, deadline or judge grades all of them anew; what a judge has
    replied before is not asked again. `cluster` says where a judge is served; what it failed to
    answer is asked again by the next run, unless `heal` is off. The service may lose the share
    `failures_allowed` of its answers. Raises StageError when problems or traces are not finished,
    or the judge lost more.
    """
    started = time.time()
    judge = None
    if verdicts.judge is not None:
        judge = Judge.of(verdicts.judge, cluster or Cluster(), open_sampler)
    inputs = _inputs(verdicts, judge, problems_folder, traces_folder)
    keep_old = keep_old and _same_traces(folder, inputs)
    identity = Identity("verdicts", VERSION, {}, inputs)
    if share is not None and share.role != "open":
        manifest = require_open(folder, None if keep_old else identity)
        if manifest.status == "complete":
            return manifest
    else:
        state = open_stage(folder, identity, derived=True, keep_old=keep_old, beside={REPLIES})
        if state == "complete" and not (heal and reopen_stage(folder, identity, judge_failed)):
            return require_complete(folder)
        if share is not None:
            return _open(folder, traces_folder / layout.TRACES, share.of)
        if work_sharing.gather(folder):
            _in_order(problems_folder, folder)
    figures = VerdictsFigures()
    with GradingPool(
        workers=workers,
        deadline_s=verdicts.deadline_s,
        memory_mib=memory_mib,
        policy=verdicts.policy,
    ) as pool:
        if share is not None and share.role == "work":
            return _fill(pool, problems_folder, traces_folder, folder, share.number, stop)
        if share is not None and (attempt := work_sharing.current(folder)) is not None:
            started = attempt.began
            figures = VerdictsFigures(workers=attempt.workers)
            _take_in(problems_folder, traces_folder, folder)
        outcomes, reasons = _grade_by_rules(pool, problems_folder, traces_folder, folder, stop)
        if verdicts.majority is not None:
            votes = vote_on_unlabelled(
                pool, problems_folder / layout.PROBLEMS, folder, verdicts.majority
            )
            figures = figures.joined(votes)
            outcomes, reasons = _counted(folder / layout.VERDICTS)
    if judge is not None:
        replies = judge_undecided(
            judge,
            problems_folder / layout.PROBLEMS,
            folder,
            stop,
            failures_allowed=failures_allowed,
        )
        figures = figures.joined(replies)
        outcomes, reasons = _counted(folder / layout.VERDICTS)
    counts = {"in": outcomes.total(), "out": outcomes.total()}
    return finish_stage(
        folder,
        counts=counts,
        figures=_figures(outcomes, reasons).joined(figures).to_dict(),
        seconds=time.time() - started,
        files=[layout.VERDICTS],
    )


def _inputs(
    verdicts: VerdictSettings, judge: Judge | None, problems_folder: Path, traces_folder: Path
) -> dict[str, str]:
    """What the verdicts are made from. The grader and its settings too: another policy grades the
    stored traces anew.
    """
    inputs = {
        "problems": require_complete(problems_folder).output,
        "traces": require_complete(traces_folder).output,
    }
    inputs |= {"grader": GRADER, "policy": verdicts.policy, "deadline_s": str(verdicts.deadline_s)}
    if judge is not None:
        inputs["judge"] = judge.identity
    if verdicts.majority is not None:
        inputs["majority"] = str(verdicts.majority)
    return inputs


# ---- with several workers ------------------------------------------------------------------------


def _open(folder: Path, traces: Path, workers: int) -> Manifest:
    """An attempt of so many workers."""
    count = count_lines(traces)
    chunk = max(1, min(_CHUNK, math.ceil(count / (workers * CHUNKS_PER_WORKER))))
    work_sharing.begin(folder, workers=workers, chunk=chunk, offsets=offsets_of(traces, chunk))
    logger.info("%d traces to grade by %d workers, %d at a time", count, workers, chunk)
    return require_open(folder, None)


def _fill(
    pool: GradingPool,
    problems_folder: Path,
    traces_folder: Path,
    folder: Path,
    number: int,
    stop: StopSignal | None,
) -> Manifest:
    """One worker's part: the traces of the chunks that it claims."""
    worker, started = Worker(folder, number), time.monotonic()
    golds = _golds(problems_folder)
    done = _finished(folder / layout.VERDICTS)
    for part in worker.earlier():
        done |= _finished(part / layout.VERDICTS)
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with Shard(worker.folder / layout.VERDICTS) as shard:
        for traces in _claimed(worker, traces_folder / layout.TRACES):
            missing = [trace for trace in traces if trace.id not in done]
            chunk = list(grade_traces(missing, golds, pool))
            shard.append(chunk)
            outcomes.update(verdict.grade.outcome for verdict in chunk)
            reasons.update(_undecided(chunk))
            _report(
                worker.folder,
                outcomes,
                time.monotonic() - started,
                failed=_failed(reasons),
                session=worker.folder.name,
            )
            if stop is not None:
                stop.check()
    return require_open(folder, None)


def _claimed(worker: Worker, path: Path) -> Iterator[list[Trace]]:
    """The traces of the chunks that this worker gets."""
    attempt = worker.attempt
    for chunk in worker.claims(len(attempt.offsets)):
        yield list(records_at(path, Trace, attempt.offsets[chunk], attempt.chunk))


def _take_in(problems_folder: Path, traces_folder: Path, folder: Path) -> None:
    """All workers' verdicts in one file, in the order of the traces. Raises StageError when some
    are missing.
    """
    work_sharing.gather(folder)
    _in_order(problems_folder, folder)
    graded = count_lines(folder / layout.VERDICTS)
    traces = count_lines(traces_folder / layout.TRACES)
    if graded < traces:
        raise StageError(
            f"{folder}: {traces - graded} of {traces} verdicts are missing: a worker has "
            "ended early (see the logs of this run). What "
            "there is, is safe; `reasondistill resume` grades the rest."
        )


# ---- grading -------------------------------------------------------------------------------------


def _golds(problems_folder: Path) -> dict[str, str]:
    return {
        problem.id: problem.answer
        for problem in read_records(problems_folder / layout.PROBLEMS, Problem)
    }


def _finished(path: Path) -> set[str]:
    return set(read_keys(path, "trace_id")) if path.exists() else set()


def _in_order(problems_folder: Path, folder: Path) -> None:
    """Verdicts in the order of problems and samples, which is that of the traces."""
    places = {
        problem_id: place
        for place, problem_id in enumerate(read_keys(problems_folder / layout.PROBLEMS))
    }

    def order(trace_id: str) -> int:
        problem_id, sample = problem_and_sample(trace_id)
        return rank(places[problem_id], sample)

    sort_shard(folder / layout.VERDICTS, order, "trace_id")


def _grade_by_rules(
    pool: GradingPool,
    problems_folder: Path,
    traces_folder: Path,
    folder: Path,
    stop: StopSignal | None,
) -> tuple[Counter[str], Counter[str]]:
    """Write the verdicts that are not on disk yet; return all outcomes, and the reasons of the
    undecided.
    """
    started = time.monotonic()
    with Shard(folder / layout.VERDICTS) as shard:
        outcomes, reasons = _counted(folder / layout.VERDICTS)
        done = _finished(folder / layout.VERDICTS)
        traces = (
            trace
            for trace in read_records(traces_folder / layout.TRACES, Trace)
            if trace.id not in done
        )
        graded = grade_traces(traces, _golds(problems_folder), pool)
        while chunk := list(islice(graded, _CHUNK)):
            shard.append(chunk)
            outcomes.update(verdict.grade.outcome for verdict in chunk)
            reasons.update(_undecided(chunk))
            _report(folder, outcomes, time.monotonic() - started, failed=_failed(reasons))
            if stop is not None:
                stop.check()
    if done:
        _in_order(problems_folder, folder)
    return outcomes, reasons


def _same_traces(folder: Path, inputs: Mapping[str, str]) -> bool:
    """Whether the folder's verdicts are of these very traces; others would silently be taken for
    theirs.
    """
    old = read_manifest(folder)
    return old is not None and all(
        old.identity["inputs"].get(key) == inputs[key] for key in ("problems", "traces")
    )


def _counted(path: Path) -> tuple[Counter[str], Counter[str]]:
    """Outcomes, and reasons of the undecided, that are on disk already."""
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for verdict in read_records(path, Verdict):
        outcomes[verdict.grade.outcome] += 1
        reasons.update(_undecided([verdict]))
    return outcomes, reasons


def _undecided(verdicts: Iterable[Verdict]) -> Iterator[str]:
    return (verdict.grade.reason for verdict in verdicts if verdict.grade.outcome == "undecided")


def _failed(reasons: Mapping[str, int]) -> int:
    """How many of the undecided are samples that failed."""
    return reasons.get(ENGINE_ERROR, 0) + reasons.get(INPUT_FAULT, 0)


def _report(
    folder: Path, outcomes: Counter[str], seconds: float, *, failed: int, session: str = ""
) -> None:
    done = outcomes.total()
    who: dict[str, str] = {}
    if session:  # of a worker
        who["session"] = session
    append_metrics(
        folder,
        **who,
        done=done,
        seconds=round(seconds, 3),
        **{outcome: outcomes[outcome] for outcome in OUTCOMES},
    )
    graded = max(1, done - failed)  # a share is never of what failed
    counts = {
        outcome: outcomes[outcome] - (failed if outcome == "undecided" else 0)
        for outcome in OUTCOMES
    }
    parts = [
        f"{100 * number / graded:.1f} % {outcome}" for outcome, number in counts.items() if number
    ]
    parts += [f"{failed:,} failed"] if failed else []
    logger.info(
        "verdicts: %s traces · %.0f/s · %s",
        f"{done:,}",
        done / max(seconds, 1e-9),
        ", ".join(parts),
    )


def _figures(outcomes: Counter[str], reasons: Counter[str]) -> VerdictsFigures:
    lost, refused = reasons[ENGINE_ERROR], reasons[INPUT_FAULT]
    # A share is never of what failed.
    written = max(1, outcomes.total() - lost - refused)
    figures = VerdictsFigures(
        correct=outcomes["correct"],
        wrong=outcomes["wrong"],
        no_answer=outcomes["no_answer"],
        truncated=outcomes["truncated"],
        undecided=outcomes["undecided"],
        correct_share=round(outcomes["correct"] / written, 6),
        undecided_reasons=dict(sorted(reasons.items())),
    )
    if lost:
        figures = figures.joined(VerdictsFigures(failed=lost))
    if refused:
        figures = figures.joined(VerdictsFigures(refused=refused))
    return figures


def judge_failed(manifest: Manifest) -> bool:
    """Whether the judge left answers of a folder undecided because requests failed."""
    return VerdictsFigures.of(manifest).judge_failed > 0
