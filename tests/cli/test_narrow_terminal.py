"""A terminal that has few signs loses some of them, and never a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PIPELINE = """
name = "r"
about = "é ✓"
[problems]
source = "file"
dataset = "d.jsonl"
[traces]
prompt = "question"
[[traces.teachers]]
model = "t"
sampler = "scripted"
"""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_run_ends_well_where_the_tick_cannot_be_printed(tmp_path: Path, encoding: str) -> None:
    row = {"question": "What is 1 + 1, é ✓?", "answer": "2"}
    (tmp_path / "d.jsonl").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "p.toml").write_text(PIPELINE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "reasondistill", "run", "p.toml", "--until", "problems"],
        cwd=tmp_path,
        capture_output=True,
        env=dict(os.environ, PYTHONIOENCODING=encoding, PYTHONUTF8="0"),
        timeout=120,
    )
    printed = (done.stdout + done.stderr).decode(encoding)
    assert done.returncode == 0, printed
    assert r"\u2713 problems" in printed
    problems = tmp_path / "runs" / "r" / "1-problems" / "problems.jsonl"
    assert "é ✓?" in problems.read_text(encoding="utf-8")
