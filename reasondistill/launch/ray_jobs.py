"""A whole run as one job of a Ray cluster far away: handed in through the cluster's dashboard,
where it then runs as `ray.py` says.

submit(run)      with [ray] address = "http://head:8265"; the run folder and this installation are seen by the cluster's nodes
state(run)       what has become of it
cancel(run)
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasondistill.errors import DataError, MissingDependencyError, StageError
from reasondistill.launch.scripts import python_of, setting
from reasondistill.pipeline import Run, save_run
from reasondistill.runs.store import write_json

# Set inside a job: the run is done there, not handed in again.
INSIDE = "REASONDISTILL_INSIDE_RAY"
FILE = "ray/job.json"
ALIVE, _ENDED = ("PENDING", "RUNNING"), ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Sent:
    """A job that was handed in, and where."""

    address: str
    job_id: str


def is_far(run: Run) -> bool:
    """Whether the cluster file names a dashboard, through which jobs are handed in."""
    return run.cluster.kind == "ray" and (run.cluster.ray.address or "").startswith(
        ("http://", "https://")
    )


def submit(run: Run) -> Sent:
    """Hand the run in. Raises StageError when the cluster does not answer, MissingDependencyError."""
    save_run(run)
    environment = run.cluster.environment("default")
    words = [python_of(environment), "-m", "reasondistill", "resume", str(run.folder.resolve())]
    lines = [
        f"cd {shlex.quote(str(Path.cwd()))}",
        *setting(environment),
        f"exec {environment.container or ''} {shlex.join(words)}",
    ]
    entrypoint = f"bash -c {shlex.quote(chr(10).join(lines))}"
    address = run.cluster.ray.address or ""
    client = _client(address)
    job_id = client.submit_job(
        entrypoint=entrypoint,
        runtime_env={"env_vars": {INSIDE: "1"}},
        metadata={"run": run.pipeline.name},
    )
    write_json(run.folder / FILE, {"address": address, "job_id": job_id})
    return Sent(address, job_id)


def _client(address: str) -> Any:
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise MissingDependencyError("ray", "ray") from error
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        raise StageError(
            f"[ray] address = {address!r}: does not answer: {str(error).splitlines()[0]}"
        ) from error


def sent(run: Run) -> Sent | None:
    """The job that was handed in last. Raises DataError."""
    path = run.folder / FILE
    if not path.exists():
        return None
    try:
        return Sent(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def state(run: Run) -> str:
    """Ray's word for what has become of the job: PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED, or
    LOST where Ray does not know it.

    Raises StageError when the cluster does not answer.
    """
    job = _sent(run)
    client = _client(job.address)
    try:
        return str(client.get_job_status(job.job_id).value)
    except RuntimeError as error:
        if "404" in str(error):
            return "LOST"
        raise StageError(f"{job.address}: {str(error).splitlines()[0]}") from error


def cancel(run: Run) -> bool:
    """Stop the job; say whether there was one to stop."""
    if state(run) not in ALIVE:
        return False
    job = _sent(run)
    return bool(_client(job.address).stop_job(job.job_id))


def follow(run: Run, tell: Callable[[str], None], *, poll_s: float = 2.0) -> None:
    """Hand on what the job prints until it ends. Raises StageError when it did not end well."""
    job, told = _sent(run), 0
    client = _client(job.address)
    while True:
        if (word := state(run)) == "LOST":
            how = f"`reasondistill resume {run.folder.name}` sends another."
            raise StageError(f"job {job.job_id} is not known to {job.address} any more. {how}")
        text = str(client.get_job_logs(job.job_id))
        end = len(text) if word in _ENDED else text.rfind("\n") + 1
        for line in text[told:end].splitlines():
            tell(line)
        told = max(told, end)
        if word == "SUCCEEDED":
            return
        if word in _ENDED:
            name = run.folder.name
            raise StageError(
                f"job {job.job_id} is {word.lower()}. Logs: {run.layout.logs}. "
                f"`reasondistill resume {name}` does the rest."
            )
        time.sleep(poll_s)


def _sent(run: Run) -> Sent:
    job = sent(run)
    if job is None:
        raise StageError(f"{run.folder}: no job of it was handed in.")
    return job
