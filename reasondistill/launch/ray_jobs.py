"""Ray far away: a whole run is one job of a Ray cluster, handed in through the cluster's dashboard.

`[ray] address = "http://head:8265"`; the run's folder and this installation are seen by the
cluster's nodes. Inside the job the run is done as `ray.py` says.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reasondistill import foreign_json
from reasondistill.errors import DataError, MissingDependencyError, StageError
from reasondistill.foreign_files import read_text
from reasondistill.launch.launcher import JobState, Launcher, State, Watcher, register
from reasondistill.launch.scripts import command_lines
from reasondistill.pipeline import Run, Task, save_run
from reasondistill.records import canonical_json
from reasondistill.runs.seals import SAME_KEY, TRUST, is_ours, is_trusted, seal
from reasondistill.runs.store import write_json
from reasondistill.sections import short

# Set inside a job: the run is done there, not handed in again.
INSIDE = "REASONDISTILL_INSIDE_RAY"
FILE = "ray/job.json"
_POLL_S = 2.0
_SEALED_AS = "ray job"
# Parts of the URLs that are asked.
_DASHBOARD = re.compile(r"https?://[^\s/?#\"'\\\x00-\x1f\x7f]+(/[A-Za-z0-9._~%/-]*)?")
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
# Ray's words for a job, and ours.
_STATES: Mapping[str, State] = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "STOPPED": "cancelled",
}


@dataclass(frozen=True)
class SentRun:
    """A job that was handed in, and where."""

    address: str
    job_id: str

    def seal(self) -> str:
        """What says that this user's command has written it, whatever lies beside it."""
        return seal(_SEALED_AS, self.text())

    def text(self) -> str:
        """What is sealed."""
        return canonical_json([self.address, self.job_id])


def has_dashboard(run: Run) -> bool:
    """Whether the cluster file names a dashboard, through which jobs are handed in."""
    address = run.cluster.ray.address or ""
    return address.startswith(("http://", "https://"))


@register
class RayJobLauncher(Launcher):
    """The run is one job of a cluster far away, and goes on by itself."""

    kind = "ray"
    is_detached = True
    prints_result = True

    @classmethod
    def takes(cls, run: Run) -> bool:
        """Where a dashboard is named, and we are not inside such a job."""
        return has_dashboard(run) and INSIDE not in os.environ

    def start(self, tasks: Sequence[Task], watcher: Watcher) -> list[JobState]:
        """Hand the run in, whatever is left of it. Raises StageError when the cluster does not
        answer, MissingDependencyError.
        """
        run = self.run
        save_run(run)
        address = run.cluster.ray.address or ""
        words = ["resume", str(run.folder.resolve())]
        folder = shlex.quote(str(Path.cwd()))
        lines = [f"cd {folder}", *command_lines(run.cluster.environment("default"), words)]
        script = shlex.quote("\n".join(lines))
        job_id = client_of(address).submit_job(
            entrypoint=f"bash -c {script}",
            # Whoever hands it in has looked at it, or written it.
            runtime_env={"env_vars": {INSIDE: "1", TRUST: run.folder.resolve().name}},
            metadata={"run": run.pipeline.name},
        )
        sent = SentRun(address, job_id)
        write_json(run.folder / FILE, asdict(sent) | {"seal": sent.seal()})
        return [self._state_of(sent, "waiting")]

    def states(self) -> list[JobState]:
        """The job that was handed in last; it has failed where Ray does not know it any more.

        Raises DataError for a broken file, StageError when the cluster does not answer.
        """
        sent = self.sent()
        if sent is None:
            return []
        word = ray_word(sent)
        if word is None:
            name = shlex.quote(self.run.folder.name)
            lost = (
                f"job {sent.job_id} is not known to {sent.address} any more. "
                f"`reasondistill resume {name}` sends another."
            )
            return [self._state_of(sent, "failed", lost)]
        return [self._state_of(sent, _STATES[word])]

    def _state_of(self, sent: SentRun, state: State, *errors: str) -> JobState:
        name = self.run.pipeline.name
        return JobState(name, sent.job_id, {state: 1}, errors=errors, place=sent.address)

    def sent(self) -> SentRun | None:
        """The job that was handed in last. Raises DataError, and StageError for one that this user
        has not handed in: the server that it names would be spoken to.
        """
        path = self.run.folder / FILE
        if not path.exists():
            return None
        try:
            row = foreign_json.loads(read_text(path))
            found = str(row.pop("seal", ""))
            sent = SentRun(**row)
            _require_form(row)
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        if not is_trusted(self.run.folder) and not is_ours(_SEALED_AS, sent.text(), found):
            raise StageError(
                f"{path}: the server that it names is not asked: you did not start this run. "
                f"`reasondistill resume` with --trust takes it for your own. {SAME_KEY}"
            )
        return sent

    def follow(self, watcher: Watcher) -> None:
        """Hand on what the job prints until it ends. Raises StageError when it did not end well."""
        sent = self.sent()
        if sent is None:
            raise StageError(f"{self.run.folder}: no job of it was handed in.")
        client = client_of(sent.address)
        handed_on = 0
        while True:
            (job,) = self.states()
            if job.errors:
                raise StageError(job.errors[0])
            text = str(client.get_job_logs(sent.job_id))
            end = len(text)
            if not job.is_over:
                end = text.rfind("\n") + 1
            for line in text[handed_on:end].splitlines():
                watcher.printed(line)
            handed_on = max(handed_on, end)
            if job.state == "done":
                return
            if job.is_over:
                logs = self.run.layout.logs
                name = shlex.quote(self.run.folder.name)
                raise StageError(
                    f"job {sent.job_id} is {job.state}. Logs: {logs}. "
                    f"`reasondistill resume {name}` does the rest."
                )
            time.sleep(_POLL_S)

    def cancel(self, jobs: Sequence[JobState]) -> list[str]:
        stopped: list[str] = []
        for job in jobs:
            if not job.is_over and client_of(job.place).stop_job(job.job_id):
                stopped.append(job.job_id)
        return stopped

    def unfinished(self) -> list[JobState]:
        """Inside such a job we are what is not over: none."""
        if INSIDE in os.environ:
            return []
        return super().unfinished()


def _require_form(row: Mapping[str, Any]) -> None:
    """Raise ValueError for what is no address of a dashboard, or no id of a job."""
    for key, form in {"address": _DASHBOARD, "job_id": _JOB_ID}.items():
        text = row[key]
        if not (isinstance(text, str) and form.fullmatch(text)):
            raise ValueError(f"{short(repr(text))} is no address or job of ours")


def client_of(address: str) -> Any:
    """What speaks to a dashboard. Raises StageError when it does not answer,
    MissingDependencyError.
    """
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise MissingDependencyError("ray", "ray") from error
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise StageError(f"[ray] address = {address!r}: does not answer: {reason}") from error


def ray_word(sent: SentRun) -> str | None:
    """Ray's word for what has become of a job; None where Ray does not know it.

    Raises StageError when the cluster does not answer.
    """
    try:
        return str(client_of(sent.address).get_job_status(sent.job_id).value)
    except RuntimeError as error:
        if "404" in str(error):
            return None
        reason = str(error).splitlines()[0]
        raise StageError(f"{sent.address}: {reason}") from error
