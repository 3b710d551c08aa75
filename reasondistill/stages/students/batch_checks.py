"""What is looked at of a batch that a student's own collator has made: what is learnt of each text,
and what is not.
"""

from __future__ import annotations

from collections.abc import Iterator

from reasondistill.checks import Fault, check
from reasondistill.errors import StageError
from reasondistill.methods.texts import IGNORE
from reasondistill.stages.students.batch import Batch, BatchText

_RELABEL = "make setup"


@check(Batch, "end-not-learnt", cost="batch", remedy=_RELABEL)
def end_is_learnt(batch: Batch) -> Iterator[Fault]:
    """Each text ends with the student's end of text, and that is learnt: else it never learns to
    stop.
    """
    tokenizer = batch.tokenizer
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        return  # `pad-hides-end` looks
    missing = [text for text in batch.texts if not _learns_end(text, tokenizer.eos_token_id)]
    if missing:
        yield Fault(
            StageError(
                f"{batch.whose}: {len(missing)} of {len(batch.texts)} texts do not end with "
                f"{tokenizer.eos_token!r} in the loss: the student would not learn to stop."
            )
        )


@check(Batch, "pad-hides-end", cost="batch", remedy=_RELABEL)
def padding_hides_no_end(batch: Batch) -> Iterator[Fault]:
    """Where the padding token is the end of text, the end is learnt all the same."""
    tokenizer = batch.tokenizer
    if tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    missing = [text for text in batch.texts if not _learns_end(text, tokenizer.eos_token_id)]
    if missing:
        yield Fault(
            StageError(
                f"{batch.whose}: the padding token is the end of text, {tokenizer.eos_token!r}, "
                f"and in {len(missing)} of {len(batch.texts)} texts the end is masked out with "
                "it: the student would not learn to stop."
            )
        )


def _learns_end(text: BatchText, end: int) -> bool:
    ids, labels = list(text.ids), list(text.labels)
    return bool(ids) and ids[-1] == end and labels[-1] == end


@check(Batch, "padding-learnt", cost="batch", remedy=_RELABEL)
def padding_is_not_learnt(batch: Batch) -> Iterator[Fault]:
    """No padding is in the loss."""
    count = sum(text.padding_learnt for text in batch.texts)
    if count:
        yield Fault(
            StageError(f"{batch.whose}: {count:,} tokens of padding are in the loss of a batch.")
        )


@check(Batch, "question-learnt", cost="batch", remedy=_RELABEL)
def question_is_not_learnt(batch: Batch) -> Iterator[Fault]:
    """No token of a prompt is in the loss."""
    count = 0
    for text in batch.texts:
        count += sum(label != IGNORE for label in list(text.labels)[: text.prompt])
    if count:
        yield Fault(
            StageError(
                f"{batch.whose}: {count:,} tokens of prompts are in the loss of a batch: the "
                "student would learn to ask."
            )
        )


@check(
    Batch,
    "nothing-learnt",
    cost="batch",
    remedy="reasondistill run FILE --only examples --set examples.min_tokens=1",
)
def something_is_learnt(batch: Batch) -> Iterator[Fault]:
    """Each text has tokens that are learnt besides its end."""
    empty = [text for text in batch.texts if text.learnt <= 1]
    if empty:
        yield Fault(
            StageError(
                f"{batch.whose}: of {len(empty)} of {len(batch.texts)} texts nothing is learnt: "
                "they have no token in the loss but, perhaps, their end."
            )
        )
