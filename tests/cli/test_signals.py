"""The first signal is heard in every stage, and a second one ends whatever holds the process."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
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


def test_what_ends_by_itself_leaves_no_watcher() -> None:
    program = "from reasondistill.signals import watch; watch(); print('done')"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "done\n" and done.stderr == "" and time.monotonic() - began < 60


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
    def endless(path: Path) -> Iterator[dict[str, str]]:
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
