"""Rounds of self-training: which run is round k, and what it takes over from those before it.

    rounds = Rounds.of(run)                 # None where the file has none
    second = rounds.after(run, 2)           # runs/demo-round-2, once round 1 is finished
    take_over(run, run, second)

Round k is a run like any other, in a folder of its own: the student of round k − 1 writes samples
of every problem besides the teachers' (`[[traces.also]]`). Problems, the teachers' traces and their
verdicts are copied from round 1, as variants of an ablation take them over, and what was measured
of equal models from round k − 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reasondistill.config import (
    AlsoSampled,
    EvalModel,
    EvalSettings,
    ExampleSettings,
    Pipeline,
    RoundSettings,
    SamplingSettings,
    StudentSettings,
    TraceSettings,
)
from reasondistill.errors import ConfigError, DriftError, StageError
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers.opening import identity_of
from reasondistill.pipeline.ablating.sharing import (
    copy_part,
    is_finished,
    parts_before_students,
    stage_folders,
)
from reasondistill.pipeline.evaluating import Cell, cells_by_engine
from reasondistill.pipeline.foreseeing import is_complete
from reasondistill.pipeline.measured import eval_models, served_teachers
from reasondistill.pipeline.runs import Run, benchmarks
from reasondistill.records import Sampling
from reasondistill.runs.figures import TracesFigures
from reasondistill.runs.growth import also_of
from reasondistill.runs.layout import FOLDERS
from reasondistill.runs.store import read_manifest
from reasondistill.sections import explain
from reasondistill.stages.students import read_student
from reasondistill.stages.traces.work import section_of

# What a later round has in common with the first.
_SHARED = ("problems", "traces", "verdicts")


def name_of(name: str, number: int) -> str:
    """What round `number` of a run, or its student, is called: `demo-round-2`."""
    return f"{name}-round-{number}"


@dataclass(frozen=True)
class Rounds:
    """The rounds of a pipeline file. `student` is whose samples join, one of one seed; `first` is
    round 1.
    """

    settings: RoundSettings
    student: StudentSettings
    first: Run

    @classmethod
    def of(cls, run: Run) -> Rounds | None:
        """The rounds of a run; None where its file has one alone. Raises ConfigError where what the
        rounds have in common cannot be copied, or all samples of a problem would be one text.
        """
        settings = run.pipeline.rounds
        if settings is None or settings.count < 2:
            return None
        if run.cluster.storage is not None:
            raise ConfigError(
                f"cluster file storage = {run.cluster.storage!r}: rounds copy what they have in "
                "common between their folders here. Leave it out, and use a folder that all "
                "machines see; or do round 1 alone with --set rounds=none."
            )
        rounds = cls(settings, run.pipeline.student_of_rounds(), run)
        rounds._require_able_sampler()
        if settings.n > 1 and rounds.sampling().temperature == 0:
            raise ConfigError(
                f"[rounds] temperature = 0: the {settings.n} samples of a problem would be one "
                "text. Set rounds.temperature, or rounds.n = 1."
            )
        return rounds

    @property
    def numbers(self) -> range:
        """The rounds behind the first."""
        return range(2, self.settings.count + 1)

    def folder(self, number: int) -> Path:
        """The run folder of a round."""
        if number == 1:
            return self.first.folder
        return self.first.folder.parent / name_of(self.first.folder.name, number)

    def sampling(self) -> Sampling:
        """How a student is sampled for the next round."""
        written = self.first.pipeline.traces
        assert written is not None
        return written.sampling_of(self._writer(1, ""))

    def after(self, before: Run, number: int) -> Run:
        """Round `number`, which follows on this run. Raises StageError where its student is not
        finished, DriftError where the round was begun with another one.
        """
        folder = self.folder(number)
        if folder.is_symlink():
            raise StageError(f"{folder}: is a link; nothing is written through it.")
        trained = before.layout.student(self.student.name).path
        if not is_complete(trained):
            raise StageError(f"{trained}: not finished; round {number} is written by this student.")
        self._require_no_more_samples()
        weights = read_student(trained).path
        first = self.first.pipeline
        written = first.traces
        assert written is not None
        writer = self._writer(number - 1, weights)
        title = first.report.title or first.name
        update: dict[str, Any] = {
            "name": folder.name,
            "about": f"Round {number} of {first.name}: {writer.name} writes too",
            "traces": written.model_copy(update={"also": (*written.also, writer)}),
            "examples": self._examples(name_of(self.student.name, number - 1)),
            "students": self._students(),
            "report": first.report.model_copy(update={"title": f"{title}, round {number}"}),
            "rounds": None,
        }
        run = replace(self.first, pipeline=first.model_copy(update=update), folder=folder)
        evals = self._evals(run, before, number, weights)
        # What a file could not say is refused here, not by the tasks.
        values = run.pipeline.model_copy(update={"evals": evals}).model_dump()
        try:
            run = replace(run, pipeline=Pipeline.model_validate(values))
        except ValidationError as error:
            raise ConfigError(f"round {number}: {explain(run.source, Pipeline, error)}") from error
        self._require_same_writer(run, number)
        return run

    def _require_able_sampler(self) -> None:
        """Raise ConfigError, before round 1 is begun, where the student's sampler cannot do what
        [traces] asks of everybody.
        """
        written = self.first.pipeline.traces
        assert written is not None
        also = (*written.also, self._writer(1, self.student.name))
        values = written.model_copy(update={"also": also}).model_dump()
        try:
            TraceSettings.model_validate(values)
        except ValidationError as error:
            raise ConfigError(explain(self.first.source, TraceSettings, error)) from error

    def _writer(self, number: int, weights: str) -> AlsoSampled:
        """The student of round `number`, which writes for the next one."""
        first = self.first.pipeline
        prompt = None
        if first.traces is not None and first.student_prompt != first.traces.prompt:
            prompt = first.student_prompt
        sampling = set(SamplingSettings.model_fields)
        values: dict[str, Any] = {
            **self.settings.model_dump(include=sampling, exclude_none=True),
            "name": name_of(self.student.name, number),
            "model": weights,
            "sampler": self.settings.sampler,
            "trust_remote_code": self.student.trust_remote_code,
            "n": self.settings.n,
            "prompt": prompt,
            "of_round": number,
        }
        return AlsoSampled.model_validate(values)

    def _examples(self, writer: str) -> ExampleSettings:
        examples = self.first.pipeline.examples
        rule: dict[str, Any] = {}
        if self.settings.most is not None:
            rule["most"] = self.settings.most
        if not self.settings.keep_teacher:
            rule["only"] = True
        if not rule:
            return examples
        rule["writers"] = [writer]
        return examples.model_copy(update={"filters": {**examples.filters, "of_writer": rule}})

    def _students(self) -> tuple[StudentSettings, ...]:
        """The student and those that it goes on from; of their controls the untouched base alone,
        which is not trained.
        """
        by_name = {student.name: student for student in self.first.pipeline.all_students()}
        chain = [self.student]
        while chain[0].starts_from is not None:
            chain.insert(0, by_name[chain[0].starts_from])
        students: list[StudentSettings] = []
        for student in chain:
            kept = tuple(name for name in student.baselines if name == "base")
            students.append(student.model_copy(update={"baselines": kept, "seeds": ()}))
        return tuple(students)

    def _evals(self, run: Run, before: Run, number: int, weights: str) -> EvalSettings:
        """What is measured in a round: the students of the rounds before it beside its own, which
        is compared with each of them.
        """
        evals = self.first.pipeline.evals
        own = {model.name for model in evals.models}
        earlier = [model for model in before.pipeline.evals.models if model.name not in own]
        last = EvalModel(
            name=name_of(self.student.name, number - 1),
            model=weights,
            trust_remote_code=self.student.trust_remote_code,
        )
        models = (*evals.models, *earlier, last)
        known = {student.name for student in run.pipeline.all_students()}
        known |= {model.name for model in models}
        if evals.teacher:
            known |= served_teachers(run).keys()
        against = [model.name for model in (*earlier, last)]
        against += [name for name in evals.against if name in known and name not in against]
        difficulty = evals.difficulty
        if difficulty not in known:
            difficulty = None
        return evals.model_copy(
            update={"models": models, "against": tuple(against), "difficulty": difficulty}
        )

    def _require_no_more_samples(self) -> None:
        """Raise StageError where teachers have drawn more of a problem than the file asks for now:
        the student's samples are numbered behind those that it asks for.
        """
        folder, written = self.first.stage("traces"), self.first.pipeline.traces
        done = read_manifest(folder)
        if done is not None and written is not None and TracesFigures.of(done).beyond:
            raise StageError(
                f"{folder}: holds samples beyond traces.n = {written.n}, where those of a student "
                "would stand in the next round. Raise traces.n again to what was drawn, or start "
                "under another name (--set name=ANOTHER)."
            )

    def _require_same_writer(self, run: Run, number: int) -> None:
        """Raise DriftError where a round was begun with another student than the one that the round
        before has now.
        """
        done, written = read_manifest(run.stage("traces")), run.pipeline.traces
        if done is None or written is None or run.keep_old:
            return
        about = also_of(done, len(written.also))
        now = identity_of(written.also[-1])
        if not about or about.get("model") == now:
            return
        raise DriftError(
            f"{run.folder}: round {number} was written by another {self.student.name} of round "
            f"{number - 1}: was {about.get('model')}, is {now}. Remove this folder and those of "
            "later rounds to make them anew, put the other student back, or go on with what stands "
            "(--keep-old)."
        )


# ---- what rounds have in common ------------------------------------------------------------------


def shared_places(run: Run) -> list[str]:
    """The folders of round 1 that later ones have too: the problems, those of the benchmarks, the
    teachers' traces and their verdicts.
    """
    names = {FOLDERS[stage] for stage in _SHARED}
    places: list[str] = []
    for part in parts_before_students(run):
        if part.place in names or part.place.startswith(FOLDERS["evals"]):
            places.append(part.place)
    return places


def take_over(first: Run, before: Run, run: Run) -> None:
    """Copy into a later round what it has in common with the first one, and what was measured in
    the one before of equal models; each part is read whole before, and appears whole. What stands
    is left alone.

    Raises DataError for a part that is damaged, StageError for a link and where the disk is full.
    """
    copying = run.folder.parent / f".{run.folder.name}.copying"
    for place in shared_places(first):
        _take(first.folder / place, run.folder / place, copying)
    for source, target in equal_cells(before, run):
        _take(source, target, copying)


def _take(source: Path, target: Path, copying: Path) -> None:
    stages = list(stage_folders(source))
    if stages and not target.exists() and all(is_finished(source / stage) for stage in stages):
        copy_part(source, target, copying)


def equal_cells(before: Run, run: Run) -> Iterator[tuple[Path, Path]]:
    """The samples of the round before that this one would draw again: of the same weights, under
    the same prompt and sampling, whatever the model is called there and here.
    """
    if not run.pipeline.evals.benchmarks:
        return
    stands: dict[str, Path] = {}
    for name in eval_models(before):
        for cell in cells_by_engine(before, name)[0]:
            folder = cell.folder_in(before)
            if folder.traces_folder.exists():
                stands.setdefault(_key(before, cell), folder.path)
    students = {student.name for student in run.pipeline.all_students()}
    for name in eval_models(run):
        if name in students:  # its weights are not there yet
            continue
        for cell in cells_by_engine(run, name)[0]:
            source = stands.get(_key(run, cell))
            if source is not None:
                yield source, cell.folder_in(run).path
    for name, other in _equal_bases(before, run):
        for benchmark in benchmarks(run):
            measured = before.layout.benchmark(benchmark.name).cell(other)
            yield measured.path, run.layout.benchmark(benchmark.name).cell(name).path


def _equal_bases(before: Run, run: Run) -> Iterator[tuple[str, str]]:
    """The untouched bases of this round, and what they are called in the one before: those that
    have weights of their own, made neither at random nor by cutting.
    """
    bases: dict[str, str] = {}
    for student in before.pipeline.all_students():
        if student.method == "base":
            bases.setdefault(student.start(), student.name)
    for student in run.pipeline.all_students():
        is_given = student.architecture is None and student.shrink is None
        if student.method == "base" and is_given and student.start() in bases:
            yield student.name, bases[student.start()]


def _key(run: Run, cell: Cell) -> str:
    """Equal for cells that hold the same samples."""
    prompt = load_prompt(cell.settings.prompt)
    policy = run.pipeline.verdicts.policy
    return f"{cell.benchmark.name} {section_of(cell.settings, prompt, cell.limit or 0, policy)}"
