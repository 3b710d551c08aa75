"""Where problems come from: `[problems]` of a pipeline file, and the files of eval/benchmarks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reasondistill.config.basics import Name, Scalar
from reasondistill.sections import Section

AnswerKind = Literal["integer", "number", "expression", "choice"]

# Runs of words by which texts are compared.
_Run = Annotated[int, Field(ge=1, le=1_000)]
_Share = Annotated[float, Field(ge=0.1, le=1)]


class NearDuplicateSettings(Section):
    """Problems that are all but the same as an earlier one are set aside:
    `[problems.near_duplicates]`, on where the table stands.

    Two questions are when the Jaccard similarity of their runs of `words` words is `threshold` or
    more. `numbers = "count"`: with other numbers or signs it is another problem, whatever words
    they share; "words": a number is a word like any other; "ignored": all problems of a template
    are the same. 3 and 0.7 find nine of ten problems of 30 to 60 words in which one word was
    replaced, 5 and 0.8 four of ten, and neither joined two different ones of five public sets
    (eval/FINDINGS.md).
    """

    words: _Run = 3
    threshold: _Share = 0.7
    numbers: Literal["count", "words", "ignored"] = "count"


class DecontaminateSettings(Section):
    """Problems that hold a question of a benchmark of the run are set aside, or one of `files`:
    `[problems.decontaminate]`, on where the table stands.

    A question is held when the texts are equal, when `contained` of its runs of five words stand in
    the problem, or when both share `n_gram` words in a row (curation/leaks.py). `numbers = "count"`
    keeps what has the words and other numbers; "words" takes it for a leak. `files` are .jsonl,
    .json, .csv or .parquet files; their field `question` holds a question, as a name or a template.
    """

    files: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    question: Annotated[str, Field(min_length=1)] = "question"
    contained: _Share = 0.8
    n_gram: _Run = 13
    numbers: Literal["count", "words"] = "count"


class ComparedProblems(Section):
    """What problems are compared with, each other and questions that training must not hold; off
    where the table is missing.
    """

    # Written only where they are on, so that runs without them stay what they are.
    near_duplicates: NearDuplicateSettings | None = Field(
        default=None, exclude_if=lambda settings: settings is None
    )
    decontaminate: DecontaminateSettings | None = Field(
        default=None, exclude_if=lambda settings: settings is None
    )


class ProblemSource(ComparedProblems):
    """Where problems come from and how their rows map to a Problem.

    `source="hub"`: `dataset` is a Hugging Face dataset id (`config`, `split`, `revision`).
    `source="file"`: `dataset` is a .jsonl, .json, .csv or .parquet file. `source="procedural"`:
    `dataset` is a reasoning-gym name; `seed` and `options` make the stream, `limit` its length. The
    field keys may be dotted (`metadata.answer_cot`). `answer_after="####"` takes the text after the
    last such mark. `answer=""`: there are no gold answers; the samples vote (`[verdicts]
    majority`). `filter` keeps rows whose field is one of the listed values. `choices` makes
    multiple choice: the options are lettered behind the question and the gold answer is a letter. A
    list names one field per option and is shuffled row by row (`answer` is one of them; it would
    always be A). A single name is a field that holds a list, in its own order, or texts by label
    (`{"A": "…", "B": "…"}`); `answer` holds a label, a letter, the text of an option, or its place,
    counted from 0 unless `answer_counts_from` says 1. `choice_labels` is the field of the options'
    labels; of `choices = "choices.text"` those in `choices.label` are taken. A problem that speaks
    of a picture which is not in its text is set aside, but with `figures = "keep"`.

    `near_duplicates` and `decontaminate` are tables; not for benchmarks.
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
    choices: str | tuple[str, ...] | None = None
    choice_labels: str | None = Field(default=None, exclude_if=lambda labels: labels is None)
    answer_counts_from: Literal[0, 1] | None = Field(
        default=None, exclude_if=lambda first: first is None
    )
    figures: Literal["set_aside", "keep"] = Field(
        default="set_aside", exclude_if=lambda figures: figures == "set_aside"
    )
    filter: dict[str, list[Scalar]] = {}
    shuffle: bool = False
    seed: int = 0
    limit: Annotated[int, Field(ge=1)] | None = None
    options: dict[str, Scalar | list[Scalar]] = {}
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _procedural_has_length(self) -> ProblemSource:
        if self.source == "procedural" and self.limit is None:
            raise ValueError(
                "limit: a procedural dataset has no end; set how many problems to make"
            )
        return self

    @model_validator(mode="after")
    def _choices_hold_the_answer(self) -> ProblemSource:
        if not isinstance(self.choices, str):
            for key in ("choice_labels", "answer_counts_from"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: only where choices is one field that holds options")
        if self.choices is None:
            return self
        if self.answer_after is not None:
            raise ValueError(
                "answer_after: choices name the answer by its field; leave one of the two out"
            )
        if not isinstance(self.choices, str) and (
            self.answer not in self.choices or len(set(self.choices)) < 2
        ):
            raise ValueError(
                f'choices: list at least two fields, one of them the answer ("{self.answer}")'
            )
        return self


class Erratum(Section):
    """A correction of a wrong published gold answer (`answer`), or its removal (`drop`).

    `id` is the last part of a problem's id: the row's own id, else its number counted from 0.
    `question_starts` guards against a copy in another order, where another question has the number.
    """

    id: str
    question_starts: str | None = None
    answer: str | None = None
    drop: bool = False
    reason: Annotated[str, Field(min_length=1)]
    source: str = ""

    @model_validator(mode="after")
    def _does_one_thing(self) -> Erratum:
        if (self.answer is not None) == self.drop:
            raise ValueError('answer: an erratum has either answer = "…" or drop = true')
        if self.answer is not None and not self.answer.strip():
            raise ValueError("answer: empty; use drop = true to leave the problem out")
        return self


class Benchmark(Section):
    """A benchmark: a file of eval/benchmarks.

    `rows` and `content` (curation.benchmarks.content_of) are the number and the hash of its rows,
    checked whenever it is read; `answer_kind` is the form of its gold answers. `n` and `prompt` are
    recommendations: samples per problem, and the prompt for models that were trained elsewhere.
    """

    name: Name
    about: str = ""
    licence: str = ""
    paper: str = ""
    url: str = ""
    n: Annotated[int, Field(ge=1)] = 1
    prompt: Name | None = None
    answer_kind: AnswerKind | None = None
    rows: Annotated[int, Field(ge=1)] | None = None
    content: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    errata: tuple[Erratum, ...] = ()
    problems: ProblemSource

    @model_validator(mode="after")
    def _has_answers(self) -> Benchmark:
        if not self.problems.answer:
            raise ValueError(
                "problems.answer: a benchmark needs gold answers; name the field that holds them"
            )
        return self

    @model_validator(mode="after")
    def _is_measured_whole(self) -> Benchmark:
        for key in ("near_duplicates", "decontaminate"):
            if getattr(self.problems, key) is not None:
                raise ValueError(
                    f"problems.{key}: a benchmark is measured as it is; the table belongs into a "
                    "pipeline file"
                )
        return self

    @model_validator(mode="after")
    def _one_erratum_per_problem(self) -> Benchmark:
        ids = [erratum.id for erratum in self.errata]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"errata: two for the problem {twice[0]!r}")
        return self
