"""Runs on a real Slurm: the same records as on one machine, whatever happens to workers, nodes and
the controller on the way.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_kit import PROBLEMS, SECRET, Bed, N, SlowTeacher
from slurm_machine import Job, SlurmMachine

from reasondistill.launch.slurm import sbatch
from reasondistill.runs.seals import KEY, TRUST, own_key

pytestmark = pytest.mark.slurm

CLUSTER = """\
kind = "slurm"
[stages.traces]
shards = {shards}
[stages.verdicts]
shards = 2
[grade]
workers = 1
[slurm]
signal_s = 30
"""
Undisturbed = dict[str, list[dict[str, Any]]]


class SlurmBed(Bed):
    """The same with the jobs of its last submission."""

    def __init__(self, folder: Path, teacher: SlowTeacher, slurm: SlurmMachine) -> None:
        super().__init__(folder, teacher, CLUSTER, slurm.env)
        self.slurm = slurm

    def job_of(self, step: str) -> str:
        rows = json.loads(sorted(self.run.glob("slurm/*/jobs.json"))[-1].read_text())["jobs"]
        return next(row["job_id"] for row in rows if row["step"] == step)

    def worker(self, number: int) -> str:
        """The id of an element of the traces array."""
        return f"{self.job_of('02-traces')}_{number}"

    def job(self, number: int) -> Job:
        return self.slurm.job(self.worker(number))


@pytest.fixture
def bed(tmp_path: Path, slurm: SlurmMachine, slow_teacher: SlowTeacher) -> Iterator[SlurmBed]:
    made = SlurmBed(tmp_path, slow_teacher, slurm)
    yield made
    if made.run.exists():
        made.call("cancel", "sums")


def test_a_run_on_slurm_makes_the_records_that_one_machine_makes(
    bed: SlurmBed, undisturbed: Undisturbed
) -> None:
    bed.call("run", "sums.toml", "--on", "cluster.toml", "--until", "examples", "--wait")
    for name, records in undisturbed.items():
        assert bed.records(name) == records, name
    assert set(bed.teacher.asked.values()) == {1}
    status = bed.call("status", "sums")
    assert "02-traces" in status and "2 done" in status
    assert "120/120 traces" in re.sub(r" +", " ", status)
    assert "samples of 30 problems to draw" in bed.call("logs", "sums", "02-traces")
    secrets = (SECRET, own_key())
    assert not [
        path
        for path in bed.run.rglob("*")
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets)
    ]
    assert "Nothing is left to do" in bed.call("resume", "sums")


def test_kill_9_a_requeue_a_lost_node_and_a_new_controller_change_no_record(
    bed: SlurmBed, undisturbed: Undisturbed
) -> None:
    bed.cluster(shards=3)
    bed.teacher.delay_s = 0.7
    bed.call("run", "sums.toml", "--on", "cluster.toml", "--until", "traces")
    bed.wait_for(
        lambda: all(bed.drawn(number) > 2 for number in range(3)), "each worker has drawn some"
    )
    first = f"task {bed.run.resolve()} traces --share work:0:3"
    pids = subprocess.run(
        ["pgrep", "-f", first], capture_output=True, text=True, check=True
    ).stdout.split()
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
    bed.slurm.requeue(bed.worker(1))
    bed.slurm.restart_controller()
    node = bed.job(2).node
    bed.slurm.node_down(node)
    bed.slurm.node_up(node)
    bed.teacher.delay_s = 0.0
    bed.wait_for(
        lambda: (
            "03-traces-close done"
            in re.sub(r" +", " ", re.sub(r" \d+ ", " ", bed.call("status", "sums")))
        ),
        "all is closed",
    )
    assert bed.records("2-traces/traces.jsonl") == undisturbed["2-traces/traces.jsonl"]
    repeated = sum(count - 1 for count in bed.teacher.asked.values())
    assert repeated <= 3 * 2 * 2, "only what was in flight is drawn again"


def test_a_cancelled_run_is_resumed_by_another_number_of_workers(
    bed: SlurmBed, undisturbed: Undisturbed
) -> None:
    bed.cluster(shards=8)
    bed.teacher.delay_s = 2.0  # two commands come before the last sample, on a busy machine too
    bed.call("run", "sums.toml", "--on", "cluster.toml", "--until", "traces")
    bed.wait_for(lambda: bed.drawn() > 10, "some are drawn")
    assert "still in the queue" in bed.call("resume", "sums", code=2)
    assert bed.job_of("02-traces") in bed.call("cancel", "sums")
    bed.wait_for(lambda: "running" not in bed.call("status", "sums"), "all is cancelled")
    kept = bed.drawn()
    bed.teacher.asked.clear()
    bed.teacher.delay_s = 0.0
    bed.cluster(shards=3)
    bed.call("run", "sums.toml", "--on", "cluster.toml", "--until", "traces", "--wait")
    assert bed.records("2-traces/traces.jsonl") == undisturbed["2-traces/traces.jsonl"]
    assert sum(bed.teacher.asked.values()) == PROBLEMS * N - kept


def test_a_worker_whose_time_is_up_ends_its_samples_and_is_queued_again(
    bed: SlurmBed, undisturbed: Undisturbed
) -> None:
    bed.teacher.delay_s = 0.5
    bed.call("run", "sums.toml", "--on", "cluster.toml", "--until", "traces")
    bed.wait_for(lambda: bed.drawn(0) > 2, "the first worker draws")
    bed.slurm.signal(bed.worker(0), "USR1")
    bed.wait_for(lambda: bed.job(0).restarts == "1", "it is queued again")
    bed.teacher.delay_s = 0.0
    bed.wait_for(lambda: bed.is_finished("2-traces"), "all is closed")
    assert bed.records("2-traces/traces.jsonl") == undisturbed["2-traces/traces.jsonl"]
    assert set(bed.teacher.asked.values()) == {1}, "what was in flight was ended, not dropped"


@pytest.mark.slow
def test_the_time_limit_itself_queues_again_who_hears_of_it_and_ends_who_hangs(
    bed: SlurmBed, undisturbed: Undisturbed
) -> None:
    """Slurm counts in minutes and looks twice a minute."""
    hangs = '(trap "" TERM USR1; while true; do sleep 1; done)'
    setup = f"""['[ "$SLURM_ARRAY_TASK_ID" != 1 ] || {hangs}']"""
    sick = f'[environments.sick]\npython = "{sys.executable}"\nsetup = {setup}\n'
    limits = {
        "shards = 2": 'shards = 2\ntime = "00:02:00"\nenvironment = "sick"',
        "signal_s = 30": "signal_s = 60",
    }
    bed.cluster(shards=2, **limits, **{"[grade]": f"{sick}[grade]"})
    bed.teacher.delay_s = 3.0
    bed.call("run", "sums.toml", "--on", "cluster.toml", "--until", "traces")
    bed.wait_for(
        lambda: bed.job(0).restarts == "1",
        "the first is queued again before its time is up",
        timeout_s=180,
    )
    bed.teacher.delay_s = 0.0
    bed.wait_for(lambda: bed.job(1).state == "TIMEOUT", "the second is ended", timeout_s=180)
    bed.wait_for(lambda: bed.job(0).ended, "the first has done all of the work")
    assert "traces[2/2]: reached its time limit" in " ".join(bed.call("status", "sums").split())
    bed.cluster(shards=2)
    bed.call("resume", "sums", "--on", "cluster.toml", "--wait")
    assert bed.records("2-traces/traces.jsonl") == undisturbed["2-traces/traces.jsonl"]
    assert set(bed.teacher.asked.values()) == {1}, (
        "samples in hand were ended before the time was up"
    )


def test_one_poisoned_shard_is_named_and_the_others_finish(
    bed: SlurmBed, undisturbed: Undisturbed
) -> None:
    setup = """['[ "$SLURM_ARRAY_TASK_ID" != 1 ] || exit 2']"""
    sick = f'[environments.sick]\npython = "{sys.executable}"\nsetup = {setup}\n'
    bed.cluster(
        shards=3, **{"shards = 3": 'shards = 3\nenvironment = "sick"', "[grade]": f"{sick}[grade]"}
    )
    said = bed.call(
        "run", "sums.toml", "--on", "cluster.toml", "--until", "verdicts", "--wait", code=2
    )
    assert "traces[2/3]: ended with exit code 2" in said and "reasondistill resume sums" in said
    assert bed.drawn() == PROBLEMS * N, "the others have done its part"
    assert "cancelled" in bed.call("status", "sums")
    bed.teacher.asked.clear()
    bed.cluster(shards=3)
    bed.call("resume", "sums", "--on", "cluster.toml", "--wait")
    assert bed.records("3-verdicts/verdicts.jsonl") == undisturbed["3-verdicts/verdicts.jsonl"]
    assert not bed.teacher.asked


def test_the_scripts_can_be_read_and_sent_by_hand(bed: SlurmBed, undisturbed: Undisturbed) -> None:
    shown = bed.call("run", "sums.toml", "--on", "cluster.toml", "--until", "traces", "--dry-run")
    assert "#SBATCH --array=0-1" in shown and "#SBATCH --signal=B:USR1@30" in shown
    assert not list(bed.run.glob("slurm/0*")), "nothing was sent"
    by_hand = bed.run / "slurm" / "by-hand"
    subprocess.run(
        ["bash", str(by_hand / "submit.sh")], check=True, env=bed.environment, cwd=bed.folder
    )
    bed.wait_for(lambda: (by_hand / "marks" / "03-traces-close.done").exists(), "all is done")
    assert bed.records("2-traces/traces.jsonl") == undisturbed["2-traces/traces.jsonl"]


_IN_A_JOB = """#!/bin/bash
#SBATCH --output="{folder}/{name}.log"
#SBATCH --requeue
export XDG_STATE_HOME={folder}/home-of-{name} PYTHONPATH={package}
env > {folder}/{name}.env
{python} -P -c '
import sys
from pathlib import Path
from reasondistill.stages.students import saving
from reasondistill.runs import seals
seals.make_key_where_none_is(False)
getattr(saving, sys.argv[1])(Path(sys.argv[2]))
' {function} {checkpoint} && touch {folder}/{name}.done
"""


def test_the_next_job_of_a_training_takes_its_checkpoint_for_its_own_whatever_its_home_is(
    tmp_path: Path, slurm: SlurmMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs in containers with a home of their own. The key that they are handed is in no file of
    ours, and Slurm shows it nobody.
    """
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.delenv(TRUST, raising=False)
    work = tmp_path / "work"
    checkpoint = work / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    (checkpoint / "optimizer.bin").write_bytes(b"x")
    shown = ""
    for name, function in (("first", "sum_checkpoint"), ("second", "require_own")):
        script = work / f"{name}.sbatch"
        words = {"function": function, "checkpoint": checkpoint, "python": sys.executable}
        words |= {"folder": work, "name": name, "package": Path.cwd()}
        script.write_text(_IN_A_JOB.format(**words))
        job = sbatch(script, after=None)
        shown += slurm.run("scontrol", "show", "job", "-dd", job)
        slurm.wait([job], 180)
        shown += slurm.run("squeue", "--all", "--states=all", "--format=%all")
        assert (work / f"{name}.done").exists(), (work / f"{name}.log").read_text()
        assert not (work / f"home-of-{name}").exists()
    key = own_key()
    for name in ("first", "second"):
        environment = work / f"{name}.env"
        assert f"{KEY}={key}" in environment.read_text()
        environment.unlink()
    assert key not in shown
    assert not [path for path in work.rglob("*") if path.is_file() and key in path.read_text()]
