"""`check` goes on to the end of a run, whatever a disk or another process does meanwhile."""

from __future__ import annotations

import errno
import io
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pytest

from reasondistill.cli import app
from reasondistill.config import Cluster, load_pipeline
from reasondistill.errors import DataError, StageError, StorageError
from reasondistill.pipeline import Run
from reasondistill.pipeline.status import damages_of
from reasondistill.records import Dropped
from reasondistill.runs.checking import CheckedFolder, LocalTree, UrlTree, check_run, open_tree
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.remote import Remote, is_weights
from reasondistill.runs.store import Identity, finish_stage, open_stage, write_records, write_sums

ROWS = [Dropped(trace_id=f"p:{i}", problem_id="p", reason="wrong") for i in range(50)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three finished stages, with tokenised rows and a forecast."""
    for name in ("1-problems", "2-traces", "3-verdicts"):
        open_stage(tmp_path / "run" / name, Identity(name, 1, {}, {}))
        write_records(tmp_path / "run" / name / "rows.jsonl", ROWS)
        finish_stage(tmp_path / "run" / name, counts={"in": 1, "out": 1}, seconds=0.0)
    (tmp_path / "run" / "tokens").mkdir()
    (tmp_path / "run" / "tokens" / "a.arrow").write_bytes(b"rows")
    write_sums(tmp_path / "run" / "tokens" / "a.sums.json", [tmp_path / "run/tokens/a.arrow"])
    (tmp_path / "run" / "forecast.json").write_text("{}")
    return tmp_path / "run"


class BadFile(io.RawIOBase):
    """Can be opened, not read."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        raise OSError(errno.EIO, "Input/output error")


class BadTree(LocalTree):
    """Another process removes `gone` after the listing, and the disk does not give back `bad`."""

    def __init__(self, folder: Path, *, gone: str = "", bad: str = "") -> None:
        super().__init__(folder)
        self._gone, self._bad, self._run = gone, bad, folder

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        if path == self._gone:
            (self._run / path).unlink()
        if path == self._bad:
            return io.BufferedReader(BadFile())
        return super().open(path)


def faults(checked: list[CheckedFolder]) -> list[tuple[str, str]]:
    return [(fault.path, fault.found) for one in checked for fault in one.faults]


FILES = [
    "2-traces/rows.jsonl",
    "2-traces/manifest.json",
    "tokens/a.arrow",
    "tokens/a.sums.json",
    "forecast.json",
]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_one_fault_among_others(run: Path, name: str) -> None:
    (run / "3-verdicts" / "rows.jsonl").write_bytes(b"")
    found = faults(list(check_run(BadTree(run, bad=name))))
    assert (name, "it cannot be read (Input/output error)") in found
    assert len(found) == 2 and "3-verdicts/rows.jsonl" in dict(found)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_vanishes_meanwhile_is_missing(run: Path, name: str) -> None:
    (run / "3-verdicts" / "rows.jsonl").write_bytes(b"")
    found = faults(list(check_run(BadTree(run, gone=name))))
    assert dict(found)[name].startswith("it is missing")
    assert len(found) == 2 and "3-verdicts/rows.jsonl" in dict(found)


def test_a_stage_on_another_disk_is_checked_through_its_link(run: Path) -> None:
    (run / "2-traces").rename(run.parent / "large")
    (run / "2-traces").symlink_to(run.parent / "large")
    (run / "3-verdicts" / "up").symlink_to(run)
    (run / "3-verdicts" / "dead").symlink_to(run / "nowhere")
    (run / "2-traces" / "rows.jsonl").write_bytes(b"")
    assert [path for path, _ in faults(list(check_run(LocalTree(run))))] == ["2-traces/rows.jsonl"]


def test_a_folder_that_cannot_be_listed_is_not_passed_over(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("2-traces"):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"2-traces: cannot be listed \(Input/output error\)"):
        LocalTree(run).sizes()


def test_a_store_that_does_not_answer_is_no_damage(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = UrlTree(f"file://{run}")
    assert not faults(list(check_run(tree)))

    def refuse(*arguments: object, **options: object) -> object:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(fsspec.filesystem("file"), "open", refuse)
    with pytest.raises(StorageError, match="1-problems/manifest.json: cannot be read"):
        list(check_run(tree))


def test_a_checkpoint_that_was_set_aside_is_no_damage_any_more(run: Path) -> None:
    for name in ("checkpoint-8", ".damaged-checkpoint-6"):
        checkpoint = run / "5-students" / "small" / "checkpoints" / name
        checkpoint.mkdir(parents=True)
        (checkpoint / "optimizer.pt").write_bytes(b"hours")
        write_sums(checkpoint / "sums.json", [checkpoint / "optimizer.pt"])
        (checkpoint / "optimizer.pt").write_bytes(b"flour")
    found = [path for path, _ in faults(list(check_run(LocalTree(run))))]
    assert found == ["5-students/small/checkpoints/checkpoint-8/optimizer.pt"]


# ---- copies of runs at a URL ---------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> RunFolder:
    """The copy, without weights, that a launching machine has of a student at a URL."""
    student = tmp_path / "there" / "5-students" / "small"
    open_stage(student, Identity("students", 1, {}, {}))
    for name in ("student.json", "model/model.safetensors", "model/tokenizer.json"):
        (student / name).parent.mkdir(exist_ok=True)
        (student / name).write_bytes(b"what was trained")
    finish_stage(student, counts={"in": 1, "out": 1}, seconds=0.0)
    with Remote(f"file://{tmp_path}/there", tmp_path / "here") as remote:
        remote.fetch(lambda name: not is_weights(name))
    return RunFolder(tmp_path / "here")


def damages(run: RunFolder) -> list[str]:
    """What `show` and a dry run say."""
    file = Path(__file__).parents[1] / "torture" / "torture.toml"
    job = Run(load_pipeline(file), Cluster(), run.path, file)
    return list(damages_of(job, run.student("small").path))


def test_weights_that_were_left_at_the_url_are_no_damage(copy: RunFolder) -> None:
    assert damages(copy) == []
    checked = list(check_run(LocalTree(copy.path)))
    assert faults(checked) == [] and [one.elsewhere for one in checked] == [1, 0]
    (copy.student("small").model / "tokenizer.json").unlink()
    assert "model/tokenizer.json: damaged: it is missing" in damages(copy)[0]
    assert [path for path, _ in faults(list(check_run(LocalTree(copy.path))))] == [
        "5-students/small/model/tokenizer.json"
    ]


def test_weights_that_were_here_are_missed(copy: RunFolder, tmp_path: Path) -> None:
    with Remote(f"file://{tmp_path}/there", copy.path) as remote:
        remote.fetch()
    (copy.student("small").model / "model.safetensors").unlink()
    assert "model.safetensors: damaged: it is missing" in damages(copy)[0]
    assert [path for path, _ in faults(list(check_run(LocalTree(copy.path))))] == [
        "5-students/small/model/model.safetensors"
    ]
    (copy.path / ".remote.jsonl").unlink()
    assert damages(copy)


def test_a_copy_is_not_repaired_but_the_run_at_its_url(copy: RunFolder) -> None:
    copy.student("small").record.unlink()
    with pytest.raises(StageError, match="a copy of a run that lives at a URL"):
        app(["repair", str(copy.path), "--again"])
    assert (copy.student("small").model / "tokenizer.json").exists()


def test_weights_that_are_lost_at_the_url_are_not_taken_for_left_there(
    tmp_path: Path, copy: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    there = RunFolder(tmp_path / "there").student("small")
    (there.path / "manifest.json").write_text("{")
    (there.model / "model.safetensors").unlink()
    with pytest.raises(DataError, match="1 file cannot be mended"):
        app(["repair", f"file://{tmp_path}/there"])
    said = capsys.readouterr().out
    assert "put back from its copy" in said and "model.safetensors: cannot be mended" in said


def test_a_damaged_manifest_at_a_url_is_put_back_there(
    tmp_path: Path, copy: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"file://{tmp_path}/third"
    shutil.copytree(tmp_path / "there", tmp_path / "fourth")
    with Remote(url, tmp_path / "fourth") as remote:
        remote.publish()
    path = tmp_path / "third" / "5-students" / "small" / "manifest.json"
    before = path.read_bytes()
    path.write_bytes(before[:100])
    app(["repair", url], standalone_mode=False)
    assert "put back from its copy" in capsys.readouterr().out and path.read_bytes() == before
    assert not faults(list(check_run(UrlTree(url))))


@pytest.mark.parametrize("url", ["github://o:r@main/x", "http://127.0.0.1:9/x", "s3://b/x"])
def test_a_store_that_cannot_be_reached_is_one_message(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str) -> None:
        raise ConnectionError("no route")  # as requests raises it, an OSError

    monkeypatch.setattr("fsspec.core.url_to_fs", unreachable)
    with pytest.raises(StorageError, match="cannot be reached: ConnectionError: no route"):
        open_tree(url)


class Sizeless:
    """A server whose answers name no size."""

    def find(self, root: str, detail: bool) -> dict[str, Any]:
        return {f"{root}/1-problems/manifest.json": {"size": None, "type": "file"}}


def test_files_without_a_size_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: (Sizeless(), "x"))
    with pytest.raises(StorageError, match=r"1-problems/manifest\.json has no size"):
        open_tree("http://127.0.0.1:9/x")
