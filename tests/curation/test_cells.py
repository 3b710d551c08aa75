"""The type of a column is looked at before a value is: no gold becomes another one unnoticed."""

from __future__ import annotations

import datetime
import decimal
import gzip
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasondistill.config import ProblemSource
from reasondistill.errors import ConfigError, DataError
from reasondistill.records import Problem, SetAside
from reasondistill.stages.problems import read_problems


def entries(path: Path, source: str = "file", **keys: Any) -> list[Problem | SetAside]:
    kind: Any = source
    return list(read_problems(ProblemSource(source=kind, dataset=str(path), **keys)))


def golds(path: Path, source: str = "file", **keys: Any) -> list[str]:
    return [e.answer if isinstance(e, Problem) else e.reason for e in entries(path, source, **keys)]


def parquet(path: Path, answers: Sequence[Any], kind: pa.DataType, **others: Any) -> Path:
    questions = [f"What is {i}?" for i in range(len(answers))]
    table = pa.table({"question": questions, "answer": pa.array(answers, kind), **others})
    pq.write_table(table, path)
    return path


def text_folder(folder: Path, name: str, text: str) -> Path:
    folder.mkdir()
    (folder / name).write_text(text, encoding="utf-8")
    return folder


# ---- Parquet -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "answers", "read"),
    [
        (pa.float32(), [3.14, 0.1, 2.0, None], ["3.14", "0.1", "2", "no answer"]),
        (pa.float16(), [0.1, 3.0], ["0.1", "3"]),
        (pa.float64(), [3.14, 1e300, float("nan")], ["3.14", "1" + "0" * 300, "no answer"]),
        (pa.float64(), [float("inf"), 1.0], ["answer is infinite", "1"]),
        (pa.float32(), [float("-inf"), 1.0], ["answer is infinite", "1"]),
        (pa.decimal128(5, 2), [decimal.Decimal("3.10")], ["3.10"]),
        (pa.int64(), [2**63 - 1], ["9223372036854775807"]),
        (pa.date32(), [datetime.date(2021, 3, 4)], ["2021-03-04"]),
        (pa.dictionary(pa.int8(), pa.string()), ["yes", "no"], ["yes", "no"]),
        (pa.list_(pa.string()), [["3/4", "0.75"]], ['["3/4", "0.75"]']),
    ],
)
def test_a_gold_is_what_its_column_means(
    tmp_path: Path, kind: pa.DataType, answers: list[Any], read: list[str]
) -> None:
    assert golds(parquet(tmp_path / "d.parquet", answers, kind)) == read


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (pa.binary(), b"2"),
        (pa.large_binary(), b"2"),
        (pa.binary(1), b"2"),
        (pa.binary_view(), b"2"),
        (pa.timestamp("s"), datetime.datetime(2021, 3, 4)),
        (pa.time32("s"), datetime.time(12)),
        (pa.duration("s"), datetime.timedelta(1)),
        (pa.list_(pa.binary()), [b"2"]),
    ],
)
def test_a_column_that_is_no_text_is_refused_by_name(
    tmp_path: Path, kind: pa.DataType, answer: Any
) -> None:
    path = parquet(tmp_path / "d.parquet", [answer], kind)
    with pytest.raises(DataError, match=r"d\.parquet:1: answer: is a column of "):
        entries(path)


@pytest.mark.parametrize("key", ["question", "solution"])
def test_any_field_that_becomes_a_text_is_looked_at(tmp_path: Path, key: str) -> None:
    others = {"bytes": pa.array([b"x"], pa.binary())}
    path = parquet(tmp_path / "d.parquet", ["1"], pa.string(), **others)
    with pytest.raises(DataError, match="bytes: is a column of binary"):
        entries(path, **{key: "bytes"})
    assert golds(path) == ["1"]  # a column that nobody names is nobody's business


def test_a_field_inside_a_struct_has_a_type_too(tmp_path: Path) -> None:
    kind = pa.struct([("gold", pa.float32()), ("raw", pa.binary())])
    path = parquet(tmp_path / "d.parquet", [{"gold": 3.14, "raw": b"x"}], kind)
    assert golds(path, answer="answer.gold") == ["3.14"]
    with pytest.raises(DataError, match=r"answer\.raw: is a column of binary"):
        entries(path, answer="answer.raw")


# ---- labels --------------------------------------------------------------------------------------


def labelled(path: Path, rows: list[dict[str, Any]], **features: Any) -> Path:
    import datasets

    features["question"] = datasets.Value("string")
    made = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    path.parent.mkdir(exist_ok=True)
    made.to_parquet(path)
    return path


@pytest.mark.parametrize("source", ["file", "hub"])
def test_a_class_label_is_its_name_and_an_unlabelled_row_has_no_answer(
    tmp_path: Path, source: str
) -> None:
    import datasets

    rows = [{"question": f"Is {i} even?", "answer": label} for i, label in enumerate([0, 1, -1])]
    path = labelled(
        tmp_path / "set" / "train.parquet", rows, answer=datasets.ClassLabel(names=["yes", "no"])
    )
    place = path if source == "file" else path.parent
    assert golds(place, source) == ["yes", "no", "no answer"]


def test_labels_inside_lists_and_structs_have_names(tmp_path: Path) -> None:
    import datasets

    label = datasets.ClassLabel(names=["yes", "no"])
    path = labelled(
        tmp_path / "train.parquet",
        [{"question": "q", "several": [1, 0], "inner": {"label": 1}}],
        several=datasets.List(label),
        inner={"label": label},
    )
    assert golds(path, answer="several") == ['["no", "yes"]']
    assert golds(path, answer="inner.label") == ["no"]


def test_a_label_that_is_a_letter_names_its_option(tmp_path: Path) -> None:
    import datasets

    path = labelled(
        tmp_path / "train.parquet",
        [{"question": "q", "choices": ["1", "2", "3", "4"], "answer": 2}],
        choices=datasets.List(datasets.Value("string")),
        answer=datasets.ClassLabel(names=list("ABCD")),
    )
    assert golds(path, choices="choices") == ["C"]


@pytest.mark.parametrize(
    "features", ["{", "[]", '{"info": 3}', '{"info": {"features": {"answer": {"names": 3}}}}']
)
def test_what_a_stranger_wrote_of_the_columns_does_no_harm(tmp_path: Path, features: str) -> None:
    table = pa.table({"question": ["q"], "answer": [1]})
    pq.write_table(table.replace_schema_metadata({"huggingface": features}), tmp_path / "d.parquet")
    assert golds(tmp_path / "d.parquet") == ["1"]


# ---- JSON and CSV --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1E400", "1E+400"),
        ("1e-400", "1E-400"),
        ("3.14159265358979323846", "3.14159265358979323846"),
        ("43.0", "43"),
        ("-0.0", "0"),
        ("2.50", "2.5"),
        ("1e3", "1000"),
        ("NaN", "no answer"),
        ("Infinity", "answer is infinite"),
        ('"2021-03-04"', "2021-03-04"),
    ],
)
def test_a_number_of_json_is_the_one_that_is_written(
    tmp_path: Path, written: str, read: str
) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(f'{{"question": "q", "answer": {written}}}\n')
    assert golds(path) == [read]


def test_an_exponent_beyond_all_bounds_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"question": "q", "answer": 1}\n{"answer": 1e99999999999999999999}\n')
    with pytest.raises(DataError, match=r"d\.jsonl:2: a number with an exponent"):
        entries(path)


def test_a_csv_folder_is_read_as_the_texts_that_stand_in_it(tmp_path: Path) -> None:
    text = "question,answer\na,007\nb,1.10\nc,\nd,12345678901234567890123\ne,NA\nf,True\n"
    folder = text_folder(tmp_path / "set", "train.csv", text)
    found = ["007", "1.10", "no answer", "12345678901234567890123", "NA", "True"]
    assert golds(folder, "hub") == found
    assert golds(folder / "train.csv") == found


@pytest.mark.parametrize(
    "text",
    [
        ",question,answer\n0,a,007\n",  # as pandas writes its index
        "question,answer,\na,007,\n",
        "question,answer,null\na,007,x\n",
        "question,answer,note,note\na,007,x,y\n",
        "\ufeffquestion,answer\na,007\n",
    ],
)
def test_a_csv_folder_with_odd_names_of_columns_is_read(tmp_path: Path, text: str) -> None:
    assert golds(text_folder(tmp_path / "set", "train.csv", text), "hub") == ["007"]


def test_a_csv_whose_rows_have_more_cells_than_its_head_is_refused(tmp_path: Path) -> None:
    folder = text_folder(tmp_path / "set", "train.csv", "question,answer\na,1,5\nb,2,6\n")
    with pytest.raises(ConfigError, match="Expected 2 fields in line 2, saw 3"):
        entries(folder, "hub")
    with pytest.raises(DataError, match=r"train\.csv:2: more cells than the 2 columns"):
        entries(folder / "train.csv")


def test_a_date_that_a_library_made_of_text_is_refused(tmp_path: Path) -> None:
    row = '{"question": "When?", "answer": "2021-03-04"}\n'
    folder = zipped_folder(tmp_path / "set", row)
    with pytest.raises(DataError, match=r'answer: is a column of timestamp.*source = "file"'):
        entries(folder, "hub")
    folder = text_folder(tmp_path / "plain", "train.jsonl", row)
    assert golds(folder / "train.jsonl") == golds(folder, "hub") == ["2021-03-04"]


# A column of these would be one of doubles, or none at all.
WRITTEN = [
    "12345678901234567890123",
    "9007199254740993",
    "0.5",
    "3.14159265358979323846",
    '"2021-03-04"',
]
ROWS = [f'{{"question": "q{i}", "answer": {WRITTEN[i]}}}' for i in range(len(WRITTEN))]


def zipped_folder(folder: Path, text: str) -> Path:
    """One that the library has to read, since our own readers know no archives."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        archive.writestr("a.jsonl", text)
    return folder


@pytest.mark.parametrize("name", ["train.jsonl", "train.json", "lines.json", "train.jsonl.gz"])
def test_a_folder_of_json_holds_the_numbers_that_are_written(tmp_path: Path, name: str) -> None:
    text = "\n".join(ROWS) + "\n"
    if name == "train.json":
        text = f"[\n {','.join(ROWS)}]"
    folder = text_folder(tmp_path / "set", name, text)
    if name.endswith(".gz"):
        (folder / name).write_bytes(gzip.compress(text.encode()))
    expected = [written.strip('"') for written in WRITTEN]
    assert golds(folder, "hub") == golds(folder / name) == expected
    assert golds(folder, "hub", split="train[1:3]") == expected[1:3]
    with pytest.raises(ConfigError, match=r"has no split trian\. Did you mean train\?"):
        entries(folder, "hub", split="trian")


def test_several_files_of_json_are_one_split_whatever_columns_each_has(tmp_path: Path) -> None:
    folder = text_folder(tmp_path / "set", "train-0.jsonl", f"{ROWS[0]}\n{ROWS[1]}\n")
    (folder / "train-1.jsonl").write_text('{"question": "a", "answer": "x", "level": 3}\n{"ques')
    first = entries(folder, "hub", limit=3)
    assert [entry.id for entry in first] == ["set/train/0", "set/train/1", "set/train/2"]
    with pytest.raises(DataError, match=r"train-1\.jsonl:2: broken JSON"):
        entries(folder, "hub")


DOUBLES = """---
dataset_info:
  features:
  - {name: question, dtype: string}
  - {name: answer, dtype: float64}
---
"""


@pytest.mark.parametrize("kind", ["zip", "card"])
def test_an_integer_that_a_library_may_have_rounded_is_refused_by_name(
    tmp_path: Path, kind: str
) -> None:
    rows = f"{ROWS[2]}\n{ROWS[0]}\n"
    if kind == "zip":
        folder = zipped_folder(tmp_path / "set", rows)
    else:
        folder = text_folder(tmp_path / "set", "train.jsonl", rows)
        (folder / "README.md").write_text(DOUBLES)
    with pytest.raises(DataError, match=r"set:2: answer: 1\.2345678901234568e\+22 is what"):
        entries(folder, "hub")


# ---- twice ---------------------------------------------------------------------------------------


def test_a_wanted_column_or_key_that_is_there_twice_is_refused_by_name(tmp_path: Path) -> None:
    csv = text_folder(tmp_path / "csv", "train.csv", "question,answer,answer\na,1,2\n")
    json = text_folder(tmp_path / "json", "d.jsonl", '{"question":"a","answer":1,"answer":2}\n')
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["question", "answer", "answer"])
    pq.write_table(table, tmp_path / "d.parquet")
    places = [
        (csv / "train.csv", "file", r"train\.csv:1"),
        (csv, "hub", r"train\.csv:1"),
        (json / "d.jsonl", "file", r"d\.jsonl:1"),
        (json, "hub", r"d\.jsonl:1"),
        (tmp_path / "d.parquet", "file", r"d\.parquet:1"),
    ]
    for path, source, where in places:
        with pytest.raises(DataError, match=rf'{where}: .*"answer".*which one is meant'):
            entries(path, source)


def test_what_is_there_twice_and_not_wanted_is_nobodys_business(tmp_path: Path) -> None:
    csv = text_folder(tmp_path / "csv", "d.csv", "question,answer,note,note\na,1,x,y\n")
    json = text_folder(tmp_path / "json", "d.jsonl", '{"question":"a","answer":1,"n":1,"n":2}\n')
    assert golds(csv / "d.csv") == golds(json / "d.jsonl") == ["1"]
