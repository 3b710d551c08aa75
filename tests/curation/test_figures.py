"""Problems that need a picture are found, and those that only speak of one are not."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from reasondistill.config import Benchmark, ProblemSource
from reasondistill.curation.figures import figure_of
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
