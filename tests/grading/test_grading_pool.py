"""The worker pool: in order, lazy, killed when over, from any thread; a bad item never hurts its
neighbours.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from reasondistill.errors import ConfigError
from reasondistill.grading import GradeItem, GradingPool
from reasondistill.grading.serve.mothers import Layer

LAYERS: tuple[Layer, ...] = ("structural", "symbolic")

# Two expressions that sympy is known to work on for long, not caught by any static check.
SLOW = r"\boxed{\int_0^\infty \frac{x^{9}}{e^{x}-1}\ln(1+x^5)\arctan(x^3) dx}"


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=2, deadline_s=1.0) as pool:
        pool.grade_one(GradeItem("warm", r"\boxed{\int_0^1 x dx}", "0.5"))
        yield pool


def test_results_come_in_input_order_with_a_slow_item_in_between(pool: GradingPool) -> None:
    items = [GradeItem(str(i), SLOW if i == 3 else rf"\boxed{{{i}}}", "7") for i in range(40)]
    results = list(pool.grade_many(items))
    assert [name for name, _ in results] == [str(i) for i in range(40)]
    assert results[7][1].outcome == "correct"
    assert (results[3][1].outcome, results[3][1].reason) == ("undecided", "timeout")
    assert all(grade.outcome == "wrong" for name, grade in results if name not in {"3", "7"})


def test_an_item_takes_its_deadline_at_most(pool: GradingPool) -> None:
    started = time.monotonic()
    grade = pool.grade_one(GradeItem("slow", SLOW, "1"))
    assert grade.reason == "timeout"
    assert time.monotonic() - started < 1.5


def test_the_input_is_read_lazily_and_in_bounded_steps(pool: GradingPool) -> None:
    read = 0

    def endless() -> Iterator[GradeItem]:
        nonlocal read
        while True:
            read += 1
            yield GradeItem(str(read), r"\boxed{5}", "5")

    results = pool.grade_many(endless())
    assert [next(results)[0] for _ in range(10)] == [str(i) for i in range(1, 11)]
    assert read < 100


@pytest.fixture(scope="module")
def patient_pool() -> Iterator[GradingPool]:
    with GradingPool(workers=2, deadline_s=60.0) as pool:
        yield pool


def test_several_threads_share_a_pool(patient_pool: GradingPool) -> None:
    pool = patient_pool
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        items = [
            GradeItem(f"{number}.{i}", rf"\boxed{{\int_0^{number} x dx}}", str(number * number / 2))
            for i in range(3)
        ]
        found[number] = [f"{name} {grade.outcome}" for name, grade in pool.grade_many(items)]

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert found == {number: [f"{number}.{i} correct" for i in range(3)] for number in (1, 2, 3)}


def test_nested_calls_do_not_wait_for_each_other(patient_pool: GradingPool) -> None:
    pool = patient_pool
    heavy = [GradeItem(str(i), r"\boxed{\int_0^1 x dx}", "0.5") for i in range(4)]
    outer = pool.grade_many(heavy)
    next(outer)
    assert [grade.outcome for _, grade in pool.grade_many(heavy)] == ["correct"] * 4
    assert [grade.outcome for _, grade in outer] == ["correct"] * 3


def test_a_killed_worker_is_replaced_and_its_item_is_undecided() -> None:
    with GradingPool(workers=1, deadline_s=60.0) as pool:
        worker = pool.take_worker("structural")
        os.kill(worker.pid, signal.SIGKILL)
        pool.give_worker(worker)
        hurt = GradeItem("a", r"\boxed{\int_0^1 x dx}", "0.5")
        results = [grade for _, grade in pool.grade_many([hurt, hurt])]
    assert (results[0].outcome, results[0].reason) == ("undecided", "crash")
    assert results[1].outcome == "correct"


def test_a_mother_that_died_is_replaced() -> None:
    with GradingPool(workers=1, deadline_s=60.0) as pool:
        item = GradeItem("a", r"\boxed{\int_0^1 x dx}", "0.5")
        assert pool.grade_one(item).outcome == "correct"
        for layer in LAYERS:
            pool.end_worker(pool.take_worker(layer))
            process = pool._mothers[layer]._process
            assert process is not None
            process.kill()
            process.wait()
        other = GradeItem("b", r"\boxed{\int_0^2 x dx}", "2")
        assert pool.grade_one(other).outcome == "correct"


def test_no_process_is_left_after_close() -> None:
    pool = GradingPool(workers=1, deadline_s=60.0)
    workers = [pool.take_worker(layer) for layer in LAYERS]
    for worker in workers:
        pool.give_worker(worker)
    pool.close()
    time.sleep(0.2)
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, 0)


def test_finish_and_think_decide_before_the_text() -> None:
    cases = {
        "error": (GradeItem("", r"\boxed{5}", "5", finish="error"), "undecided", "engine_error"),
        "open, cut": (
            GradeItem("", "", "5", finish="length", think="open"),
            "truncated",
            "think_not_closed",
        ),
        "open, loop": (
            GradeItem("", "", "5", finish="repetition", think="open"),
            "truncated",
            "think_not_closed",
        ),
        "open, stopped": (GradeItem("", "", "5", think="open"), "no_answer", "think_not_closed"),
        "nothing, cut": (
            GradeItem("", "so we see", "5", finish="length"),
            "truncated",
            "no_answer",
        ),
        "nothing, stopped": (GradeItem("", "", "5"), "no_answer", "no_answer"),
        "half a box, cut": (
            GradeItem("", r"\boxed{5} or \boxed{6", "5", finish="length"),
            "truncated",
            "malformed_box",
        ),
        "empty gold": (GradeItem("", r"\boxed{5}", " "), "undecided", "gold_empty"),
        "answer begun, cut": (
            GradeItem("", "The answer is 5", "5", finish="length"),
            "truncated",
            "no_answer",
        ),
        "answer said, then cut": (
            GradeItem("", "The answer is 5. Let me check tha", "5", finish="length"),
            "correct",
            "equal_value",
        ),
        "answer, then cut": (
            GradeItem("", r"\boxed{5} and then on and", "5", finish="length"),
            "correct",
            "equal_value",
        ),
    }
    with GradingPool(workers=1) as pool:
        found = {name: pool.grade_one(item) for name, (item, _, _) in cases.items()}
    assert {name: (grade.outcome, grade.reason) for name, grade in found.items()} == {
        n: (o, r) for n, (_, o, r) in cases.items()
    }


def test_an_unknown_policy_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="Known: default"):
        GradingPool(policy="no-such")
