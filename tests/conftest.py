"""Fixtures that several test modules use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray_machine as ray_kit
import slurm_machine as slurm_kit


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
