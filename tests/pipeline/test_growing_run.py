"""A trial grows into the whole run, as a user types it: what is drawn, graded and measured
stays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_cli import run

from reasondistill.records import Student
from reasondistill.runs.store import (
    Identity,
    finish_stage,
    open_stage,
    read_manifest,
    write_text,
)

STAGES = ("1-problems/problems", "2-traces/traces", "3-verdicts/verdicts")


def write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def benchmark(workplace: Path, name: str, numbers: tuple[int, ...]) -> str:
    """A benchmark that asks for these sums."""
    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in numbers]
    write_lines(workplace / f"{name}.jsonl", rows)
    (workplace / f"{name}.toml").write_text(
        f'name = "{name}"\nprompt = "question"\n'
        f'[problems]\nsource = "file"\ndataset = "{name}.jsonl"\n'
    )
    return f"{name}.toml"


def grow(
    workplace: Path, limit: int, *, teachers: int = 1, benchmarks: tuple[str, ...] = ()
) -> Path:
    """Run a pipeline file with so many problems; the run's folder."""
    text = (workplace / "small.toml").read_text().replace("[traces]", f"limit = {limit}\n[traces]")
    if teachers == 2:
        script = (workplace / "script.jsonl").read_text()
        (workplace / "other.jsonl").write_text(script)
        text += '[[traces.teachers]]\nmodel = "other.jsonl"\nsampler = "scripted"\n'
    if benchmarks:
        text += f"[evals]\nbenchmarks = {json.dumps(benchmarks)}\n"
        text += '[[evals.models]]\nname = "strong"\nmodel = "strong.jsonl"\nsampler = "scripted"\n'
    (workplace / "grown.toml").write_text(text)
    options = ["--set", "name=grown"]
    run(workplace, "run", "grown.toml", *options)
    return workplace / "runs" / "grown"


def records_in(folder: Path) -> dict[str, list[bytes]]:
    return {stage: (folder / f"{stage}.jsonl").read_bytes().splitlines() for stage in STAGES}


def times_below(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.jsonl")}


def figures_of(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    assert manifest is not None and manifest.status == "complete"
    return {"counts": manifest.counts, "dropped": manifest.dropped}


def test_a_run_grows_by_problems_a_teacher_and_a_benchmark_and_keeps_what_stands(
    workplace: Path,
) -> None:
    texts = [(f"What is {i} + {i}?", f"\\boxed{{{2 * i}}}") for i in range(30)]
    answers = [{"question": question, "text": text} for question, text in texts]
    write_lines(workplace / "strong.jsonl", answers)
    one = benchmark(workplace, "one", (20, 21, 22))
    folder = grow(workplace, 5, benchmarks=(one,))
    few = records_in(folder)
    measured = times_below(folder / "6-evals" / "one")

    grow(workplace, 8, benchmarks=(one,))
    more = records_in(folder)
    for stage, lines in few.items():
        assert more[stage][: len(lines)] == lines, stage
    assert [len(lines) for lines in more.values()] == [8, 16, 16]
    assert times_below(folder / "6-evals" / "one") == measured

    grow(workplace, 8, teachers=2, benchmarks=(one,))
    assert records_in(folder) == more
    grow(workplace, 10, teachers=2, benchmarks=(one,))
    whole = records_in(folder)
    for stage, lines in more.items():
        assert whole[stage][: len(lines)] == lines, stage
    assert [len(lines) for lines in whole.values()] == [10, 20, 20]

    two = benchmark(workplace, "two", (3, 23))
    before = figures_of(folder / "4-examples")
    grow(workplace, 10, teachers=2, benchmarks=(one, two))
    assert records_in(folder) == whole
    after = figures_of(folder / "4-examples")
    assert after["counts"]["out"] == before["counts"]["out"] - 1
    assert after["dropped"]["held out: in benchmark two"] == 2
    assert "problems/train/3" not in (folder / "4-examples" / "examples.jsonl").read_text()
    scores = json.loads((folder / "6-evals" / "scores.json").read_text())["scores"]
    assert {row["benchmark"] for row in scores} == {"one", "two"}
    assert times_below(folder / "6-evals" / "one") == measured
    assert "held out: in benchmark two" in (folder / "7-report" / "report.md").read_text()
    assert "held out: in benchmark two" in run(workplace, "walk", "grown", "problems/train/3")

    still = times_below(folder)
    grow(workplace, 10, teachers=2, benchmarks=(one, two))
    assert times_below(folder) == still
    shown = run(workplace, "show", "grown")
    assert "stale" not in shown and "partial" not in shown


def test_a_run_with_fewer_samples_reads_a_part_of_what_it_has(workplace: Path) -> None:
    options = ["--until", "examples"]
    run(workplace, "run", "small.toml", *options)
    folder = workplace / "runs" / "small"
    before = records_in(folder)
    run(workplace, "run", "small.toml", *options, "--set", "traces.n=1")
    assert records_in(folder) == before
    assert figures_of(folder / "4-examples")["dropped"] == {"beyond traces.n": 10}
    assert "beyond traces.n" in run(workplace, "walk", "small", "problems/train/3")
    shown = run(workplace, "show", "small")
    assert "stale" not in shown and "partial" not in shown


def test_a_run_that_draws_until_enough_is_correct_counts_all_of_it(workplace: Path) -> None:
    """Every other text of the script is right, so the third sample is the second right one."""
    few = "accepted = 2\nfirst = 2\ncandidates = 6"
    text = (workplace / "small.toml").read_text().replace("n = 2", few)
    text += "[examples.filters.pass_rate]\nhigh = 0.7\n"
    (workplace / "until.toml").write_text(text)
    options = ["--set", "name=until"]
    assert "at most 60 traces" in run(workplace, "run", "until.toml", *options, "--dry-run")
    run(workplace, "run", "until.toml", *options)
    folder = workplace / "runs" / "until"
    traces, verdicts = figures_of(folder / "2-traces"), figures_of(folder / "3-verdicts")
    assert traces["counts"] == {"in": 10, "out": 30}
    assert verdicts["counts"] == {"in": 30, "out": 30}
    examples = figures_of(folder / "4-examples")
    assert examples["counts"]["in"] == 30 == 10 + sum(examples["dropped"].values())
    report = (folder / "7-report" / "report.md").read_text()
    page = (folder / "7-report" / "report.html").read_text()
    shown = " ".join(run(workplace, "show", "until").split())
    for place in (report, page, shown):
        assert "10 accepted, 0 exhausted, 0 hopeless, 0 cut by the budget" in place
        assert "of 40 samples drawn" in place and "20 samples" in place
        assert "verified trace cost" in place
    assert "reason accepted" in run(workplace, "walk", "until", "problems/train/3")
    run(workplace, "check", "until")
    still = times_below(folder)
    run(workplace, "resume", "until")
    assert times_below(folder) == still
    message = run(workplace, "run", "until.toml", *options, "--set", "traces.n=4", code=2)
    assert "n: not beside accepted" in message
    with_votes = ["--set", "verdicts.majority=0.5"]
    assert "traces.n" in run(workplace, "run", "until.toml", *options, *with_votes, code=2)


def test_show_and_the_report_name_a_student_that_was_kept(workplace: Path) -> None:
    run(workplace, "run", "small.toml")
    section, inputs = {"name": "sft", "method": "sft"}, {"examples": "of five problems"}
    kept = workplace / "runs" / "small" / "5-students" / "sft-of-12"
    open_stage(kept, Identity("students", 1, section, inputs))
    student = Student(
        name="sft", method="sft", base="b", path="model", examples="e", seed=0, figures=None
    )
    write_text(kept / "student.json", student.model_dump_json())
    finish_stage(kept, counts={"in": 12, "out": 12}, seconds=0.0)
    shown = run(workplace, "show", "small")
    assert "students/sft-of-12" in shown and "kept (an earlier sft)" in shown
    run(workplace, "run", "small.toml", "--only", "report")
    report = json.loads((workplace / "runs" / "small" / "7-report" / "report.json").read_text())
    assert [student["name"] for student in report["students"]] == ["sft-of-12"]
    assert "stale" not in (workplace / "runs" / "small" / "7-report" / "report.md").read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_grew_holds_the_records_of_one_that_was_whole_from_the_start(
    workplace: Path, workers: int
) -> None:
    (workplace / "shared.toml").write_text(
        f'kind = "local"\n[stages.traces]\nshards = {workers}\n'
        f"[stages.verdicts]\nshards = {workers}\n"
    )
    options = ["--on", "shared.toml", "--until", "examples"]
    for limit in (4, 10):
        run(workplace, "run", "small.toml", *options, "--set", f"problems.limit={limit}")
    run(workplace, "run", "small.toml", *options, "--set", "name=whole")
    grown, whole = (workplace / "runs" / name for name in ("small", "whole"))
    assert records_in(grown) == records_in(whole)
    for name in ("examples.jsonl", "dropped.jsonl"):
        assert (grown / "4-examples" / name).read_bytes() == (
            whole / "4-examples" / name
        ).read_bytes()
