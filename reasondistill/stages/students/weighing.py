"""The loss of a step as the mean of its examples, each of which is the mean of its own tokens.
Imports torch; imported late.

    weights = token_weights(batch)                    # 1/n at each of the n tokens of an example
    weighed = Weighed(model, weights * tokens / samples)

What divides the sum of a step's losses is the number of its tokens, on all ranks and accumulation
steps. Times tokens / samples each example weighs the same, whatever its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from reasondistill.methods.texts import in_loss


def sample_numbers(batch: Mapping[str, Any]) -> torch.Tensor:
    """Which example each token is of: (rows, tokens). In a row without padding one begins wherever
    positions begin anew.
    """
    labels: torch.Tensor = batch["labels"]
    positions: torch.Tensor | None = batch.get("position_ids")
    if positions is None:
        rows = torch.arange(len(labels), device=labels.device)
        return rows[:, None].expand_as(labels)
    begins = (positions == 0).flatten()
    return (begins.cumsum(0) - 1).clamp(min=0).view_as(labels)


def token_weights(batch: Mapping[str, Any]) -> torch.Tensor:
    """1/n at each of the n tokens in the loss of an example, 0 elsewhere: (rows, tokens − 1)."""
    keep = in_loss(batch)
    numbers = sample_numbers(batch)[:, 1:]
    counts = torch.bincount(numbers[keep])
    weights = torch.zeros(keep.shape, device=keep.device)
    weights[keep] = 1 / counts[numbers[keep]].float()
    return weights


def samples_in(batch: Mapping[str, Any]) -> int:
    """How many examples of a batch have a token in the loss."""
    keep = in_loss(batch)
    return len(sample_numbers(batch)[:, 1:][keep].unique())


class Weighed:
    """A model whose log-probabilities of labels are weighed before anybody adds them up."""

    def __init__(self, model: Any, weights: torch.Tensor) -> None:
        self._model, self._weights = model, weights

    def __call__(self, **inputs: Any) -> Any:
        outputs = self._model(**inputs)
        outputs.log_probs = outputs.log_probs * self._weights
        return outputs
