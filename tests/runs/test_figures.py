"""What a stage says of itself in its manifest is written through a record, and read through it from
folders of any version.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reasondistill.errors import DataError
from reasondistill.records import TrainingFigures
from reasondistill.runs.figures import (
    EvalsFigures,
    ExamplesFigures,
    Figures,
    ProblemsFigures,
    ReportFigures,
    TracesFigures,
    VerdictsFigures,
    WorkFigures,
    cost_of_verified,
    read_student_record,
)
from reasondistill.runs.store import Manifest, read_manifest

EARLIER = Path(__file__).parents[1] / "compat" / "complete" / "folders" / "small"
# As stages have written them: traces of a server and of an engine, with top K, by two workers.
TRACES: dict[str, Any] = {
    "samples": 20,
    "tokens": 110,
    "prompt_tokens": 100,
    "seconds": 0.006,
    "tokens_per_s": 18333.3,
    "load_seconds": 0.001,
    "truncated": 0.05,
    "errors": 2,
    "causes": {"HTTP 402": 2},
    "estimated": 3,
    "topk_k": 4,
    "topk_tokens": 110,
    "topk_bytes": 7000,
    "topk_bytes_per_token": 63.64,
    "topk_missing": 1,
    "engine": {
        "tensor_parallel_size": 1,
        "data_parallel_size": 1,
        "dtype": "auto",
        "max_model_len": None,
        "enforce_eager": None,
        "max_num_seqs": 256,
        "threads": [1, 2],
    },
    "servers": [{"teacher": "m", "addresses": ["http://a"], "models": ["m"], "limits": ["n"]}],
    "workers": 2,
}
VERDICTS = {
    "correct": 10,
    "wrong": 5,
    "no_answer": 1,
    "truncated": 1,
    "undecided": 3,
    "correct_share": 0.555556,
    "failed": 2,
    "refused": 1,
    "undecided:engine_error": 2,
    "undecided:input": 1,
    "workers": 2,
    "unlabelled_problems": 3,
    "pseudo_labels": 1,
    "judged": 3,
    "judged_correct": 2,
    "judged_wrong": 1,
    "judge_failed": 1,
}


def manifest_with(figures: dict[str, Any], stage: str = "traces") -> Manifest:
    identity = {"stage": stage, "version": 1, "section": {}, "inputs": {}}
    return Manifest(identity, "0", "complete", figures=figures)


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("1-problems", ProblemsFigures),
        ("2-traces", TracesFigures),
        ("3-verdicts", VerdictsFigures),
        ("4-examples", ExamplesFigures),
        ("7-report", ReportFigures),
    ],
)
def test_what_an_earlier_version_wrote_is_written_the_same(place: str, kind: type[Figures]) -> None:
    manifest = read_manifest(EARLIER / place)
    assert manifest is not None and manifest.figures
    assert json.dumps(kind.of(manifest).to_dict()) == json.dumps(manifest.figures)


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        (TRACES, TracesFigures),
        (VERDICTS, VerdictsFigures),
        ({"content": "ab", "corrected": 1}, ProblemsFigures),
        ({"distilled on gsm8k": "42.0 [38.1, 45.9]"}, EvalsFigures),
        ({}, TracesFigures),
    ],
)
def test_every_key_is_read_and_written_in_its_place(
    stored: dict[str, Any], kind: type[Figures]
) -> None:
    assert json.dumps(kind.of(manifest_with(stored)).to_dict()) == _without_null(stored)


def _without_null(stored: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in stored.items() if value is not None})


def test_keys_of_another_version_do_no_harm() -> None:
    strange = {"of_tomorrow": {"a": [1]}, "tokens": None, "undecided:of_tomorrow": 2}
    assert TracesFigures.of(manifest_with(TRACES | strange)).samples == 20
    assert TracesFigures.of(manifest_with(TRACES | strange)).tokens == 0
    verdicts = VerdictsFigures.of(manifest_with(VERDICTS | strange))
    assert verdicts.undecided_reasons["of_tomorrow"] == 2 and verdicts.judged == 3
    engine = TRACES["engine"] | {"of_tomorrow": "x"}
    read = TracesFigures.of(manifest_with(TRACES | {"engine": engine}))
    assert read.engine is not None and read.engine.to_dict() == engine


def test_training_and_sampling_say_their_work_in_the_same_words() -> None:
    trained = TrainingFigures(
        steps=2,
        epochs=1.0,
        examples=4,
        tokens=90,
        loss_tokens=60,
        seconds=3.5,
        train_loss=None,
        validation_loss=None,
        parameters=7,
        trained_parameters=7,
        peak_memory_gib=0.1,
    )
    work = WorkFigures.of(manifest_with(trained.model_dump(), "students"))
    assert (work.tokens, work.seconds, work.samples, work.workers) == (90, 3.5, 0, 1)
    assert WorkFigures.of(manifest_with(TRACES)).workers == 2


def test_a_value_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"manifest of the stage traces: figures\.tokens: "):
        TracesFigures.of(manifest_with({"tokens": "many"}))
    with pytest.raises(DataError, match=r"figures\.causes\.x: "):
        TracesFigures.of(manifest_with({"causes": {"x": "y"}}))


def test_a_verified_trace_has_a_cost_where_traces_were_drawn() -> None:
    drawn = {"samples": 8, "tokens": 800, "seconds": 4.0, "servers": [{"teacher": "t"}]}
    published = drawn | {"servers": [{"teacher": "t", "written_by": [{"unknown": 8}]}]}
    verdicts = manifest_with({"correct": 4}, "verdicts")
    (cost,) = cost_of_verified(manifest_with(drawn), verdicts)
    assert cost.startswith("a verified trace cost 200 tokens and 1.00 s of sampling")
    (cost,) = cost_of_verified(manifest_with(published), verdicts)
    assert cost == "4 of 8 traces are correct; published ones cost no sampling"


def test_of_two_joined_what_the_other_was_given_stands() -> None:
    both = TracesFigures(samples=2, tokens=5).joined(TracesFigures(tokens=0, workers=2))
    assert both.to_dict() == {"samples": 2, "tokens": 0, "workers": 2}


def test_a_torn_record_of_a_student_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "student.json"
    path.write_text('{"name": "small", "met')
    with pytest.raises(DataError, match=r"student.json: not the record of a student: .*Ways out"):
        read_student_record(path)
