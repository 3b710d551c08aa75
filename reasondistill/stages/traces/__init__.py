"""Stage 2: Problem × prompt × sampler → Trace, n samples per problem, resumed per sample.

    manifest = run_traces(pipeline.traces, run / "1-problems", run / "2-traces", cluster=cluster)

Writes traces.jsonl (in the end in problem order, then by sample) and metrics.jsonl. A sample's key
is the fingerprint of model revision, prompt as the model sees it, sampling and sample index; its
seed is derived from the key. So the same samples come out however often the stage was killed, and
raising `n` draws only the new ones. Evals sample with the same function.

With `logprobs = K` the teacher's K most likely tokens at each token go into topk/ (capture.py);
traces.jsonl is the same with and without.

Several workers may fill one folder (work_sharing.py): one process opens it, workers draw the chunks
that they claim, one process closes it. The traces are the same for any number of them.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Set
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from reasondistill.config import Cluster, SampledModel, TraceSettings
from reasondistill.errors import Interrupted, ReasonDistillError, StageError
from reasondistill.models.prompts import NamedPrompt, load_prompt
from reasondistill.models.samplers import (
    InputFault,
    Rendered,
    Request,
    Running,
    Sampled,
    Sampler,
    SamplerBase,
    failed,
    make_ready,
    problem_and_sample,
    seed_of,
)
from reasondistill.models.samplers.opening import OpenSampler, identity_of, open_sampler
from reasondistill.models.topk import TopKWriter
from reasondistill.records import Problem, Sampling, Trace, fingerprint
from reasondistill.runs import layout, work_sharing
from reasondistill.runs.missing import STOPPED, cause_of
from reasondistill.runs.store import (
    Identity,
    Manifest,
    StopSignal,
    finish_stage,
    open_stage,
    read_manifest,
    read_records,
    reopen_stage,
    require_complete,
    require_open,
    write_manifest,
)
from reasondistill.runs.work_sharing import Share, Worker
from reasondistill.stages.traces import capture, on_disk, servers, summary
from reasondistill.stages.traces.failures import (
    Allowance,
    Failures,
    nothing_but_failures,
    too_many_lost,
    too_many_refused,
)
from reasondistill.stages.traces.recorder import Progress, Recorder
from reasondistill.stages.traces.teachers import deal

__all__ = [
    "OpenSampler",
    "deal",
    "run_traces",
    "sample_key",
    "seed_of",
]

VERSION = 1
# Workers claim so many samples at once: few enough that all end together, enough that claiming
# costs nothing.
CHUNK_SAMPLES, CHUNKS_PER_WORKER = 64, 16
log = logging.getLogger(__name__)


# ---- one sample ----------------------------------------------------------------------------------


def sample_key(model: str, rendered: Rendered, sampling: Sampling, sample: int) -> str:
    """The sample's identity: equal keys mean the same draw."""
    prompt = (
        list(rendered.token_ids)
        if rendered.token_ids is not None
        else [m.model_dump() for m in rendered.messages]
    )
    return fingerprint(
        {
            "model": model,
            "prompt": prompt,
            "sampling": sampling.model_dump(mode="json"),
            "sample": sample,
        }
    )


@dataclass(frozen=True)
class _Work:
    """What one teacher still has to draw: problems with the sample numbers that are missing.
    `is_fresh`: it has none yet.

    `hand` are all problems of this teacher, `number` is its place among the teachers. `unscored`
    are traces that it has drawn and whose top K are wanted now.
    """

    teacher: SampledModel
    number: int
    hand: tuple[Problem, ...]
    problems: tuple[Problem, ...]
    missing: dict[str, tuple[int, ...]]
    is_fresh: bool
    unscored: frozenset[str] = frozenset()

    @property
    def samples(self) -> int:
        return sum(len(numbers) for numbers in self.missing.values())


def _requests(
    job: _Job,
    work: _Work,
    problems: Iterable[Problem],
    sampler: Sampler,
    refuse: Callable[[Sampled], None],
) -> Iterator[Request]:
    """The missing samples of these problems, until somebody asks to stop: what is in flight may
    still end then.

    The samples of a problem that the model cannot be asked go to `refuse` at once.
    """
    for problem in problems:
        if job.stop is not None and job.stop.requested:
            return
        try:
            rendered = _rendered(job, sampler, problem)
        except InputFault as fault:
            turns = job.prompt.prompt.render(problem.question)
            for request in _requests_of(job, work, problem, sampler, Rendered(turns)):
                refuse(Sampled(request, failed(str(fault), fault="input")))
            continue
        yield from _requests_of(job, work, problem, sampler, rendered)


def _requests_of(
    job: _Job, work: _Work, problem: Problem, sampler: Sampler, rendered: Rendered
) -> Iterator[Request]:
    """One request for each missing sample of a problem."""
    sampling, logprobs = job.traces.resolve(), _logprobs_of(job, work.teacher)
    for sample in work.missing[problem.id]:
        key = sample_key(sampler.model, rendered, sampling, sample)
        yield Request(f"{problem.id}:{sample}", key, rendered, sampling, seed_of(key), logprobs)


def _rendered(job: _Job, sampler: Sampler, problem: Problem) -> Rendered:
    """The prompt as the model will see it. Raises InputFault when it leaves no room for one token,
    or cannot be made.
    """
    rendered = _renderer(job, sampler)(problem)
    context = sampler.max_model_len if isinstance(sampler, SamplerBase) else None
    tokens = rendered.token_ids
    if tokens is not None and context is not None and len(tokens) + 1 > context:
        raise InputFault(
            "prompt_too_long",
            f"prompt longer than the context: {len(tokens)} tokens, max_model_len {context}",
        )
    return rendered


def _trace(sampled: Sampled, model: str, prompt: str) -> Trace:
    request = sampled.request
    problem_id, sample = problem_and_sample(request.id)
    return Trace(
        id=request.id,
        problem_id=problem_id,
        sample=sample,
        model=model,
        prompt=prompt,
        sampling=request.sampling,
        key=request.key,
        seed=request.seed,
        completion=sampled.completion,
    )


# ---- the stage -----------------------------------------------------------------------------------


def run_traces(
    traces: TraceSettings,
    problems_folder: Path,
    folder: Path,
    *,
    cluster: Cluster,
    open_sampler: OpenSampler = open_sampler,
    stop: StopSignal | None = None,
    limit: int | None = None,
    keep_old: bool = False,
    heal: bool = True,
    first_samples: bool = False,
    share: Share | None = None,
) -> Manifest:
    """Draw what is missing of n samples per problem; `limit` takes the first problems only.

    With `first_samples` a folder that was begun with more samples of each problem will do: who
    reads it takes the first n. With `share` this process opens the folder for workers, is one of
    them, or closes it; only closing gives a complete manifest.

    A sample that the service lost is written with `finish="error"`, counted, and drawn again by the
    next run, unless `heal` is off; a problem that the model cannot be asked is set aside
    (failures.py). Raises StageError (no problems, more failures than are allowed), ConfigError,
    DriftError, Interrupted.
    """
    started = time.monotonic()
    inputs = _inputs(traces, problems_folder)
    problems = tuple(read_records(problems_folder / layout.PROBLEMS, Problem))[:limit]
    if not problems:
        raise StageError(f"{problems_folder}: holds no problems; there is nothing to sample.")
    prompt = load_prompt(traces.prompt)
    old = read_manifest(folder)
    if first_samples and old is not None and old.section.get("n", 0) > traces.n:
        traces = traces.model_copy(update={"n": old.section["n"]})
    identity = Identity("traces", VERSION, _section(traces, prompt, len(problems)), inputs)
    capture.check_tokenizers(traces)
    job = _Job(traces, problems, prompt, folder, cluster, open_sampler, stop, keep_old=keep_old)
    if share is not None and share.role != "open":
        manifest = require_open(folder, None if keep_old else identity)
        if manifest.status == "partial":
            return _fill(job, share.number) if share.role == "work" else _close(job)
        return manifest if share.role == "work" else _capture_later(job, manifest)
    was_complete = (
        open_stage(folder, identity, grows=("n", "limit"), keep_old=keep_old) == "complete"
    )
    if was_complete and not (heal and _is_worth_another_try(job, identity)):
        done = require_complete(folder)
        _refuse_what_was_lost(job, done)
        return _capture_later(job, done) if share is None else done
    capture.check_models(traces, folder)
    _take_in(folder)
    finished = on_disk.finished_samples(folder)
    if share is not None:
        return _open(job, share.of, missing=job.total - len(finished))
    try:
        _draw_rest(job, finished)
    except Interrupted:
        raise
    except ReasonDistillError as error:
        if not was_complete:
            _note_why(folder, error)
            raise
        # It was finished with what it may lack, and is so again.
        log.warning("%s: what was lost could not be drawn again: %s", folder, error)
    return _finish(job, time.monotonic() - started)


def _draw_rest(job: _Job, finished: set[str]) -> None:
    """What is missing, teacher by teacher. Raises Interrupted."""
    for work in _plan(job.traces, job.problems, finished, _unscored(job)):
        _work_on(job, work, done=len(finished))
        finished |= {
            f"{problem_id}:{sample}"
            for problem_id, samples in work.missing.items()
            for sample in samples
        }
        if job.stop is not None:
            job.stop.check()
    _score_others(job)


def _note_why(folder: Path, error: Exception) -> None:
    """Keep why the stage stopped in its unfinished manifest, for `show`."""
    manifest = read_manifest(folder)
    if manifest is not None:
        write_manifest(folder, replace(manifest, figures=manifest.figures | {STOPPED: str(error)}))


def _is_worth_another_try(job: _Job, identity: Identity) -> bool:
    """Reopen a finished folder when samples were lost, or prompts were too long for a context that
    is another one now.
    """
    if reopen_stage(job.folder, identity, "failed"):
        return True
    recorded = require_complete(job.folder).figures.get("engine", {})
    same_context = recorded.get("max_model_len") == job.cluster.vllm.max_model_len
    return bool(recorded) and not same_context and reopen_stage(job.folder, identity, "refused")


def _refuse_what_was_lost(job: _Job, done: Manifest) -> None:
    """Raise StageError for a folder that an earlier version, or another setting, took for finished
    without its samples.
    """
    lost = done.counts.get("failed", 0)
    if lost > job.allowance.lost:
        raise StageError(
            f"{job.folder}: {lost} of {job.total} samples were lost, failures_allowed = "
            f"{job.traces.failures_allowed:g} allows "
            f"{job.allowance.lost}, and what was made of the rest (5-students) keeps them "
            "from being drawn again. Remove what "
            "was made of it, or say that it may stay with --set traces.failures_allowed=1."
        )


# ---- with several workers ------------------------------------------------------------------------


def _take_in(folder: Path) -> None:
    """What workers left behind becomes the folder's own."""
    for part in work_sharing.worker_folders(folder):
        capture.take_in(folder, part)
    work_sharing.gather(folder, extras=[capture.FOLDER])


def _open(job: _Job, workers: int, *, missing: int) -> Manifest:
    """An attempt of so many workers at what is missing."""
    problems = chunk_of(len(job.problems), job.traces.n, workers)
    work_sharing.begin(job.folder, workers=workers, chunk=problems)
    log.info(
        "%d of %d samples to draw by %d workers, %d problems at a time",
        missing,
        job.total,
        workers,
        problems,
    )
    return require_open(job.folder, None)


def chunk_of(problems: int, n: int, workers: int) -> int:
    """How many problems are claimed at once."""
    return max(1, min(CHUNK_SAMPLES // n, math.ceil(problems / (workers * CHUNKS_PER_WORKER))))


def _fill(job: _Job, number: int) -> Manifest:
    """One worker's part: per teacher the chunks that it can claim. An engine starts only when there
    is one.
    """
    worker = Worker(job.folder, number)
    own = replace(job, own=worker.folder, workers=worker.attempt.workers)
    finished = on_disk.whole_ids(job.folder / layout.TRACES).union(
        *(on_disk.settled_ids(folder / layout.TRACES) for folder in worker.earlier())
    )
    for work in _plan(job.traces, job.problems, finished, set()):
        claimed = _claimed(work, worker)
        if (first := next(claimed, None)) is not None:
            _work_on(own, work, done=len(finished), problems=chain([first], claimed))
        if job.stop is not None:
            job.stop.check()
    return require_open(job.folder, None)


def _claimed(work: _Work, worker: Worker) -> Iterator[Problem]:
    """The problems of the chunks that this worker gets, as long as they lack samples."""
    size = worker.attempt.chunk
    for chunk in worker.claims(math.ceil(len(work.hand) / size), group=f"teacher{work.number}"):
        yield from (
            problem
            for problem in work.hand[chunk * size : (chunk + 1) * size]
            if problem.id in work.missing
        )


def _close(job: _Job) -> Manifest:
    """All workers' traces in one file, complete or not closed: raises StageError saying how many
    are missing.
    """
    attempt = work_sharing.current(job.folder)
    _take_in(job.folder)
    on_disk.drop_overtaken(job.folder / layout.TRACES)
    finished = on_disk.finished_ids(job.folder / layout.TRACES)
    if (missing := job.total - len(finished)) > 0:
        raise StageError(
            f"{job.folder}: {missing} of {job.total} samples are missing: a worker has "
            "ended early (see the logs of this run). What there "
            "is, is safe; `reasondistill resume` draws the rest."
        )
    for work in _plan(job.traces, job.problems, finished, _unscored(job)):
        _work_on(job, work, done=len(finished))
    _score_others(job)
    if job.stop is not None:
        job.stop.check()
    return (
        _finish(job, time.time() - attempt.began, attempt.workers)
        if attempt is not None
        else _finish(job, 0.0)
    )


def _inputs(traces: TraceSettings, problems_folder: Path) -> dict[str, str]:
    """What a model is asked: ids and questions. A gold answer that is put right changes grades,
    never samples.

    Reference solutions are traces themselves: then the whole problems count.
    """
    output = require_complete(problems_folder).output
    if any(teacher.capabilities.reads_solutions for teacher in traces.teachers):
        return {"problems": output}
    digest = hashlib.sha256()
    for problem in read_records(problems_folder / layout.PROBLEMS, Problem):
        digest.update(f"{problem.id}\0{problem.question}\0".encode("utf-8", "surrogatepass"))
    return {"questions": digest.hexdigest()[:16]}


@dataclass(frozen=True)
class _Job:
    """What stays the same for all teachers of a run. `own` is the folder of one of `workers`."""

    traces: TraceSettings
    problems: tuple[Problem, ...]
    prompt: NamedPrompt
    folder: Path
    cluster: Cluster
    open_sampler: OpenSampler
    stop: StopSignal | None
    own: Path | None = None
    workers: int = 1
    keep_old: bool = False

    @property
    def allowance(self) -> Allowance:
        """How many samples of the whole stage may fail."""
        return Allowance(self.total, len(self.problems), self.traces.failures_allowed)

    @property
    def target(self) -> Path:
        """Where this process writes: a worker's own folder, or that of the stage."""
        return self.own or self.folder

    @property
    def total(self) -> int:
        return len(self.problems) * self.traces.n

    @property
    def is_stopped(self) -> bool:
        return self.stop is not None and self.stop.is_urgent


def _section(traces: TraceSettings, prompt: NamedPrompt, problems: int) -> dict[str, Any]:
    """What the traces are a function of."""
    return {
        "prompt": prompt.tag,
        "n": traces.n,
        "limit": problems,
        "sampling": traces.resolve().model_dump(mode="json"),
        "teachers": {
            str(number): _teacher_section(teacher)
            for number, teacher in enumerate(traces.teachers, start=1)
        },
    }


def _teacher_section(teacher: SampledModel) -> dict[str, Any]:
    kept = teacher.model_dump(mode="json", include={"sampler", "share", "template_options"})
    return {"model": identity_of(teacher)} | kept | teacher.shaping()


def _plan(
    traces: TraceSettings, problems: Sequence[Problem], finished: set[str], unscored: set[str]
) -> list[_Work]:
    """What each teacher has to draw and to score; teachers with nothing to do are left out, so that
    their engine never starts.
    """
    hands = _hands(traces, problems)
    dealt = enumerate(zip(traces.teachers, hands, strict=True))
    works = [
        _work(teacher, number, hand, traces.n, finished, unscored)
        for number, (teacher, hand) in dealt
    ]
    return [work for work in works if work.missing or work.unscored]


def _hands(traces: TraceSettings, problems: Sequence[Problem]) -> list[list[Problem]]:
    """Each teacher's own problems."""
    hands: list[list[Problem]] = [[] for _ in traces.teachers]
    shares = [teacher.share for teacher in traces.teachers]
    for problem in problems:
        hands[deal(problem.id, shares)].append(problem)
    return hands


def _work(
    teacher: SampledModel,
    number: int,
    hand: Sequence[Problem],
    n: int,
    finished: set[str],
    unscored: set[str],
) -> _Work:
    missing: dict[str, tuple[int, ...]] = {}
    for problem in hand:
        if samples := tuple(
            sample for sample in range(n) if f"{problem.id}:{sample}" not in finished
        ):
            missing[problem.id] = samples
    is_fresh = sum(map(len, missing.values())) == n * len(hand)
    own = set[str]()
    if teacher.capabilities.gives_logprobs:
        own = {problem.id for problem in hand}
    mine = frozenset(trace_id for trace_id in unscored if problem_and_sample(trace_id)[0] in own)
    return _Work(
        teacher,
        number,
        tuple(hand),
        tuple(problem for problem in hand if problem.id in missing),
        missing,
        is_fresh,
        mine,
    )


def _work_on(
    job: _Job, work: _Work, *, done: int, problems: Iterable[Problem] | None = None
) -> None:
    """Open one teacher; draw what is missing (of `problems`, which a worker claims on the way),
    score what stands already.

    Returns early when asked to stop.
    """
    started = time.monotonic()
    k = _logprobs_of(job, work.teacher)
    if work.samples:
        log.info(
            "%s: %d samples of %d problems to draw",
            work.teacher.model,
            work.samples,
            len(work.problems),
        )
    with job.open_sampler(work.teacher, job.cluster, work.problems) as sampler:
        if problems is None:
            _check_prompts(job, sampler, work.problems)
        with capture.open_cache(job.target, sampler, k) if k else nullcontext() as cache:
            make_ready(
                sampler,
                lambda: job.is_stopped,
                max_logprobs=k,
                scores=bool(work.unscored),
                shares=problems is not None,
            )
            if work.samples:
                _draw(
                    job,
                    work,
                    problems or work.problems,
                    sampler,
                    cache,
                    done=done,
                    load_seconds=time.monotonic() - started,
                )
            if cache is not None and work.unscored and not job.is_stopped:
                _score(job, sampler, cache, work.unscored, own=True)


def _logprobs_of(job: _Job, teacher: SampledModel) -> int:
    """K for a teacher that can give its log-probabilities, else 0."""
    if not teacher.capabilities.gives_logprobs:
        return 0
    return job.traces.logprobs or 0


def _renderer(job: _Job, sampler: Sampler) -> Callable[[Problem], Rendered]:
    prompt = job.prompt.prompt
    return lambda problem: sampler.render(prompt.render(problem.question), plain=prompt.plain)


def _draw(
    job: _Job,
    work: _Work,
    problems: Iterable[Problem],
    sampler: Sampler,
    cache: TopKWriter | None,
    *,
    done: int,
    load_seconds: float,
) -> None:
    """Draw and write what is missing of these problems."""
    progress = Progress(
        job.target,
        teacher=work.teacher.model,
        samples=work.samples if job.own is None else math.ceil(work.samples / job.workers),
        done=done,
        total=job.total,
        load_seconds=load_seconds,
        running=sampler.running if isinstance(sampler, SamplerBase) else Running(),
        threads=sampler.threads if isinstance(sampler, SamplerBase) else None,
    )
    failures = Failures(job.folder, job.allowance, is_fresh=work.is_fresh)
    watch = servers.Watch(job.folder, job.target, sampler, keep_old=job.keep_old)
    with Recorder(job.target / layout.TRACES, progress, failures, cache) as recorder:

        def record(sampled: Sampled) -> None:
            watch.look(sampled.completion)
            recorder.put(_trace(sampled, sampler.model, job.prompt.tag), sampled.top_k)

        requests = _requests(job, work, problems, sampler, record)
        with closing(_generator(sampler.sample(requests))) as drawn:
            for sampled in drawn:
                record(sampled)
                if job.is_stopped:
                    break


# ---- the top K of traces that stand already ------------------------------------------------------


def _unscored(job: _Job) -> set[str]:
    return (
        capture.unscored(job.folder, job.traces.logprobs)
        if job.traces.logprobs is not None
        else set()
    )


def _score(job: _Job, sampler: Sampler, cache: TopKWriter, wanted: Set[str], *, own: bool) -> None:
    """The second pass over these traces on a running engine."""
    problems = {problem.id: problem for problem in job.problems}
    capture.score(
        job.folder,
        sampler,
        cache,
        wanted,
        k=job.traces.logprobs or 0,
        render=_renderer(job, sampler),
        problems=problems,
        total=len(wanted),
        own=own,
        should_stop=lambda: job.is_stopped,
    )


def _score_others(job: _Job) -> None:
    """The traces of teachers that give no log-probabilities, scored by `logprobs_model`."""
    teacher = capture.scoring_teacher(job.traces)
    if teacher is None:
        return
    hands = _hands(job.traces, job.problems)
    others = {
        problem.id
        for teacher, hand in zip(job.traces.teachers, hands, strict=True)
        if not teacher.capabilities.gives_logprobs
        for problem in hand
    }
    wanted = {trace_id for trace_id in _unscored(job) if problem_and_sample(trace_id)[0] in others}
    if not wanted:
        return
    k = job.traces.logprobs or 0
    with (
        job.open_sampler(teacher, job.cluster, ()) as sampler,
        capture.open_cache(job.folder, sampler, k) as cache,
    ):
        make_ready(sampler, lambda: job.is_stopped, max_logprobs=k, scores=True)
        _score(job, sampler, cache, wanted, own=False)
    if job.stop is not None:
        job.stop.check()


def _capture_later(job: _Job, done: Manifest) -> Manifest:
    """A finished folder that is asked for (more of) the top K: nothing is drawn, and later stages
    read the same traces.
    """
    if capture.is_captured(job.traces, job.folder, done):
        return done
    everything = {
        f"{problem.id}:{sample}" for problem in job.problems for sample in range(job.traces.n)
    }
    for work in _plan(job.traces, job.problems, everything, _unscored(job)):
        _work_on(job, work, done=0)
        if job.stop is not None:
            job.stop.check()
    _score_others(job)
    manifest = replace(done, figures=done.figures | _cache_figures(job))
    write_manifest(job.folder, manifest)
    return manifest


def _cache_figures(job: _Job) -> dict[str, Any]:
    return (
        capture.figures(job.folder, job.traces.logprobs) if job.traces.logprobs is not None else {}
    )


def _generator(drawn: Iterable[Sampled]) -> Generator[Sampled]:
    """Any iterable as a generator, which can be closed."""
    yield from drawn


def _check_prompts(job: _Job, sampler: Sampler, problems: Iterable[Problem]) -> None:
    """Raise StageError, before anything is drawn, when too many of the problems cannot be asked."""
    if not isinstance(sampler, SamplerBase) or sampler.max_model_len is None:
        return  # a server renders them itself
    refused, causes = set[str](), Counter[str]()
    for problem in problems:
        try:
            _rendered(job, sampler, problem)
        except InputFault as fault:
            refused.add(problem.id)
            causes[cause_of(failed(str(fault), fault="input"))] += 1
    if job.allowance.is_refused_too_often(len(refused)):
        raise too_many_refused(job.folder, job.allowance, len(refused), causes)


# ---- the end -------------------------------------------------------------------------------------


def _finish(job: _Job, seconds: float, workers: int = 1) -> Manifest:
    """Canonical order, figures, manifest. `seconds` are those on the clock, however many workers
    there were.
    """
    folder = job.folder
    places = {problem.id: place for place, problem in enumerate(job.problems)}
    on_disk.drop_overtaken(folder / layout.TRACES)
    summary.sort(folder / layout.TRACES, places)
    sums = summary.tally(folder / layout.TRACES)
    _check_failures(job, sums)
    summary.write_set_aside(folder, job.problems, sums)
    lost = sums.lost.total()
    if lost:
        log.warning(
            "%s: %d of %d samples were lost; the same command draws them again",
            folder,
            lost,
            sums.samples,
        )
    if sums.refused:
        log.warning(
            "%s: %d problems cannot be asked and were set aside (%s)",
            folder,
            len(sums.refused),
            layout.SET_ASIDE,
        )
    counts = {"in": len(job.problems), "out": sums.samples}
    counts |= {
        name: number
        for name, number in (("failed", lost), ("refused", sums.refused_samples.total()))
        if number
    }
    figures = (
        summary.figures(folder, sums)
        | _cache_figures(job)
        | summary.engine(folder, job.traces, job.cluster)
    )
    figures |= servers.figures(folder)
    if workers > 1:
        figures |= {"workers": workers}
    return finish_stage(
        folder,
        counts=counts,
        figures=figures,
        seconds=seconds,
        content=summary.content(folder / layout.TRACES),
    )


def _check_failures(job: _Job, sums: summary.Tally) -> None:
    """Raise StageError when more failed, by all workers together, than may fail."""
    if sums.lost and sums.failed == sums.samples:
        raise nothing_but_failures(sums.samples, sums.error)
    if sums.lost.total() > job.allowance.lost:
        raise too_many_lost(job.folder, job.allowance, sums.lost)
    if job.allowance.is_refused_too_often(len(sums.refused)):
        causes = Counter(map(cause_of, sums.refused.values()))
        raise too_many_refused(job.folder, job.allowance, len(sums.refused), causes)
