"""Stage 2: Problem × prompt × sampler → Trace, n samples per problem, resumed per sample.

    manifest = run_traces(pipeline.traces, run / "1-problems", run / "2-traces", cluster=cluster)

Writes traces.jsonl (in the end in problem order, then by sample) and metrics.jsonl. A sample's key is the fingerprint of model revision,
prompt as the model sees it, sampling and sample index; its seed is derived from the key. So the same samples come out however often
the stage was killed, and raising `n` draws only the new ones. Evals sample with the same function.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from reasondistill.config import Cluster, Teacher, Traces
from reasondistill.errors import StageError
from reasondistill.prompts import NamedPrompt, load_prompt
from reasondistill.records import Problem, Sampling, Trace, fingerprint
from reasondistill.samplers import Rendered, Request, Sampled, Sampler, SamplerBase, problem_and_sample
from reasondistill.store import (
    Identity,
    Manifest,
    Shard,
    StopSignal,
    append_metrics,
    drop_lines,
    finish_stage,
    open_stage,
    read_manifest,
    read_metrics,
    read_records,
    read_rows,
    repair_tail,
    require_complete,
    sort_shard,
    write_manifest,
)
from reasondistill.weights import model_identity

VERSION = 1
FILE = "traces.jsonl"
log = logging.getLogger(__name__)

# A batch is durable after this many traces or this many seconds, whichever comes first.
BATCH_TRACES, BATCH_SECONDS = 64, 1.0
REPORT_SECONDS = 10.0
# When so many samples failed and none ever succeeded, the set-up is wrong, not the samples.
HOPELESS = 32

OpenSampler = Callable[[Teacher, Cluster, Sequence[Problem]], Sampler]


# ---- teachers -----------------------------------------------------------------------------------------------------


def open_sampler(teacher: Teacher, cluster: Cluster, problems: Sequence[Problem]) -> Sampler:
    """The sampler that a teacher means, with the cluster's settings. Raises ConfigError or MissingDependencyError."""
    if teacher.sampler == "vllm":
        from reasondistill.samplers.vllm import VllmSampler

        options = cluster.vllm.model_dump() | teacher.model_dump(include={"template_options", "trust_remote_code"})
        return VllmSampler(teacher.model, revision=teacher.revision, **options)
    if teacher.sampler == "openai":
        from reasondistill.samplers.openai import OpenAISampler

        options = cluster.openai.model_dump() | teacher.model_dump(include={"template_options"})
        return OpenAISampler(teacher.model, revision=teacher.revision, **options)
    if teacher.sampler == "scripted":
        from reasondistill.samplers.scripted import ScriptedSampler

        return ScriptedSampler.from_file(Path(teacher.model), problems)
    from reasondistill.samplers.reference import ReferenceSampler

    return ReferenceSampler(problems)


def teacher_identity(teacher: Teacher) -> str:
    """`name@revision` of the teacher's weights, found without starting an engine. Raises ConfigError when they are missing."""
    if teacher.sampler == "vllm":
        return model_identity(teacher.model, teacher.revision)
    if teacher.sampler == "scripted" and Path(teacher.model).is_file():
        from reasondistill.samplers.scripted import script_identity

        return script_identity(Path(teacher.model))
    return f"{teacher.model}@{teacher.revision}" if teacher.revision else teacher.model


def deal(problem_id: str, shares: Sequence[float]) -> int:
    """Which teacher gets this problem: a stable hash of its id against the cumulative shares.

    >>> deal("gsm8k/train/12", [1.0])
    0
    """
    digest = hashlib.sha256(f"deal:{problem_id}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64 * sum(shares)
    for index, share in enumerate(shares):
        point -= share
        if point < 0:
            return index
    return len(shares) - 1


# ---- one sample ---------------------------------------------------------------------------------------------------


def sample_key(model: str, rendered: Rendered, sampling: Sampling, sample: int) -> str:
    """The sample's identity: equal keys mean the same draw."""
    prompt = list(rendered.token_ids) if rendered.token_ids is not None else [m.model_dump() for m in rendered.messages]
    return fingerprint({"model": model, "prompt": prompt, "sampling": sampling.model_dump(mode="json"), "sample": sample})


def seed_of(key: str) -> int:
    """31 bits of the key: every engine and server takes such a seed."""
    return int(key, 16) & 0x7FFFFFFF


@dataclass(frozen=True)
class _Work:
    """What one teacher still has to draw: problems with the sample numbers that are missing. `is_fresh`: it has none yet."""

    teacher: Teacher
    problems: tuple[Problem, ...]
    missing: dict[str, tuple[int, ...]]
    is_fresh: bool

    @property
    def samples(self) -> int:
        return sum(len(numbers) for numbers in self.missing.values())


def _requests(work: _Work, sampler: Sampler, render: Callable[[Problem], Rendered], sampling: Sampling) -> Iterator[Request]:
    for problem in work.problems:
        rendered = render(problem)
        for sample in work.missing[problem.id]:
            key = sample_key(sampler.model, rendered, sampling, sample)
            yield Request(f"{problem.id}:{sample}", key, rendered, sampling, seed_of(key))


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


# ---- the stage ----------------------------------------------------------------------------------------------------


def run_traces(
    traces: Traces,
    problems_folder: Path,
    folder: Path,
    *,
    cluster: Cluster,
    open_sampler: OpenSampler = open_sampler,
    stop: StopSignal | None = None,
    limit: int | None = None,
    keep_old: bool = False,
) -> Manifest:
    """Draw what is missing of n samples per problem; `limit` takes the first problems only.

    A failed sample is written with `finish="error"`, counted, and drawn again by the next run.
    Raises StageError (no problems, a prompt longer than the context, nothing but failures), ConfigError, DriftError, Interrupted.
    """
    started = time.monotonic()
    inputs = {"problems": require_complete(problems_folder).fingerprint}
    problems = tuple(read_records(problems_folder / "problems.jsonl", Problem))[:limit]
    if not problems:
        raise StageError(f"{problems_folder}: holds no problems; there is nothing to sample.")
    prompt = load_prompt(traces.prompt)
    identity = Identity("traces", VERSION, _section(traces, prompt, len(problems), _failed_before(folder)), inputs)
    if open_stage(folder, identity, grows=("n", "limit"), keep_old=keep_old) == "complete" and not _reopen(folder, identity):
        return require_complete(folder)
    finished = _finished_samples(folder)
    job = _Job(traces, prompt, folder, len(problems) * traces.n, cluster, open_sampler, stop)
    for work in _plan(traces, problems, finished):
        _draw(job, work, done=len(finished))
        finished |= {f"{problem_id}:{sample}" for problem_id, samples in work.missing.items() for sample in samples}
        if stop is not None:
            stop.check()
    return _finish(folder, identity, problems, time.monotonic() - started)


@dataclass(frozen=True)
class _Job:
    """What stays the same for all teachers of a run."""

    traces: Traces
    prompt: NamedPrompt
    folder: Path
    total: int
    cluster: Cluster
    open_sampler: OpenSampler
    stop: StopSignal | None


def _section(traces: Traces, prompt: NamedPrompt, problems: int, failed: str | None) -> dict[str, Any]:
    """What the traces are a function of. `failed` is there only while samples of ours failed: retrying them changes what follows."""
    section: dict[str, Any] = {
        "prompt": prompt.tag,
        "n": traces.n,
        "limit": problems,
        "sampling": traces.resolve().model_dump(mode="json"),
        "teachers": {str(number): _teacher_section(teacher) for number, teacher in enumerate(traces.teachers, start=1)},
    }
    return section if failed is None else section | {"failed": failed}


def _teacher_section(teacher: Teacher) -> dict[str, Any]:
    kept = teacher.model_dump(mode="json", include={"sampler", "share", "template_options"})
    return {"model": teacher_identity(teacher)} | kept


def _failed_before(folder: Path) -> str | None:
    manifest = read_manifest(folder)
    return None if manifest is None else manifest.section.get("failed")


def _reopen(folder: Path, identity: Identity) -> bool:
    """Make a finished folder partial again when samples in it had failed; say whether it was so."""
    manifest = require_complete(folder)
    if manifest.fingerprint != identity.fingerprint or not manifest.counts.get("failed"):
        return False
    write_manifest(folder, replace(manifest, status="partial"))
    return True


def _finished_samples(folder: Path) -> set[str]:
    """The ids of all traces on disk; failed ones are taken out of the file, to be drawn again."""
    path = folder / FILE
    repair_tail(folder / "metrics.jsonl")
    if not path.exists():
        return set()
    repair_tail(path)
    finish = {row["id"]: row["completion"]["finish"] == "error" for row in read_rows(path)}
    failed = {name for name, is_failed in finish.items() if is_failed}
    if failed:
        log.info("%s: drawing %d failed samples again", folder, len(failed))
        drop_lines(path, failed)
    return finish.keys() - failed


def _plan(traces: Traces, problems: Sequence[Problem], finished: set[str]) -> list[_Work]:
    """What each teacher has to draw; teachers with nothing to do are left out, so that their engine never starts."""
    hands: list[list[Problem]] = [[] for _ in traces.teachers]
    shares = [teacher.share for teacher in traces.teachers]
    for problem in problems:
        hands[deal(problem.id, shares)].append(problem)
    works = [_work(teacher, hand, traces.n, finished) for teacher, hand in zip(traces.teachers, hands, strict=True)]
    return [work for work in works if work.missing]


def _work(teacher: Teacher, hand: Sequence[Problem], n: int, finished: set[str]) -> _Work:
    missing: dict[str, tuple[int, ...]] = {}
    for problem in hand:
        if samples := tuple(sample for sample in range(n) if f"{problem.id}:{sample}" not in finished):
            missing[problem.id] = samples
    is_fresh = sum(map(len, missing.values())) == n * len(hand)
    return _Work(teacher, tuple(problem for problem in hand if problem.id in missing), missing, is_fresh)


def _draw(job: _Job, work: _Work, *, done: int) -> None:
    """Open one teacher, draw what is missing, write it; returns early when asked to stop."""
    started = time.monotonic()
    log.info("%s: %d samples of %d problems to draw", work.teacher.model, work.samples, len(work.problems))
    with job.open_sampler(work.teacher, job.cluster, work.problems) as sampler:

        def render(problem: Problem) -> Rendered:
            return sampler.render(job.prompt.prompt.render(problem.question), plain=job.prompt.prompt.plain)

        check_lengths(sampler, render, work.problems)
        _make_ready(sampler, job.stop)
        progress = Progress(job.folder, work, done=done, total=job.total, load_seconds=time.monotonic() - started)
        requests = _requests(work, sampler, render, job.traces.resolve())
        with _Recorder(job.folder / FILE, progress) as recorder, closing(_generator(sampler.sample(requests))) as drawn:
            for sampled in drawn:
                recorder.put(_trace(sampled, sampler.model, job.prompt.tag))
                if job.stop is not None and job.stop.requested:
                    break


def _generator(drawn: Iterable[Sampled]) -> Generator[Sampled]:
    """Any iterable as a generator, which can be closed."""
    yield from drawn


def _make_ready(sampler: Sampler, stop: StopSignal | None) -> None:
    if isinstance(sampler, SamplerBase):
        if stop is not None:
            sampler.should_stop = lambda: stop.requested
        sampler.start()


def check_lengths(sampler: Sampler, render: Callable[[Problem], Rendered], problems: Iterable[Problem]) -> None:
    """Raise StageError, before anything is drawn, when a prompt leaves no room for one token."""
    context = sampler.max_model_len if isinstance(sampler, SamplerBase) else None
    for problem in problems if context is not None else ():
        tokens = render(problem).token_ids
        if tokens is not None and context is not None and len(tokens) + 1 > context:
            raise StageError(
                f"problem {problem.id}: prompt longer than the context: {len(tokens)} tokens, max_model_len {context}. "
                "Raise max_model_len in the cluster file, shorten the prompt (few-shot turns?), or filter the problem out."
            )


# ---- the end ------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Sums over a traces file."""

    samples: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    truncated: int = 0
    failed: list[str] = field(default_factory=list)
    error: str | None = None

    def add(self, row: dict[str, Any]) -> None:
        completion = row["completion"]
        self.samples += 1
        self.tokens += completion["tokens"]
        self.prompt_tokens += completion["prompt_tokens"]
        self.truncated += completion["finish"] == "length"
        if completion["finish"] == "error":
            self.failed.append(row["id"])
            self.error = completion["error"]


def tally(path: Path) -> Tally:
    """Count a traces file, one line in memory at a time."""
    sums = Tally()
    for row in read_rows(path):
        sums.add(row)
    return sums


def _finish(folder: Path, identity: Identity, problems: Sequence[Problem], seconds: float) -> Manifest:
    """Canonical order, figures, manifest."""
    places = {problem.id: place for place, problem in enumerate(problems)}
    _sort(folder / FILE, places)
    sums = tally(folder / FILE)
    if len(sums.failed) == sums.samples:
        raise _hopeless(sums.samples, sums.error)
    if sums.failed:
        log.warning("%s: %d of %d samples failed; the same command draws them again", folder, len(sums.failed), sums.samples)
    _remember_failed(folder, identity, sums.failed)
    counts = {"in": len(problems), "out": sums.samples} | ({"failed": len(sums.failed)} if sums.failed else {})
    return finish_stage(folder, counts=counts, figures=_figures(folder, sums), seconds=seconds)


def _sort(path: Path, places: dict[str, int]) -> None:
    def order(trace_id: str) -> tuple[int, int]:
        problem_id, sample = problem_and_sample(trace_id)
        if problem_id not in places:
            raise StageError(
                f"{path}: holds a trace of {problem_id}, which is not among the problems. Remove {path.parent} to sample again."
            )
        return places[problem_id], sample

    sort_shard(path, order)


def _hopeless(samples: int, error: str | None) -> StageError:
    return StageError(f"all {samples} samples failed; the last one said: {error}")


def _remember_failed(folder: Path, identity: Identity, failed: list[str]) -> None:
    """Put which samples failed into the folder's identity: what was made from it is stale once they have succeeded."""
    section = {key: value for key, value in identity.section.items() if key != "failed"}
    if failed:
        section["failed"] = f"{len(failed)} samples, {fingerprint(failed)}"
    now = replace(identity, section=section)
    manifest = read_manifest(folder)
    if manifest is not None and manifest.fingerprint != now.fingerprint:
        write_manifest(folder, replace(manifest, identity=now.to_dict(), fingerprint=now.fingerprint))


def _figures(folder: Path, sums: Tally) -> dict[str, Any]:
    """Numbers for the report; time and speed are summed over all runs that filled this folder."""
    sessions = {line["session"]: line for line in read_metrics(folder)}.values()
    seconds = sum(line["seconds"] for line in sessions)
    return {
        "samples": sums.samples,
        "tokens": sums.tokens,
        "prompt_tokens": sums.prompt_tokens,
        "seconds": round(seconds, 3),
        "tokens_per_s": round(sum(line["tokens"] for line in sessions) / seconds, 1) if seconds else 0.0,
        "load_seconds": round(sum(line["load_seconds"] for line in sessions), 3),
        "truncated": round(sums.truncated / sums.samples, 4),
        "errors": len(sums.failed),
    }


# ---- writing and telling ------------------------------------------------------------------------------------------


class Progress:
    """Where a teacher's sampling is: a log line and a metrics line about every ten seconds, and one at the end.

    `seconds` and `tokens` count this session only: from the first request of one teacher in one process.
    """

    def __init__(self, folder: Path, work: _Work, *, done: int, total: int, load_seconds: float) -> None:
        self._folder, self._work = folder, work
        self._done, self._total, self._load_seconds = done, total, load_seconds
        self._session = f"{time.time():.3f}"
        self._start = self._told = time.monotonic()
        self.drawn = self.tokens = self.truncated = self.errors = 0
        self.last_error: str | None = None

    def add(self, traces: Iterable[Trace]) -> None:
        for trace in traces:
            self.drawn += 1
            self.tokens += trace.completion.tokens
            self.truncated += trace.completion.finish == "length"
            if trace.completion.finish == "error":
                self.errors += 1
                self.last_error = trace.completion.error

    @property
    def is_hopeless(self) -> bool:
        """This teacher never wrote a trace here, and many samples failed."""
        return self._work.is_fresh and self.drawn == self.errors >= HOPELESS

    def tell(self, *, now: bool = False) -> None:
        """Log and append a metrics line when it is time."""
        if not now and time.monotonic() - self._told < REPORT_SECONDS:
            return
        self._told = time.monotonic()
        seconds = self._told - self._start
        log.info("%s", self.line(seconds))
        append_metrics(
            self._folder,
            time=round(time.time(), 3),
            session=self._session,
            teacher=self._work.teacher.model,
            done=self._done + self.drawn,
            total=self._total,
            tokens=self.tokens,
            truncated=self.truncated,
            errors=self.errors,
            seconds=round(seconds, 3),
            load_seconds=round(self._load_seconds, 3),
        )

    def line(self, seconds: float) -> str:
        """`1,240/8,000 · 312 tok/s · 2.1 % truncated · 1h12m left`."""
        parts = [f"{self._done + self.drawn:,}/{self._total:,}", f"{self.tokens / max(seconds, 1e-9):,.0f} tok/s"]
        parts.append(f"{100 * self.truncated / max(self.drawn, 1):.1f} % truncated")
        if self.errors:
            parts.append(f"{self.errors:,} failed")
        if self.drawn and self.drawn < self._work.samples:
            parts.append(f"{duration((self._work.samples - self.drawn) * seconds / self.drawn)} left")
        return " · ".join(parts)


def duration(seconds: float) -> str:
    """`41s`, `12m05s`, `1h12m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class _Recorder:
    """Writes traces durably from a thread of its own: the engine never waits for the disk, and what has finished is safe within
    about a second even when the next one takes minutes."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._path, self._progress = path, progress
        self._queue: queue.SimpleQueue[Trace | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="traces-writer", daemon=True)

    def put(self, trace: Trace) -> None:
        """Hand a trace over. Raises what the writer met: a full disk, or nothing but failed samples."""
        if self._error is not None:
            raise self._error
        self._queue.put(trace)

    def __enter__(self) -> _Recorder:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            with Shard(self._path) as shard:
                is_open = True
                while is_open:
                    batch, is_open = self._batch()
                    if batch:
                        shard.append(batch)
                        self._progress.add(batch)
                    self._progress.tell(now=not is_open)
                    if self._progress.is_hopeless:
                        raise _hopeless(self._progress.drawn, self._progress.last_error)
        except BaseException as error:  # handed over to the stage's own thread, which raises it
            self._error = error

    def _batch(self) -> tuple[list[Trace], bool]:
        """The next traces, at most a second's worth; False once the end was seen."""
        batch: list[Trace] = []
        deadline = time.monotonic() + BATCH_SECONDS
        while len(batch) < BATCH_TRACES and (left := deadline - time.monotonic()) > 0:
            try:
                trace = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if trace is None:
                return batch, False
            batch.append(trace)
        return batch, True
