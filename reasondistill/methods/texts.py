"""The texts of a training step, and which of their tokens are in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# The label of a token that is not in the loss.
IGNORE = -100


def prompt_length(labels: Sequence[int]) -> int:
    """How many tokens come before the first one in the loss."""
    for place, label in enumerate(labels):
        if label != IGNORE:
            return place
    return len(labels)


@dataclass(frozen=True)
class Text:
    """A prompt with one completion, the teacher's trace or the student's own text, for a training
    step.

    `row` is its number among the training rows. `weight` multiplies its tokens' losses. The policy
    values are per completion token.
    """

    input_ids: list[int]
    labels: list[int]
    row: int
    by_student: bool = False
    weight: float = 1.0
    advantages: tuple[float, ...] = ()
    old_log_probs: tuple[float, ...] = ()
    importance: tuple[float, ...] = ()

    @property
    def prompt_length(self) -> int:
        return prompt_length(self.labels)


def written_text(prompt: list[int], completion: list[int], place: int, weight: float = 1.0) -> Text:
    """The student's text after a prompt."""
    return Text(
        [*prompt, *completion],
        [IGNORE] * len(prompt) + completion,
        place,
        by_student=True,
        weight=weight,
    )


# The values of each completion token for a policy gradient.
POLICY_VALUES = ("advantages", "old_log_probs", "importance")


def as_json(text: Text) -> dict[str, Any]:
    """A text as a checkpoint keeps it."""
    return asdict(text)


def from_json(value: Mapping[str, Any]) -> Text:
    """The text that `as_json` stored."""
    fields = dict(value)
    for name in POLICY_VALUES:
        fields[name] = tuple(fields.get(name, ()))
    return Text(**fields)


def in_loss(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(texts, tokens − 1): True where the next token is in the loss."""
    return batch["labels"][:, 1:] != IGNORE
