"""The folder of the verdicts stage: what of it stands, what is graded anew, who grades it.

Cheap beside sampling, and a pure function of its inputs: when the traces or the grader change it is
made anew; when traces were added, these are graded. A judge, where the file names one, is asked
about what the rules left undecided; evals grade with the same function.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from reasondistill.config import VerdictSettings
from reasondistill.grading import GRADER, GradingPool
from reasondistill.models.samplers.opening import Serving
from reasondistill.records import Problem, Trace
from reasondistill.runs import layout, work_sharing
from reasondistill.runs.figures import VerdictsFigures
from reasondistill.runs.growth import stood_in
from reasondistill.runs.session import ALONE, Session
from reasondistill.runs.store import (
    Foreseen,
    HasGrown,
    Identity,
    Manifest,
    Shard,
    finish_stage,
    foresee,
    open_stage,
    read_manifest,
    read_records,
    reopen_stage,
    require_complete,
    require_open,
)
from reasondistill.stages.verdicts.counts import VerdictCounts
from reasondistill.stages.verdicts.job import VerdictJob, graded_traces
from reasondistill.stages.verdicts.judge import Judge
from reasondistill.stages.verdicts.judging import judge_traces
from reasondistill.stages.verdicts.undecided import REPLIES, judge_undecided
from reasondistill.stages.verdicts.vote import vote_on_unlabelled
from reasondistill.stages.verdicts.workers import fill, open_for_workers, take_in

VERSION = 1
_CHUNK = 1_000


def run_verdicts(
    verdicts: VerdictSettings,
    problems_folder: Path,
    traces_folder: Path,
    folder: Path,
    serving: Serving,
    session: Session = ALONE,
    *,
    failures_allowed: float = 0.01,
) -> Manifest:
    """Grade every trace into `verdicts.jsonl`; a run that was killed goes on with what is missing.

    A stage that is shared is complete when it is closed, which is also when traces vote and a judge
    speaks. Another grader version, policy, deadline or judge grades all of them anew; what a judge
    has replied before is not asked again. What it failed to answer is asked again by the next
    session that heals. The service may lose the share `failures_allowed` of its answers. Raises
    StageError when problems or traces are not finished, or the judge lost more.
    """
    started = time.time()
    judge = None
    if verdicts.judge is not None:
        judge = Judge.of(verdicts.judge, serving)
    inputs = _inputs(verdicts, judge, problems_folder, traces_folder)
    keep_old = session.keep_old and _same_traces(folder, inputs)
    identity = Identity("verdicts", VERSION, {}, inputs)
    problems, traces = problems_folder / layout.PROBLEMS, traces_folder / layout.TRACES
    job = VerdictJob(verdicts, problems, traces, folder, serving.cluster, session)
    figures = VerdictsFigures()
    share = session.share
    if share is not None and share.role != "open":
        manifest = require_open(folder, None if keep_old else identity)
        if manifest.status == "complete":
            return manifest
        if share.role == "work":
            with job.grading_pool() as pool:
                return fill(job, pool, share.number)
        attempt = work_sharing.current(folder)
        if attempt is not None:
            started = attempt.began
            figures = VerdictsFigures(workers=attempt.workers)
            take_in(job)
    else:
        state = open_stage(
            folder,
            identity,
            has_grown=_has_grown(problems_folder, traces_folder),
            derived=True,
            keep_old=keep_old,
            beside={REPLIES},
        )
        if state == "partial":
            if work_sharing.gather(folder):
                job.put_in_order()
            job.drop_what_may_change()
        is_complete = state == "complete"
        if is_complete and not (session.heal and reopen_stage(folder, identity, _has_judge_failed)):
            return require_complete(folder)
        if share is not None:
            return open_for_workers(job, share.of)
    with job.grading_pool() as pool:
        counts = _grade_by_rules(job, pool)
        if verdicts.majority is not None:
            votes = vote_on_unlabelled(pool, problems, folder, verdicts.majority)
            figures = figures.joined(votes)
            counts = VerdictCounts.read(job.verdicts)
    if judge is not None:
        replies = judge_undecided(
            judge, problems, folder, session.stop, failures_allowed=failures_allowed
        )
        figures = figures.joined(replies)
        counts = VerdictCounts.read(job.verdicts)
    return finish_stage(
        folder,
        counts={"in": counts.total, "out": counts.total},
        figures=counts.figures().joined(figures).to_dict(),
        seconds=time.time() - started,
        files=[layout.VERDICTS],
    )


def foresee_verdicts(
    verdicts: VerdictSettings,
    problems_folder: Path,
    traces_folder: Path,
    folder: Path,
    serving: Serving,
    *,
    heal: bool = False,
    keep_old: bool = False,
) -> Foreseen:
    """What `run_verdicts` would find in the folder; nothing is changed. Raises as it does."""
    judge = None
    if verdicts.judge is not None:
        judge = Judge.of(verdicts.judge, serving)
    inputs = _inputs(verdicts, judge, problems_folder, traces_folder)
    identity = Identity("verdicts", VERSION, {}, inputs)
    found = foresee(
        folder,
        identity,
        has_grown=_has_grown(problems_folder, traces_folder),
        derived=True,
        keep_old=keep_old and _same_traces(folder, inputs),
        beside={REPLIES},
    )
    if found.state != "complete" or found.before is None:
        return found
    is_same = found.before.fingerprint == identity.fingerprint
    if heal and is_same and _has_judge_failed(found.before):
        return replace(found, state="partial")
    return found


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


def _has_grown(problems_folder: Path, traces_folder: Path) -> HasGrown:
    """Whether a changed key leaves the verdicts of a folder what they are: more traces, and those
    before are all among them.
    """
    stood = {"problems": stood_in(problems_folder), "traces": stood_in(traces_folder)}
    return lambda name, old, new: old in stood.get(name.removeprefix("inputs."), ())


def _same_traces(folder: Path, inputs: Mapping[str, str]) -> bool:
    """Whether the folder's verdicts are of these very traces; others would silently be taken for
    theirs.
    """
    old = read_manifest(folder)
    return old is not None and all(
        old.identity["inputs"].get(key) == inputs[key] for key in ("problems", "traces")
    )


def _has_judge_failed(manifest: Manifest) -> bool:
    """Whether the judge left answers of a folder undecided because requests failed."""
    return VerdictsFigures.of(manifest).judge_failed > 0


def _grade_by_rules(job: VerdictJob, pool: GradingPool) -> VerdictCounts:
    """Write the verdicts that are not on disk yet; return how many there are of all."""
    started = time.monotonic()
    with Shard(job.verdicts) as shard:
        counts = VerdictCounts.read(job.verdicts)
        done = graded_traces(job.verdicts)
        stored = read_records(job.traces, Trace)
        missing = (trace for trace in stored if trace.id not in done)
        verdicts = judge_traces(missing, read_records(job.problems, Problem), pool)
        chunk = list(islice(verdicts, _CHUNK))
        while chunk:
            shard.append(chunk)
            counts.add(chunk)
            counts.report(job.folder, time.monotonic() - started)
            job.check_stop()
            chunk = list(islice(verdicts, _CHUNK))
    if done:
        job.put_in_order()
    return counts
