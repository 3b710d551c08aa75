"""Traces are scored by a model and chosen by its scores: in a run, alone and by several workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from test_examples import finished, graded, problem
from tiny_model import make_tiny_model

from reasondistill.config import Cluster, Pipeline
from reasondistill.pipeline import Run, Task, plan, run_task, stage_states
from reasondistill.pipeline.foreseeing import foresee_run
from reasondistill.pipeline.measured import scoring_model
from reasondistill.records import Dropped, Example, TraceScore
from reasondistill.runs.store import StopSignal, read_manifest, read_records
from reasondistill.runs.work_sharing import Share
from reasondistill.stages.report.building import build_report
from reasondistill.stages.report.facts import read_facts, read_stages
from reasondistill.stages.report.page import render_page

TEXTS = ["It is 1. So \\boxed{1}", "One.\nAnd \\boxed{1}", "zq xj " * 9 + "\\boxed{1}"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model", max_position_embeddings=2048)


def pipeline(**keys: Any) -> Pipeline:
    values: dict[str, Any] = {
        "name": "scored",
        "problems": {"dataset": "d.jsonl", "source": "file"},
        "traces": {"n": 3, "prompt": "think", "teachers": [{"model": "t"}]},
        "examples": {"select": "gn", "validation": 0.0},
    }
    return Pipeline.model_validate(values | keys)


def run_in(folder: Path, **keys: Any) -> Run:
    pairs = [graded(n, s, text=f"{TEXTS[s]} {n}") for n in (1, 2) for s in range(3)]
    finished(folder / "1-problems", "problems", problems=[problem(1), problem(2)])
    finished(folder / "2-traces", "traces", traces=[pair.trace for pair in pairs])
    finished(folder / "3-verdicts", "verdicts", verdicts=[pair.verdict for pair in pairs])
    return Run(pipeline(**keys), Cluster(), folder, folder / "scored.toml")


def made_by(run: Run) -> list[str]:
    return [example.id for example in read_records(run.layout.examples, Example)]


def scores_in(run: Run) -> list[TraceScore]:
    (path,) = run.stage("traces").glob("scores/*/scores.jsonl")
    return list(read_records(path, TraceScore))


def test_examples_are_the_traces_that_the_students_base_finds_likeliest(
    tiny: Path, tmp_path: Path
) -> None:
    run = run_in(tmp_path / "a", students=[{"name": "small", "base": str(tiny)}])
    with StopSignal() as stop:
        run_task(run, Task("examples"), stop)
    means = {one.trace_id: -one.surprisal / one.tokens for one in scores_in(run)}
    best: list[str] = []
    for number in (1, 2):
        of_one = [f"d/train/{number}:{sample}" for sample in range(3)]
        best.append(max(of_one, key=lambda name: means[name]))
    assert made_by(run) == best
    dropped = list(read_records(run.layout.dropped, Dropped))
    assert {drop.reason for drop in dropped} == {"select: passed over by gn"}
    manifest = read_manifest(run.stage("examples"))
    assert manifest is not None and manifest.dropped == {"select: passed over by gn": 4}
    card = (run.stage("examples") / "dataset" / "README.md").read_text()
    assert "select: passed over by gn" in card and "by gn, k = 1, scored by model@" in card

    stages = read_stages(run.folder, besides=run.stage("report"))
    facts = read_facts(run.folder, stages, traces=0)
    (step,) = [step for step in build_report(facts).funnel if step.stage == "4-examples"]
    assert step.dropped == manifest.dropped
    assert "2-traces/scores/" in render_page(facts, title="t", about="")
    assert [state.state for state in stage_states(run)][3] == "complete"

    # Another rule that reads the same pass measures nothing again; what is finished is left alone.
    (path,) = run.stage("traces").glob("scores/*/scores.jsonl")
    before = path.stat().st_mtime_ns
    other = run_in(
        tmp_path / "a", students=run.pipeline.students, examples={"select": "rsr", "k": 2}
    )
    other = Run(other.pipeline, other.cluster, other.folder, other.source)
    for left in (tmp_path / "a" / "4-examples").rglob("*"):
        if left.is_file():
            left.unlink()
    with StopSignal() as stop:
        run_task(other, Task("examples"), stop)
    assert path.stat().st_mtime_ns == before and len(made_by(other)) == 4

    # Two workers score, and the same examples come out.
    shared = run_in(tmp_path / "b", students=[{"name": "small", "base": str(tiny)}])
    cluster = Cluster.model_validate({"stages": {"examples": {"shards": 2}}})
    shared = Run(shared.pipeline, cluster, shared.folder, shared.source)
    tasks = plan(shared, ["examples"], share_engine_process=True)
    assert [str(task.share) for task in tasks] == ["open", "1/2", "2/2", "close"]
    with StopSignal() as stop:
        for task in tasks:
            run_task(shared, task, stop)
    assert made_by(shared) == best and scores_in(shared) == scores_in(run)


def test_scores_of_another_model_are_other_examples_and_no_growth(
    tiny: Path, tmp_path: Path
) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1, max_position_embeddings=2048)
    first = run_in(tmp_path / "run", students=[{"name": "small", "base": str(tiny)}])
    second = run_in(tmp_path / "run", students=[{"name": "small", "base": str(other)}])
    with StopSignal() as stop:
        run_task(first, Task("examples"), stop)
        assert foresee_run(second, ["examples"])["examples"] == "made anew"
        run_task(second, Task("examples"), stop)
    manifest = read_manifest(second.stage("examples"))
    assert manifest is not None and manifest.stood == []


def test_without_scores_examples_are_one_task(tmp_path: Path) -> None:
    run = run_in(tmp_path, examples={"select": "shortest"})
    cluster = Cluster.model_validate({"stages": {"examples": {"shards": 2}}})
    shared = Run(run.pipeline, cluster, run.folder, run.source)
    assert [task.share for task in plan(shared, ["examples"], share_engine_process=True)] == [None]


def test_the_model_that_scores_is_named_or_what_the_first_student_starts_from(
    tmp_path: Path,
) -> None:
    students = [
        {"name": "plain", "base": "other", "method": "base"},
        {"name": "warm", "base": "warm-base", "eos_token": "<e>", "revision": "r"},
        {"name": "next", "base": "student:warm"},
    ]
    chosen = scoring_model(run_in(tmp_path / "a", students=students))
    assert (chosen.name, chosen.revision, chosen.eos_token) == ("warm-base", "r", "<e>")
    examples = {"select": "ln", "scores": {"model": "mine"}}
    named = scoring_model(run_in(tmp_path / "b", students=students, examples=examples))
    assert (named.name, named.revision, named.eos_token) == ("mine", None, None)


SCRATCH = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "no student is trained whose base could score"),
        ({"students": [{"name": "s", "architecture": SCRATCH}]}, "starts from random weights"),
        ({"examples": {"select": "das", "scores": {"model": "m"}}}, "traces.logprobs = 16"),
        (
            {"examples": {"select": "best_teacher", "scores": {"model": "m", "best_by": "das"}}},
            "traces.logprobs = 16",
        ),
    ],
)
def test_scores_that_cannot_be_there_are_refused_before_anything_starts(
    keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        pipeline(**keys)


def test_a_model_that_is_not_there_is_named_before_anything_starts(tmp_path: Path) -> None:
    from reasondistill.errors import ConfigError
    from reasondistill.pipeline.preflight import models

    teachers = {
        "n": 1,
        "prompt": "think",
        "teachers": [{"model": "reference", "sampler": "reference"}],
    }
    examples = {"select": "rsr", "scores": {"model": "./nowhere"}}
    run = Run(
        pipeline(traces=teachers, examples=examples), Cluster(), tmp_path, tmp_path / "f.toml"
    )
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        models(run)


def test_a_share_that_opens_or_fills_leaves_the_examples_alone(tiny: Path, tmp_path: Path) -> None:
    run = run_in(tmp_path, students=[{"name": "small", "base": str(tiny)}])
    with StopSignal() as stop:
        run_task(run, Task("examples", share=Share("open", of=1)), stop)
    assert not run.stage("examples").exists()
