"""Slurm: one job per step through sbatch, each waiting for the one before (`afterok`).

Scripts lie in `<run>/slurm/<number>/`, the jobs that were sent in `jobs.json` there. Nothing of
ours stays running on the login node. What a step did it says in the shared run folder, by marks
that appear by rename or are tiny (`<step>.done`, `.failed`, `.error`): accounting need not be set
up, and jobs that Slurm has forgotten are still known.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reasondistill import foreign_json
from reasondistill.errors import ConfigError, DataError, StageError
from reasondistill.foreign_files import read_text
from reasondistill.launch.exclusive import only_one
from reasondistill.launch.launcher import JobState, Launcher, State, Watcher, register
from reasondistill.launch.reporting import read_error
from reasondistill.launch.scripts import script_of
from reasondistill.launch.steps import Step, steps_of
from reasondistill.pipeline import RUN, Run, Task, remaining, save_run
from reasondistill.runs.layout import SLURM as FOLDER
from reasondistill.runs.seals import KEY, handed_on
from reasondistill.runs.store import require_no_links, write_json, write_text
from reasondistill.sections import short

JOBS, MARKS = "jobs.json", "marks"
# What Slurm's word for an end means.
_ENDS = {
    "TIMEOUT": "reached its time limit without answering the signal before it",
    "OUT_OF_MEMORY": "was given too little memory",
    "NODE_FAIL": "its node was lost",
}
# Slurm's words for a job that still may do something.
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD"}
_ALIVE = _WAITING | {
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "SUSPENDED",
    "REQUEUE_FED",
    "SIGNALING",
    "STAGE_OUT",
}
# What a task ends with that was stopped.
_STOPPED_CODES = ("130", "143")
# So many times in a row squeue may fail to answer while somebody waits.
_PATIENCE = 10
_POLL_S = 2.0
# So many errors stand in one message.
_MOST_ERRORS = 3
# Where jobs have homes of their own they know this user's runs by his key. It goes the way of the
# environment: no script and no command holds it, and `bash -x` does not show it.
_READ_KEY = f"""\
case "${{XDG_STATE_HOME:-}}" in
    /*) key=$XDG_STATE_HOME/reasondistill/key ;;
    *) key=${{HOME:-}}/.local/state/reasondistill/key ;;
esac
if [ -z "${{{KEY}:-}}" ] && [ -O "$key" ] && read -r {KEY} < "$key"; then export {KEY}; fi"""
# The forms of what jobs.json holds: an id is a word of scancel's, a step a part of a path.
_JOB_ID = re.compile(r"[0-9]{1,10}(_[0-9]{1,7})?")
_STEP = re.compile(r"[0-9]{2,6}(-[a-z]+)+")
_STAGE = re.compile(r"[a-z]+")


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

    def label(self, element: int) -> str:
        """What an element does, in words for people."""
        if self.is_array:
            return self.tasks[element]
        return self.step

    def state(
        self, counts: Mapping[State, int], reason: str = "", errors: tuple[str, ...] = ()
    ) -> JobState:
        """This job with so many elements in each state."""
        return JobState(
            self.step, self.job_id, counts, self.stage, self.is_array, reason, tuple(errors)
        )


@dataclass(frozen=True)
class QueueRow:
    """What Slurm says of an element of a job: the state, and why it waits."""

    word: str = ""
    reason: str = ""


# Of one job: element → row.
JobRows = Mapping[int, QueueRow]


@register
class SlurmLauncher(Launcher):
    """Steps are jobs of Slurm, and go on by themselves."""

    kind = "slurm"
    is_detached = True

    def check(self, stages: Sequence[str]) -> None:
        if self.run.cluster.storage is not None:
            raise ConfigError(
                "cluster file storage: on Slurm all nodes see the run folder; leave it out, or put "
                "--runs on the shared file system"
            )

    def preview(self, tasks: Sequence[Task]) -> list[Path]:
        """The scripts, and `submit.sh`, which sends them by hand."""
        folder = self.run.folder / FOLDER / "by-hand"
        written = write_scripts(self.run, remaining(self.run, tasks), folder)
        return [*(path for _, path in written), folder / "submit.sh"]

    def start(self, tasks: Sequence[Task], watcher: Watcher) -> list[JobState]:
        """Send what is left as jobs. Raises StageError when sbatch refuses one, ConfigError where
        there is none.
        """
        left = remaining(self.run, tasks)
        if not left:
            return []
        with only_one(self.run.folder):
            jobs = submit(self.run, left)
        return [job.state({"waiting": len(job.elements)}) for job in jobs]

    def states(self) -> list[JobState]:
        """Every job of the last submission, in order; empty when nothing was sent.

        Raises StageError when Slurm does not answer, DataError for a broken jobs.json.
        """
        folders = submissions(self.run)
        if not folders:
            return []
        folder = folders[-1]
        jobs = read_jobs(folder)
        queue = read_queue({job.job_id: f"{self.run.pipeline.name}.{job.step}" for job in jobs})
        return [state_of(folder, job, queue.get(job.job_id, {})) for job in jobs]

    def follow(self, watcher: Watcher) -> None:
        """Tell each change until every job is over. Raises StageError with the first errors."""
        known: dict[str, JobState] = {}
        unanswered = 0
        while True:
            try:
                states = self.states()
                unanswered = 0
            except StageError:  # a busy controller
                unanswered += 1
                if unanswered > _PATIENCE:
                    raise
                time.sleep(_POLL_S)
                continue
            for state in states:
                before = known.get(state.name)
                if before is None or has_changed(before, state):
                    known[state.name] = state
                    watcher.changed(state)
            if all(state.is_over for state in states):
                break
            time.sleep(_POLL_S)
        raise_failures(self.run, states)

    def cancel(self, jobs: Sequence[JobState]) -> list[str]:
        """Cancel what is still in the queue; return the job ids. What was finished is on disk."""
        alive = [job.job_id for job in jobs if not job.is_over]
        if alive:
            scancel(alive)
        return alive


# ---- sending -------------------------------------------------------------------------------------


def write_scripts(run: Run, tasks: Sequence[Task], folder: Path) -> list[tuple[Step, Path]]:
    """One script per step, and `submit.sh`, which sends them all in order by hand."""
    save_run(run, folder)
    marks = folder / MARKS
    require_no_links(marks)
    marks.mkdir(parents=True, exist_ok=True)
    written: list[tuple[Step, Path]] = []
    for step in steps_of(run, tasks):
        path = folder / f"{step.name}.sbatch"
        write_text(path, script_of(run, step, marks.resolve()))
        written.append((step, path))
    settings = shlex.quote(str((folder / RUN).resolve()))
    target = shlex.quote(str((run.folder / RUN).resolve()))
    lines = [
        "#!/bin/bash",
        f"# Sends the steps of {run.pipeline.name} to Slurm, each to start when the one "
        "before has ended well.",
        "set -eu",
        _READ_KEY,
        f"cp {settings} {target}",
    ]
    after = ""
    for _, path in written:
        script = shlex.quote(str(path.resolve()))
        lines += [
            f"job=$(sbatch --parsable{after} {script})",
            f'echo "{path.stem}: job $job"',
        ]
        after = ' --dependency="afterok:${job%%;*}" --kill-on-invalid-dep=yes'
    write_text(folder / "submit.sh", "\n".join(lines) + "\n")
    # sbatch makes no folder for its output
    require_no_links(run.layout.logs)
    run.layout.logs.mkdir(parents=True, exist_ok=True)
    return written


def submit(run: Run, tasks: Sequence[Task]) -> list[Job]:
    """Send all steps. Raises StageError when sbatch refuses one, ConfigError without it."""
    if shutil.which("sbatch") is None:
        raise ConfigError(
            'kind = "slurm": there is no sbatch here. Call this on a machine from which '
            "jobs are sent, or use --on local."
        )
    save_run(run)
    number = len(submissions(run)) + 1
    folder = run.folder / FOLDER / f"{number:03d}"
    jobs: list[Job] = []
    after: str | None = None
    try:
        for step, script in write_scripts(run, tasks, folder):
            job_id = sbatch(script, after=after)
            elements = (0,)
            if step.is_array:
                elements = tuple(range(len(step.tasks)))
            labels = tuple(task.label for task in step.tasks)
            jobs.append(
                Job(step.name, step.stage, job_id, script.name, step.is_array, elements, labels)
            )
            write_jobs(folder, jobs)
            after = job_id
    except StageError:
        if jobs:
            scancel([job.job_id for job in jobs])
        raise
    return jobs


def sbatch(script: Path, *, after: str | None) -> str:
    """Send a script; return its job id. `after` is the job that must have ended well before.

    The job gets this environment and the key of this user, for where its home is another one.
    """
    options = ["--parsable"]
    if after is not None:
        options += [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"]
    answer = call(["sbatch", *options, str(script.resolve())], told=handed_on())
    if answer.returncode:
        reason = (answer.stderr or answer.stdout).strip()
        raise StageError(f"sbatch refuses {script}: {reason}")
    job_id = answer.stdout.strip().partition(";")[0]
    if _JOB_ID.fullmatch(job_id) is None:
        raise StageError(f"sbatch answers {short(repr(answer.stdout))} to {script}: no job id")
    return job_id


def scancel(job_ids: Sequence[str]) -> None:
    """Take jobs out of the queue, or stop them. Raises StageError."""
    answer = call(["scancel", *job_ids])
    if answer.returncode:
        reason = answer.stderr.strip()
        raise StageError(f"scancel: {reason}")


def call(
    command: Sequence[str], *, told: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A Slurm command, without what a surrounding job or shell says to sbatch: those variables
    stand over the script's own options. `told` are further variables of its environment.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"SBATCH_|SLURM_(?!CONF$)", name)
    }
    if told is not None:
        environment |= told
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise StageError(
            f"there is no {command[0]} here. Call this on a machine from which jobs are sent."
        ) from None


# ---- what was sent -------------------------------------------------------------------------------


def submissions(run: Run) -> list[Path]:
    """The folders of what was sent, in order."""
    folders = sorted((run.folder / FOLDER).glob("[0-9]*"))
    return [folder for folder in folders if (folder / JOBS).exists()]


def write_jobs(folder: Path, jobs: Sequence[Job]) -> None:
    """Write jobs.json."""
    rows = [asdict(job) for job in jobs]
    write_json(folder / JOBS, {"time": round(time.time(), 3), "jobs": rows})


def read_jobs(folder: Path) -> list[Job]:
    """The jobs of one submission. Raises DataError, also for ids and names that have not the form
    of ours: they go to scancel, and into paths.
    """
    path = folder / JOBS
    try:
        content = foreign_json.loads(read_text(path))
        return [_job_of(row) for row in content["jobs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _job_of(row: Mapping[str, Any]) -> Job:
    """A job as jobs.json holds it. Raises ValueError, TypeError."""
    values = dict(row)
    for key in ("elements", "tasks"):
        values[key] = tuple(row[key])
    job = Job(**values)
    for key, form in {"job_id": _JOB_ID, "step": _STEP, "stage": _STAGE}.items():
        text = getattr(job, key)
        if not (isinstance(text, str) and form.fullmatch(text)):
            raise ValueError(f"{key} {short(repr(text))} is none of ours")
    places = range(1)
    if job.is_array:
        places = range(len(job.tasks))
    for element in job.elements:
        if type(element) is not int or element not in places:
            raise ValueError(f"{job.step}: {short(repr(element))} is no element of it")
    if not all(isinstance(task, str) for task in values["tasks"]):
        raise TypeError(f"{job.step}: a task is no text")
    return job


# ---- looking -------------------------------------------------------------------------------------


def state_of(folder: Path, job: Job, rows: JobRows) -> JobState:
    """What has become of a job, by Slurm's queue and by the marks in the submission's folder."""
    counts: Counter[State] = Counter()
    errors: list[str] = []
    reasons: list[str] = []
    for element in job.elements:
        name = job.step
        if job.is_array:
            name = f"{job.step}-{element}"
        mark = Mark(folder / MARKS / name)
        row = rows.get(element, QueueRow())
        if row.word in _WAITING:
            counts["waiting"] += 1
            reasons.append(row.reason)
        elif row.word in _ALIVE:
            counts["running"] += 1
            reasons.append(row.reason)
        elif mark.is_done():
            counts["done"] += 1
        elif row.word == "CANCELLED" or mark.code() in _STOPPED_CODES:
            counts["cancelled"] += 1
        elif mark.code() is not None:
            counts["failed"] += 1
            errors.append(f"{job.label(element)}: {mark.error()}")
        elif row.word and row.word != "COMPLETED":
            counts["failed"] += 1
            words = _ENDS.get(row.word) or row.word.lower().replace("_", " ")
            errors.append(f"{job.label(element)}: {words}")
        else:
            counts["cancelled"] += 1
    known_reasons = [reason for reason in reasons if reason not in ("", "None")]
    return job.state(counts, "".join(known_reasons[:1]), tuple(errors))


@dataclass(frozen=True)
class Mark:
    """How an element says in the shared folder what it did: `<path>.done`, `.failed`, `.error`."""

    path: Path

    def is_done(self) -> bool:
        return Path(f"{self.path}.done").exists()

    def code(self) -> str | None:
        """What a task ended with that did not end well; None where it did not say."""
        path = Path(f"{self.path}.failed")
        if not path.exists():
            return None
        return read_text(path, errors="replace").strip()

    def error(self) -> str:
        """The message of the error that a task reported, or the exit code it ended with."""
        path = Path(f"{self.path}.error")
        if path.exists():
            return str(read_error(path))
        return f"ended with exit code {self.code()}"


def read_queue(names: Mapping[str, str]) -> dict[str, dict[int, QueueRow]]:
    """Job id → element → Slurm's state and reason, of the jobs that Slurm still knows. Raises
    StageError when it does not answer.

    A job must have its number and its name (`names`): a controller that crashed may give the
    numbers of its last seconds again.
    """
    options = ["--noheader", "--array", "--states=all", "--format=%i|%T|%r|%j"]
    # By number: a container may have no name for it.
    answer = call(["squeue", *options, f"--user={os.getuid()}"])
    if answer.returncode:
        reason = answer.stderr.strip()
        raise StageError(f"squeue does not answer: {reason}")
    queue: dict[str, dict[int, QueueRow]] = {}
    for line in answer.stdout.splitlines():
        place, word, reason, name = line.strip().split("|", 3)
        job_id, _, digits = place.partition("_")
        element = 0
        if digits.isdigit():
            element = int(digits)
        if names.get(job_id) == name:
            queue.setdefault(job_id, {})[element] = QueueRow(word, reason)
    return queue


def has_changed(before: JobState, now: JobState) -> bool:
    """Whether a job says something else than before; why it waits does not count."""
    return (before.counts, before.errors) != (now.counts, now.errors)


def raise_failures(run: Run, states: Sequence[JobState]) -> None:
    """Raise StageError naming what failed, and how to go on."""
    name = shlex.quote(run.folder.name)
    errors: list[str] = []
    for state in states:
        errors += state.errors
    if errors:
        lines = errors[:_MOST_ERRORS]
        more = len(errors) - _MOST_ERRORS
        if more > 0:
            lines.append(f"(and {more} more)")
        lines.append(f"Logs: {run.layout.logs}. `reasondistill resume {name}` does the rest.")
        raise StageError("\n".join(lines))
    if any(state.counts.get("cancelled") for state in states):
        raise StageError(
            f"{run.folder}: jobs were cancelled. `reasondistill resume {name}` does the rest."
        )
