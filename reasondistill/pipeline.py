"""The seven stages in order: what to skip, resume, refuse.

    Problem ─▶ Trace ─▶ Verdict ─▶ Example ─▶ Student ─▶ EvalRecord ─▶ Report

A `Run` is a pipeline file, a cluster file and a folder. `plan` lists its tasks in order; `run_task` does one of them and may be called
in any process on any machine that sees the folder: stages meet on disk.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from reasondistill import evals, examples, problems, report, resources, students, traces, verdicts
from reasondistill.config import Benchmark, Cluster, Judge, Pipeline, StudentSettings, Teacher, Traces, load_benchmark
from reasondistill.environment import describe_environment
from reasondistill.errors import ConfigError, DataError, StageError
from reasondistill.grading import GradingPool
from reasondistill.prompts import load_prompt
from reasondistill.records import Problem
from reasondistill.store import Manifest, StopSignal, content_of, read_manifest, read_records, write_manifest, write_text

log = logging.getLogger(__name__)

STAGES = ("problems", "traces", "verdicts", "examples", "students", "evals", "report")
FOLDERS = {stage: f"{number}-{stage}" for number, stage in enumerate(STAGES, start=1)}


@dataclass(frozen=True)
class Run:
    """One pipeline file in one folder on one cluster. `source` is the pipeline file; relative data paths are also tried beside it."""

    pipeline: Pipeline
    cluster: Cluster
    folder: Path
    source: Path
    keep_old: bool = False

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        return self.folder / FOLDERS[name]


@dataclass(frozen=True)
class Task:
    """A piece of a stage that one process does: all of it, one student, or the samples of some models."""

    stage: str
    units: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.stage}:{'+'.join(self.units)}" if self.units else self.stage


# ---- what there is to do ------------------------------------------------------------------------------------------


def plan(run: Run, stages: Iterable[str], *, share_engine_process: bool) -> list[Task]:
    """The tasks of these stages in order. With `share_engine_process` one process serves all eval models, one after the other."""
    wanted = set(stages)
    tasks: list[Task] = []
    for stage in STAGES:
        if stage not in wanted:
            continue
        if stage == "students":
            tasks += [Task("students", (student.name,), _parent_tasks(run, student)) for student in run.pipeline.all_students()]
        elif stage == "evals":
            models = tuple(eval_models(run))
            groups = [models] if share_engine_process else [(model,) for model in models]
            tasks += [Task("evals", group) for group in groups if group and run.pipeline.evals.benchmarks]
            tasks += [Task("evals")] if models and run.pipeline.evals.benchmarks else []
        else:
            tasks.append(Task(stage))
    return tasks


def select_stages(only: str | None, first: str | None, last: str | None) -> list[str]:
    """The stage names between `first` and `last`, or just `only`. Raises ConfigError for an unknown name or an empty range."""
    for name in (only, first, last):
        if name is not None and name not in STAGES:
            raise ConfigError(f"no stage is called {name!r}. Stages: {', '.join(STAGES)}.")
    if only is not None:
        return [only]
    chosen: list[str] = list(STAGES[STAGES.index(first or STAGES[0]) : STAGES.index(last or STAGES[-1]) + 1])
    if not chosen:
        raise ConfigError(f"--from {first} comes after --until {last}.")
    return chosen


def _parent_tasks(run: Run, student: StudentSettings) -> tuple[str, ...]:
    parent = _parent(run, student)
    return (f"students:{parent}",) if parent else ()


def _parent(run: Run, student: StudentSettings) -> str | None:
    """The trained student whose steps a twin copies; None when the file itself says the steps.

    A packed answer-only twin asks in any case: its rows are so short that the batch must be counted anew.
    """
    recounts = student.method == "answer_only" and student.packing
    if student.method not in ("answer_only", "unverified") or (student.max_steps is not None and not recounts):
        return None
    trained = [other for other in run.pipeline.students if other.method == "sft"]
    likest = sorted(trained, key=lambda other: (other.recipe() == student.recipe(), other.start() == student.start()))
    return likest[-1].name if likest else None


# ---- doing it -----------------------------------------------------------------------------------------------------


def run_task(run: Run, task: Task, stop: StopSignal) -> Manifest | None:
    """Do one task; skip what is complete, resume what is partial, refuse what was made from something else."""
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
    return _with_environment(folder_of(run, task), manifest) if manifest is not None else None


def folder_of(run: Run, task: Task) -> Path:
    """The folder that a task finishes."""
    return run.stage("students") / task.units[0] if task.stage == "students" else run.stage(task.stage)


def _with_environment(folder: Path, manifest: Manifest) -> Manifest:
    """Record where a stage was finished; a folder that was complete before keeps its own."""
    if manifest.environment:
        return manifest
    full = replace(manifest, environment=describe_environment())
    write_manifest(folder, full)
    return full


def _run_problems(run: Run, task: Task, stop: StopSignal) -> Manifest:
    """Benchmarks first: a training problem that a benchmark also has is set aside."""
    settings = run.pipeline.verdicts
    with GradingPool(
        workers=run.cluster.grade.workers,
        deadline_s=settings.deadline_s,
        memory_mib=run.cluster.grade.memory_mib,
        policy=settings.policy,
    ) as pool:
        held_out: dict[str, str] = {}
        for benchmark in benchmarks(run):
            folder = run.stage("evals") / benchmark.name / "problems"
            problems.run_problems(benchmark.problems, folder, pool=pool, keep_old=run.keep_old, base=run.source.parent)
            for problem in read_records(folder / "problems.jsonl", Problem):
                held_out[problems.normalise_question(problem.question)] = benchmark.name
        return problems.run_problems(
            run.pipeline.problems, run.stage("problems"), pool=pool, held_out=held_out, keep_old=run.keep_old, base=run.source.parent
        )


def _run_traces(run: Run, task: Task, stop: StopSignal) -> Manifest:
    settings = run.pipeline.traces
    settings = settings.model_copy(update={"teachers": tuple(located(teacher) for teacher in settings.teachers)})
    return traces.run_traces(
        settings, run.stage("problems"), run.stage("traces"), cluster=run.cluster, stop=stop, keep_old=run.keep_old, heal=_may_heal(run)
    )


def _may_heal(run: Run) -> bool:
    """Failed samples and judgements that succeed later would change the examples; once students are made of them they stay as they are."""
    return not any(run.stage("students").glob("*/manifest.json"))


def _run_verdicts(run: Run, task: Task, stop: StopSignal) -> Manifest:
    return _grade(run, run.stage("problems"), run.stage("traces"), run.stage("verdicts"), stop, heal=_may_heal(run))


def _grade(run: Run, problems_folder: Path, traces_folder: Path, folder: Path, stop: StopSignal, *, heal: bool = True) -> Manifest:
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
    parent = _parent(run, student)
    job = students.StudentJob(
        student=student,
        prompt=load_prompt(run.pipeline.student_prompt),
        problems=run.stage("problems"),
        examples=run.stage("examples"),
        folder=run.stage("students") / student.name,
        settings=run.cluster.train,
        parent=run.stage("students") / parent if parent else None,
        snapshots=run.pipeline.evals.checkpoints,
    )
    return students.run_student(job, stop=stop, keep_old=run.keep_old)


def _run_evals(run: Run, task: Task, stop: StopSignal) -> Manifest | None:
    """Sample and grade the named models on every benchmark; without names, put the tables together."""
    names = [benchmark.name for benchmark in benchmarks(run)]
    models = eval_models(run)
    if task.units:
        for model in task.units:
            for name in names:
                _evaluate(run, name, model, models[model], stop)
        return None
    settings = run.pipeline.evals
    return evals.collect(run.stage("evals"), benchmarks=names, models=list(models), baselines=_baselines(run), n=settings.n)


def _evaluate(run: Run, benchmark: str, model: str, teacher: Teacher, stop: StopSignal) -> None:
    folder = run.stage("evals") / benchmark
    settings = _eval_traces(run, teacher, is_student=model not in served_teachers(run))
    log.info("%s on %s", model, benchmark)
    traces.run_traces(
        settings,
        folder / "problems",
        folder / model / "traces",
        cluster=run.cluster,
        stop=stop,
        limit=run.pipeline.evals.limit,
        keep_old=run.keep_old,
    )
    _grade(run, folder / "problems", folder / model / "traces", folder / model / "verdicts", stop)


def _eval_traces(run: Run, teacher: Teacher, *, is_student: bool) -> Traces:
    """How an eval samples: as the traces were sampled, but for what [evals] says. The teacher keeps its own prompt."""
    settings = run.pipeline.evals
    keys = set(type(settings).model_fields) & set(Traces.model_fields) - {"n", "prompt", "teachers"}
    own = settings.model_dump(include=keys, exclude_none=True)
    inherited = {} if "settings" in own else run.pipeline.traces.model_dump(include=keys, exclude_none=True)
    own_prompt = run.pipeline.student_prompt if is_student else run.pipeline.traces.prompt
    return Traces(**(inherited | own), prompt=settings.prompt or own_prompt, n=settings.n, teachers=(teacher,))


def _run_report(run: Run, task: Task, stop: StopSignal) -> Manifest:
    return report.run_report(
        run.folder,
        run.stage("report"),
        settings=run.pipeline.report,
        title=run.pipeline.report.title or run.pipeline.name,
        about=run.pipeline.about,
        keep_old=run.keep_old,
    )


# ---- who is evaluated ---------------------------------------------------------------------------------------------


def benchmarks(run: Run) -> list[Benchmark]:
    """The benchmark files that [evals] names. Raises ConfigError."""
    found = [load_benchmark(resources.find("benchmarks", name)) for name in run.pipeline.evals.benchmarks]
    names = [benchmark.name for benchmark in found]
    if len(set(names)) < len(names):
        raise ConfigError(f"[evals] benchmarks: two of {names} have the same name.")
    return found


def eval_models(run: Run) -> dict[str, Teacher]:
    """Name → how to serve it: students and baselines from the run folder, then the teachers."""
    models: dict[str, Teacher] = {}
    for student in run.pipeline.all_students():
        folder = run.stage("students") / student.name
        manifest = read_manifest(folder)
        done = manifest is not None and manifest.status == "complete"
        path = students.read_student(folder).path if done else str(folder / "model")
        revision = student.revision if path == student.base else None  # a folder of our own has none
        models[student.name] = Teacher(name=student.name, model=path, revision=revision, trust_remote_code=student.trust_remote_code)
    return models | (served_teachers(run) if run.pipeline.evals.teacher else {})


def served_teachers(run: Run) -> dict[str, Teacher]:
    """The teachers that can be asked anything: not the reference solutions, not a script."""
    asked = [teacher for teacher in run.pipeline.traces.teachers if teacher.sampler in ("vllm", "openai")]
    single = len(asked) == 1
    return {teacher.name or ("teacher" if single else _model_name(teacher.model)): located(teacher) for teacher in asked}


def _model_name(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model.rpartition("/")[2]) or "teacher"


Asked = TypeVar("Asked", Teacher, Judge)


def located(asked: Asked) -> Asked:
    """The teacher or judge with the folder of a shipped model in place of its `shipped:` name."""
    if not asked.model.startswith("shipped:"):
        return asked
    name = asked.model.removeprefix("shipped:")
    return asked.model_copy(update={"model": str(resources.shipped_model(name))})


def _baselines(run: Run) -> Mapping[str, list[str]]:
    """Each trained student is compared with its untouched base, its answer-only and unverified twins, and the teachers."""
    models = list(eval_models(run))
    named = {student.name for student in run.pipeline.students}
    rest = [student for student in run.pipeline.all_students() if student.method != "sft"]

    def is_baseline(other: StudentSettings, student: StudentSettings) -> bool:
        """A twin that came by itself belongs to the student that trains like it; one that the file names, to all of its base."""
        came_along = other.method != "base" and other.name not in named
        return other.recipe() == student.recipe() if came_along else other.start() == student.start()

    compared: dict[str, list[str]] = {}
    for student in run.pipeline.students:
        if student.method == "sft":
            own = [other.name for other in rest if is_baseline(other, student)]
            compared[student.name] = [name for name in [*own, *served_teachers(run)] if name in models]
    return compared


# ---- the run folder's own files -----------------------------------------------------------------------------------


def save_run(run: Run) -> None:
    """Write what a task process needs to know: `run.json`. Holds no secret."""
    value = {
        "pipeline": run.pipeline.model_dump(mode="json"),
        "cluster": run.cluster.model_dump(mode="json"),
        "source": str(run.source.resolve()),
        "keep_old": run.keep_old,
    }
    write_text(run.folder / "run.json", json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def load_run(folder: Path) -> Run:
    """The run that `save_run` wrote. Raises StageError when the folder is no run folder."""
    path = folder / "run.json"
    if not path.exists():
        raise StageError(f"{folder}: not a run folder (no run.json). `reasondistill run FILE` makes one; runs are listed under runs/.")
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        settings, cluster = Pipeline.model_validate(value["pipeline"]), Cluster.model_validate(value["cluster"])
        return Run(settings, cluster, folder, Path(value["source"]), value["keep_old"])
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: not written by this version of reasondistill: {str(error).splitlines()[0]}") from error


# ---- looking at a run ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StageState:
    """One line of `show`: `state` is new, partial, complete, or `stale (…)` with what has changed since."""

    name: str
    state: str
    counts: Mapping[str, int]
    dropped: Mapping[str, int]
    seconds: float


def stage_states(run: Run) -> list[StageState]:
    """The state of every stage and student folder of a run."""
    places = [(stage, run.stage(stage)) for stage in STAGES if stage != "students"]
    places[4:4] = [(f"students/{s.name}", run.stage("students") / s.name) for s in run.pipeline.all_students()]
    current = {stage: m.output for stage in STAGES if (m := read_manifest(run.stage(stage))) is not None}
    if (run.stage("examples") / examples.UNVERIFIED).exists():
        current["unverified"] = content_of(run.stage("examples"), [examples.UNVERIFIED])
    return [_state(name, read_manifest(folder), current, has_files=folder.exists()) for name, folder in places]


def _state(name: str, manifest: Manifest | None, current: Mapping[str, str], *, has_files: bool) -> StageState:
    if manifest is None:
        return StageState(name, "partial" if has_files else "new", {}, {}, 0.0)
    inputs = manifest.identity["inputs"]
    changed = [key for key, value in inputs.items() if key in current and current[key] != value]
    state = f"stale ({', '.join(changed)} changed)" if changed else manifest.status
    return StageState(name, state, manifest.counts, manifest.dropped, manifest.seconds)


def walk(run: Run, problem_id: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What each stage holds about one problem: (place, records), training side first, then each benchmark and model."""
    files = [run.stage("problems") / name for name in ("problems.jsonl", "set_aside.jsonl")]
    files += [run.stage("traces") / "traces.jsonl", run.stage("verdicts") / "verdicts.jsonl"]
    files += [run.stage("examples") / name for name in (examples.EXAMPLES, examples.DROPPED, examples.UNVERIFIED)]
    files += sorted(run.stage("evals").glob("*/problems/problems.jsonl"))
    files += sorted([*run.stage("evals").glob("*/*/traces/traces.jsonl"), *run.stage("evals").glob("*/*/verdicts/verdicts.jsonl")])
    for path in files:
        if path.exists():
            yield str(path.relative_to(run.folder)), list(_lines_about(path, problem_id))


def _lines_about(path: Path, problem_id: str) -> Iterator[dict[str, Any]]:
    """The records of a shard that belong to a problem; lines without its id in them are not parsed."""
    needle = json.dumps(problem_id, ensure_ascii=False)[1:-1].encode()
    with open(path, "rb") as file:
        for line in file:
            if needle in line and line.endswith(b"\n"):
                record = json.loads(line)
                if problem_id in (record.get("problem_id"), record.get("id")):
                    yield record
