"""A pipeline file: WHAT a run does, section by section."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from reasondistill.config.basics import Name
from reasondistill.config.rounds import RoundSettings
from reasondistill.config.sampling import (
    ModelSettings,
    SampledModel,
    SamplingSettings,
    TraceSettings,
    VerdictSettings,
    can_be_asked,
    require_an_end_of_thinking,
)
from reasondistill.config.sources import ProblemSettings
from reasondistill.config.students import (
    CONTROLS,
    STUDENT,
    TEACHING,
    ExampleSettings,
    StudentSettings,
)
from reasondistill.nearest import nearest
from reasondistill.sections import Section


class EvalModel(SamplingSettings, ModelSettings):
    """A model that this run did not train, measured beside its students: `[[evals.models]]`.

    `sampler` and `model` as for a teacher. Its sampling keys override those of `[evals]`. Without
    a `prompt` the model gets the prompt of `[evals]`, else, when it is a student's folder, the
    prompt that it was trained with, else the one that the benchmark recommends.
    """

    name: Name
    """What the model is called in scores and folders."""
    prompt: str | None = None
    """The prompt that it is asked with; without one that of `[evals]`, else the one that it was
    trained with, else the benchmark's.
    """

    @model_validator(mode="after")
    def _answers_questions(self) -> Self:
        can_be_asked(self)
        if self.thinking_budget is not None:
            require_an_end_of_thinking(self)
        return self

    def as_sampled_model(self) -> SampledModel:
        """The same model as a SampledModel."""
        return SampledModel(**self.model_dump(include={"name", *ModelSettings.model_fields}))


class CheckpointSettings(Section):
    """Accuracy against training steps: `[evals.checkpoints]`. Training keeps `count` snapshots of
    each student.

    The snapshots are measured on the first `limit` problems of `benchmarks` (all of them when
    empty), `n` samples each.
    """

    count: Annotated[int, Field(ge=0)] = 0
    """How many snapshots of each student are kept during training and measured; 0 for none."""
    benchmarks: tuple[str, ...] = ()
    """The benchmarks on which snapshots are measured; empty for all of `[evals]`."""
    limit: Annotated[int, Field(ge=1)] | None = 100
    """How many problems of each benchmark a snapshot answers. [problems]"""
    n: Annotated[int, Field(ge=1)] = 1
    """Samples per problem of a snapshot. [samples]"""


class EvalSettings(SamplingSettings):
    """Which benchmarks, with how many samples per problem (`n`), and how they are sampled. Raising
    `n` tops up.

    `n = "recommended"` takes what each benchmark file recommends. `prompts` are further prompts
    under which every model is measured, to see how much the prompt matters. `models` are measured
    beside the students; every other model is compared with the models that `against` names. The
    first `latency` problems are answered once more, one at a time, to measure how long a single
    answer takes.

    `failures_allowed` is the share of a model's samples that the service may lose. The default is
    none: a score from fewer samples would mislead. Above 0 lost samples
    are left out of the score, and the report names them.

    `continue = false`: as in `[traces]`, for the samples of the measured models.

    `difficulty` names a measured model: the others' scores are also given apart, by how often it
    solved a problem.
    """

    benchmarks: tuple[str, ...] = ()
    """Names or files of benchmarks (`list benchmarks`)."""
    n: Annotated[int, Field(ge=1)] | Literal["recommended"] = 1
    """Samples per problem; "recommended" takes what each benchmark's file recommends. Raising
    it keeps those that are there. [samples]
    """
    prompt: str | None = None
    """The prompt for all models; without one a model's own, else the benchmark's."""
    prompts: tuple[str, ...] = ()
    """Further prompts under which every model is measured, to see how much the prompt matters."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """The first problems of each benchmark only. [problems]"""
    teacher: bool = True
    """Whether the teachers are measured beside the students, where their sampler can answer."""
    models: tuple[EvalModel, ...] = ()
    """Models that this run did not train, measured beside its students."""
    against: tuple[str, ...] = ()
    """The names of the models that all others are compared with."""
    latency: Annotated[int, Field(ge=0)] = 0
    """So many problems are answered once more, one at a time, to measure how long a single
    answer takes. [problems]
    """
    failures_allowed: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of a model's samples that the service may lose. Above 0 lost samples are left
    out of the score by name.
    """
    goes_on: bool = Field(default=True, alias="continue", exclude_if=lambda goes_on: goes_on)
    """Whether a sample that was begun when the stage stopped goes on in its middle; false draws
    it anew from its beginning.
    """
    difficulty: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """The model by whose pass rate on a problem the scores of the others are told apart."""
    checkpoints: CheckpointSettings = CheckpointSettings()
    """Accuracy against training steps."""


class ReportSettings(Section):
    """What the report shows besides the scores: how many traces (with 0 the trace browser is not
    written either), and published numbers (eval/published.toml) of the same benchmarks.
    """

    title: str | None = None
    """The title of the report; without one the name of the run."""
    traces: Annotated[int, Field(ge=0)] = 10
    """How many traces the report shows. [traces]"""
    published: bool = True
    """Whether published numbers of the same benchmarks (`eval/published.toml`) stand beside the
    scores.
    """


class Pipeline(Section):
    """A pipeline file. A file without `[problems]` and `[traces]` trains nothing and only measures
    the models of `[evals]`.
    """

    name: Name
    """The name of the run's folder below `runs/`."""
    about: str = ""
    """What the file is for, in a line; `list pipelines` shows it."""
    problems: ProblemSettings | None = None
    """Where the problems come from: one source, or several in `[[problems.sources]]`."""
    traces: TraceSettings | None = None
    """Who writes traces, how many for each problem, and how they are sampled."""
    verdicts: VerdictSettings = VerdictSettings()
    """How traces and answers are graded."""
    examples: ExampleSettings = ExampleSettings()
    """Which verified traces become training examples."""
    students: tuple[StudentSettings, ...] = ()
    """The models to train, a table each."""
    evals: EvalSettings = EvalSettings()
    """What is measured, on which benchmarks."""
    report: ReportSettings = ReportSettings()
    """What the report shows besides the scores."""
    # Written only where there are any: run folders without them stay what they were.
    rounds: RoundSettings | None = Field(default=None, exclude_if=lambda rounds: rounds is None)
    """How many rounds there are, and how a student writes for the next one; `rounds = 2` alone is
    enough.
    """

    @model_validator(mode="after")
    def _teaches_or_measures(self) -> Pipeline:
        if self.problems is None and self.traces is None:
            if self.students or not self.evals.models:
                raise ValueError(
                    "problems: missing. Without [problems] and [traces] a file only "
                    "measures, and needs [[evals.models]]"
                )
            return self
        for key in ("problems", "traces"):
            if getattr(self, key) is None:
                raise ValueError(
                    f"{key}: missing; a run that trains needs both [problems] and [traces]"
                )
        return self

    @model_validator(mode="after")
    def _somebody_knows_the_answers(self) -> Pipeline:
        if self.problems is None or self.traces is None:
            return self
        if not self.problems.has_answers and self.verdicts.majority is None:
            raise ValueError(
                'verdicts: the problems have no answers (answer = ""); let the samples '
                "vote with majority = 0.5"
            )
        if self.verdicts.majority is not None and self.traces.accepted is not None:
            raise ValueError(
                "traces.accepted: counts correct samples while they are drawn, which only gold "
                "answers tell; samples that vote (verdicts.majority) need traces.n"
            )
        if self.verdicts.majority is not None and self.traces.n < 2:
            raise ValueError(
                "verdicts.majority: needs several samples of each problem, but traces.n = 1"
            )
        return self

    @model_validator(mode="after")
    def _every_problem_has_a_teacher(self) -> Pipeline:
        if self.problems is None or not any(teacher.tags for teacher in self.teachers):
            return self
        known = {getattr(part, "tag", None) for part in self.problems.parts}
        named: set[str] = set()
        for teacher in self.teachers:
            named.update(teacher.tags)
        strange = sorted(named - known)
        if strange:
            listed = ", ".join(sorted(tag for tag in known if tag is not None))
            raise ValueError(
                f"traces.teachers: no source of problems is tagged {strange[0]!r}; tags: "
                f"{listed or 'none'}"
            )
        if known - named and all(teacher.tags for teacher in self.teachers):
            left = min(str(tag or "(no tag)") for tag in known - named)
            raise ValueError(
                f"traces.teachers: nobody is dealt the problems tagged {left}, since each teacher "
                "names tags; leave those of one out: it gets all other problems"
            )
        return self

    @model_validator(mode="after")
    def _is_cleaned_of_something(self) -> Pipeline:
        if self.problems is None or self.problems.decontaminate is None:
            return self
        if not self.problems.decontaminate.files and not self.evals.benchmarks:
            raise ValueError(
                "problems.decontaminate: nothing to compare with; name evals.benchmarks, or "
                "problems.decontaminate.files"
            )
        return self

    @model_validator(mode="after")
    def _everybody_measured_ends_thinking(self) -> Pipeline:
        if self.evals.thinking_budget is None:
            return self
        measured: list[ModelSettings] = [
            model for model in self.evals.models if model.settings is None
        ]
        if self.evals.teacher:
            able = [model for model in self.teachers if model.capabilities.answers_anything]
            measured += able
        for model in measured:
            require_an_end_of_thinking(model)
        return self

    @model_validator(mode="after")
    def _distinct_students(self) -> Pipeline:
        earlier: dict[str, StudentSettings] = {}
        for student in self.students:
            parent = earlier.get(student.starts_from or "")
            if student.starts_from is not None and parent is None:
                raise ValueError(
                    f"students: {student.name} starts from {student.base!r}; no student "
                    "before it is called that"
                )
            if parent is not None and parent.seeds:
                has_such_seeds = student.seeds and set(student.seeds) <= set(parent.seeds)
                if not has_such_seeds:
                    seeds = list(parent.seeds)
                    raise ValueError(
                        f"students: {student.name} starts from {parent.name}, made with seeds "
                        f"{seeds}; give it such seeds"
                    )
            earlier[student.name] = student
        names = [student.name for student in self.all_students()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"students: the name {twice[0]!r} is used twice (a student's baselines have "
                "names too: see `baselines`)"
            )
        return self

    @model_validator(mode="after")
    def _has_what_students_are_chosen_by(self) -> Pipeline:
        for student in self.students:
            if student.selects_checkpoint and self.examples.validation == 0:
                raise ValueError(
                    f"students: {student.name} goes by the validation loss (keep = 'best', "
                    "early_stopping_patience), but examples.validation = 0"
                )
        return self

    @model_validator(mode="after")
    def _has_what_scores_traces(self) -> Pipeline:
        rule = self.examples.scored_by
        if rule is None or self.traces is None:
            return self
        select = f"examples.select = {self.examples.select!r}"
        if rule == "das" and self.traces.logprobs is None:
            raise ValueError(
                f"{select}: compares with the teacher's log-probabilities; store them with "
                "traces.logprobs = 16"
            )
        if self.examples.scores.model is not None:
            return self
        student = self.scoring_student
        if student is None:
            raise ValueError(
                f"{select}: no student is trained whose base could score the traces; name the "
                "model: examples.scores.model"
            )
        if student.base is None:
            raise ValueError(
                f"{select}: {student.name} starts from random weights, which say nothing of a "
                "text; name the model that scores: examples.scores.model"
            )
        return self

    @model_validator(mode="after")
    def _can_go_round(self) -> Pipeline:
        if self.rounds is not None and self.rounds.count > 1:
            _require_can_go_round(self, self.rounds)
        return self

    def student_of_rounds(self) -> StudentSettings:
        """The student whose samples join the next round: one of one seed. Raises ValueError where
        the file names none that writes anything, or several could be meant.
        """
        every = {student.name: student for student in self.all_students()}
        asked = None if self.rounds is None else self.rounds.student
        if asked is not None:
            if asked in self.seed_groups():
                names = ", ".join(self.seed_groups()[asked])
                raise ValueError(
                    f"rounds.student: {asked} has several seeds; name one of them: {names}"
                )
            # A student with one seed goes by its name in the file.
            full = {student.name: student for student in self.students if len(student.seeds) == 1}
            if asked in full:
                asked = seed_name(asked, full[asked].seeds[0])
            if asked not in every:
                raise ValueError(f"rounds.student: {asked!r} unknown. {nearest(asked, every)}")
            if every[asked].method in CONTROLS:
                raise ValueError(
                    f"rounds.student: {asked} is a control ({every[asked].method}), not a student "
                    "that learns from verified traces; name one that is trained on them"
                )
            return every[asked]
        starts = {student.starts_from for student in every.values()}
        last = [
            student
            for student in every.values()
            if student.name not in starts and student.method not in CONTROLS
        ]
        if len(last) != 1:
            names = ", ".join(student.name for student in last) or "none"
            raise ValueError(
                f"rounds.student: missing. Say whose samples join the next round; students that "
                f"could be meant: {names}"
            )
        return last[0]

    @property
    def scoring_student(self) -> StudentSettings | None:
        """The student whose base scores traces where `examples.scores` names no model: the first
        that is trained, or the one with which its chain begins. None where none is.
        """
        trained = [student for student in self.students if student.method not in CONTROLS]
        if not trained:
            return None
        student = trained[0]
        by_name = {other.name: other for other in self.students}
        while student.starts_from is not None:
            student = by_name[student.starts_from]
        return student

    @property
    def student_prompt(self) -> str:
        """The prompt that examples and evals use unless they name their own."""
        if self.examples.prompt:
            return self.examples.prompt
        if self.traces is None:
            return ""
        return self.traces.prompt

    @property
    def teachers(self) -> tuple[SampledModel, ...]:
        """The models that write traces; none in a file that only measures."""
        if self.traces is None:
            return ()
        return self.traces.teachers

    @property
    def also(self) -> tuple[SampledModel, ...]:
        """The models that write traces besides the teachers."""
        if self.traces is None:
            return ()
        return tuple(model.as_sampled_model() for model in self.traces.also)

    def all_students(self) -> tuple[StudentSettings, ...]:
        """The named students and their baselines, in the order in which they are trained, one for
        each seed.

        Students with the same start share one untouched base; students that train alike share one
        control of each other method. A control that the file names itself is not added again. The
        first of a kind has the plain name, and keeps it when students are added.
        """
        singles: list[StudentSettings] = []
        for student in self._with_controls():
            singles += self._by_seed(student)
        return tuple(singles)

    def _with_controls(self) -> list[StudentSettings]:
        """The students of the file, each followed by those of its baselines that are new."""
        students: list[StudentSettings] = []
        known = {
            (student.method, student.kind())
            for student in self.students
            if student.method in CONTROLS
        }
        for student in self.students:
            students.append(student)
            if student.method in CONTROLS:
                continue
            for method in student.baselines:
                # A student of this file that another one starts from is in the table already.
                if method == "base" and student.starts_from is not None:
                    continue
                control = _control(student, method)
                if (method, control.kind()) in known:
                    continue
                label = method.replace("_", "-")
                has_one_already = any(other == method for other, _ in known)
                if has_one_already:
                    label = f"{student.name}-{label}"
                known.add((method, control.kind()))
                students.append(control.model_copy(update={"name": label}))
        return students

    def _by_seed(self, student: StudentSettings) -> list[StudentSettings]:
        """One student per seed; each continues the student of the same seed, where the student that
        it starts from has several.
        """
        if not student.seeds:
            return [student]
        parents = [other for other in self.students if other.name == student.starts_from]
        singles: list[StudentSettings] = []
        for seed in student.seeds:
            update: dict[str, Any] = {"name": seed_name(student.name, seed)}
            update |= {"seed": seed, "seeds": ()}
            if parents and parents[0].seeds:
                parent = seed_name(parents[0].name, seed)
                update["base"] = f"{STUDENT}{parent}"
            singles.append(student.model_copy(update=update))
        return singles

    def seed_groups(self) -> dict[str, tuple[str, ...]]:
        """Name in the file → its students, one for each seed; only names with several seeds."""
        groups: dict[str, tuple[str, ...]] = {}
        for student in self._with_controls():
            singles = tuple(single.name for single in self._by_seed(student))
            if len(singles) > 1:
                groups[student.name] = singles
        return groups

    def against(self) -> tuple[str, ...]:
        """The models that [evals] compares all others with; a student with one seed goes by its
        name in the file.
        """
        full_names: dict[str, str] = {}
        for student in self._with_controls():
            if len(student.seeds) == 1:
                full_names[student.name] = self._by_seed(student)[0].name
        return tuple(full_names.get(name, name) for name in self.evals.against)


def seed_name(name: str, seed: int) -> str:
    """The name of one of a student's several seeds."""
    return f"{name}-seed{seed}"


def _require_can_go_round(pipeline: Pipeline, rounds: RoundSettings) -> None:
    """Raise ValueError, which names the key, where a student's samples could not be verified, or
    could not join.
    """
    written = pipeline.traces
    if written is None or pipeline.problems is None:
        raise ValueError("rounds: a file without [problems] and [traces] trains nothing")
    student = pipeline.student_of_rounds()
    if pipeline.verdicts.majority is not None or not pipeline.problems.has_answers:
        raise ValueError(
            "rounds: needs gold answers for every problem; with verdicts.majority a student would "
            "vote for what it has written"
        )
    if pipeline.examples.outcomes != ("correct",):
        raise ValueError(
            "rounds: a student's own samples join only where they are verified; leave "
            'examples.outcomes = ["correct"]'
        )
    if written.accepted is not None:
        raise ValueError("rounds: not beside traces.accepted; use traces.n")
    if written.logprobs is not None:
        raise ValueError(
            "rounds: not beside traces.logprobs: what a student writes has no log-probabilities of "
            "the teacher's. Leave them out"
        )
    mixture = pipeline.examples.mixture
    if mixture is not None and mixture.by == "teacher":
        raise ValueError(
            'rounds: not beside examples.mixture by = "teacher", in which a later writer has no '
            "weight; rounds.most bounds what it adds"
        )
    if student.examples is not None and student.examples.teachers:
        raise ValueError(
            f"rounds: {student.name} is trained on examples of some teachers alone "
            "(students.examples.teachers); its own would be left out"
        )
    if "of_writer" in pipeline.examples.filters:
        raise ValueError(
            "rounds: not beside examples.filters.of_writer, which rounds.most and "
            "rounds.keep_teacher set"
        )
    if any(model.of_round is not None for model in written.also):
        raise ValueError("rounds: traces.also.of_round is set by rounds; leave it out")
    named = (*pipeline.evals.models, *pipeline.all_students(), *written.teachers)
    taken = {one.name for one in named}
    for number in range(1, rounds.count):
        if f"{student.name}-round-{number}" in taken:
            raise ValueError(
                f"rounds: the name {student.name}-round-{number} is that of a student of a round; "
                "call the other one something else"
            )


def _control(student: StudentSettings, method: str) -> StudentSettings:
    update = {"method": method, "baselines": ()} | dict.fromkeys(TEACHING)
    if method == "base" and student.architecture is None:
        update["seeds"] = ()  # weights that were there before know no seed
    return student.model_copy(update=update)
