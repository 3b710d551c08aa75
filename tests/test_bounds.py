"""What goes beyond a bound ends in one message within a moment, its memory bounded; what is only
large goes through.
"""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from reasondistill.bounds import BOUNDS, LINE_BYTES
from reasondistill.config import ProblemSource
from reasondistill.config.loading import load_benchmark, load_cluster, load_pipeline
from reasondistill.curation import selection
from reasondistill.curation.parquet import require_bounded
from reasondistill.curation.rows import Row, content_hash, open_file
from reasondistill.errors import ConfigError, DataError, StageError
from reasondistill.foreign_files import read_text
from reasondistill.foreign_json import loads
from reasondistill.grade_file.rows import count_answers, digest_of, read_answers
from reasondistill.grading import GradingPool
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers.scripted import ScriptedSampler
from reasondistill.records import Origin, Problem, SetAside, Trace
from reasondistill.runs.store import (
    read_guarded,
    read_keys,
    read_manifest,
    read_records,
    read_rows,
)
from reasondistill.stages.problems import check_golds, read_problems
from reasondistill.stages.students.strategies import distributed_type

# ---- the bounds themselves -----------------------------------------------------------------------

# Of processors, on any machine: a tenth of it is taken here, and minutes without a bound.
SOON_S = 5.0


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
    "many_tables": "".join(f"[a{i}.b.c]\n" for i in range(200_000)),
    "deep_tables": "".join(f"[a{i}{'.b' * 31}]\n" for i in range(10_000)),
    "lists_of_tables": "[[students]]\n" * 250_000,
    "inline_tables": "".join(f"a{i}={{b={{c={{d=1}}}}}}\n" for i in range(150_000)),
    "keys": "".join(f"a{i}=1\n" for i in range(300_000)),
    "values": "a = [" + "1," * 2_000_000 + "]",
    "comments": "#\n" * 2_000_000,
}


@pytest.mark.parametrize("name", TOML)
def test_a_toml_file_beyond_the_bounds_is_one_message_at_once(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.toml"
    file.write_text(TOML[name])
    for load in (load_pipeline, load_cluster, load_benchmark, lambda path: load_prompt(str(path))):
        began = time.process_time()
        with pytest.raises(ConfigError) as found:
            load(file)
        assert time.process_time() - began < SOON_S
        assert str(found.value).startswith(str(file)) and len(str(found.value)) < 1000


@pytest.mark.parametrize("parts, tables", [(2, 8_000), (31, 1_400)])
def test_a_toml_file_just_within_the_bounds_is_read_soon(
    tmp_path: Path, parts: int, tables: int
) -> None:
    file = tmp_path / "many.toml"
    file.write_text("".join(f"[a{i}{'.b' * parts}]\n" for i in range(tables)))
    began = time.process_time()
    with pytest.raises(ConfigError, match="more faults"):
        load_pipeline(file)
    assert time.process_time() - began < SOON_S


def test_of_many_faults_a_handful_is_told_and_how_many_more_there_are(tmp_path: Path) -> None:
    file = tmp_path / "many.toml"
    file.write_text('name = "x"\n' + "".join(f"unknown{i} = 1\n" for i in range(2000)))
    with pytest.raises(ConfigError) as found:
        load_pipeline(file)
    lines = str(found.value).splitlines()
    assert len(lines) == 6 and lines[-1] == "and 1,995 more faults."


# ---- what is no file -----------------------------------------------------------------------------


@pytest.fixture(params=["pipe", "link", "device", "socket", "folder"])
def no_file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """What stands where a file should; a link leads to a pipe."""
    place = tmp_path / "strange"
    listening = socket.socket(socket.AF_UNIX)
    match request.param:
        case "pipe":
            os.mkfifo(place)
        case "link":
            os.mkfifo(tmp_path / "pipe")
            place.symlink_to("pipe")
        case "device":
            place.symlink_to("/dev/zero")
        case "socket":
            listening.bind(str(place))
        case _:
            place.mkdir()
    yield place
    listening.close()


READERS: dict[str, Callable[[Path], object]] = {
    ".toml": load_pipeline,
    "cluster.toml": load_cluster,
    "benchmark.toml": load_benchmark,
    "prompt.toml": lambda path: load_prompt(str(path)),
    ".jsonl": lambda path: list(open_file(path, revision="", split="").rows),
    ".json": lambda path: list(open_file(path, revision="", split="").rows),
    ".csv": lambda path: list(open_file(path, revision="", split="").rows),
    ".parquet": lambda path: list(open_file(path, revision="", split="").rows),
    "hash": content_hash,
    "answers.jsonl": lambda path: list(read_answers(path)),
    "count.jsonl": count_answers,
    "digest.jsonl": digest_of,
    "traces.jsonl": lambda path: list(read_records(path, Trace)),
    "script.jsonl": lambda path: ScriptedSampler.from_file(path, []),
    "template.jinja": read_text,
    "accelerate.yaml": distributed_type,
    "run.json": lambda path: read_guarded(path, "a run", ""),
    "manifest.json": lambda path: read_manifest(path.parent),
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_by_name_at_once(
    tmp_path: Path, no_file: Path, name: str
) -> None:
    if name == "hash" and no_file.is_dir():
        return
    place = tmp_path / name
    no_file.rename(place)
    began = time.monotonic()
    with pytest.raises((ConfigError, DataError, StageError, IsADirectoryError), match=str(place)):
        READERS[name](place)
    assert time.monotonic() - began < 4 * SOON_S


VERBS = {
    "run": "run pipe",
    "cluster": "run demo --on pipe --dry-run",
    "grade": "grade pipe --out grades.jsonl",
    "matrix": "matrix pipe --out matrix.json",
    "compare": "compare pipe pipe",
    "list": "list prompts",
}


@pytest.mark.parametrize("name", VERBS)
def test_no_verb_waits_for_a_pipe(tmp_path: Path, name: str) -> None:
    (tmp_path / "prompts").mkdir()
    for pipe in ("pipe", "prompts/think.toml"):
        os.mkfifo(tmp_path / pipe)
    done = subprocess.run(
        [sys.executable, "-m", "reasondistill", *VERBS[name].split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr
    assert "pipe" in done.stderr or name == "list"


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
    assert time.process_time() - began < SOON_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_parquet_file_of_very_many_rows_of_nothing_is_refused_at_once(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "nulls.parquet"
    table = pa.table({"question": pa.nulls(1_000_000, pa.string())})
    with pq.ParquetWriter(path, table.schema) as file:
        for _ in range(20):
            file.write_table(table)
    assert path.stat().st_size < 200_000
    began = time.process_time()
    with pytest.raises(DataError, match=r"nulls.parquet:1: 20,000,000 rows in a file of"):
        list(open_file(path, revision="", split="").rows)
    assert time.process_time() - began < SOON_S


@pytest.mark.parametrize("kind", ["text", "category", "struct", "list"])
def test_a_parquet_file_whose_rows_point_at_few_values_is_read_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Texts of 1,000 letters by dictionary; here with a hundredth of the bounds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setenv("REASONDISTILL_MOST_BATCH_BYTES", str(12 << 20))
    monkeypatch.setenv("REASONDISTILL_MOST_UNPACKED_RATIO", "10")
    path = tmp_path / "rows.parquet"
    values = pa.array([str(i) * 200 for i in range(10_000, 10_100)])
    places = pa.array([i % 100 for i in range(100_000)], pa.int32())
    shared = pa.DictionaryArray.from_arrays(places, values)
    columns = {
        "text": shared.dictionary_decode(),
        "category": shared,
        "struct": pa.StructArray.from_arrays([shared], ["text"]),
        "list": pa.ListArray.from_arrays(list(range(100_001)), shared),
    }
    pq.write_table(pa.table({"question": columns[kind]}), path, row_group_size=20_000)
    rows = 0
    with pytest.raises(DataError, match=r"rows.parquet:\d+: the rows up to here unpack"):
        for _ in open_file(path, revision="", split="").rows:
            rows += 1
    assert 9_000 < rows < 12_000


def test_bytes_of_values_that_rows_share_are_those_of_each_row() -> None:
    import pyarrow as pa

    from reasondistill.curation.parquet import unpacked_bytes

    plain = pa.array(["a" * 100, "b" * 100] * 500)
    shared = plain.dictionary_encode()
    assert shared.nbytes < 10_000 < 100_000 < plain.nbytes == unpacked_bytes(plain)
    in_lists = pa.ListArray.from_arrays(list(range(1001)), shared)
    in_struct = pa.StructArray.from_arrays([shared], ["text"])
    for column in (shared, in_lists, in_struct):
        assert abs(unpacked_bytes(column) - plain.nbytes) < 1000


def test_a_csv_of_very_many_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"a{i}" for i in range(20_000)) + "\n" + "x\n" * 1000)
    with pytest.raises(DataError, match=r"wide.csv:1: more than 10,000 columns"):
        list(open_file(path, revision="", split="").rows)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_more_rows_than_any_source_has_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_ROWS", "1000")
    path = tmp_path / f"rows{suffix}"
    text = '{"question": "1 + 1?"}\n' if suffix == ".jsonl" else "1 + 1?\n"
    path.write_text("question\n" * (suffix == ".csv") + text * 1000)
    source = ProblemSource.model_validate({"source": "file", "dataset": str(path), "answer": ""})
    assert len(list(read_problems(source))) == 1000
    with path.open("a") as file:
        file.write(text)
    with pytest.raises(DataError, match=rf"rows{suffix}:1001: more than 1,000 rows"):
        list(read_problems(source))


def test_of_very_many_rows_without_a_gold_only_some_wait() -> None:
    """The pool asks on until it has something to grade."""
    origin = Origin(dataset="d", revision="", split="s", row=0)
    read = 0

    def entries() -> Iterator[SetAside]:
        nonlocal read
        for read in range(100_000):
            yield SetAside(id=str(read), reason="no question", detail="", origin=origin)

    with GradingPool(workers=1) as pool:
        checked = check_golds(entries(), pool)
        next(checked)
        assert read < 25_000
        assert [entry.id for entry in checked] == [str(i) for i in range(1, 100_000)]


def test_rows_in_another_order_are_the_same_however_they_are_sorted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection, "_SORTED_AT_ONCE", 7)
    source = ProblemSource.model_validate(
        {"source": "hub", "dataset": "x", "shuffle": True, "seed": 3}
    )
    rows = [Row(i, {"question": f"{i}?", "answer": "1"}) for i in range(100)]
    got = [row.index for row in selection.selected(source, iter(rows))]
    monkeypatch.setattr(selection, "_SORTED_AT_ONCE", 1000)
    assert got == [row.index for row in selection.selected(source, iter(rows))]
    assert sorted(got) == list(range(100)) != got


def test_rows_of_long_values_come_in_small_batches(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from reasondistill.curation.parquet import batch_rows

    path = tmp_path / "rows.parquet"
    texts = [f"{i} " + "wörter, " * 20_000 for i in range(4)]
    table = pa.table({"question": texts * 200, "tags": [["a", "b"]] * 800})
    pq.write_table(table, path)
    with open(path, "rb") as raw:
        assert batch_rows(path, raw, pq.ParquetFile(path).metadata, 0) < 800
    rows = list(open_file(path, revision="", split="").rows)
    assert [row.fields["question"] for row in rows] == texts * 200
    assert rows[7].fields["tags"] == ["a", "b"] and rows[-1].index == 799


@pytest.mark.parametrize("kind", ["int32", "int64", "float32", "float64", "bool", "decimal"])
def test_padded_numbers_of_honest_rows_are_read_many_at_a_time(kind: str, tmp_path: Path) -> None:
    """As a tokenised set has them: some ids of their own, then one again and again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from reasondistill.curation.parquet import batch_rows

    types = {
        "float32": pa.float32(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "decimal": pa.decimal128(20),
    }
    kind_of_value = types.get(kind, pa.int64() if kind == "int64" else pa.int32())
    numbers = np.arange(1500 * 4096).reshape(1500, 4096) % 100_000
    numbers[:, 100:] = 7
    flat = pa.array(numbers.ravel()).cast(pa.int64())
    values = flat.cast(kind_of_value)
    ids = pa.ListArray.from_arrays(pa.array(np.arange(1501) * 4096, pa.int32()), values)
    path = tmp_path / "padded.parquet"
    questions = [f"{i} + 1?" for i in range(1500)]
    pq.write_table(pa.table({"question": questions, "input_ids": ids}), path)
    with open(path, "rb") as raw:
        assert batch_rows(path, raw, pq.ParquetFile(path).metadata, 0) >= 1000
    rows = open_file(path, revision="", split="").rows
    first = next(rows)
    assert first.fields["question"] == "0 + 1?" and len(first.fields["input_ids"]) == 4096
    require_bounded(path)


def test_very_many_numbers_in_few_bytes_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row that has nearly all of them, so that a mean says nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setenv("REASONDISTILL_MOST_BATCH_BYTES", str(1 << 20))
    monkeypatch.setenv("REASONDISTILL_MOST_UNPACKED_RATIO", "10")
    offsets = pa.array([*range(1000), 2_000_000], pa.int32())
    ids = pa.ListArray.from_arrays(offsets, pa.array(np.zeros(2_000_000, np.int32)))
    path = tmp_path / "one.parquet"
    pq.write_table(pa.table({"question": ids}), path)
    for read in (require_bounded, lambda path: list(open_file(path, revision="", split="").rows)):
        with pytest.raises(DataError, match=r"one.parquet:1: column question"):
            read(path)


def test_columns_that_nobody_names_are_neither_judged_nor_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setenv("REASONDISTILL_MOST_BATCH_BYTES", str(1 << 20))
    monkeypatch.setenv("REASONDISTILL_MOST_UNPACKED_RATIO", "10")
    path = tmp_path / "rows.parquet"
    columns = {
        "question": [f"{i} + 1?" for i in range(1000)],
        "about": [{"gold": str(i + 1), "more": "x" * 20} for i in range(1000)],
        "a.b": [str(i % 3) for i in range(1000)],
        "log": ["y" * 100_000] * 1000,
    }
    pq.write_table(pa.table(columns), path)
    keys = {"source": "file", "dataset": str(path), "answer": "about.gold", "subject": "a.b"}
    problems = [
        entry
        for entry in read_problems(ProblemSource.model_validate(keys))
        if isinstance(entry, Problem)
    ]
    assert len(problems) == 1000
    assert [(p.answer, p.subject) for p in problems[:2]] == [("1", "0"), ("2", "1")]
    with pytest.raises(DataError, match=r"rows.parquet:\d+: "):
        list(read_problems(ProblemSource.model_validate(keys | {"solution": "log"})))
    with pytest.raises(DataError, match=r"rows.parquet:\d+: "):  # no such field: all
        list(read_problems(ProblemSource.model_validate(keys | {"solution": "nowhere"})))


# The place of a byte that is turned, from the end where it is negative.
DAMAGES = {"page": 5, "values": 40, "footer": None, "its length": -8, "end": -1}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_parquet_file_is_named(tmp_path: Path, name: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    table = pa.table({"question": [f"{i} + 1?" for i in range(50)]})
    pq.write_table(table, path, write_page_checksum=True, compression="none")
    content = bytearray(path.read_bytes())
    place = DAMAGES[name]
    if place is None:
        place = -8 - int.from_bytes(content[-8:-4], "little")
    content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(open_file(path, revision="", split="").rows)
    assert str(caught.value).startswith(f"{path}:")


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


def test_the_documents_name_every_bound() -> None:
    text = (Path(__file__).parents[1] / "docs" / "security.md").read_text()
    assert [bound.name for bound in BOUNDS if f"`{bound.name}`" not in text] == []
    for path in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (Path(__file__).parents[1] / path).exists(), path
