"""A packed run is small, the same each time, says what is damaged, and goes on elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fake_run import fake_run

from reasondistill.errors import ConfigError, DataError, StageError
from reasondistill.models.weights import model_folder, model_identity
from reasondistill.records import Trace
from reasondistill.runs import packing, seals
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.packing import belongs, pack_run, read_pack, without_places
from reasondistill.runs.store import (
    Identity,
    Shard,
    open_stage,
    read_manifest,
    read_records,
    require_complete,
    sum_of,
    write_guarded,
    write_manifest,
)
from reasondistill.runs.unpacking import opened, unpack_run
from reasondistill.stages.students.finished import read_student

TRACES = "2-traces/traces.jsonl"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all stages, whose manifests have the sums of their shards."""
    run = fake_run(tmp_path_factory.mktemp("runs") / "made", until="evals", problems=8)
    for path in run.rglob("manifest.json"):
        manifest = require_complete(path.parent)
        sums = {shard.name: sum_of(shard) for shard in path.parent.glob("*.jsonl")}
        write_manifest(path.parent, replace(manifest, files=sums))
    return run


@pytest.fixture
def made(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "runs" / "made")


@pytest.fixture
def pack(made: Path, tmp_path: Path) -> Path:
    pack_run(RunFolder(made), tmp_path / "pack")
    return tmp_path / "pack"


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def said_of(pack: Path, tmp_path: Path, kind: type[Exception] = DataError) -> str:
    """What is said of a pack that cannot be unpacked; nothing of it is left then."""
    with pytest.raises(kind) as raised:
        unpack_run(pack, tmp_path / "back" / "run")
    assert not list((tmp_path / "back").glob("*")) or kind is StageError
    assert not list((tmp_path / "back").glob(".*"))
    return str(raised.value)


def listed_as(pack: Path, files: dict[str, dict[str, object]]) -> None:
    """Write pack.json as somebody could who knows how."""
    write_guarded(pack / "pack.json", {"version": 1, "name": "made", "files": files})


# ---- packing -------------------------------------------------------------------------------------


def test_the_same_run_makes_the_same_bytes_and_weights_stay_out(
    made: Path, pack: Path, tmp_path: Path
) -> None:
    weights = made / "5-students" / "sft" / "model"
    weights.mkdir(exist_ok=True)
    (weights / "model.safetensors").write_bytes(b"weights")
    (made / "5-students" / "sft" / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (made / "5-students" / "sft" / "checkpoints" / "checkpoint-1" / "a.json").write_text("{}")
    (made / "logs").mkdir()
    (made / "logs" / "traces.log").write_text("key")
    pack_run(RunFolder(made), tmp_path / "again")
    packed = contents(pack)
    assert packed == contents(tmp_path / "again")
    assert f"{TRACES}.gz" in packed and "2-traces/manifest.json" in packed
    assert not [name for name in packed if "model" in name or "check" in name or "log" in name]
    assert packed[f"{TRACES}.gz"][3:8] == bytes(5)  # no name, no time


def test_packing_again_writes_what_is_new_and_mends_what_was_damaged(
    made: Path, pack: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in pack.rglob("*.gz")}
    damaged = pack / f"{TRACES}.gz"
    sound = damaged.read_bytes()
    damaged.write_bytes(sound[:-9])
    shutil.rmtree(made / "6-evals")
    packed = pack_run(RunFolder(made), pack)
    assert packed.new == 1 and packed.gone > 3
    assert damaged.read_bytes() == sound and not (pack / "6-evals").exists()
    left = [path for path in before if path.exists() and path != damaged]
    assert left and all(path.stat().st_mtime_ns == before[path] for path in left)


def test_paths_of_this_machine_are_no_part_of_it() -> None:
    value = {"model": "/home/me/models/qwen", "said": ["7 of /data/a/b.jsonl: ok", "~/m/x"]}
    assert without_places(value) == {"model": "qwen", "said": ["7 of b.jsonl: ok", "x"]}
    kept = ["Qwen/Qwen2.5-0.5B", "data/train.jsonl", "https://a.org/b/c", "3/4 and 12/12/1"]
    assert without_places(kept) == kept


def test_the_cluster_file_and_the_seal_of_a_run_are_left_out(made: Path, tmp_path: Path) -> None:
    state = {"pipeline": {"name": "made"}, "cluster": {"vllm": {"threads": 2}}, "seal": "abc"}
    write_guarded(made / "run.json", {**state, "source": "/home/me/p.toml", "keep_old": False})
    pack_run(RunFolder(made), tmp_path / "sealed")
    text = (tmp_path / "sealed" / "pipeline.json").read_text()
    assert json.loads(text)["source"] == "p.toml"
    assert "threads" not in text and "abc" not in text and "/home" not in text


def test_a_link_in_a_run_is_not_followed_into_a_pack(made: Path, tmp_path: Path) -> None:
    (tmp_path / "private.jsonl").write_text("{}\n")
    (made / "2-traces" / "more.jsonl").symlink_to(tmp_path / "private.jsonl")
    with pytest.raises(StageError, match=r"more\.jsonl: is a link"):
        pack_run(RunFolder(made), tmp_path / "linked")
    assert not (tmp_path / "linked" / "pack.json").exists()


@pytest.mark.parametrize("linked", ["2-traces", ".packing"])
def test_nothing_is_packed_through_a_link(
    made: Path, pack: Path, tmp_path: Path, linked: str
) -> None:
    """Whoever packed here before may have laid it."""
    assert linked in ("2-traces", packing._STAGING)
    private = tmp_path / "private"
    private.mkdir()
    (private / "mine.txt").write_text("mine")
    shutil.rmtree(pack / linked, ignore_errors=True)
    (pack / linked).symlink_to(private)
    with pytest.raises(DataError, match=f"{linked}: is a link"):
        pack_run(RunFolder(made), pack)
    assert contents(private) == {"mine.txt": b"mine"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("5-students/sft/student.json", "{"),
        ("5-students/sft/metrics.jsonl", '{"step": 1}\n{"loss": \n'),
    ],
)
def test_a_run_of_broken_json_is_not_packed_and_named(
    made: Path, tmp_path: Path, file: str, text: str
) -> None:
    student = made / "5-students" / "sft"
    write_manifest(student, replace(require_complete(student), files={}))
    (made / file).write_text(text)
    with pytest.raises(DataError, match=f"{file}.*: broken JSON"):
        pack_run(RunFolder(made), tmp_path / "broken")


def test_another_run_or_something_else_is_not_overwritten(made: Path, tmp_path: Path) -> None:
    other = fake_run(tmp_path / "runs" / "other", until="problems")
    pack_run(RunFolder(other), tmp_path / "pack")
    with pytest.raises(StageError, match="holds the packed run other, not made"):
        pack_run(RunFolder(made), tmp_path / "pack")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(StageError, match="is not empty"):
        pack_run(RunFolder(made), tmp_path / "full")


def test_a_damaged_run_is_named_and_the_pack_stays_as_it_was(made: Path, pack: Path) -> None:
    before = contents(pack)
    shard = made / TRACES
    text = bytearray(shard.read_bytes())
    text[100] ^= 1
    shard.write_bytes(bytes(text))
    with pytest.raises(DataError, match=r"traces\.jsonl: damaged"):
        pack_run(RunFolder(made), pack)
    assert contents(pack) == before


# ---- the way back --------------------------------------------------------------------------------


def test_what_comes_back_is_what_was_packed_and_bases_are_looked_up_again(
    made: Path, pack: Path, tmp_path: Path
) -> None:
    back = tmp_path / "back" / "run"
    unpack_run(pack, back)
    assert (back / TRACES).read_bytes() == (made / TRACES).read_bytes()
    assert not list(back.rglob("*.sums"))
    manifest, before = read_manifest(back / "2-traces"), read_manifest(made / "2-traces")
    assert manifest is not None and manifest == before
    assert set(require_complete(back / "5-students" / "sft").files) > {"student.json"}
    assert not (back / "5-students" / "base").exists()
    packed = pack_run(RunFolder(back), tmp_path / "pack of the pack")
    assert packed.new == len(read_pack(pack).files) - 2 - (back / "run.json").exists()


def test_a_run_that_is_not_finished_goes_on_with_the_lines_that_count(
    made: Path, tmp_path: Path
) -> None:
    traces = list(read_records(made / TRACES, Trace))
    run = tmp_path / "runs" / "begun"
    shutil.copytree(made / "1-problems", run / "1-problems")
    open_stage(run / "2-traces", Identity("traces", 1, {"n": 2}, {}))
    with Shard(run / TRACES) as shard:
        shard.append(traces[:5])
    with open(run / TRACES, "a") as file:
        file.write('{"id": "not one that was written"}\n{"torn')
    pack_run(RunFolder(run), tmp_path / "begun")
    back = tmp_path / "back" / "begun"
    unpack_run(tmp_path / "begun", back)
    assert list(read_records(back / TRACES, Trace)) == traces[:5]
    manifest = read_manifest(back / "2-traces")
    assert manifest is not None and manifest.status == "partial"
    assert open_stage(back / "2-traces", Identity("traces", 1, {"n": 2}, {})) == "partial"
    with Shard(back / TRACES) as shard:
        shard.append(traces[5:6])
    assert list(read_records(back / TRACES, Trace)) == traces[:6]


def test_texts_that_were_begun_go_with_a_run_and_one_that_changes_meanwhile_is_packed_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = made / "2-traces" / "unfinished.jsonl"
    begun.write_text('{"id":"a:0","token_ids":[3]}\n{"id":"b:0","token')
    pack_run(RunFolder(made), tmp_path / "begun")
    unpack_run(tmp_path / "begun", tmp_path / "back" / "run")
    text = (tmp_path / "back" / "run" / "2-traces" / "unfinished.jsonl").read_text()
    assert text == '{"id":"a:0","token_ids":[3]}\n'
    chosen = packing.chosen_files

    def chosen_before_it_is_gone(run: RunFolder, *, topk: bool) -> list[str]:
        names = chosen(run, topk=topk)
        begun.unlink()
        return names

    monkeypatch.setattr(packing, "chosen_files", chosen_before_it_is_gone)
    with pytest.raises(StageError, match=r"unfinished\.jsonl: .* pack it again"):
        pack_run(RunFolder(made), tmp_path / "begun")


def test_what_was_unpacked_is_a_stranger_s(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(seals.KEY, "a" * 64)
    said = {"pipeline": {"name": "made"}, "cluster": {}, "source": "p.toml"}
    write_guarded(made / "run.json", {**said, "keep_old": False, "seal": "b" * 64})
    pack_run(RunFolder(made), tmp_path / "sealed")
    unpack_run(tmp_path / "sealed", tmp_path / "back" / "run")
    assert "seal" not in json.loads((tmp_path / "back" / "run" / "run.json").read_text())


def test_a_folder_that_is_there_is_not_unpacked_into(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "back" / "run").mkdir(parents=True)
    assert "is there already" in said_of(pack, tmp_path, StageError)
    assert "holds no packed run" in said_of(tmp_path, tmp_path / "x", StageError)


def test_a_pack_is_read_in_place_and_the_copy_is_there_once(pack: Path, made: Path) -> None:
    copy = opened(pack)
    assert copy != pack and copy == opened(pack) and copy.name == "made"
    assert (copy / TRACES).read_bytes() == (made / TRACES).read_bytes()
    assert opened(made) == made


def test_a_student_s_weights_are_known_by_name_and_asked_for_where_they_are_needed(
    made: Path, tmp_path: Path
) -> None:
    known = dict.fromkeys(("sft", "base"), "model@0123456789ab")
    pack_run(RunFolder(made), tmp_path / "known", weights=known)
    back = tmp_path / "back" / "run"
    unpack_run(tmp_path / "known", back)
    assert (back / "5-students" / "base" / "student.json").exists()
    path = read_student(back / "5-students" / "sft").path
    assert path == str(back / "5-students" / "sft" / "model")
    assert model_identity(path) == "model@0123456789ab"
    with pytest.raises(ConfigError, match="its weights are not here"):
        model_folder(path)
    (back / "5-students" / "sft" / "weights.json").write_text("[]")
    with pytest.raises(DataError, match="does not say which weights"):
        model_identity(path)


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["cut", "flipped", "missing", "link", "longer", "other"])
def test_a_damaged_file_of_a_pack_is_named_and_nothing_is_left(
    pack: Path, tmp_path: Path, change: str
) -> None:
    path = pack / f"{TRACES}.gz"
    content = path.read_bytes()
    path.unlink()
    if change == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif change == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
    elif change == "link":
        (tmp_path / "elsewhere.gz").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere.gz")
    elif change == "longer":
        path.write_bytes(gzip.compress(gzip.decompress(content) + b"{}\n"))
    elif change == "other":
        path.write_bytes(gzip.compress(gzip.decompress(content).replace(b"demo-t", b"demo-d")))
    said = said_of(pack, tmp_path)
    assert f"{TRACES}.gz" in said and "Traceback" not in said


def test_a_linked_folder_in_a_pack_is_refused(pack: Path, tmp_path: Path) -> None:
    (pack / "2-traces").rename(tmp_path / "moved")
    (pack / "2-traces").symlink_to(tmp_path / "moved")
    assert "2-traces: is a link" in said_of(pack, tmp_path)


def test_a_packed_record_of_a_student_that_is_no_json_is_named(pack: Path, tmp_path: Path) -> None:
    """Its digest is right: whoever packed it meant it."""
    name = "5-students/base/student.json"
    (pack / name).write_text("{")
    files = json.loads((pack / "pack.json").read_text())["files"]
    files[name] = {"size": 1, "sha256": hashlib.sha256(b"{").hexdigest()}
    write_guarded(pack / "pack.json", {"version": 1, "name": "made", "files": files})
    assert f"{name}: not the record of a student" in said_of(pack, tmp_path)


def test_an_edited_list_is_refused(pack: Path, tmp_path: Path) -> None:
    text = (pack / "pack.json").read_text()
    (pack / "pack.json").write_text(text.replace('"size": ', '"size": 1', 1))
    assert "damaged or edited" in said_of(pack, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("../../escaped.jsonl", "/etc/cron.jsonl", "2-traces/../../x.jsonl", "2-traces//x.jsonl"),
        *("2-traces/.hidden.jsonl", "logs/x.jsonl", "5-students/a/model/config.json"),
        *("2-traces/a\\b.jsonl", "2-traces/x.py", "6-evals/model.safetensors", ".lock", ""),
    ],
)
def test_names_that_no_pack_has_are_refused(pack: Path, tmp_path: Path, name: str) -> None:
    assert not belongs(name)
    listed_as(pack, {name: {"size": 0, "sha256": ""}})
    assert "is no file of a packed run" in said_of(pack, tmp_path)


@pytest.mark.parametrize("name", ["../made", "/made", "a/b", "..", ".hidden", "", "a\nb"])
def test_a_run_s_name_is_no_path(pack: Path, tmp_path: Path, name: str) -> None:
    write_guarded(pack / "pack.json", {"version": 1, "name": name, "files": {}})
    assert "is no name of a run" in said_of(pack, tmp_path)
    with pytest.raises(DataError, match="is no name of a run"):
        opened(pack)


@pytest.mark.parametrize(
    "files",
    [
        {TRACES: {"size": 9 << 30, "sha256": ""}},
        {TRACES: {"size": -1, "sha256": ""}},
        {TRACES: {"size": "many", "sha256": ""}},
        {TRACES: {"sha256": ""}},
        {TRACES: 3},
    ],
)
def test_sizes_that_no_run_has_are_refused(
    pack: Path, tmp_path: Path, files: dict[str, dict[str, object]]
) -> None:
    listed_as(pack, files)
    assert "pack.json" in said_of(pack, tmp_path)


def test_a_bomb_is_not_unpacked_beyond_what_its_list_says(pack: Path, tmp_path: Path) -> None:
    (pack / f"{TRACES}.gz").write_bytes(gzip.compress(bytes(64 << 20), 1))
    said = said_of(pack, tmp_path)
    assert "more than the" in said and f"{TRACES}.gz" in said


def test_a_list_of_a_later_version_is_refused_by_name(pack: Path, tmp_path: Path) -> None:
    write_guarded(pack / "pack.json", {"version": 2, "name": "made", "files": {}})
    assert "of a later reasondistill" in said_of(pack, tmp_path)
