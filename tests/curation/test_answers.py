"""Gold answers that are several: of a list, of several fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_problems import write_jsonl

from reasondistill.config import ProblemSource
from reasondistill.curation.answers import Gold, NoGold, gold_of
from reasondistill.errors import ConfigError
from reasondistill.grading import GradeItem, GradingPool
from reasondistill.stages.problems import read_problems


@pytest.mark.parametrize(
    ("fields", "names", "mark", "gold"),
    [
        ({"a": "7"}, ["a"], None, "7"),
        ({"a": 7.0}, ["a"], None, "7"),
        ({"a": ["34", "68/2"]}, ["a"], None, '["34", "68/2"]'),
        ({"a": ["34", "34"]}, ["a"], None, "34"),
        ({"a": "1/2", "b": 0.5}, ["a", "b"], None, '["1/2", "0.5"]'),
        ({"a": "1/2", "b": None}, ["a", "b"], None, "1/2"),
        ({"a": " ", "b": "x"}, ["a", "b", "missing"], None, "x"),
        ({"a": ["1", "2"], "b": "3"}, ["a", "b"], None, '["1", "2", "3"]'),
        ({"a": "3", "b": "['1', '2', '3']"}, ["a", "b"], None, '["3", "1", "2"]'),
        ({"a": "['1', '2']"}, ["a"], None, "['1', '2']"),
        ({"a": ["so #### 1", "#### one"]}, ["a"], "####", '["1", "one"]'),
        ({"a": "so #### 1", "b": "#### one"}, ["a", "b"], "####", '["1", "one"]'),
        ({"a": "x \\boxed{\\frac12} y"}, ["a"], "\\boxed", "\\frac12"),
    ],
)
def test_answers_are_gathered(
    fields: dict[str, Any], names: list[str], mark: str | None, gold: str
) -> None:
    assert gold_of(fields, names, mark) == Gold(gold)


@pytest.mark.parametrize(
    ("fields", "mark", "reason"),
    [
        ({}, None, "no answer"),
        ({"a": None, "b": ""}, None, "no answer"),
        ({"a": [1, 2]}, None, "answer is not text"),
        ({"a": []}, None, "answer is not text"),
        ({"a": "1", "b": {"c": 1}}, None, "answer is not text"),
        ({"a": float("inf")}, None, "answer is infinite"),
        ({"a": "#### 1", "b": "no mark"}, "####", "no answer mark"),
        ({"a": ["#### 1", "no mark"]}, "####", "no answer mark"),
        ({"a": "so ####  "}, "####", "no answer"),
    ],
)
def test_what_is_no_answer_is_a_fault_of_the_row(
    fields: dict[str, Any], mark: str | None, reason: str
) -> None:
    found = gold_of(fields, ["a", "b"], mark)
    assert isinstance(found, NoGold) and found.reason == reason


def test_any_of_several_fields_is_right_for_the_real_grader(tmp_path: Path) -> None:
    row = {"question": "A half?", "short": "1/2", "long": "0.5 metres", "none": None}
    path = write_jsonl(tmp_path / "d.jsonl", [row])
    keys = {"source": "file", "dataset": str(path), "answer": ["short", "long", "none"]}
    source = ProblemSource.model_validate(keys)
    (problem,) = read_problems(source)
    assert problem.answer == '["1/2", "0.5 metres"]'  # pyright: ignore
    answers = {"\\boxed{1/2}": "correct", "\\boxed{0.5}": "correct", "\\boxed{2}": "wrong"}
    with GradingPool(workers=1) as pool:
        items = [
            GradeItem(id=text, answer_text=text, gold='["1/2", "0.5 metres"]') for text in answers
        ]
        graded = {name: grade.outcome for name, grade in pool.grade_many(items)}
    assert graded == answers


def test_a_field_of_answers_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [{"question": "a?", "answer": "1"}])
    keys = {"source": "file", "dataset": str(path), "answer": ["answer", "answer2"]}
    with pytest.raises(ConfigError, match='answer = "answer2": .*Did you mean answer'):
        list(read_problems(ProblemSource.model_validate(keys)))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"answer": []}, "at least 1 item"),
        ({"answer": ["a", ""]}, "a name in the list is empty"),
        ({"answer": ["a", "b"], "choices": "options"}, "with choices one field"),
    ],
)
def test_a_list_of_answers_that_cannot_be_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProblemSource.model_validate({"source": "file", "dataset": "d.jsonl"} | keys)
