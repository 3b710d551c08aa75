"""How hard problems are for a model: as a filter of examples, and as a breakdown of scores."""

from __future__ import annotations

from collections import Counter

import pytest

from reasondistill.config import ExampleSettings
from reasondistill.curation.difficulty import pass_rate
from reasondistill.errors import ConfigError
from reasondistill.models.prompts import load_prompt
from reasondistill.records import (
    OUTCOMES,
    Completion,
    Grade,
    Origin,
    Outcome,
    Problem,
    Sampling,
    Trace,
    Verdict,
)
from reasondistill.stages.evals.outcomes import Sheet
from reasondistill.stages.evals.scoring import score_by_difficulty
from reasondistill.stages.examples import make_examples

# By the problem's place: what became of its four samples.
SAMPLES: dict[int, tuple[Outcome, ...]] = {
    0: ("correct", "correct", "correct", "correct"),
    1: ("correct", "wrong", "no_answer", "undecided"),
    2: ("wrong", "truncated", "wrong", "wrong"),
    3: ("correct", "wrong", "correct", "undecided"),
    4: ("undecided", "undecided", "undecided", "undecided"),
}


@pytest.mark.parametrize(("place", "rate"), [(0, 1.0), (1, 1 / 3), (2, 0.0), (3, 2 / 3), (4, None)])
def test_a_pass_rate_is_of_what_was_decided(place: int, rate: float | None) -> None:
    assert pass_rate(SAMPLES[place]) == rate


def problem_of(place: int) -> Problem:
    return Problem(
        id=f"p/train/{place}",
        question=f"What is {place}+1?",
        answer=str(place + 1),
        reference_solution=None,
        origin=Origin(dataset="p", revision="1", split="train", row=place),
    )


def traces_and_verdicts() -> tuple[list[Trace], list[Verdict]]:
    traces: list[Trace] = []
    verdicts: list[Verdict] = []
    for place, outcomes in SAMPLES.items():
        for sample, outcome in enumerate(outcomes):
            name = f"p/train/{place}:{sample}"
            completion = Completion(
                reasoning=None,
                answer_text=f"In way {sample} it is {place + 1}.",
                think="none",
                finish="stop",
                prompt_tokens=5,
                tokens=7,
                seconds=0.1,
            )
            traces.append(
                Trace(
                    id=name,
                    problem_id=f"p/train/{place}",
                    sample=sample,
                    model="m",
                    prompt="question",
                    sampling=Sampling(),
                    key="0" * 16,
                    seed=1,
                    completion=completion,
                )
            )
            grade = Grade(
                outcome=outcome, extracted=None, layer="", reason="", grader="g", seconds=0.0
            )
            verdicts.append(Verdict(trace_id=name, problem_id=f"p/train/{place}", grade=grade))
    return traces, verdicts


def dropped_by(table: dict[str, float]) -> tuple[set[str], Counter[str]]:
    """The problems with examples, and why the other traces were dropped."""
    examples = ExampleSettings(filters={"pass_rate": table}, validation=0)
    problems = [problem_of(place) for place in SAMPLES]
    chosen = make_examples(problems, *traces_and_verdicts(), load_prompt("question"), examples)
    assert len(chosen.kept) + len(chosen.dropped) == 20
    reasons = Counter(one.reason for one in chosen.dropped)
    return {example.problem_id for example in chosen.kept}, reasons


def test_examples_are_made_of_problems_within_a_window_of_pass_rates() -> None:
    kept, reasons = dropped_by({"low": 0.25, "high": 0.75})
    assert kept == {"p/train/1", "p/train/3"}
    assert reasons["pass rate too high"] == 4
    assert reasons["outcome wrong"] + reasons["outcome truncated"] == 6
    everything, _ = dropped_by({})
    assert everything == {"p/train/0", "p/train/1", "p/train/3"}
    only_hard, reasons = dropped_by({"high": 1 / 3})
    assert only_hard == {"p/train/1"} and reasons["pass rate too high"] == 6


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[examples.filters.pass_rate\].* low: larger than"):
        dropped_by({"low": 0.9, "high": 0.1})


def sheet(model: str, outcomes: dict[str, tuple[Outcome, ...]]) -> Sheet:
    made = Sheet.empty(model, "b", list(outcomes), samples=2)
    for row, of_problem in enumerate(outcomes.values()):
        made.correct[row] = [outcome == "correct" for outcome in of_problem]
        made.outcomes[row].update(of_problem)
    return made


def test_scores_are_given_apart_by_how_often_another_model_solved_a_problem() -> None:
    teacher = sheet(
        "teacher",
        {
            "a": ("correct", "correct"),
            "b": ("correct", "wrong"),
            "c": ("wrong", "truncated"),
            "d": ("correct", "undecided"),
            "e": ("undecided", "undecided"),
            "f": ("wrong", "no_answer"),
        },
    )
    right: tuple[Outcome, Outcome] = ("correct", "correct")
    wrong: tuple[Outcome, Outcome] = ("wrong", "wrong")
    student = sheet(
        "student", {"a": right, "b": wrong, "c": ("correct", "wrong"), "d": right, "e": right}
    )
    scores = list(score_by_difficulty(student, teacher))
    assert [(one.part, one.mean, one.n, one.k) for one in scores] == [
        ("difficulty: teacher solved 0 %", 0.5, 1, 2),
        ("difficulty: teacher solved to 50 %", 0.0, 1, 2),
        ("difficulty: teacher solved 100 %", 1.0, 2, 2),
    ]
    assert {one.model for one in scores} == {"student"}
    alike = sheet("student", {"a": right, "d": wrong})
    assert list(score_by_difficulty(alike, teacher)) == []
    assert set(OUTCOMES) >= set(teacher.counts())
