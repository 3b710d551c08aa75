"""Where problems come from: `[problems]` of a pipeline file, and the files of eval/benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BeforeValidator, Field, model_validator

from reasondistill.config.basics import Name, Scalar
from reasondistill.sections import Section

AnswerKind = Literal["integer", "number", "expression", "choice"]
Number = Annotated[int | float, Field(allow_inf_nan=False)]


class Conditions(Section):
    """What a field must be like, all that is set of it.

    `in` lists values. `min` and `max` are the ends of a window, both in it; what is no number is in
    none. `regex` is looked for anywhere in the text, as RE2 reads it. `null = true` keeps rows
    without a value: missing, null, NaN, or an empty text or list; `false` those with one.
    """

    one_of: Annotated[list[Scalar], Field(min_length=1)] | None = Field(
        default=None, alias="in", exclude_if=lambda values: values is None
    )
    """Values one of which the field must have."""
    min: Number | None = Field(default=None, exclude_if=lambda end: end is None)
    """The least number that the field may be, itself included."""
    max: Number | None = Field(default=None, exclude_if=lambda end: end is None)
    """The largest number that the field may be, itself included."""
    regex: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, exclude_if=lambda pattern: pattern is None
    )
    """A pattern of RE2 that is looked for anywhere in the text."""
    null: bool | None = Field(default=None, exclude_if=lambda is_null: is_null is None)
    """true keeps rows without a value (missing, null, NaN, an empty text or list), false those
    with one.
    """

    @model_validator(mode="after")
    def _can_hold(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min: {self.min} is above max = {self.max}; nothing is in between")
        if not self.model_fields_set:
            raise ValueError("in: empty; a rule needs one of in, not, min, max, regex, null")
        if self.null and len(self.model_fields_set) > 1:
            raise ValueError("null: what has no value meets no other rule; leave the others out")
        return self


def _values_or(kind: type[Conditions], value: Any) -> Any:
    """A table is a rule, anything else should be a list of values: faults of the one that is meant
    are told.
    """
    if isinstance(value, Mapping):
        return kind.model_validate(value)
    return value


class FieldRule(Conditions):
    """A rule of a `filter`: `level = { min = 3, max = 5 }`. A field that is a list is looked at
    item by item, and one of them is enough.

    `not` lists values that the field must not have, or is a table of conditions that must not hold.
    """

    none_of: (
        Annotated[
            Annotated[list[Scalar], Field(min_length=1)] | Conditions,
            BeforeValidator(partial(_values_or, Conditions)),
        ]
        | None
    ) = Field(default=None, alias="not", exclude_if=lambda values: values is None)
    """Values that the field must not have, or a table of conditions that must not hold."""


# What a field must be: one of these values, or as a rule says.
Rule = Annotated[list[Scalar] | FieldRule, BeforeValidator(partial(_values_or, FieldRule))]

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
    """The length of the runs of words by which questions are compared. [words]"""
    threshold: _Share = 0.7
    """The Jaccard similarity of two questions' runs from which on they are the same."""
    numbers: Literal["count", "words", "ignored"] = "count"
    """Whether other numbers make another problem ("count"), are words like any other ("words"),
    or do not count ("ignored").
    """


class DecontaminateSettings(Section):
    """Problems that hold a question of a benchmark are set aside, or one of `files`:
    `[problems.decontaminate]`, on where the table stands.

    A question is held when the texts are equal, when `contained` of its runs of five words stand in
    the problem, or when both share `n_gram` words in a row (curation/leaks.py). `numbers = "count"`
    keeps what has the words and other numbers; "words" takes it for a leak. The
    benchmarks are those of the run. `files` are files as a source reads them; their field
    `question` holds a question, as a name or a template.
    """

    files: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Files of questions that training must not hold, beside the run's benchmarks."""
    question: Annotated[str, Field(min_length=1)] = "question"
    """The field of these files that holds a question, as a name or a template."""
    contained: _Share = 0.8
    """The share of a question's runs of five words that a problem may not hold."""
    n_gram: _Run = 13
    """So many words in a row that both share are a leak. [words]"""
    numbers: Literal["count", "words"] = "count"
    """Whether the words with other numbers are another problem ("count") or a leak ("words")."""


class ComparedProblems(Section):
    """What problems are compared with, each other and questions that training must not hold; off
    where the table is missing.
    """

    # Written only where they are on, so that runs without them stay what they are.
    near_duplicates: NearDuplicateSettings | None = Field(
        default=None, exclude_if=lambda settings: settings is None
    )
    """Problems that are all but the same as an earlier one are set aside; on where the table
    stands.
    """
    decontaminate: DecontaminateSettings | None = Field(
        default=None, exclude_if=lambda settings: settings is None
    )
    """Problems that hold a question of a benchmark are set aside; on where the table stands."""


class ProblemSource(ComparedProblems):
    """Where problems come from and how their rows map to a Problem.

    `source="hub"`: `dataset` is a Hugging Face dataset id (`config`, `split`, `revision`).
    `source="file"`: `dataset` is a .jsonl, .ndjson, .json or .csv file, also packed (.gz, .bz2,
    .xz, .zst), or a .parquet file. `source="procedural"`:
    `dataset` is a reasoning-gym name; `seed` and `options` make the stream, `limit` its length. The
    field keys may be dotted (`metadata.answer_cot`). `answer` may list several fields: any answer
    of them is right. `answer_after="####"` takes the text after the
    last such mark. `answer=""`: there are no gold answers; the samples vote (`[verdicts]
    majority`). `filter` keeps rows whose field is one of the listed values, or as a table of rules
    says (`FieldRule`). `choices` makes
    multiple choice: the options are lettered behind the question and the gold answer is a letter. A
    list names one field per option and is shuffled row by row (`answer` is one of them; it would
    always be A). A single name is a field that holds a list, in its own order, or texts by label
    (`{"A": "…", "B": "…"}`); `answer` holds a label, a letter, the text of an option, or its place,
    counted from 0 unless `answer_counts_from` says 1. `choice_labels` is the field of the options'
    labels; of `choices = "choices.text"` those in `choices.label` are taken. A problem that speaks
    of a picture which is not in its text, or has one beside it in its row, is set aside, but with
    `figures = "keep"`.

    `near_duplicates` and `decontaminate` are tables; not for benchmarks, nor for one of several
    sources.
    """

    source: Literal["hub", "file", "procedural"]
    """Where rows come from: a Hugging Face data set, a file, or a generator of reasoning-gym."""
    dataset: str
    """The data set's id, the path of a .jsonl, .ndjson, .json, .csv (also .gz, .bz2, .xz, .zst)
    or .parquet file or folder, or a generator's name.
    """
    name: Name | None = None
    """The first part of its problems' ids; without one the data set's own name."""
    config: str | None = None
    """The configuration of a data set that has several. Example: "main"
    """
    split: str = "train"
    """The split of a data set."""
    revision: str | None = None
    """The branch, tag or commit of a data set; without one the newest, which is recorded.
    Example: "main"
    """
    question: str = "question"
    """The field of the question, dotted where it stands inside another, or a template with
    `{field}` in it.
    """
    answer: str | Annotated[tuple[str, ...], Field(min_length=1)] = "answer"
    """The field of the gold answer, or a list of fields any of which is right; "" where nobody
    knows the answers.
    """
    solution: str | None = None
    """The field of a worked solution. Example: "solution"
    """
    id: str | None = None
    """The field of a row's own id; without one its number, counted from 0. Example: "id"
    """
    subject: str | None = None
    """The field of a problem's subject, by which scores are split. Example: "subject"
    """
    level: str | None = None
    """The field of a problem's level, by which scores are split. Example: "level"
    """
    answer_after: str | None = None
    """A mark; what follows the last one is the answer. Example: "####"
    """
    choices: str | tuple[str, ...] | None = None
    """The field that holds the options, or one field for each, which are then shuffled row by
    row. Example: "choices"
    """
    choice_labels: str | None = Field(default=None, exclude_if=lambda labels: labels is None)
    """The field of the options' labels. Example: "choices.label"
    """
    answer_counts_from: Literal[0, 1] | None = Field(
        default=None, exclude_if=lambda first: first is None
    )
    """From which number on the answer counts the options, where it is a place."""
    figures: Literal["set_aside", "keep"] = Field(
        default="set_aside", exclude_if=lambda figures: figures == "set_aside"
    )
    """What becomes of a problem that speaks of a picture which is not in its text."""
    filter: dict[str, Rule] = {}
    """Field to the values that it may have, or to a table of rules. Example: { level = ["4",
    "5"] }
    """
    shuffle: bool = False
    """Whether rows come in a random order, the same each time."""
    seed: int = 0
    """What the random order, or a generator, begins with."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """How many rows are taken. [rows]"""
    options: dict[str, Scalar | list[Scalar]] = {}
    """Settings of a generator of reasoning-gym. Example: { min_digits = 2 }"""
    trust_remote_code: bool = False
    """Whether code that comes with the data set may be executed."""

    @model_validator(mode="after")
    def _procedural_has_length(self) -> ProblemSource:
        if self.source == "procedural" and self.limit is None:
            raise ValueError(
                "limit: a procedural dataset has no end; set how many problems to make"
            )
        return self

    @model_validator(mode="after")
    def _answer_names_fields(self) -> ProblemSource:
        if isinstance(self.answer, str):
            return self
        if not all(self.answer):
            raise ValueError('answer: a name in the list is empty; answer = "" means no answers')
        if self.choices is not None:
            raise ValueError("answer: with choices one field holds the answer, not several")
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

    @property
    def parts(self) -> tuple[ProblemSource, ...]:
        """The sources that there are: this one."""
        return (self,)

    @property
    def has_answers(self) -> bool:
        """Whether its rows have gold answers."""
        return self.answer != ""

    @property
    def most_problems(self) -> int | None:
        """How many problems it gives at most, as far as the file says."""
        return self.limit


class MixedSource(ProblemSource):
    """One of several sources: `[[problems.sources]]`, with the keys of `[problems]`.

    `name` is required: the ids of its problems begin with it. `tag` is a word for the kind of its
    problems, kept with each. `weight` is its share of the limit of `[problems]`, `limit` the most
    rows that it gives.
    """

    tag: Name | None = None
    """A word for the kind of its problems, kept with each. Example: "algebra"
    """
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Its share of the limit of `[problems]`. Example: 2.0"""

    @model_validator(mode="after")
    def _has_a_name(self) -> MixedSource:
        if self.name is None:
            raise ValueError("name: missing; the ids of each source's problems begin with its name")
        return self

    @model_validator(mode="after")
    def _is_compared_with_the_others(self) -> MixedSource:
        for key in ComparedProblems.model_fields:
            if getattr(self, key) is not None:
                raise ValueError(
                    f"{key}: compares the problems of all sources; the table is [problems.{key}]"
                )
        return self


class ProblemMixture(ComparedProblems):
    """Several sources of problems: `[problems]` with `[[problems.sources]]`.

    The problems of the first source come first, and of equal questions the first one stays.
    `limit` is the most rows of all sources together: each gives its share by `weight`, equal shares
    where no source has one, none more than its own `limit`. A source that has fewer rows is told,
    and the shares of the others hold. `shuffle` and `seed` go for each source that does not set its
    own. `near_duplicates` and `decontaminate` compare the problems of all sources.
    """

    sources: tuple[MixedSource, ...]
    """The sources, a table each; the problems of the first come first."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """The most rows of all sources together. [rows]"""
    shuffle: bool = False
    """Whether rows come in a random order, for each source that does not say it."""
    seed: int = 0
    """What the random order begins with, for each source that does not say it."""

    @model_validator(mode="before")
    @classmethod
    def _sources_inherit(cls, values: Any) -> Any:
        """The values with `shuffle` and `seed` in each source that has none."""
        if not isinstance(values, Mapping):
            return values
        given = cast("Mapping[str, Any]", values)
        of_one = set(given) - set(cls.model_fields)
        for key in sorted(of_one & set(ProblemSource.model_fields)):
            raise ValueError(f"{key}: is a key of one source; say it in [[problems.sources]]")
        sources = given.get("sources")
        if not isinstance(sources, list | tuple):
            return given
        inherited = {key: given[key] for key in ("shuffle", "seed") if key in given}
        filled: list[Any] = []
        for source in cast("list[Any]", sources):
            if isinstance(source, Mapping):
                source = inherited | dict(cast("Mapping[str, Any]", source))
            filled.append(source)
        return {**given, "sources": filled}

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> ProblemMixture:
        if not self.sources:
            raise ValueError("sources: none is listed")
        names = [source.name for source in self.sources]
        twice = sorted({str(name) for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"sources: two are called {twice[0]!r}; the ids of their problems begin with it"
            )
        return self

    @model_validator(mode="after")
    def _weights_can_be_met(self) -> ProblemMixture:
        if not self.is_weighted:
            return self
        if sum(self.weights) == 0:
            raise ValueError("sources: their weights sum to 0; none would give a problem")
        if self.limit is None:
            raise ValueError(
                "limit: missing; the weights of sources are shares of it. Say how many rows all "
                "sources give together, or give each a limit and no weight"
            )
        return self

    @property
    def parts(self) -> tuple[MixedSource, ...]:
        """The sources that there are."""
        return self.sources

    @property
    def is_weighted(self) -> bool:
        """Whether any source has a weight; one without counts 1 then."""
        return any(source.weight is not None for source in self.sources)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each source."""
        return tuple(1.0 if source.weight is None else source.weight for source in self.sources)

    @property
    def has_answers(self) -> bool:
        """Whether the rows of all sources have gold answers."""
        return all(source.has_answers for source in self.sources)

    @property
    def most_problems(self) -> int | None:
        """How many problems they give at most, as far as the file says."""
        limits = [source.limit for source in self.sources]
        known = [limit for limit in limits if limit is not None]
        totals = [] if self.limit is None else [self.limit]
        if len(known) == len(limits):
            totals.append(sum(known))
        return min(totals, default=None)


def _one_or_several(value: Any) -> Any:
    """A table with `sources` is a mixture, any other one source: faults of the one that is meant
    are told.
    """
    if not isinstance(value, Mapping):
        return value
    table = cast("Mapping[str, Any]", value)
    if "sources" in table:
        return ProblemMixture.model_validate(table)
    return ProblemSource.model_validate(table)


# `[problems]`: one source, or several.
ProblemSettings = Annotated[ProblemMixture | ProblemSource, BeforeValidator(_one_or_several)]


class Erratum(Section):
    """A correction of a wrong published gold answer (`answer`), or its removal (`drop`).

    `id` is the last part of a problem's id: the row's own id, else its number counted from 0.
    `question_starts` guards against a copy in another order, where another question has the number.
    """

    id: str
    """The last part of the problem's id: the row's own id, else its number counted from 0."""
    question_starts: str | None = None
    """How the question begins: a guard against a copy in another order."""
    answer: str | None = None
    """The right answer."""
    drop: bool = False
    """Whether the problem is left out."""
    reason: Annotated[str, Field(min_length=1)]
    """What is wrong with the published answer."""
    source: str = ""
    """Where that can be read."""

    @model_validator(mode="after")
    def _does_one_thing(self) -> Erratum:
        if (self.answer is not None) == self.drop:
            raise ValueError('answer: an erratum has either answer = "…" or drop = true')
        if self.answer is not None and not self.answer.strip():
            raise ValueError("answer: empty; use drop = true to leave the problem out")
        return self


class UngradedAnswers(Section):
    """Gold answers that rules cannot grade rightly, whatever a model writes: `[[set_aside]]` of a
    benchmark. Their problems are set aside, by this reason, after `rows` and `content` were checked
    and the errata applied; a judge is not asked about them either.
    """

    answer: Annotated[str, Field(min_length=1)]
    """A pattern of RE2 that is looked for anywhere in the gold answer. Example: "such that"
    """
    reason: Annotated[str, Field(min_length=1, max_length=80)]
    """What such an answer is; the log, the manifest and `set_aside.jsonl` say it."""


class Benchmark(Section):
    """A benchmark: a file of eval/benchmarks.

    `rows` and `content` (curation.benchmarks.content_of) are the number and the hash of its rows,
    checked whenever it is read; `answer_kind` is the form of its gold answers. `n` and `prompt` are
    recommendations: samples per problem, and the prompt for models that were trained elsewhere.
    """

    name: Name
    """The benchmark's name, as its file's."""
    about: str = ""
    """What it measures, in a line; `list benchmarks` shows it."""
    licence: str = ""
    """The licence of its rows."""
    paper: str = ""
    """The paper that it is from."""
    url: str = ""
    """Where its rows are published."""
    n: Annotated[int, Field(ge=1)] = 1
    """Samples per problem that are recommended. [samples]"""
    prompt: Name | None = None
    """The prompt that is recommended for models that were trained elsewhere."""
    answer_kind: AnswerKind | None = None
    """The form of its gold answers."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """The number of its rows, checked whenever they are read. [rows]"""
    content: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    """The hash of its rows, checked whenever they are read."""
    errata: tuple[Erratum, ...] = ()
    """Corrections of published gold answers, a table each."""
    set_aside: tuple[UngradedAnswers, ...] = Field(default=(), exclude_if=lambda rules: not rules)
    """Forms of gold answers that rules cannot grade, a table each."""
    problems: ProblemSource
    """Where its rows come from; the same section that a pipeline file has."""

    @model_validator(mode="after")
    def _has_answers(self) -> Benchmark:
        if not self.problems.answer:
            raise ValueError(
                "problems.answer: a benchmark needs gold answers; name the field that holds them"
            )
        return self

    @model_validator(mode="after")
    def _is_measured_whole(self) -> Benchmark:
        for key in ComparedProblems.model_fields:
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
