"""examples/flat_distill.py does what it says, and stays one flat file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "flat_distill.py"


def test_the_flat_example_stays_short() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.engine
def test_the_flat_example_walks_the_whole_road(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    pytest.importorskip("trl")
    ended = subprocess.run(
        [sys.executable, str(EXAMPLE), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "64 examples, 0 traces dropped" in ended.stdout
    assert "pass@1: " in ended.stdout and "n = 16, k = 2" in ended.stdout
    assert (tmp_path / "model" / "config.json").exists()
