"""Who is measured in stage 6 of a run, on what settings, and who is compared with whom.

Nothing is imported here that samples or grades: whoever only lists tasks starts at once.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reasondistill.config import (
    CONTROLS,
    Benchmark,
    EvalModel,
    SampledModel,
    SamplingSettings,
    Scalar,
    StudentSettings,
    TraceSettings,
)
from reasondistill.errors import ConfigError
from reasondistill.models.weights import made_for
from reasondistill.pipeline.runs import Run, benchmarks, located
from reasondistill.runs.store import read_manifest

if TYPE_CHECKING:
    from reasondistill.models.scores.job import ScoringModel

_SAMPLING = set(SamplingSettings.model_fields)
# Of the traces' keys those that measure nothing else: a student is to end its reasoning by itself.
_OF_THE_TRACES = _SAMPLING - {"thinking_budget"}
# What a teacher without a name is called where it is the only one.
_ONLY_TEACHER = "teacher"


@dataclass(frozen=True)
class Measured:
    """A model to measure: how it is served, the prompt it was made for (None: the benchmark's),
    sampling keys of its own.
    """

    served: SampledModel
    prompt: str | None
    sampling: EvalModel | None = None


def eval_models(run: Run) -> dict[str, Measured]:
    """Name → model: students and baselines from the run folder, the teachers, then the models that
    [evals] names.
    """
    models: dict[str, Measured] = {}
    for student in run.pipeline.all_students():
        served = served_student(run, student)
        models[student.name] = Measured(served, run.pipeline.student_prompt)
    if run.pipeline.evals.teacher and run.pipeline.traces is not None:
        for name, teacher in served_teachers(run).items():
            models[name] = Measured(teacher, run.pipeline.traces.prompt)
    for model in run.pipeline.evals.models:
        served = located(model.as_sampled_model())
        prompt = made_for(served.model) if served.capabilities.has_weights else None
        models[model.name] = Measured(served, prompt, model)
    return models


def served_student(run: Run, student: StudentSettings) -> SampledModel:
    """A student as it is sampled: the weights that its record names, or will name."""
    folder = run.layout.student(student.name)
    manifest = read_manifest(folder.path)
    path = str(folder.model)
    if manifest is not None and manifest.status == "complete":
        from reasondistill.stages.students import read_student

        path = read_student(folder.path).path
    # A folder of our own has no revision, and its template knows its options.
    revision = None
    if path == student.base:
        revision = student.revision
    options: dict[str, Scalar] = {}
    if not Path(path).is_relative_to(folder.path):
        options = student.template_options
    return SampledModel(
        name=student.name,
        model=path,
        revision=revision,
        template_options=options,
        trust_remote_code=student.trust_remote_code,
    )


def served_teachers(run: Run) -> dict[str, SampledModel]:
    """The teachers that can be asked anything: not the reference solutions, not a script."""
    able = [model for model in run.pipeline.teachers if model.capabilities.answers_anything]
    # Of the teacher that was the only one before another came, too.
    measured = {cell.name for cell in run.layout.evals.cells()}
    served: dict[str, SampledModel] = {}
    for teacher in able:
        name = teacher.name
        was_alone = teacher is able[0] and _ONLY_TEACHER in measured
        if not name and (len(able) == 1 or was_alone):
            name = _ONLY_TEACHER
        elif not name:
            last_part = teacher.model.rpartition("/")[2]
            # A word of a task's command, which begins with no dash.
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", last_part).lstrip("-") or "teacher"
        served[name] = located(teacher)
    return served


def teacher_of(run: Run, student: StudentSettings) -> SampledModel | None:
    """Whose distributions a student learns: the one it names, else the only teacher of the traces
    whose weights are here.
    """
    if not student.distils():
        return None
    if student.teacher is not None:
        named = SampledModel(
            model=student.teacher,
            revision=student.teacher_revision,
            trust_remote_code=student.teacher_trust_remote_code,
        )
        return located(named)
    able = [model for model in run.pipeline.teachers if model.capabilities.has_weights]
    if len(able) != 1:
        return None
    return located(able[0])


def scoring_model(run: Run) -> ScoringModel:
    """The model that scores traces: the one that `[examples.scores]` names, else the base of a
    student, with its chat template and end of a text.
    """
    from reasondistill.models.scores.job import ScoringModel

    scores, student = run.pipeline.examples.scores, run.pipeline.scoring_student
    if scores.model is not None or student is None:
        return ScoringModel(scores.model or "", scores.revision, scores.trust_remote_code)
    return ScoringModel(
        student.base or "",
        student.revision,
        student.trust_remote_code,
        student.chat_template,
        student.template_options,
        student.eos_token,
    )


def baselines(run: Run) -> Mapping[str, list[str]]:
    """Who is compared with whom: each trained student with its untouched base, its controls and the
    teachers; all with `against`. Raises ConfigError when nobody is called so, or as `difficulty`
    says.
    """
    models = list(eval_models(run))
    difficulty = run.pipeline.evals.difficulty
    if difficulty is not None and difficulty not in models:
        raise _not_measured("difficulty", difficulty, models)
    every = run.pipeline.all_students()
    groups = run.pipeline.seed_groups()
    against = run.pipeline.against()
    by_name = {student.name: student for student in every}
    named = named_students(run)
    controls = [student for student in every if student.method in CONTROLS]
    compared: dict[str, list[str]] = {}
    for student in every:
        if student.method in CONTROLS:
            continue
        others = [other.name for other in controls if is_control_of(other, student, by_name, named)]
        others += served_teachers(run)
        compared[student.name] = [name for name in others if name in models]

    def compare(model: str, other: str) -> None:
        if model != other and other not in compared.setdefault(model, []):
            compared[model].append(other)

    for model, other in same_seed_pairs(groups, against):
        compare(model, other)
    for other in against:
        if other in groups:
            continue
        if other not in models:
            raise _not_measured("against", other, models)
        for model in models:
            compare(model, other)
    return {model: others for model, others in compared.items() if others}


def _not_measured(key: str, name: str, models: Sequence[str]) -> ConfigError:
    known = ", ".join(models)
    return ConfigError(
        f"[evals] {key}: {name!r} is not among the models that are measured: {known}."
    )


def is_control_of(
    control: StudentSettings,
    student: StudentSettings,
    by_name: Mapping[str, StudentSettings],
    named: Container[str],
) -> bool:
    """Whether a trained student is compared with this control. `by_name` are all students, `named`
    those of the file's own blocks.

    One that came by itself belongs to the students that train like it, one that the file names to
    all of its base.
    """
    first = first_of(student, by_name)
    if control.method != "base" and control.name not in named:
        return control.recipe() in (student.recipe(), first.recipe())
    return first_of(control, by_name).start() == first.start()


def named_students(run: Run) -> set[str]:
    """The students of the file's own blocks, those of several seeds one by one."""
    groups = run.pipeline.seed_groups()
    names: set[str] = set()
    for student in run.pipeline.students:
        names.update(groups.get(student.name, (student.name,)))
    return names


def first_of(student: StudentSettings, by_name: Mapping[str, StudentSettings]) -> StudentSettings:
    """Where a student that goes on from others began."""
    while student.starts_from is not None:
        student = by_name[student.starts_from]
    return student


def same_seed_pairs(
    groups: Mapping[str, Sequence[str]], against: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Each student of several seeds with the student of the same seed of another block of the file.

    >>> list(same_seed_pairs({"a": ["a-1", "a-2"], "b": ["b-2", "b-3"]}, ["b"]))
    [('a-2', 'b-2'), ('b-2', 'b-2'), ('b-3', 'b-3')]
    """
    for other in against:
        counterparts = groups.get(other, ())
        for name, members in groups.items():
            for member in members:
                counterpart = other + member.removeprefix(name)
                if counterpart in counterparts:
                    yield member, counterpart


# ---- how -----------------------------------------------------------------------------------------


def samples_of(run: Run, benchmark: Benchmark) -> int:
    """Samples per problem: what [evals] says, or what the benchmark recommends; then one where
    greedy sampling would repeat itself. See `sampling_of` for what a single model is asked.
    """
    n = run.pipeline.evals.n
    if n != "recommended":
        return n
    if run.pipeline.evals.resolve().temperature == 0:
        return 1
    return benchmark.n


def sampling_of(
    run: Run,
    measured: Measured,
    benchmark: Benchmark,
    *,
    prompt: str | None = None,
    n: int | None = None,
) -> TraceSettings:
    """How a model is sampled: as the traces were (without their budget of thinking), but for what
    [evals] says, and above it the model's own keys.

    The prompt: the one asked for, else that of [evals], else the one that the model was made for,
    else the benchmark's. At temperature 0 one sample of each problem: the others would be the same.
    """
    settings, written = run.pipeline.evals, run.pipeline.traces
    keys = settings.model_dump(include=_SAMPLING, exclude_none=True)
    if written is not None and "settings" not in keys:
        keys = written.model_dump(include=_OF_THE_TRACES, exclude_none=True) | keys
    prompts = [prompt, settings.prompt, measured.prompt, benchmark.prompt, "question"]
    if measured.sampling is not None:
        prompts.insert(1, measured.sampling.prompt)
        theirs = measured.sampling.model_dump(include=_SAMPLING, exclude_none=True)
        # Recommended settings are taken whole.
        if "settings" not in theirs:
            theirs = keys | theirs
        keys = theirs
    sampled = TraceSettings.model_validate(
        {
            **keys,
            "prompt": next(name for name in prompts if name),
            "n": n or samples_of(run, benchmark),
            "teachers": (measured.served,),
            "failures_allowed": settings.failures_allowed,
            "continue": settings.goes_on,
        }
    )
    if sampled.resolve().temperature == 0:
        return sampled.model_copy(update={"n": 1})
    return sampled


def most_samples(run: Run) -> int:
    """The largest number of samples per problem that is asked for, of models or at checkpoints."""
    asked = [samples_of(run, benchmark) for benchmark in benchmarks(run)]
    checkpoints = run.pipeline.evals.checkpoints
    if checkpoints.count > 0:
        asked.append(checkpoints.n)
    return max(asked, default=1)


def greedy_models(run: Run, measured: Mapping[str, Measured]) -> list[str]:
    """The models that answer once where several samples are asked for, since their temperature is
    0.
    """
    if most_samples(run) == 1:
        return []
    benchmark = benchmarks(run)[0]
    return [
        name
        for name, model in measured.items()
        if sampling_of(run, model, benchmark).resolve().temperature == 0
    ]


def step_benchmarks(run: Run) -> list[Benchmark]:
    """The benchmarks that checkpoints are measured on. Raises ConfigError for one that [evals] does
    not name.
    """
    wanted, known = run.pipeline.evals.checkpoints.benchmarks, benchmarks(run)
    strangers = set(wanted) - {benchmark.name for benchmark in known}
    if strangers:
        raise ConfigError(
            f"[evals.checkpoints] benchmarks: {sorted(strangers)[0]!r} is not among those "
            "of [evals]."
        )
    return [benchmark for benchmark in known if not wanted or benchmark.name in wanted]


def untouched_base(run: Run, name: str) -> str | None:
    """The untouched model that the training of a student began with, through all students that it
    continues.
    """
    by_name = {student.name: student for student in run.pipeline.all_students()}
    if name not in by_name:
        return None
    start = first_of(by_name[name], by_name).start()
    for other in by_name.values():
        if other.method == "base" and other.start() == start:
            return other.name
    return None
