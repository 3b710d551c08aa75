"""Fixtures that several test modules use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray_machine as ray_kit
import slurm_machine as slurm_kit
from cluster_kit import SlowTeacher, records_alone


@pytest.fixture
def slurm() -> Iterator[slurm_kit.SlurmMachine]:
    """A real Slurm of the test's own (1.5 s); the test is skipped, with the reason, where none can be had."""
    reason = slurm_kit.why_not()
    if reason is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, slurm_kit.SlurmMachine(Path(folder)) as machine:
        yield machine


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A folder whose path is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def ray_machine(ray_folder: Path) -> Iterator[ray_kit.RayMachine]:
    """A real Ray cluster of the test's own (about 20 s); the test is skipped, with the reason, where none can be had."""
    reason = ray_kit.why_not()
    if reason is not None:
        pytest.skip(reason)
    with ray_kit.RayMachine(ray_folder) as machine:
        yield machine


# ---- a run that any launcher can do -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _teacher() -> Iterator[SlowTeacher]:
    made = SlowTeacher()
    yield made
    made.http.shutdown()


@pytest.fixture
def slow_teacher(_teacher: SlowTeacher) -> SlowTeacher:
    """A teacher who has not been asked anything yet, and is quick until the test says otherwise."""
    _teacher.delay_s, _teacher.refuses = 0.0, ""
    _teacher.asked.clear()
    return _teacher


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, _teacher: SlowTeacher) -> dict[str, list[dict[str, Any]]]:
    """The records that one machine makes, by file; ask for it before anything that slows the teacher down."""
    return records_alone(tmp_path_factory.mktemp("alone"), _teacher)
