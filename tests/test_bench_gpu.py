"""The GPU bench, end to end at its tiny shape."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
ON_CPU = "tiny shape on CPU: only shows that it runs"

pytest.importorskip("trl")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What it prints and writes without a GPU."""
    folder = tmp_path_factory.mktemp("bench")
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
    own = {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": path,
        "OUT": str(folder),
    }
    command = [sys.executable, str(ROOT / "tests/perf/gpu/bench.py")]
    done = subprocess.run(
        command,
        env=os.environ | own,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads((folder / "bench-gpu.json").read_text(encoding="utf-8"))


def test_all_numbers_are_finite_and_positive(tiny: tuple[str, dict[str, Any]]) -> None:
    _, found = tiny
    for part, wanted in (
        ("training", {"seconds", "tokens_per_s", "tflops", "first_loss"}),
        ("divergences", {"seconds", "tokens_per_s"}),
    ):
        measured = [row for row in found[part] if row["failed"] is None]
        assert measured
        for row in measured:
            assert wanted <= row.keys()
            assert all(math.isfinite(row[name]) and row[name] > 0 for name in wanted), row


def test_nothing_fails_but_what_is_not_installed(tiny: tuple[str, dict[str, Any]]) -> None:
    _, found = tiny
    failed = {
        (row["way"], row["failed"])
        for part in ("training", "divergences")
        for row in found[part]
        if row["failed"] is not None
    }
    assert failed <= {
        ("liger_triton", "not installed: liger_kernel"),
        ("liger_chunked", "not installed: liger_kernel"),
    }


def test_our_gradients_are_the_dense_ones(tiny: tuple[str, dict[str, Any]]) -> None:
    _, found = tiny
    errors = {
        row["divergence"]: row["gradient_error"]
        for row in found["divergences"]
        if row["way"] == "ours"
    }
    assert errors.keys() == {"forward_kl", "reverse_kl", "jsd", "skew_kl"}
    assert max(errors.values()) < 1e-5


def test_both_trainers_start_from_the_same_loss(tiny: tuple[str, dict[str, Any]]) -> None:
    _, found = tiny
    losses: dict[tuple[str, bool], set[float]] = {}
    for row in found["training"]:
        # Packed rows are shuffled once for both; padded ones are sorted by ours.
        if row["form"] in ("packed", "kd") and row["weights"] == "float32":
            losses.setdefault((row["form"], row["checkpointing"]), set()).add(row["first_loss"])
    assert losses.keys() == {("packed", True), ("packed", False), ("kd", True)}
    assert all(max(values) - min(values) < 0.01 * max(values) for values in losses.values()), losses


def test_each_line_says_that_it_was_a_cpu(tiny: tuple[str, dict[str, Any]]) -> None:
    printed, found = tiny
    rows = [
        line
        for line in printed.splitlines()
        if line.startswith(
            ("packed", "padded", "kd ", "forward_kl", "reverse_kl", "jsd", "skew_kl")
        )
    ]
    assert len(rows) == len(found["training"]) + len(found["divergences"])
    assert all(ON_CPU in line for line in rows)
    assert found["note"] == ON_CPU


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "perf" / "gpu"))
    return importlib.import_module("device"), importlib.import_module("divergences")


def test_a_way_that_runs_out_of_memory_is_a_row(modules: tuple[Any, Any]) -> None:
    import torch

    device, _ = modules

    def too_large() -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 40 GiB")

    cpu = device.Device(torch.device("cpu"), "CPU", None, None)
    assert device.attempt(too_large, cpu) == {"failed": "out of memory"}


def test_a_wrong_gradient_is_not_timed(
    modules: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from reasondistill.losses.divergences import Divergence

    device, divergences = modules
    cpu = device.Device(torch.device("cpu"), "CPU", None, None)
    monkeypatch.setitem(
        divergences.WAYS, "trl_gkd", lambda x, divergence: 2 * divergences.dense(x, divergence)
    )
    assert (
        "not timed"
        in divergences.check("trl_gkd", Divergence("jsd"), divergences.TINY, cpu)["failed"]
    )
    assert "failed" not in divergences.check("dense", Divergence("jsd"), divergences.TINY, cpu)


def test_peaks_are_found_by_the_names_that_drivers_give(modules: tuple[Any, Any]) -> None:
    device, _ = modules
    names = {
        "NVIDIA H100 80GB HBM3": 989,
        "NVIDIA H100 PCIe": 756,
        "NVIDIA H200": 989,
        "NVIDIA A100-SXM4-80GB": 312,
        "NVIDIA T4": None,
    }
    assert {name: device.peak_of(name) for name in names} == names
