"""The Slurm that tests start behaves as Slurm does: arrays, dependencies, warnings, requeues, lost
nodes, a lost controller.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from slurm_machine import Job, SlurmError, SlurmMachine, why_not

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
]  # the equipment itself, and what Slurm does: 60 s

# A job that stays until it is started a second time.
STAYS_ONCE = (
    'echo "start ${SLURM_RESTART_COUNT:-0} on $SLURMD_NODENAME" >> log; [ -n '
    '"$SLURM_RESTART_COUNT" ] || sleep 60'
)

DETACHED = "86419.75"  # seconds that nobody else sleeps
OWNER = f"""
import sys, time
from pathlib import Path
from slurm_machine import SlurmMachine
with SlurmMachine(Path(sys.argv[1])) as slurm:
    job = slurm.sbatch("#!/bin/bash\\nsetsid sleep {DETACHED} & disown; touch begun; sleep 60")
    while not (slurm.jobs_folder / "begun").exists():
        time.sleep(0.1)
    print("runs", flush=True)
    time.sleep(60)
"""


def script(*lines: str) -> str:
    return "\n".join(["#!/bin/bash", *lines, ""])


def log(slurm: SlurmMachine) -> list[str]:
    """The lines that jobs have written to `log` in their folder."""
    file = slurm.jobs_folder / "log"
    return file.read_text().splitlines() if file.exists() else []


def until_logged(slurm: SlurmMachine, line: str, timeout_s: float = 40) -> None:
    deadline = time.monotonic() + timeout_s
    while line not in log(slurm):
        assert time.monotonic() < deadline, f"{line!r} never came, only {log(slurm)}"
        time.sleep(0.1)


def with_argument(text: str) -> list[str]:
    """The command lines of all processes that mention a text, less our children that start one."""
    found: list[str] = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:  # it has just ended
            continue
        if text in words and OWNER not in words:
            found.append(words)
    return found


def states(jobs: list[Job]) -> dict[str, tuple[str, str]]:
    return {job.id: (job.state, job.restarts) for job in jobs}


def test_an_array_runs_at_most_as_many_as_it_may_and_its_dependent_after_all_of_it(
    slurm: SlurmMachine,
) -> None:
    array = slurm.sbatch(script("echo begin >> log", "sleep 1", "echo end >> log"), "--array=0-3%2")
    after = slurm.sbatch(script("echo after >> log"), f"--dependency=afterok:{array}")
    ended = slurm.wait([array, after])
    assert states(ended) == dict.fromkeys(
        [*(f"{array}_{i}" for i in range(4)), after], ("COMPLETED", "0")
    )
    *lines, last = log(slurm)
    assert last == "after" and sorted(lines) == ["begin"] * 4 + ["end"] * 4
    running = [
        lines[: i + 1].count("begin") - lines[: i + 1].count("end") for i in range(len(lines))
    ]
    assert max(running) == 2


def test_a_signal_to_the_batch_script_reaches_its_trap_and_not_what_it_started(
    slurm: SlurmMachine,
) -> None:
    inner = "trap 'echo inner >> log' USR1; echo ready >> log; sleep 3"
    job = slurm.sbatch(
        script("trap 'echo outer >> log' USR1", f'bash -c "{inner}" &', "wait", "wait")
    )
    until_logged(slurm, "ready")
    slurm.signal(job, "USR1")
    assert states(slurm.wait([job])) == {job: ("COMPLETED", "0")}
    assert log(slurm) == ["ready", "outer"]


@pytest.mark.slow
def test_the_warning_before_the_time_limit_comes_up_to_a_minute_early(slurm: SlurmMachine) -> None:
    """Slurm looks at time limits every 30 s, and sends a warning that would be due before its next
    look: S to S + 60 s before the limit.
    """
    lines = ["trap 'echo $SECONDS >> log; exit 0' USR1", "while :; do sleep 0.2; done"]
    job = slurm.sbatch(script(*lines), "--time=1", "--signal=B:USR1@10")
    assert states(slurm.wait([job], timeout_s=70)) == {job: ("COMPLETED", "0")}
    (seconds,) = map(int, log(slurm))
    assert 15 <= seconds <= 55


def test_a_requeued_element_starts_again_and_its_dependent_waits_for_it(
    slurm: SlurmMachine,
) -> None:
    array = slurm.sbatch(
        script('[ "$SLURM_ARRAY_TASK_ID" = 1 ] || exit 0', STAYS_ONCE), "--array=0-1"
    )
    after = slurm.sbatch(script("echo after >> log"), f"--dependency=afterok:{array}")
    slurm.wait([f"{array}_0"])
    slurm.requeue(f"{array}_1")
    assert states(slurm.wait([array, after])) == {
        f"{array}_0": ("COMPLETED", "0"),
        f"{array}_1": ("COMPLETED", "1"),
        after: ("COMPLETED", "0"),
    }
    assert [line.partition(" on ")[0] for line in log(slurm)] == ["start 0", "start 1", "after"]


def test_an_element_can_requeue_itself_and_its_exit_code_does_not_count(
    slurm: SlurmMachine,
) -> None:
    again = 'scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"'
    array = slurm.sbatch(
        script(
            "trap 'echo told >> log' TERM",
            f'[ -n "$SLURM_RESTART_COUNT" ] || {{ {again}; exit 7; }}',
        ),
        "--array=3",
    )
    after = slurm.sbatch(script("true"), f"--dependency=afterok:{array}")
    assert states(slurm.wait([array, after])) == {
        f"{array}_3": ("COMPLETED", "1"),
        after: ("COMPLETED", "0"),
    }


def test_a_lost_nodes_job_starts_again_on_the_other(slurm: SlurmMachine) -> None:
    job = slurm.sbatch(script(STAYS_ONCE))
    (running,) = slurm.wait_running([job])
    until_logged(slurm, f"start 0 on {running.node}")
    slurm.node_down(running.node)
    (ended,) = slurm.wait([job])
    assert ended.state == "COMPLETED" and ended.restarts == "1" and ended.node != running.node
    slurm.node_up(running.node)
    both = slurm.sbatch(script("true"), "--nodes=2")
    assert states(slurm.wait([both])) == {both: ("COMPLETED", "0")}


@pytest.mark.parametrize("crash", [False, True])
def test_jobs_outlive_the_controller(slurm: SlurmMachine, crash: bool) -> None:
    job = slurm.sbatch(
        script("echo begin >> log", "until [ -e go_on ]; do sleep 0.2; done", "echo end >> log")
    )
    after = slurm.sbatch(script("echo after >> log"), f"--dependency=afterok:{job}")
    slurm.wait_running([job])
    if crash:
        time.sleep(7)  # it saves what happens within 5 s
    slurm.restart_controller(crash=crash)
    assert slurm.job(job).state == "RUNNING"
    (slurm.jobs_folder / "go_on").touch()
    assert states(slurm.wait([job, after])) == {job: ("COMPLETED", "0"), after: ("COMPLETED", "0")}
    assert log(slurm) == ["begin", "end", "after"]


def test_what_depends_on_a_failed_element_never_runs(slurm: SlurmMachine) -> None:
    array = slurm.sbatch(script("exit $SLURM_ARRAY_TASK_ID"), "--array=0-1")
    waits = slurm.sbatch(script("echo ran >> log"), f"--dependency=afterok:{array}")
    dropped = slurm.sbatch(
        script("echo ran >> log"), f"--dependency=afterok:{array}", "--kill-on-invalid-dep=yes"
    )
    assert states(slurm.wait([array, dropped])) == {
        f"{array}_0": ("COMPLETED", "0"),
        f"{array}_1": ("FAILED", "0"),
        dropped: ("CANCELLED", "0"),
    }
    assert (
        slurm.job(waits).state == "PENDING"
        and slurm.job(waits).reason == "DependencyNeverSatisfied"
    )
    assert log(slurm) == []
    slurm.cancel(waits)
    assert states(slurm.wait([waits])) == {waits: ("CANCELLED", "0")}


def test_there_is_no_accounting(slurm: SlurmMachine) -> None:
    with pytest.raises(SlurmError, match="exit code 1\nSlurm accounting storage is disabled"):
        slurm.run("sacct")


def test_nothing_outlives_a_killed_owner() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, folder],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert owner.stdout is not None and owner.stdout.readline() == "runs\n"
            assert len(with_argument(folder)) >= 4 and with_argument(DETACHED)
        finally:
            owner.kill()
            owner.wait()
        deadline = time.monotonic() + 20
        while left := with_argument(folder) + with_argument(DETACHED):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
