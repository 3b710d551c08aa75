"""What launchers are asked for: steps, scripts, what can be passed over, what must not run beside
what.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from slurm_machine import SlurmMachine
from test_pipeline import demo, finish

from reasondistill.config import Cluster, load_pipeline, resources
from reasondistill.errors import ConfigError, StageError
from reasondistill.launch import slurm
from reasondistill.launch.scripts import script_of
from reasondistill.launch.slurm import submit, write_scripts
from reasondistill.launch.steps import steps_of
from reasondistill.launch.task_process import own_gpus
from reasondistill.pipeline import Run, Task, plan, remaining, save_run, settle
from reasondistill.runs.seals import KEY, own_key
from reasondistill.runs.store import read_manifest, write_json, write_manifest

CLUSTER = {
    "kind": "slurm",
    "stages": {
        "default": {"cpus": 2},
        "traces": {"shards": 4, "gpus": 1, "time": "1:00:00"},
        "students": {"gpus": 1},
        "evals": {"gpus": 1},
    },
}


def on_slurm(folder: Path, *overrides: str, **more: object) -> Run:
    return replace(demo(folder, *overrides), cluster=Cluster.model_validate(CLUSTER | more))


def remaining_of(run: Run) -> list[Task]:
    return remaining(run, plan(run, run.stages, share_engine_process=False))


def tasks_of(run: Run) -> list[str]:
    return [task.name for task in remaining_of(run)]


# ---- steps and scripts ---------------------------------------------------------------------------


def test_workers_students_and_models_become_arrays(tmp_path: Path) -> None:
    run = on_slurm(tmp_path)
    steps = steps_of(run, plan(run, run.stages, share_engine_process=False))
    assert [(step.name, len(step.tasks), step.is_array) for step in steps] == [
        ("01-problems-to-traces", 2, False),
        ("02-traces", 4, True),
        ("03-traces-close-to-examples", 3, False),
        ("04-students", 3, True),
        ("05-evals", 4, True),
        ("06-evals-to-report", 2, False),
    ]
    assert (
        steps[1].resources.gpus == 1
        and steps[2].resources.gpus == 0
        and steps[5].resources.gpus == 0
    )


def test_students_that_continue_others_wait_for_them(tmp_path: Path) -> None:
    source = resources.find("pipelines", "compare_methods")
    run = replace(on_slurm(tmp_path), pipeline=load_pipeline(source), source=source)
    first, second = (
        step
        for step in steps_of(run, plan(run, run.stages, share_engine_process=False))
        if step.stage == "students"
    )
    names = [{task.units[0] for task in step.tasks} for step in (first, second)]
    assert (
        "warm-seed0" in names[0]
        and {"kd-seed0", "sft-seed2"} <= names[1]
        and not names[0] & names[1]
    )


def test_a_script_says_what_its_stage_gets_and_bash_can_read_it(tmp_path: Path) -> None:
    environment = {
        "modules": ["cuda/12.8"],
        "setup": ["source 'a b/activate'"],
        "variables": {"HF_HOME": "/x y"},
        "container": "apptainer exec a.sif",
    }
    run = on_slurm(
        tmp_path / "with space",
        environments={"gpu": environment},
        stages=CLUSTER["stages"]
        | {
            "traces": {
                "shards": 4,
                "max_concurrent": 2,
                "time": "2:00:00",
                "environment": "gpu",
                "options": ["--exclusive"],
            }
        },
    )  # type: ignore[operator]
    step = steps_of(run, plan(run, run.stages, share_engine_process=False))[1]
    text = script_of(run, step, run.folder / "marks")
    for line in (
        "--array=0-3%2",
        "--time=2:00:00",
        "--cpus-per-task=2",
        "--exclusive",
        "--requeue",
        "--signal=B:USR1@120",
    ):
        assert f"#SBATCH {line}\n" in text
    assert "export HF_HOME='/x y'\n" in text and "module load cuda/12.8\n" in text
    assert "task apptainer exec a.sif python -P -m reasondistill task" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""


@pytest.mark.parametrize(
    ("says", "crashes"), [("Interrupted", False), ("StageError", True), (None, True)]
)
def test_a_job_that_ends_with_143_was_stopped_only_when_its_task_says_so(
    tmp_path: Path, says: str | None, crashes: bool
) -> None:
    run = on_slurm(tmp_path)
    text = script_of(
        run, steps_of(run, plan(run, ["problems"], share_engine_process=False))[0], tmp_path
    )
    told = f'echo \'{{"kind": "{says}"}}\' > "$marks/$here.error"; ' if says else ""
    script = text.replace("scontrol requeue", "true").replace("sleep 300", "exit 7")
    call = next(
        line for line in script.splitlines() if line.startswith("task ") and "reasondistill" in line
    )
    script = script.replace(call, "task finish")
    finish_of_the_task = f"finish() {{ {told}return 143; }}\n"
    done = subprocess.run(
        ["bash", "-c", finish_of_the_task + script], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == (7 if crashes else 143), done.stdout + done.stderr


def test_a_line_break_in_a_cluster_file_makes_no_line_of_a_script(tmp_path: Path) -> None:
    bad = {"cpus": 1, "partition": "x\ntouch EXECUTED"}
    for values in (
        {"stages": {"default": bad}},
        {"environments": {"a": {"variables": {"A=1; touch EXECUTED; B": "x"}}}},
    ):
        with pytest.raises(ValueError, match=r"sbatch would read|want the name of a variable"):
            Cluster.model_validate(values)


@pytest.mark.slurm
def test_a_real_sbatch_reads_each_value_as_one(tmp_path: Path, slurm: SlurmMachine) -> None:
    options = ['--comment="two words"', "--exclude=n[2-2]", "--mail-type END,FAIL"]
    default = {"partition": "main,short", "time": "1:00", "options": options}
    run = replace(
        on_slurm(tmp_path, stages={"default": default}), folder=tmp_path / "it's a b#c %d"
    )
    step = steps_of(run, plan(run, run.stages, share_engine_process=False))[0]
    job = slurm.sbatch(script_of(run, step, tmp_path), "--hold")
    told = slurm.run("scontrol", "show", "job", job)
    for value in ("Partition=main,short\n", "Comment=two words\n", "ExcNodeList=n2\n"):
        assert value in told.replace(" ", "\n").replace("two\n", "two "), told
    assert f"StdOut={tmp_path}/it's a b#c " in told and "MailType=END,FAIL" in told, told


@pytest.mark.slurm
def test_a_real_sbatch_would_execute_what_stands_behind_a_partition(slurm: SlurmMachine) -> None:
    """Why values have a form: BASH_ENV is read before the script."""
    evil = slurm.folder / "evil.sh"
    evil.write_text(f"touch {slurm.folder}/EXECUTED\n")
    lines = f"#!/bin/bash\n#SBATCH --partition=main --export=ALL,BASH_ENV={evil}\ntrue\n"
    slurm.wait([slurm.sbatch(lines)])
    assert (slurm.folder / "EXECUTED").exists()


@pytest.mark.parametrize("name", ['x" --export=ALL,BASH_ENV=y "', "x\\", "x\ny"])
def test_a_folder_whose_name_would_be_options_of_sbatch_is_refused(
    tmp_path: Path, name: str
) -> None:
    run = replace(on_slurm(tmp_path), folder=tmp_path / name)
    step = steps_of(run, plan(run, run.stages, share_engine_process=False))[0]
    with pytest.raises(ConfigError, match="Give the folder another name"):
        script_of(run, step, tmp_path)


def test_what_looks_like_a_secret_is_not_written_into_scripts() -> None:
    with pytest.raises(ValueError, match="HF_TOKEN looks like a secret"):
        Cluster.model_validate({"environments": {"a": {"variables": {"HF_TOKEN": "x"}}}})


# ---- what is passed over -------------------------------------------------------------------------


def settled_until(run: Run, last: str) -> None:
    """All stages up to one are finished as this file wants them."""
    for task in plan(run, run.stages[: run.stages.index(last) + 1], share_engine_process=True):
        if task.stage != "students" and task.share is None and not task.units:
            finish(run.stage(task.stage), task.stage, {})
            settle(run, task)


def test_finished_stages_are_passed_over_only_when_the_file_is_the_same(tmp_path: Path) -> None:
    run = demo(tmp_path)
    settled_until(run, "verdicts")
    assert tasks_of(run)[0] == "examples"
    assert tasks_of(demo(tmp_path, "traces.n=2"))[0] == "problems"
    assert tasks_of(demo(tmp_path, "evals.n=2"))[0] == "problems"


def test_a_stage_made_again_or_with_failures_is_not_passed_over_nor_what_follows(
    tmp_path: Path,
) -> None:
    run = demo(tmp_path)
    settled_until(run, "verdicts")
    manifest = read_manifest(run.stage("traces"))
    assert manifest is not None
    write_manifest(run.stage("traces"), replace(manifest, counts={"in": 1, "out": 1, "failed": 1}))
    assert tasks_of(run)[0] == "traces"
    write_manifest(run.stage("traces"), replace(manifest, seconds=9.0))
    assert tasks_of(run)[0] == "verdicts"


def test_no_more_workers_are_sent_than_chunks_are_missing(tmp_path: Path) -> None:
    run = on_slurm(tmp_path, stages=CLUSTER["stages"] | {"verdicts": {"shards": 3}})  # type: ignore[operator]
    settled_until(run, "problems")
    problems = read_manifest(run.stage("problems"))
    assert problems is not None
    write_manifest(run.stage("problems"), replace(problems, counts={"in": 130, "out": 130}))
    run.stage("traces").mkdir()
    lines = [
        f'{{"id":"p/{i}:0","completion":{{"finish":"{"error" if i < 2 else "stop"}"}}}}\n'
        for i in range(128)
    ]
    # Of a larger n that was asked for before: they are not among those that are missing.
    lines += [f'{{"id":"p/{i}:{9}","completion":{{"finish":"stop"}}}}\n' for i in range(128)]
    (run.stage("traces") / "traces.jsonl").write_text("".join(lines))
    names = [
        task.name for task in remaining(run, plan(run, run.stages, share_engine_process=False)[1:])
    ]
    assert names[:4] == [
        "traces[open]",
        "traces[1/2]",
        "traces[2/2]",
        "traces[close]",
    ]  # 4 samples are missing, 3 problems a chunk
    assert "verdicts[3/3]" in names


# ---- beside each other ---------------------------------------------------------------------------


def test_workers_get_the_gpus_that_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = on_slurm(tmp_path)
    worker = plan(run, ["traces"], share_engine_process=False)[4]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert own_gpus(run, worker, 1) == {"CUDA_VISIBLE_DEVICES": "5"}
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES=4,5"):
        own_gpus(run, worker, 2)


def test_a_cancelled_element_has_not_failed(tmp_path: Path) -> None:
    job = slurm.Job(
        "02-traces", "traces", "7", "02-traces.sbatch", True, (0, 1, 2, 3), ("a", "b", "c", "d")
    )
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "02-traces-0.done").write_text("0")
    (marks / "02-traces-1.failed").write_text("130\n")
    (marks / "02-traces-2.failed").write_text("2\n")
    write_json(marks / "02-traces-2.error", {"kind": "StageError", "message": "poisoned"})
    state = slurm.state_of(tmp_path, job, {3: slurm.QueueRow("RUNNING", "None")})
    assert state.counts == {"done": 1, "cancelled": 1, "failed": 1, "running": 1}
    assert state.errors == ("c: poisoned",) and not state.is_over


def test_a_folder_that_was_sent_to_slurm_can_be_looked_at_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = on_slurm(tmp_path)
    save_run(run)
    job = slurm.Job(
        "01-problems", "problems", "7", "01-problems.sbatch", False, (0,), ("problems",)
    )
    slurm.write_jobs(run.folder / "slurm" / "001", [job])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StageError, match="there is no squeue here"):
        slurm.SlurmLauncher(run).states()


# ---- the key of a run's user ---------------------------------------------------------------------

# What stands for sbatch notes what it is called with, and with which key.
_SBATCH = """#!/bin/bash
printf '%s\\n' "$*" >> {folder}/words
echo "${{REASONDISTILL_KEY:-none}}" >> {folder}/keys
echo 17
"""


@pytest.fixture
def noted(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with `words` and `keys` of each sbatch; the key lies in `state` beside it."""
    folder = tmp_path_factory.mktemp("user") / "noted"
    folder.mkdir()
    program = folder / "sbatch"
    program.write_text(_SBATCH.format(folder=folder))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder.parent / "state"))
    monkeypatch.delenv(KEY, raising=False)
    return folder


def holders(key: str, *folders: Path) -> list[Path]:
    """The files in which a key stands."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if key.encode() in path.read_bytes()]


def test_jobs_are_handed_the_key_by_their_environment_alone(tmp_path: Path, noted: Path) -> None:
    run = on_slurm(tmp_path)
    jobs = submit(run, remaining_of(run))
    key = own_key()
    assert (noted / "keys").read_text().split() == [key] * len(jobs)
    assert len((noted / "words").read_text().splitlines()) == len(jobs)
    (noted / "keys").unlink()
    assert holders(key, run.folder, noted) == []


def test_what_is_sent_by_hand_is_handed_the_key_too(
    tmp_path: Path, noted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = on_slurm(tmp_path)
    by_hand = run.folder / "slurm" / "by-hand"
    write_scripts(run, remaining_of(run), by_hand)
    key = own_key()
    monkeypatch.chdir(tmp_path)

    def keys_of_jobs(**changed: str | None) -> set[str]:
        for name, value in changed.items():
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)
        (noted / "keys").unlink(missing_ok=True)
        command = ["bash", "-x", str(by_hand / "submit.sh")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert key not in done.stdout + done.stderr
        return set((noted / "keys").read_text().split())

    assert keys_of_jobs() == {key}
    assert keys_of_jobs(REASONDISTILL_KEY="ab" * 32) == {"ab" * 32}
    assert keys_of_jobs(REASONDISTILL_KEY="") == {key}
    home = noted.parent / "home"
    shutil.copytree(noted.parent / "state", home / ".local" / "state")
    for state in (None, "", "state"):
        assert keys_of_jobs(XDG_STATE_HOME=state, REASONDISTILL_KEY=None, HOME="/no") == {"none"}
        assert keys_of_jobs(XDG_STATE_HOME=state, HOME=str(home)) == {key}
    assert keys_of_jobs(XDG_STATE_HOME=None, HOME=None) == {"none"}
    (noted / "keys").unlink()
    assert holders(key, run.folder, noted) == []


def test_no_script_shows_what_the_environment_holds(tmp_path: Path, noted: Path) -> None:
    """`set -x` in a user's setup would put each word of a command into the log."""
    run = on_slurm(tmp_path)
    for _, path in write_scripts(run, remaining_of(run), run.folder / "slurm" / "by-hand"):
        assert KEY not in path.read_text() and "--export" not in path.read_text()


def test_the_queue_is_asked_for_a_user_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container: no variable and no list of users says how this one is called."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    program = tmp_path / "squeue"
    program.write_text('#!/bin/sh\nfor word; do last=$word; done\necho "17|RUNNING|None|$last"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    queue = slurm.read_queue({"17": f"--user={os.getuid()}"})
    assert queue["17"][0].word == "RUNNING"
