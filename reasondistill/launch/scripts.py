"""sbatch scripts: one per step, which a person can read and send by hand."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from reasondistill.config import EnvironmentSettings, ResourceSettings
from reasondistill.errors import ConfigError
from reasondistill.foreign_text import shown_line
from reasondistill.interpreter import safe_python
from reasondistill.launch.reporting import ERROR_FILE, arguments
from reasondistill.launch.steps import Step
from reasondistill.launch.training import is_shared, job_command, job_lines
from reasondistill.pipeline import Run, Task
from reasondistill.runs.store import GRACE

# A user's error: trying again would fail again.
_USER_ERROR = 2
# What ends a quoted path in a line of sbatch's.
_BREAKS_OUT = ('"', "\\")

_RUN_A_TASK = """\
# One task. SIGUSR1 says that the time is nearly up: the task ends what it has in hand, and the
# job is queued again.
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
    if [ -n "$cancelled" ] || [ "$code" -eq %(user_error)d ] || [ "$code" -eq 130 ]; then
        exit "$code"
    fi
    # Stopped on request, and it says so; else 143 is srun's word for what it ended because another
    # node failed.
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
trap 'code=$?; [ -e "$marks/$here.done" ] || echo "$code" > "$marks/$here.failed"' EXIT"""

_REQUEUE = """\
echo "queued again: $1"
    job="${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
    scontrol requeue "$job" && sleep 300"""


def script_of(run: Run, step: Step, marks: Path) -> str:
    """The text of a step's sbatch script. `marks` is where it says how it ended."""
    slurm = run.cluster.slurm
    requeue = ":"
    if slurm.requeue:
        requeue = _REQUEUE
    here = step.name
    if step.is_array:
        here = f"{step.name}-$SLURM_ARRAY_TASK_ID"
    title = shown_line(f"{run.pipeline.name}, step {step.name}: {tasks_in_words(step)}")
    lines = ["#!/bin/bash", f"# {title}"]
    lines += [f"#SBATCH {option}" for option in options_of(run, step)]
    lines += [
        f"cd {shlex.quote(str(Path.cwd()))}",
        "export PYTHONUNBUFFERED=1",
        # A third of the time that is left goes to ending samples, the rest to writing them and to
        # leaving.
        f"export {GRACE}={slurm.signal_s // 3}",
        f"marks={shlex.quote(str(marks))}",
        f"here={here}",
        f'export {ERROR_FILE}="$marks/$here.error"',
        'rm -f "$marks/$here".{done,failed,error}',
        _RUN_A_TASK % {"user_error": _USER_ERROR, "restarts": slurm.restarts, "requeue": requeue},
    ]
    nodes = step.resources.nodes
    if any(is_shared(run, task, nodes) for task in step.tasks):
        lines += job_lines(nodes)
    lines += environment_lines(step.environment)
    lines += task_lines(run, step)
    lines += ['echo 0 > "$marks/$here.done"']
    return "\n".join(lines) + "\n"


def tasks_in_words(step: Step) -> str:
    """What a step does, for the people who read its script."""
    labels = [task.label for task in step.tasks]
    if step.is_array and len(labels) > 1:
        return f"{labels[0]} to {labels[-1]}, side by side"
    return ", then ".join(labels)


def options_of(run: Run, step: Step) -> Iterator[str]:
    """All that sbatch is told. Raises ConfigError for a folder whose name sbatch would read as
    something else.
    """
    slurm = run.cluster.slurm
    log = run.layout.logs.resolve() / step.name
    if not str(log).isprintable() or any(letter in str(log) for letter in _BREAKS_OUT):
        place = shown_line(str(run.folder.resolve()))
        raise ConfigError(
            f"{place}: its name holds a quote, a backslash or a control character, and sbatch "
            "would read the rest as options. Give the folder another name."
        )
    yield f"--job-name={run.pipeline.name}.{step.name}"
    if step.is_array:
        yield f'--output="{log}-%a.log"'
    else:
        yield f'--output="{log}.log"'
    yield "--open-mode=append"
    if step.is_array:
        elements = f"0-{len(step.tasks) - 1}"
        if step.resources.max_concurrent:
            elements += f"%{step.resources.max_concurrent}"
        yield f"--array={elements}"
    yield from resource_options(step.resources)
    yield f"--signal=B:USR1@{slurm.signal_s}"
    if slurm.requeue:
        yield "--requeue"
    else:
        yield "--no-requeue"
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
        "qos": resources.qos,
        "constraint": resources.constraint,
    }
    for name, value in named.items():
        if value is not None:
            yield f"--{name}={value}"


def python_of(environment: EnvironmentSettings) -> str:
    """The Python that runs us there: this one where nothing else is said."""
    if environment.python:
        return environment.python
    if environment == EnvironmentSettings():
        return sys.executable
    return "python"


def environment_lines(environment: EnvironmentSettings) -> Iterator[str]:
    """The shell lines that make an environment."""
    for module in environment.modules:
        yield f"module load {shlex.quote(module)}"
    yield from environment.setup
    for name, value in environment.variables.items():
        yield f"export {name}={shlex.quote(value)}"


def command_lines(environment: EnvironmentSettings, words: Sequence[str]) -> list[str]:
    """The shell lines that make an environment, then reasondistill with these words in the place of
    the shell.
    """
    python = safe_python(python_of(environment))
    command = shlex.join([*python, "-m", "reasondistill", *words])
    container = environment.container or ""
    return [*environment_lines(environment), f"exec {container} {command}"]


def task_lines(run: Run, step: Step) -> Iterator[str]:
    """The calls: in order, or the one that this element is."""
    if not step.is_array:
        for task in step.tasks:
            yield f"task {call_of(run, step, task)}"
        return
    first = step.tasks[0]
    if first.share is not None:  # all alike but for their number
        call = call_of(run, step, Task(first.stage, first.units))
        yield f'task {call} --share "work:$SLURM_ARRAY_TASK_ID:{first.share.of}"'
        return
    yield 'case "$SLURM_ARRAY_TASK_ID" in'
    for number, task in enumerate(step.tasks):
        yield f"{number}) task {call_of(run, step, task)} ;;"
    yield "esac"


def call_of(run: Run, step: Step, task: Task) -> str:
    """The shell words that do a task."""
    python = python_of(step.environment)
    folder = run.folder.resolve()
    container = step.environment.container
    nodes = step.resources.nodes
    if is_shared(run, task, nodes):
        return job_command(
            run.cluster, folder, task.units[0], nodes=nodes, python=python, container=container
        )
    words = arguments(task, str(folder))
    command = shlex.join([*safe_python(python), "-m", "reasondistill", *words])
    if container:
        return f"{container} {command}"
    return command
