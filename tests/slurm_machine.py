"""A real Slurm on this machine's loopback, for tests: one controller and two nodes, `n1` and `n2`,
of two CPUs each.

    with SlurmMachine(folder) as slurm:
        job = slurm.sbatch("#!/bin/sh\nsleep 1")
        slurm.wait([job])

On Debian and Ubuntu: `apt install slurm-wlm munge`. Key, sockets, state and logs lie in `folder`;
no file of the machine is read or written, and it need not be root. There is no accounting: `sacct`
says so and fails. Timers are shorter than on a real cluster: see _CONFIG.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from keeper import Keeper, free_ports

NODES = ("n1", "n2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
# The states that a job does not leave by itself.
ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "TIMEOUT",
    }
)
_PATH = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
)  # where Debian has the daemons
_SOCKET_ROOM = (
    60  # a Unix socket's path is at most 107 bytes, and the daemons add names of their own
)

# Timers, and Slurm's own defaults: cred_expire (120 s) is also how long a requeued job waits before
# it may start again; SlurmdTimeout (300 s) is how long a node may be silent before its jobs are
# requeued; KillWait (30 s) lies between SIGTERM and SIGKILL.
_CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={requeue_wait_s}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PropagateResourceLimits=NONE
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
JobRequeue=1
ReturnToService=2
OverTimeLimit=0
InactiveLimit=0
KillWait=3
MinJobAge={remember_s}
SlurmdTimeout=10
SlurmctldTimeout=10
SlurmdParameters=config_overrides
NodeName=n1 NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=n[1-2] MaxTime=1 State=UP
"""


@dataclass(frozen=True)
class Job:
    """One line of `squeue`: a job, or one element of an array (`id` "12_3")."""

    id: str
    number: str
    name: str
    state: str
    reason: str
    node: str
    restarts: str
    dependency: str

    @property
    def ended(self) -> bool:
        return self.state in ENDED


# What squeue calls the fields of Job, in their order.
_COLUMNS = (
    "JobArrayID",
    "JobID",
    "Name",
    "State",
    "Reason",
    "NodeList",
    "RestartCnt",
    "Dependency",
)
assert len(_COLUMNS) == len(fields(Job))


class SlurmError(Exception):
    """A command of Slurm failed, or the machine did not come up; the message has its words."""


def why_not() -> str | None:
    """Why no Slurm can be started here, or None when it can."""
    if sys.platform != "linux":
        return "Slurm's daemons need Linux"
    missing = [program for program in PROGRAMS if shutil.which(program, path=_PATH) is None]
    return f"{', '.join(missing)} not found: apt install slurm-wlm munge" if missing else None


class SlurmMachine:
    """A running Slurm. Ends with the `with` block, or with this process.

    `requeue_wait_s`: how long a requeued job waits before it may start; for less than 5 Slurm takes
    120. `remember_s`: how long a job that ended stays in `squeue`; 300 is Slurm's own default.
    """

    def __init__(self, folder: Path, *, requeue_wait_s: int = 5, remember_s: int = 300) -> None:
        if len(str(folder)) > _SOCKET_ROOM:
            raise ValueError(
                f"{folder} is too long for sockets: give a folder of at most {_SOCKET_ROOM} "
                "characters"
            )
        self.folder = folder
        self.jobs_folder = folder / "jobs"  # where scripts start and slurm-<job>.out is written
        self.env = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _PATH}
        self._pid_file = folder / "slurmctld.pid"
        self._requeue_wait_s = requeue_wait_s
        self._remember_s = remember_s
        self._keepers: dict[str, Keeper] = {}

    def __enter__(self) -> SlurmMachine:
        try:
            self._write_files()
            munge = [
                f"--{what}-file={self.folder}/munge.{what}"
                for what in ("key", "pid", "log", "seed")
            ]
            # --force: a folder that others may not enter is what we want.
            self._start(
                "munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket", *munge
            )
            self._until(lambda: (self.folder / "munge.socket").exists(), "munged makes its socket")
            self._start("slurmctld")
            for node in NODES:
                self._start(node)
            self._until(self._is_up, "all nodes are idle")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every daemon and every job."""
        for name in [*self._keepers][::-1]:
            self._kill(name)

    # ---- jobs ------------------------------------------------------------------------------------

    def sbatch(self, script: str, *options: str) -> str:
        """Submit a script; return its job id."""
        return self.run("sbatch", "--parsable", *options, text=script).strip()

    def jobs(self) -> list[Job]:
        """Every job and array element that the controller remembers."""
        columns = ",".join(f"{column}:\x1f" for column in _COLUMNS)
        lines = self.run(
            "squeue", "--all", "--array", "--noheader", "--states=all", f"--Format={columns}"
        ).splitlines()
        return [Job(*line.split("\x1f")[: len(_COLUMNS)]) for line in lines]

    def job(self, job: str) -> Job:
        """One job or array element. KeyError when the controller does not know it."""
        return {found.id: found for found in self.jobs()}[job]

    def wait(self, jobs: Iterable[str], timeout_s: float = 60) -> list[Job]:
        """Wait until these jobs, with all elements of an array, have ended; return them."""
        return self._wait(jobs, lambda job: job.ended, "ended", timeout_s)

    def wait_running(self, jobs: Iterable[str], timeout_s: float = 60) -> list[Job]:
        """Wait until these jobs run; return them."""
        return self._wait(jobs, lambda job: job.state == "RUNNING", "running", timeout_s)

    def requeue(self, job: str) -> None:
        """Stop a running job and queue it again."""
        self.run("scontrol", "requeue", job)

    def cancel(self, job: str) -> None:
        """End a job for good."""
        self.run("scancel", job)

    def signal(self, job: str, name: str) -> None:
        """Send the batch script a signal now, as `--signal=B:NAME@SECONDS` does before the time
        limit.
        """
        self.run("scancel", "--batch", f"--signal={name}", job)

    # ---- nodes and controller --------------------------------------------------------------------

    def node_down(self, name: str, *, told: bool = True) -> None:
        """Cut a node's power: its slurmd and all that its jobs started are gone at once.

        The controller is told that the node is down and requeues its jobs; not `told`, it finds out
        by itself, about 25 s later.
        """
        self._kill(name)
        if told:
            self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=power cut")

    def node_up(self, name: str) -> None:
        """Start a node again and wait until it takes jobs."""
        self._start(name)
        self._until(lambda: self._node_state(name) in ("idle", "mix", "alloc"), f"{name} is up")

    def restart_controller(self, *, crash: bool = False) -> None:
        """Stop the controller and start it again on what it saved; jobs run on meanwhile.

        With `crash` it is killed: what happened in the last 5 s or so was not saved. Jobs submitted
        then are forgotten, run on where they run, and their numbers are given again.
        """
        if not crash:
            self.run("scontrol", "shutdown", "slurmctld")
            self._until(lambda: not self._pid_file.exists(), "slurmctld has saved its state")
        self._kill("slurmctld")
        self._start("slurmctld")
        self._until(self._answers, "slurmctld answers")

    # ---- underneath ------------------------------------------------------------------------------

    def run(self, *command: str, text: str = "") -> str:
        """Run one of Slurm's commands on this machine; return what it prints. SlurmError when it
        fails.
        """
        done = subprocess.run(
            command,
            input=text,
            cwd=self.jobs_folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode != 0:
            raise SlurmError(
                f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def _environment(self) -> dict[str, str]:
        """Ours with Slurm's two; without what a Slurm around us has set."""
        outer = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SLURM", "SBATCH", "SQUEUE", "SINFO"))
        }
        return outer | self.env

    def _write_files(self) -> None:
        for name in ("state", "jobs", *NODES):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        config = _CONFIG.format(
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            folder=self.folder,
            ports=free_ports(1 + len(NODES)),
            requeue_wait_s=self._requeue_wait_s,
            remember_s=self._remember_s,
        )
        (self.folder / "slurm.conf").write_text(config, encoding="utf-8")

    def _start(self, name: str, *options: str) -> None:
        """Start a daemon; a node's name starts its slurmd."""
        if name == "munged":
            command = [name, *options]
        # -f says no more than SLURM_CONF does, but shows in a list of processes whose they are
        else:
            daemon = ["slurmd", "-N", name] if name in NODES else [name]
            command = [*daemon, "-D", "-f", self.env["SLURM_CONF"]]
        self._keepers[name] = Keeper(command, self.folder / f"{name}.log", self._environment())

    def _kill(self, name: str) -> None:
        self._keepers.pop(name).end()

    def _wait(
        self, jobs: Iterable[str], is_so: Callable[[Job], bool], word: str, timeout_s: float
    ) -> list[Job]:
        asked = set(jobs)
        found: list[Job] = []

        def are_so() -> bool:
            found[:] = [
                job for job in self.jobs() if job.id in asked or job.id.partition("_")[0] in asked
            ]
            return bool(found) and all(map(is_so, found))

        self._until(are_so, f"{', '.join(sorted(asked))} {word}", timeout_s)
        return found

    def _until(self, is_so: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            if time.monotonic() > deadline:
                raise SlurmError(
                    f"Waited {timeout_s:.0f} s in vain until {what}.\n{self._describe()}"
                )
            time.sleep(0.1)

    def _answers(self) -> bool:
        return (
            subprocess.run(
                ["scontrol", "ping"], env=self._environment(), capture_output=True
            ).returncode
            == 0
        )

    def _is_up(self) -> bool:
        return self._answers() and all(self._node_state(node) == "idle" for node in NODES)

    def _node_state(self, name: str) -> str:
        return self.run(
            "sinfo", "--noheader", f"--nodes={name}", "--partition=main", "--format=%t"
        ).strip()

    def _describe(self) -> str:
        """What the machine looks like: nodes, jobs, the end of every log."""
        parts: list[str] = []
        for command in (
            ["sinfo", "--Node", "--long"],
            ["squeue", "--all", "--array", "--states=all"],
        ):
            parts.append(
                subprocess.run(
                    command, env=self._environment(), capture_output=True, text=True
                ).stdout
            )
        for log in sorted(self.folder.glob("*.log")):
            parts.append(
                f"{log.name}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            )
        return "\n".join(parts)
