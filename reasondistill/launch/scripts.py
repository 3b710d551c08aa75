"""sbatch scripts: one per step, which a person can read and send by hand."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from reasondistill.config import EnvironmentSettings, ResourceSettings
from reasondistill.launch.local import ERROR_FILE, arguments
from reasondistill.launch.steps import Step
from reasondistill.launch.training import is_shared, job_command, job_lines
from reasondistill.pipeline import Run, Task
from reasondistill.runs.store import GRACE

# A user's error: trying again would fail again.
_USER_ERROR = 2

_RUN_A_TASK = """\
# One task. SIGUSR1 says that the time is nearly up: the task ends what it has in hand, and the job is queued again.
task() {
    "$@" &
    child=$!
    code=
    while [ -z "$code" ]; do
        wait "$child"; code=$?
        if [ "$code" -gt 128 ] && kill -0 "$child" 2>/dev/null; then code=; fi
    done
    [ "$code" -eq 0 ] && return
    if [ -n "$announced" ] && [ "$code" -ne %(user_error)d ]; then again "its time was up"; fi
    if [ -n "$cancelled" ] || [ "$code" -eq %(user_error)d ] || [ "$code" -eq 130 ]; then exit "$code"; fi
    # Stopped on request, and it says so; else 143 is srun's word for what it ended because another node failed.
    if [ "$code" -eq 143 ] && grep -qs '"Interrupted"' "$marks/$here.error"; then exit "$code"; fi
    crashes=$(($(cat "$marks/$here.crashes" 2>/dev/null || echo 0) + 1))
    echo "$crashes" > "$marks/$here.crashes"
    if [ "$crashes" -le %(restarts)d ]; then again "exit code $code"; fi
    exit "$code"
}
again() {
    %(requeue)s
}
announced= cancelled=
trap 'announced=1; kill -USR1 "$child" 2>/dev/null' USR1
trap 'cancelled=1' TERM  # Slurm tells the task itself; a second signal would end it at once
trap 'code=$?; [ -e "$marks/$here.done" ] || echo "$code" > "$marks/$here.failed"' EXIT
"""

_REQUEUE = """\
echo "queued again: $1"
    scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}" && sleep 300"""


def script_of(run: Run, step: Step, marks: Path) -> str:
    """The text of a step's sbatch script. `marks` is where it says how it ended."""
    lines = ["#!/bin/bash", f"# {run.pipeline.name}, step {step.name}: {_about(step)}"]
    lines += [f"#SBATCH {option}" for option in _options(run, step)]
    lines += [f"cd {shlex.quote(str(Path.cwd()))}"]
    slurm = run.cluster.slurm
    # A third of the time that is left goes to ending samples, the rest to writing them and to
    # leaving.
    lines += ["export PYTHONUNBUFFERED=1", f"export {GRACE}={slurm.signal_s // 3}"]
    lines += [
        f"marks={shlex.quote(str(marks))}",
        f"here={step.name}" + ("-$SLURM_ARRAY_TASK_ID" if step.is_array else ""),
    ]
    lines += [
        f'export {ERROR_FILE}="$marks/$here.error"',
        'rm -f "$marks/$here".{done,failed,error}',
    ]
    requeue = _REQUEUE if slurm.requeue else ":"
    lines += [
        (
            _RUN_A_TASK
            % {"user_error": _USER_ERROR, "restarts": slurm.restarts, "requeue": requeue}
        ).rstrip()
    ]
    nodes = step.resources.nodes
    lines += job_lines(nodes) if any(is_shared(run, task, nodes) for task in step.tasks) else []
    lines += [*setting(step.environment), *_tasks(run, step), 'echo 0 > "$marks/$here.done"']
    return "\n".join(lines) + "\n"


def _about(step: Step) -> str:
    labels = [task.label for task in step.tasks]
    return (
        f"{labels[0]} to {labels[-1]}, side by side"
        if step.is_array and len(labels) > 1
        else ", then ".join(labels)
    )


def _options(run: Run, step: Step) -> Iterator[str]:
    yield f"--job-name={run.pipeline.name}.{step.name}"
    place = run.layout.logs.resolve() / step.name
    yield f'--output="{place}' + ('-%a.log"' if step.is_array else '.log"')
    yield "--open-mode=append"
    if step.is_array:
        throttle = f"%{step.resources.max_concurrent}" if step.resources.max_concurrent else ""
        yield f"--array=0-{len(step.tasks) - 1}{throttle}"
    yield from resource_options(step.resources)
    yield f"--signal=B:USR1@{run.cluster.slurm.signal_s}"
    yield "--requeue" if run.cluster.slurm.requeue else "--no-requeue"
    yield from step.resources.options


def resource_options(resources: ResourceSettings) -> Iterator[str]:
    """What sbatch is asked for, in its own words."""
    yield f"--nodes={resources.nodes}"
    yield "--ntasks-per-node=1"
    yield f"--cpus-per-task={resources.cpus}"
    if resources.gpus:
        yield f"--gpus-per-node={resources.gpus}"
    named = {
        "mem": resources.memory,
        "time": resources.time,
        "partition": resources.partition,
        "account": resources.account,
    }
    named |= {"qos": resources.qos, "constraint": resources.constraint}
    yield from (f"--{name}={value}" for name, value in named.items() if value is not None)


def python_of(environment: EnvironmentSettings) -> str:
    """The Python that runs us there: this one where nothing else is said."""
    return environment.python or (
        sys.executable if environment == EnvironmentSettings() else "python"
    )


def setting(environment: EnvironmentSettings) -> Iterator[str]:
    """The shell lines that make an environment."""
    yield from (f"module load {shlex.quote(module)}" for module in environment.modules)
    yield from environment.setup
    yield from (
        f"export {name}={shlex.quote(value)}" for name, value in environment.variables.items()
    )


def _tasks(run: Run, step: Step) -> Iterator[str]:
    """The calls: in order, or the one that this element is."""
    if not step.is_array:
        yield from (f"task {_call(run, step, task)}" for task in step.tasks)
        return
    first = step.tasks[0]
    if first.share is not None:  # all alike but for their number
        share = f'--share "work:$SLURM_ARRAY_TASK_ID:{first.share.of}"'
        yield f"task {_call(run, step, Task(first.stage, first.units))} {share}"
        return
    yield 'case "$SLURM_ARRAY_TASK_ID" in'
    yield from (
        f"{number}) task {_call(run, step, task)} ;;" for number, task in enumerate(step.tasks)
    )
    yield "esac"


def _call(run: Run, step: Step, task: Task) -> str:
    """The shell words that do a task."""
    python = python_of(step.environment)
    if is_shared(run, task, nodes := step.resources.nodes):
        folder, container = run.folder.resolve(), step.environment.container
        return job_command(
            run.cluster, folder, task.units[0], nodes=nodes, python=python, container=container
        )
    words = [python, "-m", "reasondistill", *arguments(run, task, resolved=True)]
    return " ".join(
        [*([step.environment.container] if step.environment.container else []), shlex.join(words)]
    )
