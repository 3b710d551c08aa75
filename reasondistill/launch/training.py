"""The command that trains one student: by one process, by several on one node, or on several nodes
of a Slurm job.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from reasondistill.config import Cluster
from reasondistill.interpreter import SAFE_PATH, safe_environment, safe_python
from reasondistill.pipeline import Run, Task
from reasondistill.runs.loopback import WANTED, is_loopback
from reasondistill.stages.students import processes
from reasondistill.stages.students.strategies import strategy_file

# A stop waits for the end of a step and a saved checkpoint; torch's launcher would kill the
# processes after 30 s (older ones still do). It passes on what asks to stop, and SIGUSR1 too: by
# that our Slurm jobs say that their time is nearly up.
STOPPING = {
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "600",
    "PET_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
}

_ADDRESS, _PORT = "REASONDISTILL_FIRST_NODE", "REASONDISTILL_PORT"


def environment() -> dict[str, str]:
    """What a process that does a task is started with: ours, without what a launcher around us
    says, how it is stopped, and that it imports nothing from the working directory.
    """
    variables = processes.without_other_launchers(os.environ) | STOPPING
    return safe_environment(variables)


def is_shared(run: Run, task: Task, nodes: int = 1) -> bool:
    """Whether several processes do a task together: they train a student. An untouched base is not
    trained.
    """
    if task.stage != "students" or run.cluster.train.processes * nodes == 1:
        return False
    methods = {student.name: student.method for student in run.pipeline.all_students()}
    return methods[task.units[0]] != "base"


def training_command(
    cluster: Cluster,
    run_folder: Path,
    student: str,
    *,
    python: str = sys.executable,
    nodes: int = 1,
) -> list[str]:
    """The words of the command that trains one student with `[train] processes` on each of so many
    nodes. Raises ConfigError.

    For several nodes some words are variables of the shell: `job_lines` sets them.
    """
    task = [*safe_python(python), "-m", "reasondistill", "task", str(run_folder)]
    task += ["students", student]
    train = cluster.train
    if train.processes * nodes == 1:
        return task
    threads: list[str] = []
    if train.threads is not None:
        threads = ["--num_cpu_threads_per_process", str(train.threads)]
    # A part of the command and not of a job's environment: what stands beside it in the job is done
    # by one process.
    variables = [f"{processes.TOGETHER}=1", f"{SAFE_PATH}=1"]
    if nodes == 1 and not has_rollouts_elsewhere(cluster):
        # Nobody else's machine shall reach what torch opens.
        variables.append(f"{WANTED}=1")
    return [
        *("env", *variables, *safe_python(python), "-m", "reasondistill.launch.agent"),
        *("--config_file", str(strategy_file(train.strategy).resolve())),
        *("--num_processes", str(train.processes * nodes), "--num_machines", str(nodes)),
        *rendezvous(nodes),
        *threads,
        *("--no_python", *task),
    ]


def has_rollouts_elsewhere(cluster: Cluster) -> bool:
    """Whether weights go to a server of rollouts on another machine, through NCCL."""
    train = cluster.train
    url = train.rollouts_url
    return train.rollouts == "vllm_server" and url is not None and not is_loopback(url)


def rendezvous(nodes: int) -> list[str]:
    """Where the processes of a training meet."""
    if nodes == 1:
        # Any free port: other students may train on this machine.
        return ["--main_process_port", "0"]
    return [
        *("--machine_rank", "$SLURM_NODEID"),
        *("--main_process_ip", f"${_ADDRESS}"),
        *("--main_process_port", f"${_PORT}"),
        # srun starts this on each node. DeepSpeed's other ways write the whole environment, keys
        # too, into a file.
        *("--deepspeed_multinode_launcher", "standard"),
    ]


def job_lines(nodes: int) -> list[str]:
    """What a job that trains students says once, before their commands: its nodes meet at the
    first, at a port made of its number.
    """
    # torch's launcher takes its defaults from PET_*: what another one has left there is not meant
    # for ours.
    lines = ["unset ${!PET_@}"]
    lines += [f"export {name}={value}" for name, value in STOPPING.items()]
    if nodes > 1:
        first_node = '"$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n1)"'
        port = '"$((20000 + SLURM_JOB_ID % 20000))"'
        lines += [f"export {_ADDRESS}={first_node}", f"export {_PORT}={port}"]
    return lines


def job_command(
    cluster: Cluster,
    run_folder: Path,
    student: str,
    *,
    nodes: int,
    python: str = "python",
    container: str | None = None,
) -> str:
    """The shell's words that train one student in a job of so many nodes, behind `job_lines`. When
    one node fails, Slurm ends the others.

    `container` stands before the command on each node.
    """
    words = training_command(cluster, run_folder, student, python=python, nodes=nodes)
    command = shell_line(words)
    if container is not None:
        command = f"{container} {command}"
    if nodes == 1:
        return command
    # srun does not take over --cpus-per-task of the job by itself (Slurm 22.05 to 23.02).
    srun = (
        f"srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 "
        '--cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1'
    )
    on_each_node = shlex.quote(f"exec {command}")
    return f"{srun} bash -c {on_each_node}"


def shell_line(command: Sequence[str]) -> str:
    """The command as a shell reads it; words that begin with $ are its variables."""
    words: list[str] = []
    for word in command:
        if word.startswith("$"):
            words.append(f'"{word}"')
        else:
            words.append(shlex.quote(word))
    return " ".join(words)
