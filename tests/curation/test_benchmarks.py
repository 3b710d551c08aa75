"""A benchmark is what its file says it is, or it is not measured."""

from __future__ import annotations

import csv
import json
import logging
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_problems import DigitPool, write_jsonl

from reasondistill.config import AnswerKind, Benchmark, load_benchmark, resources
from reasondistill.curation.benchmarks import content_of, is_of_kind
from reasondistill.curation.choices import Counting, Options, find_right, shuffled
from reasondistill.errors import ConfigError, DataError
from reasondistill.grading import GradeItem, GradingPool
from reasondistill.grading.serve.items import grade
from reasondistill.records import Problem, SetAside
from reasondistill.runs import store
from reasondistill.stages.problems import (
    equal_texts,
    foresee_benchmark,
    held_out_of,
    normalise_question,
    read_problems,
    run_benchmark,
)

ROWS = [
    {"id": f"q{i}", "question": f"What is {i} + {i},\nfriend?", "answer": 2 * i} for i in range(8)
]


def benchmark(path: Path, **keys: Any) -> Benchmark:
    source = {
        "source": "file",
        "dataset": str(path),
        "name": "sums",
        "id": "id",
        **keys.pop("problems", {}),
    }
    return Benchmark.model_validate({"name": "sums", **keys, "problems": source})


def jsonl(folder: Path, rows: list[dict[str, Any]] = ROWS, name: str = "sums.jsonl") -> Path:
    return write_jsonl(folder / name, rows)


def run(tmp_path: Path, made: Benchmark, **keys: Any) -> store.Manifest:
    return run_benchmark(made, tmp_path / "out", pool=DigitPool(), **keys)


def test_a_data_set_that_cannot_be_read_is_said_of_its_benchmark(tmp_path: Path) -> None:
    lacking = benchmark(tmp_path / "nowhere.jsonl")
    for step in (lambda: run(tmp_path, lacking), lambda: foresee_benchmark(lacking, tmp_path)):
        with pytest.raises(ConfigError, match=r"^benchmark sums: dataset = .*no such file"):
            step()
    with pytest.raises(ConfigError, match=r"^benchmark sums: .*asked"):
        run(tmp_path, benchmark(jsonl(tmp_path), problems={"question": "asked"}))


def content(path: Path) -> str:
    return content_of(read_problems(benchmark(path).problems))


def kept(tmp_path: Path) -> dict[str, str]:
    return {
        p.id.rpartition("/")[2]: p.answer
        for p in store.read_records(tmp_path / "out" / "problems.jsonl", Problem)
    }


def aside(tmp_path: Path) -> list[SetAside]:
    return list(store.read_records(tmp_path / "out" / "set_aside.jsonl", SetAside))


# ---- content -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["json", "csv", "parquet", "other order", "floats", "blanks", "texts with a point"]
)
def test_a_copy_has_the_same_content_whatever_its_format_and_order(
    tmp_path: Path, kind: str
) -> None:
    path, rows = tmp_path / f"copy.{kind}", [dict(row) for row in ROWS]
    if kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        random.Random(3).shuffle(rows)
        for row in rows:
            if kind == "floats":
                row["answer"] = float(row["answer"])
            elif kind == "texts with a point":
                row["answer"] = f"0{row['answer']}.0"
            elif kind == "blanks":
                row["question"] = "  " + row["question"].replace(",\n", ",\r\n  ") + "\n"
        path = jsonl(tmp_path, rows, "copy.jsonl")
    assert content(path) == content(jsonl(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"answer": 5},
        {"answer": 2.5},
        {"question": "What is 1 + 1,\nFriend?"},
        {"question": "What is 1 - 1,\nfriend?"},
    ],
)
def test_another_text_or_answer_is_another_content(tmp_path: Path, change: dict[str, Any]) -> None:
    rows = [dict(row) for row in ROWS]
    rows[1] |= change
    assert content(jsonl(tmp_path, rows, "copy.jsonl")) != content(jsonl(tmp_path))


def test_a_row_that_stands_twice_counts_twice(tmp_path: Path) -> None:
    made = benchmark(jsonl(tmp_path, [*ROWS, ROWS[0]]), rows=9)
    manifest = run(tmp_path, made)
    assert manifest.counts == {"in": 9, "out": 8} and manifest.dropped == {"duplicate question": 1}
    assert manifest.figures["content"] != content(jsonl(tmp_path))


def test_the_content_of_a_file_without_one_is_told_so_that_it_can_be_pinned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        manifest = run(tmp_path, benchmark(jsonl(tmp_path)))
    found = manifest.figures["content"]
    assert found == content(jsonl(tmp_path)) and f'rows = 8, content = "{found}"' in caplog.text
    caplog.clear()
    again = run(tmp_path, benchmark(jsonl(tmp_path), content=found, rows=8))
    assert again == manifest, "to pin what was measured is no other benchmark"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rows": 9}, "rows = 9 expected, 8 found"),
        (
            {"content": "0123456789abcdef"},
            'content = "0123456789abcdef" expected, "[0-9a-f]{16}" found',
        ),
        (
            {"rows": 8, "problems": {"limit": 5}},
            r"rows = 8 expected, 5 found.*limit.*remove its keys `rows` and `content`",
        ),
        (
            {"rows": 8, "problems": {"filter": {"answer": [2, 4]}}},
            r"2 found.*filter.*remove its keys",
        ),
    ],
)
def test_a_set_that_is_not_the_one_of_the_file_is_refused_and_nothing_written(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        run(tmp_path, benchmark(jsonl(tmp_path), **keys))
    assert not (tmp_path / "out").exists()


def test_a_finished_folder_is_held_to_the_file_too(tmp_path: Path) -> None:
    path = jsonl(tmp_path)
    run(tmp_path, benchmark(path))
    with pytest.raises(DataError, match="content"):
        run(tmp_path, benchmark(path, content="0123456789abcdef"))
    assert (
        run(tmp_path, benchmark(path, content="0123456789abcdef"), keep_old=True).status
        == "complete"
    )


def test_what_is_not_measured_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        *ROWS,
        {"id": "x", "question": "How many?", "answer": "many"},
        {"id": "y", "question": "Nothing?", "answer": None},
        ROWS[0],
    ]
    manifest = run(tmp_path, benchmark(jsonl(tmp_path, rows), rows=11))
    assert manifest.counts == {"in": 11, "out": 8}
    assert manifest.dropped == {
        "gold does not grade itself": 1,
        "no answer": 1,
        "duplicate question": 1,
    }
    assert (
        "benchmark sums: 3 of 11 rows are not measured" in caplog.text
        and "no answer (1)" in caplog.text
    )


# ---- errata --------------------------------------------------------------------------------------


def erratum(**keys: Any) -> dict[str, Any]:
    return {"id": "q3", "reason": "3 + 3 = 6", **keys}


def test_an_erratum_replaces_a_gold_or_drops_a_problem_after_the_content_check(
    tmp_path: Path,
) -> None:
    errata = [
        erratum(answer="7", question_starts="What is 3 + 3, friend"),
        erratum(id="q4", drop=True, reason="ill-posed"),
    ]
    manifest = run(
        tmp_path,
        benchmark(jsonl(tmp_path), rows=8, content=content(jsonl(tmp_path)), errata=errata),
    )
    assert kept(tmp_path)["q3"] == "7" and "q4" not in kept(tmp_path)
    assert [(s.id, s.reason, s.detail) for s in aside(tmp_path)] == [
        ("sums/train/q4", "erratum", "ill-posed")
    ]
    assert manifest.dropped == {"erratum": 1} and manifest.figures["corrected"] == 1


def test_an_erratum_may_name_a_row_by_its_place(tmp_path: Path) -> None:
    run(
        tmp_path,
        benchmark(jsonl(tmp_path), errata=[erratum(id="3", answer="7")], problems={"id": None}),
    )
    assert kept(tmp_path)["3"] == "7"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"id": "q99", "answer": "7"}, "erratum 'q99': there is no problem with that id"),
        (
            {"answer": "7", "question_starts": "What is 4"},
            "'What is 4', but sums/train/q3 starts 'What is 3",
        ),
    ],
)
def test_an_erratum_for_another_problem_is_an_error_and_nothing_is_written(
    tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, benchmark(jsonl(tmp_path), errata=[erratum(**wrong)]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"errata": [erratum()]}, "either answer"),
        ({"errata": [erratum(answer="7", drop=True)]}, "either answer"),
        ({"errata": [erratum(answer=" ")]}, "drop = true"),
        ({"errata": [erratum(answer="7"), erratum(drop=True)]}, "two for the problem 'q3'"),
        ({"content": "not hex"}, "content"),
        ({"answer_kind": "letter"}, "answer_kind"),
        ({"row": 8}, "row"),
    ],
)
def test_a_benchmark_file_that_contradicts_itself_is_refused(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        benchmark(jsonl(tmp_path), **keys)


def test_other_errata_are_another_benchmark_and_other_words_are_not(tmp_path: Path) -> None:
    made = benchmark(jsonl(tmp_path), errata=[erratum(answer="7")])
    first = run(tmp_path, made)
    assert (
        run(
            tmp_path,
            benchmark(
                jsonl(tmp_path), errata=[erratum(answer="7", reason="reworded", source="us")]
            ),
        )
        == first
    )
    other = run(tmp_path, benchmark(jsonl(tmp_path), errata=[erratum(answer="8")]))
    assert (
        other.output != first.output
        and "8" in kept(tmp_path).values()
        and "7" not in kept(tmp_path).values()
    )


# ---- kinds of answers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        ("042", {"integer", "number"}),
        ("-3", {"integer", "number"}),
        ("$204$", {"integer", "number"}),
        ("1,234", {"integer", "number"}),
        ("1,23", set[str]()),
        ("3.50", {"number"}),
        (".5", {"number"}),
        ("7e-5", {"number"}),
        ("15%", {"number"}),
        ("3/4", {"number"}),
        ("\\frac{-3}{4}", {"number"}),
        ("x+1", set[str]()),
        ("B", {"choice"}),
        ("(B)", {"choice"}),
        ("K", set[str]()),
        ("9 (apples)", set[str]()),
        ("", set[str]()),
    ],
)
def test_which_kinds_an_answer_is_of(answer: str, kinds: set[AnswerKind]) -> None:
    named: tuple[AnswerKind, ...] = ("integer", "number", "choice")
    assert {kind for kind in named if is_of_kind(answer, kind)} == kinds
    assert is_of_kind(answer, "expression") == (answer != "")


def test_golds_of_another_kind_are_an_error_by_name_unless_an_erratum_mends_them(
    tmp_path: Path,
) -> None:
    rows = [*ROWS, {"id": "half", "question": "What is 1/2?", "answer": "0.5"}]
    with pytest.raises(
        DataError,
        match=r'answer_kind = "integer", but 1 gold answers are not of that kind: '
        r"sums/train/half has '0\.5'",
    ):
        run(tmp_path, benchmark(jsonl(tmp_path, rows), answer_kind="integer"))
    assert not (tmp_path / "out").exists()
    mended = benchmark(
        jsonl(tmp_path, rows),
        answer_kind="integer",
        errata=[{"id": "half", "drop": True, "reason": "no integer"}],
    )
    assert run(tmp_path, mended).counts["out"] == 8


# ---- multiple choice -----------------------------------------------------------------------------

FIELDS = ["right", "wrong 1", "wrong 2", "wrong 3"]
QUIZ = [
    {
        "q": f"Which is {i}?",
        "right": f"{i} m",
        "wrong 1": f"{i + 1} m",
        "wrong 2": f"{i + 2} m",
        "wrong 3": f"{i + 3} m",
    }
    for i in range(200)
]


def quiz(path: Path, **keys: Any) -> Benchmark:
    source = {"id": None, "question": "q", "answer": "right", "choices": FIELDS, **keys}
    return benchmark(path, answer_kind="choice", problems=source)


def only_problems(made: Benchmark) -> list[Problem]:
    return [entry for entry in read_problems(made.problems) if isinstance(entry, Problem)]


def test_options_are_lettered_behind_the_question_and_the_gold_is_the_letter(
    tmp_path: Path,
) -> None:
    read = only_problems(quiz(jsonl(tmp_path, QUIZ)))
    for i, problem in enumerate(read):
        stem, *options = problem.question.replace("\n\n", "\n").split("\n")
        assert stem == f"Which is {i}?" and [option[:3] for option in options] == [
            "A) ",
            "B) ",
            "C) ",
            "D) ",
        ]
        assert f"{problem.answer}) {i} m" in options
    letters = Counter(problem.answer for problem in read)
    assert min(letters[letter] for letter in "ABCD") > 30, "no letter is worth guessing"


def test_the_order_of_options_owes_nothing_to_rows_and_fields_and_all_to_the_seed(
    tmp_path: Path,
) -> None:
    first = {p.question: p.answer for p in only_problems(quiz(jsonl(tmp_path, QUIZ)))}
    turned = {
        p.question: p.answer
        for p in only_problems(quiz(jsonl(tmp_path, QUIZ[::-1]), choices=FIELDS[::-1]))
    }
    assert turned == first
    assert {
        p.question: p.answer for p in only_problems(quiz(jsonl(tmp_path, QUIZ), seed=1))
    } != first
    assert shuffled("q", ["a", "b", "c"], 0, seed=0) == shuffled("q", ["a", "b", "c"], 0, seed=0)


@pytest.mark.parametrize(
    ("answer", "right"), [(1, "B"), ("B", "B"), ("(b)", "B"), ("4 m", "B"), (0, "A")]
)
def test_a_list_of_options_keeps_its_order_and_the_answer_is_a_place_a_letter_or_a_text(
    tmp_path: Path, answer: Any, right: str
) -> None:
    path = jsonl(tmp_path, [{"q": "How far?", "options": ["3 m", "4 m", "5 m"], "right": answer}])
    (read,) = only_problems(quiz(path, choices="options"))
    assert (read.question, read.answer) == ("How far?\n\nA) 3 m\nB) 4 m\nC) 5 m", right)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"options": ["3", "4"], "right": 2}, "none of 2 options"),
        ({"options": ["3", "4"], "right": "D"}, "none of 2 options"),
        ({"options": ["3"], "right": 0}, "1 options"),
        ({"options": ["3", ""], "right": 0}, "empty"),
        ({"options": ["3", "4", "3"], "right": 0}, "twice"),
        ({"options": "3, 4", "right": "3"}, "the options are str, not a list of texts"),
    ],
)
def test_a_row_without_a_choice_is_set_aside(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    rows = [{"q": "Good?", "options": ["yes", "no"], "right": 0}, {"q": "Bad?", **row}]
    (bad,) = [
        e
        for e in read_problems(quiz(jsonl(tmp_path, rows), choices="options").problems)
        if isinstance(e, SetAside)
    ]
    assert bad.reason == "no choice of options" and why in bad.detail


def test_a_text_that_two_options_share_means_none() -> None:
    counting = Counting(None)
    assert find_right(Options(["x", "y", "x"]), "x", counting) == "'x' is none of 3 options"
    assert find_right(Options(["x", "y"]), True, counting) == "'true' is none of 2 options"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"choices": ["wrong 1", "wrong 2"]}, 'one of them the answer \\("right"\\)'),
        ({"choices": ["right"]}, "at least two"),
        ({"answer_after": "####"}, "answer_after"),
    ],
)
def test_choices_that_do_not_hold_the_answer_are_refused(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quiz(jsonl(tmp_path, QUIZ), **keys)


def test_a_field_of_options_that_does_not_exist_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='choices = "wrong 4".*Did you mean wrong'):
        only_problems(quiz(jsonl(tmp_path, QUIZ), choices=["right", "wrong 4"]))


@pytest.mark.parametrize(
    "said",
    [
        "The answer is ({}).",
        "\\boxed{{{}}}",
        "\\boxed{{({})}}",
        "\\boxed{{\\text{{{}}}}}",
        "ANSWER: {}",
        "\\boxed{{{}) 7 m}}",
    ],
)
def test_a_letter_is_graded_against_the_letter(tmp_path: Path, said: str) -> None:
    problem = only_problems(quiz(jsonl(tmp_path, QUIZ)))[7]
    wrong = next(letter for letter in "ABCD" if letter != problem.answer)
    assert grade(said.format(problem.answer), problem.answer).outcome == "correct"
    assert grade(said.format(wrong), problem.answer).outcome == "wrong"


def test_choice_golds_grade_themselves_in_the_real_pool(tmp_path: Path) -> None:
    with GradingPool(workers=1) as pool:
        manifest = run_benchmark(quiz(jsonl(tmp_path, QUIZ[:20])), tmp_path / "out", pool=pool)
        assert manifest.counts == {"in": 20, "out": 20}
        item = GradeItem("a", "I compare the lengths. The answer is (B).", "B")
        assert [graded.outcome for _, graded in pool.grade_many([item])] == ["correct"]


def test_training_is_kept_from_the_question_with_and_without_its_options(tmp_path: Path) -> None:
    problem = only_problems(quiz(jsonl(tmp_path, QUIZ)))[0]
    store.write_records(tmp_path / "out" / "problems.jsonl", [problem])
    (question,) = held_out_of(tmp_path / "out", "quiz")
    assert question == ("quiz", problem.id, problem.question)
    held_out = set(equal_texts([question]))
    assert (
        held_out == {normalise_question("Which is 0?"), normalise_question(problem.question)}
        and len(held_out) == 2
    )


# ---- the pack ------------------------------------------------------------------------------------


def test_a_copy_on_disk_is_held_to_the_shipped_content(tmp_path: Path) -> None:
    shipped = load_benchmark(resources.find("benchmarks", "gsm8k"))
    rows = [{"question": "What is 1 + 1?", "answer": "#### 2"}]
    mine = shipped.model_copy(
        update={
            "problems": shipped.problems.model_copy(
                update={"source": "file", "dataset": str(jsonl(tmp_path, rows))}
            )
        }
    )
    with pytest.raises(DataError, match="rows = 1,319 expected, 1 found; content = "):
        run(tmp_path, mine)


@pytest.mark.parametrize("name", ["gsm_symbolic_12", "gsm_symbolic_30", "gsm_symbolic_demo"])
def test_the_procedural_sets_are_what_their_files_say(tmp_path: Path, name: str) -> None:
    pytest.importorskip("reasoning_gym")
    manifest = run(tmp_path, load_benchmark(resources.find("benchmarks", name)))
    assert manifest.counts["in"] == 300 and manifest.counts["out"] >= 299
