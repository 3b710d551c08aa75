"""What a training will have in its loss is what it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_students import example, job, scratch

from reasondistill.methods.texts import IGNORE
from reasondistill.stages.students import run_student
from reasondistill.stages.students.counting import CountedRows, count_rows

pytest.importorskip("torch")


@pytest.mark.parametrize(("steps", "seed"), [(3, 0), (5, 0), (5, 1), (8, 0)])
def test_tokens_of_so_many_steps_are_counted_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, seed: int
) -> None:
    """Ten rows in steps of three, three, three and one."""
    from reasondistill.stages.students import sorted_trainer

    rows = [example(i, f"{'so ' * i}\\boxed{{{i}}}") for i in range(10)]
    rows.append(example(90, split="validation"))
    wanted = job(
        tmp_path, scratch(batch_size=3, max_steps=steps, seed=seed, bf16=False), examples=rows
    )
    wanted = replace(wanted, tokens=tmp_path / "tokens")
    counted = count_rows(wanted, tmp_path / "tokens")
    kept = sorted(path.name for path in (tmp_path / "tokens").iterdir())
    assert counted.rows == 10 and len(set(counted.tokens)) > 3
    seen = 0
    compute_loss = sorted_trainer.SortedTrainer.compute_loss

    def counting(self: Any, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal seen
        if model.training:
            seen += int((inputs["labels"] != IGNORE).sum())
        return compute_loss(self, model, inputs, *arguments, **options)

    monkeypatch.setattr(sorted_trainer.SortedTrainer, "compute_loss", counting)
    manifest = run_student(wanted)
    assert manifest.figures["steps"] == steps
    assert counted.after(steps, seed) == seen
    # The training has read the rows that were counted.
    assert sorted(path.name for path in (tmp_path / "tokens").iterdir()) == kept


def test_the_nearest_steps_are_nearest_where_rows_are_of_very_different_lengths() -> None:
    lengths = tuple(10 + 5_000 * (row % 10 == 0) for row in range(400))
    rows, seeds = CountedRows(lengths, batch=2), [0, 1]
    for tokens in range(0, 3 * rows.total, rows.total // 7):
        found = rows.nearest_steps(tokens, seeds)
        misses = [abs(rows.mean_after(steps, seeds) - tokens) for steps in range(1, 700)]
        assert abs(rows.mean_after(found, seeds) - tokens) == min(misses)


def test_steps_are_found_that_come_nearest() -> None:
    rows = CountedRows((10, 20, 30, 40), batch=2)
    assert (rows.total, rows.steps_of_epoch, rows.steps_of(1.5), rows.steps_of(3)) == (100, 2, 3, 6)
    assert rows.nearest_steps(400, seeds=[0]) == 8
    assert rows.nearest_steps(1, seeds=[0]) == 1
    assert {rows.after(1, seed) for seed in range(20)} > {30}
    assert (rows.rows_seen(1), rows.rows_seen(5), rows.epochs_after(5)) == (2, 4, 2.5)
