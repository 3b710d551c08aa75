"""Grade many answers in worker processes that are killed when they run over.

    with GradingPool(workers=2, deadline_s=5.0) as pool:
        for name, grade in pool.grade_many(items):
            ...

Cheap layers are decided here, in the caller; only what needs sympy crosses a socket. Works from any
thread and inside a process that holds torch or an engine: workers are forked by a mother process of
their own (see `worker.py`), never from here.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reasondistill.errors import StageError
from reasondistill.grading.decide.decision import Decision
from reasondistill.grading.policies import Policy, find_policy
from reasondistill.grading.serve.items import GradeItem, Question, begin, finish
from reasondistill.grading.serve.worker import receive, send
from reasondistill.records import Grade

_WORKER = "reasondistill.grading.serve.worker"
_COMMAND = struct.Struct(">cQ")
_OUT_OF_TIME = (signal.SIGPROF, signal.SIGALRM)
_WINDOW = 32_768  # results held back while an earlier item is still being decided
_REMEMBERED = 32_768  # decisions of workers: many samples of a problem give one answer
_POLL_EVERY = 32  # items read between two looks at the workers


class _Mother:
    """The process that forks workers. Started at once, waited for only when the first worker is
    needed.
    """

    def __init__(self, memory_mib: int) -> None:
        self._memory_mib = memory_mib
        self._lock = threading.Lock()
        self._has_children = False
        self._process, self._control = self._start()

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        package = str(Path(__file__).resolve().parents[3])
        environment = dict(
            os.environ,
            PYTHONPATH=os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
        )
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "reasondistill.grading.serve.worker",
                    str(theirs.fileno()),
                ],
                pass_fds=(theirs.fileno(),),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        return process, ours

    def fork_worker(self) -> _Worker:
        """A fresh worker, in milliseconds once the mother is warm. A mother that died is replaced
        once.
        """
        with self._lock:
            try:
                return self._fork()
            except OSError:
                self.replace_process()
                try:
                    return self._fork()
                except OSError as error:
                    raise StageError(
                        "the grader's worker process does not start (exit code "
                        f"{self._process.poll()}): {error}"
                    ) from error

    def _fork(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(
                self._control, [_COMMAND.pack(b"S", self._memory_mib)], [theirs.fileno()]
            )
            pid = struct.unpack(">Q", self._exactly(8))[0]
        self._has_children = True
        return _Worker(pid, ours)

    def end_worker(self, worker: _Worker) -> int:
        """Kill a worker for good; its wait status, also of one that had died before."""
        worker.stream.close()
        with self._lock:
            try:
                self._control.sendall(_COMMAND.pack(b"K", worker.pid))
                return struct.unpack(">i", self._exactly(4))[0]
            except OSError:  # the mother is gone, and her children with her
                return 0

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._control.recv(count - len(data))
            if not part:
                raise ConnectionError("the grader's mother process ended")
            data += part
        return data

    def replace_process(self) -> None:
        """End a mother that died or hangs, and start another."""
        self._control.close()
        self._process.kill()
        self._process.wait()
        self._process, self._control = self._start()

    def leave_to_parent(self) -> None:
        """In a forked child: forget the mother, who serves the parent."""
        self._control.close()
        self._process.returncode = 0  # she is no child of this process: it need not wait for her

    def close(self) -> None:
        """End the mother; she ends her children. One without children may still be importing sympy:
        nobody waits for that.
        """
        with self._lock:
            self._control.close()
            patience_s = 0
            if self._has_children:
                patience_s = 2
            try:
                self._process.wait(timeout=patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


_Key = tuple[str, float, str | None, str]  # policy, deadline, answer, gold


@dataclass(eq=False)
class _Worker:
    pid: int
    stream: socket.socket


@dataclass(eq=False, slots=True)
class _Slot:
    """One item on its way: its question, and its grade once that is decided. It holds no whole
    text: the window may be long.
    """

    id: str
    question: Question
    grade: Grade | None = None
    deadline: float = 0.0
    started: float = 0.0


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
        self._mother = _Mother(memory_mib)
        self._idle: list[_Worker] = []
        self._remembered: dict[_Key, Decision] = {}
        self._lock = threading.Lock()

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

    def take_worker(self) -> _Worker:
        """An idle worker, or a new one: a caller never waits for another caller's items."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._mother.fork_worker()

    def give_worker(self, worker: _Worker) -> None:
        """Take an idle worker back; ends it when there are enough."""
        with self._lock:
            if len(self._idle) < self.workers:
                self._idle.append(worker)
                return
        self._mother.end_worker(worker)

    def end_worker(self, worker: _Worker) -> int:
        """Kill a worker that ran over or broke; its wait status."""
        return self._mother.end_worker(worker)

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
        for worker in self._idle:
            worker.stream.close()
        self._mother.leave_to_parent()

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            for worker in self._idle:
                worker.stream.close()
            self._idle.clear()
        self._mother.close()

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
        self._busy: dict[int, tuple[_Worker, _Slot]] = {}

    def grade(self, items: Iterable[GradeItem]) -> Iterator[tuple[str, Grade]]:
        window = self._window
        try:
            for count, item in enumerate(items):
                began = time.perf_counter()
                question = begin(item, self._policy)
                seconds = time.perf_counter() - began
                if window or question.decision.is_open:
                    self.admit(_Slot(item.id, question), seconds)
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
        return self._policy.name, self._deadline_s, question.answer, question.gold

    def _dispatch(self) -> None:
        """Hand waiting questions to workers while this run has fewer than its share."""
        while self._waiting and len(self._busy) < self._pool.workers:
            self.hand_over(self._pool.take_worker(), self._waiting.popleft())

    def hand_over(self, worker: _Worker, slot: _Slot) -> None:
        """Send a question to a worker, which is busy with it from now on."""
        slot.started = time.perf_counter()
        slot.deadline = time.monotonic() + self._deadline_s
        self._busy[worker.stream.fileno()] = (worker, slot)
        request = {
            "pred": slot.question.answer,
            "gold": slot.question.gold,
            "policy": self._policy.name,
            "deadline_s": self._deadline_s,
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
        self._finish(slot, Decision(answer["outcome"], answer["layer"], answer["reason"]))
        if answer["reason"] == "memory":
            self._pool.end_worker(worker)
        else:
            self._pool.give_worker(worker)

    def _finish(self, slot: _Slot, decision: Decision) -> None:
        """Give a decision to all items that ask for it; not that of a crash, which may have been
        another's doing.
        """
        slot.grade = finish(slot.question, decision, time.perf_counter() - slot.started)
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
