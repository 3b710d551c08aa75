"""A pipeline file: WHAT is done, section by section."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from reasondistill.config.basics import Name
from reasondistill.config.sampling import SamplingSettings, Traces, Verdicts
from reasondistill.config.sources import ProblemSource
from reasondistill.config.students import Examples, StudentSettings
from reasondistill.sections import Section


class Evals(SamplingSettings):
    """Which benchmarks, with how many samples per problem (`n`), and how they are sampled. Raising `n` tops up.

    `checkpoints`: how many evenly spaced weights each training keeps to be measured too, the last being the finished student.
    """

    benchmarks: tuple[str, ...] = ()
    n: Annotated[int, Field(ge=1)] = 1
    prompt: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    teacher: bool = True
    checkpoints: Annotated[int, Field(ge=0)] = 0


class ReportSettings(Section):
    """What the report shows besides the table."""

    title: str | None = None
    traces: Annotated[int, Field(ge=0)] = 10


class Pipeline(Section):
    """A pipeline file."""

    name: Name
    about: str = ""
    problems: ProblemSource
    traces: Traces
    verdicts: Verdicts = Verdicts()
    examples: Examples = Examples()
    students: tuple[StudentSettings, ...] = ()
    evals: Evals = Evals()
    report: ReportSettings = ReportSettings()

    @model_validator(mode="after")
    def _somebody_knows_the_answers(self) -> Pipeline:
        if not self.problems.answer and self.verdicts.majority is None:
            raise ValueError('verdicts: the problems have no answers (answer = ""); let the samples vote with majority = 0.5')
        if self.verdicts.majority is not None and self.traces.n < 2:
            raise ValueError("verdicts.majority: traces.n = 1; one sample is no majority")
        return self

    @model_validator(mode="after")
    def _distinct_students(self) -> Pipeline:
        names = [student.name for student in self.all_students()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"students: the name {twice[0]!r} is used twice (a student's baselines have names too: see `baselines`)")
        return self

    @property
    def student_prompt(self) -> str:
        """The prompt that examples and evals use unless they name their own."""
        return self.examples.prompt or self.traces.prompt

    def all_students(self) -> tuple[StudentSettings, ...]:
        """The named students and the baselines that come with them, in the order in which they are made.

        Students that start alike share one untouched base, students that train alike one twin of each method; one that the file names
        itself is enough. The first of a kind has the plain name, which it keeps when more students come.
        """
        made: list[StudentSettings] = []
        known = {(student.method, student.kind()) for student in self.students if student.method != "sft"}
        for student in self.students:
            made.append(student)
            for method in student.baselines if student.method == "sft" else ():
                twin = student.model_copy(update={"method": method, "baselines": ()})
                if (method, twin.kind()) not in known:
                    label = method.replace("_", "-")
                    first = method not in {other for other, _ in known}
                    known.add((method, twin.kind()))
                    made.append(twin.model_copy(update={"name": label if first else f"{student.name}-{label}"}))
        return tuple(made)
