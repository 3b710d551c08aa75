"""Writing traces durably while the engine goes on, and telling how far it is."""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from reasondistill.models.samplers import Running
from reasondistill.models.topk import TopK, TopKWriter
from reasondistill.progress import Progress
from reasondistill.records import Begun, Trace
from reasondistill.runs.store import Shard, append_metrics
from reasondistill.runs.unfinished import Kept
from reasondistill.stages.traces.failures import Failures
from reasondistill.stages.traces.unfinished import Snapshot, Unfinished

log = logging.getLogger(__name__)

# A batch is durable after this many traces or this many seconds, whichever comes first.
BATCH_TRACES, BATCH_SECONDS = 64, 1.0
REPORT_SECONDS = 10.0

# A trace, and its top K where they are wanted.
Finished = tuple[Trace, TopK | None]


class SamplingProgress(Progress):
    """Where a model's sampling is: a log line and a metrics line about every ten seconds, and one
    at the end.

    `samples` are what this model has to draw now, `running` what it has in hand, `threads` what
    it computes with. `seconds` and `tokens` count this session only: from the first request of one
    model in one process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: str,
        samples: int,
        done: int,
        total: int,
        load_seconds: float,
        running: Running | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(total, done, every_s=REPORT_SECONDS)
        self._folder, self._model, self._samples = folder, model, samples
        self._running = running or Running()
        self._load_seconds = load_seconds
        self._computes: dict[str, int] = {}
        if threads is not None:
            self._computes["threads"] = threads
        suffix = uuid.uuid4().hex[:6]  # many workers may begin at once
        self._session = f"{time.time():.3f}-{suffix}"
        self.drawn = self.tokens = self.truncated = self.looped = self.errors = self.absent = 0
        self.cut_thinking = 0
        self.kept = Kept()
        # Those of its tokens that this session has drawn.
        self.drawn_of_kept = 0
        # Of the traces that have ended, with the tokens that earlier sessions drew of them.
        self._ended_tokens = 0

    def expect(self, samples: int) -> None:
        """So many more are drawn than was known before."""
        self._samples += samples
        self.total += samples

    def add(self, traces: Iterable[Trace]) -> None:
        for trace in traces:
            self.drawn += 1
            *_, begun = (0, *trace.completion.continued_at)
            self.tokens += trace.completion.tokens - begun
            self._ended_tokens += trace.completion.tokens
            self.truncated += trace.completion.finish == "length"
            self.looped += trace.completion.finish == "repetition"
            self.cut_thinking += trace.completion.thinking_is_cut
            self.absent += trace.completion.is_absent
            self.errors += trace.completion.finish == "error" and not trace.completion.is_absent

    def tell(self, *, now: bool = False) -> None:
        """Log and append a metrics line when it is time. At the end (`now`) what is kept of
        unfinished samples counts as drawn: nobody draws it again.
        """
        if not self.is_due(now=now):
            return
        seconds = self.seconds
        if now:
            self.tokens, self.drawn_of_kept = self.tokens + self.drawn_of_kept, 0
        log.info("%s", self.line(seconds))
        append_metrics(
            self._folder,
            time=round(time.time(), 3),
            session=self._session,
            teacher=self._model,
            done=self.done_before + self.drawn,
            drawn=self.drawn,
            total=self.total,
            tokens=self.tokens,
            truncated=self.truncated,
            errors=self.errors,
            seconds=round(seconds, 3),
            load_seconds=round(self._load_seconds, 3),
            **self._computes,
        )

    def line(self, seconds: float) -> str:
        """`1,240/8,000 · 312 tok/s · 2.1 % truncated · 64 running · 1h12m left`; tokens count as
        soon as they are there.
        """
        running = self._running
        rate = (self.tokens + running.tokens) / max(seconds, 1e-9)
        details = [f"{rate:,.0f} tok/s"]
        whole = self.drawn - self.errors - self.absent
        if whole:
            percent = 100 * self.truncated / whole
            details.append(f"{percent:.1f} % truncated")
        if self.looped:
            details.append(f"{100 * self.looped / whole:.1f} % in circles")
        if self.cut_thinking:
            details.append(f"{100 * self.cut_thinking / whole:.1f} % at the thinking budget")
        if self.errors:
            details.append(f"{self.errors:,} failed")
        if self.absent:
            details.append(f"{self.absent:,} not published")
        if running.requests:
            tokens = ""
            if running.tokens:
                tokens = f" with {running.tokens:,} tokens so far"
            details.append(f"{running.requests:,} running{tokens}")
        if self.kept.samples:
            details.append(f"{self.kept.words()}, kept")
        if running.waits_for:
            details.append(running.waits_for)
        left_s = None
        if self.drawn and self.drawn < self._samples:
            left_s = self.seconds_left(seconds)
        return self.words(self.done_before + self.drawn, details, left_s)

    def seconds_left(self, seconds: float) -> float | None:
        """By the lengths of the samples that have ended, less what is there of the others; None
        where these are longer than that already. Of hundreds that are begun at once a few end
        first: to divide by their number alone would make the first minutes say days.
        """
        samples_left = self._samples - self.drawn
        tokens = self.tokens + self._running.tokens
        if tokens == 0:
            return samples_left * seconds / self.drawn
        of_earlier_sessions = self.kept.tokens - self.drawn_of_kept
        there = of_earlier_sessions + self._running.tokens
        tokens_left = samples_left * self._ended_tokens / self.drawn - there
        if tokens_left <= 0:
            return None
        return tokens_left * seconds / tokens


class Recorder:
    """Writes traces durably from a thread of its own: the engine never waits for the disk, and what
    has finished is safe within about a second even when the next one takes minutes.

    With a `cache` a trace's top K are on disk before the trace: after a kill no trace lacks them.
    `failures` says when to stop: a trace that is one failure too many is not written, and nothing
    after it. What is `unfinished` is written behind all traces that had finished before: what is no
    longer unfinished is a trace on the disk.
    """

    def __init__(
        self,
        path: Path,
        progress: SamplingProgress,
        failures: Failures,
        cache: TopKWriter | None = None,
        unfinished: Unfinished | None = None,
    ) -> None:
        self._path, self._progress, self._failures, self._cache = path, progress, failures, cache
        self._unfinished = unfinished
        self._queue: queue.SimpleQueue[Finished | Snapshot | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="traces-writer", daemon=True)

    def put(self, trace: Trace, top_k: TopK | None = None) -> None:
        """Hand a trace over. Raises StageError for a failure too many, and what the writer met: a
        full disk.
        """
        if self._error is not None:
            raise self._error
        self._failures.see(trace)
        if self._unfinished is not None:
            self._unfinished.end(trace)
        self._queue.put((trace, top_k))

    def keep(self, in_flight: list[Begun]) -> None:
        """Hand over what is in flight. Nothing is raised: the sampler may be ending for an error
        already, and what the writer met is raised at the end.
        """
        if self._unfinished is not None and self._error is None:
            self._queue.put(self._unfinished.with_those(in_flight))

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            with Shard(self._path) as shard:
                is_open = True
                while is_open:
                    batch, snapshot, is_open = self._batch()
                    if batch:
                        self._write(batch, shard)
                    if snapshot is not None:
                        self._keep(snapshot)
                    self._progress.tell(now=not is_open)
        except BaseException as error:  # handed over to the stage's own thread, which raises it
            self._error = error

    def _keep(self, snapshot: Snapshot) -> None:
        assert self._unfinished is not None  # it has made the snapshot
        self._unfinished.write(snapshot)
        self._progress.kept = self._unfinished.kept
        self._progress.drawn_of_kept = snapshot.drawn_now

    def _write(self, batch: Sequence[Finished], shard: Shard) -> None:
        if self._cache is not None:
            rows = ((trace.id, top_k) for trace, top_k in batch if top_k is not None)
            self._cache.append(rows)
        traces = [trace for trace, _ in batch]
        shard.append(traces)
        self._progress.add(traces)

    def _batch(self) -> tuple[list[Finished], Snapshot | None, bool]:
        """The next traces, at most a second's worth, and what was unfinished behind the last of
        them, if it is to be kept now; False once the end was seen.
        """
        batch: list[Finished] = []
        deadline = time.monotonic() + BATCH_SECONDS
        while len(batch) < BATCH_TRACES:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                item = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if item is None:
                return batch, None, False
            if isinstance(item, Snapshot):
                return batch, item, True
            batch.append(item)
        return batch, None, True
