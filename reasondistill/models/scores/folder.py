"""A model's pass over the stored traces: a folder beside them for each model and kind of score.

    folder = ScoreFolder.of(job)              # 2-traces/scores/9f3c…
    run_scores(job)                           # made, gone on with, or left as it is
    folder.reader()("gsm8k/train/12:3")       # a TraceScore

The folder's name is a hash of what the scores depend on besides the traces: the weights, the
prompt, and the settings of this kind of score. So another model's scores stand beside it, and runs
that differ in `select` alone share them. A trace has exactly one line, in the order of the traces;
where traces are added, only these are scored. Several workers claim chunks of traces; each trace is
measured by itself, so the scores are the same for any number of them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasondistill.durations import short_duration
from reasondistill.errors import StageError
from reasondistill.models.samplers import problem_and_sample, rank
from reasondistill.models.scores.job import SAMPLING_FAILED, Measure, ScoreJob
from reasondistill.models.topk import FOLDER, HEADER, TopKReader
from reasondistill.records import Problem, Trace, TraceScore, fingerprint
from reasondistill.runs import layout, work_sharing
from reasondistill.runs.growth import stood_in
from reasondistill.runs.store import (
    HasGrown,
    Identity,
    Manifest,
    Shard,
    count_lines,
    drop_lines,
    finish_stage,
    offsets_of,
    open_stage,
    read_keys,
    read_manifest,
    read_records,
    records_at,
    require_complete,
    require_open,
    sort_shard,
)
from reasondistill.runs.work_sharing import Worker

log = logging.getLogger(__name__)

VERSION = 1
# The input that is the teacher's log-probabilities.
TOP_K = "top_k"
# Workers claim so many traces at once, fewer where there are few: all end together.
CHUNK_TRACES, CHUNKS_PER_WORKER = 64, 16
_REPORT_S = 10.0
# A kill loses what was measured since the last write.
_WRITE_S, _WRITE_TRACES = 2.0, 16


def _by_transformers(job: ScoreJob) -> Measure:
    from reasondistill.models.scores.measuring import Measurer

    return Measurer(job).measure


@dataclass(frozen=True)
class ScoreFolder:
    """The folder of some scores, whether it is there or not."""

    path: Path
    identity: Identity

    @classmethod
    def of(cls, job: ScoreJob) -> ScoreFolder:
        """Raises StageError where the traces are not finished, ConfigError for a model that is not
        there.
        """
        section = job.section()
        path = job.traces / layout.TRACE_SCORES / fingerprint(section)
        inputs = {"traces": require_complete(job.traces).output}
        if job.kind == "teacher":
            # It may be filled later, or anew, while the traces stay what they are.
            inputs[TOP_K] = _cache_identity(job.traces)
        return cls(path, Identity("scores", VERSION, section, inputs))

    @property
    def inputs(self) -> Mapping[str, str]:
        """What a later stage records as its inputs, besides the traces: another machine's last
        digits are no other scores.
        """
        by_whom = Identity("scores", VERSION, self.identity.section, {})
        inputs = {"scores": by_whom.fingerprint}
        if TOP_K in self.identity.inputs:
            inputs[TOP_K] = self.identity.inputs[TOP_K]
        return inputs

    @property
    def is_complete(self) -> bool:
        done = read_manifest(self.path)
        return (
            done is not None
            and done.status == "complete"
            and done.fingerprint == self.identity.fingerprint
        )

    def reader(self) -> Callable[[str], TraceScore]:
        """The score of a trace by its id; traces are asked for in their order, each once or more.

        Memory is that of one score. Raises StageError for a folder that is not finished.
        """
        require_complete(self.path)
        scores = read_records(self.path / layout.TRACE_SCORES_FILE, TraceScore)
        current: TraceScore | None = None

        def score(trace_id: str) -> TraceScore:
            nonlocal current
            while current is None or current.trace_id != trace_id:
                current = next(scores, None)
                if current is None:
                    raise StageError(
                        f"{self.path}: has no score of {trace_id}, or not in the order of the "
                        "traces. Remove that folder: the same command makes it again."
                    )
            return current

        return score


def run_scores(job: ScoreJob) -> Manifest:
    """Score every trace into `scores.jsonl`; a run that was killed goes on with what is missing.

    A stage that is shared is complete when it is closed. Raises StageError where traces are not
    finished, or a worker ended early, ConfigError for a model that cannot be loaded.
    """
    started = time.time()
    folder = ScoreFolder.of(job)
    path, identity, share = folder.path, folder.identity, job.session.share
    scores = path / layout.TRACE_SCORES_FILE
    if share is not None and share.role != "open":
        manifest = require_open(path, identity)
        if manifest.status == "complete":
            return manifest
        if share.role == "work":
            return _fill(job, path, share.number)
        attempt = work_sharing.current(path)
        if attempt is not None:
            started = attempt.began
        work_sharing.gather(path)
        _put_in_order(job, scores)
        missing = count_lines(job.traces / layout.TRACES) - count_lines(scores)
        if missing:
            raise StageError(
                f"{path}: {missing} traces are not scored: a worker has ended early (see the logs "
                "of this run). What there is, is safe; `reasondistill resume` scores the rest."
            )
        return _finish(path, started)
    state = open_stage(path, identity, has_grown=_has_grown(job.traces, scores), derived=True)
    if state == "complete":
        return require_complete(path)
    work_sharing.gather(path)
    _forget_failed(scores)
    if share is not None:
        return _open_for_workers(job, path, share.of)
    done = scored_in(scores)
    missing = _missing(read_records(job.traces / layout.TRACES, Trace), done)
    left = count_lines(job.traces / layout.TRACES) - len(done)
    with Shard(scores) as shard:
        _score(job, missing, shard, left)
    _put_in_order(job, scores)
    return _finish(path, started)


def scored_in(path: Path) -> set[str]:
    """The ids of the traces that have a score in this file."""
    return set(read_keys(path, "trace_id")) if path.exists() else set()


def _cache_identity(traces: Path, among: Container[str] | None = None) -> str:
    """What the teacher's top-K cache holds of the traces, or of those `among` them."""
    if not (traces / FOLDER / HEADER).exists():
        return "none"
    with TopKReader(traces / FOLDER) as cache:
        return cache.identity(among)


def _has_grown(traces: Path, scores: Path) -> HasGrown:
    """Whether all traces that were scored are still there, and what was stored of them."""
    stood = stood_in(traces)

    def is_growth(name: str, old: Any, new: Any) -> bool:
        if name == f"inputs.{TOP_K}":
            return old == _cache_identity(traces, scored_in(scores))
        return name == "inputs.traces" and old in stood

    return is_growth


def _forget_failed(scores: Path) -> None:
    """Take out what says that there was no text: those traces may have been drawn again."""
    if not scores.exists():
        return
    failed: set[str] = set()
    for score in read_records(scores, TraceScore):
        if score.fault == SAMPLING_FAILED:
            failed.add(score.trace_id)
    if failed:
        drop_lines(scores, failed, key="trace_id")


def _missing(traces: Iterable[Trace], done: set[str]) -> Iterator[Trace]:
    return (trace for trace in traces if trace.id not in done)


def _open_for_workers(job: ScoreJob, path: Path, workers: int) -> Manifest:
    traces = job.traces / layout.TRACES
    count = count_lines(traces)
    chunk = max(1, min(CHUNK_TRACES, math.ceil(count / (workers * CHUNKS_PER_WORKER))))
    work_sharing.begin(path, workers=workers, chunk=chunk, offsets=offsets_of(traces, chunk))
    log.info("%d traces to score by %d workers, %d at a time", count, workers, chunk)
    return require_open(path, None)


def _fill(job: ScoreJob, path: Path, number: int) -> Manifest:
    """One worker's part: the traces of the chunks that it claims."""
    worker = Worker(path, number)
    done = scored_in(path / layout.TRACE_SCORES_FILE)
    for part in worker.earlier():
        done |= scored_in(part / layout.TRACE_SCORES_FILE)
    attempt = worker.attempt

    def claimed() -> Iterator[Trace]:
        for chunk in worker.claims(len(attempt.offsets)):
            offset = attempt.offsets[chunk]
            yield from records_at(job.traces / layout.TRACES, Trace, offset, attempt.chunk)

    with Shard(worker.folder / layout.TRACE_SCORES_FILE) as shard:
        _score(job, _missing(claimed(), done), shard, count_lines(job.traces / layout.TRACES))
    return require_open(path, None)


def _score(job: ScoreJob, traces: Iterator[Trace], shard: Shard, total: int) -> None:
    """Measure these traces and write what was measured, some seconds' at once. The model is loaded
    for the first one. `total` is how many are left, for the others of a crew too.
    """
    measure: Measure | None = None
    questions: dict[str, str] = {}
    waiting: list[TraceScore] = []
    done = tokens = 0
    began = last_write = last_report = time.monotonic()
    for trace in traces:
        if measure is None:
            problems = read_records(job.problems / layout.PROBLEMS, Problem)
            questions = {problem.id: problem.question for problem in problems}
            measure = (job.open_model or _by_transformers)(job)
            began = last_write = last_report = time.monotonic()
        question = questions.get(trace.problem_id)
        if question is None:
            raise StageError(
                f"{job.traces}: a trace of {trace.problem_id}, and no such problem. Run the traces "
                "stage again."
            )
        score = measure(trace, question)
        waiting.append(score)
        done, tokens = done + 1, tokens + score.tokens
        now = time.monotonic()
        if now - last_write > _WRITE_S or len(waiting) >= _WRITE_TRACES:
            shard.append(waiting)
            waiting, last_write = [], now
            if job.session.stop is not None:
                job.session.stop.check()
        if now - last_report > _REPORT_S:
            last_report = now
            log.info("%s", _progress(job, done, total, tokens, now - began))
    shard.append(waiting)
    if done:
        log.info("%s", _progress(job, done, total, tokens, time.monotonic() - began))


def _progress(job: ScoreJob, done: int, total: int, tokens: int, seconds: float) -> str:
    rate = tokens / max(seconds, 1e-9)
    line = f"{job.model.name}: {done:,}/{total:,} traces scored · {rate:,.0f} tok/s"
    if done < total:
        line += f" · {short_duration((total - done) * seconds / done)} left"
    return line


def _put_in_order(job: ScoreJob, scores: Path) -> None:
    """Scores in the order of the traces, each once."""
    if not scores.exists():
        return
    names = read_keys(job.problems / layout.PROBLEMS)
    places = {problem_id: place for place, problem_id in enumerate(names)}

    def order(trace_id: str) -> int:
        problem_id, sample = problem_and_sample(trace_id)
        if problem_id not in places:
            raise StageError(
                f"{scores}: holds a score of {problem_id}, which is not among the problems. Remove "
                f"{scores.parent}: the same command makes it again."
            )
        return rank(places[problem_id], sample)

    sort_shard(scores, order, "trace_id")


def _finish(path: Path, started: float) -> Manifest:
    """Close the folder: how many traces have a score, why the others have none."""
    count = tokens = 0
    faults: dict[str, int] = {}
    for score in read_records(path / layout.TRACE_SCORES_FILE, TraceScore):
        count, tokens = count + 1, tokens + score.tokens
        if score.fault is not None:
            faults[score.fault] = faults.get(score.fault, 0) + 1
    if faults:
        why = "; ".join(f"{fault} ({number:,})" for fault, number in sorted(faults.items()))
        log.warning("%s: %d of %d traces have no score: %s", path, sum(faults.values()), count, why)
    return finish_stage(
        path,
        counts={"in": count, "out": count - sum(faults.values())},
        dropped=faults,
        figures={"tokens": tokens},
        seconds=time.time() - started,
        files=[layout.TRACE_SCORES_FILE],
    )
