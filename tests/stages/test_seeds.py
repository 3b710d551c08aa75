"""Students of several seeds, taken together: what one counts by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import fake_run

from reasondistill.config import Cluster, load_pipeline, resources
from reasondistill.errors import StageError
from reasondistill.grading import GradingPool
from reasondistill.pipeline import Run
from reasondistill.pipeline.measured import baselines
from reasondistill.stages import evals
from reasondistill.stages.evals.comparing import adjusted_in_families
from reasondistill.stages.evals.outcomes import Sheet
from reasondistill.stages.evals.seeds import grouped, pool_seeds
from reasondistill.statistics import mean_interval, paired_difference
from reasondistill.statistics.several import holm

GROUPS = {"kd": ("kd-seed0", "kd-seed1"), "sft": ("sft-seed0", "sft-seed1")}
# Rows are problems; one sample each. kd: 4 and 2 of 6, sft: 1 and 2, the teacher: 6.
ANSWERS = {
    "kd-seed0": [1, 1, 1, 1, 0, 0],
    "kd-seed1": [1, 1, 0, 0, 0, 0],
    "sft-seed0": [1, 0, 0, 0, 0, 0],
    "sft-seed1": [1, 0, 0, 0, 1, 0],
    "teacher": [1, 1, 1, 1, 1, 1],
    "alone": [0, 0, 1, 0, 0, 0],
}


def sheet(model: str) -> Sheet:
    correct = np.array(ANSWERS[model], np.bool_)[:, None]
    made = Sheet.empty(model, "b", "pqrstu", 1)
    made.correct[:], made.tokens[:] = correct, 10
    for row, is_right in zip(made.outcomes, correct[:, 0].tolist(), strict=True):
        row["correct" if is_right else "wrong"] += 1
    return made


SHEETS = {("b", model): sheet(model) for model in ANSWERS}
COMPARED = {
    "kd-seed0": ["sft-seed0", "teacher"],
    "kd-seed1": ["sft-seed1", "teacher"],
    "sft-seed0": ["teacher"],
    "sft-seed1": ["teacher"],
    "alone": ["teacher", "sft-seed0", "sft-seed1"],
}


def test_a_groups_score_is_the_mean_over_all_samples_of_all_its_seeds() -> None:
    found = pool_seeds(SHEETS, GROUPS, {})
    scores = {row.model: row for row in found.scores}
    assert set(scores) == {"kd", "sft"}
    assert scores["kd"].mean == pytest.approx(6 / 12) and scores["sft"].mean == pytest.approx(
        3 / 12
    )
    side_by_side = np.array([ANSWERS["kd-seed0"], ANSWERS["kd-seed1"]]).T.astype(bool)
    by_hand = mean_interval(side_by_side)
    assert (scores["kd"].low, scores["kd"].high) == (by_hand.low, by_hand.high)
    assert (scores["kd"].n, scores["kd"].k) == (6, 2)
    assert found.outcomes["b"]["kd"]["correct"] == 0.5 and found.tokens["b"]["kd"] == 10


def test_the_spread_over_seeds_stands_beside_the_interval() -> None:
    spread = {row.model: row for row in pool_seeds(SHEETS, GROUPS, {}).spread}
    assert spread["kd"].seeds == {
        "kd-seed0": pytest.approx(4 / 6),
        "kd-seed1": pytest.approx(2 / 6),
    }
    # Two values a apart have the sample deviation a / √2.
    assert spread["kd"].deviation == pytest.approx((2 / 6) / 2**0.5)
    assert (spread["kd"].low, spread["kd"].high, spread["kd"].mean) == pytest.approx(
        (2 / 6, 4 / 6, 0.5)
    )


def test_seeds_are_compared_as_their_groups_in_the_families_of_baseline_and_model() -> None:
    rows = pool_seeds(SHEETS, GROUPS, COMPARED).differences
    assert [(row.model, row.baseline) for row in rows] == [
        ("kd", "sft"),
        ("kd", "teacher"),
        ("sft", "teacher"),
        ("alone", "teacher"),
        ("alone", "sft"),
    ]
    found = {(row.model, row.baseline): row for row in rows}
    assert found["kd", "sft"].mean == pytest.approx(3 / 12) and found[
        "kd", "teacher"
    ].mean == pytest.approx(-6 / 12)
    against = [("kd", "teacher"), ("sft", "teacher"), ("alone", "teacher")]
    for pair in against:
        row = found[pair]
        of_model = [other for other in found if other[0] == row.model]
        by_family = []
        for family in (against, of_model):
            adjusted = holm([found[names].p_value for names in family])
            by_family.append(float(adjusted[family.index(pair)]))
        assert row.p_adjusted == pytest.approx(max(by_family))
    assert max(found[pair].p_adjusted / found[pair].p_value for pair in against) == pytest.approx(3)
    kd, sft = (
        np.array([ANSWERS[f"{name}-seed0"], ANSWERS[f"{name}-seed1"]]).T.astype(bool)
        for name in ("kd", "sft")
    )
    assert found["kd", "sft"].p_value == paired_difference(kd, sft).p_value


def test_one_model_against_several_baselines_is_a_family() -> None:
    """By hand, Holm over three: the smallest p times 3, the next times 2, never below the one
    before. Each stands alone against its baseline.
    """
    p_values = {("b", "kd", name): p for name, p in (("x", 0.02), ("y", 0.04), ("z", 0.011))}
    adjusted = adjusted_in_families({**p_values, ("c", "kd", "x"): 0.02})
    assert adjusted["b", "kd", "z"] == pytest.approx(0.033)
    assert adjusted["b", "kd", "x"] == pytest.approx(0.04)
    assert adjusted["b", "kd", "y"] == pytest.approx(0.04)
    # Another benchmark is a family of its own.
    assert adjusted["c", "kd", "x"] == pytest.approx(0.02)


def test_the_larger_correction_of_the_two_families_counts() -> None:
    p_values = {("b", "kd", "x"): 0.02, ("b", "kd", "y"): 0.5}
    p_values |= {("b", "sft", "x"): 0.3, ("b", "alone", "x"): 0.4}
    adjusted = adjusted_in_families(p_values)
    assert adjusted["b", "kd", "x"] == pytest.approx(3 * 0.02)
    assert adjusted["b", "kd", "y"] == pytest.approx(0.5)


def test_what_one_seed_lost_is_left_out_of_all_and_what_was_refused_out_of_comparisons() -> None:
    sheets = dict(SHEETS)
    lacking = sheet("kd-seed1").only("pqrst")
    lacking.lost = ("u:0",)
    sheets["b", "kd-seed1"] = lacking
    refused = sheet("sft-seed0")
    refused.refused, refused.outcomes[5] = {"t": "content filter"}, Counter({"refused": 1})
    sheets["b", "sft-seed0"] = refused
    found = pool_seeds(sheets, GROUPS, COMPARED)
    scores = {row.model: row for row in found.scores}
    assert (scores["kd"].n, scores["kd"].mean) == (5, pytest.approx(6 / 10))
    assert (scores["sft"].n, scores["sft"].mean) == (6, pytest.approx(3 / 12))
    assert found.outcomes["b"]["sft"]["refused"] == pytest.approx(1 / 12)
    spread = {row.model: row.seeds for row in found.spread}
    assert spread["kd"] == {"kd-seed0": pytest.approx(4 / 5), "kd-seed1": pytest.approx(2 / 5)}
    rows = {(row.model, row.baseline): row for row in found.differences}
    assert (
        rows["kd", "sft"].n == 4 and rows["kd", "teacher"].n == 5 and rows["sft", "teacher"].n == 5
    )
    # Of p, q, r, s kd has 4 and 2 right, sft 1 and 1.
    assert rows["kd", "sft"].mean == pytest.approx((6 - 2) / 8)


def test_a_group_is_not_compared_with_itself() -> None:
    assert grouped({"kd-seed0": ["kd-seed1", "sft-seed0"], "kd-seed1": ["sft-seed1"]}, GROUPS) == {
        "kd": ["sft"]
    }


def test_every_seed_is_compared_with_the_baselines_of_its_own_seed(tmp_path: Path) -> None:
    source = resources.find("pipelines", "compare_methods")
    found = baselines(Run(load_pipeline(source), Cluster(), tmp_path, source))
    assert found["kd-seed1"] == ["base-seed1", "answer-only-seed1", "teacher", "sft-seed1"]
    assert found["warm-seed2"] == ["base-seed2", "answer-only-seed2", "teacher", "sft-seed2"]
    assert "kd" not in found and "warm" not in found


# ---- in scores.json


def collect(run: Path, **changes: Any) -> dict[str, Any]:
    plan = evals.EvalPlan({"gsm_symbolic": 1}, ["sft", "base", "teacher"], **changes)
    with GradingPool(workers=1) as pool:
        evals.collect(run / "6-evals", plan, pool)
    return json.loads((run / "6-evals" / "scores.json").read_text())


def test_groups_stand_in_scores_json_only_where_there_are_some_and_new_ones_remake_the_tables(
    tmp_path: Path,
) -> None:
    run = fake_run(tmp_path, problems=6)
    assert "groups" not in collect(run)
    found = collect(run, groups={"pair": ["sft", "base"]})["groups"]
    assert found["members"] == {"pair": ["sft", "base"]} and "not in them" in found["note"]
    assert [row["model"] for row in found["scores"]] == ["pair"]


def test_a_model_with_the_name_of_a_group_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="sft is both a model and a student of several seeds"):
        collect(fake_run(tmp_path, problems=6), groups={"sft": ["base", "teacher"]})


def test_a_student_of_one_seed_is_compared_by_the_name_that_it_has_in_the_file(
    tmp_path: Path,
) -> None:
    source = resources.find("pipelines", "temperature_sweep")
    pipeline = load_pipeline(source, [f"students.{number}.seeds=[3]" for number in range(5)])
    compared = baselines(Run(pipeline, Cluster(), tmp_path, source))
    assert "sft-seed3" in compared["kd-t8-seed3"]
