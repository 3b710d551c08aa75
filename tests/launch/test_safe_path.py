"""What lies in the working directory is never imported by a process that does something for a run:
not by a task, nor by what accelerate, Slurm, Ray or the grader starts.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reasondistill import interpreter
from reasondistill.config import Cluster, EnvironmentSettings
from reasondistill.interpreter import safe_environment, safe_python
from reasondistill.launch.scripts import command_lines
from reasondistill.launch.training import environment, job_command, training_command

ROOT = Path(__file__).parents[2]
# Everything here imports one of them; signal and random are among the first.
NAMES = ("pydantic", "json", "socket", "random", "torch", "accelerate", "sympy")


def planted(folder: Path) -> Path:
    """Modules in this folder that leave a mark when they are imported; the mark's path."""
    mark = folder / "PWNED"
    for name in NAMES:
        code = f"open({str(mark)!r}, 'a').write({name!r} + '\\n')\nraise SystemExit(9)\n"
        (folder / f"{name}.py").write_text(code)
    return mark


@pytest.mark.parametrize("option", [["-P"], []], ids=["command", "module"])
def test_no_task_imports_what_lies_beside_the_pipeline_file(
    workplace: Path, option: list[str]
) -> None:
    """`-P -m` has the path of the `reasondistill` command; with `-m` alone Python itself imports
    from here before anything of ours runs, but what we import comes from elsewhere.
    """
    mark = planted(workplace)
    if not option:
        for name in ("json", "socket", "random"):
            (workplace / f"{name}.py").unlink()
    command = [sys.executable, *option, "-m", "reasondistill", "run", "small.toml"]
    variables = os.environ | {"PYTHONPATH": f":{ROOT}:"}
    done = subprocess.run(
        [*command, "--until", "examples"],
        cwd=workplace,
        env=safe_environment(variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not mark.exists(), mark.read_text()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (workplace / "runs/small/4-examples/examples.jsonl").stat().st_size


def test_an_empty_entry_of_pythonpath_is_not_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", f":{ROOT}::{tmp_path}")
    variables = environment()
    assert variables["PYTHONPATH"] == f"{ROOT}:{tmp_path}", "what is named is kept"
    assert variables["PYTHONSAFEPATH"] == "1"
    assert "PYTHONPATH" not in safe_environment({"PYTHONPATH": ":"})


@pytest.mark.parametrize("path", [":{root}", "{root}:", "{root}::{root}"])
@pytest.mark.parametrize("option", [["-P"], []], ids=["command", "module"])
def test_an_empty_entry_opens_no_process_of_ours(
    tmp_path: Path, path: str, option: list[str]
) -> None:
    """What `export PYTHONPATH=$PYTHONPATH:/more` leaves; Python itself, which imports before we
    are there, cannot be told.
    """
    mark = planted(tmp_path)
    (tmp_path / "typer.py").write_text((tmp_path / "pydantic.py").read_text())
    done = subprocess.run(
        [sys.executable, *option, "-m", "reasondistill", "list", "pipelines"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path.format(root=ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not mark.exists(), mark.read_text()
    assert done.returncode == 0 and "demo" in done.stdout, done.stderr


def test_a_working_directory_that_is_named_is_not_taken_off(tmp_path: Path) -> None:
    code = "import sys; from reasondistill.interpreter import leave_working_directory as leave\n"
    code += "leave(); print(*sys.path)"
    for path, stays in ((f":{ROOT}", False), (f":{ROOT}:{tmp_path}", True), (f".:{ROOT}", True)):
        printed = subprocess.check_output(
            [sys.executable, "-P", "-c", code],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path},
            text=True,
        )
        assert (str(tmp_path) in printed.split()) is stays, path


def test_the_graders_workers_import_nothing_from_here_nor_from_beside_the_package(
    tmp_path: Path,
) -> None:
    (tmp_path / "lib").mkdir()
    mark = planted(tmp_path / "lib")
    (tmp_path / "lib" / "reasondistill").symlink_to(ROOT / "reasondistill")
    here = planted(tmp_path)
    code = (
        "from reasondistill.grading import GradingPool, grade\n"
        "with GradingPool(workers=1) as pool: pass\n"
        "print(grade('$(x+1)^2$', 'x^2+2x+1').outcome)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.append('lib')\n{code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert not here.exists() and not mark.exists(), done.stderr
    assert done.stdout.split() == ["correct"], done.stderr


def test_every_python_of_a_job_keeps_the_working_directory_off_its_path(tmp_path: Path) -> None:
    """Slurm's scripts and Ray's commands."""
    made = EnvironmentSettings(container="apptainer exec a.sif", python="/opt/bin/python3")
    for settings in (EnvironmentSettings(), made):
        last = command_lines(settings, ["task", "runs/x", "traces"])[-1]
        assert " -P -m reasondistill task " in last
    cluster = Cluster.model_validate({"train": {"processes": 2}})
    for nodes in (1, 2):
        words = shlex.split(job_command(cluster, tmp_path, "sft", nodes=nodes, container="box"))
        line = " ".join(words)
        assert line.count("python -P -m") == 2 and line.count(" -m ") == 2, line
        assert "PYTHONSAFEPATH=1" in line and "env REASONDISTILL_TOGETHER=1 " in line


def test_the_words_of_a_training_need_no_working_directory_and_no_new_env(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may have neither the folder from which a job was sent nor coreutils 8.28, whose
    `env` changes the folder.
    """
    monkeypatch.chdir(tmp_path)
    cluster = Cluster.model_validate({"train": {"processes": 2}})
    for nodes in (1, 2):
        line = job_command(cluster, Path("/runs/x"), "sft", nodes=nodes, container="box")
        assert str(tmp_path) not in line and " -C " not in line


# What stands for accelerate makes the environment of DeepSpeed's processes as it does, and starts
# none: DeepSpeed need not be here.
_AS_DEEPSPEED = """
import os, sys
import accelerate.commands.launch as launch
import torch.distributed.run as starter
from accelerate.utils.launch import prepare_deepspeed_cmd_env
from reasondistill.launch import agent

def start():
    parsed = launch.launch_command_parser().parse_args(sys.argv[1:])
    parsed, _, _ = launch._validate_launch_command(parsed)
    parsed.deepspeed_fields_from_accelerate_config = ""
    command, made = prepare_deepspeed_cmd_env(parsed)
    print(made["PYTHONPATH"], command)
    starter.run(parsed)

starter.run = lambda parsed: print(os.getcwd())
launch.main = start
agent.main()
"""


@pytest.mark.engine
@pytest.mark.parametrize("nodes", [1, 2])
def test_deepspeed_s_processes_begin_here_and_import_nothing_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    """On several nodes each starts its own, whatever the user's file says: by DeepSpeed's other
    ways accelerate writes its whole environment into a file.
    """
    strategy = tmp_path / "own.yaml"
    strategy.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\ngpu_ids: all\n"
        "rdzv_backend: static\nsame_network: true\n"
        "deepspeed_config:\n  zero_stage: 2\n  deepspeed_multinode_launcher: pdsh\n"
        "  deepspeed_hostfile: hosts\n"
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib").mkdir()
    cluster = Cluster.model_validate({"train": {"processes": 2, "strategy": str(strategy)}})
    words = training_command(cluster, Path("no_run"), "sft", nodes=nodes)
    assert words[0] == "env"
    given = words[words.index("reasondistill.launch.agent") + 1 :]
    values = {"$SLURM_NODEID": "0", "$REASONDISTILL_FIRST_NODE": "127.0.0.1"}
    given = [values.get(word, word).replace("$REASONDISTILL_PORT", "23456") for word in given]
    done = subprocess.run(
        [sys.executable, "-P", "-c", _AS_DEEPSPEED, *given],
        env=os.environ | {"PYTHONPATH": f"lib::{ROOT}", "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    path, here = done.stdout.splitlines()[-2:]
    assert path == f"{tmp_path}/lib:{ROOT}:/ None" and here == str(tmp_path), done.stdout


@pytest.mark.engine
@pytest.mark.parametrize("python", [sys.executable, "venv/bin/python"])
def test_what_accelerate_starts_imports_nothing_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    """Two real processes, which find no run in their folder and say so, also where the folder and
    the interpreter are named from here.
    """
    mark = planted(tmp_path)
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    own.chmod(0o755)
    cluster = Cluster.model_validate({"train": {"processes": 2}})
    command = training_command(cluster, Path("no_run"), "sft", python=python)
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert not mark.exists(), mark.read_text() + done.stderr
    said = done.stdout + done.stderr
    assert "no_run: not a run folder (no run.json)" in said, said


def test_a_checkout_that_is_not_installed_is_found_by_the_tasks(tmp_path: Path) -> None:
    code = "import os; from reasondistill.interpreter import leave_working_directory as leave\n"
    code += "leave(); print(os.environ.get('PYTHONPATH'))"
    (tmp_path / "reasondistill").symlink_to(Path(interpreter.__file__).parent)
    bare = ["-S", "-c", code]  # without the packages that are installed here
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    printed = subprocess.check_output(
        [sys.executable, *bare], cwd=tmp_path, env=variables, text=True
    )
    assert printed.strip().split(":") == ["", str(ROOT)]


def test_what_stands_for_python_now_starts_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the crash matrix puts it there."""
    monkeypatch.setattr(sys, "executable", "stands-for-python")
    assert safe_python() == ["stands-for-python", "-P"]
