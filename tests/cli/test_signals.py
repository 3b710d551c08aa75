"""The first signal is heard in every stage, and a second one ends whatever holds the process."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_kit import wait_until

from reasondistill.config import Cluster
from reasondistill.config.loading import load_pipeline
from reasondistill.curation import rows
from reasondistill.errors import Interrupted, Stopped
from reasondistill.pipeline import Run, Task, run_task
from reasondistill.runs.store import StopSignal

# A mutex that is taken twice is waited for without end, and the wait begins anew after a signal.
STUCK = """
import ctypes, signal, sys
from reasondistill.signals import STOPS, stop, watch
for number in STOPS:
    signal.signal(number, stop)
watch(grace_s=0.5)
mutex = ctypes.create_string_buffer(256)
libc = {library}(None)
libc.pthread_mutex_lock(mutex)
print("at work", flush=True)
libc.pthread_mutex_lock(mutex)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of glibc")
@pytest.mark.parametrize("library", ["ctypes.CDLL", "ctypes.PyDLL"])
@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,) * 2])
def test_a_second_signal_ends_what_a_library_holds(
    library: str, numbers: tuple[signal.Signals, signal.Signals]
) -> None:
    """CDLL lets other threads run in the meantime, PyDLL keeps the interpreter to itself."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK.format(library=library)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    stat = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S")  # in the mutex
    process.send_signal(numbers[0])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(numbers[1])
    assert process.wait(30) == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_ends_by_itself_leaves_no_watcher() -> None:
    program = "from reasondistill.signals import watch; watch(); print('ready'); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONUNBUFFERED="1"),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    _, errors = process.communicate("\n", timeout=60)
    assert process.returncode == 0 and not errors
    wait_until(lambda: not _is_alive(children[0]))


def _is_alive(pid: str) -> bool:
    """Whether it runs: nobody may wait for an orphan of a container, which stays as a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


AFTER_A_LOOP = """
import asyncio, signal
from reasondistill.runs.store import StopSignal
from reasondistill.signals import watch
watch()
told = signal.set_wakeup_fd(-1)
signal.set_wakeup_fd(told)

async def serve():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
    with StopSignal():
        pass
    return signal.set_wakeup_fd(-1) not in (-1, told)

assert told > 0 and asyncio.run(serve())
with StopSignal():
    assert signal.set_wakeup_fd(-1) == told
"""


def test_a_loop_of_asyncio_keeps_its_place_and_the_watcher_is_told_again_after_it() -> None:
    subprocess.run([sys.executable, "-c", AFTER_A_LOOP], check=True, timeout=60)


def test_the_watcher_waits_on_a_descriptor_of_any_number() -> None:
    """Of a process that holds thousands of files; `select` knows the first 1,024."""
    program = (
        "import os, resource, signal\n"
        "from reasondistill.signals import watch\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))\n"
        "held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1200)]\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "watch(grace_s=0.1)\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "signal.sigwait([signal.SIGTERM])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


def test_at_once_a_signal_ends_an_endless_loop_and_elsewhere_it_waits_for_a_safe_point() -> None:
    with StopSignal() as stop, pytest.raises(Interrupted) as found, stop.at_once():
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("not heard")
    assert found.value.exit_code == 128 + signal.SIGTERM
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(Interrupted):
            stop.check()


def test_no_except_clause_of_a_stage_swallows_the_stop() -> None:
    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception as error:
            raise AssertionError("swallowed") from error

    with StopSignal() as stop, pytest.raises(Interrupted), stop.at_once():
        work()
    assert not issubclass(Stopped, Exception)


def test_sigterm_is_heard_while_the_rows_of_a_source_are_read(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(path: Path, **_: object) -> Iterator[dict[str, str]]:
        for count in itertools.count():
            if count == 1000:
                signal.raise_signal(signal.SIGTERM)
            yield {"question": f"{count} + 1?", "answer": str(count + 1)}

    monkeypatch.setattr(rows, "parquet_rows", endless)
    (workplace / "problems.parquet").touch()
    source = workplace / "small.toml"
    dataset = f"problems.dataset={workplace / 'problems.parquet'}"
    run = Run(load_pipeline(source, [dataset]), Cluster(), workplace / "run", source)
    with StopSignal() as stop, pytest.raises(Interrupted) as found:
        run_task(run, Task("problems"), stop)
    assert found.value.exit_code == 128 + signal.SIGTERM
    assert not (workplace / "run/1-problems/problems.jsonl").exists()
