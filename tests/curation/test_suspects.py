"""Golds under suspicion: samples that agree with each other, and not with the gold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from test_examples import graded, problem

from reasondistill.config import ExampleSettings
from reasondistill.curation.filters.tools import Tools, opened_tools
from reasondistill.curation.suspects import suspect_gold
from reasondistill.grading import GradingPool
from reasondistill.records import Graded, Outcome, SuspectGold

GOLD = problem(72)


@pytest.fixture(scope="module")
def tools() -> Iterator[Tools]:
    with opened_tools(lambda: GradingPool(workers=1), lambda name, revision: len) as opened:
        yield opened


def said(*answers: str | tuple[str | None, Outcome]) -> list[Graded]:
    """Samples with these answers: `72` is correct, another text wrong, else as it says."""
    pairs: list[Graded] = []
    for sample, answer in enumerate(answers):
        if isinstance(answer, str):
            answer = (answer, "correct" if answer == "72" else "wrong")
        extracted, outcome = answer
        pair = graded(72, sample, outcome)
        grade = pair.verdict.grade.model_copy(update={"extracted": extracted})
        pairs.append(replace(pair, verdict=pair.verdict.model_copy(update={"grade": grade})))
    return pairs


def suspect(tools: Tools, pairs: Sequence[Graded], share: float = 0.5) -> SuspectGold | None:
    return suspect_gold(GOLD, pairs, ExampleSettings(suspect_share=share), tools.compare)


def test_what_most_samples_say_stands_against_the_gold(tools: Tools) -> None:
    found = suspect(tools, said("12", "12", "72", "12", ("9", "undecided")))
    assert found == SuspectGold(
        problem_id="d/train/72", gold="72", answer="12", votes=3, n=5, correct=1
    )


def test_samples_agree_by_the_grader_and_not_as_texts(tools: Tools) -> None:
    found = suspect(tools, said("0.5", "\\frac{1}{2}", "1/2", "72"))
    assert found is not None and (found.answer, found.votes) == ("0.5", 3)
    found = suspect(tools, said("2\\sqrt{2}", "\\sqrt{8}", "3"))
    assert found is not None and found.votes == 2  # a worker decides


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        (said(), "no sample"),
        (said("12"), "one sample agrees with nobody"),
        (said("12", "72"), "neither do two that differ"),
        (said("12", "12", "5", "5"), "a tie"),
        (said("12", "12", "72", "72"), "a tie with the gold"),
        (said("12", "12", "72", "72", "72"), "more say the gold"),
        (said("12", "12", "5", "6"), "no more than half agree"),
        (said(*[("12", "undecided")] * 4), "nobody decided that 12 is wrong"),
        (said(*[(None, "truncated")] * 4), "no answers"),
        (said("12", "12", *[(None, "no_answer")] * 3), "silence is no agreement"),
        (said(*["1" * 2_001] * 4), "only a part of the answer is known"),
    ],
)
def test_nothing_is_said_against_a_gold(pairs: list[Graded], why: str, tools: Tools) -> None:
    assert suspect(tools, pairs) is None, why


def test_the_share_is_of_the_samples_that_were_written_and_can_be_set(tools: Tools) -> None:
    pairs = said("12", "12", "5", "6", "7")
    assert suspect(tools, pairs, 0.4) is None
    assert suspect(tools, pairs, 0.3) is not None
    lost = [graded(72, sample, "undecided", finish="error", error="x") for sample in (5, 6, 7)]
    found = suspect(tools, [*said("12", "12", "5"), *lost], 0.6)
    assert found is not None and found.n == 3
    assert suspect(tools, said("12", "12", "12", "5"), 0.99) is None


@pytest.mark.parametrize(
    "answers", [("12", "12", "5", "5"), ("12", "12", "72", "72"), ("12", "12", "72", "72", "72")]
)
def test_a_tie_is_none_however_small_a_share_is_enough(
    answers: tuple[str, ...], tools: Tools
) -> None:
    assert suspect(tools, said(*answers), 0.0) is None
    assert suspect(tools, said(*answers, "12", "12"), 0.0) is not None


def test_a_problem_without_a_gold_has_none_to_doubt(tools: Tools) -> None:
    nameless = GOLD.model_copy(update={"answer": " "})
    pairs = said("12", "12", "12")
    assert suspect_gold(nameless, pairs, ExampleSettings(), tools.compare) is None


def test_many_different_answers_are_compared_a_bounded_number_of_times() -> None:
    asked = 0

    def compare(answer: str, other: str) -> Outcome:
        nonlocal asked
        asked += 1
        return "wrong"

    pairs = said(*(f"x_{number}" for number in range(200)))
    assert suspect_gold(GOLD, pairs, ExampleSettings(), compare) is None
    assert asked <= 16 * 200
