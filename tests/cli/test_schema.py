"""The JSON Schemas that are made from the code hold for what we ship and what we write."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fake_run import fake_run
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from reasondistill.cli import app
from reasondistill.cli.schema import Subject, json_schema
from reasondistill.config import ReportSettings
from reasondistill.grading import GradingPool
from reasondistill.stages import evals
from reasondistill.stages.report import ReportFile, run_report

PIPELINES = sorted((Path(__file__).parents[2] / "pipelines").glob("*.toml"))
MODELS = ["sft", "answer-only", "base", "teacher"]


def faults(subject: Subject, content: Any) -> list[str]:
    """What the schema has against it, as `where: what`."""
    found = Draft202012Validator(json_schema(subject)).iter_errors(content)
    return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in found]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = fake_run(tmp_path_factory.mktemp("schema") / "run", samples=2)
    plan = evals.EvalPlan(
        {"gsm_symbolic": 2}, MODELS, baselines={"sft": ["answer-only", "base", "teacher"]}
    )
    with GradingPool(workers=1) as pool:
        evals.collect(run / "6-evals", plan, pool)
    run_report(run, run / "7-report", settings=ReportSettings(), title="Demo", about="A demo.")
    return run / "7-report" / "report.json"


def test_there_are_pipelines_to_check() -> None:
    assert len(PIPELINES) >= 5


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_every_shipped_pipeline_fits_its_schema(path: Path) -> None:
    assert faults(Subject.pipeline, tomllib.loads(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("subject", "folder"),
    [
        (Subject.cluster, "pipelines/clusters"),
        (Subject.benchmark, "eval/benchmarks"),
        (Subject.prompt, "prompts"),
    ],
)
def test_every_other_shipped_file_fits_the_schema_of_its_kind(
    subject: Subject, folder: str
) -> None:
    paths = sorted((Path(__file__).parents[2] / folder).glob("*.toml"))
    assert len(paths) > 3
    for path in paths:
        assert faults(subject, tomllib.loads(path.read_text(encoding="utf-8"))) == [], path


def test_a_misspelt_key_does_not_fit() -> None:
    content = tomllib.loads(PIPELINES[0].read_text(encoding="utf-8"))
    content["traces"]["temprature"] = 1.0
    (fault,) = faults(Subject.pipeline, content)
    assert "temprature" in fault and fault.startswith("traces:")


def test_a_report_fits_its_schema_and_comes_back_as_a_record(report: Path) -> None:
    content = json.loads(report.read_text(encoding="utf-8"))
    assert faults(Subject.report, content) == []
    record = ReportFile.model_validate(content)
    assert json.loads(json.dumps(record.to_dict())) == content
    assert record.scores[0].n == 30 and record.funnel[0].came_in == 33


def test_a_report_with_another_word_or_type_does_not_fit(report: Path) -> None:
    content = json.loads(report.read_text(encoding="utf-8"))
    wrong_word = copy.deepcopy(content)
    wrong_word["differences"][0]["word"] = "nicer"
    wrong_type = copy.deepcopy(content)
    wrong_type["scores"][0]["n"] = "thirty"
    assert faults(Subject.report, wrong_word) and faults(Subject.report, wrong_type)


@pytest.mark.parametrize("subject", list(Subject))
def test_the_command_prints_the_schema(subject: Subject) -> None:
    result = CliRunner().invoke(app, ["schema", subject.value])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json_schema(subject)
