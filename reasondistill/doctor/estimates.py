"""Estimates, in words, of what each task of a run will make: for the plan of a dry run."""

from __future__ import annotations

from reasondistill.config import StudentSettings
from reasondistill.pipeline import (
    Run,
    Task,
)
from reasondistill.pipeline.measured import scoring_model
from reasondistill.runs import layout
from reasondistill.runs.figures import TracesFigures, read_forecast
from reasondistill.runs.store import read_manifest
from reasondistill.stages.problems import count_problems
from reasondistill.stages.students.footprint import gib, plan_of

# Of longer files so many rows are read for the plan.
_MOST_COUNTED = 200_000
# Of a file and what stands beside it: a plan asks for each of its tasks.
_counted: dict[str, int | None] = {}


def estimate(run: Run, task: Task) -> str:
    """An estimate, in words, of what a task will make; counts are exact where the stage before has
    run, and upper bounds elsewhere.

    Times come from this run folder's own earlier figures when it has any, and from `forecast.json`
    when a forecast was made.
    """
    return _amount(run, task) + _forecast_time(run, task)


def _forecast_time(run: Run, task: Task) -> str:
    """`; forecast 3.2 h [2.6, 3.9]`: the time of a task by the stored forecast; empty without
    one.
    """
    forecast = read_forecast(run.folder / layout.FORECAST)
    if forecast is None:
        return ""
    names = {f"{task.stage}/{unit}" for unit in task.units} or {task.stage}
    stages = [stage for stage in forecast.stages if stage.stage in names]
    hours = [stage.wall_hours for stage in stages if stage.wall_hours is not None]
    if not hours or len(hours) < len(names):
        return ""
    expected = _hours(sum(one.expected for one in hours))
    low = _hours(sum(one.low for one in hours))
    high = _hours(sum(one.high for one in hours))
    return f"; forecast {expected} [{low}, {high}]"


def _hours(hours: float) -> str:
    if hours < 2:
        return f"{60 * hours:,.1f} min"
    return f"{hours:,.1f} h"


def _amount(run: Run, task: Task) -> str:
    examples = run.pipeline.examples
    match task.stage:
        case "problems":
            number = _number_of_problems(run)
            if number is None:
                return f"all rows of the source: of a hub, or more than {_MOST_COUNTED:,}"
            return f"at most {number:,} problems"
        case "traces":
            return _traces_estimate(run, _number_of_problems(run))
        case "verdicts":
            return _verdicts_estimate(run)
        case "examples":
            outcomes = ", ".join(examples.outcomes)
            amount = f"{examples.select} of the {outcomes} traces"
            if examples.scored_by is not None:
                amount += f", which {scoring_model(run).name} scores first"
            return amount
        case "students":
            students = {student.name: student for student in run.pipeline.all_students()}
            return _student_estimate(run, students[task.units[0]])
        case "evals":
            return _evals_estimate(run, task)
        case _:
            return "report.md, report.json, report.html, browser/ (all traces)"


def _evals_estimate(run: Run, task: Task) -> str:
    if not task.units:
        return "the tables"
    settings = run.pipeline.evals
    text = f"{len(task.units)} models × {len(settings.benchmarks)} benchmarks × n = {settings.n}"
    if settings.prompts:
        text += f" × {1 + len(settings.prompts)} prompts"
    return text


def _number_of_problems(run: Run) -> int | None:
    """How many problems there are, or at most will be: the limit, or the rows of the sources that
    are here, counted.
    """
    done, settings = read_manifest(run.stage("problems")), run.pipeline.problems
    if done is not None and done.status == "complete":
        return done.count("out")
    if settings is None:
        return None
    if settings.most_problems is not None:
        return settings.most_problems
    key = f"{run.source.parent}\n{settings.model_dump_json()}"
    if key not in _counted:
        _counted[key] = count_problems(settings, base=run.source.parent, most=_MOST_COUNTED)
    return _counted[key]


def _traces_estimate(run: Run, number: int | None) -> str:
    settings = run.pipeline.traces
    assert settings is not None
    # Until enough samples are correct: nobody knows how soon that will be.
    most = "at most " if settings.accepted is not None else ""
    if number is None:
        return f"{most}{settings.samples} traces for each problem"
    drawn = number * settings.samples
    text = f"{most}{drawn:,} traces"
    if any(teacher.capabilities.reads_dataset for teacher in settings.teachers):
        text = f"at most {text}; those of a data set are read, not drawn"
    if settings.budget_tokens is not None:
        text += f", about {settings.budget_tokens:,} tokens"
    elif any(teacher.capabilities.answers_anything for teacher in settings.teachers):
        text += f", at most {drawn * settings.resolve().max_tokens:,} tokens"
    done = read_manifest(run.stage("traces"))
    if done is None:
        return text
    measured = TracesFigures.of(done)
    rate = measured.tokens_per_s
    if measured.tokens and measured.samples and rate:
        minutes = drawn * measured.tokens / measured.samples / rate / 60
        if settings.budget_tokens is not None:
            minutes = settings.budget_tokens / rate / 60
        about = most or "about "
        text += f"; {about}{minutes:,.0f} min at the {rate:,.0f} tok/s measured here"
    return text


def _verdicts_estimate(run: Run) -> str:
    judge = run.pipeline.verdicts.judge
    if judge is None:
        return "one verdict per trace"
    return f"one verdict per trace; {judge.model} is asked about undecided ones"


_CONTROLS = {
    "answer_only": "gold answers without reasoning",
    "unverified": "traces whatever their verdict",
}


def _student_estimate(run: Run, student: StudentSettings) -> str:
    start = student.base or "from scratch"
    if student.shrink:
        start += ", shrunk"
    if student.method == "base":
        return f"{start}, not trained" if student.shrink else f"{start}, untouched"
    if student.method in _CONTROLS:
        length = f"{_CONTROLS[student.method]}, as many steps as its student"
    elif student.max_steps:
        length = f"{student.max_steps} steps"
    else:
        length = f"{student.epochs:g} epochs"
    text = f"{start}, {length}, batch {student.batch_size}"
    if student.lora:
        text += ", LoRA"
    snapshots = run.pipeline.evals.checkpoints.count
    plan = plan_of(student, run.cluster.train, snapshots=snapshots)
    if plan is not None:
        most = plan.disk(student.max_steps)
        text += f"; at most {gib(plan.memory)} of memory, {gib(most)} of disk while it is trained"
    return text
