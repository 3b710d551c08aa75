"""`reasondistill matrix`: the same answers under several policies, counted and compared as one does
by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_run import fail_samples, fake_run
from test_cli import run as command

from reasondistill.errors import ConfigError, DataError, Interrupted, StageError
from reasondistill.grade_file.matrix import (
    DISAGREEMENTS,
    MATRIX,
    compare_policies,
    file_answers,
    find_policies,
    run_answers,
)
from reasondistill.grading import POLICIES, GradingPool
from reasondistill.records import Trace, Verdict
from reasondistill.runs.store import StopSignal, read_records, write_records
from reasondistill.statistics import wilson

# default, strict and evalchemy-string say: all right; only default; not strict; all wrong; default
# and evalchemy-string.
ROWS: list[dict[str, Any]] = [
    {"id": "same", "prediction": r"\boxed{42}", "gold": "42"},
    {"id": 2, "prediction": r"\boxed{two}", "gold": "2"},
    {"id": "percent", "prediction": r"\boxed{28\%}", "gold": "28"},
    {"id": None, "prediction": r"\boxed{41}", "gold": "42"},
    {"id": "unit", "prediction": r"\boxed{5}", "gold": r"5 \text{ cm}"},
]
NAMES = ["default", "strict", "evalchemy-string"]


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1) as pool:
        yield pool


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_policy_has_its_share_and_interval(tmp_path: Path, pool: GradingPool) -> None:
    made = compare_policies([file_answers(write(tmp_path / "a.jsonl", ROWS))], NAMES, pool)
    right = {"default": 4, "strict": 1, "evalchemy-string": 3}
    for score in made.scores:
        assert (score.mean, score.n, score.k, score.method) == (
            right[score.policy] / 5,
            5,
            1,
            "wilson",
        ), score
        assert (score.low, score.high) == wilson(score.mean, 5)
        assert (
            sum(score.outcomes.values()) == 5 and score.outcomes["correct"] == right[score.policy]
        )


def test_pairs_count_what_one_accepts_and_the_other_does_not(
    tmp_path: Path, pool: GradingPool
) -> None:
    made = compare_policies(
        [file_answers(write(tmp_path / "a.jsonl", ROWS))], NAMES, pool, out=tmp_path / "out"
    )
    assert {(a, b): n for (_, a, b), n in made.accepted_by_one.items()} == {
        ("default", "strict"): 3,
        ("default", "evalchemy-string"): 1,
        ("evalchemy-string", "strict"): 2,
    }
    found = json.loads((tmp_path / "out" / MATRIX).read_text())
    assert found["pairs"][0] == {
        "source": "a.jsonl",
        "policies": ["default", "strict"],
        "only_first_accepts": 3,
        "only_second_accepts": 0,
    }
    assert (
        found["grader"].startswith("reasondistill-grader@")
        and found["policies"]["strict"]["units_must_stand"] is True
    )
    assert [row["mean"] for row in found["scores"]] == [0.8, 0.2, 0.6]


def test_answers_that_policies_differ_on_are_written_to_be_read(
    tmp_path: Path, pool: GradingPool
) -> None:
    made = compare_policies(
        [file_answers(write(tmp_path / "a.jsonl", ROWS))], NAMES, pool, out=tmp_path / "out"
    )
    rows = read(tmp_path / "out" / DISAGREEMENTS)
    assert [row["id"] for row in rows] == [2, "percent", "unit"] and made.differing == 3
    assert rows[0]["outcomes"] == {
        "default": "correct",
        "strict": "wrong",
        "evalchemy-string": "wrong",
    }
    assert (rows[0]["gold"], rows[0]["extracted"]["strict"]) == ("2", "two")


def test_the_same_again_takes_the_place_of_the_old_and_strangers_are_left_alone(
    tmp_path: Path, pool: GradingPool
) -> None:
    source, out = write(tmp_path / "a.jsonl", ROWS), tmp_path / "out"
    compare_policies([file_answers(source)], NAMES, pool, out=out)
    compare_policies([file_answers(source)], ["default"], pool, out=out)
    assert (
        read(out / DISAGREEMENTS) == []
        and len(json.loads((out / MATRIX).read_text())["scores"]) == 1
    )
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"notes.txt, which are not ours"):
        compare_policies([file_answers(source)], NAMES, pool, out=out)
    with pytest.raises(ConfigError, match="is a file"):
        compare_policies([file_answers(source)], NAMES, pool, out=source)


def test_policies_are_named_once_and_known() -> None:
    assert find_policies(None) == list(POLICIES)
    assert find_policies(" strict, default,strict") == ["strict", "default"]
    with pytest.raises(ConfigError, match="'mild': unknown"):
        find_policies("default,mild")
    with pytest.raises(ConfigError, match="names none"):
        find_policies(",")


def test_what_cannot_be_read_is_named_and_nothing_is_written(
    tmp_path: Path, pool: GradingPool
) -> None:
    with pytest.raises(StageError, match="no such file"):
        file_answers(tmp_path / "none.jsonl")
    with pytest.raises(StageError, match="holds no answers"):
        compare_policies([file_answers(write(tmp_path / "empty.jsonl", []))], NAMES, pool)
    broken = write(tmp_path / "broken.jsonl", [*ROWS, {"id": 1, "prediction": "2"}])
    with pytest.raises(DataError, match=r"broken.jsonl:6: no field 'gold'"):
        compare_policies([file_answers(broken)], NAMES, pool, out=tmp_path / "out")
    stop = StopSignal()
    stop.requested = True
    with pytest.raises(Interrupted, match="as a whole or not at all"):
        compare_policies(
            [file_answers(write(tmp_path / "a.jsonl", ROWS))],
            NAMES,
            pool,
            out=tmp_path / "out",
            stop=stop,
        )
    assert (
        not (tmp_path / "out" / DISAGREEMENTS).exists() and not (tmp_path / "out" / MATRIX).exists()
    )


# ---- the samples of a run ------------------------------------------------------------------------


def test_the_samples_of_a_run_are_scored_per_model_as_its_evals_did(
    tmp_path: Path, pool: GradingPool
) -> None:
    evals = fake_run(tmp_path, samples=2) / "6-evals"
    made = compare_policies(
        run_answers(evals, "gsm_symbolic"), ["default", "strict"], pool, out=tmp_path / "out"
    )
    assert [(score.source, score.policy) for score in made.scores][:2] == [
        ("answer-only", "default"),
        ("answer-only", "strict"),
    ]
    for score in made.scores:
        verdicts = list(
            read_records(
                evals / "gsm_symbolic" / score.source / "verdicts" / "verdicts.jsonl", Verdict
            )
        )
        assert (score.n, score.k, score.method) == (30, 2, "wilson, effective n")
        if score.policy == "default":
            assert score.mean == pytest.approx(
                sum(verdict.grade.is_correct for verdict in verdicts) / 60
            )
    found = json.loads((tmp_path / "out" / MATRIX).read_text())
    assert (
        set(found["sources"]) == {"answer-only", "base", "sft", "teacher"}
        and found["sources"]["sft"]["traces"]
    )


def test_samples_that_are_missing_or_failed_are_refused(tmp_path: Path, pool: GradingPool) -> None:
    evals = fake_run(tmp_path, samples=2) / "6-evals"
    with pytest.raises(StageError, match=r"holds no benchmark 'gsm8k'. It has: gsm_symbolic"):
        run_answers(evals, "gsm8k")
    file = evals / "gsm_symbolic" / "sft" / "traces" / "traces.jsonl"
    first, *rest = read_records(file, Trace)
    write_records(file, rest)
    with pytest.raises(StageError, match="sft: problems have between 1 and 2 samples"):
        compare_policies(run_answers(evals, "gsm_symbolic"), ["default"], pool)
    failed = first.model_copy(
        update={
            "completion": first.completion.model_copy(update={"finish": "error", "error": "429"})
        }
    )
    write_records(file, [failed, *rest])
    with pytest.raises(
        StageError, match=r"samples of 1 problems are lost, gsm_symbolic/test/0 first"
    ):
        run_answers(evals, "gsm_symbolic")
    (file.parent / "manifest.json").unlink()
    with pytest.raises(StageError, match="sft/traces: missing"):
        run_answers(evals, "gsm_symbolic")


def test_refused_samples_are_undecided_and_lost_ones_that_were_allowed_leave_their_problem_out(
    tmp_path: Path, pool: GradingPool
) -> None:
    evals = fake_run(tmp_path, samples=2, right={"teacher": 1.0}) / "6-evals"
    cell = evals / "gsm_symbolic" / "teacher" / "traces"
    fail_samples(
        cell,
        [f"gsm_symbolic/test/3:{sample}" for sample in range(2)],
        "prompt too long",
        fault="input",
    )
    (score,) = compare_policies(run_answers(evals, "gsm_symbolic"), ["default"], pool).scores
    assert (score.n, score.mean, score.outcomes["undecided"]) == (30, pytest.approx(29 / 30), 2)
    fail_samples(cell, ["gsm_symbolic/test/4:1"], "HTTP 503")
    sources = run_answers(evals, "gsm_symbolic")
    assert sources[0].made_from["problems with lost samples, left out"] == ["gsm_symbolic/test/4"]
    (score,) = compare_policies(sources, ["default"], pool).scores
    assert (score.n, score.mean) == (29, pytest.approx(28 / 29))


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_prints_both_tables_and_ends_well(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROWS)
    printed = command(
        tmp_path,
        "matrix",
        "a.jsonl",
        "--policies",
        "default,strict",
        "--workers",
        "1",
        "--out",
        "out",
    )
    assert "80.0 %" in printed and "20.0 %" in printed and "5 × 1" in printed
    assert "accepted by ↓ but not by →" in printed and "5/5" in printed
    assert "disagreements.jsonl, 3 answers" in printed
    assert "no such file" in command(tmp_path, "matrix", "none.jsonl", code=2)
    assert "unknown" in command(tmp_path, "matrix", "a.jsonl", "--policies", "mild", code=2)
    assert "not a run folder" in command(
        tmp_path, "matrix", "a.jsonl", "--benchmark", "gsm8k", code=2
    )


def test_the_command_reads_a_run(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    source = (
        '[problems]\nsource = "file"\ndataset = "p.jsonl"\n[[traces.teachers]]\nmodel = '
        '"r"\nsampler = "reference"\n'
    )
    (tmp_path / "p.toml").write_text(f'name = "small"\n{source}')
    command(tmp_path, "run", "p.toml", "--until", "problems")
    fake_run(tmp_path / "made")
    (tmp_path / "made" / "6-evals").rename(tmp_path / "runs" / "small" / "6-evals")
    printed = command(
        tmp_path,
        "matrix",
        "small",
        "--benchmark",
        "gsm_symbolic",
        "--policies",
        "default",
        "--workers",
        "1",
    )
    assert "teacher" in printed and "30 × 1" in printed and "120/120" in printed
    assert "say which samples with --benchmark" in command(tmp_path, "matrix", "small", code=2)
    assert "It has: gsm_symbolic" in command(
        tmp_path, "matrix", "small", "--benchmark", "gsm9k", code=2
    )
