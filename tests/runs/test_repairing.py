"""What a repair keeps, puts back, removes and leaves; whole runs: tests/cli/test_checking.py."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from reasondistill.errors import DataError
from reasondistill.models.topk import Source, TopK, TopKReader, TopKWriter
from reasondistill.records import Dropped, Student, TrainingFigures
from reasondistill.runs.checking import LocalTree, check_run
from reasondistill.runs.figures import read_forecast
from reasondistill.runs.layout import FORECAST_COPY, RunFolder, copy_of
from reasondistill.runs.repairing import Repair, _with_sound_block, repair_run
from reasondistill.runs.store import (
    Identity,
    Shard,
    finish_stage,
    open_stage,
    read_keys,
    read_manifest,
    require_complete,
    sum_of,
    write_guarded,
    write_manifest,
    write_records,
    write_sums,
    write_text,
)

FIGURES = TrainingFigures(
    steps=6,
    epochs=1.0,
    examples=12,
    tokens=900,
    loss_tokens=500,
    seconds=1.5,
    train_loss=0.25,
    validation_loss=None,
    peak_memory_gib=0.1,
    parameters=1000,
    trained_parameters=1000,
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with traces and their top K, verdicts with a judge's replies, and a student."""
    traces = tmp_path / "2-traces"
    open_stage(traces, Identity("traces", 1, {}, {}))
    write_records(traces / "traces.jsonl", rows(600))
    write_records(traces / "metrics.jsonl", rows(3))
    write_top_k(traces / "topk", 300)
    finish_stage(traces, counts={"in": 600, "out": 600}, seconds=0.0, files=["traces.jsonl"])
    verdicts = tmp_path / "3-verdicts"
    open_stage(verdicts, Identity("verdicts", 1, {}, {}))
    write_records(verdicts / "verdicts.jsonl", rows(5))
    write_records(verdicts / "judge.jsonl", rows(2))
    finish_stage(verdicts, counts={"in": 5, "out": 5}, seconds=0.0)
    student = tmp_path / "5-students" / "small"
    section = {"method": "gkd", "seed": 3}
    open_stage(student, Identity("students", 1, section, {"base": "b@1", "examples": "e1"}))
    record = Student(
        name="small",
        method="gkd",
        base="b@1",
        path="model",
        examples="e1",
        seed=3,
        figures=FIGURES,
    )
    write_text(student / "student.json", record.model_dump_json(indent=2) + "\n")
    write_records(student / "metrics.jsonl", rows(400))
    write_text(student / "model" / "tokenizer.json", "t" * 5000)
    write_text(student / "model" / "model.safetensors", "w" * 5000)
    write_text(student / "checkpoints" / "step-6" / "tokenizer.json", "t" * 5000)
    finish_stage(student, counts={"in": 12, "out": 12}, seconds=0.0, figures=FIGURES.model_dump())
    return RunFolder(tmp_path)


def write_top_k(folder: Path, count: int) -> None:
    """The cache of so many samples, with four of eight tokens at six places."""
    source = Source("m@1", 4, {f"t{i}": i for i in range(8)}, 8)
    with TopKWriter(folder, source) as writer:
        writer.append((f"p:{i}", top_k(i)) for i in range(count))


def top_k(i: int) -> TopK:
    """The top K of a sample: another one for each."""
    ids = (np.arange(24, dtype=np.int32).reshape(6, 4) + i) % 8
    return TopK(ids[:, 0], ids, np.full((6, 4), -1.0 - i, np.float32))


def rows(count: int) -> list[Dropped]:
    return [Dropped(trace_id=f"p:{i}", problem_id="p", reason="wrong" * 9) for i in range(count)]


def summed_anew(folder: Path) -> None:
    """Finish a folder again that a test has changed."""
    manifest = read_manifest(folder)
    assert manifest is not None
    write_manifest(folder, replace(manifest, status="partial", files={}))
    finish_stage(folder, counts=manifest.counts, seconds=0.0)


def spoil(path: Path, place: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def repaired(run: RunFolder, *, again: bool = False) -> Sequence[Repair]:
    return list(repair_run(run, again=again))


def faults(run: RunFolder) -> list[str]:
    return [fault.path for one in check_run(LocalTree(run.path)) for fault in one.faults]


def test_nothing_is_done_to_a_sound_run(run: RunFolder) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert repaired(run) == []
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_of_traces_all_lines_outside_damaged_blocks_are_kept(run: RunFolder) -> None:
    path = run.traces
    lines = path.read_bytes().splitlines(keepends=True)
    size = len(b"".join(lines))
    assert size > 3 * 16_384
    spoil(path, 20_000)
    (done,) = repaired(run)
    kept = path.read_bytes().splitlines(keepends=True)
    lost = [line for line in lines if line not in kept]
    assert done.done.startswith(f"{len(kept)} sound lines are kept")
    assert 16_384 <= len(b"".join(lost)) <= 16_384 + 2 * len(lines[-1])
    assert [line for line in lines if line in kept] == kept
    manifest = read_manifest(path.parent)
    assert manifest is not None and (manifest.status, manifest.files) == ("partial", {})


@pytest.mark.parametrize("moment", ["keep_listed", "write_manifest", "list_lines"])
def test_a_kill_in_a_repair_makes_no_damage_readable(
    run: RunFolder, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run.traces
    content = path.read_bytes()
    place = content.index(b'"p:222"')
    path.write_bytes(content[:place] + b'"p:999"' + content[place + 7 :])

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"reasondistill.runs.repairing.{moment}", kill)
    with pytest.raises(KeyboardInterrupt):
        repaired(run)
    monkeypatch.undo()
    repaired(run)
    assert open_stage(path.parent, Identity("traces", 1, {}, {})) == "partial"
    names = list(read_keys(path, "trace_id"))
    assert 400 < len(names) < 600 and "p:999" not in names


def test_of_traces_with_lost_lines_those_behind_them_are_kept(run: RunFolder) -> None:
    path = run.traces
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:200] + lines[203:]))
    repaired(run)
    kept = path.read_bytes().splitlines(keepends=True)
    # The block that lost them goes, and the halves of lines at its ends.
    block_lines = 16_384 // len(lines[200])
    assert kept[:100] == lines[:100] and kept[-200:] == lines[-200:]
    assert len(lines) - len(kept) <= block_lines + 3
    assert [line for line in lines if line in kept] == kept


def test_lines_that_came_in_between_are_not_kept(run: RunFolder) -> None:
    path = run.traces
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:200], b'{"trace_id":"x"}\n', *lines[200:]]))
    repaired(run)
    kept = path.read_bytes().splitlines(keepends=True)
    assert kept[:100] == lines[:100] and kept[-200:] == lines[-200:]
    assert [line for line in lines if line in kept] == kept


@pytest.mark.parametrize("damage", ["cut", "delete", "edit"])
@pytest.mark.parametrize("stage", ["traces", "verdicts", "students/small"])
def test_a_damaged_manifest_is_put_back_from_its_copy_and_the_folder_verified_by_it(
    run: RunFolder, stage: str, damage: str
) -> None:
    folders = {"traces": run.traces.parent, "verdicts": run.verdicts.parent}
    folder = folders.get(stage, run.student("small").path)
    path = folder / "manifest.json"
    whole = path.read_bytes()
    if damage == "delete":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(whole[:100])
    else:
        path.write_bytes(whole.replace(b'"in": ', b'"in": 1'))
    (done,) = repaired(run)
    assert done.is_mended and "put back from its copy" in done.done
    assert path.read_bytes() == whole and faults(run) == []
    # Records are judged by what was put back.
    spoil(run.traces, 20_000)
    run.traces.with_name("manifest.json").unlink()
    assert ["manifest.json" in one.path for one in repaired(run)] == [True, False]
    assert 0 < len(run.traces.read_bytes().splitlines()) < 600


def test_a_kill_between_a_manifest_and_its_copy_leaves_no_copy_that_says_less(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, identity = run.traces.parent, Identity("traces", 1, {}, {})
    manifest = require_complete(folder)
    write_manifest(folder, replace(manifest, status="partial", files={}))
    written: list[Path] = []

    def then_kill(path: Path, value: Mapping[str, object]) -> None:
        write_guarded(path, value)
        written.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr("reasondistill.runs.store.manifests.write_guarded", then_kill)
    with pytest.raises(KeyboardInterrupt):
        finish_stage(folder, counts=manifest.counts, seconds=0.0)
    monkeypatch.undo()
    assert [path.name for path in written] == [".manifest.copy.json"]
    (folder / "manifest.json").write_text("{")
    spoil(run.traces, 20_000)
    assert ["manifest.json" in one.path for one in repaired(run)] == [True, False]
    assert 0 < len(list(read_keys(run.traces, "trace_id"))) < 600
    assert open_stage(folder, identity) == "partial"


@pytest.mark.parametrize("is_missing", [True, False])
def test_a_copy_of_a_manifest_that_is_another_one_is_written_again_when_a_stage_is_skipped(
    run: RunFolder, is_missing: bool
) -> None:
    folder = run.traces.parent
    copy = folder / ".manifest.copy.json"
    copy.unlink()
    if not is_missing:
        write_guarded(copy, {"status": "partial"})
    assert open_stage(folder, Identity("traces", 1, {}, {})) == "complete"
    assert copy.read_bytes() == (folder / "manifest.json").read_bytes()


def test_a_damaged_checkpoint_or_set_of_rows_is_a_fault_and_goes(run: RunFolder) -> None:
    checkpoint = run.student("small").checkpoints / "step-6"
    write_sums(checkpoint / "sums.json", [checkpoint / "tokenizer.json"])
    rows_file = run.tokens / "0123.arrow"
    write_text(rows_file, "rows" * 50)
    write_sums(run.tokens / "0123.sums.json", [rows_file])
    assert faults(run) == []
    spoil(checkpoint / "tokenizer.json")
    spoil(rows_file)
    assert faults(run) == [
        "5-students/small/checkpoints/step-6/tokenizer.json",
        "tokens/0123.arrow",
    ]
    assert all(one.is_mended for one in repaired(run))
    assert not checkpoint.exists() and list(run.tokens.iterdir()) == []
    assert (run.student("small").model / "tokenizer.json").exists() and faults(run) == []


@pytest.mark.parametrize("name", ["topk.json", "vocabulary.json"])
def test_a_top_k_cache_that_cannot_be_read_is_only_removed_when_asked(
    run: RunFolder, name: str
) -> None:
    before, cache = run.traces.read_bytes(), run.traces.parent / "topk"
    blocks = (cache / "topk.bin").read_bytes()
    for damaged in (cache / name, cache / copy_of(name)):
        spoil(damaged)
    spoil(run.traces, 20_000)
    assert [one.is_mended for one in repaired(run)] == [False, False]
    assert (cache / "topk.bin").read_bytes() == blocks
    assert len(faults(run)) == 2  # and what is damaged stays known
    assert [one.is_mended for one in repaired(run, again=True)] == [True, True]
    assert not cache.exists() and 0 < run.traces.stat().st_size < len(before)


@pytest.mark.parametrize("name", ["topk.json", "vocabulary.json"])
@pytest.mark.parametrize("is_deleted", [False, True])
def test_what_tells_how_to_read_a_top_k_cache_is_put_back_from_its_copy(
    run: RunFolder, name: str, is_deleted: bool
) -> None:
    path = run.traces.parent / "topk" / name
    before = path.read_bytes()
    spoil(path)
    if is_deleted:
        path.unlink()
    (done,) = repaired(run)
    assert done.is_mended and f".{path.stem}.copy.json" in done.done
    assert path.read_bytes() == before and faults(run) == []
    assert require_complete(run.traces.parent).counts == {"in": 600, "out": 600}


@pytest.mark.parametrize("name", ["topk.bin", "topk.jsonl"])
def test_of_a_damaged_top_k_cache_the_sound_blocks_are_kept(run: RunFolder, name: str) -> None:
    before, cache = run.traces.read_bytes(), run.traces.parent / "topk"
    spoil(cache / name, 1_000)
    (done,) = repaired(run)
    with TopKReader(cache) as reader:
        kept = list(reader)
        assert 100 < len(kept) < 300
        for trace_id in kept:
            number = int(trace_id.removeprefix("p:"))
            assert (reader.read(trace_id).ids == top_k(number).ids).all()
    assert done.done.startswith(f"the top K of {len(kept)} samples are kept")
    assert run.traces.read_bytes() == before
    write_top_k(cache, 300)  # the same command
    with TopKReader(cache) as reader:
        assert len(reader) == 300 and all(reader.read(one).ids.size for one in reader)


def test_without_an_index_or_without_blocks_a_top_k_cache_is_not_taken_for_sound(
    run: RunFolder,
) -> None:
    cache = run.traces.parent / "topk"
    index = (cache / "topk.jsonl").read_bytes()
    (cache / "topk.jsonl").unlink()
    assert [one.is_mended for one in repaired(run)] == [False] and (cache / "topk.bin").exists()
    (cache / "topk.jsonl").write_bytes(index)
    (cache / "topk.bin").unlink()
    assert [one.is_mended for one in repaired(run)] == [True]
    with TopKReader(cache) as reader:
        assert len(reader) == 0


def test_replies_of_a_judge_are_kept_unless_they_are_damaged(run: RunFolder) -> None:
    replies = run.verdicts.parent / "judge.jsonl"
    spoil(run.verdicts)
    repaired(run)
    left = sorted(path.name for path in run.verdicts.parent.iterdir())
    assert left == ["judge.jsonl", "judge.jsonl.sums"]
    assert replies.stat().st_size > 0


def test_of_damaged_replies_of_a_judge_the_sound_ones_are_kept_and_stay_guarded(
    run: RunFolder,
) -> None:
    folder = run.verdicts.parent
    write_records(folder / "judge.jsonl", rows(2_000))
    summed_anew(folder)
    spoil(folder / "judge.jsonl", 50_000)
    (done,) = repaired(run)
    kept = list(read_keys(folder / "judge.jsonl", "trace_id"))
    assert 1_500 < len(kept) < 2_000
    assert done.done.startswith(f"{len(kept):,} sound replies are kept")
    spoil(folder / "judge.jsonl", 60)
    assert len(list(read_keys(folder / "judge.jsonl", "trace_id"))) == len(kept) - 1


def test_damaged_replies_of_a_judge_go_with_the_verdicts(run: RunFolder) -> None:
    spoil(run.verdicts.parent / "judge.jsonl")
    repaired(run)
    assert not run.verdicts.parent.exists()


def test_the_record_of_a_student_is_written_again_from_its_manifest(run: RunFolder) -> None:
    path = run.student("small").record
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    assert [one.is_mended for one in repaired(run)] == [True]
    assert path.read_bytes() == whole and faults(run) == []


def test_a_file_is_put_back_from_another_one_with_the_same_content(run: RunFolder) -> None:
    path = run.student("small").model / "tokenizer.json"
    for damage in (lambda: spoil(path, 77), path.unlink, lambda: (path.unlink(), path.mkdir())):
        damage()
        (done,) = repaired(run)
        assert "put back from 5-students/small/checkpoints/step-6/tokenizer.json" in done.done
        assert faults(run) == []


def test_losses_of_a_training_may_be_lost_and_the_student_stays(run: RunFolder) -> None:
    path = run.student("small").metrics
    spoil(path, 20_000)
    (done,) = repaired(run)
    assert done.is_mended and "sound lines are kept" in done.done
    assert 0 < len(path.read_bytes().splitlines()) < 400
    assert require_complete(path.parent).files["metrics.jsonl"].size == path.stat().st_size


def test_numbers_over_time_may_be_lost_and_nothing_is_done_again(run: RunFolder) -> None:
    path = run.traces.parent / "metrics.jsonl"
    path.unlink()
    (done,) = repaired(run)
    assert done.done == "0 sound lines are kept; the rest, numbers over time, is lost"
    assert require_complete(path.parent).counts == {"in": 600, "out": 600} and faults(run) == []


def test_weights_are_named_and_only_removed_when_asked(run: RunFolder) -> None:
    weights = run.student("small").model / "model.safetensors"
    spoil(weights)
    (done,) = repaired(run)
    assert not done.is_mended and "the student is trained again" in done.done
    assert weights.exists() and faults(run) == ["5-students/small/model/model.safetensors"]
    assert [one.is_mended for one in repaired(run, again=True)] == [True]
    assert not run.student("small").path.exists()


def test_files_of_the_run_itself_guard_themselves(run: RunFolder) -> None:
    write_guarded(run.state, {"n": 1})
    write_guarded(run.forecast, {"n": 1})
    assert faults(run) == []  # an earlier version kept no copy
    for path in (run.state, run.forecast):
        path.write_text(path.read_text().replace('"n": 1', '"n": 2'))
    assert faults(run) == ["forecast.json", "run.json"]
    assert {one.path: one.is_mended for one in repaired(run)} == {
        "forecast.json": True,
        "run.json": False,
    }
    assert run.state.exists() and not run.forecast.exists()


@pytest.mark.parametrize("kind", ["deleted", "edited"])
def test_a_forecast_is_put_back_from_its_copy(run: RunFolder, kind: str) -> None:
    copy = run.path / FORECAST_COPY
    for path in (copy, run.forecast):
        write_guarded(path, {"n": 1})
    if kind == "deleted":
        run.forecast.unlink()
    else:
        run.forecast.write_text(run.forecast.read_text().replace('"n": 1', '"n": 2'))
    with pytest.raises(DataError, match="repair"):
        read_forecast(run.forecast)
    assert faults(run) == ["forecast.json"]
    (done,) = repaired(run)
    assert done.is_mended and done.done == f"put back from its copy {FORECAST_COPY}"
    assert run.forecast.read_bytes() == copy.read_bytes() and faults(run) == []


def test_what_cannot_be_read_now_is_left_with_all_that_is_beside_it(run: RunFolder) -> None:
    spoil(run.traces)
    (run.path / "2-traces" / "metrics.jsonl").write_bytes(b"")
    unread = "5-students/small/model/model.safetensors"
    before = run.traces.read_bytes()
    checked = list(check_run(AwayTree(run.path, away=("2-traces/traces.jsonl", unread))))
    done = {one.path: one for one in repair_run(run, checked, again=True)}
    assert not any(one.is_mended for one in done.values()) and len(done) == 3
    assert "Stale file handle" in done[unread].done
    assert "left as it is until 2-traces/traces.jsonl" in done["2-traces/metrics.jsonl"].done
    assert run.traces.read_bytes() == before and run.student("small").model.exists()


class AwayTree(LocalTree):
    """A run of which some files lie on a server that does not know them for the moment."""

    def __init__(self, run: Path, away: Sequence[str]) -> None:
        super().__init__(run)
        self._away = away

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        if path in self._away:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return super().open(path)


def test_a_lost_list_of_lines_is_a_fault_and_its_lines_go_only_when_asked(run: RunFolder) -> None:
    folder = run.path / "6-evals" / "b" / "m" / "traces"
    identity = Identity("traces", 1, {}, {})
    open_stage(folder, identity)
    with Shard(folder / "traces.jsonl") as shard:
        shard.append(rows(30))
    beside = folder / "traces.jsonl.sums"
    beside.write_bytes(bytes(beside.stat().st_size))
    place = "6-evals/b/m/traces/traces.jsonl.sums"
    assert faults(run) == [place]
    (done,) = repaired(run)
    assert not done.is_mended and "all its records are made again" in done.done
    with pytest.raises(DataError, match="lists none of the lines of traces.jsonl"):
        open_stage(folder, identity)
    assert [one.is_mended for one in repaired(run, again=True)] == [True]
    assert faults(run) == [] and open_stage(folder, identity) == "partial"
    assert list(read_keys(folder / "traces.jsonl")) == []
    taken_out = folder / ".traces.jsonl.taken-out"
    assert len(taken_out.read_text().splitlines()) == 30


def test_a_damaged_checkpoint_is_set_aside_with_all_that_was_trained(run: RunFolder) -> None:
    checkpoint = run.student("small").checkpoints / "checkpoint-4"
    write_text(checkpoint / "model.safetensors", "w" * 5000)
    write_sums(checkpoint / "sums.json", [checkpoint / "model.safetensors"])
    spoil(checkpoint / "model.safetensors")
    (done,) = repaired(run)
    assert done.is_mended and ".damaged-checkpoint-4" in done.done
    assert not checkpoint.exists() and faults(run) == []
    assert (checkpoint.parent / ".damaged-checkpoint-4" / "model.safetensors").exists()


def test_a_stage_folder_without_manifest_is_a_fault_and_an_empty_one_is_not(
    run: RunFolder,
) -> None:
    (run.path / "4-examples").mkdir()
    (run.path / "5-students" / "notes.txt").write_text("mine")
    assert faults(run) == []
    (run.traces.parent / "manifest.json").unlink()
    (run.traces.parent / ".manifest.copy.json").unlink()
    assert faults(run) == ["2-traces/manifest.json"]
    assert [one.is_mended for one in repaired(run)] == [False]
    assert [one.is_mended for one in repaired(run, again=True)] == [True]
    shutil.rmtree(run.path / "4-examples")


# ---- what is not the run's -----------------------------------------------------------------------


def test_files_of_somebody_else_are_no_part_of_a_stage_and_stay(run: RunFolder) -> None:
    folder = run.path / "7-report"
    identity = Identity("report", 1, {}, {"traces": "1"})
    open_stage(folder, identity)
    write_text(folder / "report.json", "{}")
    write_text(folder / "my-slides.pdf", "mine")
    (folder / "latest").symlink_to("nowhere")
    finish_stage(folder, counts={"in": 1, "out": 1}, seconds=0.0)
    assert list(require_complete(folder).files) == ["report.json"]
    (folder / "my-slides.pdf").write_text("mine, another time")
    assert faults(run) == [] and open_stage(folder, identity) == "complete"
    spoil(folder / "report.json")
    assert [one.is_mended for one in repaired(run)] == [True]
    assert not (folder / "report.json").exists()
    assert open_stage(folder, identity) == "partial"  # the same command makes it again
    write_text(folder / "report.json", "{}")
    finish_stage(folder, counts={"in": 1, "out": 1}, seconds=0.0)
    other = Identity("report", 1, {}, {"traces": "2"})
    assert open_stage(folder, other, derived=True) == "new"
    assert (folder / "my-slides.pdf").read_text() == "mine, another time"


def test_a_lost_file_that_was_taken_for_a_student_s_is_no_reason_to_train_again(
    run: RunFolder,
) -> None:
    folder = run.student("small").path
    manifest = require_complete(folder)
    write_text(folder / "notes.txt", "mine")
    files = manifest.files | {"notes.txt": sum_of(folder / "notes.txt")}
    write_manifest(folder, replace(manifest, files=files))
    (folder / "notes.txt").unlink()
    (done,) = repaired(run)
    assert done.is_mended and faults(run) == []
    assert require_complete(folder).files == manifest.files


def test_of_a_student_that_is_trained_again_files_of_somebody_else_stay(run: RunFolder) -> None:
    folder = run.student("small").path
    write_text(folder / "notes.txt", "mine")
    spoil(run.student("small").model / "model.safetensors")
    assert all(one.is_mended for one in repaired(run, again=True))
    left = sorted(path.name for path in folder.iterdir())
    assert left == [".manifest.copy.json", "manifest.json", "notes.txt"]
    section = {"method": "gkd", "seed": 3}
    identity = Identity("students", 1, section, {"base": "b@1", "examples": "e1"})
    assert open_stage(folder, identity) == "partial"


def test_without_a_manifest_what_is_not_the_run_s_stays_and_is_named(run: RunFolder) -> None:
    folder = run.verdicts.parent
    write_text(folder / "notes.txt", "mine")
    for name in ("manifest.json", ".manifest.copy.json", "judge.jsonl"):
        (folder / name).unlink()
    (done,) = repaired(run)
    assert "move away what is not theirs: notes.txt" in done.done and not done.is_mended
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_an_index_of_somebody_else_leads_to_no_block_outside_of_its_file(tmp_path: Path) -> None:
    blocks = tmp_path / "blocks"
    blocks.write_bytes(b"0123456789")
    sound = {"offset": 2, "bytes": 3, "crc32": zlib.crc32(b"234")}
    forged = [
        sound | {"offset": -1},
        sound | {"bytes": -1},
        sound | {"bytes": 1 << 62},
        sound | {"offset": "2"},
        {"offset": 2},
        [2, 3],
    ]
    lines = [json.dumps(row).encode() for row in (*forged, sound)] + [b"{"]
    assert list(_with_sound_block(blocks, lines)) == [lines[len(forged)]]
    blocks.unlink()
    os.mkfifo(blocks)
    with pytest.raises(DataError, match="is a pipe"):
        list(_with_sound_block(blocks, lines))
