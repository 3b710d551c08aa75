"""The demo at a small size, whole, on real engines: on this machine, on a real Slurm and on a real
Ray, with the same records.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray_machine
from cluster_kit import without_seconds
from slurm_machine import SlurmMachine

from reasondistill.runs.remote import is_weights

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SMALL = {
    "name": "small",
    "problems.limit": 120,
    "students.0.max_steps": 6,
    "students.0.batch_size": 8,
    "students.0.max_length": 320,
    "students.0.shrink.layers": 2,
    "evals.limit": 12,
}
CLUSTER = """\
[stages.traces]
shards = 2
[stages.verdicts]
shards = 2
[stages.evals]
shards = 2
[vllm]
dtype = "float32"
enforce_eager = true
max_num_seqs = 32
cpu_kvcache_gib = 1
[train]
threads = 1
[grade]
workers = 1
"""
# What stands in them does not depend on where or how often the work was done; traces and samples of
# evals only but for their seconds.
SAME = (
    "1-problems/problems.jsonl",
    "2-traces/traces.jsonl",
    "3-verdicts/verdicts.jsonl",
    "4-examples/examples.jsonl",
    "6-evals/records.jsonl",
)


def run_small(
    folder: Path, cluster: str, env: dict[str, str] | None = None
) -> dict[str, list[dict[str, Any]]]:
    (folder / "cluster.toml").write_text(cluster)
    sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    command = [
        sys.executable,
        "-m",
        "reasondistill",
        "run",
        "demo",
        "--on",
        "cluster.toml",
        "--wait",
        *sets,
    ]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=560,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = folder / "runs" / "small"
    assert (run / "7-report" / "report.html").exists()
    found = {
        name: [without_seconds(json.loads(line)) for line in (run / name).read_text().splitlines()]
        for name in SAME
    }
    assert all(found.values())
    return found


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """One process after the other, as the demo itself runs."""
    return run_small(tmp_path_factory.mktemp("here"), CLUSTER.replace("shards = 2", "shards = 1"))


@pytest.mark.slurm
def test_the_small_demo_on_slurm_makes_the_records_of_one_machine(
    tmp_path: Path, here: dict[str, list[dict[str, Any]]], slurm: SlurmMachine
) -> None:
    assert run_small(tmp_path, 'kind = "slurm"\n' + CLUSTER, slurm.env) == here


@pytest.mark.skipif(ray_machine.why_not() is not None, reason=str(ray_machine.why_not()))
@pytest.mark.parametrize("at", ["folder", "url"])
def test_the_small_demo_on_ray_makes_the_records_of_one_machine(
    tmp_path: Path, here: dict[str, list[dict[str, Any]]], at: str
) -> None:
    store = tmp_path / "store"
    storage = f'storage = "file://{store}"\n' if at == "url" else ""
    assert run_small(tmp_path, f'kind = "ray"\n{storage}{CLUSTER}') == here
    if at == "url":
        run = tmp_path / "runs" / "small"
        ours, theirs = (
            sorted(path.relative_to(top) for path in top.rglob("*") if path.is_file())
            for top in (run, store / "small")
        )
        hidden = {path for path in ours if any(part.startswith(".") for part in path.parts)}
        weights = {
            path for path in theirs if is_weights(path.name)
        }  # they are fetched only where they are read
        assert set(theirs) - set(ours) <= weights and set(ours) - hidden <= set(theirs)


def test_the_small_demo_by_workers_on_this_machine_makes_the_same_records(
    tmp_path: Path, here: dict[str, list[dict[str, Any]]]
) -> None:
    assert run_small(tmp_path, CLUSTER) == here
