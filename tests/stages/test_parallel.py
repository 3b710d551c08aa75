"""Many items through a function in several processes, in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reasondistill.errors import StageError
from reasondistill.stages.students.parallel import in_order


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


@pytest.mark.parametrize("alone_s", [0.0, 60.0])
def test_results_come_in_the_order_of_the_items(alone_s: float) -> None:
    results = list(in_order(square, range(1000), alone_s=alone_s, processes=3))
    assert [result for result, _ in results] == [number * number for number in range(1000)]
    is_alone = {pid for _, pid in results} == {os.getpid()}
    assert is_alone == (alone_s > 0)


def test_no_items_give_nothing() -> None:
    assert list(in_order(square, [], alone_s=0.0, processes=2)) == []


def test_only_so_many_items_are_read_ahead() -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for number in range(100_000):
            read += 1
            yield number

    results = in_order(square, items(), alone_s=0.0, processes=2)
    next(results)
    assert read < 1_000
    results.close()  # type: ignore[attr-defined]


def test_what_the_function_raises_is_raised() -> None:
    def broken(number: int) -> int:
        if number == 70:
            raise ValueError(f"no {number}")
        return number

    with pytest.raises(ValueError, match="no 70"):
        list(in_order(broken, range(200), alone_s=0.0, processes=2))


def test_a_killed_process_is_said(tmp_path: Path) -> None:
    def deadly(number: int) -> int:
        if number == 70:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(StageError, match="was killed"):
        list(in_order(deadly, range(200), alone_s=0.0, processes=2))


KILLED = """
import os, sys, time
from reasondistill.stages.students.parallel import in_order

def slow(number):
    open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
    time.sleep(0.2)

list(in_order(slow, range(10_000), alone_s=0.0, processes=2))
"""


def test_nothing_is_left_running_behind_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    ends = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < ends and parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    while any(Path(f"/proc/{child.name}/fd").exists() for child in tmp_path.iterdir()):
        assert time.monotonic() < ends
        time.sleep(0.05)
