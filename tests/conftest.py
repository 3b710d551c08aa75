"""Fixtures that several test modules use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_machine import SlurmMachine, why_not


@pytest.fixture
def slurm() -> Iterator[SlurmMachine]:
    """A real Slurm of the test's own (1.5 s); the test is skipped, with the reason, where none can be had."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, SlurmMachine(Path(folder)) as machine:
        yield machine
