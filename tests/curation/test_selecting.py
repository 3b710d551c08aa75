"""Each rule of `[examples] select` against numbers that are worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, log
from typing import Any, cast

import pytest
from test_examples import graded, problem

from reasondistill.config import ExampleSettings, ScoreSettings
from reasondistill.curation.filters import Usable, select
from reasondistill.curation.filters.selecting import chance, jaccard_distance, score_of
from reasondistill.curation.filters.tools import NO_TOOLS
from reasondistill.errors import StageError
from reasondistill.records import Outcome, TraceScore
from reasondistill.stages.examples import decide


def settings(rule: str, k: int = 1, **keys: Any) -> ExampleSettings:
    return ExampleSettings(select=cast(Any, rule), k=k, **keys)


def usable(*scores: float | None, teachers: Sequence[str] = ()) -> list[Usable]:
    several = [Usable(f"p:{n}", 10, n, score=score) for n, score in enumerate(scores)]
    if teachers:
        pairs = zip(several, teachers, strict=True)
        several = [replace(one, teacher=teacher) for one, teacher in pairs]
    return several


def chosen(several: Sequence[Usable], examples: ExampleSettings) -> list[int]:
    return [one.sample for one in select(several, examples).chosen]


# ---- scores --------------------------------------------------------------------------------------

# 4 tokens of ranks 1, 2, 1, 200 (clipped at 100: 104 in all) and 0.5 + 1 + 0.5 + 6 = 8 nats; two
# steps, of 3 tokens with 2 nats and of 1 token with 6.
MEASURED = TraceScore(
    trace_id="p:0",
    tokens=4,
    surprisal=8.0,
    ranks=104,
    step_tokens=(3, 1),
    step_log_probs=(-2.0, -6.0),
    # The teacher gives each token of the first step 0.9, that of the second 0.001.
    teacher_log_probs=(3 * log(0.9), log(0.001)),
)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("rsr", -13.0),  # −104 / 8
        ("gn", -2.0),  # −8 / 4
        ("ln", (-2 / 3 - 6) / 2),
        # Step 1: 0.9 against exp(−2/3) = 0.513; step 2: 0.001 against exp(−6) = 0.0025.
        ("das", 0.5),
    ],
)
def test_a_score_is_what_its_formula_says(rule: Any, expected: float) -> None:
    assert score_of(MEASURED, rule, ScoreSettings()) == pytest.approx(expected)


def test_a_margin_says_by_how_much_the_teacher_must_be_surer() -> None:
    # 0.9 − 0.513 = 0.387.
    assert score_of(MEASURED, "das", ScoreSettings(margin=0.38)) == 0.5
    assert score_of(MEASURED, "das", ScoreSettings(margin=0.39)) == 0.0
    # 0.001 − 0.0025 = −0.0015.
    assert score_of(MEASURED, "das", ScoreSettings(margin=-0.002)) == 1.0


def test_a_text_without_any_surprise_comes_last_by_rank_and_surprise() -> None:
    known_by_heart = MEASURED.model_copy(update={"surprisal": 0.0})
    assert score_of(known_by_heart, "rsr", ScoreSettings()) == -inf


@pytest.mark.parametrize("rule", ["rsr", "gn", "ln", "das"])
def test_what_was_not_measured_has_no_score(rule: Any) -> None:
    assert score_of(TraceScore(trace_id="p:0", fault="no tokens"), rule, ScoreSettings()) is None
    other = TraceScore(trace_id="p:0", tokens=3, surprisal=1.0)
    assert (score_of(other, rule, ScoreSettings()) is None) is (rule != "gn")


def test_the_best_scores_are_taken_and_each_other_trace_says_why_not() -> None:
    several = usable(-3.0, -2.0, None, -4.0)  # rank-surprisal ratios of 3, 2 and 4
    selection = select(several, settings("rsr", k=2))
    assert [one.sample for one in selection.chosen] == [1, 0]
    assert selection.reasons == {"p:2": "select: no score", "p:3": "select: passed over by rsr"}


def test_equal_scores_are_decided_by_the_hash_of_seed_and_trace() -> None:
    several = usable(*[-1.0] * 8)
    firsts: set[int] = set()
    for seed in range(20):
        examples = settings("gn", seed=seed)
        (first,) = chosen(several, examples)
        places = [chance(one, examples) for one in several]
        assert places[first] == min(places)
        assert chosen(several[::-1], examples) == [first]  # in whatever order they come
        firsts.add(first)
    assert len(firsts) > 3


def test_the_best_teacher_is_the_one_with_the_best_mean() -> None:
    # a: (−1 − 5) / 2 = −3; b: (−2 − 3) / 2 = −2.5, although the best trace is a's.
    several = usable(-1.0, -2.0, -5.0, -3.0, None, teachers=["a", "b", "a", "b", "b"])
    selection = select(several, settings("best_teacher", k=1))
    assert [one.sample for one in selection.chosen] == [1]
    assert selection.reasons == {
        "p:0": "select: another teacher is better",
        "p:2": "select: another teacher is better",
        "p:3": "select: passed over by best_teacher",
        "p:4": "select: no score",
    }
    equal = usable(-2.0, -2.0, teachers=["b", "a"])
    assert chosen(equal, settings("best_teacher")) == [1]  # the first by name


# ---- texts and answers ---------------------------------------------------------------------------


def kept(texts: Sequence[str], examples: ExampleSettings) -> list[int]:
    pairs = [graded(1, sample, text=text, reasoning=None) for sample, text in enumerate(texts)]
    return [pair.trace.sample for pair in decide(problem(1), pairs, examples).kept]


def test_diverse_texts_are_those_whose_nearest_neighbour_is_farthest() -> None:
    # Runs of 4 words: 0 and 1 share 1 of 3, the others none: the distances are 2/3, 1 and 1.
    texts = ["a b c d e", "a b c d f", "u v w x y"]
    for seed in range(10):
        assert 2 in kept(texts, settings("diverse", k=2, seed=seed))
    assert sorted(kept(texts, settings("diverse", k=3))) == [0, 1, 2]


def test_distances_are_those_of_runs_of_four_words() -> None:
    import numpy as np

    one = Usable("p:0", 1, 0, runs=np.array([1, 2], np.uint32))
    other = Usable("p:1", 1, 1, runs=np.array([2, 3], np.uint32))
    assert jaccard_distance(one, other) == pytest.approx(2 / 3)
    empty = Usable("p:2", 1, 2, runs=np.array([], np.uint32))
    assert jaccard_distance(empty, empty) == 1


def answered(*answers: str | None, outcome: Outcome = "wrong") -> list[Any]:
    pairs: list[Any] = []
    for sample, answer in enumerate(answers):
        pair = graded(1, sample, outcome)
        grade = pair.verdict.grade.model_copy(update={"extracted": answer})
        verdict = pair.verdict.model_copy(update={"grade": grade})
        pairs.append(replace(pair, verdict=verdict))
    return pairs


def test_the_majority_of_a_problem_is_kept_whatever_it_says() -> None:
    def compare(answer: str, other: str) -> Outcome:
        return "correct" if float(answer) == float(other) else "wrong"

    tools = replace(NO_TOOLS, compare=compare)
    pairs = answered("7", "8", "8.0", None, "7")
    examples = settings("majority", k=4, outcomes=("wrong",))
    decision = decide(problem(1), pairs, examples, None, tools)
    # 7 and 8 have two votes each: 7 came first.
    assert [pair.trace.sample for pair in decision.kept] == [0, 4]
    assert set(decision.reasons.values()) == {"select: not the majority's answer"}
    decision = decide(problem(1), answered(None, None), examples, None, tools)
    assert decision.kept == ()


def test_right_answers_are_one_majority_and_no_grader_is_asked() -> None:
    pairs = answered("1/2", "0.5", outcome="correct")
    decision = decide(problem(1), pairs, settings("majority", k=2))
    assert len(decision.kept) == 2


def test_without_scores_a_rule_that_goes_by_them_says_so() -> None:
    with pytest.raises(StageError, match="nobody has scored d/train/1:0"):
        decide(problem(1), [graded(1, 0)], settings("ln"))


# ---- settings ------------------------------------------------------------------------------------


def test_settings_of_scores_are_written_only_where_there_are_any() -> None:
    assert "scores" not in ExampleSettings(select="rsr").model_dump(mode="json")
    asked = ExampleSettings(select="rsr", scores=ScoreSettings(rank_limit=50))
    assert asked.model_dump(mode="json")["scores"]["rank_limit"] == 50
    assert ExampleSettings.model_validate(asked.model_dump(mode="json")) == asked
