"""A run of several sources, from its file to its report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_cli import run as command
from test_forecast import planned

from reasondistill.config import Pipeline
from reasondistill.doctor import check
from reasondistill.errors import ConfigError
from reasondistill.forecast.calibrating import small
from reasondistill.pipeline.executed import what_it_runs
from reasondistill.records import Problem
from reasondistill.runs.store import read_records

SOURCES = """[problems]
limit = 9

[[problems.sources]]
name = "sums"
tag = "easy"
source = "file"
dataset = "problems.jsonl"
weight = 2

[[problems.sources]]
name = "again"
source = "file"
dataset = "again.jsonl"
filter = {{ answer = {{ min = 4 }} }}
weight = 1

[traces]"""


@pytest.fixture
def mixed(workplace: Path) -> Path:
    """The small run of `workplace`, its problems in two sources, of which the second holds rows of
    the first too.
    """
    text = (workplace / "small.toml").read_text()
    whole = text[: text.index("[problems]")] + SOURCES.format() + text.partition("[traces]")[2]
    (workplace / "small.toml").write_text(whole)
    shutil.copy(workplace / "problems.jsonl", workplace / "again.jsonl")
    return workplace


def test_every_rows_fate_is_known_by_source_everywhere(mixed: Path) -> None:
    command(mixed, "run", "small.toml")
    folder = mixed / "runs" / "small"
    problems = list(read_records(folder / "1-problems" / "problems.jsonl", Problem))
    assert [problem.id for problem in problems] == [f"sums/train/{i}" for i in range(6)]
    assert {(problem.origin.source, problem.origin.tag) for problem in problems} == {
        ("sums", "easy")
    }
    counted = "source again: 0 of 3 rows are problems; 3 duplicate question, again repeats sums"
    shown = command(mixed, "show", "small")
    assert "source sums: 6 of 6 rows are problems" in shown and counted in shown
    report = folder / "7-report"
    for path in (
        report / "report.html",
        report / "report.md",
        folder / "4-examples" / "dataset" / "README.md",
    ):
        text = path.read_text(encoding="utf-8")
        assert "3 duplicate question, again repeats sums" in text and "easy" in text, path
    stages = json.loads((report / "report.json").read_text())["stages"]
    sources = next(stage["figures"]["sources"] for stage in stages if "sources" in stage["figures"])
    assert [(one["name"], one["rows"], one["problems"]) for one in sources] == [
        ("sums", 6, 6),
        ("again", 3, 0),
    ]
    other = ("--set", "problems.sources.0.tag=hard")
    changed = command(mixed, "run", "small.toml", *other, code=2)
    assert 'sources.sums.tag was "easy", is "hard"' in changed


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("problems.sources.1.dataset=gone.jsonl", "source again: dataset = "),
        ("problems.sources.1.question=qestion", 'source again: question = "qestion"'),
        ("problems.sources.1.filter={answr = [1]}", "source again: filter.answr"),
        ("problems.sources.1.filter={answer = {regex = '('}}", "source again: filter.answer.regex"),
        ("problems.sources.1.filter={answer = {min = 99}}", "source again: filter: no row"),
        ("problems.sources.1.weight=-1", "weight: "),
        ("problems.decontaminate.files=['gone.jsonl']", "gone.jsonl"),
        ("problems.sources.1.near_duplicates={}", "the table is [problems.near_duplicates]"),
    ],
)
def test_a_fault_of_any_source_is_told_before_anything_runs(
    mixed: Path, override: str, message: str
) -> None:
    said = command(mixed, "run", "small.toml", "--dry-run", "--set", override, code=2)
    assert message in " ".join(said.split())
    assert not (mixed / "runs").exists()


def two(**keys: Any) -> dict[str, Any]:
    first = {"name": "a", "source": "hub", "dataset": "nobody/no-such-set"}
    return {"sources": [first | keys, first | {"name": "b", "limit": 30}], "limit": 100}


def test_a_pattern_for_a_set_of_the_hub_is_looked_at_too(tmp_path: Path) -> None:
    job = planned(tmp_path, problems=two(filter={"question": {"regex": "(?=a)"}}))
    with pytest.raises(ConfigError, match=r"source a: filter.question.regex"):
        check(job, costs=["rows"])


def test_a_folder_that_lacks_a_column_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"question": "a?", "answer": "1"}\n')
    keys = {"source": "hub", "dataset": str(tmp_path / "set"), "subject": "kind"}
    with pytest.raises(ConfigError, match='subject = "kind"'):
        check(planned(tmp_path, problems=keys), costs=["rows"])


def test_plans_and_calibrations_know_how_many_problems_there_are(tmp_path: Path) -> None:
    pipeline = planned(tmp_path, problems=two(weight=3)).pipeline
    assert pipeline.problems is not None and pipeline.problems.most_problems == 100
    tiny = small(pipeline, 20).problems
    assert tiny is not None and tiny.most_problems == 20
    unlimited = two(limit=50) | {"limit": None}
    pipeline = planned(tmp_path, problems=unlimited).pipeline
    assert pipeline.problems is not None and pipeline.problems.most_problems == 80


def test_of_a_strangers_mixture_everything_that_matters_is_shown(tmp_path: Path) -> None:
    keys = two(trust_remote_code=True, dataset="/etc/passwd", filter={"q": {"not": ["x"]}})
    keys["decontaminate"] = {"files": ["/etc/shadow"]}
    values = planned(tmp_path, problems=keys).pipeline.model_dump(mode="json")
    Pipeline.model_validate(values)
    shown = [line for line in what_it_runs("pipeline", values) if ".problems." in line]
    assert shown == [
        "pipeline.problems.decontaminate.files = ['/etc/shadow']",
        "pipeline.problems.sources.0.dataset = '/etc/passwd'",
        "pipeline.problems.sources.0.trust_remote_code = True",
    ]
    smuggled = values | {"problems": values["problems"] | {"trust_remote_code": True}}
    assert "pipeline.problems.trust_remote_code = True" in what_it_runs("pipeline", smuggled)
