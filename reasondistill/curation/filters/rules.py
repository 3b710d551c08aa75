"""The filters that are always on: the keys of `[examples]` itself, in this order."""

from __future__ import annotations

from reasondistill.config import ExampleSettings
from reasondistill.curation.filters.registry import Candidate, example_filter
from reasondistill.secrets import holds_secret


@example_filter(ExampleSettings)
def was_written(candidate: Candidate, examples: ExampleSettings) -> str | None:
    """A failed sample has no text, whatever `outcomes` are usable."""
    if candidate.trace.completion.is_refused:
        return "problem could not be asked"
    if candidate.trace.completion.is_lost:
        return "sampling failed"
    return None


@example_filter(ExampleSettings)
def has_no_secret(candidate: Candidate, examples: ExampleSettings) -> str | None:
    """A key or password of this environment stood in the text, or stands there: a student would
    learn it, or the mask in its place.
    """
    if candidate.trace.completion.is_masked or holds_secret(candidate.text):
        return "holds a secret"
    return None


@example_filter(ExampleSettings, looks_at_verdict=True)
def has_outcome(candidate: Candidate, examples: ExampleSettings) -> str | None:
    """`outcomes`: the outcome of the verdict."""
    outcome = candidate.verdict.grade.outcome
    return None if outcome in examples.outcomes else f"outcome {outcome}"


@example_filter(ExampleSettings)
def has_an_end(candidate: Candidate, examples: ExampleSettings) -> str | None:
    """A cut-off text: right so far, but it would teach to stop in the middle of a sentence; so
    would reasoning that was ended at its budget (`cut_thinking`).
    """
    was_cut = candidate.trace.completion.finish in ("length", "repetition")
    if was_cut and "truncated" not in examples.outcomes:
        return "cut off"
    if candidate.trace.completion.thinking_is_cut and not examples.cut_thinking:
        return "reasoning cut off"
    return None


@example_filter(ExampleSettings)
def has_text(candidate: Candidate, examples: ExampleSettings) -> str | None:
    """Lone surrogates are broken text: no tokenizer and no Parquet file accepts them."""
    if not candidate.text:
        return "empty text"
    try:
        candidate.text.encode()
    except UnicodeEncodeError:
        return "broken text"
    return None


@example_filter(ExampleSettings)
def has_length(candidate: Candidate, examples: ExampleSettings) -> str | None:
    """`min_tokens` and `max_tokens`, of the generated tokens."""
    tokens = candidate.trace.completion.tokens
    if tokens < examples.min_tokens:
        return "too short"
    if examples.max_tokens is not None and tokens > examples.max_tokens:
        return "too long"
    return None


@example_filter(ExampleSettings)
def has_think_block(candidate: Candidate, examples: ExampleSettings) -> str | None:
    """`require_think`: a closed think block that is not blank."""
    completion = candidate.trace.completion
    reasoning = completion.reasoning or ""
    if examples.require_think and not (completion.think == "closed" and reasoning.strip()):
        return "no think block"
    return None


@example_filter(ExampleSettings)
def has_boxed_answer(candidate: Candidate, examples: ExampleSettings) -> str | None:
    """`require_boxed`: the answer is in a \\boxed{}."""
    if examples.require_boxed and "\\boxed" not in candidate.trace.completion.answer_text:
        return "no boxed answer"
    return None
