"""Splitting a model's text into reasoning and answer, for all formats of reasoning."""

from __future__ import annotations

from reasondistill.records import Completion, Finish
from reasondistill.thinking import ReasoningFormat, split


def split_reasoning(
    text: str,
    *,
    shape: ReasoningFormat = "auto",
    opens: ReasoningFormat | None,
    finish: Finish,
    prompt_tokens: int,
    tokens: int,
    seconds: float,
) -> Completion:
    """The completion that a text is.

    `shape` is how the model marks its reasoning (`auto`: look at the text), `opens` the shape of
    the block that the prompt's end opened. A block that never ends is an open one, with an empty
    answer, so it is graded as truncated.
    """
    parts = split(text, shape, opens=opens, is_cut=finish in ("length", "repetition"))
    return Completion(
        reasoning=parts.reasoning,
        answer_text=parts.answer,
        think=parts.think,
        finish=finish,
        prompt_tokens=prompt_tokens,
        tokens=tokens,
        seconds=seconds,
    )
