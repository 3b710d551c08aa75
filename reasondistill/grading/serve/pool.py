"""Grade many answers in worker processes that are killed when they run over.

    with GradingPool(workers=2, deadline_s=5.0) as pool:
        for name, grade in pool.grade_many(items):
            ...

Cheap layers are decided here, in the caller; what may run long crosses a socket: to a worker that
compares shapes and values, and what that leaves open to one that holds sympy. Works from any thread
and inside a process that holds torch or an engine: workers are forked by mother processes of their
own (see `mothers.py`), never from here.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from reasondistill.grading.decide.decision import Decision
from reasondistill.grading.policies import Policy, find_policy
from reasondistill.grading.serve.items import GradeItem, Question, begin, finish
from reasondistill.grading.serve.mothers import Layer, Mother, Worker
from reasondistill.grading.serve.worker import receive, send
from reasondistill.records import Grade

_OUT_OF_TIME = (signal.SIGPROF, signal.SIGALRM)
_WINDOW = 32_768  # results held back while an earlier item is still being decided
_REMEMBERED = 32_768  # decisions of workers: many samples of a problem give one answer
_POLL_EVERY = 32  # items read between two looks at the workers
_LEAST_S = 0.01  # a deadline that has just passed

_Key = tuple[str, float, str | None, tuple[str, ...]]  # policy, deadline, answer, golds


@dataclass(eq=False, slots=True)
class _Slot:
    """One item on its way: its question, and its grade once that is decided. It holds no whole
    text: the window may be long.
    """

    id: str
    question: Question
    left_s: float  # of its deadline, for the layers that are still to come
    grade: Grade | None = None
    layer: Layer = "structural"
    began: float = 0.0  # when a worker of this layer got it
    deadline: float = 0.0
    seconds: float = 0.0  # that earlier layers took


class GradingPool:
    """Grades items in order, lazily, with at most `workers` processes, and no more than there are
    cores; see the module's docstring.

    An item whose check runs longer than `deadline_s` or needs more than `memory_mib` is `undecided`
    (`timeout`, `memory`, `crash`). A check gets half of `deadline_s` in CPU time: so a machine that
    others use too comes to the same verdicts.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        deadline_s: float = 5.0,
        memory_mib: int = 1024,
        policy: str = "default",
    ) -> None:
        find_policy(policy)
        cores = len(os.sched_getaffinity(0))
        self.workers = min(workers or cores, cores)
        self.deadline_s = deadline_s
        self.policy = policy
        self._mothers: dict[Layer, Mother] = {
            "structural": Mother("structural", memory_mib),
            "symbolic": Mother("symbolic", memory_mib),
        }
        self._idle: dict[Layer, list[Worker]] = {"structural": [], "symbolic": []}
        self._remembered: dict[_Key, Decision] = {}
        self._lock = threading.Lock()
        self.prepare("structural")

    def grade_many(
        self,
        items: Iterable[GradeItem],
        *,
        policy: str | None = None,
        deadline_s: float | None = None,
    ) -> Iterator[tuple[str, Grade]]:
        """Yield (id, grade) for each item, in order. Never raises for a bad item; memory does not
        grow with the input.

        `policy` and `deadline_s` stand in for the pool's own for this call. Raises ConfigError when
        there is no policy of that name.
        """
        rules = find_policy(policy or self.policy)
        return _Run(self, rules, deadline_s or self.deadline_s).grade(items)

    def grade_one(self, item: GradeItem) -> Grade:
        """Grade a single item."""
        return next(iter(self.grade_many([item])))[1]

    def prepare(self, layer: Layer) -> None:
        """Let a layer's mother start, without waiting for her."""
        self._mothers[layer].start()

    def take_worker(self, layer: Layer) -> Worker:
        """An idle worker, or a new one: a caller never waits for another caller's items."""
        with self._lock:
            if self._idle[layer]:
                return self._idle[layer].pop()
        return self._mothers[layer].fork_worker()

    def give_worker(self, worker: Worker) -> None:
        """Take an idle worker back; ends it when there are enough."""
        with self._lock:
            idle = self._idle[worker.layer]
            if len(idle) < self.workers:
                idle.append(worker)
                return
        self.end_worker(worker)

    def end_worker(self, worker: Worker) -> int:
        """Kill a worker that ran over or broke; its wait status."""
        return self._mothers[worker.layer].end_worker(worker)

    def recall(self, key: _Key) -> Decision | None:
        """What a worker decided on this pair before."""
        return self._remembered.get(key)

    def remember(self, key: _Key, decision: Decision) -> None:
        """Keep a worker's decision; the oldest goes when there are too many."""
        with self._lock:
            self._remembered[key] = decision
            if len(self._remembered) > _REMEMBERED:
                del self._remembered[next(iter(self._remembered))]

    def leave_to_parent(self) -> None:
        """In a forked child: let go of the workers, which go on working for the parent."""
        for worker in self._all_idle():
            worker.stream.close()
        for mother in self._mothers.values():
            mother.leave_to_parent()

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            for worker in self._all_idle():
                worker.stream.close()
            for idle in self._idle.values():
                idle.clear()
        for mother in self._mothers.values():
            mother.close()

    def _all_idle(self) -> Iterator[Worker]:
        for idle in self._idle.values():
            yield from idle

    def __enter__(self) -> GradingPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ran_out_of_time(status: int) -> bool:
    """Whether a wait status is that of a worker whose own timer killed it."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) in _OUT_OF_TIME


class _Run:
    """One call of grade_many: its window of items in order, what waits for a worker, and which
    worker has what.
    """

    def __init__(self, pool: GradingPool, policy: Policy, deadline_s: float) -> None:
        self._pool = pool
        self._policy = policy
        self._deadline_s = deadline_s
        self._window: deque[_Slot] = deque()
        self._waiting: deque[_Slot] = deque()
        self._asked: dict[_Key, list[_Slot]] = {}
        self._busy: dict[int, tuple[Worker, _Slot]] = {}

    def grade(self, items: Iterable[GradeItem]) -> Iterator[tuple[str, Grade]]:
        window = self._window
        try:
            for count, item in enumerate(items):
                began = time.perf_counter()
                question = begin(item, self._policy)
                seconds = time.perf_counter() - began
                if window or question.decision.is_open:
                    self.admit(_Slot(item.id, question, self._deadline_s), seconds)
                    if count % _POLL_EVERY == 0:
                        self._poll(0.0)
                    while window and (len(window) >= _WINDOW or window[0].grade is not None):
                        yield self._next()
                else:
                    yield item.id, finish(question, question.decision, seconds)
            while window:
                yield self._next()
        finally:
            for worker, _ in self._busy.values():
                self._pool.end_worker(worker)

    def _next(self) -> tuple[str, Grade]:
        """The result of the oldest item in the window, waited for."""
        slot = self._window[0]
        while slot.grade is None:
            self._poll(None)
        self._window.popleft()
        return slot.id, slot.grade

    def admit(self, slot: _Slot, seconds: float) -> None:
        """Put an item behind the others in the window, and its question, if that is open, before a
        worker when one is free.
        """
        self._window.append(slot)
        question = slot.question
        if not question.decision.is_open:
            slot.grade = finish(question, question.decision, seconds)
            return
        key = self._key(question)
        known = self._pool.recall(key)
        if known is not None:
            slot.grade = finish(question, known, 0.0)
            return
        slots = self._asked.setdefault(key, [])
        slots.append(slot)
        if len(slots) > 1:
            return
        self._waiting.append(slot)
        if len(self._busy) < self._pool.workers:
            self._dispatch()

    def _key(self, question: Question) -> _Key:
        return self._policy.name, self._deadline_s, question.answer, question.golds

    def _dispatch(self) -> None:
        """Hand waiting questions to workers while this run has fewer than its share."""
        while self._waiting and len(self._busy) < self._pool.workers:
            slot = self._waiting.popleft()
            self.hand_over(self._pool.take_worker(slot.layer), slot)

    def hand_over(self, worker: Worker, slot: _Slot) -> None:
        """Send a question to a worker, which is busy with it from now on."""
        slot.began = time.monotonic()
        slot.deadline = slot.began + slot.left_s
        self._busy[worker.stream.fileno()] = (worker, slot)
        request = {
            "pred": slot.question.answer,
            "golds": slot.question.golds,
            "policy": self._policy.name,
            "deadline_s": slot.left_s,
        }
        try:
            send(worker.stream, request)
        except OSError:  # it died while idle: its socket reads as closed at the next look
            return

    def _poll(self, patience_s: float | None) -> None:
        """Collect answers, waiting for one at most until the next deadline (not at all with 0), and
        kill what ran over.
        """
        self._dispatch()
        poller = select.poll()
        for descriptor in self._busy:
            poller.register(descriptor, select.POLLIN)
        if patience_s is None:
            next_deadline = min(slot.deadline for _, slot in self._busy.values())
            patience_s = max(0.0, next_deadline - time.monotonic())
        patience_ms = patience_s * 1000
        if patience_ms:
            patience_ms += 1  # not to wake just before the deadline
        for descriptor, _ in poller.poll(patience_ms):
            self.collect(descriptor)
        now = time.monotonic()
        late = [place for place, (_, slot) in self._busy.items() if slot.deadline <= now]
        for descriptor in late:
            worker, slot = self._busy.pop(descriptor)
            self._pool.end_worker(worker)
            self._finish(slot, Decision("undecided", "worker", "timeout"))
        self._dispatch()

    def collect(self, descriptor: int) -> None:
        """Take a worker's answer; a worker that died instead leaves its question undecided."""
        worker, slot = self._busy.pop(descriptor)
        worker.stream.settimeout(max(0.1, slot.deadline - time.monotonic()))
        answer = receive(worker.stream)
        worker.stream.settimeout(None)
        if answer is None:
            status = self._pool.end_worker(worker)
            reason = "crash"
            if time.monotonic() >= slot.deadline or _ran_out_of_time(status):
                reason = "timeout"
            self._finish(slot, Decision("undecided", "worker", reason))
            return
        decision = Decision(answer["outcome"], answer["layer"], answer["reason"])
        if decision.reason == "memory":
            self._pool.end_worker(worker)
        else:
            self._pool.give_worker(worker)
        if decision.is_open and slot.layer == "structural":
            self.pass_on(slot)
        else:
            self._finish(slot, decision)

    def pass_on(self, slot: _Slot) -> None:
        """Let the next layer look, in what is left of the deadline."""
        took = time.monotonic() - slot.began
        slot.seconds += took
        slot.left_s = max(slot.left_s - took, _LEAST_S)
        slot.layer = "symbolic"
        self._waiting.append(slot)
        self._pool.prepare("symbolic")

    def _finish(self, slot: _Slot, decision: Decision) -> None:
        """Give a decision to all items that ask for it; not that of a crash, which may have been
        another's doing.
        """
        took = time.monotonic() - slot.began
        slot.grade = finish(slot.question, decision, slot.seconds + took)
        key = self._key(slot.question)
        others = self._asked.pop(key)[1:]
        if decision.reason == "crash":
            if others:
                self._asked[key] = others
                self._waiting.append(others[0])
            return
        self._pool.remember(key, decision)
        for asking in others:
            asking.grade = finish(slot.question, decision, 0.0)
