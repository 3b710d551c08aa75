"""The order of stages, who is compared with whom, and the whole road once on real engines with the
shipped teacher.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from test_cli import run as command

from reasondistill.config import Cluster, load_pipeline, resources
from reasondistill.errors import ConfigError
from reasondistill.pipeline import STAGES, Run, eval_models, plan, select_stages, stage_states
from reasondistill.pipeline.measured import baselines as compared_with
from reasondistill.pipeline.status import seconds_now
from reasondistill.records import EvalRecord, Example, Trace, Verdict
from reasondistill.runs.layout import PARTS
from reasondistill.runs.store import (
    Identity,
    append_metrics,
    content_of,
    finish_stage,
    open_stage,
    read_manifest,
    read_records,
)
from reasondistill.stages.students import read_student

DEMO = resources.find("pipelines", "demo")


def demo(folder: Path, *overrides: str) -> Run:
    return Run(load_pipeline(DEMO, overrides), Cluster(), folder, DEMO)


def test_tasks_come_in_the_order_of_the_stages(tmp_path: Path) -> None:
    tasks = plan(demo(tmp_path), STAGES, share_engine_process=True)
    assert [task.stage for task in tasks] == sorted(
        (task.stage for task in tasks), key=STAGES.index
    )
    students = [task for task in tasks if task.stage == "students"]
    assert [task.units[0] for task in students] == ["distilled", "base", "answer-only"]


def test_each_model_has_its_own_engine_process_where_memory_must_be_freed(tmp_path: Path) -> None:
    shared = [task.units for task in plan(demo(tmp_path), ["evals"], share_engine_process=True)]
    apart = [task.units for task in plan(demo(tmp_path), ["evals"], share_engine_process=False)]
    # Who measures all of them puts the tables together too.
    assert shared == [("distilled", "base", "answer-only", "teacher")]
    assert apart == [("distilled",), ("base",), ("answer-only",), ("teacher",), ()]


def test_the_seconds_of_a_stage_under_way_are_those_of_all_its_sessions(tmp_path: Path) -> None:
    said = [("a", 3.0), ("b", 1.0), ("a", 5.0), ("b", 9.0)]
    for session, seconds in said:
        append_metrics(tmp_path, session=session, seconds=seconds)
    worker = tmp_path / PARTS / "1" / "w0"
    append_metrics(worker, session="c", seconds=20.0)
    assert seconds_now(tmp_path) == 5.0 + 9.0 + 20.0
    # A training has no sessions: it goes on with fewer seconds where it was stopped.
    for seconds in (10.0, 50.0, 4.0, 8.0):
        append_metrics(tmp_path / "student", step=1, seconds=seconds)
    assert seconds_now(tmp_path / "student") == 58.0


def test_answer_only_waits_for_its_student_unless_the_file_says_the_steps(tmp_path: Path) -> None:
    source = resources.find("pipelines", "demo_teacher")
    pipeline = load_pipeline(source, ["students.0.baselines=['answer_only']"])
    waiting = plan(
        Run(pipeline, Cluster(), tmp_path, source), ["students"], share_engine_process=True
    )
    assert {task.units[0]: task.after for task in waiting} == {
        "teacher": (),
        "answer-only": ("students:teacher",),
    }
    assert all(
        not task.after for task in plan(demo(tmp_path), ["students"], share_engine_process=True)
    )


def test_an_unverified_control_waits_for_the_steps_and_is_compared_with_its_own_student(
    tmp_path: Path,
) -> None:
    source = resources.find("pipelines", "demo_teacher")
    pipeline = load_pipeline(source, ["students.0.baselines=['unverified']"])
    waiting = plan(
        Run(pipeline, Cluster(), tmp_path, source), ["students"], share_engine_process=True
    )
    assert {task.units[0]: task.after for task in waiting} == {
        "teacher": (),
        "unverified": ("students:teacher",),
    }
    asked = demo(tmp_path, "students.0.baselines=['base', 'unverified']", "students.0.packing=true")
    assert all(not task.after for task in plan(asked, ["students"], share_engine_process=True))
    assert compared_with(asked) == {"distilled": ["base", "unverified", "teacher"]}


def test_other_unverified_traces_make_the_student_stale_and_no_other(tmp_path: Path) -> None:
    made = demo(tmp_path, "students.0.baselines=['unverified']")
    folder = made.stage("examples")
    finish(folder, "examples", {})
    (folder / "unverified.jsonl").write_text("one\n")
    finish(
        made.stage("students") / "unverified",
        "students",
        {"unverified": content_of(folder, ["unverified.jsonl"])},
    )
    finish(made.stage("students") / "distilled", "students", {"base": "b"})
    states = {state.name: state.state for state in stage_states(made)}
    assert (states["students/unverified"], states["students/distilled"]) == ("complete", "complete")
    (folder / "unverified.jsonl").write_text("other\n")
    states = {state.name: state.state for state in stage_states(made)}
    assert (states["students/unverified"], states["students/distilled"]) == (
        "stale (unverified changed)",
        "complete",
    )


def finish(folder: Path, stage: str, inputs: dict[str, str]) -> None:
    open_stage(folder, Identity(stage, 1, {}, inputs))
    finish_stage(folder, counts={"in": 1, "out": 1}, seconds=0.0)


def test_reference_solutions_are_no_model_to_evaluate(tmp_path: Path) -> None:
    source = resources.find("pipelines", "demo_teacher")
    assert list(eval_models(Run(load_pipeline(source), Cluster(), tmp_path, source))) == [
        "teacher"
    ]  # the student of that name


def test_stages_are_chosen_by_name() -> None:
    assert select_stages("evals", None, None) == ["evals"]
    assert select_stages(None, "examples", "evals") == ["examples", "students", "evals"]
    with pytest.raises(ConfigError, match="no stage is called"):
        select_stages("train", None, None)
    with pytest.raises(ConfigError, match="comes after"):
        select_stages(None, "report", "traces")


@pytest.mark.engine
def test_the_whole_road_on_real_engines(tmp_path: Path) -> None:
    """vLLM serves the shipped teacher, TRL trains, vLLM serves the students; then the grader alone
    changes and nothing is drawn again.
    """
    small = [
        "problems.limit=96",
        "students.0.max_steps=12",
        "evals.limit=12",
        "evals.max_tokens=96",
        "evals.n=2",
    ]
    small += ["evals.checkpoints.count=2", "evals.checkpoints.limit=6"]
    arguments = ["run", str(DEMO), *(part for override in small for part in ("--set", override))]
    printed = command(tmp_path, *arguments)
    folder = tmp_path / "runs" / "demo"
    assert str(folder / "7-report" / "report.html") in printed

    traces = list(read_records(folder / "2-traces" / "traces.jsonl", Trace))
    verdicts = list(read_records(folder / "3-verdicts" / "verdicts.jsonl", Verdict))
    examples = list(read_records(folder / "4-examples" / "examples.jsonl", Example))
    assert [verdict.trace_id for verdict in verdicts] == [trace.id for trace in traces]
    assert {trace.completion.think for trace in traces} == {"closed"}
    assert Counter(verdict.grade.outcome for verdict in verdicts)["correct"] == len(examples) > 60

    distilled, control = (
        read_student(folder / "5-students" / name).figures for name in ("distilled", "answer-only")
    )
    assert distilled is not None and control is not None
    assert (control.steps, control.examples) == (distilled.steps, distilled.examples)

    records = list(read_records(folder / "6-evals" / "records.jsonl", EvalRecord))
    on_the_way = [
        f"{name}@step@{step}" for name in ("distilled", "answer-only") for step in (6, 12)
    ]
    models = ("distilled", "base", "answer-only", "teacher")
    assert Counter(record.model for record in records) == dict.fromkeys(models, 24) | dict.fromkeys(
        on_the_way, 6
    )
    report = json.loads((folder / "7-report" / "report.json").read_text())
    teacher = next(
        row for row in report["scores"] if row["model"] == "teacher" and row["metric"] == "pass@1"
    )
    assert teacher["mean"] > 0.5
    assert teacher["low"] < teacher["mean"] <= teacher["high"]
    assert {row["baseline"] for row in report["differences"]} == {"base", "answer-only", "teacher"}
    assert "Accuracy by step" in (folder / "7-report" / "report.html").read_text()

    sampled = {
        path: path.stat().st_mtime_ns
        for path in (folder / "6-evals").glob("*/*/traces/traces.jsonl")
    }
    assert len(sampled) == 4 + 4
    command(tmp_path, *arguments, "--set", "verdicts.policy=evalchemy-string", "--only", "evals")
    graded = read_manifest(folder / "6-evals" / "gsm_symbolic_12" / "teacher" / "verdicts")
    assert graded is not None and graded.identity["inputs"]["policy"] == "evalchemy-string"
    assert {path: path.stat().st_mtime_ns for path in sampled} == sampled
