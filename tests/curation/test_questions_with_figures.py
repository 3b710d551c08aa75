"""Problems that need a picture are found, and those that only speak of one are not."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasondistill.config import Benchmark, ProblemSource
from reasondistill.curation.figures import figure_of
from reasondistill.curation.parquet import parquet_rows
from reasondistill.records import Problem, SetAside
from reasondistill.stages.problems import read_problems


@pytest.mark.parametrize(
    "question",
    [
        "What is the area? <image>",
        "<image 1> How many apples are there?",
        "![](images/7.png) What is x?",
        "Find x.\n\\includegraphics[width=3cm]{fig.png}",
        "As shown in the figure, AB is parallel to CD. What is x?",
        "In the figure, ABC is a triangle with AB = 3. What is its area?",
        "The graph below shows the sales of a shop. In which month are they highest?",
        "See figure 3. What is the angle?",
        "Using the diagram on the right, find the length.",
    ],
)
def test_a_question_that_needs_a_picture_is_found(question: str) -> None:
    assert figure_of(question, {})


@pytest.mark.parametrize(
    "question",
    [
        "How many figures does 123 have?",
        "There are 3 people in the picture and 2 leave. How many are left?",
        "Figure out how many apples he has.",
        "Tom draws a figure with 4 sides. How many corners has it?",
        "What is the area in the figure below? [asy] draw((0,0)--(1,1)); [/asy]",
        "Draw the graph of y = x. What is its slope?",
        "Her salary is in the six figures. How many digits is that?",
    ],
)
def test_a_question_that_speaks_of_pictures_is_left_alone(question: str) -> None:
    assert figure_of(question, {}) is None


def test_a_question_that_is_made_to_be_slow_needs_no_picture() -> None:
    # For a pattern that looks to the end of the line from each mark it takes hours.
    assert figure_of("![" * 500_000, {}) is None


def test_a_column_with_a_picture_counts() -> None:
    assert figure_of("What is x?", {"image": {"bytes": b"", "path": "x.png"}}) == "column image"
    assert figure_of("What is x?", {"image": None}) is None


PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
# Whatever a reader would try to decode here is no picture.
A_PICTURE = {"bytes": b"no picture", "path": None}


def reasons(path: Path, source: str = "file", **keys: Any) -> list[str]:
    settings: dict[str, Any] = {"source": source, "dataset": str(path), **keys}
    entries = read_problems(ProblemSource(**settings))
    return [f"{e.reason}: {e.detail}" if isinstance(e, SetAside) else e.answer for e in entries]


@pytest.mark.parametrize("source", ["file", "hub"])
@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (PICTURE, [A_PICTURE, None], None),
        (pa.list_(PICTURE), [[A_PICTURE], []], None),
        (PICTURE, [A_PICTURE, None], {"_type": "Image"}),
        (pa.list_(PICTURE), [[A_PICTURE], None], {"feature": {"_type": "Image"}, "_type": "List"}),
    ],
)
def test_a_row_of_a_parquet_file_needs_the_picture_that_stands_beside_its_question(
    tmp_path: Path, source: str, kind: pa.DataType, values: list[Any], said: Any
) -> None:
    table = pa.table(
        {"question": ["What is x?", "What is y?"], "answer": ["1", "2"]}
        | {"sketch of it": pa.array(values, kind)}
    )
    if said is not None:
        text = {"_type": "Value", "dtype": "string"}
        features = {"question": text, "answer": text, "sketch of it": said}
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    pq.write_table(table, tmp_path / "train.parquet")
    path = tmp_path
    if source == "file":
        path = tmp_path / "train.parquet"
    aside, kept = reasons(path, source)
    assert aside.startswith("needs a figure: 'column sketch of it'") and kept == "2"
    assert reasons(path, source, figures="keep") == ["1", "2"]


def test_a_sound_is_no_picture_and_a_column_that_is_called_so_is_one(tmp_path: Path) -> None:
    columns = {"question": ["What is x?"], "answer": ["1"]}
    sound = pa.table(columns | {"said": pa.array([A_PICTURE], PICTURE)})
    features = {"said": {"_type": "Audio"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(sound.replace_schema_metadata(metadata), tmp_path / "sound.parquet")
    assert reasons(tmp_path / "sound.parquet") == ["1"]
    pq.write_table(pa.table(columns | {"image": ["x.png"]}), tmp_path / "image.parquet")
    (aside,) = reasons(tmp_path / "image.parquet")
    assert "'column image'" in aside


def test_the_bytes_of_a_picture_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = pa.array([{"bytes": os.urandom(1 << 16), "path": "x"}] * 3, PICTURE)
    columns = {"question": list("abc"), "answer": list("123"), "sketch": pictures}
    pq.write_table(pa.table(columns), tmp_path / "d.parquet", use_dictionary=False)
    monkeypatch.setenv("REASONDISTILL_MOST_BATCH_BYTES", "1000")
    read = list(parquet_rows(tmp_path / "d.parquet", ["question", "answer"]))
    assert [row["sketch"] for row in read] == [{"path": "x"}] * 3


def test_such_a_problem_is_set_aside_or_kept_as_the_section_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"question": "Find x in the figure.", "answer": "1"}) + "\n")
    keys: dict[str, Any] = {"source": "file", "dataset": str(path)}
    (aside,) = read_problems(ProblemSource(**keys))
    assert isinstance(aside, SetAside) and aside.reason == "needs a figure"
    assert "'in the figure'" in aside.detail
    with caplog.at_level(logging.WARNING):
        (kept,) = read_problems(ProblemSource(**keys, figures="keep"))
    assert isinstance(kept, Problem) and "needs a figure, perhaps: 1 row" in caplog.text


def test_the_key_is_stored_only_where_it_is_set() -> None:
    source = ProblemSource(source="file", dataset="d.jsonl")
    new = {"figures", "choice_labels", "answer_counts_from"}
    assert not new & set(source.model_dump())
    assert not new & set(Benchmark(name="b", problems=source).model_dump()["problems"])
