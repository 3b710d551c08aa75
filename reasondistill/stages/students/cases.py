"""A student as it will be trained, looked at before it is: what each check wants of it is made when
it is first asked for, and once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reasondistill.config import SampledModel, StudentSettings, TrainSettings
from reasondistill.errors import ReasonDistillError
from reasondistill.models.at_hand import (
    config_of,
    is_at_hand,
    is_out_of_reach,
    loaded_tokenizer,
    tokenizer_of,
)
from reasondistill.models.prompts import NamedPrompt
from reasondistill.records import Example
from reasondistill.stages.students.batch import Batch, batch_of
from reasondistill.stages.students.tokens import Row, Tokenised, tokenise_all

# So many rows make the batch that is looked at.
IN_BATCH = 4


@dataclass(frozen=True)
class StudentCase:
    """A student with all that it starts from; of one that goes on from another one `student` has
    that one's base and tokenizer. `key` is where it stands in the file, `folder` where it will be.

    `examples` are some of those that it learns from (`are_all`: every one of them), or stand-ins
    where there are none yet (not `are_real`). `thinks` says whether its teacher may write
    reasoning. `teacher` is whose distributions it learns, `is_local` whether it is trained on this
    machine. `weights_are_known`: those of another one were looked at, which starts as it does.
    """

    key: str
    student: StudentSettings
    prompt: NamedPrompt
    examples: Sequence[Example] = ()
    are_real: bool = False
    are_all: bool = False
    thinks: bool = False
    train: TrainSettings = field(default_factory=TrainSettings)
    folder: Path = Path()
    snapshots: int = 0
    teacher: SampledModel | None = None
    is_local: bool = True
    weights_are_known: bool = False

    @property
    def whose(self) -> str:
        """Whose base it is, for messages."""
        start = "from scratch"
        if self.student.base is not None:
            start = f"base = {self.student.base!r}"
        return f"[students] {self.student.name} {start}"

    @property
    def learns_live(self) -> bool:
        """Whether it learns from a teacher that is in memory beside it."""
        return self.student.distils() and self.student.method_settings().stored_tokens is None

    @property
    def _tokenizer_source(self) -> str | None:
        """The model that the tokenizer comes from; None where it is trained."""
        shape = self.student.architecture
        if shape is None:
            return self.student.base
        return None if shape.tokenizer == "train" else shape.tokenizer

    @cached_property
    def is_here(self) -> bool:
        """Whether its tokenizer can be looked at."""
        source = self._tokenizer_source
        if source is None:
            return bool(self.examples) and find_spec("transformers") is not None
        return is_at_hand(source, self.student.revision)

    @cached_property
    def is_out_of_reach(self) -> bool:
        """Whether the hub would have to answer for its tokenizer, and does not."""
        source = self._tokenizer_source
        return source is not None and is_out_of_reach(source, self.student.revision)

    @cached_property
    def tokenizer(self) -> Any:
        """The student's own tokenizer, as it will be trained with it; None where it is not here."""
        if not self.is_here:
            return None
        from reasondistill.stages.students.bases import load_tokenizer
        from reasondistill.stages.students.material import texts_of

        load = partial(load_tokenizer, self.student, texts_of(self.examples))
        source = self._tokenizer_source
        return load() if source is None else loaded_tokenizer(source, load)

    @cached_property
    def config(self) -> Any:
        """transformers' configuration of its base, before anything of it is changed; None where it
        is not here, or the student starts from scratch.
        """
        base = self.student.base
        if base is None or not is_at_hand(base, self.student.revision):
            return None
        own_code = self.student.trust_remote_code
        return config_of(base, self.student.revision, trust_remote_code=own_code)

    @cached_property
    def teacher_tokenizer(self) -> Any:
        """The tokenizer of its teacher; None without one, or where it is not here."""
        teacher = self.teacher
        if teacher is None or not is_at_hand(teacher.model, teacher.revision):
            return None
        return loaded_tokenizer(teacher.model, partial(tokenizer_of, teacher))

    @cached_property
    def tried(self) -> Tokenised | ReasonDistillError | None:
        """Its examples as rows, or why they become none; None where nothing can be tried."""
        if self.tokenizer is None or not self.examples:
            return None
        try:
            return tokenise_all(
                self.examples,
                self.tokenizer,
                plain=self.prompt.prompt.plain,
                max_length=self.student.max_length,
            )
        except ReasonDistillError as error:
            return error

    @property
    def rows(self) -> list[Row]:
        """The rows that its examples become."""
        return self.tried.rows if isinstance(self.tried, Tokenised) else []

    @cached_property
    def collator(self) -> Any:
        """What makes its batches."""
        from reasondistill.stages.students.collators import collator_of

        return collator_of(self.student, self.tokenizer)

    @cached_property
    def batch(self) -> Batch | None:
        """Its first rows as its own collator makes a batch of them; None without rows."""
        rows = self.rows[:IN_BATCH]
        if not rows:
            return None
        features = [
            {"input_ids": row.input_ids, "labels": row.labels, "row": number}
            for number, row in enumerate(rows)
        ]
        prompts = [row.prompt_length for row in rows]
        tensors = self.collator(features)
        whose = f"[students] {self.student.name}"
        return batch_of(whose, self.tokenizer, tensors, prompts=prompts, are_real=self.are_real)

    @cached_property
    def model(self) -> Any:
        """What is trained, before its first step: loads weights."""
        from transformers.utils.logging import disable_progress_bar

        from reasondistill.stages.students.training import load_start

        disable_progress_bar()
        return load_start(self.student, self.tokenizer, self.rows)

    @property
    def were_weights_looked_at(self) -> bool:
        """Whether checks have loaded its weights, and had rows to try them with."""
        is_loaded = "model" in vars(self)  # where a cached property keeps what it has made
        return is_loaded and bool(self.rows)
