"""examples/short_and_gsm8k.py mixes two kinds of problems and keeps those to measure on apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reasondistill.config import load_pipeline

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "short_and_gsm8k.py"

THINGS = ["apples", "boats", "coins", "drums", "eggs", "forks", "goats"]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def mawps_row(number: int, kind: str, question: str) -> dict[str, Any]:
    return {"idx": number, "type": kind, "input": question, "target": float(number)}


@pytest.fixture
def mixed(tmp_path: Path) -> list[dict[str, Any]]:
    mawps = [
        mawps_row(number, "addsub", f"{name} {number} together with more {name} make what?")
        for number, name in enumerate(THINGS)
    ]
    mawps.append(mawps_row(90, "addsub", "Ann had 7 pears, and then she ate 2. How many are left?"))
    mawps.append(mawps_row(91, "multiarith", "Bob walks home 3 miles a day in rain. How far?"))
    mawps.append(mawps_row(92, "singleop", "Bob walks home 8 miles a day in the rain. How far?"))
    mawps.append(mawps_row(93, "singleeq", "Seven cats sat somewhere warm."))
    svamp = {"Body": "Ann had 9 pears, then she ate 4 of 5", "Question": "How many are left?"}
    gsm8k = [{"question": f"long {name}", "answer": "2+2\n#### 4"} for name in THINGS[:4]]
    write_rows(tmp_path / "mawps.jsonl", mawps)
    write_rows(tmp_path / "svamp.jsonl", [svamp])
    write_rows(tmp_path / "gsm8k_train.jsonl", gsm8k)
    subprocess.run([sys.executable, str(EXAMPLE), str(tmp_path)], check=True, capture_output=True)
    text = (tmp_path / "short_and_gsm8k.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_both_kinds_are_among_the_first_rows_and_nothing_is_lost(
    mixed: list[dict[str, Any]],
) -> None:
    kinds = [row["set"] for row in mixed]
    assert kinds == ["mawps"] * 3 + ["gsm8k"] + ["mawps"] * 3 + ["gsm8k", "mawps"] + ["gsm8k"] * 2
    assert len({row["id"] for row in mixed}) == len(THINGS) + 4
    assert {row["answer"] for row in mixed if row["set"] == "gsm8k"} == {"4"}


def test_what_is_measured_on_is_not_in_it_in_other_words_or_numbers(
    mixed: list[dict[str, Any]],
) -> None:
    names = {row["id"] for row in mixed}
    assert not names & {"addsub-90", "multiarith-91", "singleop-92", "singleeq-93"}


def test_the_pipeline_reads_its_fields() -> None:
    problems = load_pipeline(ROOT / "pipelines" / "real_traces.toml").problems
    assert problems is not None
    assert Path(problems.dataset).name == "short_and_gsm8k.jsonl"
    assert (problems.id, problems.question, problems.answer) == ("id", "question", "answer")
