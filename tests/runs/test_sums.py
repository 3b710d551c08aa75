"""What a finished stage wrote is verified while it is read; damage is named, never used."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from reasondistill.errors import DataError
from reasondistill.records import Dropped
from reasondistill.runs.layout import CHECKPOINTS, TRAINER_STATE
from reasondistill.runs.repairing import _manifest_copy
from reasondistill.runs.store import (
    Identity,
    check_files,
    exists_verified,
    finish_stage,
    keep_copy,
    move_taken_out,
    open_stage,
    open_verified,
    read_keys,
    read_manifest,
    read_records,
    records_at,
    require_complete,
    seal,
    unseal,
    verify_below,
    write_records,
)
from reasondistill.runs.store.lines import taken_out_of
from reasondistill.runs.store.manifests import _times_of
from reasondistill.runs.store.sums import SummedFile, block_size, sound_lines, sum_of, ways_out
from reasondistill.runs.store.verified import parse_sums
from reasondistill.stages.students.saving import remove_torn_checkpoints

ROWS = [Dropped(trace_id=f"p:{i}", problem_id="p", reason="wrong") for i in range(50)]
IDENTITY = Identity("verdicts", 1, {}, {})


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A finished stage with a shard, a model of two files, and a checkpoint."""
    folder = tmp_path / "run" / "3-verdicts"
    open_stage(folder, IDENTITY)
    write_records(folder / "rows.jsonl", ROWS)
    for name in ("model/config.json", "model/model.safetensors", "checkpoints/step-1/state.pt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(3000))
    finish_stage(folder, counts={"in": 50, "out": 50}, seconds=0.0, files=["rows.jsonl"])
    return folder


def flip(path: Path, place: int, *, keeps_time: bool = True) -> None:
    """Change one bit; its time stays unless said otherwise."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    time = before.st_mtime_ns
    if not keeps_time:
        time += 1_000_000_000
    os.utime(path, ns=(before.st_atime_ns, time))


def read(path: Path) -> list[Dropped]:
    return list(read_records(path, Dropped))


# ---- what is summed ------------------------------------------------------------------------------


def test_every_file_of_a_finished_stage_is_summed_but_those_of_work_in_progress(
    stage: Path,
) -> None:
    manifest = require_complete(stage)
    assert list(manifest.files) == ["model/config.json", "model/model.safetensors", "rows.jsonl"]
    known = manifest.files["rows.jsonl"]
    assert known == sum_of(stage / "rows.jsonl")
    assert (known.size, known.blocks) == ((stage / "rows.jsonl").stat().st_size, 1)
    assert json.loads((stage / "manifest.json").read_bytes())["format"] == 2


def test_large_files_have_larger_blocks_so_that_manifests_stay_short() -> None:
    assert block_size(0) == block_size(1 << 24) == 1 << 14
    assert block_size((1 << 24) + 1) == 1 << 15
    assert block_size(26 << 30) == 1 << 25


def test_sums_are_no_part_of_what_a_manifest_describes(stage: Path) -> None:
    before = require_complete(stage)
    (stage / "later.jsonl").write_text("{}\n")
    after = seal(stage, ["later.jsonl"])
    assert set(after.files) - set(before.files) == {"later.jsonl"}
    assert (after.output, after.described()) == (before.output, before.described())
    assert after == before == require_complete(stage)


# ---- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_flipped_bit_is_found_before_a_record_is_read(stage: Path, place: int) -> None:
    path = stage / "rows.jsonl"
    flip(path, place)
    with pytest.raises(DataError, match=r"rows.jsonl: damaged: bytes 0 to .* Ways out"):
        next(read_records(path, Dropped))
    with pytest.raises(DataError, match="damaged"):
        next(read_keys(path, "trace_id"))
    with pytest.raises(DataError, match="damaged"):
        next(records_at(path, Dropped, 0, 1))


def test_only_the_blocks_that_are_read_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    block = 1 << 14
    content = os.urandom(2 * block + 77)
    path.write_bytes(content)
    known = sum_of(path)
    assert known.blocks == 3
    flip(path, block + 5)
    with io.BufferedReader(SummedFile(path, known)) as file:
        assert file.read(block) == content[:block]
        file.seek(2 * block)
        assert file.read() == content[2 * block :]
        file.seek(-10, io.SEEK_END)
        assert file.read(20) == content[-10:]
        file.seek(2 * block - 1)
        with pytest.raises(DataError, match="bytes 16,384 to 32,768 are not those"):
            file.read(1)


def test_a_file_that_is_cut_missing_or_a_folder_is_named(stage: Path) -> None:
    path = stage / "rows.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-70])
    size = len(whole)
    with pytest.raises(DataError, match=f"it has {size - 70:,} bytes; {size:,} were written"):
        read(path)
    path.unlink()
    with pytest.raises(DataError, match=f"it is missing; {size:,} bytes were written"):
        read(path)
    with pytest.raises(DataError, match="it is missing"):
        exists_verified(path)
    path.mkdir()
    with pytest.raises(DataError, match="a folder is in its place"):
        read(path)


def test_what_a_library_opens_is_verified_whole_before(stage: Path) -> None:
    verify_below(stage / "model")
    flip(stage / "model" / "model.safetensors", 2000, keeps_time=False)
    with pytest.raises(DataError, match="model.safetensors: damaged"):
        verify_below(stage / "model")
    verify_below(stage / "rows.jsonl")


def test_files_of_unfinished_stages_and_from_elsewhere_are_read_as_they_are(
    stage: Path, tmp_path: Path
) -> None:
    (tmp_path / "run" / "manifest.json").write_text('{"name": "an app"}')
    write_records(tmp_path / "run" / "rows.jsonl", ROWS)
    assert read(tmp_path / "run" / "rows.jsonl") == ROWS
    open_stage(tmp_path / "new", IDENTITY)
    write_records(tmp_path / "new" / "rows.jsonl", ROWS)
    flip(tmp_path / "new" / "rows.jsonl", 20)
    with open_verified(tmp_path / "new" / "rows.jsonl") as file:
        assert len(file.readlines()) == len(ROWS)


@pytest.mark.parametrize(
    "content",
    [
        b'{"audio": "a.wav"}\n{"audio": "b.wav"}\n',
        b'[{"path": "rows.jsonl"}]',
        b'{"guard": "of a house", "identity": 4}',
        b"\xff\xfe not even text",
        b"",
    ],
)
def test_a_manifest_of_another_program_says_nothing_of_the_files_below_it(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "manifest.json").write_bytes(content)
    write_records(tmp_path / "data" / "rows.jsonl", ROWS)
    assert read(tmp_path / "data" / "rows.jsonl") == ROWS
    monkeypatch.chdir(tmp_path)
    verify_below(Path("org/model"))


@pytest.mark.parametrize("name", ["3-verdicts", "kept/for-later"])
def test_a_damaged_manifest_of_a_stage_is_no_other_programs(
    stage: Path, name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere" / name
    shutil.copytree(stage, folder)
    assert read(folder / "rows.jsonl") == ROWS
    (folder / "manifest.json").write_bytes(b'{"format": 2, ')
    with pytest.raises(DataError, match=r"manifest.json: not a manifest"):
        read(folder / "rows.jsonl")


# ---- what a disk does not give back --------------------------------------------------------------


class Disk:
    """What `os.pread` says: it gives at most so many bytes at once, and refuses some places."""

    def __init__(self, most: int = 1 << 30, bad: tuple[int, int] = (0, 0), number: int = 5) -> None:
        self._most, self._bad, self._number, self._read = most, range(*bad), number, os.pread

    def pread(self, file: int, size: int, start: int) -> bytes:
        if any(place in self._bad for place in (start, start + size - 1)):
            raise OSError(self._number, os.strerror(self._number))
        return self._read(file, min(size, self._most), start)


def test_a_file_system_may_give_fewer_bytes_at_once(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large.bin").write_bytes(os.urandom((1 << 14) + 100))
    known = sum_of(tmp_path / "large.bin")
    monkeypatch.setattr(os, "pread", Disk(most=1000).pread)
    assert sum_of(tmp_path / "large.bin") == known
    assert read(stage / "rows.jsonl") == ROWS
    verify_below(stage / "model")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_what_the_disk_does_not_give_back_is_named(
    stage: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pread", Disk(bad=(0, 9), number=number).pread)
    said = rf"it cannot be read \({os.strerror(number)}\)"
    with pytest.raises(DataError, match=rf"rows.jsonl: {said}.* Ways out"):
        read(stage / "rows.jsonl")
    with pytest.raises(DataError, match=rf"model/config.json: {said}"):
        verify_below(stage / "model")
    with pytest.raises(DataError, match=rf"rows.jsonl: {said}"):
        sum_of(stage / "rows.jsonl")


def test_the_lines_around_what_a_disk_has_lost_are_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, block = tmp_path / "rows.jsonl", 1 << 14
    lines = [b'{"id": "%05d"}\n' % i for i in range(4000)]
    path.write_bytes(b"".join(lines))
    known = sum_of(path)
    monkeypatch.setattr(os, "pread", Disk(bad=(block, block + 1)).pread)
    sound = list(sound_lines(path, known))
    assert sound == [line for line in lines if line in sound]
    assert len(lines) - 2 - block // len(lines[0]) <= len(sound) < len(lines)
    monkeypatch.setattr(os, "pread", Disk(bad=(block, block + 1), number=errno.ESTALE).pread)
    with pytest.raises(DataError, match="it cannot be read"):
        list(sound_lines(path, known))  # tomorrow it may be there again


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="Linux")
def test_an_error_in_a_file_that_no_stage_wrote_names_it() -> None:
    with (
        open_verified(Path("/proc/self/mem")) as file,
        pytest.raises(DataError, match=r"/proc/self/mem: it cannot be read \(Input/output error"),
    ):
        file.read(1)
    with (
        open_verified(Path("/proc/self/mem")) as file,
        pytest.raises(DataError, match=r"/proc/self/mem: it cannot be read"),
    ):
        file.read()


# ---- skipping and going on -----------------------------------------------------------------------


def test_a_skip_looks_at_size_and_time_and_where_the_time_differs_at_the_content(
    stage: Path,
) -> None:
    path = stage / "rows.jsonl"
    os.utime(path, ns=(1, 1))
    assert open_stage(stage, IDENTITY) == "complete"
    assert json.loads((stage / ".times.json").read_text()) == {"rows.jsonl": 1}
    flip(path, 20)  # its time is the one at which it was found to be the same
    assert open_stage(stage, IDENTITY) == "complete"
    os.utime(path, ns=(2, 2))
    with pytest.raises(DataError, match="rows.jsonl: damaged"):
        open_stage(stage, IDENTITY)


def test_what_a_start_has_read_is_not_read_again_after_a_look_at_the_small_files(
    stage: Path,
) -> None:
    path = stage / "model" / "model.safetensors"
    os.utime(path, ns=(1, 1))
    os.utime(stage / "rows.jsonl", ns=(1, 1))
    assert open_stage(stage, IDENTITY) == "complete"
    manifest = require_complete(stage)
    os.utime(stage / "model" / "config.json", ns=(1, 1))
    flip(path, 20)
    check_files(stage, manifest, up_to=3000)
    assert json.loads((stage / ".times.json").read_text()) == {
        "model/config.json": 1,
        "model/model.safetensors": 1,
        "rows.jsonl": 1,
    }
    check_files(stage, manifest, up_to=10)
    assert open_stage(stage, IDENTITY) == "complete"


def test_large_files_are_not_read_at_each_start_where_nothing_can_be_written(
    stage: Path,
) -> None:
    path = stage / "model" / "large.safetensors"
    unseal(stage, ["model"])
    with open(path, "wb") as file:
        file.truncate((64 << 20) + 1)
    seal(stage, ["model"])
    (stage / ".times.json" / "in the way").mkdir(parents=True)
    with open(path, "r+b") as file:
        file.write(b"damage")
    assert open_stage(stage, IDENTITY) == "complete"
    assert not list(stage.glob(".*.tmp"))
    with pytest.raises(DataError, match="large.safetensors: damaged"):
        verify_below(stage / "model")
    flip(stage / "rows.jsonl", 20, keeps_time=False)
    with pytest.raises(DataError, match="rows.jsonl: damaged"):
        open_stage(stage, IDENTITY)
    flip(stage / "rows.jsonl", 20)
    shutil.rmtree(stage / ".times.json")
    with pytest.raises(DataError, match="large.safetensors: damaged"):
        open_stage(stage, IDENTITY)


def test_a_deleted_file_is_found_by_a_skip_and_by_whoever_needs_the_stage(stage: Path) -> None:
    (stage / "model" / "config.json").unlink()
    with pytest.raises(DataError, match="config.json: damaged: it is missing"):
        open_stage(stage, IDENTITY)
    with pytest.raises(DataError, match="config.json: damaged: it is missing"):
        require_complete(stage)


def test_a_finished_stage_is_verified_before_more_is_added_to_it(tmp_path: Path) -> None:
    first = Identity("traces", 1, {"n": 1}, {})
    open_stage(tmp_path, first)
    write_records(tmp_path / "rows.jsonl", ROWS)
    finish_stage(tmp_path, counts={"in": 1, "out": 1}, seconds=0.0)
    more = Identity("traces", 1, {"n": 2}, {})
    flip(tmp_path / "rows.jsonl", 20)
    with pytest.raises(DataError, match="rows.jsonl: damaged"):
        open_stage(tmp_path, more, grows=("n",))
    flip(tmp_path / "rows.jsonl", 20)
    assert open_stage(tmp_path, more, grows=("n",)) == "partial"


def test_what_may_be_added_later_is_verified_before_and_summed_after(stage: Path) -> None:
    unseal(stage, ["model"])
    assert list(require_complete(stage).files) == ["rows.jsonl"]
    (stage / "model" / "more.json").write_text("{}")
    assert "model/more.json" in seal(stage, ["model"]).files
    flip(stage / "model" / "config.json", 5)
    with pytest.raises(DataError, match="config.json: damaged"):
        unseal(stage, ["model"])


# ---- the manifest --------------------------------------------------------------------------------


def test_a_manifest_in_which_anything_was_changed_is_refused(stage: Path) -> None:
    path = stage / "manifest.json"
    text = path.read_text()
    for old, new in (('"out": 50', '"out": 40'), ('"complete"', '"partial"'), ('"format"', '"f"')):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(DataError, match=r"manifest.json: not a manifest.* Ways out"):
            read_manifest(stage)
    path.write_text(text.replace('"out": 50', '"out":  50'))
    assert require_complete(stage).counts["out"] == 50


def test_every_single_bit_of_a_manifest_is_guarded(stage: Path) -> None:
    path = stage / "manifest.json"
    content = path.read_bytes()
    whole = require_complete(stage)
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        try:
            manifest = read_manifest(stage)
        except DataError:
            continue
        assert manifest is not None
        assert (manifest, manifest.files) == (whole, whole.files), changed[place - 20 : place + 20]


def test_a_manifest_of_an_earlier_version_has_no_sums_and_is_read(stage: Path) -> None:
    path = stage / "manifest.json"
    value = json.loads(path.read_bytes())
    for key in ("format", "files", "guard"):
        del value[key]
    path.write_text(json.dumps(value))
    flip(stage / "rows.jsonl", 20)
    assert require_complete(stage).files == {}
    assert open_stage(stage, IDENTITY) == "complete"
    assert seal(stage, ["rows.jsonl"]).files == {}


def test_a_later_format_is_refused_by_name(stage: Path) -> None:
    path = stage / "manifest.json"
    path.write_text(json.dumps({"format": 3, "guard": "0"}))
    with pytest.raises(DataError, match=r"manifest.json: format 3 of run folders"):
        read_manifest(stage)


def test_a_pipe_beside_a_manifest_is_not_waited_for(tmp_path: Path) -> None:
    for name in (".times.json", ".manifest.copy.json"):
        os.mkfifo(tmp_path / name)
    assert _times_of(tmp_path) == {}
    assert _manifest_copy(tmp_path) is None


def test_a_pipe_in_the_place_of_what_was_taken_out_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(taken_out_of(tmp_path / "rows.jsonl"))
    with pytest.raises(DataError, match="is a pipe"):
        move_taken_out(tmp_path / "rows.jsonl", tmp_path / "all.jsonl")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_pipe_in_a_checkpoint_is_no_whole_one_and_is_not_waited_for(tmp_path: Path) -> None:
    checkpoint = tmp_path / CHECKPOINTS / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    os.mkfifo(checkpoint / TRAINER_STATE)
    remove_torn_checkpoints(tmp_path)
    assert not checkpoint.exists()


def test_a_folder_in_a_command_to_be_pasted_is_one_word(tmp_path: Path) -> None:
    run = tmp_path / "x;touch $(id)"
    (command,) = re.findall("`(.*?)`", ways_out(run / "2-traces" / "traces.jsonl"))
    assert shlex.split(command) == ["reasondistill", "repair", str(run)]


def test_a_pipe_in_the_place_of_a_copy_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    os.mkfifo(tmp_path / "copy.json")
    with pytest.raises(DataError, match="is a pipe"):
        keep_copy(tmp_path / "a.json", tmp_path / "copy.json")


@pytest.mark.parametrize(
    "change",
    [{"size": [1]}, {"size": -1}, {"size": True}, {"block": 0}, {"time": "1"}, {"digests": 7}],
)
def test_sums_of_somebody_else_that_are_none_are_refused(change: dict[str, Any]) -> None:
    known = {"size": 4, "time": 1, "block": 4, "digests": "00"}
    content = json.dumps({"files": {"a": known}}).encode()
    assert parse_sums(content, "sums.json")["a"].size == 4
    content = json.dumps({"files": {"a": known | change}}).encode()
    with pytest.raises(DataError, match=r"sums\.json: not sums of files: "):
        parse_sums(content, "sums.json")
