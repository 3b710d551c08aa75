"""How many tokens a training has in its loss, known before it begins.

    counted = count_rows(job, Path("tokens"))         # tokenised once: the training reads the same
    counted.after(steps=120, seed=0)                  # exactly so many
    counted.nearest_steps(50_000, seeds=[0, 1, 2])

Each step learns from `batch` rows of a fresh random order of each epoch; the last step of an epoch
has the rest. Whatever the machine, it is the same rows. Not covered: packed rows of `sft`, which
TRL deals to steps by itself, and texts that a student writes while it is trained.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from reasondistill.errors import MissingDependencyError
from reasondistill.imports import no_collections
from reasondistill.stages.students.job import StudentJob
from reasondistill.stages.students.material import material_of, teacher_of, training_examples
from reasondistill.stages.students.ordering import order_of_epoch


@dataclass(frozen=True)
class CountedRows:
    """The tokens in the loss of each row of a training, and how many rows a step takes."""

    tokens: tuple[int, ...]
    batch: int

    @property
    def rows(self) -> int:
        return len(self.tokens)

    @cached_property
    def total(self) -> int:
        """Tokens of one epoch."""
        return sum(self.tokens)

    @property
    def steps_of_epoch(self) -> int:
        return -(-self.rows // self.batch)

    def after(self, steps: int, seed: int) -> int:
        """The tokens in the loss of this many steps."""
        epochs, rest = divmod(steps, self.steps_of_epoch)
        whole = epochs * self.total
        if not rest:
            return whole
        steps_of_epoch = self._after_each_step(seed, epochs)
        return whole + steps_of_epoch[rest - 1]

    def _after_each_step(self, seed: int, epoch: int) -> list[int]:
        """The tokens of one epoch after each of its steps."""
        known = self._counted.get((seed, epoch))
        if known is None:
            order = order_of_epoch(self.rows, seed, epoch)
            after_each_row = list(accumulate(self.tokens[row] for row in order))
            ends = range(self.batch, self.rows + self.batch, self.batch)
            known = [after_each_row[min(end, self.rows) - 1] for end in ends]
            self._counted[seed, epoch] = known
        return known

    @cached_property
    def _counted(self) -> dict[tuple[int, int], list[int]]:
        return {}

    def mean_after(self, steps: int, seeds: Sequence[int]) -> float:
        """The same, averaged over trainings of these seeds."""
        return sum(self.after(steps, seed) for seed in seeds) / len(seeds)

    def steps_of(self, epochs: float) -> int:
        """The steps that a trainer makes of so many epochs."""
        return math.ceil(epochs * self.steps_of_epoch)

    def nearest_steps(self, tokens: float, seeds: Sequence[int]) -> int:
        """So many steps, one at least, that have nearest to this many tokens in the loss."""
        # Steps differ in tokens, so that their mean is a poor guide; but the sum only grows.
        whole = int(tokens // self.total) * self.steps_of_epoch
        epoch = range(whole, whole + self.steps_of_epoch + 1)
        first = whole + bisect_left(epoch, tokens, key=lambda steps: self.mean_after(steps, seeds))
        around = (max(1, first - 1), max(1, first))
        return min(around, key=lambda steps: abs(self.mean_after(steps, seeds) - tokens))

    def rows_seen(self, steps: int) -> int:
        """How many different rows this many steps learn from."""
        return min(self.rows, steps * self.batch)

    def epochs_after(self, steps: int) -> float:
        """How often this many steps go through all rows."""
        epochs, rest = divmod(steps, self.steps_of_epoch)
        return epochs + min(1.0, rest * self.batch / self.rows)


def count_rows(job: StudentJob, tokens: Path) -> CountedRows:
    """The rows that a student will be trained on, tokenised into `tokens`, where its training finds
    them.

    Raises StageError where a stage before it, or the student that it goes on from, is not finished,
    and where there is nothing to train on; MissingDependencyError without the extra `train`.
    """
    material = material_of(job, training_examples(job))
    try:
        with no_collections():
            from reasondistill.stages.students import bases
            from reasondistill.stages.students.rows import RowStore, stored_rows
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "transformers", "train") from error
    student = job.student
    tokenizer = bases.load_tokenizer(student, material.tokenizer_texts)
    store = RowStore(tokens)
    rows, _ = stored_rows(student, material, tokenizer, store)
    if student.distils() and student.method_settings().stored_tokens is not None:
        with no_collections():
            from reasondistill.stages.students.distilling.teaching import Teaching

        rows = Teaching(student, job.settings, teacher_of(job), job.folder).rows(
            rows, tokenizer, store
        )
    return CountedRows(tuple(rows.loss_tokens_of_each()), student.batch_size)
