"""Several processes make the student that one makes: by `accelerate launch`, stopped, killed,
resumed; what they cannot do is refused.

Two processes on a CPU (gloo). "The same" is up to the order in which floats are added: TOLERANCE in
float32.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_kit import Recorder, seen_whole, wait_until
from slurm_machine import SlurmMachine
from test_students import example
from tiny_model import make_tiny_model

from reasondistill import pipeline
from reasondistill.config import Cluster, Pipeline, TrainSettings, resources
from reasondistill.doctor import check
from reasondistill.errors import ConfigError, DriftError, Interrupted, StageError
from reasondistill.launch import reporting, task_process
from reasondistill.launch.scripts import script_of
from reasondistill.launch.slurm import SlurmLauncher, submit
from reasondistill.launch.steps import steps_of
from reasondistill.launch.training import environment, job_command, job_lines, training_command
from reasondistill.pipeline import Run, Task, save_run
from reasondistill.runs import remote
from reasondistill.runs.store import (
    Identity,
    StopSignal,
    finish_stage,
    open_stage,
    read_manifest,
    read_metrics,
    verify_sums,
    write_records,
)
from reasondistill.runs.store.verified import parse_sums
from reasondistill.stages.students import processes, read_student
from reasondistill.stages.students.strategies import check_strategy

torch = pytest.importorskip("torch")
HAS_DEEPSPEED = importlib.util.find_spec("deepspeed") is not None

# Absolute, of losses from 7 to 1 and of weights about 0.2, after 24 steps of AdamW in float32.
TOLERANCE = 2e-4

SFT: dict[str, Any] = {
    "name": "sft",
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "bf16": False,
    "max_length": 400,
    "evaluate_every": 12,
    "baselines": [],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base") / "base")


ANSWER = "<think>\n3 + 4 = 7\n</think>\n\n\\boxed{7}"


def run_of(
    folder: Path,
    base: Path,
    *,
    processes: int = 2,
    strategy: str = "ddp",
    validation_answer: str = ANSWER,
    **student: Any,
) -> Run:
    """A run whose examples are there: 61 to train on, so that the last of 8 batches an epoch is not
    full.
    """
    origin = {
        "source": "procedural",
        "dataset": "gsm_symbolic",
        "name": "g",
        "limit": 9,
        "question": "question",
        "answer": "answer",
    }
    values = {
        "name": "scale",
        "problems": origin,
        "traces": {"prompt": "question", "n": 1, "teachers": [{"model": "shipped:demo-teacher"}]},
        "students": [SFT | {"base": str(base)} | student],
        "evals": {"benchmarks": [], "checkpoints": {"count": 2}},
    }
    # Four micro-batches a step in any case: of two processes the second gets one of blank rows
    # alone at the end of an epoch.
    train = {"micro_batch_size": 2, "threads": 1, "processes": processes, "strategy": strategy}
    run = Run(
        Pipeline.model_validate(values),
        Cluster.model_validate({"train": train}),
        folder,
        folder / "p.toml",
    )
    rows = [
        example(i, answer="<think>\n" + "3 + 4 = 7. " * (i % 7) + "\n</think>\n\n\\boxed{7}")
        for i in range(61)
    ]
    rows += [example(i, answer=validation_answer, split="validation") for i in range(61, 68)]
    open_stage(run.stage("examples"), Identity("examples", 1, {}, {}))
    write_records(run.stage("examples") / "examples.jsonl", rows)
    finish_stage(run.stage("examples"), counts={"in": len(rows), "out": len(rows)}, seconds=0.0)
    save_run(run)
    return run


TASK = Task("students", ("sft",))


class Launched:
    """The student's training, started as `reasondistill run` starts it."""

    def __init__(self, run: Run) -> None:
        self.folder, self.lines = run.stage("students") / "sft", list[str]()
        self.handle = task_process.begin(run, TASK, lambda _, line: self.lines.append(line))

    def reaches(self, step: int) -> None:
        """Wait until so many steps are done."""
        wait_until(
            lambda: (
                any(line["step"] >= step for line in read_metrics(self.folder))
                or self.handle.process.poll() is not None
            )
        )
        assert self.handle.process.poll() is None, self.handle.log.read_text()

    def ends(self) -> None:
        task_process.wait(self.handle)

    def workers(self) -> list[int]:
        """The processes that train, the first of them first."""
        starter = self.handle.process.pid
        children = Path(f"/proc/{starter}/task/{starter}/children").read_text().split()
        return sorted(
            (int(pid) for pid in children if rank_of(pid) is not None),
            key=lambda pid: rank_of(str(pid)) or 0,
        )


def rank_of(pid: str) -> int | None:
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return next(
        (int(text.removeprefix("RANK=")) for text in variables if text.startswith("RANK=")), None
    )


def weights(run: Run, part: str = "model") -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(run.stage("students") / "sft" / part / "model.safetensors")


def distance(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def losses(run: Run) -> dict[int, float]:
    lines = [line for line in read_metrics(run.stage("students") / "sft") if "loss" in line]
    steps = [line["step"] for line in lines]
    assert steps == sorted(
        set(steps)
    )  # one process writes, and a resumed curve does not double back
    return {line["step"]: line["loss"] for line in lines}


def assert_same(run: Run, alone: Run) -> None:
    """Every logged loss, the finished weights and those on the way are those of one process."""
    assert list(losses(alone)) == list(range(1, 25))
    assert losses(run) == pytest.approx(losses(alone), abs=TOLERANCE)
    for part in ("model", "snapshots/step-12"):
        assert distance(weights(run, part), weights(alone, part)) < TOLERANCE
    ours, theirs = (read_student(one.stage("students") / "sft").figures for one in (run, alone))
    assert ours is not None and theirs is not None
    for same in (
        "steps",
        "epochs",
        "examples",
        "tokens",
        "loss_tokens",
        "parameters",
        "trained_parameters",
    ):
        assert getattr(ours, same) == getattr(theirs, same), same
    assert ours.perplexity == pytest.approx(theirs.perplexity, rel=1e-3)


@pytest.fixture(scope="module")
def alone(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = run_of(tmp_path_factory.mktemp("alone"), base, processes=1)
    pipeline.run_task(run, TASK, StopSignal())
    return run


# ---- several processes are one -------------------------------------------------------------------


@pytest.mark.engine
def test_two_processes_stopped_killed_and_resumed_on_two_nodes_make_what_one_makes(
    tmp_path: Path, base: Path, alone: Run
) -> None:
    run = run_of(tmp_path / "a run", base)
    stopped = Launched(run)
    stopped.reaches(10)
    task_process.cancel(stopped.handle)
    with pytest.raises(Interrupted, match="same command"):
        stopped.ends()
    (kept,) = (stopped.folder / "checkpoints").glob("checkpoint-*")  # saved once, at one step
    at = int(kept.name.removeprefix("checkpoint-"))
    assert 10 <= at < 20 and max(losses(run)) == at
    assert {path.name for path in kept.glob("rng_state_*")} == {
        "rng_state_0.pth",
        "rng_state_1.pth",
    }
    assert_summed(kept)
    manifest = read_manifest(stopped.folder)
    assert (
        manifest is not None
        and manifest.status == "partial"
        and not (stopped.folder / "student.json").exists()
    )

    killed = Launched(run)
    killed.reaches(at + 2)
    _, second = killed.workers()
    os.kill(second, signal.SIGKILL)
    with pytest.raises(
        StageError, match="process 0 of 2 lost another one.*Run the same command to go on"
    ):
        killed.ends()
    assert (
        sum(line.startswith(f"step {at + 1}/24 · loss") for line in killed.lines) == 1
    )  # goes on where it was, and one process speaks

    run_slurm_script(run, tmp_path)
    assert_same(run, alone)
    manifest = read_manifest(killed.folder)
    assert manifest is not None and manifest.environment["packages"]["torch"]


def assert_summed(checkpoint: Path) -> None:
    """What every process wrote into a checkpoint was whole when it was summed."""
    sums = checkpoint / "sums.json"
    verify_sums(sums)
    files = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*")}
    known = parse_sums(sums.read_bytes(), "sums.json")
    assert {name for name in files if (checkpoint / name).is_file()} == {*known, "sums.json"}


# Two nodes that are both this machine; Slurm itself would start one of these on each.
SRUN = """#!/bin/bash
while [ "$1" != bash ]; do shift; done
SLURM_NODEID=0 "$@" & first=$!
SLURM_NODEID=1 "$@" & second=$!
wait $first && wait $second
"""


def run_slurm_script(run: Run, folder: Path) -> None:
    """Do the student's task by one process on each of two nodes."""
    alone = run.cluster.model_copy(
        update={"train": run.cluster.train.model_copy(update={"processes": 1})}
    )
    (folder / "bin").mkdir()
    for name, text in {
        "srun": SRUN,
        "scontrol": "#!/bin/bash\necho 127.0.0.1\necho 127.0.0.2\n",
    }.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    script = "\n".join(
        [*job_lines(2), job_command(alone, run.folder, "sft", nodes=2, python=sys.executable)]
    )
    slurm = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_JOB_ID": str(os.getpid()),
    }
    done = subprocess.run(
        ["bash", "-ec", script], env=os.environ | slurm, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.engine
def test_a_split_model_stopped_and_resumed_makes_what_one_process_makes(
    tmp_path: Path, base: Path, alone: Run
) -> None:
    run = run_of(tmp_path, base, strategy="fsdp2")
    stopped = Launched(run)
    stopped.reaches(10)
    stopped.handle.process.send_signal(
        signal.SIGUSR1
    )  # as a Slurm job says that its time is nearly up
    with pytest.raises(Interrupted, match="same command"):
        stopped.ends()
    (kept,) = (stopped.folder / "checkpoints").glob("checkpoint-*")
    assert (
        len(list((kept / "pytorch_model_fsdp_0").glob("*.distcp"))) == 2
    )  # each process holds a part
    assert_summed(kept)
    Launched(run).ends()
    assert_same(run, alone)


CHECKPOINTS = "5-students/sft/checkpoints/checkpoint-*/trainer_state.json"


class AtUrl:
    """The student's training in a run that lives at a URL, started as Ray starts it on a node that
    has nothing of the run.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self.store, self.scratch, self.error = (
            folder / "store" / run.folder.name,
            folder / "scratch",
            folder / "error.json",
        )
        self.url = f"file://{self.store}"
        self.scratch.mkdir()
        with remote.Remote(self.url, run.folder) as made:
            made.publish()

    def start(self) -> subprocess.Popen[str]:
        told = {
            remote.PUBLISH_S: "0.2",
            remote.SCRATCH: str(self.scratch),
            reporting.ERROR_FILE: str(self.error),
        }
        command = [sys.executable, "-m", "reasondistill", "task", self.url, "students", "sft"]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            env=os.environ | told,
            stdout=pipe,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def ends(self, process: subprocess.Popen[str], code: int) -> None:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == code, said
        assert not list(self.scratch.iterdir())

    def checkpoint(self) -> int:
        """The step of the newest whole checkpoint that was published."""
        return _newest(self.store, CHECKPOINTS)

    def checkpoint_here(self) -> int:
        """The step of the newest checkpoint that the processes have written. On a busy machine
        they may be at their end before it is published.
        """
        return _newest(self.scratch, f"**/{CHECKPOINTS}")


def _newest(folder: Path, states: str) -> int:
    found = seen_whole(lambda: list(folder.glob(states)))
    steps = [int(path.parent.name.removeprefix("checkpoint-")) for path in found]
    return max(steps, default=0)


@pytest.mark.engine
def test_a_training_without_a_common_folder_killed_and_stopped_makes_what_one_process_makes(
    tmp_path: Path, base: Path, alone: Run
) -> None:
    run = run_of(tmp_path / "run", base, strategy="fsdp2", save_every=6)
    there = AtUrl(run, tmp_path)
    killed = there.start()
    wait_until(lambda: there.checkpoint() >= 6 or killed.poll() is not None)
    killed.kill()
    killed.communicate()  # the end of what it printed is the end of what it started
    stopped = there.start()
    wait_until(lambda: there.checkpoint_here() >= 12 or stopped.poll() is not None)
    stopped.terminate()
    there.ends(stopped, 143)
    assert 12 <= there.checkpoint() < 24 and "same command" in there.error.read_text()
    there.ends(there.start(), 0)
    with remote.Remote(there.url, run.folder) as made:
        made.fetch()
    assert_same(run, alone)


@pytest.mark.engine
def test_what_several_processes_refuse_is_a_users_error_of_the_one_that_started_them(
    tmp_path: Path, base: Path
) -> None:
    run = run_of(tmp_path / "run", base)
    open_stage(run.stage("students") / "sft", Identity("students", 1, {"learning_rate": 1.0}, {}))
    there = AtUrl(run, tmp_path)
    there.ends(there.start(), 2)
    assert (
        "made from other settings" in there.error.read_text()
        and "DriftError" in there.error.read_text()
    )


def test_a_stop_before_they_have_begun_is_no_crash(tmp_path: Path, base: Path) -> None:
    run, stop = run_of(tmp_path / "run", base), StopSignal()
    stop.requested = True
    with pytest.raises(Interrupted):
        task_process.do_together(run, TASK, stop)
    stop.requested = False
    threading.Timer(1.0, lambda: setattr(stop, "requested", True)).start()
    with pytest.raises(Interrupted):
        task_process.do_together(run, TASK, stop)


@pytest.mark.engine
@pytest.mark.skipif(
    not HAS_DEEPSPEED, reason="needs DeepSpeed, which is not pinned: pip install deepspeed"
)
@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_zero_stopped_and_resumed_makes_what_one_process_makes(
    tmp_path: Path, base: Path, alone: Run, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    run = run_of(tmp_path, base, strategy=strategy)
    stopped = Launched(run)
    stopped.reaches(10)
    task_process.cancel(stopped.handle)
    with pytest.raises(Interrupted, match="same command"):
        stopped.ends()
    Launched(run).ends()
    assert_same(run, alone)


@pytest.mark.engine
def test_what_one_process_refuses_ends_all_and_is_said_once(tmp_path: Path, base: Path) -> None:
    run = run_of(tmp_path, base)
    open_stage(run.stage("students") / "sft", Identity("students", 1, {"learning_rate": 1.0}, {}))
    refused = Launched(run)
    with pytest.raises(DriftError, match="made from other settings"):
        refused.ends()
    assert refused.handle.log.read_text().count("made from other settings") == 1


@pytest.mark.engine
def test_a_split_model_delivers_the_step_with_the_lowest_validation_loss(
    tmp_path: Path, base: Path
) -> None:
    # The surer it becomes of its own answer, the worse it is at another.
    wanted: dict[str, Any] = {
        "keep": "best",
        "evaluate_every": 4,
        "max_steps": 20,
        "learning_rate": 3e-2,
        "schedule": "constant",
        "validation_answer": ANSWER.replace("7", "1"),
    }
    run = run_of(tmp_path, base, strategy="fsdp2", **wanted)
    Launched(run).ends()
    folder = run.stage("students") / "sft"
    lines = [line for line in read_metrics(folder) if "validation_loss" in line]
    losses = {line["step"]: line["validation_loss"] for line in lines}
    lowest = min(losses, key=lambda step: losses[step])
    figures = read_student(folder).figures
    assert figures is not None and figures.delivered_step == lowest < 20
    assert figures.validation_loss == pytest.approx(losses[lowest], rel=1e-5)


@pytest.mark.engine
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_training_that_diverges_ends_all_processes_and_is_said_once(
    tmp_path: Path, base: Path, strategy: str
) -> None:
    diverging = Launched(run_of(tmp_path, base, strategy=strategy, learning_rate=1e30))
    with pytest.raises(StageError, match=r"in step 3 of .* is not finite"):
        diverging.ends()
    assert diverging.handle.log.read_text().count("is not finite") == 1


# ---- the command ---------------------------------------------------------------------------------


def cluster(**train: Any) -> Cluster:
    return Cluster.model_validate({"train": train})


def test_one_process_needs_no_launcher(tmp_path: Path) -> None:
    command = training_command(cluster(), tmp_path, "sft", python="py")
    assert command == ["py", "-P", "-m", "reasondistill", "task", str(tmp_path), "students", "sft"]


def test_several_processes_are_started_by_accelerate_with_the_file_of_their_strategy(
    tmp_path: Path,
) -> None:
    command = training_command(
        cluster(processes=4, strategy="fsdp2", threads=3), tmp_path, "sft", python="py"
    )
    file = str(resources.find("accelerate", "fsdp2"))
    assert command == [
        *("env", "REASONDISTILL_TOGETHER=1", "PYTHONSAFEPATH=1", "REASONDISTILL_LOOPBACK=1"),
        *("py", "-P", "-m", "reasondistill.launch.agent", "--config_file", file),
        *("--num_processes", "4", "--num_machines", "1"),
        *("--main_process_port", "0", "--num_cpu_threads_per_process", "3"),
        *("--no_python", "py", "-P"),
        *("-m", "reasondistill", "task", str(tmp_path), "students", "sft"),
    ]


def test_a_slurm_job_of_several_nodes_trains_students_through_srun_but_not_an_untouched_base(
    tmp_path: Path, base: Path
) -> None:
    made = run_of(tmp_path, base, baselines=["base"])
    values = {
        "kind": "slurm",
        "stages": {"students": {"nodes": 2, "gpus": 8}},
        "train": {"processes": 8, "micro_batch_size": 1},
    }
    run = replace(made, cluster=Cluster.model_validate(values))
    (step,) = steps_of(run, pipeline.plan(run, ["students"], share_engine_process=False))
    script = script_of(run, step, tmp_path / "marks")
    calls = [line for line in script.splitlines() if " task " in line]
    assert sum("srun --nodes=2" in line and "students sft" in line for line in calls) == 1
    assert sum("srun" not in line and line.endswith("students base ;;") for line in calls) == 1
    assert (
        script.index("SLURM_JOB_NODELIST") < script.index("srun --nodes=2")
        and "#SBATCH --nodes=2" in script
    )
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.slow
@pytest.mark.slurm
def test_a_slurm_job_of_two_nodes_whose_time_is_up_is_queued_again_and_makes_what_one_process_makes(
    tmp_path: Path, base: Path, alone: Run, slurm: SlurmMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    made = run_of(tmp_path, base, processes=1)
    # The names of these nodes mean nothing to the network.
    environment = {
        "python": sys.executable,
        "variables": {"REASONDISTILL_FIRST_NODE": "127.0.0.1", "PYTHONPATH": os.getcwd()},
    }
    values = {
        "kind": "slurm",
        "stages": {"students": {"nodes": 2, "environment": "train"}},
        "environments": {"train": environment},
    }
    run = replace(
        made, cluster=Cluster.model_validate(values | {"train": made.cluster.train.model_dump()})
    )
    (job,) = submit(run, [TASK])
    wait_until(
        lambda: any(line["step"] >= 8 for line in read_metrics(run.stage("students") / "sft"))
    )
    subprocess.run(
        ["scancel", "--batch", "--signal=USR1", job.job_id], check=True
    )  # what Slurm does before a job's time is up
    SlurmLauncher(run).follow(Recorder())
    assert_same(run, alone)
    log = next((run.folder / "logs").glob("*-students-*.log")).read_text()
    assert "queued again: its time was up" in log and log.count("step 1/24 · loss") == 1


def test_nodes_of_a_slurm_job_meet_at_the_first_of_them(tmp_path: Path) -> None:
    lines = job_lines(2)
    last = job_command(
        cluster(processes=8),
        tmp_path / "my run",
        "sft",
        nodes=2,
        python="python",
        container="apptainer exec --nv a.sif",
    )
    assert lines[-2].endswith('="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n1)"')
    assert lines[-1].endswith('="$((20000 + SLURM_JOB_ID % 20000))"')
    assert last.startswith(
        "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 "
        '--cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 bash -c '
    )
    (inner,) = shlex.split(last.split("bash -c ")[1])
    assert inner.startswith(
        "exec apptainer exec --nv a.sif env REASONDISTILL_TOGETHER=1 PYTHONSAFEPATH=1 "
        "python -P -m reasondistill.launch.agent "
    )
    assert (
        "--num_processes 16 --num_machines 2" in inner and '--machine_rank "$SLURM_NODEID"' in inner
    )
    assert f"task '{tmp_path}/my run' students sft" in inner


# ---- launchers of others -------------------------------------------------------------------------

THEIRS = {
    **{
        "RANK": "3",
        "LOCAL_RANK": "3",
        "WORLD_SIZE": "8",
        "LOCAL_WORLD_SIZE": "8",
        "MASTER_ADDR": "10.0.0.7",
        "MASTER_PORT": "29500",
    },
    **{
        "PMI_RANK": "3",
        "PMI_SIZE": "8",
        "OMPI_COMM_WORLD_RANK": "3",
        "OMPI_COMM_WORLD_SIZE": "8",
        "PET_NNODES": "8",
    },
    **{
        "ACCELERATE_USE_FSDP": "true",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "TORCHELASTIC_RUN_ID": "theirs",
    },
}


@pytest.mark.engine
def test_a_training_that_is_alone_does_not_believe_what_another_launcher_says(
    tmp_path: Path, base: Path, alone: Run
) -> None:
    """As a Slurm job, a pod or Ray starts it: with the environment as it is."""
    run = run_of(tmp_path, base, processes=1)
    command = [sys.executable, "-m", "reasondistill", "task", str(run.folder), "students", "sft"]
    done = subprocess.run(
        command, env=os.environ | THEIRS, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert distance(weights(run), weights(alone)) == 0.0
    manifest = read_manifest(run.stage("students") / "sft")
    assert manifest is not None and manifest.environment["packages"]["torch"]


def test_our_launcher_gets_nothing_of_what_another_one_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (
        THEIRS | {"ACCELERATE_USE_CPU": "true", "PET_SIGNALS_TO_HANDLE": "SIGTERM"}
    ).items():
        monkeypatch.setenv(name, value)
    told = environment()
    assert not set(THEIRS) & set(told) and told["PATH"] == os.environ["PATH"]
    assert told["ACCELERATE_USE_CPU"] == "true" and "SIGUSR1" in told["PET_SIGNALS_TO_HANDLE"]
    script = "\n".join([*job_lines(1), 'echo "${PET_NNODES:-none} $PET_SIGNALS_TO_HANDLE"'])
    assert subprocess.check_output(["bash", "-euc", script], text=True).split() == [
        "none",
        told["PET_SIGNALS_TO_HANDLE"],
    ]


def test_processes_that_our_launcher_started_believe_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (THEIRS | {processes.TOGETHER: "1"}).items():
        monkeypatch.setenv(name, value)
    processes.forget_other_launchers()
    assert (
        processes.rank(),
        processes.local_rank(),
        processes.world_size(),
        processes.is_first(),
    ) == (3, 3, 8, False)
    assert processes.sharding() == "fsdp" and os.environ["PET_NNODES"] == "8"
    monkeypatch.delenv(processes.TOGETHER)
    assert (
        processes.rank(),
        processes.local_rank(),
        processes.world_size(),
        processes.is_first(),
    ) == (0, 0, 1, True)
    assert processes.sharding() is None


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "strategy", "message"),
    [
        ({"batch_size": 9}, "ddp", "batch_size = 9 cannot be dealt evenly to 2 processes"),
        (
            {"optimizer": "muon"},
            "fsdp2",
            "optimizer = 'muon' does not go with .* strategy = 'fsdp2'",
        ),
        ({"method": "kd"}, "fsdp2", "method = 'kd' does not go with"),
        ({"shrink": {"layers": 1}}, "fsdp2", "shrink does not go with"),
        pytest.param(
            {},
            "zero3",
            "needs DeepSpeed",
            marks=pytest.mark.skipif(HAS_DEEPSPEED, reason="DeepSpeed is installed"),
        ),
        ({}, "fsdp", "no such file, and no accelerate of that name. Did you mean fsdp2"),
    ],
)
def test_what_several_processes_cannot_train_is_refused_before_anything_starts(
    tmp_path: Path, base: Path, changes: dict[str, Any], strategy: str, message: str
) -> None:
    run = run_of(tmp_path, base, strategy=strategy, **changes)
    with pytest.raises(ConfigError, match=message):
        check(run)
    (student,) = run.pipeline.all_students()
    check_strategy(student, run.cluster.train, 1)  # one process may do it
    assert not (tmp_path / "5-students").exists()


def test_ddp_takes_every_method_and_optimizer(tmp_path: Path, base: Path) -> None:
    for changes in ({"optimizer": "muon"}, {"method": "kd"}, {"shrink": {"layers": 1}}):
        (student,) = run_of(tmp_path, base, **changes).pipeline.all_students()
        check_strategy(student, TrainSettings(processes=2), 2)


def test_a_file_of_ones_own_is_taken_if_it_starts_a_process_per_device(
    tmp_path: Path, base: Path
) -> None:
    (student,) = run_of(tmp_path / "run", base, optimizer="muon").pipeline.all_students()
    for text, message in {
        "distributed_type: MULTI_CPU\n": "distributed_type: MULTI_CPU; known are MULTI_GPU",
        '{"distributed_type": "FSDP"}': "muon' does not go with",
        "debug: false\n": "distributed_type: none",
    }.items():
        (tmp_path / "mine.yml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            check_strategy(
                student, TrainSettings(processes=2, strategy=str(tmp_path / "mine.yml")), 2
            )


def test_students_of_several_processes_train_one_after_the_other() -> None:
    with pytest.raises(ValueError, match="would use the same devices"):
        cluster(processes=2, parallel=2)


def test_a_checkpoint_of_another_strategy_is_not_gone_on_from(tmp_path: Path) -> None:
    from reasondistill.stages.students.saving import start_from

    kept = tmp_path / "checkpoints" / "checkpoint-8"
    (kept / "pytorch_model_fsdp_0").mkdir(parents=True)
    (kept / "trainer_state.json").write_text("{}")
    with pytest.raises(StageError, match=r"kept under another \[train\] strategy"):
        start_from(tmp_path)


def test_the_last_batch_is_filled_with_blank_rows_only_as_far_as_it_must() -> None:
    from reasondistill.stages.students.sorted_trainer import BatchSortedSampler

    sampler = BatchSortedSampler([5] * 61, batch=8, seed=1, fill=8)
    order = list(sampler)
    assert len(order) == len(sampler) == 64 and order[61:] == [61] * 3
    assert sorted(order[:61]) == list(range(61)) and order[:61] == list(
        BatchSortedSampler([5] * 61, batch=8, seed=1)
    )


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).parents[2] / "pipelines/clusters/accelerate").iterdir()),
    ids=lambda p: p.stem,
)
def test_accelerate_reads_each_shipped_file(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    found = load_config_from_file(str(path))
    assert found.num_processes == -1 and found.main_process_ip is None  # both come with the command
    assert path.read_text().startswith(f'# [train] strategy = "{path.stem}"')
