"""Runs on a real Ray, started for the test: the same records as on one machine, whatever happens to
workers.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster_kit import Bed, SlowTeacher
from ray_machine import RayMachine
from traces_kit import make_earlier

pytest.importorskip("ray", reason='Ray is not installed: pip install "reasondistill[ray]"')

CLUSTER = """\
kind = "ray"
[stages.traces]
shards = {shards}
[stages.verdicts]
shards = 2
[grade]
workers = 1
"""


@pytest.fixture
def bed(tmp_path: Path, slow_teacher: SlowTeacher) -> Bed:
    return Bed(tmp_path, slow_teacher, CLUSTER)


def test_a_run_on_ray_makes_the_records_of_one_machine_although_a_worker_is_killed(
    bed: Bed, undisturbed: dict[str, object]
) -> None:
    bed.teacher.delay_s = 0.3
    command = [
        sys.executable,
        "-m",
        "reasondistill",
        "run",
        "sums.toml",
        "--on",
        "cluster.toml",
        "--until",
        "examples",
    ]
    process = subprocess.Popen(
        command,
        cwd=bed.folder,
        env=bed.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    bed.wait_for(lambda: bed.drawn(0) > 2, "the first worker has drawn some")
    first = f"task {bed.run.resolve()} traces --share work:0:2"
    for pid in subprocess.run(
        ["pgrep", "-f", first], capture_output=True, text=True, check=True
    ).stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    bed.teacher.delay_s = 0.0
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said + bed.logs()
    for name, records in undisturbed.items():
        assert bed.records(name) == records, name
    assert re.search(r"^ *traces \d/\d\b.*\bm: 120 samples of 30 problems to draw$", said, re.M)
    repeated = sum(count - 1 for count in bed.teacher.asked.values())
    assert repeated <= 2 * 2, "only what was in flight is drawn again"


def test_workers_of_ray_do_not_import_from_the_folder_in_which_a_run_is_begun(
    tmp_path: Path,
) -> None:
    """Ray itself puts it before all modules."""
    (tmp_path / "pydantic.py").write_text("open('PWNED', 'w')")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from reasondistill.config import Cluster, load_pipeline, resources\n"
        "from reasondistill.launch.ray import connected\n"
        "from reasondistill.pipeline import Run\n"
        "source = resources.find('pipelines', 'demo')\n"
        "cluster = Cluster.model_validate({'kind': 'ray'})\n"
        "run = Run(load_pipeline(source), cluster, Path('runs/demo'), source)\n"
        "def path_there():\n"
        "    import pydantic\n"
        "    return sys.path\n"
        "with connected(run) as ray:\n"
        "    print(ray.get(ray.remote(path_there).remote()))\n"
        "print(Path.cwd())\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    path, place = done.stdout.splitlines()[-2:]
    assert not (tmp_path / "PWNED").exists() and str(tmp_path) not in path
    assert place == str(tmp_path)


@pytest.mark.slow
def test_a_run_is_handed_in_to_a_cluster_and_followed_from_outside(
    tmp_path: Path,
    slow_teacher: SlowTeacher,
    undisturbed: dict[str, object],
    ray_machine: RayMachine,
) -> None:
    outside = {name: value for name, value in ray_machine.env.items() if name != "RAY_ADDRESS"}
    bed = Bed(
        tmp_path, slow_teacher, CLUSTER + f'[ray]\naddress = "{ray_machine.dashboard}"\n', outside
    )
    # Slow enough that something is left when it is cancelled, on a busy machine too.
    slow_teacher.delay_s = 1.0
    assert "Sent." in bed.call("run", "sums.toml", "--on", "cluster.toml", "--until", "examples")
    bed.wait_for(lambda: bed.drawn() > 2, "some are drawn")
    assert re.search(r"sums +raysubmit_\w+ +running", bed.call("status", "sums"))
    assert "is running" in bed.call("resume", "sums", code=2)
    assert "Cancelled: raysubmit_" in bed.call("cancel", "sums")
    bed.wait_for(lambda: "cancelled" in bed.call("status", "sums"), "the job has ended")
    slow_teacher.delay_s = 0.0
    assert "examples" in bed.call("resume", "sums", "--wait")
    for name, records in undisturbed.items():
        assert bed.records(name) == records, name


@pytest.mark.slow
def test_a_run_that_lives_at_a_url_needs_no_folder_in_common(
    tmp_path: Path, slow_teacher: SlowTeacher, undisturbed: dict[str, object]
) -> None:
    store = tmp_path / "store"
    bed = Bed(tmp_path, slow_teacher, f'storage = "file://{store}"\n{CLUSTER}')
    bed.call("run", "sums.toml", "--on", "cluster.toml", "--until", "examples")
    for name, records in undisturbed.items():
        assert bed.records(name) == records, name
        assert (store / "sums" / name).read_bytes() == (bed.run / name).read_bytes()


@pytest.mark.slow
def test_an_error_names_its_task_and_the_others_finish(bed: Bed) -> None:
    bed.teacher.refuses = "What is 7 modulo"
    allowed = ["--set", "traces.failures_allowed=0.05"]
    said = bed.call("run", "sums.toml", "--on", "cluster.toml", "--until", "verdicts", *allowed)
    assert "4 failed" in said
    make_earlier(bed.run / "2-traces")
    traces = bed.run / "2-traces" / "traces.jsonl"
    lines = traces.read_text().splitlines()
    broken = json.loads(lines[50]) | {"sample": "not a number"}
    traces.write_text(
        "".join(f"{line}\n" for line in [*lines[:50], json.dumps(broken), *lines[51:]])
    )
    manifest = json.loads((bed.run / "2-traces" / "manifest.json").read_text())
    (bed.run / "2-traces" / "manifest.json").write_text(json.dumps(manifest | {"content": "other"}))
    verdicts = ["--only", "verdicts", *allowed]
    said = bed.call("run", "sums.toml", "--on", "cluster.toml", *verdicts, code=2)
    assert "DataError: verdicts[" in said and "not a Trace: sample" in said
    graded = sum(
        path.read_bytes().count(b"\n")
        for path in bed.run.glob("3-verdicts/parts/*/w*/verdicts.jsonl")
    )
    assert 120 - 4 <= graded < 120  # all but the chunk that holds the broken line


@pytest.mark.slow
def test_ctrl_c_stops_workers_and_the_same_command_goes_on(
    bed: Bed, undisturbed: dict[str, object]
) -> None:
    bed.teacher.delay_s = 0.5
    command = [
        sys.executable,
        "-m",
        "reasondistill",
        "run",
        "sums.toml",
        "--on",
        "cluster.toml",
        "--until",
        "traces",
    ]
    process = subprocess.Popen(
        command,
        cwd=bed.folder,
        env=bed.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    bed.wait_for(lambda: bed.drawn() > 4, "some are drawn")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    time.sleep(1)
    assert not subprocess.run(
        ["pgrep", "-f", f"task {bed.run.resolve()}"], capture_output=True, text=True
    ).stdout
    bed.teacher.delay_s = 0.0
    bed.call("run", "sums.toml", "--on", "cluster.toml", "--until", "traces")
    assert bed.records("2-traces/traces.jsonl") == undisturbed["2-traces/traces.jsonl"]
