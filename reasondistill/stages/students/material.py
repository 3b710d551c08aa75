"""What a student learns from and is measured on: records, and how they are chosen from the folders
of earlier stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reasondistill.config import StudentSettings
from reasondistill.errors import StageError
from reasondistill.grading.extract import extract
from reasondistill.models.prompts import NamedPrompt
from reasondistill.models.topk import FOLDER
from reasondistill.records import Example, Message, Problem, Split
from reasondistill.runs import layout
from reasondistill.runs.store import read_records
from reasondistill.stages.students.job import StudentJob

# Validation examples that perplexity, and the distance to a teacher or base, are of.
HELD_OUT = 256


@dataclass(frozen=True)
class Material:
    """What a student learns from and is measured on: `examples` to train and validate on, by their
    `split`.

    `texts` are what a tokenizer is trained on (None: what the examples say). `plain` says how
    prompts are rendered. `calibration` is what a student that is cut out of its base is measured on
    before, `held_out` what its perplexity is of.
    """

    examples: Sequence[Example]
    texts: Sequence[str] | None = None
    plain: bool = False
    calibration: Sequence[Example] = ()
    held_out: Sequence[Example] = ()

    @property
    def tokenizer_texts(self) -> Sequence[str]:
        return texts_of(self.examples) if self.texts is None else self.texts

    def split(self, split: Split) -> list[Example]:
        """The examples to train on, or to validate on."""
        return [example for example in self.examples if example.split == split]


@dataclass(frozen=True)
class TeacherSource:
    """Whom a student that distils learns from.

    `model` is a hub id or folder, for a teacher in memory; `top_k` the folder with what is stored
    of a teacher. `golds` is the gold answer by problem id, for methods that grade what the student
    writes.
    """

    model: str | None = None
    revision: str | None = None
    top_k: Path | None = None
    golds: Mapping[str, str] = field(default_factory=dict[str, str])


def material_of(job: StudentJob, examples: Sequence[Example]) -> Material:
    """The material of a student that trains on these examples."""
    return Material(
        examples,
        all_texts(job),
        job.prompt.prompt.plain,
        calibration=calibration_examples(job),
        held_out=held_out_examples(job),
    )


def teacher_of(job: StudentJob) -> TeacherSource:
    """Whom the student of a job learns from."""
    problems = read_records(job.problems / layout.PROBLEMS, Problem)
    return TeacherSource(
        model=job.teacher,
        revision=job.teacher_revision,
        top_k=(job.traces or Path()) / FOLDER,
        golds={problem.id: problem.answer for problem in problems},
    )


def texts_of(examples: Iterable[Example]) -> list[str]:
    """What is said in the examples, prompts and answers."""
    texts: list[str] = []
    for example in examples:
        texts.extend(message.content for message in example.messages)
    return texts


def all_texts(job: StudentJob) -> list[str]:
    """What a tokenizer is trained on: the verified examples, whatever the method."""
    return texts_of(read_records(job.examples / layout.EXAMPLES, Example))


def training_examples(job: StudentJob) -> list[Example]:
    """The examples this method trains on; no gold answer has a say in the unverified ones. Raises
    StageError where there are none.
    """
    is_unverified = job.student.method == "unverified"
    file = layout.UNVERIFIED if is_unverified else layout.EXAMPLES
    examples = list(read_records(job.examples / file, Example))
    if not any(example.split == "train" for example in examples):
        raise StageError(
            f"{job.examples}: no training examples (see dropped.jsonl there for the "
            "reasons); nothing to train on."
        )
    if job.student.method != "answer_only":
        return examples
    problems = read_records(job.problems / layout.PROBLEMS, Problem)
    return answers_only(problems, examples, job.prompt)


def answers_only(
    problems: Iterable[Problem], examples: Sequence[Example], prompt: NamedPrompt
) -> list[Example]:
    """One example per problem: the gold answer in a box, no reasoning.

    Where there is no gold answer, what the problem's first kept trace answered stands in for it.
    """
    splits: dict[str, Split] = {example.problem_id: example.split for example in examples}
    first_answers = {
        example.problem_id: example.messages[-1].content for example in reversed(examples)
    }
    answers: list[Example] = []
    for problem in problems:
        if problem.id not in splits:
            continue
        answer = problem.answer or extract(first_answers[problem.id]).text or ""
        boxed = Message(role="assistant", content=f"\\boxed{{{answer}}}")
        answers.append(
            Example(
                id=f"{problem.id}:gold",
                problem_id=problem.id,
                trace_id=None,
                messages=(*prompt.prompt.render(problem.question), boxed),
                tokens=0,
                split=splits[problem.id],
            )
        )
    return answers


def calibration_examples(job: StudentJob) -> list[Example]:
    """The examples that say which parts of the base a student keeps, evenly spread over those to
    train on.
    """
    return calibrating(job.student, read_records(job.examples / layout.EXAMPLES, Example))


def calibrating(student: StudentSettings, examples: Iterable[Example]) -> list[Example]:
    """Those of the examples that say which parts of the base a student keeps. They are only read
    where something is measured on them.
    """
    if student.shrink is None or not student.shrink.is_calibrated:
        return []
    training = [example for example in examples if example.split == "train"]
    return spread(training, student.shrink.calibration)


def held_out_examples(job: StudentJob) -> list[Example]:
    """The verified traces that perplexity is of, whatever the student itself was trained on."""
    examples = read_records(job.examples / layout.EXAMPLES, Example)
    validation = [example for example in examples if example.split == "validation"]
    return spread(validation, HELD_OUT)


def spread(examples: list[Example], count: int) -> list[Example]:
    """At most `count` of them at even distances, in order."""
    count = min(count, len(examples))
    return [examples[i * len(examples) // count] for i in range(count)]
