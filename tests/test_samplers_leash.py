"""What a killed process started dies with it; what an ordinary end leaves lives on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil
import pytest

PARENT = """
import subprocess, sys, time
from reasondistill.samplers.leash import Leash
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
leash = Leash()
print(child.pid, flush=True)
if sys.argv[1] == "release":
    leash.release()
time.sleep(60)
"""


def gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
@pytest.mark.parametrize(("mode", "dies"), [("hold", True), ("release", False)])
def test_a_killed_process_takes_its_children_along(mode: str, dies: bool) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, mode], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    if mode == "release":
        time.sleep(0.5)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    try:
        assert gone(child, 20 if dies else 1) is dies
    finally:
        if psutil.pid_exists(child):
            psutil.Process(child).kill()
