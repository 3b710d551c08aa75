"""A forecast's intervals hold what they promise in simulated runs, and are wide where little was
seen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_forecast import LOAD, like, planned, stage

from reasondistill.forecast import make_forecast
from reasondistill.forecast.costs import Basis, Context, Piece, sampled
from reasondistill.forecast.evidence import Evidence, Speed, Written, short_name, speed_of
from reasondistill.forecast.monte_carlo import RUNS, Dice, in_range


def simulated(dice: np.random.Generator, problems: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Skewed lengths: hard problems have long texts."""
    hardness = dice.lognormal(5.0, 0.5, size=(problems, 1))
    return (hardness * dice.lognormal(0.0, 0.5, size=(problems, n))).sum(axis=1), np.full(
        problems, float(n)
    )


def session(dice: np.random.Generator, stretches: int) -> list[tuple[float, float]]:
    """A session at about 500 tokens/s: some are slower as a whole, and every ten seconds differ."""
    rates = 500 * dice.lognormal(0, 0.08) * dice.lognormal(0, 0.15, size=stretches)
    return [(10.0 * place, float(rates[:place].sum() * 10)) for place in range(1, stretches + 1)]


@pytest.mark.parametrize("problems", [12, 60])
def test_the_interval_holds_what_came_in_nine_of_ten_runs(tmp_path: Path, problems: int) -> None:
    dice, held, narrow = np.random.default_rng(7), 0, 0
    job = planned(tmp_path)
    for trial in range(200):
        tokens, samples = simulated(dice, problems, 2)
        speed = speed_of([session(dice, 12)], LOAD)
        written = Written("t", tokens, samples, 0, 1, 0, 1, 0, speed)
        context = Context(job, Evidence("this run", tmp_path, ""), dice=Dice(trial))
        piece = Piece("teacher", 400 * 2, 2, 10**9, None, Basis(written, speed))
        found = in_range(sampled(context, "traces", [piece], "").wall_s)
        assert found is not None
        came = simulated(dice, 400, 2)[0].sum() / (session(dice, 300)[-1][1] / 3000) + LOAD
        held += found.low <= came <= found.high
        narrow += found.high < 3 * found.low
    assert held >= 180
    assert narrow >= 160  # an interval that holds everything says nothing


def test_all_right_of_a_few_is_no_promise_of_all(tmp_path: Path) -> None:
    drawn = in_range(Dice().bounded_mean("yield", np.ones(20), 1.0, 1000))
    assert drawn is not None
    assert drawn.expected == drawn.high == 1 and 0.8 < drawn.low < 0.98


def test_a_quantity_asked_for_twice_is_the_same_draw() -> None:
    dice = Dice(3)
    assert np.array_equal(dice.factor("speed", 0.2), dice.factor("speed", 0.2))
    assert not np.array_equal(dice.factor("speed", 0.2), dice.factor("other", 0.2))
    assert len(dice.factor("speed", 0.2)) == RUNS + 1


def test_warming_up_is_no_part_of_the_speed() -> None:
    lines = [
        (40.0 + 10 * place, 4000.0 * (place + 1)) for place in range(8)
    ]  # the first ten seconds' work took 40
    found = speed_of([lines], 20.0)
    assert found == Speed(pytest.approx(400), pytest.approx(0.05), pytest.approx(20 + 30))


def test_an_engine_that_was_not_full_may_be_faster_but_not_slower_when_full(tmp_path: Path) -> None:
    folder = like(tmp_path / "like", problems=10)  # 20 samples
    small = stage(
        make_forecast(planned(tmp_path, {"vllm": {"max_num_seqs": 20}}), like=[folder]), "traces"
    )
    large = stage(
        make_forecast(planned(tmp_path, {"vllm": {"max_num_seqs": 80}}), like=[folder]), "traces"
    )
    assert (
        large.wall_hours.low < small.wall_hours.low
        and large.wall_hours.high <= 1.02 * small.wall_hours.high
    )
    work = small.wall_hours.expected - LOAD / 3600
    assert large.wall_hours.expected == pytest.approx(
        work / 2 + LOAD / 3600
    )  # 1 to 4 times as fast: twice
    assert any("20 samples at once, the engine takes 80" in note for note in large.notes)


@pytest.mark.parametrize(
    "name",
    [
        "/shipped/demo-teacher",
        "demo-teacher@0ebd28e7a482",
        "org/demo-teacher",
        "demo-teacher.jsonl",
    ],
)
def test_a_model_has_one_name_whether_path_hub_id_or_identity(name: str) -> None:
    assert short_name(name) == "demo-teacher"
