"""The one result of a comparison: three outcomes, none of which passes for a truth value."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from reasondistill.grading.decide.decision import (
    DIFFERENT,
    OPEN,
    SAME,
    Decision,
    all_of,
    best_of,
    different,
    same_if,
)
from reasondistill.grading.decide.layers import decide, decide_cheaply
from reasondistill.grading.policies import find_policy

UNREAD = Decision("undecided", "structural", "unread")


def test_a_decision_is_no_truth_value() -> None:
    for decision in (SAME, DIFFERENT, OPEN):
        with pytest.raises(TypeError, match="three outcomes"):
            bool(decision)


def test_an_open_decision_is_undecided_and_another_undecided_one_is_not_open() -> None:
    assert OPEN.is_undecided
    assert OPEN.is_open
    assert UNREAD.is_undecided
    assert not UNREAD.is_open


@pytest.mark.parametrize(
    ("parts", "together"),
    [
        ((), SAME),
        ((SAME, SAME), SAME),
        ((SAME, OPEN), OPEN),
        ((OPEN, UNREAD), UNREAD),
        ((UNREAD, OPEN), UNREAD),
        ((OPEN, DIFFERENT), DIFFERENT),
        ((UNREAD, different("different_unit")), different("different_unit")),
    ],
)
def test_all_parts_are_the_same_or_one_says_why_not(
    parts: tuple[Decision, ...], together: Decision
) -> None:
    assert all_of(parts) == together


def test_nothing_is_compared_behind_a_part_that_differs() -> None:
    def parts() -> Iterator[Decision]:
        yield DIFFERENT
        raise AssertionError("compared though the answer is known")

    assert all_of(parts()) == DIFFERENT


def test_one_right_answer_of_several_is_enough() -> None:
    assert best_of((DIFFERENT, SAME)) == SAME
    assert best_of((DIFFERENT, OPEN)) == OPEN
    assert best_of((DIFFERENT, DIFFERENT)) == DIFFERENT


@pytest.mark.parametrize(
    ("answer", "gold", "reason"),
    [
        ("5 kg", "5 cm", "different_unit"),
        ("1, 2", "1, 3", "missing_element"),
        ("(1, 2)", "[1, 2]", "different_brackets"),
        ("(1, 2)", "(1, 2, 3)", "different_length"),
        (r"2\sqrt{2}", r"3\sqrt{2}", "different_value"),
        ("x < 2", "x < 3", "different_region"),
        ("12:00", "1:00", "different_time"),
    ],
)
def test_a_wrong_answer_says_what_differs(answer: str, gold: str, reason: str) -> None:
    decision = decide(answer, gold, find_policy("default"))
    assert (decision.outcome, decision.reason) == ("wrong", reason)
    assert same_if(False, reason).reason == reason


def test_the_cheap_layer_says_that_another_must_look() -> None:
    assert decide_cheaply(r"\sqrt{8}", r"2\sqrt{2}", find_policy("default")).is_open


def test_light_workers_load_neither_sympy_nor_pydantic() -> None:
    script = (
        "import sys\n"
        "from reasondistill.grading.serve import worker\n"
        "from reasondistill.grading.decide.layers import warm\n"
        "warm('structural')\n"
        "print({'sympy', 'math_verify', 'pydantic', 'numpy', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"
