"""A student first, its teacher where the student's samples disagree: what stored samples of both
say of such a cascade.

student, teacher = first_samples("demo/distilled", runs, 8), first_samples("demo/teacher", runs)
for cascade in stored_cascades(student, teacher, pool):
    print(cascade.benchmark, cascade.chosen.word)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reasondistill.errors import ConfigError, StageError
from reasondistill.grading import GradingPool
from reasondistill.records import Bounded, Cascade, CascadeEnd
from reasondistill.stages.evals.comparing import paired
from reasondistill.stages.evals.entrants import RunEntrant, parse_entrant
from reasondistill.stages.evals.outcomes import Sheet, read_sheet
from reasondistill.stages.evals.stored import aligned, shared_benchmarks
from reasondistill.stages.evals.votes import majority_rates, wrong_classes
from reasondistill.statistics.basics import Floats, Ints
from reasondistill.statistics.cascade import Sides, accuracy, cascade_curve
from reasondistill.statistics.means import mean_interval


@dataclass(frozen=True)
class Voters:
    """A sheet, and of each of its problems the sizes of the classes of equivalent wrong answers."""

    sheet: Sheet
    wrong: Sequence[tuple[int, ...]]

    def only(self, names: Sequence[str]) -> Voters:
        """The same of these problems, in this order."""
        place = {name: row for row, name in enumerate(self.sheet.problems)}
        return Voters(self.sheet.only(names), [self.wrong[place[name]] for name in names])

    def votes(self) -> tuple[Ints, Floats]:
        """Of each problem how many samples gave the most frequent answer, and the chance that it is
        the right one: of several as frequent chance takes one.
        """
        most: list[int] = []
        chances: list[float] = []
        hits = self.sheet.correct.sum(axis=1).tolist()
        for right, classes in zip(hits, self.wrong, strict=True):
            sizes = (right, *classes)
            largest = max(sizes)
            is_right = largest > 0 and right == largest
            most.append(largest)
            chances.append(is_right / sizes.count(largest))
        return np.array(most, np.int64), np.array(chances)


def cascade_of(
    student: Voters, teacher: Voters, *, teacher_votes: int = 1, price: float = 1.0
) -> Cascade | None:
    """The cascade on the problems that both have; None where these are fewer than two.

    With one vote the teacher is right as often as its samples are, each as likely to be the one
    that is drawn; with several by their majority, exact over all subsets. Raises StageError for
    fewer than two samples of the student, and for more votes than the teacher has samples.
    """
    ours, theirs = student.sheet, teacher.sheet
    if ours.k < 2:
        raise StageError(
            f"{ours.model} on {ours.benchmark}: one sample of each problem cannot disagree. Draw "
            "more: `n` of its evals, 4 or 8."
        )
    if teacher_votes > theirs.k:
        raise StageError(
            f"{theirs.model} on {theirs.benchmark}: has {theirs.k} samples of each problem, not "
            f"{teacher_votes}."
        )
    both = paired(ours, theirs)
    names = both.ours.problems
    if len(names) < 2:
        return None
    student, teacher = student.only(names), teacher.only(names)
    votes, is_right = student.votes()
    asked = majority_rates(teacher.sheet, teacher.wrong, teacher_votes)
    written = student.sheet.tokens.sum(axis=1).astype(np.float64)
    cost = price * teacher_votes * teacher.sheet.tokens.mean(axis=1)
    curve = cascade_curve(Sides(ours.k, votes, is_right, asked, written, cost))
    once = mean_interval(student.sheet.correct)
    return Cascade(
        benchmark=ours.benchmark,
        student=ours.model,
        teacher=theirs.model,
        n=len(names),
        k=ours.k,
        teacher_k=theirs.k,
        teacher_votes=teacher_votes,
        price=price,
        once=CascadeEnd(
            accuracy=Bounded(mean=once.mean, low=once.low, high=once.high),
            cost=float(written.mean()) / ours.k,
        ),
        voting=CascadeEnd(accuracy=accuracy(is_right), cost=float(written.mean())),
        teacher_alone=CascadeEnd(accuracy=accuracy(asked), cost=float(cost.mean())),
        steps=curve.steps,
        chosen=curve.chosen,
    )


# ---- of stored samples ---------------------------------------------------------------------------


@dataclass(frozen=True)
class FirstSamples(RunEntrant):
    """A model of a run by the first so many of its samples; None: all."""

    samples: int | None = None

    def sheet(self, benchmark: str, metric: str | None) -> Sheet:
        return read_sheet(self.evals_folder, benchmark, self.model, n=self.samples)


def first_samples(text: str, runs: Path, samples: int | None = None) -> FirstSamples:
    """The model that `RUN/MODEL` names. Raises ConfigError, also for another tool's log: it has
    neither lengths in tokens nor answers that we could count.
    """
    entrant = parse_entrant(text, runs)
    if not isinstance(entrant, RunEntrant):
        raise ConfigError(
            f"{text}: a log of another tool. A cascade wants the answers and tokens of each "
            "sample, as a run of ours has them: RUN/MODEL."
        )
    return FirstSamples(
        entrant.label, entrant.evals_folder, entrant.model, entrant.tool, samples=samples
    )


def stored_cascades(
    student: FirstSamples,
    teacher: FirstSamples,
    pool: GradingPool,
    *,
    benchmark: str | None = None,
    common: bool = False,
    teacher_votes: int = 1,
    price: float = 1.0,
) -> Iterator[Cascade]:
    """One cascade for each benchmark that both have answered, or for one of them. Raises StageError
    as `compare` and `cascade_of` do, and ConfigError for a model with itself.
    """
    if student.label == teacher.label:
        raise ConfigError(
            f"{student.label}: named twice. A cascade wants a student and a teacher; two of one "
            "name are told apart by NAME= before each."
        )
    both = (student, teacher)
    for name in shared_benchmarks(both, benchmark):
        sheets = aligned(both, name, None, common=common)
        voters = [Voters(*one) for one in zip(sheets, wrong_classes(sheets, pool), strict=True)]
        cascade = cascade_of(*voters, teacher_votes=teacher_votes, price=price)
        if cascade is None:
            raise StageError(
                f"{name}: {student.label} and {teacher.label} have fewer than two problems in "
                "common that neither of them lost."
            )
        yield cascade
