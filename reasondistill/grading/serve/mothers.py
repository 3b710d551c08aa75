"""The processes behind a `GradingPool`: for each layer a mother, and the workers that she forks.

The light mother knows shapes and values and is there in a fifth of a second; the heavy one imports
sympy, which few answers need and which takes a second. See `worker.py` for their side.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reasondistill.errors import StageError
from reasondistill.interpreter import safe_environment, safe_python

Layer = Literal["structural", "symbolic"]
_COMMAND = struct.Struct(">cQ")
_PACKAGE = Path(__file__).resolve().parents[2]
# This very package, wherever it was found; what lies beside it stands behind all other modules.
_BEGIN = """\
import os, sys
from importlib import util
package = sys.argv.pop(1)
sys.path.append(os.path.dirname(package))
spec = util.spec_from_file_location("reasondistill", os.path.join(package, "__init__.py"))
sys.modules["reasondistill"] = module = util.module_from_spec(spec)
spec.loader.exec_module(module)
from reasondistill.grading.serve.worker import main
main()
"""
_SLOWEST_START_S = 120.0  # an interpreter on a busy network drive


@dataclass(eq=False)
class Worker:
    """A process that compares, one question at a time."""

    pid: int
    stream: socket.socket
    layer: Layer


class Mother:
    """The process that forks the workers of a layer. `start` does not wait for it; the first worker
    does.
    """

    def __init__(self, layer: Layer, memory_mib: int) -> None:
        self._layer: Layer = layer
        self._memory_mib = memory_mib
        self._lock = threading.Lock()
        self._has_children = False
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the process if there is none."""
        with self._lock:
            if self._process is None:
                self._start()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        words = [str(theirs.fileno()), self._layer]
        with theirs:
            self._process = subprocess.Popen(
                [*safe_python(), "-c", _BEGIN, str(_PACKAGE), *words],
                pass_fds=(theirs.fileno(),),
                env=safe_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        ours.settimeout(_SLOWEST_START_S)
        self._control = ours
        return ours

    def fork_worker(self) -> Worker:
        """A fresh worker, in milliseconds once the mother is warm. A mother that died is replaced
        once. Raises StageError when she does not start.
        """
        with self._lock:
            control = self._control
            if control is None:
                control = self._start()
            try:
                return self._fork(control)
            except OSError:
                self._end()
                try:
                    return self._fork(self._start())
                except OSError as error:
                    code = self._end(patience_s=0.5)
                    raise StageError(
                        f"the grader's worker process does not start (exit code {code}): {error}"
                    ) from error

    def _fork(self, control: socket.socket) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(control, [_COMMAND.pack(b"S", self._memory_mib)], [theirs.fileno()])
            pid = struct.unpack(">Q", _exactly(control, 8))[0]
        self._has_children = True
        return Worker(pid, ours, self._layer)

    def end_worker(self, worker: Worker) -> int:
        """Kill a worker for good; its wait status, also of one that had died before."""
        worker.stream.close()
        with self._lock:
            if self._control is None:
                return 0
            try:
                self._control.sendall(_COMMAND.pack(b"K", worker.pid))
                return struct.unpack(">i", _exactly(self._control, 4))[0]
            except OSError:  # the mother is gone, and her children with her
                return 0

    def leave_to_parent(self) -> None:
        """In a forked child: forget the mother, who serves the parent."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.returncode = 0  # she is no child of this process, which never waits

    def close(self) -> None:
        """End the mother; she ends her children. One without children may still be importing:
        nobody waits for that.
        """
        with self._lock:
            if self._has_children:
                self._end(patience_s=2.0)
            else:
                self._end()

    def _end(self, *, patience_s: float = 0.0) -> int | None:
        """End the process, with force when it does not end by itself; its exit code."""
        if self._process is None or self._control is None:
            return None
        self._control.close()
        try:
            code = self._process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._process = None
        self._control = None
        return code


def _exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            raise ConnectionError("the grader's mother process ended")
        data += part
    return data
