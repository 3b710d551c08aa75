"""Folders and files that an earlier version left are read, skipped and gone on with.

tests/compat/ holds what commit 207009e wrote: `complete` is a whole small run, `killed` a folder
of traces whose process was killed in the middle, beside what it would have become (whole.jsonl).
`stopped` adds to `complete` a student whose training was stopped at step 6 of 24, beside the
weights and the metrics of the same training without a stop (whole/).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_cli import run
from traces_kit import sample_slowly

from reasondistill.config import load_pipeline

COMPAT = Path(__file__).parents[1] / "compat"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A working folder with the earlier run in runs/small, as its user left it."""
    shutil.copytree(COMPAT / "complete", tmp_path, dirs_exist_ok=True)
    (tmp_path / "folders").rename(tmp_path / "runs")
    stored = tmp_path / "runs" / "small" / "run.json"
    state = json.loads(stored.read_text(encoding="utf-8"))
    state["source"] = str(tmp_path / "small.toml")
    stored.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of the stages, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for stage in sorted(folder.glob("[1-7]-*"))
        for path in sorted(stage.rglob("*"))
        if path.is_file()
    }


def of_grading(path: str) -> bool:
    """Whether a file says which version of the grader it comes from, or stands on one that does."""
    notes = ("4-examples/manifest.json", "4-examples/dataset/README.md")
    return path.startswith(("3-verdicts", "7-report")) or path in notes


def test_an_earlier_run_is_graded_anew_by_a_newer_grader_and_else_skipped(earlier: Path) -> None:
    folder = earlier / "runs" / "small"
    before = contents(folder)
    assert len(before) > 15
    said = run(earlier, "run", "small.toml")
    assert said.count("wrote no sums") == 1
    after = contents(folder)
    for path, content in before.items():
        if not of_grading(path):
            assert after[path] == content, path
    old, new = (outcomes(files["3-verdicts/verdicts.jsonl"]) for files in (before, after))
    assert new == old
    assert b"reasondistill-grader@4" not in after["3-verdicts/verdicts.jsonl"]
    run(earlier, "run", "small.toml")
    assert contents(folder) == after
    assert "stale" not in run(earlier, "show", "small")


def outcomes(verdicts: bytes) -> dict[str, str]:
    """The outcome of each trace."""
    rows = [json.loads(line) for line in verdicts.decode().splitlines()]
    return {row["trace_id"]: row["grade"]["outcome"] for row in rows}


def test_an_earlier_run_can_be_read_and_walked_through(earlier: Path) -> None:
    shown = run(earlier, "show", "small")
    assert "20" in shown and "complete" in shown
    assert "3 + 3 = 6" in run(earlier, "walk", "small", "problems/train/3")


def test_an_earlier_run_is_not_gone_on_with_under_other_settings(earlier: Path) -> None:
    folder = earlier / "runs" / "small"
    before = contents(folder)
    refused = run(earlier, "run", "small.toml", "--set", "traces.temperature=0.1", code=2)
    assert "temperature was 0.7, is 0.1" in refused
    assert contents(folder) == before


def test_traces_of_an_earlier_killed_process_are_gone_on_with(tmp_path: Path) -> None:
    shutil.copytree(COMPAT / "killed", tmp_path, dirs_exist_ok=True)
    traces = tmp_path / "2-traces" / "traces.jsonl"
    assert len(traces.read_text(encoding="utf-8").splitlines()) == 19
    sample_slowly(tmp_path / "1-problems", tmp_path / "2-traces", 0.0)
    assert traces.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.engine
def test_a_training_that_an_earlier_version_stopped_goes_on_from_its_checkpoint(
    earlier: Path,
) -> None:
    load_file = pytest.importorskip("safetensors.torch").load_file
    stopped, folder = COMPAT / "stopped", earlier / "runs" / "small"
    shutil.copy(stopped / "small.toml", earlier)
    shutil.copytree(stopped / "5-students", folder / "5-students")
    before = contents(folder)
    metrics = before["5-students/stopped/metrics.jsonl"].decode().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [1, 2, 3, 4, 5, 6]

    # Earlier versions sealed nothing: whose the checkpoint is only the user can say.
    asked = run(earlier, "run", "small.toml", "--until", "students", code=2)
    assert "checkpoint-6: a checkpoint, which holds pickles" in asked and "--trust" in asked
    assert contents(folder) == before
    run(earlier, "run", "small.toml", "--until", "students", "--trust")

    after = contents(folder)
    # A newer grader grades anew; what that changes nothing of stays, the student's folder too.
    for path, content in before.items():
        if not path.startswith("5-students") and not of_grading(path):
            assert after[path] == content, path
    student = "5-students/stopped"
    old, new = (json.loads(files[f"{student}/manifest.json"]) for files in (before, after))
    assert (old["status"], new["status"]) == ("partial", "complete")
    assert (new["identity"], new["fingerprint"]) == (old["identity"], old["fingerprint"])
    # Not a step is made twice: the lines of the first six are still those of the earlier version.
    lines = after[f"{student}/metrics.jsonl"].decode().splitlines()
    assert lines[:6] == metrics
    whole = (stopped / "whole" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [step_of(line) for line in lines] == [step_of(line) for line in whole]
    for ours, theirs in zip(lines, whole, strict=True):
        assert loss_of(ours) == pytest.approx(loss_of(theirs), rel=1e-4)
    weights = load_file(folder / student / "model" / "model.safetensors")
    for name, weight in load_file(stopped / "whole" / "model.safetensors").items():
        assert (weights[name] - weight).abs().max() < 1e-4, name


def step_of(line: str) -> int:
    return json.loads(line)["step"]


def loss_of(line: str) -> float:
    """The loss of a metrics line; the last one holds that of the validation examples."""
    values = json.loads(line)
    return values.get("loss", values.get("validation_loss"))


def test_an_earlier_pipeline_file_is_read_as_it_was(earlier: Path) -> None:
    stored = json.loads((earlier / "runs" / "small" / "run.json").read_text(encoding="utf-8"))
    pipeline = json.loads(load_pipeline(earlier / "small.toml").model_dump_json())
    for key, value in stored["pipeline"].items():
        assert pipeline[key] == value


def test_what_the_file_no_longer_names_may_be_damaged_its_own_folders_not(earlier: Path) -> None:
    folder = earlier / "runs" / "small"
    left_over = folder / "5-students" / "left-over"
    left_over.mkdir(parents=True)
    (left_over / "manifest.json").write_text("{}", encoding="utf-8")
    assert "complete" in run(earlier, "show", "small")
    (folder / "2-traces" / "manifest.json").write_text("{}", encoding="utf-8")
    assert "2-traces/manifest.json: not a manifest" in run(earlier, "show", "small", code=2)


def test_a_ray_cluster_that_is_gone_does_not_hide_that_nothing_was_sent(earlier: Path) -> None:
    ray = earlier / "runs" / "small" / "ray"
    ray.mkdir()
    job = {"address": "http://127.0.0.1:1", "job_id": "j"}
    (ray / "job.json").write_text(json.dumps(job), encoding="utf-8")
    printed = run(earlier, "cancel", "small")
    assert "No job of this run is waiting or running." in printed
    assert "cannot be asked" in printed


def test_a_wrong_share_is_told_to_the_launcher_too(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_ERROR", str(earlier / "error.json"))
    run(earlier, "task", "runs/small", "traces", "--share", "bogus", code=2)
    told = json.loads((earlier / "error.json").read_text(encoding="utf-8"))
    assert told["kind"] == "ConfigError" and "bogus" in told["message"]
