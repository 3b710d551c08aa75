"""What makes a student this one and no other: its settings, its base, what it learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reasondistill.config import START, StudentSettings
from reasondistill.errors import ConfigError, StageError
from reasondistill.foreign_files import read_text
from reasondistill.methods import METHODS
from reasondistill.models.topk import FOLDER, TopKReader
from reasondistill.models.weights import model_identity, tokenizer_identity
from reasondistill.records import fingerprint
from reasondistill.runs import layout
from reasondistill.runs.store import Identity, content_of, require_complete, verify_below
from reasondistill.stages.students.choosing import chosen_ids
from reasondistill.stages.students.job import StudentJob
from reasondistill.stages.students.material import examples_in

VERSION = 1


def student_identity(job: StudentJob) -> Identity:
    """Settings and inputs of a student. Raises ConfigError for a base or teacher that is not there,
    StageError for a stage before this one that is not complete.
    """
    return Identity("students", VERSION, identity_section(job), identity_inputs(job))


def identity_section(job: StudentJob) -> dict[str, Any]:
    """The settings that bear identity."""
    student = job.student
    left_out = student.watching() | {
        "base",
        "revision",
        "seeds",
        "teacher",
        "teacher_revision",
        "teacher_trust_remote_code",
        *METHODS,
    }
    section = student.model_dump(mode="json", exclude=left_out)
    if student.distils():
        section[student.method] = student.method_settings().canonical()
    if student.shrink is None:
        # Students that were made before there was such a setting stay the same.
        del section["shrink"]
    if student.examples is not None:
        section["examples"] = student.examples.model_dump(mode="json", exclude_defaults=True)
    if student.method == "base":
        # How others train does not touch it.
        wanted = START | {"name", "method"}
        section = {key: value for key, value in section.items() if key in wanted}
    if student.method != "base" or is_calibrated(student):
        section["prompt"] = job.prompt.tag
    if student.chat_template is not None:
        # What it says counts, not where it lies.
        template = read_text(Path(student.chat_template))
        section["chat_template"] = fingerprint(template)
    return section


def identity_inputs(job: StudentJob) -> dict[str, str]:
    """The fingerprints of what a student is made from."""
    student = job.student
    inputs = {"base": base_identity(student)}
    learns_from_examples = student.method in ("sft", "answer_only", *METHODS)
    if learns_from_examples or trains_tokenizer(student) or is_calibrated(student):
        inputs["examples"] = require_complete(job.examples).output
    if student.method == "unverified":
        inputs["unverified"] = unverified_content(job.examples)
    if student.examples is not None and student.method != "base":
        # By tags, temperatures and the like, which stand in records of other stages.
        file = layout.UNVERIFIED if student.method == "unverified" else layout.EXAMPLES
        inputs["chosen"] = fingerprint(sorted(chosen_ids(job, examples_in(job, file))))
    if student.method == "answer_only":  # it learns their gold answers
        inputs["problems"] = require_complete(job.problems).output
    if student.distils():
        inputs |= teacher_input(job)
    if job.steps_like is not None:
        inputs["parent"] = require_complete(job.steps_like).fingerprint
    return inputs


def base_identity(student: StudentSettings) -> str:
    """What the student starts from: the architecture's fingerprint, or the weights'
    `name@revision`. Raises ConfigError.
    """
    architecture = student.architecture
    if architecture is None:
        return model_identity(student.base or "", student.revision)
    shape = architecture.model_dump(mode="json") | {"seed": student.seed}
    if architecture.tokenizer != "train":
        shape["tokenizer"] = tokenizer_identity(architecture.tokenizer, student.revision)
    return f"scratch@{fingerprint(shape)}"


def teacher_input(job: StudentJob) -> dict[str, str]:
    """Whose distributions are learnt: the teacher's weights, or what was stored of them. Raises
    ConfigError or StageError.
    """
    stored_tokens = job.student.method_settings().stored_tokens
    if stored_tokens is not None:
        return {"top_k": TopKReader(top_k_folder(job, stored_tokens)).identity()}
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


def top_k_folder(job: StudentJob, stored_tokens: int) -> Path:
    """Where the teacher's log-probabilities are stored. Raises StageError where they are not."""
    folder = (job.traces or Path()) / FOLDER
    if job.traces is None or not folder.is_dir():
        raise StageError(
            f"[students] {job.student.name}: the teacher's log-probabilities are not stored "
            f"with the traces ({folder}). Set [traces] "
            f"logprobs = {stored_tokens} and run the traces stage again: it adds them to the "
            "traces that are there."
        )
    return folder


def unverified_content(examples: Path) -> str:
    """What stage 4 chose without looking at verdicts. Raises StageError when it was not asked
    to.
    """
    require_complete(examples)
    if not (examples / layout.UNVERIFIED).exists():
        raise StageError(
            f"{examples}: no {layout.UNVERIFIED}, which an unverified student trains on. Run the "
            "examples stage again: it adds the file."
        )
    verify_below(examples / layout.UNVERIFIED)
    return content_of(examples, [layout.UNVERIFIED])


def trains_tokenizer(student: StudentSettings) -> bool:
    """On the examples, for every method: students that start alike read and write the same
    tokens.
    """
    return student.architecture is not None and student.architecture.tokenizer == "train"


def is_calibrated(student: StudentSettings) -> bool:
    """On the examples, for every method: students that start alike are cut alike."""
    return student.shrink is not None and student.shrink.is_calibrated
