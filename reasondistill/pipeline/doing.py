"""Doing one task: the stage is handed its folders and settings; what is complete is skipped, what
is partial goes on, what was made from something else is refused.

A stage is imported by who does it: all seven took a third of a task's start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reasondistill.config import StudentSettings, TraceSettings, VerdictSettings
from reasondistill.pipeline.measured import scoring_model, teacher_of
from reasondistill.pipeline.merging import merging_opener
from reasondistill.pipeline.runs import (
    Run,
    Task,
    benchmarks,
    located,
    steps_like,
    with_environment,
)
from reasondistill.pipeline.status import folder_of, settle
from reasondistill.pipeline.tasks import measures_all
from reasondistill.runs.layout import MANIFEST, UNVERIFIED
from reasondistill.runs.samples import drawn_problems
from reasondistill.runs.session import Session
from reasondistill.runs.store import Manifest, StopSignal
from reasondistill.stages.students.processes import is_first

if TYPE_CHECKING:
    from reasondistill.curation.benchmarks import HeldOut
    from reasondistill.grading import GradingPool
    from reasondistill.models.scores.job import ScoreJob
    from reasondistill.stages.examples import ExampleInputs
    from reasondistill.stages.students import StudentJob

Doer = Callable[[Run, Task, StopSignal], Manifest | None]


# Their files appear whole, at their ends: a stop may come anywhere.
_HAVE_NO_SAFE_POINTS = ("problems", "examples", "report")


def run_task(run: Run, task: Task, stop: StopSignal) -> Manifest | None:
    """Do one task; skip what is complete, resume what is partial, refuse what was made from
    something else.

    Several processes that do it together all call this; the first one writes.
    """
    with ExitStack() as while_it_runs:
        if task.stage in _HAVE_NO_SAFE_POINTS:
            while_it_runs.enter_context(stop.at_once())
        manifest = DOERS[task.stage](run, task, stop)
    # Partial: open for workers. Of several processes that did it together the first one writes.
    if manifest is None or manifest.status == "partial" or not is_first():
        return manifest
    manifest = with_environment(folder_of(run, task), manifest)
    settle(run, task)
    return manifest


def grading_pool(run: Run) -> GradingPool:
    from reasondistill.grading import GradingPool

    settings, grade = run.pipeline.verdicts, run.cluster.grade
    return GradingPool(
        workers=grade.workers,
        deadline_s=settings.deadline_s,
        memory_mib=grade.memory_mib,
        policy=settings.policy,
    )


def do_problems(run: Run, task: Task, stop: StopSignal) -> Manifest:
    """Benchmarks first: a training problem that holds a question of theirs is set aside."""
    from reasondistill.pipeline import evaluating
    from reasondistill.stages import problems

    assert run.pipeline.problems is not None
    with grading_pool(run) as pool:
        held_out: list[HeldOut] = []
        for benchmark in benchmarks(run):
            evaluating.prepare(run, benchmark, pool)
            folder = run.layout.benchmark(benchmark.name).problems_folder
            held_out += problems.held_out_of(folder, benchmark.name)
        return problems.run_problems(
            run.pipeline.problems,
            run.stage("problems"),
            pool=pool,
            held_out=held_out,
            drawn=partial(drawn_problems, run.stage("traces")),
            keep_old=run.keep_old,
            base=run.source.parent,
        )


def do_traces(run: Run, task: Task, stop: StopSignal) -> Manifest:
    from reasondistill.models.samplers.opening import Serving
    from reasondistill.stages import traces

    return traces.run_traces(
        trace_settings(run),
        run.stage("problems"),
        run.stage("traces"),
        Serving(run.cluster, merging_opener(stop)),
        Session(share=task.share, stop=stop, keep_old=run.keep_old, heal=may_heal(run)),
        verdicts=run.pipeline.verdicts,
    )


def trace_settings(run: Run) -> TraceSettings:
    """How traces are drawn; the teachers' own folders are found."""
    assert run.pipeline.traces is not None
    settings = run.pipeline.traces
    update = {
        "teachers": tuple(located(teacher) for teacher in settings.teachers),
        "also": tuple(located(model) for model in settings.also),
    }
    return settings.model_copy(update=update)


def may_heal(run: Run) -> bool:
    """Failed samples and judgements that succeed later would change the examples; once students are
    made of them they stay as they are.
    """
    return not any(run.stage("students").glob(f"*/{MANIFEST}"))


def do_verdicts(run: Run, task: Task, stop: StopSignal) -> Manifest:
    from reasondistill.models.samplers.opening import Serving
    from reasondistill.stages import verdicts

    allowed = 0.0
    if run.pipeline.traces is not None:
        allowed = run.pipeline.traces.failures_allowed
    return verdicts.run_verdicts(
        verdict_settings(run),
        run.stage("problems"),
        run.stage("traces"),
        run.stage("verdicts"),
        Serving(run.cluster, merging_opener(stop)),
        Session(share=task.share, stop=stop, keep_old=run.keep_old, heal=may_heal(run)),
        failures_allowed=allowed,
    )


def verdict_settings(run: Run) -> VerdictSettings:
    """How answers are graded, those of evals too; a judge's own folder is found."""
    settings = run.pipeline.verdicts
    if settings.judge is None:
        return settings
    return settings.model_copy(update={"judge": located(settings.judge)})


def do_examples(run: Run, task: Task, stop: StopSignal) -> Manifest | None:
    """Score the traces first, where `select` goes by scores and the examples are not there yet. Of
    a stage that is shared all but its closing is about scores.
    """
    from reasondistill.models.prompts import load_prompt
    from reasondistill.stages import examples

    inputs = example_inputs(run)
    prompt = load_prompt(run.pipeline.student_prompt)
    folder = run.stage("examples")
    unverified = any(student.method == "unverified" for student in run.pipeline.all_students())
    if inputs.scores is not None and not inputs.scores.is_complete:
        found = examples.foresee_examples(
            run.pipeline.examples, prompt, inputs, folder, keep_old=run.keep_old
        )
        lacks_some = unverified and not (folder / UNVERIFIED).exists()
        if found.state != "complete" or lacks_some:
            score_traces(run, task, stop)
    if task.share is not None and task.share.role != "close":
        return None
    return examples.run_examples(
        run.pipeline.examples,
        prompt,
        inputs,
        folder,
        about={"name": run.pipeline.name, "about": run.pipeline.about},
        unverified=unverified,
        keep_old=run.keep_old,
    )


def score_traces(run: Run, task: Task, stop: StopSignal) -> Manifest:
    """This process's part of the model's pass over the traces."""
    from reasondistill.models.scores.folder import run_scores

    job = score_job(run)
    assert job is not None
    return run_scores(replace(job, session=Session(share=task.share, stop=stop)))


def score_job(run: Run) -> ScoreJob | None:
    """What is measured of the traces, where `select` goes by scores."""
    from reasondistill.models.prompts import load_prompt
    from reasondistill.models.scores.job import KINDS, ScoreJob

    examples = run.pipeline.examples
    if examples.scored_by is None:
        return None
    return ScoreJob(
        KINDS[examples.scored_by],
        scoring_model(run),
        examples.scores,
        load_prompt(run.pipeline.student_prompt),
        run.stage("problems"),
        run.stage("traces"),
        threads=run.cluster.train.threads,
    )


def example_inputs(run: Run) -> ExampleInputs:
    """What examples are made from."""
    from reasondistill.models.scores.folder import ScoreFolder
    from reasondistill.stages import examples

    job, scores = score_job(run), None
    if job is not None:
        scores = ScoreFolder.of(job)
    samples = None
    if run.pipeline.traces is not None:
        samples = run.pipeline.traces.samples
    return examples.ExampleInputs(
        run.stage("problems"),
        run.stage("traces"),
        run.stage("verdicts"),
        open_pool=partial(grading_pool, run),
        samples=samples,
        scores=scores,
    )


def do_student(run: Run, task: Task, stop: StopSignal) -> Manifest:
    from reasondistill.stages import students

    student = next(s for s in run.pipeline.all_students() if s.name == task.units[0])
    return students.run_student(student_job(run, student), stop=stop, keep_old=run.keep_old)


def student_job(run: Run, student: StudentSettings) -> StudentJob:
    """All that a student is made of. Raises StageError where it goes on from one that is not
    finished.
    """
    from reasondistill.models.prompts import load_prompt
    from reasondistill.stages import students

    copied = steps_like(run, student)
    copied_folder = None
    if copied is not None:
        copied_folder = run.layout.student(copied).path
    teacher = teacher_of(run, student)
    if student.starts_from is not None:
        start = students.read_student(run.layout.student(student.starts_from).path).path
        student = student.model_copy(update={"base": start, "revision": None})
    return students.StudentJob(
        student=student,
        teacher=teacher and teacher.model,
        teacher_revision=teacher and teacher.revision,
        teacher_trust_remote_code=teacher is not None and teacher.trust_remote_code,
        traces=run.stage("traces"),
        verdicts=run.stage("verdicts"),
        prompt=load_prompt(run.pipeline.student_prompt),
        problems=run.stage("problems"),
        examples=run.stage("examples"),
        folder=run.layout.student(student.name).path,
        tokens=run.layout.tokens,
        settings=run.cluster.train,
        snapshots=run.pipeline.evals.checkpoints.count,
        steps_like=copied_folder,
        run=run.layout,
    )


def do_evals(run: Run, task: Task, stop: StopSignal) -> Manifest | None:
    """Sample and grade the named models on every benchmark; without names, or with all of them, put
    the tables together.
    """
    from reasondistill.models.samplers.opening import Serving
    from reasondistill.pipeline import evaluating
    from reasondistill.stages import verdicts

    share = task.share
    if not task.units:
        return put_together(run, stop)
    if share is None or share.role == "open":
        with stop.at_once(), grading_pool(run) as pool:
            for benchmark in benchmarks(run):
                evaluating.prepare(run, benchmark, pool)

    def grade(problems_folder: Path, traces_folder: Path, folder: Path) -> Manifest:
        return verdicts.run_verdicts(
            verdict_settings(run),
            problems_folder,
            traces_folder,
            folder,
            Serving(run.cluster, merging_opener(stop)),
            Session(stop=stop, keep_old=run.keep_old),
            failures_allowed=run.pipeline.evals.failures_allowed,
        )

    # Each worker begins with another model: an engine is loaded for a model of one's own before one
    # helps with others.
    first = 0
    if share is not None:
        first = share.number % len(task.units)
    for model in (*task.units[first:], *task.units[:first]):
        evaluating.measure(run, model, grade, stop, share)
    if measures_all(run, task):
        return put_together(run, stop)
    return None


def put_together(run: Run, stop: StopSignal) -> Manifest:
    """The tables of everything that was sampled and graded."""
    from reasondistill.pipeline import evaluating

    with stop.at_once(), grading_pool(run) as pool:
        return evaluating.collect(run, pool)


def do_report(run: Run, task: Task, stop: StopSignal) -> Manifest:
    from reasondistill.stages import report

    return report.run_report(
        run.folder,
        run.stage("report"),
        settings=run.pipeline.report,
        title=run.pipeline.report.title or run.pipeline.name,
        about=run.pipeline.about,
        keep_old=run.keep_old,
        expected=_expected(run),
    )


def _expected(run: Run) -> Iterator[str]:
    """The places in the run's folder that its pipeline file asks for, before the report."""
    for stage in run.stages:
        if stage == "students":
            for student in run.pipeline.all_students():
                yield run.layout.place_of(run.layout.student(student.name).path)
        elif stage == "evals":
            if run.pipeline.evals.benchmarks:
                yield run.layout.place_of(run.stage(stage))
        elif stage != "report":
            yield run.layout.place_of(run.stage(stage))


DOERS: Mapping[str, Doer] = {
    "problems": do_problems,
    "traces": do_traces,
    "verdicts": do_verdicts,
    "examples": do_examples,
    "students": do_student,
    "evals": do_evals,
    "report": do_report,
}
