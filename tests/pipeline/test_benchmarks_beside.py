"""A benchmark and its data are found beside the files that name them, wherever one works."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from reasondistill.config import Cluster, load_pipeline
from reasondistill.errors import ConfigError
from reasondistill.grading import GradingPool
from reasondistill.pipeline.evaluating import prepare
from reasondistill.pipeline.runs import Run, benchmarks


def write_benchmark(folder: Path, name: str, rows: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"question": f"What is {i}+1?", "answer": str(i + 1)}) for i in range(rows)]
    (folder / "rel.jsonl").write_text("\n".join(lines))
    path = folder / f"{name}.toml"
    path.write_text(f'name = "{name}"\n[problems]\nsource = "file"\ndataset = "rel.jsonl"\n')
    return path


def run_of(home: Path, names: Sequence[str]) -> Run:
    home.mkdir(exist_ok=True)
    path = home / "p.toml"
    path.write_text(
        'name = "r"\n[problems]\nsource = "file"\ndataset = "d.jsonl"\n'
        '[traces]\nprompt = "question"\n'
        '[[traces.teachers]]\nmodel = "t"\nsampler = "scripted"\n'
        f"[evals]\nbenchmarks = {json.dumps(list(names))}\n"
    )
    return Run(load_pipeline(path), Cluster(), home / "runs" / "r", path)


def measured(run: Run) -> int:
    (benchmark,) = benchmarks(run)
    with GradingPool() as pool:
        return prepare(run, benchmark, pool).counts["out"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def test_the_data_of_a_benchmark_lies_beside_its_file(elsewhere: Path) -> None:
    path = write_benchmark(elsewhere / "bench", "mine", rows=3)
    run = run_of(elsewhere / "home", [str(path)])
    assert measured(run) == 3
    assert benchmarks(run)[0].problems.dataset == str(elsewhere / "bench" / "rel.jsonl")


def test_data_beside_the_pipeline_file_comes_first(elsewhere: Path) -> None:
    path = write_benchmark(elsewhere / "bench", "mine", rows=3)
    write_benchmark(elsewhere / "home", "other", rows=2)
    assert measured(run_of(elsewhere / "home", [str(path)])) == 2


def test_a_benchmark_of_the_pipelines_own_folder_is_found_by_its_name(elsewhere: Path) -> None:
    write_benchmark(elsewhere / "home" / "eval" / "benchmarks", "tiny", rows=4)
    assert measured(run_of(elsewhere / "home", ["tiny"])) == 4
    with pytest.raises(ConfigError, match="tinny: no such file, and no benchmark of that name"):
        benchmarks(run_of(elsewhere / "home", ["tinny"]))


def test_it_never_hides_a_shipped_one(elsewhere: Path) -> None:
    write_benchmark(elsewhere / "home" / "eval" / "benchmarks", "gsm8k", rows=1)
    (benchmark,) = benchmarks(run_of(elsewhere / "home", ["gsm8k"]))
    assert benchmark.problems.dataset != "rel.jsonl"
