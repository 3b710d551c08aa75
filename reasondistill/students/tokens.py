"""Example → token ids and labels, by our own hand: the loss is on the assistant's turn and its EOS, and decoding gives the text back.

Chat templates are not trusted with the assistant's turn: some drop everything before `</think>` when they render a finished
conversation (DeepSeek-R1-Distill's does). Prompt and completion are tokenised apart, exactly as they meet at inference.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reasondistill.errors import StageError
from reasondistill.prompts import after_prompt
from reasondistill.records import Example, Message

IGNORE = -100


@dataclass(frozen=True)
class Row:
    """One training row: `labels` is IGNORE over the prompt, the token itself over the completion and the EOS. The rest says of what."""

    input_ids: list[int]
    labels: list[int]
    problem_id: str = ""
    trace_id: str | None = None

    @property
    def prompt_length(self) -> int:
        return prompt_length(self.labels)


def prompt_length(labels: Sequence[int]) -> int:
    """How many tokens come before the first one that the loss is on."""
    return next((place for place, label in enumerate(labels) if label != IGNORE), len(labels))


def render_prompt(tokenizer: Any, messages: Sequence[Message], *, plain: bool) -> str:
    """The text before the assistant's turn, as the samplers render it."""
    if plain:
        return "\n\n".join(message.content for message in messages)
    turns = [message.model_dump() for message in messages]
    return tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)


def tokenise(example: Example, tokenizer: Any, *, plain: bool) -> Row:
    """One example as ids and labels. Raises StageError when decoding does not give the assistant's text back."""
    *before, answer = example.messages
    prompt = render_prompt(tokenizer, before, plain=plain)
    text = after_prompt(answer.content, opens_think=prompt.rstrip().endswith("<think>"))
    # A chat template writes its own BOS; plain text gets the tokenizer's, as the samplers do it.
    prompt_ids = tokenizer(prompt, add_special_tokens=plain)["input_ids"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    back = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if not _same(back, text):
        raise StageError(
            f"{example.id}: tokenising and decoding changes the text ({_first_difference(text, back)}); this tokenizer loses text."
        )
    completion = [*ids, tokenizer.eos_token_id]
    return Row([*prompt_ids, *completion], [IGNORE] * len(prompt_ids) + completion, example.problem_id, example.trace_id)


def tokenise_all(examples: Iterable[Example], tokenizer: Any, *, plain: bool, max_length: int) -> tuple[list[Row], dict[str, int]]:
    """Rows of at most `max_length` tokens, and how many were too long: a truncated row would lose its answer and its EOS."""
    rows, too_long = [], 0
    for example in examples:
        row = tokenise(example, tokenizer, plain=plain)
        if len(row.input_ids) > max_length:
            too_long += 1
        else:
            rows.append(row)
    return rows, ({"longer than max_length": too_long} if too_long else {})


def _same(a: str, b: str) -> bool:
    # Qwen's tokenizers normalise to NFC and SentencePiece may add one leading space; neither loses anything.
    return unicodedata.normalize("NFC", a).lstrip(" ") == unicodedata.normalize("NFC", b).lstrip(" ")


def _first_difference(a: str, b: str) -> str:
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"at character {at}: {a[at : at + 20]!r} became {b[at : at + 20]!r}"
