"""The other side of `mothers.py`: a warm, single-threaded mother process that forks workers on
request, all for one layer.

The pool never forks its own process, which may hold threads, CUDA or an engine. The mother imports
what her layer needs once and forks children in milliseconds; each child serves one socket and is
killed by the mother when its pool says so. Messages to the mother are nine bytes: `S` (a socket
follows; answered with the child's pid) or `K` + pid (answered with the wait status). Parent gone
means end of file, and everything ends.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

_COMMAND = struct.Struct(">cQ")
_LENGTH = struct.Struct(">I")


def main() -> None:
    """Serve one pool until it closes its socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool's owner decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    from reasondistill.grading.decide.layers import warm

    layer = sys.argv[2]
    warm(layer)
    children: set[int] = set()
    try:
        for command, number, descriptors in commands(control):
            if command == b"S":
                pid = _fork(control, descriptors[0], layer, memory_mib=number)
                children.add(pid)
                os.close(descriptors[0])
                control.sendall(struct.pack(">Q", pid))
            else:
                control.sendall(struct.pack(">i", _end(number)))
                children.discard(number)
    finally:
        for pid in children:
            _end(pid)
    os._exit(0)  # taking sympy apart would cost a tenth of a second


def commands(control: socket.socket) -> Iterator[tuple[bytes, int, list[int]]]:
    """Nine-byte commands with the descriptors that came with them, until the socket closes."""
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(control, _COMMAND.size, 1)
            while data and len(data) < _COMMAND.size:
                more = control.recv(_COMMAND.size - len(data))
                if not more:
                    return
                data += more
        except ConnectionError:
            return
        if not data:
            return
        command, number = _COMMAND.unpack(data)
        yield command, number, descriptors


def _end(pid: int) -> int:
    """Kill and reap a child; its wait status."""
    try:
        os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]
    except (ProcessLookupError, ChildProcessError):
        return 0


def _fork(control: socket.socket, descriptor: int, layer: str, *, memory_mib: int) -> int:
    """Fork a worker that serves `descriptor`; returns its pid in the mother only."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        control.close()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        limit = memory_mib << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.setrecursionlimit(3_000)
        serve(socket.socket(fileno=descriptor), layer)
        status = 0
    finally:
        os._exit(status)


def serve(stream: socket.socket, layer: str) -> None:
    """Answer requests until the socket closes. A memory fault ends the worker after its answer: its
    heap is not to be trusted.
    """
    while True:
        request = receive(stream)
        if request is None:
            return
        # Both kill even inside C code: CPU time first; on the clock only should the pool be
        # suspended or gone.
        signal.setitimer(signal.ITIMER_PROF, request["deadline_s"] / 2)
        signal.setitimer(signal.ITIMER_REAL, request["deadline_s"] + 1.0)
        answer = answer_to(request, layer)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        send(stream, answer)
        if answer["reason"] == "memory":
            return


def answer_to(request: dict[str, Any], layer: str) -> dict[str, Any]:
    """The decision of this layer on one pair as a plain dict. Whatever the checker raises is an
    undecided answer with its name.
    """
    from reasondistill.grading.decide.decision import Decision
    from reasondistill.grading.decide.layers import decide_any
    from reasondistill.grading.policies import find_policy

    try:
        policy = find_policy(request["policy"])
        decision = decide_any(request["pred"], request["golds"], policy, layer)
    except MemoryError:
        decision = Decision("undecided", "worker", "memory")
    except RecursionError:
        decision = Decision("undecided", "worker", "too_deep")
    except Exception as error:  # any fault of sympy on model output is data, not a crash
        decision = Decision("undecided", "worker", f"checker_error:{type(error).__name__}")
    return {"outcome": decision.outcome, "layer": decision.layer, "reason": decision.reason}


def send(stream: socket.socket, value: dict[str, Any]) -> None:
    """One length-prefixed JSON message; ASCII, so that lone surrogates pass."""
    data = json.dumps(value).encode("ascii")
    stream.sendall(_LENGTH.pack(len(data)) + data)


def receive(stream: socket.socket) -> dict[str, Any] | None:
    """The next message; None when the other side is gone."""
    try:
        head = _exactly(stream, _LENGTH.size)
        if not head:
            return None
        body = _exactly(stream, _LENGTH.unpack(head)[0])
    except OSError:
        return None
    if body is None:
        return None
    return json.loads(body)


def _exactly(stream: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            return None
        data += part
    return data
