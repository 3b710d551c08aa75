"""Before a run starts: what can be checked without weights, and what each task will make.

check(run)                     # raises what would otherwise fail hours later
estimate(run, task)            # "40,000 traces, at most 320,000,000 tokens"
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from reasondistill.config import (
    DEFAULT_SAMPLER,
    EnvironmentSettings,
    StudentSettings,
    capabilities_of,
)
from reasondistill.errors import ConfigError, MissingDependencyError
from reasondistill.grading import find_policy
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers.opening import identity_of
from reasondistill.models.weights import model_identity
from reasondistill.pipeline import (
    Run,
    Task,
    benchmarks,
    eval_models,
    located,
    served_teachers,
    teacher_of,
)
from reasondistill.pipeline.evaluating import baselines, step_benchmarks
from reasondistill.records import VARIANT, Forecast
from reasondistill.runs import layout
from reasondistill.runs.store import read_manifest
from reasondistill.stages import problems, students, verdicts


def check(run: Run, *, reads_data: bool = False) -> None:
    """Check what can be known without weights, before a GPU starts: prompts, benchmarks, model
    folders, packages.

    `reads_data` also reads the first row of each source that needs no network. Raises ConfigError,
    DataError or MissingDependencyError.
    """
    written, settings = run.pipeline.traces, run.pipeline.evals
    own = [
        prompt
        for model in eval_models(run).values()
        for prompt in (model.prompt, model.sampling and model.sampling.prompt)
    ]
    recommended = [benchmark.prompt for benchmark in benchmarks(run)]
    asked = [
        written.prompt if written is not None else None,
        run.pipeline.student_prompt,
        settings.prompt,
    ]
    for prompt in (*asked, *settings.prompts, *own, *recommended):
        if prompt:
            load_prompt(prompt)
    _check_variants(run)
    _check_names(run)
    baselines(run)
    find_policy(run.pipeline.verdicts.policy)
    teachers = [located(teacher) for teacher in (*run.pipeline.teachers, *settings.models)]
    for teacher in teachers:
        identity_of(teacher)
    _check_judge(run)
    if written is not None and written.logprobs_model is not None:
        model_identity(written.logprobs_model)
    train, resources = run.cluster.train, run.cluster.stages.of("students")
    for student in run.pipeline.all_students():
        students.check_strategy(
            student,
            train,
            train.processes * (resources.nodes if run.cluster.kind != "local" else 1),
        )
    for student in run.pipeline.students:
        students.check_settings(student)
        _check_teacher(run, student)
    _check_packages(run)
    if reads_data:
        for source in (
            run.pipeline.problems,
            *(benchmark.problems for benchmark in benchmarks(run)),
        ):
            if source is not None and source.source != "hub":
                next(problems.read_problems(source, base=run.source.parent), None)


def _check_teacher(run: Run, student: StudentSettings) -> None:
    """Whether a student that distils has somebody to learn from. Raises ConfigError."""
    if not student.distils():
        return
    stored_tokens = student.method_settings().stored_tokens
    if stored_tokens is not None:
        written = run.pipeline.traces
        if written is None or (written.logprobs or 0) < stored_tokens:
            raise ConfigError(
                f"[students] {student.name} method = {student.method!r} learns from stored "
                "log-probabilities: "
                f"set [traces] logprobs = {stored_tokens}."
            )
    else:
        teacher = teacher_of(run, student)
        if teacher is None:
            raise students.no_teacher(student)
        model_identity(teacher.model, teacher.revision)


def _check_variants(run: Run) -> None:
    """Further prompts, and the snapshots of students that are finished already. Raises ConfigError
    or StageError.
    """
    for prompt in run.pipeline.evals.prompts:
        if VARIANT in load_prompt(prompt).name:
            raise ConfigError(
                f"[evals] prompts: {prompt!r} has an @ in its name, which marks variants of "
                "a model; rename the file."
            )
    step_benchmarks(run)
    if run.pipeline.evals.checkpoints.count:
        for student in run.pipeline.all_students():
            done = read_manifest(run.stage("students") / student.name)
            if done is not None and done.status == "complete":
                students.snapshots(run.stage("students") / student.name)


def _check_judge(run: Run) -> None:
    """The judge's prompt, model folder or script, and package. Raises ConfigError or
    MissingDependencyError.
    """
    judge = run.pipeline.verdicts.judge
    if judge is None:
        return
    verdicts.load_judge_prompt(judge.prompt)
    identity_of(located(judge))
    if judge.capabilities.reads_file and not Path(judge.model).is_file():
        raise ConfigError(f"[verdicts.judge] model = {judge.model!r}: no such script file.")


def _check_names(run: Run) -> None:
    """Students and teachers stand beside each other in one table and one folder: their names must
    differ. Raises ConfigError.
    """
    names = [student.name for student in run.pipeline.all_students()]
    teachers = [
        teacher for teacher in run.pipeline.teachers if teacher.capabilities.answers_anything
    ]
    asked = list(served_teachers(run)) if run.pipeline.evals.teacher else []
    if asked and len(asked) < len(teachers):
        raise ConfigError("[traces.teachers] two teachers have the same name; give each a `name`.")
    every = [*names, *asked, *(model.name for model in run.pipeline.evals.models)]
    twice = [name for name in every if every.count(name) > 1 or name == "problems"]
    if twice:
        raise ConfigError(
            f"the name {twice[0]!r} is taken (by a student, a teacher, another model, or a "
            "folder of ours); choose another."
        )


def _check_packages(run: Run) -> None:
    """What each stage imports is installed, as far as it runs in this environment and not in one
    that the cluster file names.

    Raises MissingDependencyError.
    """
    for stage, package, extra in _packages(run):
        if (
            run.cluster.environment(stage) == EnvironmentSettings()
            and importlib.util.find_spec(package) is None
        ):
            raise MissingDependencyError(package, extra)


def _packages(run: Run) -> Iterator[tuple[str, str, str]]:
    """Stage, package, and our extra that brings it."""
    written, settings, judge = run.pipeline.traces, run.pipeline.evals, run.pipeline.verdicts.judge
    default = capabilities_of(DEFAULT_SAMPLER)
    samplers = [("traces", teacher.capabilities) for teacher in run.pipeline.teachers]
    samplers += [("evals", model.capabilities) for model in settings.models]
    if judge is not None:
        samplers.append(("verdicts", judge.capabilities))
    if written is not None and written.logprobs_model is not None:
        samplers.append(("traces", default))
    if run.pipeline.students and settings.benchmarks:
        samplers.append(("evals", default))
    for stage, sampler in samplers:
        if sampler.package:
            yield stage, sampler.package, sampler.extra
    for student in run.pipeline.students:
        yield from [("students", "trl", "train")] if student.method != "base" else []
        yield from (("students", tracker, "tracking") for tracker in student.report_to)


def estimate(run: Run, task: Task) -> str:
    """What a task will make, in words; counts are exact where the stage before has run, an upper
    bound elsewhere.

    Times come from this run folder's own earlier figures when it has any, and from `forecast.json`
    when a forecast was made.
    """
    return _amount(run, task) + _foretold(run, task)


def _foretold(run: Run, task: Task) -> str:
    """`; forecast 3.2 h [2.6, 3.9]`: the time of a task by the stored forecast; nothing when there
    is none.
    """
    path = run.folder / layout.FORECAST
    if not path.exists():
        return ""
    names = {f"{task.stage}/{unit}" for unit in task.units} or {task.stage}
    stages = [
        stage
        for stage in Forecast.model_validate_json(path.read_bytes()).stages
        if stage.stage in names
    ]
    hours = [stage.wall_hours for stage in stages if stage.wall_hours is not None]
    if not hours or len(hours) < len(names):
        return ""
    expected, low, high = (
        sum(getattr(found, bound) for found in hours) for bound in ("expected", "low", "high")
    )
    return f"; forecast {_time(expected)} [{_time(low)}, {_time(high)}]"


def _time(hours: float) -> str:
    return f"{60 * hours:,.1f} min" if hours < 2 else f"{hours:,.1f} h"


def _amount(run: Run, task: Task) -> str:
    settings = run.pipeline
    if task.stage == "students":
        return _student_estimate(
            next(student for student in settings.all_students() if student.name == task.units[0])
        )
    number = _number_of_problems(run)
    if task.stage == "traces":
        return _traces_estimate(run, number)
    names, measured = len(task.units) or len(eval_models(run)), settings.evals
    answers = f"{names} models × {len(measured.benchmarks)} benchmarks × n = {measured.n}"
    answers += f" × {1 + len(measured.prompts)} prompts" if measured.prompts else ""
    words = {
        "problems": f"at most {number:,} problems"
        if number is not None
        else "all rows of the source",
        "verdicts": _verdicts_estimate(run),
        "examples": f"{settings.examples.select} of the "
        f"{', '.join(settings.examples.outcomes)} traces",
        "evals": answers if task.units else "the tables",
        "report": "report.md, report.json, report.html",
    }
    return words[task.stage]


def _number_of_problems(run: Run) -> int | None:
    done = read_manifest(run.stage("problems"))
    if done is not None and done.status == "complete":
        return done.counts["out"]
    return run.pipeline.problems.limit if run.pipeline.problems is not None else None


def _traces_estimate(run: Run, number: int | None) -> str:
    settings = run.pipeline.traces
    assert settings is not None
    if number is None:
        return f"{settings.n} traces for each problem"
    drawn = number * settings.n
    text = f"{drawn:,} traces"
    if any(teacher.capabilities.answers_anything for teacher in settings.teachers):
        text += f", at most {drawn * settings.resolve().max_tokens:,} tokens"
    done = read_manifest(run.stage("traces"))
    figures = done.figures if done is not None else {}
    if figures.get("tokens") and figures.get("samples") and figures.get("tokens_per_s"):
        minutes = drawn * figures["tokens"] / figures["samples"] / figures["tokens_per_s"] / 60
        text += (
            f"; about {minutes:,.0f} min at the {figures['tokens_per_s']:,.0f} tok/s measured here"
        )
    return text


def _verdicts_estimate(run: Run) -> str:
    judge = run.pipeline.verdicts.judge
    return "one verdict per trace" + (
        f"; {judge.model} is asked about undecided ones" if judge is not None else ""
    )


def _student_estimate(student: StudentSettings) -> str:
    start = (student.base or "from scratch") + (", shrunk" if student.shrink else "")
    if student.method == "base":
        return f"{start}, not trained" if student.shrink else f"{start}, untouched"
    steps = f"{student.max_steps} steps" if student.max_steps else f"{student.epochs:g} epochs"
    twins = {
        "answer_only": "gold answers without reasoning",
        "unverified": "traces whatever their verdict",
    }
    how = (
        f"{twins[student.method]}, as many steps as its twin" if student.method in twins else steps
    )
    return f"{start}, {how}, batch {student.batch_size}" + (", LoRA" if student.lora else "")
