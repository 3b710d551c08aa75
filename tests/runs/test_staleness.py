"""A stage is stale when what it was made from has changed since, wherever that stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from reasondistill.runs.layout import RunFolder
from reasondistill.runs.staleness import changed_inputs, outputs_of, read_manifests
from reasondistill.runs.store import Identity, finish_stage, open_stage


def finish(folder: Path, inputs: dict[str, str], content: str = "as it was") -> None:
    open_stage(folder, Identity("any", 1, {}, inputs), beside=("gsm8k",))
    finish_stage(folder, counts={"in": 1, "out": 1}, seconds=0.0, content=content)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Every stage was made from what stands there, but for what a test changes."""
    run = RunFolder(tmp_path)
    old = "as it was"
    cell = run.benchmark("gsm8k").cell("sft")
    finish(run.stage("problems"), {"dataset": "somewhere"})
    finish(run.stage("traces"), {"problems": old})
    finish(run.stage("examples"), {"traces": old})
    finish(run.student("sft").path, {"examples": old, "base": "a model"})
    finish(run.benchmark("gsm8k").problems_folder, {})
    finish(cell.traces_folder, {"problems": old})
    finish(cell.verdicts_folder, {"problems": old, "traces": old})
    finish(run.stage("evals"), {"gsm8k/sft/traces": old, "gsm8k/sft/verdicts": old, "asked": "it"})
    return run


def stale_of(run: RunFolder) -> dict[str, dict[str, str]]:
    manifests = read_manifests(run)
    outputs = outputs_of(run, manifests)
    stale: dict[str, dict[str, str]] = {}
    for place, manifest in manifests.items():
        changed = changed_inputs(place, manifest, outputs)
        if changed:
            stale[place] = changed
    return stale


def finish_otherwise(folder: Path) -> None:
    finish_stage(folder, counts={"in": 1, "out": 1}, seconds=0.0, content="another one")


def test_nothing_is_stale_when_nothing_has_changed(run: RunFolder) -> None:
    assert stale_of(run) == {}


def test_other_problems_make_the_traces_stale_and_not_what_was_measured(run: RunFolder) -> None:
    finish_otherwise(run.stage("problems"))
    assert stale_of(run) == {"2-traces": {"problems": "1-problems"}}


def test_other_problems_of_a_benchmark_make_its_samples_and_verdicts_stale(run: RunFolder) -> None:
    finish_otherwise(run.benchmark("gsm8k").problems_folder)
    problems = {"problems": "6-evals/gsm8k/problems"}
    assert stale_of(run) == {
        "6-evals/gsm8k/sft/traces": problems,
        "6-evals/gsm8k/sft/verdicts": problems,
    }


def test_other_samples_of_a_model_make_their_verdicts_and_the_tables_stale(run: RunFolder) -> None:
    finish_otherwise(run.benchmark("gsm8k").cell("sft").traces_folder)
    traces = "6-evals/gsm8k/sft/traces"
    assert stale_of(run) == {
        "6-evals": {"gsm8k/sft/traces": traces},
        "6-evals/gsm8k/sft/verdicts": {"traces": traces},
    }


def test_a_student_of_unverified_traces_has_one_file_as_its_input(run: RunFolder) -> None:
    finish(run.student("control").path, {"unverified": "other content"})
    assert stale_of(run) == {}, "an input that is not there has not changed"
    run.unverified.write_text("one\n")
    place = "4-examples/unverified.jsonl"
    assert stale_of(run) == {"5-students/control": {"unverified": place}}
