"""How the tests are dealt out to workers side by side, `make test WORKERS=2`: whole modules, whose
fixtures are then made once, the longest first.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# What takes longest, first: a long module that is begun last keeps the others waiting. What trains
# or starts an engine stands beside what starts many short commands.
LONGEST = (
    "launch/test_training_at_scale.py",
    "cli/test_cli.py",
    "stages/test_distilling.py",
    "cli/test_checking.py",
    "stages/test_students.py",
    "launch/test_slurm.py",
    "models/test_topk.py",
    "cli/test_hostile_names.py",
    "stages/test_saving.py",
    "launch/test_ray.py",
    "models/test_samplers_vllm.py",
    "torture/test_crashes.py",
    "stages/test_shrinking.py",
    "pipeline/test_evaluating.py",
    "launch/test_cluster_demo.py",
    "grading/test_grading.py",
    "stages/test_methods_report.py",
    "cli/test_planted_secrets.py",
    "grading/test_grading_hostile.py",
    "pipeline/test_trust.py",
    "test_packaging.py",
    "test_bench_gpu.py",
    "launch/test_safe_path.py",
    "models/test_servers.py",
    "grade_file/test_grade_file.py",
    "runs/test_remote.py",
    "cli/test_pushing.py",
    "docs/test_commands.py",
)
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ


def take_one_core() -> None:
    """One thread for each worker and what it starts: several on a busy machine wait for each other
    (0.2M parameters on two cores: a ninth of the speed).
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests by their modules; those of a module stay as they stand in it."""
    places = {name: place for place, name in enumerate(LONGEST)}
    root = Path(__file__).parent

    def place_of(item: pytest.Item) -> int:
        return places.get(item.path.relative_to(root).as_posix(), len(places))

    items.sort(key=place_of)
