"""Stage 5: examples → a student on disk, with its baselines.

`sft` trains on the examples. `answer_only` trains on the same problems and for the same number of
steps with the bare gold answer: did the reasoning help? `unverified` trains for the same number of
steps on the traces that the same rules choose whatever their verdict: did verifying help? `base` is
the untouched base. The other methods (distilling/) learn from a teacher's distributions as well.
Every method ends with a folder that transformers and vLLM load, and a `student.json`.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasondistill.config import START, WATCHING, StudentSettings, TrainSettings
from reasondistill.errors import ConfigError, MissingDependencyError, StageError
from reasondistill.grading.extract import extract
from reasondistill.methods import METHODS
from reasondistill.models.prompts import NamedPrompt
from reasondistill.models.topk import FOLDER, TopKReader
from reasondistill.models.weights import OWN_FACTS, model_folder, model_identity, tokenizer_identity
from reasondistill.records import (
    Example,
    Message,
    Problem,
    Shrunk,
    Split,
    Student,
    TrainingFigures,
    fingerprint,
)
from reasondistill.runs import layout
from reasondistill.runs.store import (
    Identity,
    Manifest,
    StopSignal,
    content_of,
    finish_stage,
    open_stage,
    read_records,
    require_complete,
    write_json,
    write_text,
)
from reasondistill.stages.students import processes
from reasondistill.stages.students.strategies import check_strategy

if TYPE_CHECKING:
    from reasondistill.stages.students.distilling.training import Distillation

log = logging.getLogger(__name__)
VERSION = 1

# The files of the examples folder that methods train on.
EXAMPLES, UNVERIFIED = layout.EXAMPLES, layout.UNVERIFIED
SNAPSHOTS = "snapshots"
# The weights that a training starts vLLM on, which writes the student's own texts.
ROLLOUTS = "rollouts"
# Validation examples that perplexity, and the distance to a teacher or base, are of.
HELD_OUT = 256


@dataclass(frozen=True)
class StudentJob:
    """Everything one student is made of.

    `steps_like` is the trained student whose number of steps a baseline copies. `teacher` is who a
    distilling student learns from, a hub id or folder, and `traces` the folder with what that
    teacher wrote. `snapshots` is how many evenly spaced weights of the training are kept, the last
    of them being the finished model; the student is the same with any number of them.
    """

    student: StudentSettings
    prompt: NamedPrompt
    problems: Path
    examples: Path
    folder: Path
    settings: TrainSettings
    steps_like: Path | None = None
    snapshots: int = 0
    teacher: str | None = None
    teacher_revision: str | None = None
    traces: Path | None = None


def run_student(
    job: StudentJob,
    *,
    stop: StopSignal | None = None,
    keep_old: bool = False,
    environment: Mapping[str, Any] | None = None,
) -> Manifest:
    """Make one student; resume from its last checkpoint when it was interrupted.

    Several processes that train it together all call this; the first one writes. Raises StageError
    when there is nothing to train on, ConfigError for a base without weights or for what so many
    processes cannot do, DriftError when the folder holds a student of other settings.
    """
    check_strategy(job.student, job.settings, processes.world_size())
    with processes.together():
        identity = _identity(job)
        opened = processes.on_first(
            lambda: open_stage(job.folder, identity, keep_old=keep_old, environment=environment)
        )
        if opened == "complete":
            return require_complete(job.folder)
        started = time.monotonic()
        examples = _training_examples(job)
        made = _make(job, examples, stop)
        return processes.on_first(lambda: _finish(job, identity, len(examples), made, started))


def _finish(
    job: StudentJob,
    identity: Identity,
    examples: int,
    made: tuple[TrainingFigures | None, dict[str, int], Path],
    started: float,
) -> Manifest:
    """Write what is known of a student beside its weights."""
    figures, dropped, path = made
    student = Student(
        name=job.student.name,
        method=job.student.method,
        base=identity.inputs["base"],
        path=str(path.relative_to(job.folder)) if path.is_relative_to(job.folder) else str(path),
        examples=identity.inputs.get("unverified", identity.inputs.get("examples", "")),
        seed=job.student.seed,
        figures=figures,
        shrunk=_shrunk(job, path) if job.student.shrink is not None else None,
    )
    write_text(job.folder / layout.STUDENT, student.model_dump_json(indent=2) + "\n")
    own = [path] if path.is_relative_to(job.folder) else []
    for folder in (*own, *(job.folder / SNAPSHOTS).glob("step-*")):
        write_json(folder / OWN_FACTS, {"prompt": job.prompt.name, "method": job.student.method})
    counts = {"in": examples, "out": examples - sum(dropped.values())}
    shown = figures.model_dump() if figures else {}
    return finish_stage(
        job.folder,
        counts=counts,
        dropped=dropped,
        figures=shown,
        seconds=time.monotonic() - started,
    )


def read_student(folder: Path) -> Student:
    """The finished student of a folder, its `path` absolute or a hub id. Raises StageError when it
    is not finished.
    """
    require_complete(folder)
    student = Student.model_validate_json((folder / layout.STUDENT).read_text(encoding="utf-8"))
    inside = folder / student.path
    return student.model_copy(update={"path": str(inside)}) if inside.exists() else student


def snapshots(folder: Path) -> list[tuple[int, Path]]:
    """The weights of a finished student after so many steps, in order of steps: model folders that
    transformers and vLLM load.

    The last is the finished model itself, of which there is no second copy. Empty for an untouched
    base: it was never trained. Raises StageError when the student is not finished, or was trained
    without keeping any.
    """
    student = read_student(folder)
    if student.figures is None:
        return []
    if not (folder / SNAPSHOTS).is_dir():
        raise StageError(
            f"{folder}: no snapshots were kept while this student was trained. Remove that "
            "folder and train again with "
            "evals.checkpoints.count = the number of them that is wanted."
        )
    found = {
        int(match[1]): path
        for path in (folder / SNAPSHOTS).iterdir()
        if (match := re.fullmatch(r"step-(\d+)", path.name))
    }
    return sorted((found | {student.figures.steps: Path(student.path)}).items())


def check_settings(student: StudentSettings) -> None:
    """Refuse, before anything starts, what would fail after hours. Raises ConfigError."""
    if student.starts_from is None:  # else its base is still to be made
        base_identity(student)
    if student.chat_template is not None and not Path(student.chat_template).is_file():
        raise ConfigError(
            f"[students] {student.name} chat_template = {student.chat_template!r}: no such file."
        )
    if student.optimizer == "muon" and student.lora is not None:
        raise ConfigError(
            f"[students] {student.name} optimizer = 'muon' is for full training; LoRA uses adamw."
        )
    if student.distils():
        why_not = student.method_settings().why_not(
            with_lora=student.lora is not None, with_packing=student.packing
        )
        if why_not is not None:
            raise ConfigError(f"[students] {student.name} {why_not}")
    if student.shrink is not None and (folder := model_folder(student.base or "")) is not None:
        student.shrink.check(
            json.loads((folder / "config.json").read_text(encoding="utf-8")),
            f"[students] {student.name}",
        )
    shape = student.architecture
    if shape is not None and shape.hidden_size % shape.num_attention_heads:
        raise ConfigError(
            f"[students] {student.name} hidden_size = {shape.hidden_size} is no multiple of "
            "num_attention_heads."
        )


def base_identity(student: StudentSettings) -> str:
    """What the student starts from: the architecture's fingerprint, or the weights'
    `name@revision`. Raises ConfigError.
    """
    if student.architecture is None:
        return model_identity(student.base or "", student.revision)
    shape = student.architecture.model_dump(mode="json") | {"seed": student.seed}
    if student.architecture.tokenizer != "train":
        shape["tokenizer"] = tokenizer_identity(student.architecture.tokenizer, student.revision)
    return f"scratch@{fingerprint(shape)}"


def _identity(job: StudentJob) -> Identity:
    left_out = WATCHING | {"base", "revision", "seeds", "teacher", "teacher_revision", *METHODS}
    section = job.student.model_dump(mode="json", exclude=left_out)
    if job.student.distils():
        section[job.student.method] = job.student.method_settings().canonical()
    if job.student.shrink is None:
        del section[
            "shrink"
        ]  # students that were made before there was such a setting stay the same
    if job.student.method == "base":  # how others train does not touch it
        section = {
            key: value for key, value in section.items() if key in START | {"name", "method"}
        }
    if job.student.method != "base" or _is_calibrated(job.student):
        section["prompt"] = job.prompt.tag
    if job.student.chat_template is not None:  # what it says counts, not where it lies
        section["chat_template"] = fingerprint(
            Path(job.student.chat_template).read_text(encoding="utf-8")
        )
    inputs = {"base": base_identity(job.student)}
    if (
        job.student.method in ("sft", "answer_only", *METHODS)
        or _trains_tokenizer(job.student)
        or _is_calibrated(job.student)
    ):
        inputs["examples"] = require_complete(job.examples).output
    if job.student.method == "unverified":
        inputs["unverified"] = _unverified_content(job.examples)
    if job.student.method == "answer_only":
        inputs["problems"] = require_complete(job.problems).output  # it learns their gold answers
    if job.student.distils():
        inputs |= _teacher_input(job)
    if job.steps_like is not None:
        inputs["parent"] = require_complete(job.steps_like).fingerprint
    return Identity("students", VERSION, section, inputs)


def _teacher_input(job: StudentJob) -> dict[str, str]:
    """Whose distributions are learnt: the teacher's weights, or what was stored of them. Raises
    ConfigError or StageError.
    """
    stored_tokens = job.student.method_settings().stored_tokens
    if stored_tokens is not None:
        return {"top_k": TopKReader(_top_k(job, stored_tokens)).identity()}
    if job.teacher is None:
        raise no_teacher(job.student)
    return {"teacher": model_identity(job.teacher, job.teacher_revision)}


def no_teacher(student: StudentSettings) -> ConfigError:
    """What to raise when nobody is there to learn from."""
    return ConfigError(
        f"[students] {student.name} method = {student.method!r} needs a teacher in "
        "memory; the traces have no single one that vLLM serves. "
        "Name it: teacher = a hub id or folder."
    )


def _top_k(job: StudentJob, stored_tokens: int) -> Path:
    folder = (job.traces or Path()) / FOLDER
    if job.traces is None or not folder.is_dir():
        raise StageError(
            f"[students] {job.student.name}: the teacher's log-probabilities are not stored "
            f"with the traces ({folder}). Set [traces] "
            f"logprobs = {stored_tokens} and run the traces stage again: it adds them to the "
            "traces that are there."
        )
    return folder


def _trains_tokenizer(student: StudentSettings) -> bool:
    """On the examples, for every method: students that start alike read and write the same tokens."""
    return student.architecture is not None and student.architecture.tokenizer == "train"


def _is_calibrated(student: StudentSettings) -> bool:
    """On the examples, for every method: students that start alike are cut alike."""
    return student.shrink is not None and student.shrink.is_calibrated


def _calibration(job: StudentJob) -> list[Example]:
    """The examples that say which parts of the base a student keeps, evenly spread over those to
    train on.
    """
    if job.student.shrink is None or not job.student.shrink.is_calibrated:
        return []
    return _spread(
        [e for e in read_records(job.examples / EXAMPLES, Example) if e.split == "train"],
        job.student.shrink.calibration,
    )


def _held_out(job: StudentJob) -> list[Example]:
    """The verified traces that perplexity is of, whatever the student itself was trained on."""
    return _spread(
        [e for e in read_records(job.examples / EXAMPLES, Example) if e.split == "validation"],
        HELD_OUT,
    )


def _spread(examples: list[Example], count: int) -> list[Example]:
    """At most `count` of them at even distances, in order."""
    count = min(count, len(examples))
    return [examples[i * len(examples) // count] for i in range(count)]


def _shrunk(job: StudentJob, model: Path) -> Shrunk:
    """How far a student that was cut out of its base is from it, on at most `HELD_OUT` validation
    examples.
    """
    from reasondistill.stages.students import held_out

    examples = list(read_records(job.examples / EXAMPLES, Example))
    validation = _held_out(job)
    texts = [message.content for example in examples for message in example.messages]
    trained = None if job.student.method == "base" else model
    return held_out.shrunk(
        job.student,
        texts,
        _calibration(job),
        validation,
        plain=job.prompt.prompt.plain,
        trained=trained,
    )


def _unverified_content(examples: Path) -> str:
    """What stage 4 chose without looking at verdicts. Raises StageError when it was not asked to."""
    require_complete(examples)
    if not (examples / UNVERIFIED).exists():
        raise StageError(
            f"{examples}: no {UNVERIFIED}, which an unverified student trains on. Run the "
            "examples stage again: it adds the file."
        )
    return content_of(examples, [UNVERIFIED])


def _training_examples(job: StudentJob) -> list[Example]:
    """The examples this method trains on; no gold answer has a say in the unverified ones."""
    file = UNVERIFIED if job.student.method == "unverified" else EXAMPLES
    examples = list(read_records(job.examples / file, Example))
    if not any(example.split == "train" for example in examples):
        raise StageError(
            f"{job.examples}: no training examples (see dropped.jsonl there for the "
            "reasons); nothing to train on."
        )
    return _answers_only(job, examples) if job.student.method == "answer_only" else examples


def _answers_only(job: StudentJob, examples: list[Example]) -> list[Example]:
    """One example per problem: the gold answer in a box, no reasoning.

    Where there is no gold answer, what the problem's first kept trace answered stands in for it.
    """
    splits: dict[str, Split] = {example.problem_id: example.split for example in examples}
    answered = {example.problem_id: example.messages[-1].content for example in reversed(examples)}
    problems = (p for p in read_records(job.problems / layout.PROBLEMS, Problem) if p.id in splits)
    return [
        Example(
            id=f"{problem.id}:gold",
            problem_id=problem.id,
            trace_id=None,
            messages=(
                *job.prompt.prompt.render(problem.question),
                Message(
                    role="assistant",
                    content=f"\\boxed{{{problem.answer or extract(answered[problem.id]).text or ''}}}",
                ),
            ),
            tokens=0,
            split=splits[problem.id],
        )
        for problem in problems
    ]


def _make(
    job: StudentJob, examples: list[Example], stop: StopSignal | None
) -> tuple[TrainingFigures | None, dict[str, int], Path]:
    """Build the base, and train it unless it is the untouched one."""
    try:
        from reasondistill.stages.students import bases
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "transformers", "train") from error
    texts = [
        message.content
        for example in read_records(job.examples / EXAMPLES, Example)
        for message in example.messages
    ]
    if job.student.method == "base":
        plain = job.prompt.prompt.plain
        make = partial(
            bases.untouched,
            job.student,
            job.folder,
            texts,
            calibration=_calibration(job),
            plain=plain,
        )
        return None, {}, processes.on_first(make)
    from reasondistill.stages.students import sft

    student, max_steps = job.student, job.student.max_steps
    parent = read_student(job.steps_like).figures if job.steps_like is not None else None
    if parent is not None:
        max_steps = parent.steps
        if student.packing and student.method == "answer_only":
            # Packed, a short row's batch would hold many times the examples of its twin's.
            world = processes.world_size()
            batch = world * max(1, round(parent.examples * parent.epochs / parent.steps / world))
            student = student.model_copy(update={"packing": False, "batch_size": batch})
    plain = job.prompt.prompt.plain
    material = sft.Material(
        examples, texts, plain, calibration=_calibration(job), held_out=_held_out(job)
    )
    method = _distillation(job) if student.distils() else None
    try:
        figures, dropped = sft.train(
            student,
            material,
            job.folder,
            job.settings,
            max_steps,
            stop,
            snapshots=job.snapshots,
            method=method,
        )
    finally:
        if method is not None:
            method.close()
    return figures, dropped, job.folder / layout.MODEL


def _distillation(job: StudentJob) -> Distillation:
    from reasondistill.stages.students.distilling.training import Distillation

    return Distillation(
        student=job.student,
        settings=job.settings,
        teacher=job.teacher or "",
        revision=job.teacher_revision,
        golds={
            problem.id: problem.answer
            for problem in read_records(job.problems / layout.PROBLEMS, Problem)
        },
        top_k=(job.traces or Path()) / FOLDER,
        folder=job.folder,
    )
