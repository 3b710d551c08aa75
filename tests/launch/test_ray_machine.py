"""Ray starts here without a network; a task outlives its worker, and a job can be handed in, read
and stopped.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from ray_machine import RayMachine, why_not

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.slow,
]  # the equipment itself

# Its first try waits to be killed.
LOCAL = """
import os, sys, time
from pathlib import Path
import ray
small = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80_000_000}
ray.init(address="local", _temp_dir=sys.argv[1], **small)

@ray.remote(max_retries=2)
def task(tries):
    with tries.open("a") as file:
        print(os.getpid(), file=file)
    if len(tries.read_text().split()) == 1:
        time.sleep(60)
    return len(tries.read_text().split())

tries = Path(sys.argv[1]) / "tries"
answer = task.remote(tries)
while not tries.exists() or not tries.read_text().endswith("\\n"):
    time.sleep(0.05)
os.kill(int(tries.read_text()), 9)
print("tries:", ray.get(answer, timeout=50))
ray.shutdown()
"""

JOBS = """
import sys, time
from ray.job_submission import JobSubmissionClient
client = JobSubmissionClient()

def until(job, *states):
    while client.get_job_status(job) not in states:
        time.sleep(0.1)

program = "import ray; ray.init(); print(ray.cluster_resources())"
done = client.submit_job(entrypoint=f"{sys.executable} -c '{program}'")
until(done, "SUCCEEDED", "FAILED", "STOPPED")
print(client.get_job_logs(done), client.get_job_status(done))
stays = client.submit_job(entrypoint="sleep 100")
until(stays, "RUNNING")
client.stop_job(stays)
until(stays, "SUCCEEDED", "FAILED", "STOPPED")
print(client.get_job_status(stays))
"""


def test_a_task_outlives_its_worker(ray_folder: Path) -> None:
    env = os.environ | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    done = subprocess.run(
        [sys.executable, "-c", LOCAL, str(ray_folder)],
        capture_output=True,
        text=True,
        timeout=200,
        env=env,
    )
    assert "tries: 2" in done.stdout, done.stdout + done.stderr


def test_a_job_is_handed_in_read_and_stopped(ray_machine: RayMachine) -> None:
    env = os.environ | ray_machine.env
    done = subprocess.run(
        [sys.executable, "-c", JOBS], capture_output=True, text=True, timeout=200, env=env
    )
    assert "'CPU': 2.0" in done.stdout and "SUCCEEDED" in done.stdout, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "STOPPED"
