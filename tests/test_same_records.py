"""The comparison of two run folders sees what changed and overlooks the clock."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from same_records import differences, main

RUN = Path(__file__).parent / "compat" / "complete" / "folders" / "small"


def test_a_run_has_the_records_of_its_copy(tmp_path: Path) -> None:
    shutil.copytree(RUN, tmp_path / "copy")
    assert main(str(RUN), str(tmp_path / "copy")) == 0
    assert dict(differences(RUN, tmp_path / "copy"))["2-traces/traces.jsonl"] == "same"


def test_one_changed_record_is_named_and_seconds_are_not(tmp_path: Path) -> None:
    shutil.copytree(RUN, tmp_path / "copy")
    traces = tmp_path / "copy" / "2-traces" / "traces.jsonl"
    rows = [json.loads(line) for line in traces.read_text(encoding="utf-8").splitlines()]
    rows[0]["completion"]["seconds"] = 99.0
    rows[7]["seed"] += 1
    traces.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "copy" / "4-examples" / "dropped.jsonl").unlink()
    found = {name: what for name, what in differences(RUN, tmp_path / "copy") if what != "same"}
    assert found == {
        "2-traces/traces.jsonl": "1 of 20 records differ, the first is 7",
        "4-examples/dropped.jsonl": "stands in one of the runs only",
    }
    assert main(str(RUN), str(tmp_path / "copy")) == 1
