"""`reasondistill grade`: one verdict per row in order, resumed, never mixing two inputs or
policies.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reasondistill.errors import ConfigError, DataError, DriftError, Interrupted, StageError
from reasondistill.grade_file import grade_file
from reasondistill.runs.store import StopSignal

ROWS: list[dict[str, Any]] = [
    {"id": "a", "prediction": r"<think>\boxed{1}?</think> So \boxed{\frac12}.", "gold": "0.5"},
    {"id": 7, "prediction": "41", "gold": r"It is \boxed{42}"},
    {"id": "a", "prediction": None, "gold": "3"},
    {"id": None, "prediction": 12, "gold": 12},
    {"id": "cut", "prediction": "and so on and on", "gold": "3", "finish": "length"},
    {"id": "sympy", "prediction": r"\boxed{\int_0^1 x^2\,dx}", "gold": r"\frac{1}{3}"},
]
WANTED = ["correct", "wrong", "no_answer", "correct", "truncated", "correct"]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def timeless(path: Path) -> list[dict[str, Any]]:
    return [row | {"seconds": 0} for row in read(path)]


def test_every_row_gets_its_verdict_in_order(tmp_path: Path) -> None:
    outcomes = grade_file(write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl", workers=1)
    rows = read(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    assert [row["outcome"] for row in rows] == WANTED
    assert set(rows[0]) == {"id", "outcome", "extracted", "layer", "reason", "seconds"}
    assert outcomes.total() == len(ROWS)


def test_a_torn_output_is_gone_on_with(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    grade_file(source, target, workers=1)
    whole = timeless(target)
    target.write_bytes(target.read_bytes()[:-150])
    assert grade_file(source, target, workers=1).total() == len(ROWS)
    assert timeless(target) == whole
    before = target.stat().st_mtime_ns
    grade_file(source, target, workers=1)
    assert target.stat().st_mtime_ns == before


@pytest.mark.parametrize("how", ["an outcome", "a lost line"])
def test_a_damaged_output_is_graded_again_from_the_damage_on(tmp_path: Path, how: str) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    grade_file(source, target, workers=1)
    whole = timeless(target)
    lines = target.read_bytes().splitlines(keepends=True)
    if how == "an outcome":
        lines[1] = lines[1].replace(WANTED[1].encode(), b"undecided")
    else:
        del lines[1]
    target.write_bytes(b"".join(lines))
    assert grade_file(source, target, workers=1).total() == len(ROWS)
    assert timeless(target) == whole
    target.unlink()
    (tmp_path / "out.jsonl.manifest.json").unlink()
    grade_file(write(tmp_path / "in.jsonl", ROWS[:2]), target, workers=1)
    grade_file(source, target, workers=1)
    assert timeless(target) == whole[:2]


def test_a_stop_keeps_the_chunk_in_hand_and_the_same_call_goes_on(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS * 300), tmp_path / "out.jsonl"
    stop = StopSignal()
    stop.requested = True
    with pytest.raises(Interrupted):
        grade_file(source, target, workers=1, stop=stop)
    assert len(read(target)) == 1_000
    grade_file(source, target, workers=1)
    assert [row["outcome"] for row in read(target)] == WANTED * 300


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": 1, "prediction": "2"}, "in.jsonl:7: no field 'gold'"),
        ([1], "in.jsonl:7: not a JSON object"),
        ({"id": [1], "prediction": "2", "gold": "2"}, "in.jsonl:7: id = "),
        ({"id": 1, "prediction": "2", "gold": "2", "finish": "eos"}, "finish = 'eos'"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_those_before_it_are_kept(
    tmp_path: Path, row: Any, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        grade_file(write(tmp_path / "in.jsonl", [*ROWS, row]), tmp_path / "out.jsonl", workers=1)
    assert [row["outcome"] for row in read(tmp_path / "out.jsonl")] == WANTED


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    source.write_text(source.read_text().replace("\n", "\n\n"))
    assert grade_file(source, tmp_path / "out.jsonl", workers=1).total() == len(ROWS)


def test_another_policy_or_input_never_mixes(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    grade_file(source, target, workers=1)
    with pytest.raises(DriftError, match="policy was default, is strict"):
        grade_file(source, target, workers=1, policy="strict")
    with pytest.raises(DriftError, match="input was"):
        grade_file(write(source, ROWS[:2]), target, workers=1)


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "notes.txt").write_text("mine\n")
    with pytest.raises(ConfigError, match="not ours"):
        grade_file(source, tmp_path / "notes.txt", workers=1)
    assert (tmp_path / "notes.txt").read_text() == "mine\n"
    with pytest.raises(ConfigError, match="does not exist"):
        grade_file(source, tmp_path / "no" / "out.jsonl", workers=1)
    with pytest.raises(StageError, match="no such file"):
        grade_file(tmp_path / "none.jsonl", tmp_path / "out.jsonl", workers=1)
    with pytest.raises(ConfigError, match="no such policy|policy"):
        grade_file(source, tmp_path / "out.jsonl", workers=1, policy="mild")
    assert not (tmp_path / "out.jsonl").exists()


def test_the_command_prints_the_shares_and_ends_well(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    command = [
        sys.executable,
        "-m",
        "reasondistill",
        "grade",
        "in.jsonl",
        "--out",
        "out.jsonl",
        "--workers",
        "1",
        "--deadline-s",
        "2.5",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "50.0 %" in done.stdout
    assert [row["outcome"] for row in read(tmp_path / "out.jsonl")] == WANTED
    broken = subprocess.run(
        [*command[:4], "none.jsonl", *command[5:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert broken.returncode == 2
    assert "no such file" in broken.stderr


@pytest.mark.parametrize("content", ["{", "[1]", "null"])
def test_what_stands_beside_an_output_and_is_none_is_named(tmp_path: Path, content: str) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "out.jsonl.manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"out\.jsonl\.manifest\.json: (broken JSON|not what)"):
        grade_file(source, tmp_path / "out.jsonl", workers=1)
