"""Files of each kind as people have them: packed, lines in a .json, another delimiter, what is no
text.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from test_problems import from_file, problems

from reasondistill.config import ProblemSource
from reasondistill.errors import ConfigError, DataError, ReasonDistillError
from reasondistill.stages.problems import read_problems

ROWS = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(4)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = "question,answer\n" + "".join(f"{row['question']},{row['answer']}\n" for row in ROWS)
PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.ndjson", LINES),
        ("d.json", LINES),
        ("d.json", f"\n{LINES}\n\n"),
        ("d.json", "\ufeff" + LINES),
        ("d.json", json.dumps(ROWS)),
        ("d.json", json.dumps(ROWS, indent=2)),
        ("d.csv", CSV),
        ("d.csv", CSV.replace("\n", "\r\n")),
        ("D.JSONL", LINES),
    ],
)
@pytest.mark.parametrize("packing", ["", *PACKERS])
def test_a_file_is_read_however_it_is_written_and_packed(
    tmp_path: Path, name: str, content: str, packing: str
) -> None:
    path = tmp_path / (name + packing)
    data = content.encode()
    if packing:
        data = PACKERS[packing](data)
    path.write_bytes(data)
    read = problems(from_file(path))
    stem = name.partition(".")[0]
    assert [(one.id, one.question, one.answer) for one in read] == [
        (f"{stem}/train/{i}", row["question"], row["answer"]) for i, row in enumerate(ROWS)
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.json", '{"rows": []}\n', r"d\.json:1: expected a JSON list of objects, found dict"),
        ("d.json", '{"a": 1}\n[2]\n', r"d\.json:2: broken JSON: Extra data"),
        ("d.json", LINES + "{", r"d\.json:5: broken JSON"),
        ("d.csv", "question;answer\na;1\n", r"d\.csv:1: .* separated by semicolons: question;an"),
        ("d.csv", '"question";"answer"\n"a";"1"\n', r"d\.csv:1: .* separated by semicolons"),
        ("d.csv", "answer\tquestion\n1\ta\n", r"d\.csv:1: .* separated by tabs: answer\\tquestion"),
        ("d.csv", "id|question|answer\n1|a|1\n", r"d\.csv:1: .* separated by bars"),
        ("d.csv", "question;answer,unit\na;1,m\n", r"d\.csv:1: .* separated by semicolons"),
        ("d.jsonl", '{"question": "a", "answer": %s}\n' % ("9" * 5_000), r"d\.jsonl:1: an integer"),
        (
            "d.json",
            '[\n{"question": "a", "answer": 1},\n{"question": "b", "answer": %s}]' % ("9" * 5_000),
            r"d\.json:3: an integer with more digits",
        ),
        ("d.jsonl", "\x1f\x8b\x08\x00", r"d\.jsonl:1: "),
    ],
)
def test_what_is_not_what_its_name_says_is_one_error_with_its_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content.encode())
    with pytest.raises(DataError, match=message):
        list(read_problems(from_file(tmp_path / name)))


def test_commas_in_a_header_of_other_signs_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("question,answer,a;b|c\nWhat is 1 + 1?,2,x\n")
    assert [one.answer for one in problems(from_file(tmp_path / "d.csv"))] == ["2"]


@pytest.mark.parametrize("kind", ["binary", "struct", "list"])
def test_bytes_in_a_column_have_a_place(tmp_path: Path, kind: str) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    answer: Any = pa.array([b"2"], pa.binary())
    named = "answer"
    if kind == "struct":
        answer, named = pa.array([{"bytes": b"2"}]), "answer.bytes"
    elif kind == "list":
        answer = pa.array([[b"2"]])
    pq.write_table(pa.table({"question": ["a"], "answer": answer}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match=rf"d\.parquet:1: {named}: is a column of .*bytes"):
        list(read_problems(from_file(tmp_path / "d.parquet", answer=named)))
    with pytest.raises(DataError, match=rf"{tmp_path.name}:1: {named}: is a column of"):
        keys = {"source": "hub", "dataset": str(tmp_path), "answer": named}
        list(read_problems(ProblemSource.model_validate(keys)))


@pytest.mark.parametrize("packing", PACKERS)
def test_a_packed_file_that_is_damaged_or_a_bomb_is_one_error(
    tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"d.jsonl{packing}"
    whole = PACKERS[packing](LINES.encode() * 50)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"d\.jsonl.*: cannot be unpacked"):
        list(read_problems(from_file(path)))
    path.write_bytes(LINES.encode())
    with pytest.raises(DataError, match=r"d\.jsonl.*: cannot be unpacked"):
        list(read_problems(from_file(path)))
    monkeypatch.setenv("REASONDISTILL_MOST_BATCH_BYTES", "100000")
    path.write_bytes(PACKERS[packing](b"\n" * 20_000_000))
    with pytest.raises(DataError, match="unpack to more than"):
        list(read_problems(from_file(path)))


def test_a_bomb_in_one_line_is_refused_before_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_LINE_BYTES", "1000")
    path = tmp_path / "d.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"question": "' + b"a" * 100_000))
    with pytest.raises(DataError, match=r"d\.jsonl\.gz:1: a line beyond"):
        list(read_problems(from_file(path)))


@pytest.mark.parametrize("name", ["d.parquet.gz", "d.gz", "d.tar.gz", "d.txt"])
def test_what_no_reader_takes_is_refused_with_what_is_known(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"cannot read .*Known: \.jsonl, \.ndjson"):
        list(read_problems(from_file(tmp_path / name)))


def test_a_part_of_a_split_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(LINES)
    with pytest.raises(ConfigError, match=r'split = "train\[:2\]".*Use limit'):
        list(read_problems(from_file(tmp_path / "d.jsonl", split="train[:2]")))


# ---- parts of splits -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for split, first in (("train", 0), ("test", 100)):
        rows = [{"question": f"Of {split}: {i}?", "answer": i} for i in range(first, first + 10)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "set" / f"{split}.jsonl").write_text(lines)
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("split", "answers"),
    [
        ("train[:2]", [0, 1]),
        ("train[3:5]", [3, 4]),
        ("train[8:]", [8, 9]),
        ("train[:]", range(10)),
        ("train[-2:]", [8, 9]),
        ("train[:-8]", [0, 1]),
        ("train[:20%]", [0, 1]),
        ("train[90%:]", [9]),
        ("train[:50]", range(10)),
        ("train[:2]+test[1:3]", [0, 1, 101, 102]),
        ("test + train[:1]", [*range(100, 110), 0]),
    ],
)
def test_a_part_of_a_split_of_a_folder_is_read(
    folder: Path, split: str, answers: list[int]
) -> None:
    source = ProblemSource(source="hub", dataset=str(folder), split=split)
    read = problems(source)
    assert [one.answer for one in read] == [str(answer) for answer in answers]
    assert [one.origin.row for one in read] == list(range(len(read)))


@pytest.mark.parametrize("split", ["train[", "train[a:b]", "train[:2]x", "[:2]", "train[:2][:3]"])
def test_what_is_no_part_of_a_split_is_a_config_error(folder: Path, split: str) -> None:
    source = ProblemSource(source="hub", dataset=str(folder), split=split)
    with pytest.raises(ConfigError, match="split"):
        list(read_problems(source))


@pytest.mark.parametrize("split", ["train[5:5]", "train[7:3]"])
def test_a_part_without_rows_is_said(folder: Path, split: str) -> None:
    source = ProblemSource(source="hub", dataset=str(folder), split=split)
    with pytest.raises(ReasonDistillError, match="no rows"):
        list(read_problems(source))


def test_another_delimiter_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("question;answer\nWhat is 1 + 1, please?;2\n")
    source = ProblemSource(source="hub", dataset=str(tmp_path))
    with pytest.raises(DataError, match=r"train\.csv:1: .* separated by semicolons"):
        list(read_problems(source))
