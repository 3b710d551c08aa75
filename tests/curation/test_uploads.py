"""What goes out of a run is what a library needs, the card and nothing else; all else is refused by
name.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published_run import published_run

from reasondistill import secrets
from reasondistill.curation.destinations import destination_of
from reasondistill.curation.uploads import (
    choose_student,
    dataset_push,
    rows_as_text,
    student_push,
)
from reasondistill.errors import ConfigError, DataError, ReasonDistillError, StageError
from reasondistill.models.weights import model_folder
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import read_manifest, write_manifest

WEIGHTS = {"sft": "model@0123456789ab"}
SECRET = "planted-0123456789-secret"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_run(tmp_path_factory.mktemp("runs") / "made")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(finished, tmp_path / "runs" / "made")))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MY_API_KEY", SECRET)
    secrets.look_again()
    return SECRET


@pytest.fixture(autouse=True)
def _forget() -> object:
    yield
    secrets.look_again()


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def pushed(run: RunFolder, target: Path, **options: object) -> dict[str, bytes]:
    push = student_push(run, "sft", WEIGHTS, **options)  # type: ignore[arg-type]
    place = destination_of(str(target), run.path)
    files = push.with_card(place.name)
    place.send(files, kind=push.kind, public=False, message="made")
    return contents(target)


# ---- a student -----------------------------------------------------------------------------------


def test_a_folder_gets_what_a_library_loads_and_nothing_else(
    finished: Path, run: RunFolder, tmp_path: Path
) -> None:
    before = contents(run.path)
    out = pushed(run, tmp_path / "out")
    assert out.keys() == {
        *("README.md", "config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "reasondistill.json"),
    }
    assert out["model.safetensors"] == before["5-students/sft/model/model.safetensors"]
    together = b"".join(out.values())
    for text in (str(finished), str(tmp_path), str(Path.home()), "of None", "momentum"):
        assert text.encode() not in together, text
    assert json.loads(out["config.json"])["_name_or_path"] == "model"
    assert contents(run.path) == before, "a stage's folder is never changed"
    assert model_folder(str(tmp_path / "out")) is not None


def test_the_same_command_sends_what_is_new(run: RunFolder, tmp_path: Path) -> None:
    place = destination_of(f"file://{tmp_path}/out", run.path)
    push = student_push(run, "sft", WEIGHTS)
    files = push.with_card(place.name)
    first = place.send(files, kind="model", public=False, message="made")
    again = place.send(files, kind="model", public=False, message="made")
    assert (first.new, first.same, again.new, again.same) == (8, 0, 0, 8)
    (tmp_path / "out" / "config.json").write_text("{}")
    (tmp_path / "out" / "mine.txt").write_text("notes")
    mended = place.send(files, kind="model", public=False, message="made")
    assert (mended.new, mended.same) == (1, 7)
    assert (tmp_path / "out" / "mine.txt").read_text() == "notes"


def test_what_stays_is_named(run: RunFolder) -> None:
    push = student_push(run, "sft", WEIGHTS)
    assert set(push.left_out) == {".cache/notes.json", "trainer_state.json", "training_args.bin"}


def test_the_lines_of_the_card_load_and_ask_the_student(run: RunFolder, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    card = pushed(run, tmp_path / "out", licence="apache-2.0")["README.md"].decode()
    assert 'license: "apache-2.0"' in card and "set it yourself" not in card
    code = re.search(r"```python\n(.*?)\n```", card, re.DOTALL)
    assert code is not None and "Think step by step." in code[1]
    code_of_fewer_tokens = re.sub(r"max_new_tokens=\d+", "max_new_tokens=8", code[1])
    done = subprocess.run(
        [sys.executable, "-c", code_of_fewer_tokens],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_an_adapter_names_its_base_and_brings_its_tokenizer(run: RunFolder, tmp_path: Path) -> None:
    out = pushed(run, tmp_path / "out", is_adapter=True)
    assert json.loads(out["adapter_config.json"])["base_model_name_or_path"] == "Qwen/Qwen2.5-0.5B"
    assert {"adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} <= out.keys()
    assert "model.safetensors" not in out and b"library_name: peft" in out["README.md"]
    assert str(run.path).encode() not in b"".join(out.values())


def card_of(run: RunFolder, weights: str = WEIGHTS["sft"]) -> str:
    return student_push(run, "sft", {"sft": weights}).card("me/small")


def test_scores_of_the_student_before_it_are_not_those_of_one_that_was_trained_anew(
    run: RunFolder,
) -> None:
    assert "## Scores" in card_of(run)
    cell = run.evals.path / "gsm_symbolic" / "sft"
    # What grading and sampling wrote is what the scores are of, and the weights.
    manifest = read_manifest(cell / "traces")
    assert manifest is not None
    identity = {**manifest.identity, "section": {**manifest.section, "teachers": ["model@e5f6"]}}
    write_manifest(cell / "traces", replace(manifest, identity=identity))
    assert "## Scores" in card_of(run, "model@e5f6")
    assert "## Scores" not in card_of(run, "model@0123456789ab")
    cell.rename(cell.with_name("sft-of-5"))
    card = card_of(run, "model@e5f6")
    assert "## Scores" not in card and "model-index" not in card


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("1-problems", ["traces", "verdicts", "examples"]),
        ("2-traces", ["verdicts", "examples"]),
        ("3-verdicts", ["examples"]),
        ("4-examples", []),
    ],
)
def test_a_card_tells_nothing_of_stages_that_have_changed_since(
    run: RunFolder, place: str, told: list[str]
) -> None:
    manifest = read_manifest(run.path / place)
    assert manifest is not None
    write_manifest(run.path / place, replace(manifest, content="another"))
    card = card_of(run)
    rows = r"^\| (problems|traces|verdicts|examples) \| [\d,]+ \| [\d,]+ \|"
    found = re.findall(rows, card, re.M)
    assert found == told and "changed since, not told here" in card and "another" not in card
    if place == "4-examples":
        assert "| examples | `9999aaaabbbbcccc` |" in card and "demo-teacher" not in card


def without_method(run: RunFolder, name: str) -> None:
    """Make a student of the fake run one that is trained and no control."""
    manifest = read_manifest(run.student(name).path)
    assert manifest is not None
    section = {**manifest.section, "method": "gkd"}
    identity = {**manifest.identity, "section": section}
    write_manifest(run.student(name).path, replace(manifest, identity=identity))


def test_the_only_student_that_is_no_control_is_meant(run: RunFolder) -> None:
    assert choose_student(run, None) == "sft"
    assert choose_student(run, "base") == "base"
    with pytest.raises(StageError, match="no student 'stf'; it has answer-only, base, sft"):
        choose_student(run, "stf")
    run.student("sft").path.rename(run.student("sft-of-5").path)
    shutil.copytree(run.student("sft-of-5").path, run.student("sft").path)
    assert choose_student(run, None) == "sft", "the one that was kept is not meant"
    without_method(run, "base")
    with pytest.raises(StageError, match="--student NAME, one of base, sft"):
        choose_student(run, None)


def unfinish(run: RunFolder) -> None:
    manifest = read_manifest(run.student("sft").path)
    assert manifest is not None
    write_manifest(run.student("sft").path, replace(manifest, status="partial"))


def leave_weights_out(run: RunFolder) -> None:
    student = run.student("sft")
    shutil.rmtree(student.model)
    (student.path / "weights.json").write_text('{"identity": "model@0123456789ab"}')


def be_the_hubs(run: RunFolder) -> None:
    path = run.student("sft").record
    path.write_text(json.dumps(json.loads(path.read_text()) | {"path": "Qwen/Qwen2.5-0.5B"}))


def lay_a_link(run: RunFolder) -> None:
    private = run.path.parent / "private.txt"
    private.write_text("mine")
    (run.student("sft").model / "merges.txt").symlink_to(private)


def lay_a_link_to_a_folder(run: RunFolder) -> None:
    model = run.student("sft").model
    private = Path(model.rename(run.path.parent / "private"))
    model.symlink_to(private)


def plant_a_key(run: RunFolder) -> None:
    (run.student("sft").model / "special_tokens_map.json").write_text(
        '{"a": "hf_0123456789abcdefABCDEF"}'
    )


def plant_a_secret(run: RunFolder) -> None:
    path = run.student("sft").model / "chat_template.jinja"
    path.write_text(path.read_text() + SECRET)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (unfinish, StageError, "5-students/sft: not finished"),
        (leave_weights_out, StageError, "packed elsewhere, without them"),
        (be_the_hubs, StageError, "is Qwen/Qwen2.5-0.5B, untouched"),
        (lay_a_link, StageError, r"merges\.txt: is a link"),
        (lay_a_link_to_a_folder, StageError, r"sft/model: is a link"),
        (plant_a_key, DataError, r"special_tokens_map\.json: holds a key \(hf_…\)"),
        (plant_a_secret, DataError, r"chat_template\.jinja: holds a secret of the environment"),
    ],
)
def test_what_cannot_go_out_is_refused_by_name(
    run: RunFolder,
    tmp_path: Path,
    planted: str,
    change: object,
    kind: type[ReasonDistillError],
    message: str,
) -> None:
    change(run)  # type: ignore[operator]
    with pytest.raises(kind, match=message) as raised:
        pushed(run, tmp_path / "out")
    assert SECRET not in str(raised.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("runs/made/out", "lies in the run's own folder"),
        ("runs/made/5-students/sft/model", "lies in the run's own folder"),
    ],
)
def test_a_folder_of_the_run_is_no_place_to_push_to(
    run: RunFolder, tmp_path: Path, target: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        destination_of(str(tmp_path / target), run.path)


@pytest.mark.parametrize(
    "text", ["small", "a/b/c", "https://huggingface.co/a/b", "s3://a/b", "-x/y"]
)
def test_a_place_that_is_neither_repository_nor_folder_is_refused(
    run: RunFolder, text: str
) -> None:
    with pytest.raises(ConfigError, match="want a repository of the hub, USER/NAME, or a folder"):
        destination_of(text, run.path)


def test_other_weights_at_the_place_are_named_and_nothing_is_written(
    run: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model-00001-of-00002.safetensors").write_bytes(b"older")
    with pytest.raises(StageError, match=r"holds model-00001-of-00002\.safetensors, which would"):
        pushed(run, tmp_path / "out")
    assert len(contents(tmp_path / "out")) == 1


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors"])
def test_a_file_of_ones_own_is_not_replaced(run: RunFolder, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("# mine, about reasondistill\n")
    with pytest.raises(StageError, match=rf"other files of the same names \({name}\)"):
        pushed(run, tmp_path / "out")
    assert contents(tmp_path / "out") == {name: b"# mine, about reasondistill\n"}


def test_a_folder_of_another_run_is_left_alone(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("{}")
    with pytest.raises(StageError, match="is a folder of a run"):
        pushed(run, tmp_path / "out")


# ---- the data set --------------------------------------------------------------------------------


def test_rows_of_any_type_are_looked_through(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    row = {"day": date(2026, 11, 30), "blob": f"\x00{SECRET}".encode(), "many": Decimal("1.5")}
    pq.write_table(pa.Table.from_pylist([row]), path)
    (text,) = rows_as_text(path)
    assert SECRET in text and "2026-11-30" in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.parquet", b"PAR1 none"),
        ("train.jsonl", b'{"a": 1}\n{"a": "\xff"}\n'),
        ("long.jsonl", b'{"a": "' + b"x" * 2_000 + b'"}\n'),
    ],
)
def test_rows_that_cannot_be_read_are_one_clear_error(
    tmp_path: Path, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_LINE_BYTES", "1000")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}:[12]: "):
        list(rows_as_text(tmp_path / name))


def test_a_data_set_that_was_left_out_is_told_how_to_be_made_again(run: RunFolder) -> None:
    with pytest.raises(StageError, match="Remove .*4-examples, and the same command makes it"):
        dataset_push(run)
