"""Distillation from the teacher's most likely tokens, stored with the traces: no teacher in
memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from reasondistill.losses.divergences import Divergence
from reasondistill.methods.method import Method, register
from reasondistill.methods.settings import AlphaSettings
from reasondistill.methods.step import Micro

if TYPE_CHECKING:
    import torch


class TopkKdSettings(AlphaSettings):
    """Forward KL from the teacher's `k` most likely tokens at each position, stored with the
    traces ([traces] logprobs), and one bucket for the rest.

    `alpha`·KL + (1−`alpha`)·CE. No teacher is in memory. The temperature is 1, since only the mass
    of the rest is known; for the same reason there is no other divergence, and no student text.
    """

    LATER = frozenset({"cross_entropy"})

    k: Annotated[int, Field(ge=1)] = 16
    """How many of the teacher's most likely tokens are learnt from at each token. [tokens]"""

    @property
    def stored_tokens(self) -> int:
        return self.k


@register
class TopkKd(Method[TopkKdSettings]):
    """Forward KL over k + 1 classes: a lower bound of the full forward KL."""

    name = "topk_kd"
    settings_class = TopkKdSettings

    def __init__(self, settings: TopkKdSettings, seed: int) -> None:
        super().__init__(settings, seed)
        self.divergence = Divergence("forward_kl")

    def loss(self, micro: Micro) -> torch.Tensor:
        share = self.settings.cross_entropy
        return micro.mixed_loss(lambda: micro.stored_teacher, self.divergence, share)
