"""The notebook of the documents runs from top to bottom, offline and without an engine, and is kept
without outputs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial" / "python_api.ipynb"
PRINTED = """\
10 problems of 10 rows
Counter({'correct': 20, 'wrong': 10})
10 examples of 30 traces
  10 dropped: outcome wrong
  10 dropped: empty reasoning
pass@1      66.7 % [46.9, 81.9]   n = 10, k = 3
of the first samples 100 %, [72, 100]
careful/model − hasty/model on ten: +60.0 points
[15.6, 83.2], p = 0.031: better
6 problems on which the two differ
settings that differ: ['model']
"""


def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_the_notebook_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells():
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    for line in PRINTED.splitlines():
        assert line in printed, (line, printed)
    assert [path.name for path in tmp_path.iterdir()] == ["notebook"]


def test_the_notebook_is_kept_clean_and_small() -> None:
    assert NOTEBOOK.stat().st_size < 20_000
    for cell in cells():
        assert not cell.get("outputs") and cell.get("execution_count") is None, cell["id"]
        assert len(cell["source"]) < 50 and cell["metadata"] == {}
