"""The seven stages in order: what to skip, resume, refuse.

    Problem ─▶ Trace ─▶ Verdict ─▶ Example ─▶ Student ─▶ EvalRecord ─▶ Report

A `Run` is a pipeline file, a cluster file and a folder. `plan` lists its tasks in order; `run_task`
does one of them and may be called in any process on any machine that sees the folder: stages meet
on disk.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from reasondistill.errors import ConfigError
from reasondistill.grading import GradingPool
from reasondistill.models.prompts import load_prompt
from reasondistill.pipeline import evaluating
from reasondistill.pipeline.evaluating import eval_models, served_teachers, teacher_of
from reasondistill.pipeline.runs import (
    FOLDERS,
    RUN,
    STAGES,
    Run,
    Task,
    benchmarks,
    is_needed,
    load_run,
    located,
    parents_of,
    save_run,
    twin_of,
    with_environment,
)
from reasondistill.pipeline.status import (
    StageState,
    folder_of,
    missing_of,
    progress_of,
    remaining,
    settle,
    stage_states,
    walk,
)
from reasondistill.runs.store import MANIFEST, Manifest, StopSignal
from reasondistill.runs.work_sharing import Share
from reasondistill.stages import examples, problems, report, students, traces, verdicts

__all__ = [
    "FOLDERS",
    "RUN",
    "STAGES",
    "Run",
    "StageState",
    "Task",
    "benchmarks",
    "eval_models",
    "folder_of",
    "is_needed",
    "load_run",
    "located",
    "plan",
    "progress_of",
    "remaining",
    "run_task",
    "save_run",
    "select_stages",
    "served_teachers",
    "missing_of",
    "stage_states",
    "teacher_of",
    "walk",
]

log = logging.getLogger(__name__)


# ---- what there is to do -------------------------------------------------------------------------


def plan(run: Run, stages: Iterable[str], *, share_engine_process: bool) -> list[Task]:
    """The tasks of these stages in order. With `share_engine_process` one process serves all eval
    models, one after the other.
    """
    wanted = set(stages)
    if not wanted & set(run.stages):
        raise ConfigError(
            f"{run.source}: only measures, there is no stage {sorted(wanted)[0]}. Stages: "
            f"{', '.join(run.stages)}."
        )
    tasks: list[Task] = []
    for stage in run.stages:
        if stage not in wanted:
            continue
        shards = run.cluster.stages.of(stage).shards
        if stage == "students":
            tasks += [
                Task(
                    "students",
                    (student.name,),
                    tuple(f"students:{name}" for name in parents_of(run, student)),
                )
                for student in run.pipeline.all_students()
            ]
        elif stage == "evals":
            models = tuple(eval_models(run)) if run.pipeline.evals.benchmarks else ()
            groups = (
                [models] if share_engine_process or shards > 1 else [(model,) for model in models]
            )
            for group in groups if models else []:
                tasks += _shared("evals", shards, group) if shards > 1 else [Task("evals", group)]
            tasks += [Task("evals")] if models else []
        elif stage in ("traces", "verdicts") and shards > 1:
            tasks += _shared(stage, shards)
        else:
            tasks.append(Task(stage))
    return tasks


def _shared(stage: str, shards: int, units: tuple[str, ...] = ()) -> list[Task]:
    """One process opens the stage, workers fill it side by side, one closes it."""
    workers = [Task(stage, units, share=Share("work", number, shards)) for number in range(shards)]
    return [
        Task(stage, units, share=Share("open", of=shards)),
        *workers,
        Task(stage, units, share=Share("close", of=shards)),
    ]


def select_stages(only: str | None, first: str | None, last: str | None) -> list[str]:
    """The stage names between `first` and `last`, or just `only`. Raises ConfigError for an unknown
    name or an empty range.
    """
    for name in (only, first, last):
        if name is not None and name not in STAGES:
            raise ConfigError(f"no stage is called {name!r}. Stages: {', '.join(STAGES)}.")
    if only is not None:
        return [only]
    chosen: list[str] = list(
        STAGES[STAGES.index(first or STAGES[0]) : STAGES.index(last or STAGES[-1]) + 1]
    )
    if not chosen:
        raise ConfigError(f"--from {first} comes after --until {last}.")
    return chosen


# ---- doing it ------------------------------------------------------------------------------------


def run_task(run: Run, task: Task, stop: StopSignal) -> Manifest | None:
    """Do one task; skip what is complete, resume what is partial, refuse what was made from
    something else.

    Several processes that do it together all call this; the first one writes.
    """
    doers = {
        "problems": _run_problems,
        "traces": _run_traces,
        "verdicts": _run_verdicts,
        "examples": _run_examples,
        "students": _run_student,
        "evals": _run_evals,
        "report": _run_report,
    }
    manifest = doers[task.stage](run, task, stop)
    # Partial: open for workers. Of several processes that did it together the first one writes.
    if manifest is None or manifest.status == "partial" or not students.processes.is_first():
        return manifest
    manifest = with_environment(folder_of(run, task), manifest)
    settle(run, task)
    return manifest


def _pool(run: Run) -> GradingPool:
    settings, grade = run.pipeline.verdicts, run.cluster.grade
    return GradingPool(
        workers=grade.workers,
        deadline_s=settings.deadline_s,
        memory_mib=grade.memory_mib,
        policy=settings.policy,
    )


def _run_problems(run: Run, task: Task, stop: StopSignal) -> Manifest:
    """Benchmarks first: a training problem that a benchmark also has is set aside."""
    assert run.pipeline.problems is not None
    with _pool(run) as pool:
        held_out: dict[str, str] = {}
        for benchmark in benchmarks(run):
            evaluating.prepare(run, benchmark, pool)
            questions = problems.questions_of(run.layout.benchmark(benchmark.name).problems_folder)
            held_out |= dict.fromkeys(questions, benchmark.name)
        return problems.run_problems(
            run.pipeline.problems,
            run.stage("problems"),
            pool=pool,
            held_out=held_out,
            keep_old=run.keep_old,
            base=run.source.parent,
        )


def _run_traces(run: Run, task: Task, stop: StopSignal) -> Manifest:
    assert run.pipeline.traces is not None
    settings = run.pipeline.traces
    settings = settings.model_copy(
        update={"teachers": tuple(located(teacher) for teacher in settings.teachers)}
    )
    return traces.run_traces(
        settings,
        run.stage("problems"),
        run.stage("traces"),
        cluster=run.cluster,
        stop=stop,
        keep_old=run.keep_old,
        heal=_may_heal(run),
        share=task.share,
    )


def _may_heal(run: Run) -> bool:
    """Failed samples and judgements that succeed later would change the examples; once students are
    made of them they stay as they are.
    """
    return not any(run.stage("students").glob(f"*/{MANIFEST}"))


def _run_verdicts(run: Run, task: Task, stop: StopSignal) -> Manifest:
    folders = run.stage("problems"), run.stage("traces"), run.stage("verdicts")
    allowed = run.pipeline.traces.failures_allowed if run.pipeline.traces is not None else 0.0
    return _grade(
        run, *folders, stop, failures_allowed=allowed, heal=_may_heal(run), share=task.share
    )


def _grade(
    run: Run,
    problems_folder: Path,
    traces_folder: Path,
    folder: Path,
    stop: StopSignal,
    *,
    failures_allowed: float,
    heal: bool = True,
    share: Share | None = None,
) -> Manifest:
    grade, settings = run.cluster.grade, run.pipeline.verdicts
    if settings.judge is not None:
        settings = settings.model_copy(update={"judge": located(settings.judge)})
    return verdicts.run_verdicts(
        settings,
        problems_folder,
        traces_folder,
        folder,
        workers=grade.workers,
        memory_mib=grade.memory_mib,
        cluster=run.cluster,
        stop=stop,
        keep_old=run.keep_old,
        heal=heal,
        share=share,
        failures_allowed=failures_allowed,
    )


def _run_examples(run: Run, task: Task, stop: StopSignal) -> Manifest:
    return examples.run_examples(
        run.pipeline.examples,
        load_prompt(run.pipeline.student_prompt),
        run.stage("problems"),
        run.stage("traces"),
        run.stage("verdicts"),
        run.stage("examples"),
        about={"name": run.pipeline.name, "about": run.pipeline.about},
        unverified=any(student.method == "unverified" for student in run.pipeline.all_students()),
        keep_old=run.keep_old,
    )


def _run_student(run: Run, task: Task, stop: StopSignal) -> Manifest:
    student = next(s for s in run.pipeline.all_students() if s.name == task.units[0])
    parent = twin_of(run, student)
    teacher = teacher_of(run, student)
    if student.starts_from is not None:
        start = students.read_student(run.stage("students") / student.starts_from).path
        student = student.model_copy(update={"base": start, "revision": None})
    job = students.StudentJob(
        student=student,
        teacher=teacher.model if teacher is not None else None,
        teacher_revision=teacher.revision if teacher is not None else None,
        traces=run.stage("traces"),
        prompt=load_prompt(run.pipeline.student_prompt),
        problems=run.stage("problems"),
        examples=run.stage("examples"),
        folder=run.stage("students") / student.name,
        settings=run.cluster.train,
        snapshots=run.pipeline.evals.checkpoints.count,
        steps_like=run.stage("students") / parent if parent else None,
    )
    return students.run_student(job, stop=stop, keep_old=run.keep_old)


def _run_evals(run: Run, task: Task, stop: StopSignal) -> Manifest | None:
    """Sample and grade the named models on every benchmark; without names, put the tables together."""
    share = task.share
    if share is None or share.role == "open":
        with _pool(run) as pool:
            if not task.units:
                return evaluating.collect(run, pool)
            for benchmark in benchmarks(run):
                evaluating.prepare(run, benchmark, pool)

    def grade(problems_folder: Path, traces_folder: Path, folder: Path) -> Manifest:
        return _grade(
            run,
            problems_folder,
            traces_folder,
            folder,
            stop,
            failures_allowed=run.pipeline.evals.failures_allowed,
        )

    # Each worker begins with another model: an engine is loaded for a model of one's own before one
    # helps with others.
    first = share.number % len(task.units) if share is not None else 0
    for model in (*task.units[first:], *task.units[:first]):
        evaluating.measure(run, model, grade, stop, share)
    return None


def _run_report(run: Run, task: Task, stop: StopSignal) -> Manifest:
    return report.run_report(
        run.folder,
        run.stage("report"),
        settings=run.pipeline.report,
        title=run.pipeline.report.title or run.pipeline.name,
        about=run.pipeline.about,
        keep_old=run.keep_old,
    )
