"""Runs on a real Slurm: the same records as on one machine, whatever happens to workers, nodes and the controller on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from slurm_machine import Job, SlurmMachine

pytestmark = pytest.mark.slurm

PROBLEMS, N = 30, 4
PIPELINE = """\
name = "sums"
[problems]
source = "file"
dataset = "problems.jsonl"
name = "sums"
question = "question"
answer = "answer"
[traces]
prompt = "question"
n = 4
temperature = 0.7
max_tokens = 50
[[traces.teachers]]
model = "m"
sampler = "openai"
"""
LOCAL = """\
[openai]
base_url = "{url}"
api_key_env = "TEST_KEY"
concurrency = 2
"""
CLUSTER = (
    'kind = "slurm"\n'
    + LOCAL
    + """\
[stages.traces]
shards = {shards}
[stages.verdicts]
shards = 2
[grade]
workers = 1
[slurm]
signal_s = 30
"""
)


class Teacher:
    """A slow server whose answers are a function of question and seed."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.asked: Counter[tuple[str, int]] = Counter()
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question, seed = str(body["messages"][-1]["content"]), int(body["seed"])
                teacher.asked[question, seed] += 1
                time.sleep(teacher.delay_s)
                content = f"<think>seed {seed}</think> \\boxed{{{seed % 3 + 1}}}"
                choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
                reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
                usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
                text = json.dumps(reply | {"usage": usage}).encode()
                try:
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                except OSError:  # the worker was killed
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


class Bed:
    """One folder with a pipeline and its cluster files, on one Slurm."""

    def __init__(self, folder: Path, teacher: Teacher, slurm: SlurmMachine) -> None:
        self.folder, self.slurm, self.teacher = folder, slurm, teacher
        self.run = folder / "runs" / "sums"
        rows = [{"question": f"What is {i} modulo 3, plus one?", "answer": str(i % 3 + 1)} for i in range(PROBLEMS)]
        (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "sums.toml").write_text(PIPELINE)
        (folder / "here.toml").write_text(LOCAL.format(url=teacher.url))
        self.cluster(shards=2)

    def cluster(self, shards: int) -> None:
        (self.folder / "slurm.toml").write_text(CLUSTER.format(url=self.teacher.url, shards=shards))

    def call(self, *arguments: str, code: int = 0) -> str:
        environment = os.environ | self.slurm.env | {"TEST_KEY": "secret-of-the-test"}
        command = [sys.executable, "-m", "reasondistill", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == code, done.stdout + done.stderr + self.logs()
        return done.stdout + done.stderr

    def logs(self) -> str:
        return "\n".join(f"{path.name}:\n{path.read_text()[-1500:]}" for path in sorted((self.run / "logs").glob("*.log")))

    def job_of(self, step: str) -> str:
        rows = json.loads(sorted(self.run.glob("slurm/*/jobs.json"))[-1].read_text())["jobs"]
        return next(row["job_id"] for row in rows if row["step"] == step)

    def element(self, number: int) -> Job:
        return self.slurm.job(f"{self.job_of('02-traces')}_{number}")

    def wait_for(self, is_so: Callable[[], bool], what: str, timeout_s: float = 90) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < deadline, f"waited in vain until {what}\n{self.call('status', 'sums')}\n{self.logs()}"
            time.sleep(0.2)

    def drawn(self, number: int | None = None) -> int:
        files = [
            *self.run.glob(f"2-traces/parts/*/w{'*' if number is None else number}/traces.jsonl"),
            self.run / "2-traces" / "traces.jsonl",
        ]
        return sum(path.read_bytes().count(b"\n") for path in files if path.exists())

    def records(self, name: str) -> list[dict[str, Any]]:
        lines = (self.run / name).read_text().splitlines()
        return [without_seconds(json.loads(line)) for line in lines]


def without_seconds(row: dict[str, Any]) -> dict[str, Any]:
    return {key: without_seconds(value) if isinstance(value, dict) else value for key, value in row.items() if key != "seconds"}


@pytest.fixture(scope="module")
def teacher() -> Iterator[Teacher]:
    made = Teacher()
    yield made
    made.http.shutdown()


@pytest.fixture
def bed(tmp_path: Path, slurm: SlurmMachine, teacher: Teacher) -> Iterator[Bed]:
    teacher.delay_s = 0.0
    teacher.asked.clear()
    made = Bed(tmp_path, teacher, slurm)
    yield made
    if made.run.exists():
        made.call("cancel", "sums")


_KEPT = ("1-problems/problems.jsonl", "2-traces/traces.jsonl", "3-verdicts/verdicts.jsonl", "4-examples/examples.jsonl")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, teacher: Teacher) -> dict[str, list[dict[str, Any]]]:
    """What one machine makes of the same file."""
    teacher.delay_s = 0.0
    folder = tmp_path_factory.mktemp("alone")
    alone = Bed(folder, teacher, SlurmMachine(Path("/nowhere")))
    alone.call("run", "sums.toml", "--on", "here.toml", "--until", "examples")
    return {name: alone.records(name) for name in _KEPT}


def test_a_run_on_slurm_makes_the_records_that_one_machine_makes(bed: Bed, undisturbed: dict[str, list[dict[str, Any]]]) -> None:
    bed.call("run", "sums.toml", "--on", "slurm.toml", "--until", "examples", "--wait")
    for name, records in undisturbed.items():
        assert bed.records(name) == records, name
    assert set(bed.teacher.asked.values()) == {1}
    status = bed.call("status", "sums")
    assert "02-traces" in status and "2 done" in status
    assert "120/120 traces" in re.sub(r" +", " ", status)
    assert "samples of 30 problems to draw" in bed.call("logs", "sums", "02-traces")
    assert not [path for path in bed.run.rglob("*") if path.is_file() and b"secret-of-the-test" in path.read_bytes()]
    assert "Nothing is left to do" in bed.call("resume", "sums")


def test_kill_9_a_requeue_a_lost_node_and_a_new_controller_change_no_record(bed: Bed, undisturbed: dict[str, Any]) -> None:
    bed.cluster(shards=3)
    bed.teacher.delay_s = 0.7
    bed.call("run", "sums.toml", "--on", "slurm.toml", "--until", "traces")
    bed.wait_for(lambda: all(bed.drawn(number) > 2 for number in range(3)), "each worker has drawn some")
    pids = subprocess.run(["pgrep", "-f", "traces --share work:0:3"], capture_output=True, text=True, check=True).stdout.split()
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
    bed.slurm.requeue(f"{bed.job_of('02-traces')}_1")
    bed.slurm.restart_controller()
    node = bed.element(2).node
    bed.slurm.node_down(node)
    bed.slurm.node_up(node)
    bed.teacher.delay_s = 0.0
    bed.wait_for(lambda: "03-traces-close done" in re.sub(r" +", " ", re.sub(r" \d+ ", " ", bed.call("status", "sums"))), "all is closed")
    assert bed.records("2-traces/traces.jsonl") == undisturbed["2-traces/traces.jsonl"]
    repeated = sum(count - 1 for count in bed.teacher.asked.values())
    assert repeated <= 3 * 2 * 2, "only what was in flight is drawn again"


def test_a_cancelled_run_is_resumed_by_another_number_of_workers(bed: Bed, undisturbed: dict[str, Any]) -> None:
    bed.cluster(shards=8)
    bed.teacher.delay_s = 0.5
    bed.call("run", "sums.toml", "--on", "slurm.toml", "--until", "traces")
    bed.wait_for(lambda: bed.drawn() > 10, "some are drawn")
    assert "still in the queue" in bed.call("resume", "sums", code=2)
    assert bed.job_of("02-traces") in bed.call("cancel", "sums")
    bed.wait_for(lambda: "running" not in bed.call("status", "sums"), "all is cancelled")
    kept = bed.drawn()
    bed.teacher.asked.clear()
    bed.teacher.delay_s = 0.0
    bed.cluster(shards=3)
    bed.call("run", "sums.toml", "--on", "slurm.toml", "--until", "traces", "--wait")
    assert bed.records("2-traces/traces.jsonl") == undisturbed["2-traces/traces.jsonl"]
    assert sum(bed.teacher.asked.values()) == PROBLEMS * N - kept


def test_a_worker_whose_time_is_up_ends_its_samples_and_is_queued_again(bed: Bed, undisturbed: dict[str, Any]) -> None:
    bed.teacher.delay_s = 0.5
    bed.call("run", "sums.toml", "--on", "slurm.toml", "--until", "traces")
    bed.wait_for(lambda: bed.drawn(0) > 2, "the first worker draws")
    bed.slurm.signal(f"{bed.job_of('02-traces')}_0", "USR1")
    bed.wait_for(lambda: bed.element(0).restarts == "1", "it is queued again")
    bed.teacher.delay_s = 0.0
    bed.wait_for(lambda: (bed.run / "2-traces" / "parts").exists() is False, "all is closed")
    assert bed.records("2-traces/traces.jsonl") == undisturbed["2-traces/traces.jsonl"]
    assert set(bed.teacher.asked.values()) == {1}, "what was in flight was ended, not dropped"


def test_one_poisoned_shard_is_named_and_the_others_finish(bed: Bed, undisturbed: dict[str, Any]) -> None:
    bed.cluster(shards=3)
    text = (bed.folder / "slurm.toml").read_text().replace("shards = 3", 'shards = 3\nenvironment = "sick"', 1)
    text += f"""[environments.sick]\npython = "{sys.executable}"\nsetup = ['[ "$SLURM_ARRAY_TASK_ID" != 1 ] || exit 2']\n"""
    (bed.folder / "slurm.toml").write_text(text)
    said = bed.call("run", "sums.toml", "--on", "slurm.toml", "--until", "verdicts", "--wait", code=2)
    assert "traces[2/3]: ended with exit code 2" in said and "reasondistill resume sums" in said
    assert bed.drawn() == PROBLEMS * N, "the others have done its part"
    assert "cancelled" in bed.call("status", "sums")
    bed.teacher.asked.clear()
    bed.cluster(shards=3)
    bed.call("resume", "sums", "--on", "slurm.toml", "--wait")
    assert bed.records("3-verdicts/verdicts.jsonl") == undisturbed["3-verdicts/verdicts.jsonl"]
    assert not bed.teacher.asked


def test_the_scripts_can_be_read_and_sent_by_hand(bed: Bed, undisturbed: dict[str, Any]) -> None:
    shown = bed.call("run", "sums.toml", "--on", "slurm.toml", "--until", "traces", "--dry-run")
    assert "#SBATCH --array=0-1" in shown and "#SBATCH --signal=B:USR1@30" in shown
    assert not list(bed.run.glob("slurm/0*")), "nothing was sent"
    by_hand = bed.run / "slurm" / "by-hand"
    subprocess.run(["bash", str(by_hand / "submit.sh")], check=True, env=os.environ | bed.slurm.env | {"TEST_KEY": "k"}, cwd=bed.folder)
    bed.wait_for(lambda: (by_hand / "marks" / "03-traces-close.done").exists(), "all is done")
    assert bed.records("2-traces/traces.jsonl") == undisturbed["2-traces/traces.jsonl"]
