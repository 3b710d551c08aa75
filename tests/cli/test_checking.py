"""`check` finds every damage of a finished run; after `repair` the same command ends with the
records of a run that nothing happened to.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_cli import run

from reasondistill.runs import layout
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import require_complete, write_manifest

RECORDS = (
    "1-problems/problems.jsonl",
    "2-traces/traces.jsonl",
    "3-verdicts/verdicts.jsonl",
    "4-examples/examples.jsonl",
    "4-examples/dropped.jsonl",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workplace with a finished run of thirty problems."""
    place = tmp_path_factory.mktemp("finished")
    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(30)]
    script: list[dict[str, str]] = []
    for i, row in enumerate(rows):
        thought = "".join(f"{i} + {i} is {i} and {i} more, step {step}. " for step in range(40))
        script.append(
            {"question": row["question"], "text": f"<think>{thought}</think>\\boxed{{{2 * i}}}"}
        )
        script.append({"question": row["question"], "text": f"I guess \\boxed{{{2 * i + 1}}}"})
    for name, values in (("problems.jsonl", rows), ("script.jsonl", script)):
        (place / name).write_text("".join(json.dumps(value) + "\n" for value in values))
    (place / "small.toml").write_text(
        '[problems]\nsource = "file"\ndataset = "problems.jsonl"\n'
        '[traces]\nprompt = "question"\nn = 2\n[[traces.teachers]]\n'
        'model = "script.jsonl"\nsampler = "scripted"\n[examples]\nvalidation = 0.2\n'
        'export = ["sharegpt"]\n'
    )
    run(place, "run", "small.toml", "--set", "name=small")
    return place


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(finished, tmp_path / "work")
    return tmp_path / "work"


def records(place: Path) -> dict[str, bytes]:
    return {name: (place / "runs" / "small" / name).read_bytes() for name in RECORDS}


def repair_and_run(work: Path, finished: Path, *options: str) -> str:
    """Repair, give the same command again, and compare; return what the repair said."""
    said = run(work, "repair", "small", *options)
    run(work, "run", "small.toml", "--set", "name=small")
    assert records(work) == records(finished)
    assert "all are what was written" in run(work, "check", "small")
    return said


def change(path: Path, place: int) -> None:
    """Another byte, and the old time."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_sound_run_is_said_to_be_sound_also_at_a_url(work: Path) -> None:
    said = run(work, "check", "small")
    assert "all are what was written" in said and "4-examples" in said
    assert "Not looked into" not in said
    assert "all are what was written" in run(work, "check", f"file://{work}/runs/small")
    assert "nothing is damaged" in run(work, "repair", "small")


def test_a_stage_that_is_not_finished_is_said_to_be_not_looked_into(work: Path) -> None:
    """Its lines are judged by the command that goes on: "nothing is damaged" alone is untrue."""
    traces = work / "runs" / "small" / "2-traces"
    write_manifest(traces, replace(require_complete(traces), status="partial", files={}))
    change(traces / "traces.jsonl", 100)
    for verb in ("check", "repair"):
        assert "Not looked into: 2-traces. " in run(work, verb, "small")


def test_every_file_of_a_stage_is_guarded(finished: Path) -> None:
    run_folder = RunFolder(finished / "runs" / "small")
    names = {layout.MANIFEST, *layout.AT_WORK}
    for folder in run_folder.stage_folders():
        guarded = set(require_complete(folder).files)
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            is_a_stages = path.name[0] != "." and name.partition("/")[0] not in names
            assert name in guarded or not path.is_file() or not is_a_stages, path


def test_check_names_every_damaged_file_and_changes_nothing(work: Path) -> None:
    folder = work / "runs" / "small"
    change(folder / "2-traces" / "traces.jsonl", 20_000)
    (folder / "7-report" / "report.md").unlink()
    (folder / "3-verdicts" / "manifest.json").write_text("{")
    (folder / "run.json").write_text("[]")
    for name in ("small", f"file://{folder}"):
        said = run(work, "check", name, code=2)
        assert "2-traces/traces.jsonl: bytes 16,384 to 32,768 are not those" in said
        assert "7-report/report.md: it is missing" in said
        assert "3-verdicts/manifest.json: not a manifest" in said
        assert "run.json: not what was written" in said
        assert "4 files are damaged" in said


def test_show_says_that_a_stage_is_damaged(work: Path) -> None:
    path = work / "runs" / "small" / "3-verdicts" / "verdicts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:25]))
    said = run(work, "show", "small")
    assert "damaged" in said and "verdicts.jsonl: damaged: it has" in said


def test_sound_traces_are_kept_and_the_rest_is_drawn_again(work: Path, finished: Path) -> None:
    path = work / "runs" / "small" / "2-traces" / "traces.jsonl"
    lines = path.read_bytes().count(b"\n")
    change(path, 20_000)
    refused = run(work, "run", "small.toml", "--set", "name=small", "--set", "traces.n=3", code=2)
    assert "traces.jsonl: damaged: bytes 16,384 to 32,768 are not those" in refused
    said = repair_and_run(work, finished)
    kept = int(said.partition(" sound lines are kept")[0].rpartition(" ")[2])
    assert 0 < kept < lines


def test_show_reads_what_has_another_time_and_leaves_the_rest_to_check(work: Path) -> None:
    path = work / "runs" / "small" / "3-verdicts" / "verdicts.jsonl"
    change(path, 100)
    said = run(work, "show", "small")
    assert "damaged" not in said and "`reasondistill check small` reads all" in said
    path.touch()
    assert "verdicts.jsonl: damaged: bytes 0 to" in run(work, "show", "small")


def test_a_run_at_a_url_is_repaired_there(work: Path, finished: Path) -> None:
    folder = work / "runs" / "small"
    url = f"file://{folder}"
    assert "nothing is damaged" in run(work, "repair", url)
    path = folder / "2-traces" / "traces.jsonl"
    lines = path.read_bytes().count(b"\n")
    change(path, 20_000)
    (folder / "4-examples" / "dataset" / "train.parquet").unlink()
    said = run(work, "repair", url)
    assert "2-traces/traces.jsonl" in said and "4-examples/dataset/train.parquet" in said
    assert 0 < path.read_bytes().count(b"\n") < lines
    assert not (folder / "4-examples").exists() or not list(
        (folder / "4-examples").rglob("*.jsonl")
    )
    run(work, "run", "small.toml", "--set", "name=small")
    assert records(work) == records(finished)
    assert "all are what was written" in run(work, "check", url)


@pytest.mark.parametrize(
    "name",
    [
        "1-problems/problems.jsonl",
        "2-traces/metrics.jsonl",
        "3-verdicts/verdicts.jsonl",
        "4-examples/dataset/train.parquet",
        "4-examples/exports/sharegpt.train.jsonl",
        "7-report/report.json",
    ],
)
def test_what_was_cut_after_a_power_cut_is_refused_and_repaired(
    work: Path, finished: Path, name: str
) -> None:
    path = work / "runs" / "small" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    refused = run(work, "run", "small.toml", "--set", "name=small", code=2)
    assert f"{path.name}: damaged" in refused and "Ways out" in refused
    repair_and_run(work, finished)


@pytest.mark.parametrize("stage", ["1-problems", "3-verdicts", "4-examples", "7-report"])
def test_a_stage_without_its_manifest_is_made_again(work: Path, finished: Path, stage: str) -> None:
    (work / "runs" / "small" / stage / "manifest.json").unlink()
    repair_and_run(work, finished)


def test_samples_whose_manifest_is_lost_stay_by_its_copy(work: Path, finished: Path) -> None:
    (work / "runs" / "small" / "2-traces" / "manifest.json").unlink()
    assert "put back from its copy" in repair_and_run(work, finished)


def test_samples_whose_manifest_is_lost_are_drawn_again_only_when_asked(
    work: Path, finished: Path
) -> None:
    for name in ("manifest.json", ".manifest.copy.json"):
        (work / "runs" / "small" / "2-traces" / name).unlink()
    said = run(work, "repair", "small", code=2)
    assert "2-traces/manifest.json: cannot be mended" in said and "--again" in said
    assert (work / "runs" / "small" / "2-traces" / "traces.jsonl").exists()
    repair_and_run(work, finished, "--again")


def test_a_run_of_an_earlier_version_is_said_to_have_no_sums(work: Path) -> None:
    earlier = Path(__file__).parents[1] / "compat" / "complete" / "folders" / "small"
    shutil.copytree(earlier, work / "runs" / "earlier")
    said = run(work, "check", "earlier")
    assert "finished by an earlier version, which wrote no sums" in said
    assert "nothing is damaged" in run(work, "repair", "earlier")
