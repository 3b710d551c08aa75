"""A small run that any launcher can do, and a slow teacher for it: what is drawn can be counted,
and workers can be met half-way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from warm import forking

from reasondistill.launch.launcher import JobState
from reasondistill.pipeline import Task
from reasondistill.runs.store import read_manifest

PROBLEMS, N = 30, 4
SECRET = "secret-of-the-test"
Seen = TypeVar("Seen")
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
_SERVER = """\
[openai]
base_url = "{url}"
api_key_env = "TEST_KEY"
concurrency = 2
"""


def wait_until(is_so: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def seen_whole(look: Callable[[], Seen]) -> Seen:
    """What `look` sees in a folder where others rename and remove files meanwhile: it looks again
    while something goes away under its eyes.
    """
    for _ in range(200):
        try:
            return look()
        except FileNotFoundError:
            time.sleep(0.01)
    return look()


class SlowTeacher:
    """A slow server whose answers are a function of question and seed."""

    def __init__(self) -> None:
        self.delay_s, self.refuses = 0.0, ""
        self.asked: Counter[tuple[str, int]] = Counter()
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question, seed = str(body["messages"][-1]["content"]), int(body["seed"])
                teacher.asked[question, seed] += 1
                time.sleep(teacher.delay_s)
                is_refused = bool(teacher.refuses) and teacher.refuses in question
                content = f"<think>seed {seed}</think> \\boxed{{{seed % 3 + 1}}}"
                choice = {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": content},
                }
                reply = {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "m",
                    "choices": [choice],
                }
                usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
                text = json.dumps(reply | {"usage": usage}).encode()
                try:
                    self.send_response(400 if is_refused else 200)
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
    """One folder with a pipeline and a cluster file, which may name `{shards}`; `env` is what the
    cluster wants in the environment.
    """

    def __init__(
        self, folder: Path, teacher: SlowTeacher, cluster: str, env: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.teacher, self._text = folder, teacher, cluster
        self.environment = os.environ | dict(env or {}) | {"TEST_KEY": SECRET}
        # Ray lets its tasks stand back (15) behind all else that a busy machine does.
        self.environment.setdefault("RAY_worker_niceness", "0")
        self.run = folder / "runs" / "sums"
        rows = [
            {"question": f"What is {i} modulo 3, plus one?", "answer": str(i % 3 + 1)}
            for i in range(PROBLEMS)
        ]
        (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "sums.toml").write_text(PIPELINE)
        self.cluster(shards=2)

    def cluster(self, shards: int, **more: str) -> None:
        """Write cluster.toml; `more` replaces parts of its text."""
        text = (self._text + _SERVER).format(url=self.teacher.url, shards=shards)
        for old, new in more.items():
            assert old in text
            text = text.replace(old, new, 1)
        (self.folder / "cluster.toml").write_text(text)

    def call(self, *arguments: str, code: int = 0) -> str:
        """reasondistill with these arguments: what it prints."""
        command = [sys.executable, "-m", "reasondistill", *arguments]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == code, done.stdout + done.stderr + self.logs()
        return done.stdout + done.stderr

    def call_forked(self, *arguments: str) -> str:
        """The same in seconds, for what sends nothing away: its tasks are forked too."""
        done = forking().run(*arguments, cwd=self.folder, env=self.environment, timeout_s=240)
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        return done.stdout + done.stderr

    def logs(self) -> str:
        return "\n".join(
            f"{path.name}:\n{path.read_text()[-1500:]}"
            for path in sorted((self.run / "logs").glob("*.log"))
        )

    def wait_for(self, is_so: Callable[[], bool], what: str, timeout_s: float = 240) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < deadline, f"waited in vain until {what}\n{self.logs()}"
            time.sleep(0.2)

    def drawn(self, number: int | None = None) -> int:
        worker = "w" if number is None else f"w{number}-"
        files = [f"2-traces/parts/*/{worker}*/traces.jsonl", "2-traces/traces.jsonl"]
        return seen_whole(
            lambda: sum(
                path.read_bytes().count(b"\n") for name in files for path in self.run.glob(name)
            )
        )

    def is_finished(self, stage: str) -> bool:
        """Whether a stage is closed: its records are in order only then."""
        manifest = read_manifest(self.run / stage)
        return manifest is not None and manifest.status == "complete"

    def records(self, name: str) -> list[dict[str, Any]]:
        lines = (self.run / name).read_text().splitlines()
        return [without_seconds(json.loads(line)) for line in lines]


class Recorder:
    """A watcher of a launcher that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ended: list[str] = []
        self.states: list[JobState] = []

    def line(self, task: Task, text: str) -> None:
        self.lines.append(f"{task.name}: {text}")

    def done(self, task: Task, seconds: float) -> None:
        self.ended.append(task.name)

    def changed(self, state: JobState) -> None:
        self.states.append(state)

    def printed(self, text: str) -> None:
        self.lines.append(text)


def without_seconds(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: without_seconds(value) if isinstance(value, dict) else value
        for key, value in row.items()
        if key != "seconds"
    }


KEPT = (
    "1-problems/problems.jsonl",
    "2-traces/traces.jsonl",
    "3-verdicts/verdicts.jsonl",
    "4-examples/examples.jsonl",
)


def records_alone(folder: Path, teacher: SlowTeacher) -> dict[str, list[dict[str, Any]]]:
    """What one process after the other makes of the same file on one machine."""
    alone = Bed(folder, teacher, "")
    alone.call_forked("run", "sums.toml", "--on", "cluster.toml", "--until", "examples")
    return {name: alone.records(name) for name in KEPT}
