"""A gold that does not grade itself is set aside with what is wrong with it, and what to do."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from reasondistill.config import ProblemSource
from reasondistill.curation.golds import REMEDIES, fault_in_gold, mark_in, text_after
from reasondistill.errors import DataError
from reasondistill.grading import GRADER, GradeItem, GradingPool
from reasondistill.records import Grade, Problem, SetAside
from reasondistill.runs import store
from reasondistill.stages.problems import run_problems

# As data sets have them: GSM8K's whole column, remarks, sentences, cut LaTeX.
GSM8K = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"
    "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### 72"
)
BAD = [
    (GSM8K, "gold is a whole solution"),
    ("18 dollars. She earns 9 * 2 = 18.", "gold is a whole solution"),
    ("Step 1: add 3 and 4. Step 2: 7. Final answer: 7", "gold is a whole solution"),
    ("Let n be an integer. Then n^2 is even.", "gold is a whole solution"),
    ("<think>\n3 + 4\n</think>\n\n7", "gold is a whole solution"),
    ("Natalia sold 72 clips in all because May had half", "gold is a sentence"),
    ("The sum of the first n numbers is n(n+1)/2.", "gold is a sentence"),
    ("The number of ways is 10, or 12 if order matters.", "gold holds two answers"),
    ("See solution", "gold is no answer"),
    ("N/A", "gold is no answer"),
    ("nan", "gold is no answer"),
    ("\\frac{1}{", "gold is broken off"),
    ("$\\frac{1}{2", "gold is broken off"),
]


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1) as pool:
        yield pool


def test_each_kind_of_bad_gold_has_its_own_reason(pool: GradingPool) -> None:
    items = [
        GradeItem(id=str(place), answer_text=f"\\boxed{{{gold}}}", gold=gold)
        for place, (gold, _) in enumerate(BAD)
    ]
    grades = [grade for _, grade in pool.grade_many(items)]
    assert not any(grade.is_correct for grade in grades)
    found = [
        fault_in_gold(gold, grade).reason for (gold, _), grade in zip(BAD, grades, strict=True)
    ]
    assert found == [reason for _, reason in BAD]


@pytest.mark.parametrize(
    ("gold", "mark", "answer"),
    [
        (GSM8K, "####", "72"),
        ("So $x = 2$, hence $\\boxed{\\frac{1}{2}}$.", "\\boxed", "\\frac{1}{2}"),
        ("We add both. The answer is 7", "The answer is", "7"),
        ("Two and two.\nFinal Answer: 4", "Final Answer:", "4"),
    ],
)
def test_the_mark_that_is_named_is_the_one_that_helps(gold: str, mark: str, answer: str) -> None:
    assert mark_in(gold) == mark
    assert text_after(gold, mark) == answer


@pytest.mark.parametrize("gold", ["#### 72", "72 ####", "72", "The answer is 7", "answered in 7"])
def test_without_text_before_and_behind_there_is_no_mark(gold: str) -> None:
    assert mark_in(gold) is None


def write(path: Path, answers: list[str]) -> ProblemSource:
    rows = [{"question": f"How many, {i}?", "answer": text} for i, text in enumerate(answers)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ProblemSource(source="file", dataset=str(path), question="question", answer="answer")


def test_the_stage_says_what_to_do_and_doing_it_helps(
    tmp_path: Path, pool: GradingPool, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [GSM8K, GSM8K.replace("72", "74")]
    source = write(tmp_path / "gsm8k.jsonl", answers)
    with pytest.raises(DataError) as raised:
        run_problems(source, tmp_path / "out", pool=pool)
    said = str(raised.value)
    assert "gold is a whole solution (2)" in said and "behind '####' stands '72'" in said
    assert "answer_after = '####'" in said
    repaired = source.model_copy(update={"answer_after": "####"})
    with caplog.at_level(logging.WARNING):
        manifest = run_problems(repaired, tmp_path / "again", pool=pool)
    assert manifest.counts == {"in": 2, "out": 2} and not manifest.dropped and not caplog.text


def test_counts_add_up_and_a_warning_names_the_remedy_once(
    tmp_path: Path, pool: GradingPool, caplog: pytest.LogCaptureFixture
) -> None:
    source = write(tmp_path / "x.jsonl", ["7", GSM8K, "N/A", "nan", "See solution"])
    with caplog.at_level(logging.WARNING):
        manifest = run_problems(source, tmp_path / "out", pool=pool)
    assert manifest.counts == {"in": 5, "out": 1}
    assert manifest.dropped == {"gold is a whole solution": 1, "gold is no answer": 3}
    assert caplog.text.count(REMEDIES["gold is no answer"]) == 1
    kept = list(store.read_records(tmp_path / "out" / "problems.jsonl", Problem))
    aside = list(store.read_records(tmp_path / "out" / "set_aside.jsonl", SetAside))
    assert [problem.answer for problem in kept] == ["7"]
    assert "altogether in April and May.\\n#### 72" in aside[0].detail
    assert all(len(one.detail) <= 200 for one in aside)


@pytest.mark.parametrize("piece", ["7", "1,", "answer:", "The answer is ", "7 or "])
def test_a_gold_without_end_is_looked_at_in_linear_time(piece: str) -> None:
    # Where each place is compared with each, minutes or hours.
    grade = Grade(
        outcome="undecided",
        extracted="",
        layer="string",
        reason="too_long",
        grader=GRADER,
        seconds=0.0,
    )
    fault = fault_in_gold(piece * 200_000, grade)
    wanted = "gold holds two answers" if "or" in piece else "gold is too much for the checker"
    assert fault.reason == wanted
