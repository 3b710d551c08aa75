"""What a task process has started does not outlive it.

On a GPU vLLM's engine is a process of its own. When the task is killed (kill -9, out of memory) the
engine would wait for requests for ever and keep the GPU's memory, so the same command could not go
on. A small process beside the task waits for its end and then ends what is left of its process
group.
"""

from __future__ import annotations

import os
import subprocess
import sys

# Its standard input ends when the last holder of the pipe, which is the task, is gone. First a
# request, for engines that clean up.
_WATCH = """
import os, signal, sys, time
sys.stdin.buffer.read()
group = int(sys.argv[1])
try:
    os.killpg(group, signal.SIGTERM)
    for _ in range(50):
        time.sleep(0.1)
        os.killpg(group, 0)
    os.killpg(group, signal.SIGKILL)
except ProcessLookupError:
    pass
"""


class Leash:
    """While held, this process's group dies with it. For a process that leads a group of its own;
    elsewhere it does nothing.
    """

    def __init__(self) -> None:
        self._watcher: subprocess.Popen[bytes] | None = None
        if os.getpgid(0) == os.getpid():
            command = [sys.executable, "-I", "-S", "-c", _WATCH, str(os.getpid())]
            self._watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def release(self) -> None:
        """Let what is left end by itself."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.wait()
            assert self._watcher.stdin is not None
            self._watcher.stdin.close()
            self._watcher = None

    def __enter__(self) -> Leash:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
