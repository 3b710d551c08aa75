"""Problems of a run beside the benchmarks that the run measures, and beside named files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reasondistill.config import Cluster, load_pipeline
from reasondistill.errors import ConfigError
from reasondistill.pipeline.doing import run_task
from reasondistill.pipeline.preflight import sources
from reasondistill.pipeline.runs import Run, Task
from reasondistill.pipeline.status import stage_states, walk
from reasondistill.runs.store import StopSignal

FARM = (
    "A farmer has 17 sheep and 25 goats on a meadow behind the mill. Every evening 3 of the goats "
    "climb over the fence and come back in the morning. How many animals are there at night?"
)
INSIDE = f"Read this, then think.\n\n{FARM}\n\nThere are 5 points for it."
OTHER_NUMBERS = FARM.replace("17", "19")
TRAIN = "A train leaves at noon and rides 240 kilometres in 3 hours. How far does it ride in one?"

PIPELINE = """
name = "r"
[problems]
source = "file"
dataset = "ours.jsonl"
name = "ours"
[problems.near_duplicates]
[problems.decontaminate]
files = ["other.jsonl"]
[traces]
prompt = "question"
[[traces.teachers]]
model = "t"
sampler = "scripted"
[evals]
benchmarks = ["mine"]
"""
BENCHMARK = 'name = "mine"\n[problems]\nsource = "file"\ndataset = "mine.jsonl"\n'


def rows(path: Path, *questions: str) -> None:
    path.write_text("".join(json.dumps({"question": q, "answer": "7"}) + "\n" for q in questions))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    rows(tmp_path / "ours.jsonl", INSIDE, OTHER_NUMBERS, f"Well: {OTHER_NUMBERS}", TRAIN, "Why 7?")
    rows(tmp_path / "other.jsonl", TRAIN)
    benchmarks = tmp_path / "eval" / "benchmarks"
    benchmarks.mkdir(parents=True)
    rows(benchmarks / "mine.jsonl", FARM)
    (benchmarks / "mine.toml").write_text(BENCHMARK)
    path = tmp_path / "p.toml"
    path.write_text(PIPELINE)
    return Run(load_pipeline(path), Cluster(), tmp_path / "runs" / "r", path)


def test_what_a_benchmark_or_a_named_file_asks_is_not_trained_on(run: Run) -> None:
    manifest = run_task(run, Task("problems"), StopSignal())
    assert manifest is not None and manifest.counts == {"in": 5, "out": 2}
    expected = {
        "held out: near a question of mine": 1,
        "held out: in benchmark other.jsonl": 1,
        "near-duplicate question": 1,
    }
    assert manifest.dropped == expected
    assert stage_states(run)[0].dropped == expected
    assert run_task(run, Task("problems"), StopSignal()) == manifest
    about = {place: records for place, records in walk(run, "ours/train/0") if records}
    assert about["1-problems/leaks.jsonl"][0]["question"] == FARM
    (alike,) = dict(walk(run, "ours/train/2"))["1-problems/near_duplicates.jsonl"]
    assert alike["of"] == "ours/train/1"


def test_a_named_file_that_is_not_there_stops_a_run_before_it_starts(run: Run) -> None:
    assert list(sources(run)) == []
    (run.source.parent / "other.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"other\.jsonl"):
        list(sources(run))
