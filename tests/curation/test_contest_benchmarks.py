"""The benchmarks of contests and olympiads read rows in the form in which each set is published,
and what rules cannot grade is set aside by name. All rows are made up.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reasondistill.config import Benchmark, load_benchmark, resources
from reasondistill.errors import ConfigError
from reasondistill.grading import GradingPool
from reasondistill.grading.serve.items import grade
from reasondistill.records import Problem, SetAside
from reasondistill.runs import store
from reasondistill.stages.problems import run_benchmark

ARENA: list[dict[str, Any]] = [
    {"problem_idx": 1, "problem": "Find $1+1$.", "answer": "2", "problem_type": ["Algebra"]},
    {"problem_idx": 2, "problem": "Find a half.", "answer": "1/2", "source": "A Contest P2"},
    {"problem_idx": 3, "problem": "Solve it.", "answer": "\\frac{1+\\sqrt{5}}{2}, 3"},
]
OLYMPIC: list[dict[str, Any]] = [
    {"problem": "Find it.", "answer": "$4\\sqrt{3}-1$", "subject": "Geometry", "unique_id": "E-0"},
    {"problem": "Range?", "answer": "$[0,\\frac{3}{2})$", "subject": "Algebra", "unique_id": "E-1"},
    {"problem": "Pairs?", "answer": "$(2,3)$", "subject": "Number Theory", "unique_id": "E-2"},
]
MIXED: list[dict[str, Any]] = [
    {"problem_id": 7, "problem": "A?", "answer": 12, "level": "Level 5", "type": "Algebra"},
    {"problem_id": 9, "problem": "B?", "answer": 0.25, "level": "Level 5", "type": "Algebra"},
    {"problem_id": 11, "problem": "C?", "answer": "(-\\infty,2)", "level": "Level 5", "type": "G"},
]
AMO: list[dict[str, Any]] = [
    {
        "question_id": 1,
        "prompt": "A?",
        "answer": "\\boxed{\\{1, 4\\}}",
        "answer_type": "set",
        "solution": "…",
    },
    {"question_id": 2, "prompt": "B?", "answer": "\\boxed{2^{10}+1}", "answer_type": "number"},
    {"question_id": 3, "prompt": "C?", "answer": "\\boxed{n(n+1)}", "answer_type": "variable"},
    {"question_id": 4, "prompt": "D?", "answer": "all odd $n$", "answer_type": "description"},
]

# The rows of a set; what is right and what is wrong of each that is kept, in other words than its
# gold.
SAID: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str]]]] = {
    **dict.fromkeys(
        ("hmmt_nov25", "brumo25", "smt25", "cmimc25", "apex25", "apex_shortlist25"),
        (ARENA, [("2.0", "3"), ("0.5", "2"), ("3, \\frac{\\sqrt5+1}{2}", "3")]),
    ),
    **dict.fromkeys(
        ("olymmath_easy", "olymmath_hard"),
        (OLYMPIC, [("-1+\\sqrt{48}", "7"), ("0 \\le x < 1.5", "(0,1.5)"), ("(2, 3)", "(3, 2)")]),
    ),
    **dict.fromkeys(
        ("math_perturb_simple", "math_perturb_hard"),
        (MIXED, [("12", "21"), ("\\frac14", "0.2"), ("x<2", "(-\\infty,2]")]),
    ),
    "amo_bench": (AMO, [("4 \\text{ and } 1", "4"), ("1025", "1024"), ("n^2+n", "n^2")]),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1) as opened:
        yield opened


def read_from(name: str, path: Path) -> Benchmark:
    """A shipped benchmark that reads a file in the place of its rows."""
    shipped = load_benchmark(resources.find("benchmarks", name))
    here = {"source": "file", "dataset": str(path), "revision": None, "config": None}
    source = shipped.problems.model_copy(update=here)
    return shipped.model_copy(update={"problems": source, "rows": None})


@pytest.mark.parametrize("name", SAID)
def test_rows_as_they_are_published_are_read_and_graded(
    tmp_path: Path, pool: GradingPool, name: str
) -> None:
    rows, said = SAID[name]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    manifest = run_benchmark(read_from(name, path), tmp_path / "out", pool=pool)
    assert manifest.counts["out"] == len(said) and not manifest.dropped
    problems = list(store.read_records(tmp_path / "out" / "problems.jsonl", Problem))
    for problem, (right, wrong) in zip(problems, said, strict=True):
        assert grade(f"\\boxed{{{right}}}", problem.answer).outcome == "correct", problem.answer
        assert grade(f"\\boxed{{{wrong}}}", problem.answer).outcome == "wrong", problem.answer


IMO = [
    ("1", "3", ""),
    ("2", "$-\\frac{2}{3},0,\\frac{2}{3}$", ""),
    ("3", "$\\left\\lfloor \\log_{2}a\\right\\rfloor +1$.", ""),
    ("4", "$(-\\infty,-4)\\cup (-4,-\\frac{8}{3})$", ""),
    ("5", "$2025^2 a(a-1)$ ", ""),
    ("6", "$g(x)=2x^{3}+c, g(x)=-2x^{3}+c$ ", "gold is a function"),
    ("7", "$f(x, y) = x$", "gold is a function"),
    ("8", "All $n$ that are no powers of two", "gold is a sentence or a family"),
    ("9", "$2^a - 1$ for some $a>0$", "gold is a sentence or a family"),
    ("10", "$\\left\\{ (a,b):ab\\leq e^{3}\\right\\}$", "gold is a condition"),
    ("11", "$x \\in \\mathbb{Q}$", "gold is a condition"),
    ("12", "$1,2,\\ldots, 1235$", "gold is a list with dots"),
]


def test_golds_of_imo_answerbench_that_rules_cannot_grade_are_set_aside_by_their_form(
    tmp_path: Path, pool: GradingPool
) -> None:
    path = tmp_path / "answerbench_v2.csv"
    head = "Problem ID,Problem,Short Answer,Category,Subcategory,Source\n"
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(head)
        for number, gold, _ in IMO:
            row = (
                f"imo-bench-algebra-0{number}",
                f"Find {number}.\n",
                gold,
                "Algebra",
                "Other",
                "A",
            )
            csv.writer(file).writerow(row)
        # As they stand in the edition: a quotation mark is missing, and a list became a date.
        question = "Find all functions $Y: \\mathbb{R} \\backslash\\{0\\} \\rightarrow$ …"
        file.write(f'imo-bench-algebra-036,"{question}\n,$Y(x)=x$\n",Algebra,IMO,A\n')
        lake = "Let $n$ cities lie on the circumference of a circular lake. Find $n$."
        file.write(f"imo-bench-geometry-004,{lake},45752,Geometry,Other,A\n")
    manifest = run_benchmark(read_from("imo_answerbench", path), tmp_path / "out", pool=pool)
    kept = {
        problem.id.rpartition("-0")[2]: problem.answer
        for problem in store.read_records(tmp_path / "out" / "problems.jsonl", Problem)
    }
    assert kept == {number: gold.strip() for number, gold, why in IMO if not why} | {"04": "4, 5"}
    aside = store.read_records(tmp_path / "out" / "set_aside.jsonl", SetAside)
    reasons = {one.id.rpartition("-0")[2]: one.reason for one in aside}
    assert reasons == {number: why for number, _, why in IMO if why} | {"36": "erratum"}
    assert manifest.dropped["gold is a function"] == 2


def test_a_rule_that_sets_golds_aside_is_part_of_what_a_benchmark_is(
    tmp_path: Path, pool: GradingPool
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ARENA), encoding="utf-8")
    whole = read_from("smt25", path).model_dump(by_alias=True, exclude_unset=True)
    first = run_benchmark(read_from("smt25", path), tmp_path / "out", pool=pool)
    rules = {"set_aside": [{"answer": "sqrt", "reason": "a root"}]}
    fewer = run_benchmark(Benchmark.model_validate(whole | rules), tmp_path / "out", pool=pool)
    assert first.fingerprint != fewer.fingerprint and fewer.dropped == {"a root": 1}
    broken = {"set_aside": [{"answer": "(?=x)", "reason": "a look ahead"}]}
    with pytest.raises(ConfigError, match=r"benchmark smt25: set_aside.answer.*RE2"):
        run_benchmark(Benchmark.model_validate(whole | broken), tmp_path / "out", pool=pool)
