"""How many steps give every variant the same tokens in the loss.

    trainings = {run.name: training_of(run) for run in ablation.runs}
    budget = equal_budget(trainings)
    budget.tokens, budget.steps["k-1"]

A step is a whole batch, so tokens come in lumps: with a hundred steps a lump is 1 % of them. What a
training has in its loss after so many steps is computed, not estimated (`students/counting.py`),
for each of its seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reasondistill.config import StudentSettings
from reasondistill.config.varying import writes_itself
from reasondistill.errors import ConfigError
from reasondistill.pipeline.ablating.folders import VariantRun
from reasondistill.pipeline.doing import student_job
from reasondistill.stages.students.counting import CountedRows, count_rows

# The most by which the tokens in the loss of two trainings may differ.
TOLERANCE = 0.01
# A budget that nobody asked for may be smaller than the smallest training by so much, in such
# steps, where whole batches fit together better.
_LEAST_SHARE = 0.75
_PARTS = 200


@dataclass(frozen=True)
class Training:
    """What a variant's training has to learn from, and with which seeds. `own_tokens` are those
    that it would have in its loss by the file's own epochs or steps.
    """

    rows: CountedRows
    seeds: tuple[int, ...]
    student: StudentSettings

    @property
    def own_tokens(self) -> float:
        steps = self.student.max_steps or self.rows.steps_of(self.student.epochs)
        return self.rows.mean_after(steps, self.seeds)

    def tokens(self, steps: int) -> dict[int, int]:
        """Seed → the tokens in the loss of so many steps."""
        return {seed: self.rows.after(steps, seed) for seed in self.seeds}


@dataclass(frozen=True)
class Budget:
    """The tokens in the loss that each variant is given, and the steps that this takes. `spread` is
    how far the largest is above the smallest of all trainings, as a share.
    """

    tokens: int
    steps: Mapping[str, int]
    spread: float


def training_of(run: VariantRun) -> Training:
    """What the compared student of a variant will learn from. Raises StageError where its examples,
    or the student that it goes on from, are not there.
    """
    work = run.training(1, share_engine_process=True)
    first = run.variant.members[0]
    students = {student.name: student for student in work.run.pipeline.all_students()}
    job = student_job(work.run, students[first])
    rows = count_rows(job, run.run.layout.tokens)
    return Training(rows, run.variant.seeds, run.variant.student)


def equal_budget(
    trainings: Mapping[str, Training],
    tokens: int | None = None,
    kept: Mapping[str, int] | None = None,
) -> Budget:
    """Steps for each variant such that the tokens in the loss of all of them differ by 1 % at most:
    so many `tokens`, or the fewest that any of them would have by itself, or a little less. Of
    those in `kept` the steps are given.

    Raises ConfigError, naming the coarsest of the trainings, where whole batches do not allow it.
    """
    wanted = [tokens or 0]
    words = f"--tokens {tokens}"
    if tokens is None:
        most = min(training.own_tokens for training in trainings.values())
        parts = range(int(_PARTS * (1 - _LEAST_SHARE)) + 1)
        wanted = [round(most * (1 - part / _PARTS)) for part in parts]
        words = f"{most:,.0f} tokens, the fewest that one of them has by itself"
    for some in wanted:
        budget = _budget(trainings, some, kept or {})
        if budget.spread <= TOLERANCE:
            return budget
    raise ConfigError(_refusal(_budget(trainings, wanted[0], kept or {}), trainings, words))


def _budget(trainings: Mapping[str, Training], tokens: int, kept: Mapping[str, int]) -> Budget:
    steps: dict[str, int] = {}
    every: list[int] = []
    for name, training in trainings.items():
        if name in kept:
            steps[name] = kept[name]
        else:
            steps[name] = training.rows.nearest_steps(tokens, training.seeds)
        every += training.tokens(steps[name]).values()
    return Budget(tokens, steps, max(every) / min(every) - 1)


def _refusal(budget: Budget, trainings: Mapping[str, Training], wanted: str) -> str:
    def tokens_of_step(name: str) -> float:
        rows = trainings[name].rows
        return rows.total / rows.steps_of_epoch

    reached: list[str] = []
    for name, training in trainings.items():
        steps = budget.steps[name]
        mean = training.rows.mean_after(steps, training.seeds)
        reached.append(f"{name} {mean:,.0f} in {steps} steps")
    coarsest = max(trainings, key=tokens_of_step)
    return (
        f"the tokens in the loss cannot be made equal to {TOLERANCE:.0%} at {wanted}: "
        f"{'; '.join(reached)}. Tokens come in whole batches, in {coarsest} about "
        f"{tokens_of_step(coarsest):,.0f} a step. Train longer (--tokens), or in smaller batches "
        "(--set students.0.batch_size=…)."
    )


def uncounted(trainings: Mapping[str, Training]) -> list[str]:
    """The variants whose students learn from what they write: their tokens are known afterwards."""
    return [name for name, training in trainings.items() if writes_itself(training.student)]
