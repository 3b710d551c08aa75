"""Engine processes do not outlive the process that started them.

On a GPU vLLM's engine is a process of its own. When ours is killed (kill -9, out of memory) it would wait for requests for ever and keep
the GPU's memory, so the same command could not go on. A small process beside us waits for our end and then kills what is left.
"""

from __future__ import annotations

import subprocess
import sys

import psutil

# Its standard input ends when the last holder of the pipe, which is us, is gone. A process id may have been given to somebody else by then:
# the time at which the process started tells.
_WATCH = """
import os, signal, sys
sys.stdin.buffer.read()
for pid, since in (item.split(":") for item in sys.argv[1:]):
    try:
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[19] == since:
                os.kill(int(pid), signal.SIGKILL)
    except OSError:
        pass
"""


class Leash:
    """While held, the processes that this one has started so far die with it. Linux only; elsewhere it does nothing."""

    def __init__(self) -> None:
        children = psutil.Process().children(recursive=True)
        marks = [f"{child.pid}:{since}" for child in children if (since := _start_ticks(child.pid)) is not None]
        self._watcher: subprocess.Popen[bytes] | None = None
        if marks:
            command = [sys.executable, "-I", "-S", "-c", _WATCH, *marks]
            self._watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def release(self) -> None:
        """Let them live on, or end by themselves."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.wait()
            assert self._watcher.stdin is not None
            self._watcher.stdin.close()
            self._watcher = None


def _start_ticks(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None when there is none to ask."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None
