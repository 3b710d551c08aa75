"""Example → token ids and labels, by our own hand: the loss is on the assistant's turn and its EOS,
and decoding gives the text back.

Chat templates are not trusted with the assistant's turn: some drop everything before `</think>`
when they render a finished conversation (DeepSeek-R1-Distill's does). Prompt and completion are
tokenised apart, exactly as they meet at inference.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from reasondistill.errors import ConfigError, StageError
from reasondistill.methods.texts import IGNORE, prompt_length
from reasondistill.models.prompts import after_prompt
from reasondistill.models.tokenising import (
    InputFault,
    InputReason,
    TokenisedPrompt,
    tokenise_answer,
    tokenise_prompt,
)
from reasondistill.records import Dropped, Example
from reasondistill.runs.limits import are_too_many_faulty
from reasondistill.stages.students.parallel import in_order

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """One training row: `labels` is IGNORE over the prompt, the token itself over the completion
    and the EOS. The rest says of what.
    """

    input_ids: list[int]
    labels: list[int]
    problem_id: str = ""
    trace_id: str | None = None

    @property
    def prompt_length(self) -> int:
        return prompt_length(self.labels)


# Why a row is set aside, in the words of a student's counts.
TOO_LONG = "longer than max_length"
_REASONS: dict[InputReason, str] = {
    "template_refuses": "refused by the chat template",
    "not_unicode": "no text of Unicode",
    "not_given_back": "not given back by the tokenizer",
    "prompt_too_long": TOO_LONG,
    "holds_an_end": "holds the token that ends a text",
}


@dataclass(frozen=True)
class Tokenised:
    """The rows, and the examples that did not become one."""

    rows: list[Row]
    set_aside: list[Dropped]

    @property
    def dropped(self) -> dict[str, int]:
        """How many were set aside, by reason."""
        return dict(Counter(one.reason for one in self.set_aside))


def tokenise(example: Example, tokenizer: Any, *, plain: bool) -> Row:
    """One example as ids and labels.

    Raises InputFault when the chat template refuses it, decoding does not give the assistant's text
    back, or the EOS is an ordinary token that stands in that text; ConfigError for a template with
    which a trace would have two blocks of reasoning.
    """
    *before, answer = example.messages
    prompt = tokenise_prompt(tokenizer, before, plain=plain)
    if answer.content.startswith(THINK):
        require_one_block(prompt, tokenizer.name_or_path)
    pieces = after_prompt(answer.content, opens_think=prompt.opens == "think")
    written = tokenise_answer(tokenizer, pieces)
    if tokenizer.eos_token_id in written:
        raise InputFault(
            "holds_an_end",
            f"the text holds {tokenizer.eos_token!r}, an ordinary token of this tokenizer that is "
            "its EOS too: the student would learn to end there",
        )
    completion = [*written, tokenizer.eos_token_id]
    labels = [IGNORE] * len(prompt.ids) + completion
    return Row([*prompt.ids, *completion], labels, example.problem_id, example.trace_id)


THINK = "<think>"


def require_one_block(prompt: TokenisedPrompt, name: str) -> None:
    """Raise ConfigError for a prompt behind which a trace's `<think>` would open a second block of
    reasoning.
    """
    remedy = (
        "Set template_options of the student to what makes its template think "
        "({enable_thinking = true} for Qwen3's), or give it another chat_template."
    )
    if prompt.has_empty_block:
        raise ConfigError(
            f"{name}: the chat template closes an empty think block before the student writes, and "
            f"the trace opens another. {remedy}"
        )
    if prompt.opens not in (None, "think"):
        raise ConfigError(
            f"{name}: the chat template opens a block of reasoning in the shape of "
            f"{prompt.opens!r}, and the trace writes <think> inside it. {remedy}"
        )


def tokenise_all(
    examples: Iterable[Example], tokenizer: Any, *, plain: bool, max_length: int | None = None
) -> Tokenised:
    """Rows of at most `max_length` tokens, all of them in memory: for a few examples.

    Raises StageError when more than a few cannot be tokenised.
    """
    tokenised = Tokenised([], [])
    for one in tokenise_each(examples, tokenizer, plain=plain, max_length=max_length):
        if isinstance(one, Row):
            tokenised.rows.append(one)
        else:
            tokenised.set_aside.append(one)
    return tokenised


def tokenise_each(
    examples: Iterable[Example], tokenizer: Any, *, plain: bool, max_length: int | None = None
) -> Iterator[Row | Dropped]:
    """Each example as a row of at most `max_length` tokens, or why it is none: a truncated row
    would lose its answer and its EOS.

    Raises StageError at the end when more than a few cannot be tokenised.
    """
    attempt = partial(_attempt, tokenizer=tokenizer, plain=plain, max_length=max_length)
    faults: list[str] = []
    total = 0
    for one in in_order(attempt, examples):
        total += 1
        if isinstance(one, Row):
            yield one
            continue
        if one.fault is not None:
            faults.append(one.fault)
        yield one.dropped
    report_faults(faults, total)


@dataclass(frozen=True)
class _NoRow:
    """An example that is no row; `fault` is "id: why" where it should have been one."""

    dropped: Dropped
    fault: str | None = None


def _attempt(
    example: Example, tokenizer: Any, *, plain: bool, max_length: int | None
) -> Row | _NoRow:
    try:
        row = tokenise(example, tokenizer, plain=plain)
    except InputFault as fault:
        return _NoRow(_dropped(example, _REASONS[fault.reason]), f"{example.id}: {fault}")
    if max_length is not None and len(row.input_ids) > max_length:
        return _NoRow(_dropped(example, TOO_LONG))
    return row


def _dropped(example: Example, reason: str) -> Dropped:
    return Dropped(
        trace_id=example.trace_id or example.id, problem_id=example.problem_id, reason=reason
    )


def report_faults(faults: Sequence[str], total: int) -> None:
    """Log a few faults, each "id: why", of `total` examples. Raises StageError for many."""
    if not faults:
        return
    count = len(faults)
    summary = f"{count} of {total} examples cannot be tokenised; the first: {faults[0]}"
    if are_too_many_faulty(count, total):
        raise StageError(
            f"{summary}. So many are not the examples' fault: look at the tokenizer and its "
            "chat template."
        )
    names = ", ".join(fault.split(": ", 1)[0] for fault in faults[:5])
    if count > 5:
        names += ", …"
    log.warning("%s. They are set aside (%s).", summary, names)
