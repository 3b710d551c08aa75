"""Where problems come from: `[problems]` of a pipeline file, and the files of eval/benchmarks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reasondistill.config.basics import Name, Scalar
from reasondistill.sections import Section


class ProblemSource(Section):
    """Where problems come from and how their rows map to a Problem.

    `source="hub"`: `dataset` is a Hugging Face dataset id (`config`, `split`, `revision`).
    `source="file"`: `dataset` is a .jsonl, .json, .csv or .parquet file.
    `source="procedural"`: `dataset` is a reasoning-gym name; `seed` and `options` make the stream, `limit` its length.
    The field keys may be dotted (`metadata.answer_cot`). `answer_after="####"` takes the text after the last such mark. `answer=""`:
    nobody knows the answers; the samples vote (`[verdicts] majority`).
    `filter` keeps rows whose field is one of the listed values.
    """

    source: Literal["hub", "file", "procedural"]
    dataset: str
    name: Name | None = None
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    question: str = "question"
    answer: str = "answer"
    solution: str | None = None
    id: str | None = None
    subject: str | None = None
    level: str | None = None
    answer_after: str | None = None
    filter: dict[str, list[Scalar]] = {}
    shuffle: bool = False
    seed: int = 0
    limit: Annotated[int, Field(ge=1)] | None = None
    options: dict[str, Scalar | list[Scalar]] = {}
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _procedural_has_length(self) -> ProblemSource:
        if self.source == "procedural" and self.limit is None:
            raise ValueError("limit: a procedural set has no end; say how many problems you want")
        return self


class Benchmark(Section):
    """A file of eval/benchmarks: what is measured."""

    name: Name
    about: str = ""
    licence: str = ""
    problems: ProblemSource

    @model_validator(mode="after")
    def _has_answers(self) -> Benchmark:
        if not self.problems.answer:
            raise ValueError("problems.answer: a benchmark needs gold answers; name the field that holds them")
        return self
