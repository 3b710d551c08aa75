"""Run a daemon so that nothing it starts outlives the test."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# Ends the daemon and everything that it started, however that has detached itself, when standard
# input ends: when we say so or are gone.
_KEEPER = """
import ctypes, os, signal, subprocess, sys, time
# PR_SET_CHILD_SUBREAPER: processes that lose their parent become ours.
ctypes.CDLL(None).prctl(36, 1)
subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # after the start: the daemon would inherit it

def descendants():
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", "rb") as stat:
                parents[int(pid)] = int(stat.read().rpartition(b")")[2].split()[1])
        except OSError:
            pass
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}

sys.stdin.buffer.read()
while left := descendants():
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    time.sleep(0.01)
"""


class Keeper:
    """A daemon with all its descendants. They end with `end`, or with this process, by kill -9 too.
    Linux only.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        keeper = [sys.executable, "-I", "-S", "-c", _KEEPER, *command]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                keeper,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=env,
                start_new_session=True,
            )

    def end(self) -> None:
        """kill -9 to all of them."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def free_ports(count: int) -> Sequence[int]:
    """Ports of the loopback that nobody listens on."""
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports
