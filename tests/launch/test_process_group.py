"""What a killed task has started dies with it; what an ordinary end leaves lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

PARENT = """
import subprocess, sys, time
from reasondistill.launch.process_group import Leash
with Leash():
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2]])
    print(child.pid, flush=True)
    if sys.argv[1] == "hold":
        time.sleep(60)
time.sleep(60)
"""
OBEDIENT = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("mode", "child", "dies"),
    [("hold", OBEDIENT, True), ("hold", STUBBORN, True), ("release", OBEDIENT, False)],
)
def test_a_killed_process_takes_its_children_along(mode: str, child: str, dies: bool) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, mode, child],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(1.0)  # the child has set its handler, or the parent has let go
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    try:
        assert gone(pid, 40 if dies else 2) is dies
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_without_a_group_of_its_own_nobody_is_touched() -> None:
    text = (
        "from reasondistill.launch.process_group import Leash; leash = Leash(); assert "
        "leash._watcher is None; leash.release()"
    )
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)
