"""What a run would find in its folder, stage by stage, told before anything is done.

    foresee_run(run, ["problems", "traces"])     # {"problems": "complete", "traces": "grows"}

Each stage is asked what opening its folder would do, with the very settings that it would be opened
with. What stands finished behind a stage that has something left to do is `to be seen`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from reasondistill.config import StudentSettings
from reasondistill.curation.benchmarks import HeldOut
from reasondistill.errors import ReasonDistillError
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers.opening import Serving
from reasondistill.pipeline.doing import (
    example_inputs,
    may_heal,
    student_job,
    trace_settings,
    verdict_settings,
)
from reasondistill.pipeline.evaluating import cells_by_engine
from reasondistill.pipeline.measured import eval_models
from reasondistill.pipeline.runs import Run, benchmarks, parents_of
from reasondistill.runs.store import Foreseen, read_manifest
from reasondistill.stages import examples, problems, students, traces, verdicts

# Of what stands, and may have to be made anew for what is made before it.
TO_BE_SEEN = "to be seen"


def foresee_run(run: Run, stages: Collection[str]) -> dict[str, str]:
    """A word for each of these stages, students and measured models, as far as it is known: `new`,
    `partial`, `complete`, `grows`, `made anew`, `to be seen`. Raises DriftError where one of them
    would.
    """
    seeing = _Seeing(run, frozenset(stages))
    for stage in run.stages:
        seeing.see(stage)
    return seeing.words


def left_to_do(run: Run) -> frozenset[str]:
    """The stages that a command has something to do in, or may have. Of a folder whose files live
    at a URL only what is here can be told.
    """
    asked = frozenset(run.only or run.stages)
    unfinished = frozenset(stage for stage in asked if not is_complete(run.stage(stage)))
    if not run.folder.is_dir() or run.cluster.storage is not None:
        return unfinished
    try:
        words = foresee_run(run, asked)
    except ReasonDistillError:  # a check says so
        return unfinished
    names = {name for name, word in words.items() if word != "complete"}
    return unfinished | {name.partition("/")[0] for name in names} & asked


class _Seeing:
    """Stage after stage; `settled` are those that will be what they are now."""

    def __init__(self, run: Run, stages: frozenset[str]) -> None:
        self.run, self.stages = run, stages
        self.words: dict[str, str] = {}
        self.settled: set[str] = set()

    def see(self, stage: str) -> None:
        look = {
            "problems": self._problems,
            "traces": self._traces,
            "verdicts": self._verdicts,
            "examples": self._examples,
            "students": self._students,
            "evals": self._evals,
        }.get(stage)
        if look is None:  # a report is made anew each time
            return
        look()

    def _note(self, name: str, found: Foreseen) -> None:
        self.words[name] = found.word
        if found.state == "complete" or found.stays:
            self.settled.add(name)

    def _is_asked(self, name: str, folder: Path, needs: Collection[str]) -> bool:
        """Whether a stage is to be looked at. One that the command leaves alone stays what it
        is.
        """
        stage = name.partition("/")[0]
        if stage not in self.stages:
            if is_complete(folder):
                self.settled.add(name)
            return False
        if set(needs) <= self.settled:
            return True
        if is_complete(folder):
            self.words[name] = TO_BE_SEEN
        return False

    def _problems(self) -> None:
        run, settings = self.run, self.run.pipeline.problems
        base = run.source.parent
        held_out: list[HeldOut] = []
        known = True
        for benchmark in benchmarks(run):
            folder = run.layout.benchmark(benchmark.name).problems_folder
            found = problems.foresee_benchmark(benchmark, folder, keep_old=run.keep_old, base=base)
            if found.state == "complete":
                held_out += problems.held_out_of(folder, benchmark.name)
            else:
                known = False
            self._note(f"evals/{benchmark.name}", found)
        place = run.stage("problems")
        if settings is None or not self._is_asked("problems", place, ()) or not known:
            return
        found = problems.foresee_problems(
            settings, place, held_out=held_out, keep_old=run.keep_old, base=base
        )
        self._note("problems", found)

    def _traces(self) -> None:
        run = self.run
        if self._is_asked("traces", run.stage("traces"), ["problems"]):
            found = traces.foresee_traces(
                trace_settings(run),
                run.stage("problems"),
                run.stage("traces"),
                run.cluster,
                heal=may_heal(run),
                keep_old=run.keep_old,
                verdicts=run.pipeline.verdicts,
            )
            self._note("traces", found)

    def _verdicts(self) -> None:
        run = self.run
        if self._is_asked("verdicts", run.stage("verdicts"), ["problems", "traces"]):
            found = verdicts.foresee_verdicts(
                verdict_settings(run),
                run.stage("problems"),
                run.stage("traces"),
                run.stage("verdicts"),
                Serving(run.cluster),
                heal=may_heal(run),
                keep_old=run.keep_old,
            )
            self._note("verdicts", found)

    def _examples(self) -> None:
        run = self.run
        needs = ["problems", "traces", "verdicts"]
        if self._is_asked("examples", run.stage("examples"), needs):
            found = examples.foresee_examples(
                run.pipeline.examples,
                load_prompt(run.pipeline.student_prompt),
                example_inputs(run),
                run.stage("examples"),
                keep_old=run.keep_old,
            )
            self._note("examples", found)

    def _students(self) -> None:
        for student in self.run.pipeline.all_students():
            self._student(student)

    def _student(self, student: StudentSettings) -> None:
        run, name = self.run, f"students/{student.name}"
        needs = ["problems", "traces", "verdicts", "examples"]
        needs += [f"students/{parent}" for parent in parents_of(run, student)]
        if self._is_asked(name, run.layout.student(student.name).path, needs):
            found = students.foresee_student(student_job(run, student), keep_old=run.keep_old)
            self._note(name, found)

    def _evals(self) -> None:
        run = self.run
        if "evals" not in self.stages:
            return
        of_students = {student.name for student in run.pipeline.all_students()}
        for model in eval_models(run):
            if model in of_students and f"students/{model}" not in self.settled:
                continue
            states: list[str] = []
            for cells in cells_by_engine(run, model):
                for cell in cells:
                    folder = cell.folder_in(run).traces_folder
                    if f"evals/{cell.benchmark.name}" not in self.settled:
                        states.append("")
                        continue
                    found = traces.foresee_traces(
                        traces.as_many_as_stand(cell.settings, folder),
                        run.layout.benchmark(cell.benchmark.name).problems_folder,
                        folder,
                        run.cluster,
                        limit=traces.as_many_problems_as_stand(cell.limit, folder),
                        keep_old=run.keep_old,
                    )
                    states.append(found.word)
            if "" not in states and len(set(states)) == 1:
                self.words[f"evals/{model}"] = states[0]


def is_complete(folder: Path) -> bool:
    """Whether a stage, or a student, is finished."""
    done = read_manifest(folder)
    return done is not None and done.status == "complete"
