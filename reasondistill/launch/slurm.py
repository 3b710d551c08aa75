"""Run tasks on Slurm through sbatch: one job per step, each waiting for the one before (`afterok`),
and what has become of them.

    submission = submit(run, tasks)          scripts in <run>/slurm/<number>/, jobs in jobs.json there; returns at once
    states(run)                              every step: waiting, running, done, failed, with its error
    cancel(run)

Nothing of ours stays running on the login node. What a step did it says in the shared run folder,
by marks that appear by rename or are tiny (`<step>.done`, `.failed`, `.error`): accounting need not
be set up, and jobs that Slurm has forgotten are still known.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reasondistill.errors import ConfigError, DataError, StageError
from reasondistill.launch.scripts import script_of
from reasondistill.launch.steps import Step, steps_of
from reasondistill.pipeline import RUN, Run, Task, save_run
from reasondistill.runs.store import write_json, write_text

FOLDER = "slurm"
JOBS, MARKS = "jobs.json", "marks"
# What Slurm's word for an end means.
_ENDS = {
    "TIMEOUT": "reached its time limit without answering the signal before it",
    "OUT_OF_MEMORY": "was given too little memory",
    "NODE_FAIL": "its node was lost",
}
# Slurm's words for a job that still may do something.
_ALIVE = {
    "PENDING",
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "SUSPENDED",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "SIGNALING",
    "STAGE_OUT",
}

# So many times in a row squeue may fail to answer while somebody waits.
_PATIENCE = 10

State = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Job:
    """A step that was sent: its job id, and the elements that it has (one, numbered 0, when it is
    no array).
    """

    step: str
    stage: str
    job_id: str
    script: str
    is_array: bool
    elements: tuple[int, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class JobState:
    """What has become of a job: how many elements are in each state, what Slurm says about waiting,
    and the errors of failed ones.
    """

    job: Job
    counts: Mapping[State, int]
    reason: str
    errors: tuple[str, ...]

    @property
    def state(self) -> State:
        """The worst of what its elements are in that still can be told in one word."""
        for state in ("failed", "cancelled", "running", "waiting"):
            if self.counts.get(state):
                return state
        return "done"

    @property
    def is_over(self) -> bool:
        return not (self.counts.get("waiting") or self.counts.get("running"))


# ---- sending -------------------------------------------------------------------------------------


def write_scripts(run: Run, tasks: Sequence[Task], folder: Path) -> list[tuple[Step, Path]]:
    """One script per step, and `submit.sh`, which sends them all in order by hand."""
    steps, written = steps_of(run, tasks), list[tuple[Step, Path]]()
    save_run(run, folder)
    (folder / MARKS).mkdir(parents=True, exist_ok=True)
    for step in steps:
        path = folder / f"{step.name}.sbatch"
        write_text(path, script_of(run, step, folder.resolve() / MARKS))
        written.append((step, path))
    lines = [
        "#!/bin/bash",
        f"# Sends the steps of {run.pipeline.name} to Slurm, each to start when the one "
        "before has ended well.",
        "set -eu",
    ]
    lines += [
        f"cp {shlex.quote(str((folder / RUN).resolve()))} "
        f"{shlex.quote(str((run.folder / RUN).resolve()))}"
    ]
    for number, (_, path) in enumerate(written):
        after = ' --dependency="afterok:${job%%;*}" --kill-on-invalid-dep=yes' if number else ""
        lines += [
            f"job=$(sbatch --parsable{after} {shlex.quote(str(path.resolve()))})",
            f'echo "{path.stem}: job $job"',
        ]
    write_text(folder / "submit.sh", "\n".join(lines) + "\n")
    run.layout.logs.mkdir(parents=True, exist_ok=True)  # sbatch makes no folder for its output
    return written


def submit(run: Run, tasks: Sequence[Task]) -> list[Job]:
    """Send all steps. Raises StageError when sbatch refuses one, ConfigError where there is none."""
    if shutil.which("sbatch") is None:
        raise ConfigError(
            'kind = "slurm": there is no sbatch here. Call this on a machine from which '
            "jobs are sent, or use --on local."
        )
    save_run(run)
    folder = _next_folder(run)
    jobs: list[Job] = []
    try:
        for step, script in write_scripts(run, tasks, folder):
            job_id = _sbatch(script, after=jobs[-1].job_id if jobs else None)
            elements = tuple(range(len(step.tasks))) if step.is_array else (0,)
            jobs.append(
                Job(
                    step.name,
                    step.stage,
                    job_id,
                    script.name,
                    step.is_array,
                    elements,
                    tuple(task.label for task in step.tasks),
                )
            )
            _save(folder, jobs)
    except StageError:
        if jobs:
            _scancel([job.job_id for job in jobs])
        raise
    return jobs


def _sbatch(script: Path, *, after: str | None) -> str:
    options = ["--parsable"]
    if after is not None:
        options += [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"]
    done = _call(["sbatch", *options, str(script.resolve())])
    if done.returncode:
        raise StageError(f"sbatch refuses {script}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip().partition(";")[0]


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A Slurm command, without what a surrounding job or shell says to sbatch: those variables
    stand over the script's own options.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"SBATCH_|SLURM_(?!CONF$)", name)
    }
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise StageError(
            f"there is no {command[0]} here. Call this on a machine from which jobs are sent."
        ) from None


def _next_folder(run: Run) -> Path:
    return run.folder / FOLDER / f"{len(_submissions(run)) + 1:03d}"


def _submissions(run: Run) -> list[Path]:
    return sorted(path for path in (run.folder / FOLDER).glob("[0-9]*") if (path / JOBS).exists())


def _save(folder: Path, jobs: Sequence[Job]) -> None:
    write_json(
        folder / JOBS, {"time": round(time.time(), 3), "jobs": [job.__dict__ for job in jobs]}
    )


def last_jobs(run: Run) -> tuple[Path, list[Job]] | None:
    """The folder and the jobs of the last submission, or None when nothing was sent. Raises
    DataError.
    """
    found = _submissions(run)
    if not found:
        return None
    try:
        rows: list[dict[str, Any]] = json.loads((found[-1] / JOBS).read_text(encoding="utf-8"))[
            "jobs"
        ]
        return found[-1], [_job(row) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{found[-1] / JOBS}: cannot be read: {error}") from error


def _job(row: dict[str, Any]) -> Job:
    values: dict[str, Any] = row | {
        "elements": tuple(row["elements"]),
        "tasks": tuple(row["tasks"]),
    }
    return Job(**values)


# ---- looking -------------------------------------------------------------------------------------


def states(run: Run) -> list[JobState]:
    """Every job of the last submission, in order; empty when nothing was sent."""
    found = last_jobs(run)
    if found is None:
        return []
    folder, jobs = found
    queue = _queue({job.job_id: f"{run.pipeline.name}.{job.step}" for job in jobs})
    return [_state(folder, job, queue.get(job.job_id, {})) for job in jobs]


def _state(folder: Path, job: Job, queue: Mapping[int, tuple[str, str]]) -> JobState:
    counts: Counter[State] = Counter()
    errors: list[str] = []
    reasons: list[str] = []
    for element in job.elements:
        mark = folder / MARKS / (f"{job.step}-{element}" if job.is_array else job.step)
        word, reason = queue.get(element, ("", ""))
        if word in _ALIVE:
            counts["waiting" if word in ("PENDING", "REQUEUED", "REQUEUE_HOLD") else "running"] += 1
            reasons.append(reason)
        elif Path(f"{mark}.done").exists():
            counts["done"] += 1
        elif word == "CANCELLED" or _code(mark) in ("130", "143"):
            counts["cancelled"] += 1
        elif Path(f"{mark}.failed").exists():
            counts["failed"] += 1
            errors.append(f"{_label(job, element)}: {_error(mark)}")
        elif word and word != "COMPLETED":
            counts["failed"] += 1
            errors.append(
                f"{_label(job, element)}: {_ENDS.get(word) or word.lower().replace('_', ' ')}"
            )
        else:
            counts["cancelled"] += 1
    reason = next((reason for reason in reasons if reason and reason != "None"), "")
    return JobState(job, counts, reason, tuple(errors))


def _label(job: Job, element: int) -> str:
    return job.tasks[element] if job.is_array else job.step


def _error(mark: Path) -> str:
    """The message of the error that a task reported, or the exit code it ended with."""
    if (path := Path(f"{mark}.error")).exists():
        return str(json.loads(path.read_text(encoding="utf-8"))["message"])
    return f"ended with exit code {_code(mark)}"


def _code(mark: Path) -> str:
    """What a task ended with that did not end well; empty where it did not say."""
    path = Path(f"{mark}.failed")
    return path.read_text(encoding="ascii").strip() if path.exists() else ""


def _queue(names: Mapping[str, str]) -> dict[str, dict[int, tuple[str, str]]]:
    """Job id → element → Slurm's state and reason, of the jobs that Slurm still knows. Raises
    StageError when it does not answer.

    A job must have its number and its name: a controller that crashed may give the numbers of its
    last seconds again.
    """
    done = _call(
        [
            "squeue",
            "--noheader",
            "--array",
            "--states=all",
            f"--user={getpass.getuser()}",
            "--format=%i|%T|%r|%j",
        ]
    )
    if done.returncode:
        raise StageError(f"squeue does not answer: {done.stderr.strip()}")
    found: dict[str, dict[int, tuple[str, str]]] = {}
    for line in done.stdout.splitlines():
        place, word, reason, name = line.strip().split("|", 3)
        job_id, _, element = place.partition("_")
        if names.get(job_id) == name:
            found.setdefault(job_id, {})[int(element) if element.isdigit() else 0] = (word, reason)
    return found


def wait(run: Run, tell: Callable[[JobState], None], *, poll_s: float = 2.0) -> list[JobState]:
    """Wait until every job is over, telling each change. Raises StageError with the first error
    when one failed.
    """
    told: dict[str, object] = {}
    silent = 0
    while True:
        try:
            found, silent = states(run), 0
        except StageError:  # a busy controller
            silent += 1
            if silent > _PATIENCE:
                raise
            time.sleep(poll_s)
            continue
        for state in found:
            if told.get(state.job.step) != (
                now := (tuple(sorted(state.counts.items())), state.errors)
            ):
                told[state.job.step] = now
                tell(state)
        if all(state.is_over for state in found):
            break
        time.sleep(poll_s)
    raise_failures(run, found)
    return found


def raise_failures(run: Run, found: Sequence[JobState]) -> None:
    """Raise StageError naming what failed, and how to go on."""
    errors = [error for state in found for error in state.errors]
    if errors:
        more = f"\n(and {len(errors) - 3} more)" if len(errors) > 3 else ""
        raise StageError(
            "\n".join(errors[:3])
            + f"{more}\nLogs: {run.layout.logs}. `reasondistill resume {run.folder.name}` "
            "does the rest."
        )
    if any(state.counts.get("cancelled") for state in found):
        raise StageError(
            f"{run.folder}: jobs were cancelled. `reasondistill resume {run.folder.name}` "
            "does the rest."
        )


def cancel(run: Run) -> list[str]:
    """Cancel what is still in the queue; return the job ids. What was finished is on disk."""
    alive = [state.job.job_id for state in states(run) if not state.is_over]
    if alive:
        _scancel(alive)
    return alive


def _scancel(job_ids: Sequence[str]) -> None:
    done = _call(["scancel", *job_ids])
    if done.returncode:
        raise StageError(f"scancel: {done.stderr.strip()}")
