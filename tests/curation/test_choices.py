"""How the answers of multiple choice name their options, and what only a whole source shows."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasondistill.config import ProblemSource
from reasondistill.curation.choices import shuffled
from reasondistill.errors import DataError
from reasondistill.records import Problem, SetAside
from reasondistill.stages.problems import read_problems

FOUR = ["one", "two", "three", "four"]


def read(tmp_path: Path, rows: Sequence[dict[str, Any]], **keys: Any) -> list[Problem | SetAside]:
    path = tmp_path / "d.jsonl"
    lines = [json.dumps({"question": f"Pick {i}"} | row) + "\n" for i, row in enumerate(rows)]
    path.write_text("".join(lines))
    keys = {"choices": "options"} | keys
    return list(read_problems(ProblemSource(source="file", dataset=str(path), **keys)))


def letters(tmp_path: Path, rows: Sequence[dict[str, Any]], **keys: Any) -> list[str]:
    found = read(tmp_path, rows, **keys)
    return [e.answer if isinstance(e, Problem) else f"{e.reason}: {e.detail}" for e in found]


def places(*numbers: Any) -> list[dict[str, Any]]:
    return [{"options": FOUR, "answer": number} for number in numbers]


def test_places_that_are_counted_from_one_are_refused_until_the_section_says_so(
    tmp_path: Path,
) -> None:
    rows = places(1, 2, 3, 4)
    with pytest.raises(DataError, match=r"d\.jsonl: answer: counts the options from 1.*= 1"):
        read(tmp_path, rows)
    assert letters(tmp_path, rows, answer_counts_from=1) == ["A", "B", "C", "D"]


def test_places_that_are_counted_from_zero_are_refused_where_the_section_says_one(
    tmp_path: Path,
) -> None:
    rows = places(0, 1, 2, 3)
    assert letters(tmp_path, rows) == ["A", "B", "C", "D"]
    with pytest.raises(DataError, match="counts the options from 0.*answer_counts_from = 0"):
        read(tmp_path, rows, answer_counts_from=1)


def test_places_that_may_be_counted_either_way_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert letters(tmp_path, places(1, 2)) == ["B", "C"]
    assert "answer: 0 never occurs" in caplog.text and "answer_counts_from" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert letters(tmp_path, places(1.0, 0)) == ["B", "A"]
    assert "answer: counts the options from 0" in caplog.text


def test_numbers_that_are_the_texts_of_other_options_are_refused_until_the_section_says_so(
    tmp_path: Path,
) -> None:
    rows = [{"options": [2, 3, 4, 5], "answer": number} for number in (2, 3, 3, 2)]
    with pytest.raises(DataError, match="holds 4 numbers, of which 4 are the text of another"):
        read(tmp_path, rows)
    assert letters(tmp_path, rows, answer_counts_from=0) == ["C", "D", "D", "C"]
    now_and_then = [*places(0, 1), {"options": ["1", "0"], "answer": 1}]
    assert letters(tmp_path, now_and_then) == ["A", "B", "B"]


def test_a_place_counts_with_labels_too_where_the_section_says_so(tmp_path: Path) -> None:
    rows = [{"options": {"A": "x", "B": "y"}, "answer": place} for place in (0, "1", "A")]
    assert letters(tmp_path, rows, answer_counts_from=0) == ["A", "B", "A"]
    assert "'0' is none of 2 options" in letters(tmp_path, rows)[0]


def test_a_text_of_digits_that_names_nothing_says_what_would_make_it_a_place(
    tmp_path: Path,
) -> None:
    (found,) = letters(tmp_path, places("3"))
    assert "'3' is none of 4 options; answer_counts_from = 0 or 1 says" in found
    assert letters(tmp_path, places("3"), answer_counts_from=0) == ["D"]


def test_a_place_of_thousands_of_digits_is_none(tmp_path: Path) -> None:
    for keys in ({}, {"answer_counts_from": 0}):
        (found,) = letters(tmp_path, places("1" * 5_000), **keys)
        assert "is none of 4 options" in found and "4,940 characters more" in found


def test_a_map_of_parquet_is_refused_by_name(tmp_path: Path) -> None:
    options = pa.array([[("A", "x"), ("B", "y")]], pa.map_(pa.string(), pa.string()))
    table = pa.table({"question": ["q"], "options": options, "answer": ["B"]})
    pq.write_table(table, tmp_path / "d.parquet")
    source = ProblemSource(source="file", dataset=str(tmp_path / "d.parquet"), choices="options")
    with pytest.raises(DataError, match=r"options: is a column of map<string, .*: write a struct"):
        list(read_problems(source))


def test_an_option_that_is_made_to_be_slow_is_none_of_those_that_mean_others() -> None:
    # For a pattern that looks to the end from each word it takes hours.
    slow = "all " * 200_000
    order, _ = shuffled("Which?", [slow, "all of the above"], 0, seed=0)
    assert order == [slow, "all of the above"]


def test_a_label_counts_before_the_text_of_another_option(tmp_path: Path) -> None:
    row = {
        "options": {"text": ["16", "2", "3", "4"], "label": ["1", "2", "3", "4"]},
        "answer": "2",
    }
    assert letters(tmp_path, [row], choices="options.text") == ["B"]
    assert letters(tmp_path, [row]) == ["B"]
    flat = {"options": ["4", "3", "1", "2"], "names": ["1", "2", "3", "4"], "answer": "2"}
    assert letters(tmp_path, [flat], choice_labels="names") == ["B"]
    assert letters(tmp_path, [flat]) == ["D"]  # nothing says that there are labels


def test_numbers_that_are_texts_here_and_places_there_are_refused(tmp_path: Path) -> None:
    rows = [
        {"options": ["16", "2", "3", "4"], "answer": "2"},
        {"options": FOUR, "answer": "1"},
    ]
    with pytest.raises(DataError, match=r"answer: holds numbers .* 1 rows, and in 1 can only be"):
        read(tmp_path, rows)
    assert letters(tmp_path, rows, answer_counts_from=1) == ["B", "A"]


def test_one_number_that_is_no_option_among_many_that_are_is_dirt(tmp_path: Path) -> None:
    rows = [{"options": ["1", "2", "3", "4"], "answer": "2"}] * 20
    rows = [{"question": f"Number {i}?"} | row for i, row in enumerate(rows)]
    found = letters(tmp_path, [*rows, {"options": ["7", "8"], "answer": "1"}])
    assert found[:20] == ["B"] * 20 and "'1' is none of 2 options" in found[20]


def test_an_answer_that_names_two_options_names_none(tmp_path: Path) -> None:
    (found,) = letters(tmp_path, [{"options": ["B", "A"], "answer": "A"}])
    assert "'A' is the letter of one option and the text of another" in found
    assert letters(tmp_path, [{"options": ["A", "B"], "answer": "B"}]) == ["B"]


@pytest.mark.parametrize(
    ("options", "answer", "letter"),
    [
        ({"A": "x", "B": "y", "C": "z"}, "B", "B"),
        ({"C": "z", "A": "x", "B": "y"}, "C", "C"),
        ({"A": "x", "B": "y", "C": None}, "y", "B"),
        ({"a": "x", "b": "y"}, "b", "B"),
        ({"1": "5", "2": "1"}, "1", "A"),
        ([{"label": "A", "text": "x"}, {"label": "B", "text": "y"}], "B", "B"),
        ([{"key": "1", "text": "x"}, {"key": "2", "text": "y"}], "2", "B"),
    ],
)
def test_options_by_label_are_read(tmp_path: Path, options: Any, answer: str, letter: str) -> None:
    assert letters(tmp_path, [{"options": options, "answer": answer}]) == [letter]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("x, y", "options: the options are str, not a list of texts"),
        ([{"name": "x"}, {"name": "y"}], "options: an option is a mapping of name; want texts"),
        ([["x"], ["y"]], "options: an option is a list or mapping"),
        ({"text": ["x", "y"], "label": ["A", "A"]}, "no two alike"),
        ({"text": ["x", "y"], "label": ["A"]}, "1 labels of 2 options"),
    ],
)
def test_what_are_no_options_is_said(tmp_path: Path, options: Any, why: str) -> None:
    (found,) = letters(tmp_path, [{"options": options, "answer": "A"}])
    assert found.startswith("no choice of options: ") and why in found


def test_all_of_the_above_stays_below_what_is_above() -> None:
    options = ["copper", "All of the above", "iron", "none of these"]
    for seed in range(20):
        order, right = shuffled("Which?", options, 0, seed=seed)
        assert set(order[:2]) == {"copper", "iron"} and order[right] == "copper"
    orders = {tuple(shuffled("Which?", options, 0, seed=seed)[0]) for seed in range(20)}
    assert len(orders) > 2


def test_options_that_name_letters_are_told_where_they_are_shuffled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"right": "copper", "x": "iron", "y": "Both A and B"}
    read(tmp_path, [row], choices=["right", "x", "y"], answer="right")
    assert "an option names others by letter, and they are shuffled: 1 row, first d/" in caplog.text


@pytest.mark.parametrize("key", ["choice_labels", "answer_counts_from"])
def test_a_key_of_listed_options_is_refused_without_them(key: str) -> None:
    value: Any = 1 if key == "answer_counts_from" else "names"
    with pytest.raises(ValueError, match=f"{key}: only where choices is one field"):
        ProblemSource.model_validate({"source": "file", "dataset": "d.jsonl", key: value})
