"""What goes beyond a bound ends in one message within a moment, its memory bounded; what is only
large goes through.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reasondistill.bounds import BOUNDS, LINE_BYTES
from reasondistill.config.loading import load_benchmark, load_cluster, load_pipeline
from reasondistill.curation.rows import open_file
from reasondistill.errors import ConfigError, DataError
from reasondistill.foreign_json import loads
from reasondistill.grade_file.rows import read_answers
from reasondistill.models.prompts import load_prompt
from reasondistill.records import Trace
from reasondistill.runs.store import read_keys, read_records, read_rows

# ---- the bounds themselves -----------------------------------------------------------------------


def test_a_bound_is_raised_from_outside_and_nonsense_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_LINE_BYTES", "10")
    assert LINE_BYTES.most == 10
    for nonsense in ("0", "-1", "many", "1" * 30):
        monkeypatch.setenv("REASONDISTILL_MOST_LINE_BYTES", nonsense)
        with pytest.raises(ConfigError, match="REASONDISTILL_MOST_LINE_BYTES = "):
            assert LINE_BYTES.most


def test_every_bound_says_its_unit_and_its_reason() -> None:
    assert len({bound.name for bound in BOUNDS}) == len(BOUNDS) > 10
    assert all(bound.unit and len(bound.reason) > 20 for bound in BOUNDS)


# ---- TOML ----------------------------------------------------------------------------------------

TOML = {
    "key": "a" + ".a" * 50_000 + " = 1\n",
    "quoted_key": '"a"' + " . 'a'" * 50_000 + " = 1\n",
    "header": "[a" + ".a" * 50_000 + "]\n",
    "key_behind_quotes": 'a = {x = """"x"""", y' + ".y" * 50_000 + " = 1}",
    "arrays": "a = " + "[" * 5000 + "]" * 5000,
    "tables": "a = " + "{a=" * 5000 + "1" + "}" * 5000,
    "digits": "seed = " + "1" * 6000,
    "hexadecimal": "seed = 0x" + "f" * 60_000,
    "more_than_64_bits": "seed = 123456789012345678901234567890",
    "size": "#" * 5_000_000,
    "open_string": 'a = """' + '\\"""' * 100_000,
}


@pytest.mark.parametrize("name", TOML)
def test_a_toml_file_beyond_the_bounds_is_one_message_at_once(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.toml"
    file.write_text(TOML[name])
    for load in (load_pipeline, load_cluster, load_benchmark, lambda path: load_prompt(str(path))):
        began = time.process_time()
        with pytest.raises(ConfigError) as found:
            load(file)
        assert time.process_time() - began < 1.0
        assert str(found.value).startswith(str(file)) and len(str(found.value)) < 1000


@pytest.mark.parametrize(
    "override",
    [
        "a" + ".a" * 50_000 + "=1",
        "seed=" + "1" * 6000,
        "seed=0x" + "f" * 6000,
        "seed=" + "9" * 400,
        "about=" + "[" * 5000 + "]" * 5000,
        "about={a" + ".b" * 5000 + "=1}",
        "students.²=1",
        f"students.{'9' * 5000}=1",
        "about=\udcff",
    ],
)
def test_an_override_beyond_the_bounds_is_one_message_at_once(override: str) -> None:
    began = time.process_time()
    with pytest.raises(ConfigError, match="--set ") as found:
        load_pipeline(Path("pipelines/demo.toml"), [override])
    assert time.process_time() - began < 1.0
    assert len(str(found.value)) < 1000
    str(found.value).encode()


def test_text_with_many_dots_and_brackets_is_text() -> None:
    shown = "wait " + "." * 500 + " [" * 40
    assert load_pipeline(Path("pipelines/demo.toml"), [f"about={shown}"]).about == shown


def test_a_large_and_a_deep_toml_file_are_read(tmp_path: Path) -> None:
    text = Path("prompts/think.toml").read_text()
    shots = "".join(
        f'\n[[few_shot]]\nquestion = "{i}"\nanswer = """{"so [it] {goes}. " * 2000}"""\n'
        for i in range(60)
    )
    (tmp_path / "large.toml").write_text(text + shots)
    assert len(load_prompt(str(tmp_path / "large.toml")).prompt.few_shot) >= 60


def test_a_verb_refuses_a_file_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text(TOML["arrays"])
    (tmp_path / "key.toml").write_text(TOML["key"])
    for arguments in (("run", "deep.toml"), ("run", "key.toml", "--dry-run")):
        done = subprocess.run(
            [sys.executable, "-m", "reasondistill", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 2 and done.stderr.startswith("ConfigError: "), done.stderr[-2000:]


# ---- JSON ----------------------------------------------------------------------------------------

JSON = {
    "deep_list": "[" * 100_000 + "]" * 100_000,
    "deep_object": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "deep_unclosed": "[" * 100_000,
    "just_too_deep": "[" * 101 + "]" * 101,
    "digits": "1" * 4301,
}


@pytest.mark.parametrize("name", JSON)
def test_json_beyond_the_bounds_is_a_value_error_in_one_line(name: str) -> None:
    with pytest.raises(ValueError) as found:
        loads(JSON[name])
    assert "set_int_max_str_digits" not in str(found.value) and len(str(found.value)) < 200


def test_json_that_is_only_wide_or_nearly_too_deep_is_read() -> None:
    wide = "[" + ",".join(["[[],{}]"] * 10_000) + "]"
    assert len(loads(wide)) == 10_000
    assert loads("[" * 100 + "]" * 100)
    assert loads("9" * 4300) > 0


@pytest.mark.parametrize("name", [*JSON, "line"])
def test_a_row_beyond_the_bounds_is_named_by_its_line(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = JSON.get(name, '"' + "x" * 300_000 + '"')
    if name == "line":
        monkeypatch.setenv(LINE_BYTES.variable, "200000")
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "question": "1 + 1?"}\n{"answer": ' + value + ', "id": "b"}\n')
    readers = {
        "rows": lambda: list(open_file(path, revision="", split="").rows),
        "answers": lambda: list(read_answers(path)),
        "records": lambda: list(read_records(path, Trace)),
        "plain": lambda: list(read_rows(path)),
        "keys": lambda: list(read_keys(path, "answer")),
    }
    if name == "just_too_deep":  # pydantic reads 200 levels
        readers = {"rows": readers["rows"]}
    for kind, read in readers.items():
        with pytest.raises(DataError) as found:
            read()
        assert str(found.value).startswith(f"{path}:"), kind
        assert "set_int_max_str_digits" not in str(found.value), kind
        if kind in ("rows", "plain"):
            assert str(found.value).startswith(f"{path}:2: "), kind


def test_a_json_file_that_cannot_be_read_whole_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"question": "1 + 1?", "answer": "2"}] * 100))
    assert len(list(open_file(path, revision="", split="").rows)) == 100
    monkeypatch.setenv("REASONDISTILL_MOST_JSON_FILE_BYTES", "1000")
    with pytest.raises(DataError, match="rows.json:1: .* beyond 1,000 bytes"):
        list(open_file(path, revision="", split="").rows)


def test_a_csv_whose_quote_never_ends_is_not_read_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('question,answer\n"never ends,' + "x,\n" * 100_000)
    monkeypatch.setenv(LINE_BYTES.variable, "10000")
    with pytest.raises(DataError, match=r"rows.csv:\d+: "):
        list(open_file(path, revision="", split="").rows)


# ---- Parquet -------------------------------------------------------------------------------------


def write_parquet(path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    large = "x" * (50 << 20)
    once = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array([large]))
    many = pa.DictionaryArray.from_arrays(
        pa.nulls(20_000_000, pa.int32()).fill_null(0), pa.array(["x" * 1000])
    )
    questions = {
        "dictionary": once,
        "plain": pa.array([large]).take(pa.array([0] * 8)),
        "list": pa.ListArray.from_arrays([0, 20_000_000], many),
    }
    table = pa.table({"question": questions[kind]})
    pq.write_table(
        table,
        path,
        compression="brotli",
        use_dictionary=kind != "plain",
        dictionary_pagesize_limit=1 << 30,
        store_schema=False,
    )


@pytest.mark.parametrize("kind", ["dictionary", "plain", "list"])
def test_a_small_parquet_file_that_holds_gigabytes_is_refused_at_once(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "rows.parquet"
    write_parquet(path, kind)
    assert path.stat().st_size < 10_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    with pytest.raises(DataError, match=r"rows.parquet:1: column question"):
        list(open_file(path, revision="", split="").rows)
    assert time.process_time() - began < 2.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_rows_of_long_values_come_in_small_batches(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from reasondistill.curation.parquet import batch_rows

    path = tmp_path / "rows.parquet"
    texts = [f"{i} " + "wörter, " * 20_000 for i in range(4)]
    table = pa.table({"question": texts * 200, "tags": [["a", "b"]] * 800})
    pq.write_table(table, path)
    with open(path, "rb") as raw:
        assert batch_rows(path, raw, pq.ParquetFile(path).metadata.row_group(0)) < 800
    rows = list(open_file(path, revision="", split="").rows)
    assert [row.fields["question"] for row in rows] == texts * 200
    assert rows[7].fields["tags"] == ["a", "b"] and rows[-1].index == 799


@pytest.mark.parametrize("damage", [5, 20, 60, -9, -30])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, damage: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"question": ["a", "b"] * 50}), path)
    content = bytearray(path.read_bytes())
    content[damage] ^= 0xFF
    path.write_bytes(content)
    try:
        list(open_file(path, revision="", split="").rows)
    except DataError as error:
        assert str(error).startswith(f"{path}:")


def test_a_dataset_folder_with_such_a_file_is_refused_at_once(tmp_path: Path) -> None:
    from reasondistill.curation.rows import open_hub

    write_parquet(tmp_path / "train.parquet", "dictionary")
    with pytest.raises(DataError, match=r"train.parquet:1: column question"):
        open_hub(
            "folder",
            tmp_path,
            config=None,
            split="train",
            revision="x",
            streaming=True,
            trust_remote_code=False,
        )
