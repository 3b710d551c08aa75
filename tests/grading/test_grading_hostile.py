"""No input hangs, kills or floods the grader: each returns within its deadline, in bounded memory,
and the next item is graded as usual.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from draws import draws
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reasondistill.grading import GradeItem, GradingPool
from reasondistill.grading.extract.answer import extract
from reasondistill.grading.serve.pool import _Run  # type: ignore[reportPrivateUsage]
from reasondistill.records import OUTCOMES

DEADLINE_S = 2.0


@pytest.fixture(scope="module", autouse=True)
def held_before() -> float:
    """MiB that this process holds before the first hostile answer."""
    return memory_mib()


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=2, deadline_s=DEADLINE_S) as pool:
        pool.grade_one(GradeItem("warm", r"\boxed{\int_0^1 x dx}", "0.5"))
        yield pool


HOSTILE: dict[str, Callable[[], str]] = {
    "power tower": lambda: r"\boxed{9^{9^{9^9}}}",
    "power tower, plain": lambda: "The answer is 9**9**9**9",
    "factorials": lambda: r"\boxed{(((10!)!)!)!}",
    "huge sum": lambda: r"\boxed{\sum_{k=1}^{100000000} \frac{1}{k^k}}",
    "huge binomial": lambda: r"\boxed{\binom{1000000000}{500000000}}",
    "nested exponentials": lambda: r"\boxed{" + "e^{" * 40 + "1" + "}" * 40 + "}",
    "hard integral": lambda: r"\boxed{\int_0^\infty \frac{x^{99}}{e^{x}-1}\ln(1+x^5) dx}",
    "expansion": lambda: r"\boxed{(a+b+c+d+e)^{80}-1}",
    "10,000-deep roots": lambda: r"\boxed{" + r"\sqrt{" * 10_000 + "2" + "}" * 10_000 + "}",
    "1 MB of braces": lambda: r"\boxed{" + "{" * 500_000 + "}" * 500_000 + "}",
    "boxes never closed": lambda: r"\boxed{" * 100_000,
    "linked boxes": lambda: r"\boxed{1} and " * 5_000 + r"\boxed{2}",
    "looping boxes": lambda: r"\[ \boxed{1 " * 800,
    "500×500 matrix": lambda: (
        r"\boxed{\begin{pmatrix}"
        + r"\\".join("&".join("1" * 500) for _ in range(500))
        + r"\end{pmatrix}}"
    ),
    "million digits": lambda: r"\boxed{" + "7" * 1_000_000 + "}",
    "4,000 blanks": lambda: r"\boxed{1" + " " * 4_000 + "2}",
    "dollars": lambda: "$ " * 20_000,
    "answer is": lambda: "answer is " * 10_000,
    "money": lambda: "$1 " * 30_000,
    "bars": lambda: r"\boxed{" + "|" * 1_000 + "}",
    "fractions of nothing": lambda: r"\boxed{" + r"\frac" * 400 + "}",
    "carets": lambda: r"\boxed{" + "^" * 1_500 + "}",
    "roots of roots": lambda: r"\boxed{" + r"\sqrt " * 400 + "2}",
    "plus-minus": lambda: r"\boxed{" + r"\pm 1" * 20 + "}",
    "units": lambda: r"\boxed{5 " + "a b " * 700 + "}",
    "list of names": lambda: r"\boxed{" + ",".join(f"x_{i}" for i in range(390)) + "}",
    "lone surrogate": lambda: "\\boxed{\ud8006}",
    "NUL and right-to-left": lambda: "\\boxed{\u202e6\x00}",
    "code": lambda: r'\boxed{__import__("os").system("touch /tmp/never")}',
    "lambda": lambda: "The answer is (lambda: 6)()",
    "not a number": lambda: r"\boxed{nan}",
    "huge exponent": lambda: r"\boxed{1.5e400000}",
    "sine of a tower": lambda: r"\boxed{\sin(10^{10^{10}})}",
    "lone surrogates": lambda: "\\boxed{" + "\ud800\udfff" * 5_000 + "}",
    "NUL bytes": lambda: "\\boxed{6" + "\x00" * 100_000 + "}",
    "questions": lambda: "Question: 5\n\n" * 50_000 + "6",
    "bold": lambda: "**a** " * 100_000,
    "formulas": lambda: "$x$ is $y$. " * 80_000,
    "aligned": lambda: r"\begin{aligned}" * 20_000 + "6" + r"\end{aligned}" * 20_000,
    "align, never ended": lambda: r"\begin{align}" + r"x &= 1 \\ " * 20_000,
    "choices": lambda: "option (A) is " * 50_000,
    "unit words": lambda: "The answer is 6 " + "cm " * 50_000,
    "text in text": lambda: r"\boxed{" + r"\text{" * 2_000 + "6" + "}" * 2_000 + "}",
    "question, then blank lines": lambda: "Question #### 6" + "\n" * 60_000,
    "question, then blanks": lambda: "#### 6\nQ" + " " * 60_000,
    "blanks in a formula": lambda: "$6" + " " * 60_000 + "$6$",
    "letters as unit": lambda: r"\boxed{1" + "u" * 200 + "/2004!}",
    "denials": lambda: "The answer isn't 4. " * 5_000,
    "changing words": lambda: "The answer is " + "the square root of " * 20_000 + "25",
    "refusals": lambda: "I cannot say, sorry, " * 20_000,
    "conditions": lambda: "The answer is 5 " + "if n, " * 20_000 + "and 6 otherwise",
    "empty boxes": lambda: r"\boxed{} " * 50_000,
    "blanks in a box": lambda: r"\boxed{" + " " * 200_000 + "2}",
    "labelled boxes": lambda: "".join(rf"(a) \boxed{{{i}}} " for i in range(9, 20_000)),
    "answers behind a box": lambda: r"\boxed{4} " + "if so, the answer is 6. " * 20_000,
    "matrix of powers": lambda: (
        r"\boxed{\begin{pmatrix}"
        + r"\\".join("&".join(f"x^{{{i}}}" for i in range(60)) for _ in range(60))
        + r"\end{pmatrix}}"
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_returns_within_its_deadline_and_is_not_accepted(
    pool: GradingPool, name: str
) -> None:
    text = HOSTILE[name]()
    started = time.monotonic()
    grade = pool.grade_one(GradeItem(name, text, "5"))
    assert time.monotonic() - started < DEADLINE_S + 0.5
    assert grade.outcome in OUTCOMES
    assert grade.outcome != "correct"


@pytest.mark.parametrize(
    "name",
    [
        "power tower",
        "10,000-deep roots",
        "hard integral",
        "500×500 matrix",
        "lone surrogate",
        "blanks in a formula",
    ],
)
def test_a_hostile_gold_is_survived_too(pool: GradingPool, name: str) -> None:
    started = time.monotonic()
    grade = pool.grade_one(GradeItem(name, r"\boxed{x^2+1}", HOSTILE[name]()))
    assert time.monotonic() - started < DEADLINE_S + 0.5
    assert grade.outcome in ("wrong", "undecided")


def memory_mib() -> float:
    """What this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def test_after_all_that_the_pool_still_grades_and_memory_stayed_small(
    pool: GradingPool, held_before: float
) -> None:
    items = [GradeItem(str(i), r"\boxed{\sqrt{8}}", r"2\sqrt{2}") for i in range(20)]
    assert [grade.outcome for _, grade in pool.grade_many(items)] == ["correct"] * 20
    assert (
        memory_mib() - held_before < 100
    )  # what other test files left in this process is not ours to count


def test_a_memory_limit_makes_undecided_not_wrong() -> None:
    item = GradeItem("m", r"\boxed{\sum_{k=1}^{9} k^{3} x^k}", r"\sum_{k=1}^{9} x^k k^{4}")
    with GradingPool(workers=1, deadline_s=30.0, memory_mib=1) as pool:
        grades = [grade for _, grade in pool.grade_many([item, item])]
    assert [grade.outcome for grade in grades] == ["undecided"] * 2
    # What is left of the heap decides where it bites: math-verify's parser takes a want of memory
    # for a text that it cannot read.
    assert {grade.reason for grade in grades} <= {"memory", "not_evaluated"}
    with GradingPool(workers=1, deadline_s=30.0) as pool:
        assert pool.grade_one(item).outcome == "wrong"


def verdicts(workers: int, deadline_s: float = 8.0) -> list[tuple[str, str]]:
    """Outcome and reason of hostile and of ordinary answers."""
    pairs = [(make(), "5") for name, make in HOSTILE.items() if name != "hard integral"]
    pairs += [
        (r"\boxed{\sqrt{25}}", "5"),
        (r"\boxed{\sum_{k=1}^{n} k}", r"\frac{n(n+1)}{2}"),
        (r"\int_0^1 x dx", r"\frac12"),
        ("x>3", r"(3,\infty)"),
    ]
    with GradingPool(workers=workers, deadline_s=deadline_s) as pool:
        return [
            (g.outcome, g.reason)
            for _, g in pool.grade_many(GradeItem(str(i), a, b) for i, (a, b) in enumerate(pairs))
        ]


def test_the_verdicts_are_the_same_with_one_worker_with_eight_and_on_a_busy_machine() -> None:
    alone = verdicts(1)
    assert [outcome for outcome, _ in alone[-4:]] == ["correct"] * 4
    assert verdicts(8) == alone
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        assert verdicts(2) == alone
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_an_answer_is_looked_at_once_however_often_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handed: list[str] = []
    hand = _Run.hand_over

    def counting(run: _Run, worker: Any, slot: Any) -> None:
        handed.append(slot.id)
        hand(run, worker, slot)

    monkeypatch.setattr(_Run, "hand_over", counting)
    with GradingPool(workers=2, deadline_s=1.0) as pool:
        items = [GradeItem(str(i), HOSTILE["hard integral"](), "5") for i in range(50)]
        assert {g.reason for _, g in pool.grade_many(items)} == {"timeout"}
        assert {g.reason for _, g in pool.grade_many(items)} == {"timeout"}
    assert handed == ["0", "0"]  # to each layer once


FRAGMENTS = st.sampled_from(
    [
        *(
            "\\boxed{",
            "}",
            "{",
            "\\frac",
            "\\sqrt",
            "^",
            "_",
            "(",
            ")",
            "[",
            "]",
            "|",
            "1",
            "23",
            ",",
            ".",
            "x",
            "=",
            "<",
            "\\pm",
            "\\cup",
        ),
        *(
            "\\text{",
            " and ",
            "answer is ",
            "$",
            "\\(",
            "\\)",
            "%",
            "!",
            "-",
            "\\begin{pmatrix}",
            "\\end{pmatrix}",
            "\\\\",
            "&",
            "\\{",
            "\\}",
        ),
        *(
            ":",
            "#### ",
            "\n",
            "</think>",
            "e",
            "\\circ",
            "\\sin",
            "\\log",
            "/",
            "*",
            "\\infty",
            "\ud800",
            "½",
            "²",
        ),
    ]
)


@settings(max_examples=draws(80), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FRAGMENTS, max_size=25).map("".join), st.lists(FRAGMENTS, max_size=10).map("".join))
def test_any_text_gets_one_of_the_five_outcomes(
    pool: GradingPool, prediction: str, gold: str
) -> None:
    assert pool.grade_one(GradeItem("p", prediction, gold)).outcome in OUTCOMES


@settings(max_examples=draws(200))
@given(st.text(max_size=300))
def test_extraction_never_raises_and_returns_no_blank_answer(text: str) -> None:
    found = extract(text)
    assert found.text is None or found.text.strip() or found.where == "boxed"
