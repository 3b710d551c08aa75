"""What a student learns from and is measured on: records, and how they are chosen from the folders
of earlier stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import repeat
from pathlib import Path
from typing import Generic, TypeVar

from reasondistill.config import StudentSettings
from reasondistill.errors import StageError
from reasondistill.grading.extract.answer import extract
from reasondistill.grading.read.golds import alternatives
from reasondistill.models.prompts import NamedPrompt
from reasondistill.models.topk import FOLDER
from reasondistill.records import Example, Message, Problem, Split, fingerprint
from reasondistill.runs import layout
from reasondistill.runs.store import content_of, read_records
from reasondistill.stages.students.choosing import chosen_ids
from reasondistill.stages.students.job import StudentJob

# Validation examples that perplexity, and the distance to a teacher or base, are of.
HELD_OUT = 256


T = TypeVar("T")


@dataclass(frozen=True)
class Reread(Iterable[T], Generic[T]):
    """What is read anew each time somebody goes over it, so that no more than one is in memory.

    `content` is the fingerprint of all that it gives, made by `fingerprinted` when it is asked for.
    """

    read: Callable[[], Iterable[T]]
    fingerprinted: Callable[[], str]

    @cached_property
    def content(self) -> str:
        return self.fingerprinted()

    def __iter__(self) -> Iterator[T]:
        return iter(self.read())


@dataclass(frozen=True)
class Material:
    """What a student learns from and is measured on: `examples` to train and validate on, by their
    `split`. They are gone over more than once.

    `texts` are what a tokenizer is trained on (None: what the examples say). `plain` says how
    prompts are rendered. `calibration` is what a student that is cut out of its base is measured on
    before, `held_out` what its perplexity is of.
    """

    examples: Sequence[Example] | Reread[Example]
    texts: Iterable[str] | None = None
    plain: bool = False
    calibration: Sequence[Example] = ()
    held_out: Sequence[Example] = ()

    @property
    def tokenizer_texts(self) -> Iterable[str]:
        return texts_of(self.examples) if self.texts is None else self.texts

    @property
    def content(self) -> str:
        """The fingerprint of the examples."""
        if isinstance(self.examples, Reread):
            return self.examples.content
        return fingerprint([fingerprint(example.to_json()) for example in self.examples])

    def split(self, split: Split) -> Iterator[Example]:
        """The examples to train on, each as often as an epoch goes over it, or to validate on."""
        for example in of_split(self.examples, split):
            yield from repeat(example, example.copies)


@dataclass(frozen=True)
class TeacherSource:
    """Whom a student that distils learns from.

    `model` is a hub id or folder, for a teacher in memory; `top_k` the folder with what is stored
    of a teacher. `golds` is the gold answer by problem id, for methods that grade what the student
    writes.
    """

    model: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    top_k: Path | None = None
    golds: Mapping[str, str] = field(default_factory=dict[str, str])


def material_of(job: StudentJob, examples: Reread[Example]) -> Material:
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
        trust_remote_code=job.teacher_trust_remote_code,
        top_k=(job.traces or Path()) / FOLDER,
        golds={problem.id: problem.answer for problem in problems},
    )


def texts_of(examples: Iterable[Example]) -> Iterator[str]:
    """What is said in the examples, prompts and answers."""
    for example in examples:
        for message in example.messages:
            yield message.content


def of_split(examples: Iterable[Example], split: Split) -> Iterator[Example]:
    """Those of the examples that are trained on, or validated on."""
    return (example for example in examples if example.split == split)


def all_texts(job: StudentJob) -> Iterable[str]:
    """What a tokenizer is trained on: the verified examples, whatever the method."""
    examples = verified_examples(job)
    return Reread(lambda: texts_of(examples), lambda: examples.content)


def verified_examples(job: StudentJob) -> Reread[Example]:
    """What stage 4 chose of the verified traces."""
    return examples_in(job, layout.EXAMPLES)


def examples_in(job: StudentJob, file: str) -> Reread[Example]:
    """The examples in a file of stage 4."""
    read = partial(read_records, job.examples / file, Example)
    return Reread(read, partial(content_of, job.examples, [file]))


def training_examples(job: StudentJob) -> Reread[Example]:
    """The examples this method trains on; no gold answer has a say in the unverified ones. Raises
    StageError where there are none.
    """
    is_unverified = job.student.method == "unverified"
    file = layout.UNVERIFIED if is_unverified else layout.EXAMPLES
    examples = chosen_of(job, examples_in(job, file))
    if not any(example.split == "train" for example in examples):
        raise StageError(
            f"{job.examples}: no training examples (see dropped.jsonl there for the "
            "reasons); nothing to train on."
        )
    if job.student.method != "answer_only":
        return examples
    read_problems = partial(read_records, job.problems / layout.PROBLEMS, Problem)
    problems = Reread(read_problems, partial(content_of, job.problems, [layout.PROBLEMS]))
    return Reread(
        lambda: answers_only(problems, examples, job.prompt),
        lambda: fingerprint([problems.content, examples.content, job.prompt.tag]),
    )


def chosen_of(job: StudentJob, examples: Reread[Example]) -> Reread[Example]:
    """Those of the examples that the student's own `[students.examples]` chooses, and all to
    validate on.
    """
    if job.student.examples is None:
        return examples
    chosen = chosen_ids(job, examples)

    def left() -> Iterator[Example]:
        return (one for one in examples if one.split != "train" or one.id in chosen)

    return Reread(left, lambda: fingerprint([examples.content, sorted(chosen)]))


def answers_only(
    problems: Reread[Problem], examples: Reread[Example], prompt: NamedPrompt
) -> Iterator[Example]:
    """One example per problem: the gold answer in a box, of alternatives the first, no reasoning.

    Where there is no gold answer, what the problem's first kept trace answered stands in for it.
    """
    without_gold = {problem.id for problem in problems if not problem.answer}
    splits: dict[str, Split] = {}
    first_answers: dict[str, str] = {}
    for example in examples:
        name = example.problem_id
        splits[name] = example.split
        if name in without_gold and name not in first_answers:
            first_answers[name] = extract(example.messages[-1].content).text or ""
    for problem in problems:
        if problem.id not in splits:
            continue
        answer = alternatives(problem.answer)[0] or first_answers[problem.id]
        boxed = Message(role="assistant", content=f"\\boxed{{{answer}}}")
        yield Example(
            id=f"{problem.id}:gold",
            problem_id=problem.id,
            trace_id=None,
            messages=(*prompt.prompt.render(problem.question), boxed),
            tokens=0,
            split=splits[problem.id],
        )


def calibration_examples(job: StudentJob) -> list[Example]:
    """The examples that say which parts of the base a student keeps, evenly spread over those to
    train on.
    """
    return calibrating(job.student, verified_examples(job))


def calibrating(student: StudentSettings, examples: Iterable[Example]) -> list[Example]:
    """Those of the examples, which are gone over twice, that say which parts of the base a student
    keeps. They are only read where something is measured on them.
    """
    if student.shrink is None or not student.shrink.is_calibrated:
        return []
    return spread(examples, "train", student.shrink.calibration)


def held_out_examples(job: StudentJob) -> list[Example]:
    """The verified traces that perplexity is of, whatever the student itself was trained on."""
    return spread(verified_examples(job), "validation", HELD_OUT)


def spread(examples: Iterable[Example], split: Split, count: int) -> list[Example]:
    """At most `count` of the examples of a split, at even distances, in order. They are gone over
    twice.
    """
    total = sum(1 for _ in of_split(examples, split))
    count = min(count, total)
    places = {number * total // count for number in range(count)}
    return [example for place, example in enumerate(of_split(examples, split)) if place in places]
