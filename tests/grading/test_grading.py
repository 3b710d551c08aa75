"""The grader decides as people do: our own rows of every kind, both argument orders, each
convention by its policy.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reasondistill.errors import ConfigError
from reasondistill.grading import POLICIES, GradeItem, GradingPool, find_policy, grade
from reasondistill.grading.extract.answer import extract

GOLD = Path(__file__).parents[1] / "gold"
SHARED = Path(__file__).parents[3] / "shared"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


CASES = rows(GOLD / "cases.jsonl")


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=2, deadline_s=60.0) as pool:
        yield pool


def outcomes(pool: GradingPool, pairs: list[tuple[str, str]], policy: str = "default") -> list[str]:
    items = (GradeItem(str(i), a, b) for i, (a, b) in enumerate(pairs))
    return [result.outcome for _, result in pool.grade_many(items, policy=policy)]


def test_our_own_rows_of_every_kind_are_decided_as_expected(pool: GradingPool) -> None:
    found = outcomes(pool, [(row["prediction"], row["gold"]) for row in CASES])
    faults = [
        f"{row['id']} {outcome}"
        for row, outcome in zip(CASES, found, strict=True)
        if (outcome == "correct") != row["expected"]
    ]
    assert faults == []


def test_the_order_of_the_arguments_does_not_matter(pool: GradingPool) -> None:
    symmetric = [row for row in CASES if row["kind"] not in ("extract", "mcq", "nothing")]
    there = outcomes(pool, [(row["prediction"], row["gold"]) for row in symmetric])
    back = outcomes(pool, [(row["gold"], row["prediction"]) for row in symmetric])
    assert [
        row["id"]
        for row, a, b in zip(symmetric, there, back, strict=True)
        if (a == "correct") != (b == "correct")
    ] == []


def test_rows_that_independent_testers_invented_are_decided_as_they_say(pool: GradingPool) -> None:
    """7,850 rows, most of them written to break the grader; those that still do are in
    open_cases.jsonl.
    """
    cases = rows(GOLD / "more_cases.jsonl")
    found = outcomes(pool, [(row["prediction"], row["gold"]) for row in cases])
    assert [
        f"{row['id']} {o}"
        for row, o in zip(cases, found, strict=True)
        if (o == "correct") != row["expected"]
    ] == []
    symmetric = [row for row in cases if row.get("symmetric")]
    back = outcomes(pool, [(row["gold"], row["prediction"]) for row in symmetric])
    assert [
        row["id"]
        for row, o in zip(symmetric, back, strict=True)
        if (o == "correct") != row["expected"]
    ] == []


def test_the_open_rows_are_still_open_and_few_of_them_are_false_accepts(pool: GradingPool) -> None:
    """A row that is decided rightly now belongs to more_cases.jsonl."""
    cases = rows(GOLD / "open_cases.jsonl")
    found = outcomes(pool, [(row["prediction"], row["gold"]) for row in cases])
    assert [
        row["id"]
        for row, o in zip(cases, found, strict=True)
        if (o == "correct") == row["expected"]
    ] == []
    assert sum(not row["expected"] for row in cases) <= 25


def test_each_convention_is_reached_by_a_policy(pool: GradingPool) -> None:
    by_policy: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows(GOLD / "conventions.jsonl"):
        by_policy[row["policy"]].append(row)
    assert set(by_policy) == set(POLICIES)
    faults: list[str] = []
    for policy, wanted in by_policy.items():
        found = outcomes(pool, [(row["prediction"], row["gold"]) for row in wanted], policy)
        faults += [
            f"{policy} {row['prediction']}"
            for row, o in zip(wanted, found, strict=True)
            if (o == "correct") != row["expected"]
        ]
    assert faults == []


def test_an_unknown_policy_names_the_nearest_or_all_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean lenient\?"):
        find_policy("lenint")
    with pytest.raises(ConfigError, match="Known: .*evalchemy-string.*lenient"):
        find_policy("own")


@pytest.mark.parametrize(
    ("prediction", "gold", "layer", "reason"),
    [
        (r"\boxed{x + 1}", "x+1", "string", "equal_string"),
        ("0.50", r"\frac12", "exact", "equal_value"),
        ("5 cm", "5 km", "exact", "different_unit"),
        (r"\sqrt{8}", r"2\sqrt2", "structural", "equal_parts"),
        (r"\sum_{k=1}^n k", r"\frac{n(n+1)}{2}", "symbolic", "math_verify"),
        ("x^3+1", r"\int_0^{9^{9^9}} x dx", "static", "gold_power_tower"),
        (r"\frac{1}{0}", "5", "string", "says_nothing"),
    ],
)
def test_a_verdict_names_its_layer_and_reason(
    prediction: str, gold: str, layer: str, reason: str
) -> None:
    found = grade(prediction, gold)
    assert (found.layer, found.reason) == (layer, reason)


@pytest.mark.parametrize(
    ("text", "where", "answer"),
    [
        (r"\boxed{1}, later \boxed{\frac{a}{b}}.", "boxed", r"\frac{a}{b}"),
        (r"\boxed{1} and \boxed{2", "malformed", None),
        ("so\n#### 1,200", "marker", "1,200"),
        ("The answer is $x^2$, as said.", "phrase", "x^2"),
        (r"\frac{3}{4}", "whole", r"\frac{3}{4}"),
        ("We find that $k=3$ is the case here and nothing else.", "formula", "k=3"),
        ("He has 12 apples and 7 pears, that is all I can say here.", "number", "7"),
        ("<think> still thinking \\boxed{3}", "open_think", None),
        (
            "I cannot say what this would be, I am sorry for that.",
            "refusal",
            "I cannot say what this would be, I am sorry for that",
        ),
        ("The answer isn't 42.", "denied", "isn't 42."),
        ("The answer is 42 or 43?", "unread", "42 or 43?"),
    ],
)
def test_extraction_says_where_the_answer_stood(text: str, where: str, answer: str | None) -> None:
    found = extract(text)
    assert (found.where, found.text) == (where, answer)


def test_a_gold_that_says_nothing_is_undecided_not_wrong() -> None:
    assert [grade(r"\boxed{5}", gold).outcome for gold in ("", "nan", "?", "0/0")] == [
        "undecided"
    ] * 4


# ---- other projects' own cases, where the checkout has them beside it ----------------------------


@pytest.mark.skipif(
    not (SHARED / "verify_cases.jsonl").exists(),
    reason="the shared cases are not part of the repository",
)
def test_agreement_with_other_projects_cases(pool: GradingPool) -> None:
    cases = [
        row
        for row in rows(SHARED / "verify_cases.jsonl")
        if not row.get("convention") and row["quality"] in ("test", "ours")
    ]
    found = outcomes(pool, [(row["prediction"], row["gold"]) for row in cases])
    agreed = sum(
        (outcome == "correct") == row["expected"] for row, outcome in zip(cases, found, strict=True)
    )
    accepts = [
        row["id"]
        for row, outcome in zip(cases, found, strict=True)
        if outcome == "correct" and not row["expected"]
    ]
    assert agreed / len(cases) >= 0.97
    assert len(accepts) <= 2, accepts


@pytest.mark.skipif(
    not (SHARED / "benchmarks").exists(),
    reason="the shared benchmarks are not part of the repository",
)
def test_golds_of_olympiadbench_grade_themselves_through_the_structural_layer(
    pool: GradingPool,
) -> None:
    golds = [
        ", ".join(row["final_answer"])
        for row in rows(SHARED / "benchmarks" / "olympiadbench.jsonl")
    ]
    spaced = [gold.replace("\\frac", "\\dfrac").replace(",", " , ") for gold in golds]
    found = outcomes(pool, [(rf"\boxed{{{a}}}", b) for a, b in zip(spaced, golds, strict=True)])
    assert sum(outcome == "correct" for outcome in found) >= 0.99 * len(golds)
