"""One model after another: open it, draw what it lacks, capture the top K of what stands already.

Around `sample_traces` this puts what a folder needs: traces on disk as they finish, progress, a
limit of failures, an eye on who answers.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace

from reasondistill.errors import StageError
from reasondistill.models.samplers import (
    Rendered,
    Running,
    Sampler,
    SamplerBase,
    failed,
    kept_by,
    make_ready,
    problem_and_sample,
)
from reasondistill.models.topk import TopK, TopKWriter
from reasondistill.records import Problem, Trace, name_and_revision
from reasondistill.runs import layout
from reasondistill.runs.figures import TracesFigures
from reasondistill.runs.missing import cause_of
from reasondistill.runs.store import Manifest, ends_at_once, seal, unseal, write_manifest
from reasondistill.stages.traces import capture, servers
from reasondistill.stages.traces.caching import CachingSampler
from reasondistill.stages.traces.failures import Failures, too_many_refused
from reasondistill.stages.traces.ledger import Ledger
from reasondistill.stages.traces.recorder import Recorder, SamplingProgress
from reasondistill.stages.traces.sampling import nothing_begun, render_prompt, sample_traces
from reasondistill.stages.traces.unfinished import Unfinished
from reasondistill.stages.traces.work import ModelWork, TraceJob, deal_problems, plan_work

log = logging.getLogger(__name__)


def draw_rest(job: TraceJob, finished: set[str]) -> None:
    """What is missing, model by model, until nothing is; `finished` stand already. Raises
    Interrupted.
    """
    works = plan_work(job, job.missing(finished), job.unscored())
    while works:
        for work in works:
            work_on(job, work, finished=finished)
            finished |= work.ids()
            job.check_stop()
        # What one teacher has drawn may leave, or take, another one's part of the budget.
        works = plan_work(job, job.missing(finished), set())
    score_others(job)
    job.check_stop()


def work_on(
    job: TraceJob,
    work: ModelWork,
    *,
    finished: Set[str],
    claimed: Iterable[Problem] | None = None,
) -> None:
    """Open one model; draw what is missing, score what stands already.

    `claimed` are the problems that one of several workers draws, claimed on the way. `finished` are
    the samples of the stage that are on disk. Returns early when asked to stop.
    """
    started = time.monotonic()
    k = job.logprobs_of(work.model)
    problems = work.problems
    if work.samples:
        log.info(
            "%s: %d samples of %d problems to draw",
            work.model.model,
            work.samples,
            len(problems),
        )
    with ExitStack() as opened:
        with ends_at_once(job.session.stop):
            sampler = opened.enter_context(job.serving.open(work.model, work.hand))
        caching = CachingSampler(sampler, logprobs=k)
        if claimed is None:
            _check_prompts(job, work, caching, problems)
        unfinished = job.unfinished_of(work.model)
        with _cache_of(job, sampler, k) as cache:
            with ends_at_once(job.session.stop):
                make_ready(
                    sampler,
                    lambda: _ends(job, unfinished),
                    max_logprobs=k,
                    scores=bool(work.unscored) or _scores_what_was_begun(work, unfinished, k),
                    ends_thinking=work.sampling.thinking_budget is not None,
                    shares=claimed is not None,
                )
            if work.samples:
                load_seconds = time.monotonic() - started
                progress = _progress(job, work, sampler, job.count_asked(finished), load_seconds)
                failures = Failures(job.folder, job.allowance, is_fresh=work.is_fresh)
                watch = servers.Watch(
                    job.folder, job.target, sampler, keep_old=job.session.keep_old
                )
                path = job.target / layout.TRACES
                with Recorder(path, progress, failures, cache, unfinished) as recorder:
                    drawing = _Drawing(job, work, caching, watch, recorder, unfinished)
                    with kept_by(sampler, recorder.keep if unfinished else None):
                        if job.ledger is None:
                            drawing.draw(problems if claimed is None else claimed, work.missing)
                        else:
                            _draw_in_rounds(job.ledger, work, claimed, drawing, progress)
            if cache is not None and work.unscored and not job.is_stopped:
                _score(job, sampler, cache, work.unscored, has_drawn=True)


def _ends(job: TraceJob, unfinished: Unfinished | None) -> bool:
    """Whether the sampler is to end where it is: at the first request where nothing is lost by it,
    else when nobody waits for what is in flight.
    """
    if unfinished is not None:
        return job.takes_no_more
    return job.is_stopped


def _scores_what_was_begun(work: ModelWork, unfinished: Unfinished | None, k: int) -> bool:
    """Whether the top K of tokens are wanted that an earlier session has drawn."""
    return k > 0 and unfinished is not None and unfinished.holds(work.ids())


@contextmanager
def _cache_of(job: TraceJob, sampler: Sampler, k: int) -> Generator[TopKWriter | None]:
    """The top-K cache of the folder, or None where no top K are wanted."""
    if k == 0:
        yield None
        return
    with capture.open_cache(job.target, sampler, k) as cache:
        yield cache


def _check_prompts(
    job: TraceJob, work: ModelWork, sampler: CachingSampler, problems: Iterable[Problem]
) -> None:
    """Raise StageError, before anything is drawn, when too many of the problems cannot be asked."""
    if sampler.max_model_len is None:
        return  # a server renders them itself
    faults = sampler.unaskable(problems, work.prompt)
    if job.allowance.is_refused_too_often(len(faults)):
        causes = Counter(cause_of(failed(str(fault), fault="input")) for fault in faults.values())
        raise too_many_refused(job.folder, job.allowance, len(faults), causes)


def _progress(
    job: TraceJob, work: ModelWork, sampler: Sampler, done: int, load_seconds: float
) -> SamplingProgress:
    running, threads = Running(), None
    total = job.total
    if job.ledger is not None:
        total = done + work.samples
    if isinstance(sampler, SamplerBase):
        running, threads = sampler.running, sampler.threads
    return SamplingProgress(
        job.target,
        model=work.model.model,
        samples=math.ceil(work.samples / job.workers),
        done=done,
        total=total,
        load_seconds=load_seconds,
        running=running,
        threads=threads,
    )


@dataclass(frozen=True)
class _Drawing:
    """What draws samples and writes them down, while a model is open."""

    job: TraceJob
    work: ModelWork
    sampler: CachingSampler
    watch: servers.Watch
    recorder: Recorder
    unfinished: Unfinished | None

    def draw(self, problems: Iterable[Problem], missing: Mapping[str, Sequence[int]]) -> None:
        """Draw and write what is missing of these problems; what cannot be asked is written at
        once.
        """
        job = self.job
        find_begun = nothing_begun
        if self.unfinished is not None:
            find_begun = self.unfinished.find
        traces = sample_traces(
            _until_stopped(job, problems),
            self.sampler,
            self.work.prompt,
            self.work.sampling,
            missing=missing,
            refuse=self._put,
            find_begun=find_begun,
        )
        with closing(traces):
            for trace in traces:
                self.watch.look(trace.completion)
                top_k = self.sampler.top_k.pop(trace.id, None)
                if trace.completion.is_masked:
                    top_k = None  # its tokens are those of the secret
                self._put(trace, top_k)
                # What keeps the unfinished ends by itself, between two steps: not all that one of
                # them has finished may have come yet.
                if self.unfinished is None and job.is_stopped:
                    break

    def _put(self, trace: Trace, top_k: TopK | None = None) -> None:
        if self.work.writer is not None:
            _, revision = name_and_revision(trace.model)
            trace = trace.model_copy(update={"model": f"{self.work.writer}@{revision}"})
        self.recorder.put(trace, top_k)
        if self.job.ledger is not None:
            self.job.ledger.add(trace)


def _draw_in_rounds(
    ledger: Ledger,
    work: ModelWork,
    claimed: Iterable[Problem] | None,
    drawing: _Drawing,
    progress: SamplingProgress,
) -> None:
    """Draw round after round, of this model's problems or of those that are claimed, until none of
    them lacks a sample. Grades come between two rounds. Raises StageError when the sampler brings
    nothing of a round.
    """
    mine = {problem.id for problem in work.hand}
    asked = work.missing
    if claimed is None:
        drawing.draw(work.problems, work.missing)
    else:
        mine = set()
        drawing.draw(_noted(claimed, mine), work.missing)
    while not drawing.job.takes_no_more:
        missing = ledger.plan(mine).missing
        if not missing and claimed is not None:
            # What has come says how many others may be begun.
            before = len(mine)
            drawing.draw(_noted(claimed, mine), work.missing)
            if len(mine) == before:
                return
            continue
        if not missing:
            return
        if missing == asked:
            raise StageError(
                f"{work.model.model}: of {sum(map(len, asked.values()))} samples that were asked "
                "for none came; its sampler has to answer each request."
            )
        asked = missing
        progress.expect(sum(map(len, missing.values())))
        drawing.draw((problem for problem in work.hand if problem.id in missing), missing)


def _noted(problems: Iterable[Problem], ids: set[str]) -> Iterator[Problem]:
    for problem in problems:
        ids.add(problem.id)
        yield problem


def _until_stopped(job: TraceJob, problems: Iterable[Problem]) -> Iterator[Problem]:
    """These problems until somebody asks to stop: what is in flight may still end then."""
    for problem in problems:
        if job.takes_no_more:
            return
        yield problem


# ---- the top K of traces that stand already ------------------------------------------------------


def _score(
    job: TraceJob, sampler: Sampler, cache: TopKWriter, wanted: Set[str], *, has_drawn: bool
) -> None:
    """The second pass over these traces on a running engine."""
    problems = {problem.id: problem for problem in job.problems}

    def prompt_of(problem_id: str) -> Rendered:
        return render_prompt(problems[problem_id], sampler, job.prompt)

    capture.score(
        job.folder,
        sampler,
        cache,
        wanted,
        prompt_of=prompt_of,
        has_drawn=has_drawn,
        should_stop=lambda: job.is_stopped,
    )


def score_others(job: TraceJob) -> None:
    """Score the traces of models that give no log-probabilities with `logprobs_model`."""
    scorer = capture.scoring_model(job.traces)
    if scorer is None:
        return
    others: set[str] = set()
    hands = deal_problems(job)
    for model, hand in zip(job.traces.teachers, hands, strict=True):
        if not model.capabilities.gives_logprobs:
            others.update(problem.id for problem in hand)
    unscored = job.unscored()
    wanted = {trace_id for trace_id in unscored if problem_and_sample(trace_id)[0] in others}
    if not wanted:
        return
    k = job.traces.logprobs or 0
    with ExitStack() as opened:
        with ends_at_once(job.session.stop):
            sampler = opened.enter_context(job.serving.open(scorer, ()))
        cache = opened.enter_context(capture.open_cache(job.folder, sampler, k))
        with ends_at_once(job.session.stop):
            make_ready(sampler, lambda: job.is_stopped, max_logprobs=k, scores=True)
        _score(job, sampler, cache, wanted, has_drawn=False)
    job.check_stop()


def capture_later(job: TraceJob, done: Manifest) -> Manifest:
    """A finished folder that is asked for (more of) the top K: nothing is drawn, and later stages
    read the same traces.
    """
    if capture.is_captured(job.traces, job.folder, done):
        return done
    added = (layout.TOPK, layout.METRICS, layout.SERVERS)
    unseal(job.folder, added)
    for work in plan_work(job, {}, job.unscored()):
        work_on(job, work, finished=set())
        job.check_stop()
    score_others(job)
    sealed = seal(job.folder, added)
    figures = cache_figures(job)
    stored = sealed.figures | figures.to_dict()
    if not figures.topk_missing:
        stored.pop("topk_missing", None)  # of the cache as it was before
    manifest = replace(sealed, figures=stored)
    write_manifest(job.folder, manifest)
    return manifest


def cache_figures(job: TraceJob) -> TracesFigures:
    """What the cache holds, for the manifest; empty where no top K are wanted."""
    if job.traces.logprobs is None:
        return TracesFigures()
    return capture.figures(job.folder, job.traces.logprobs)
