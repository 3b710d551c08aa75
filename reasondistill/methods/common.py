"""The method that the common keys define: kd, gkd and reverse_kl differ only in their defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reasondistill.methods.method import Method
from reasondistill.methods.settings import CommonSettings
from reasondistill.methods.step import Micro, Moment
from reasondistill.methods.texts import Text

if TYPE_CHECKING:
    import torch


class CommonMethod(Method[CommonSettings]):
    """A divergence from a live teacher, on the traces or on the student's own texts, beside
    cross-entropy.

    A coin for each step decides whether the student writes (Agarwal et al. 2024, algorithm 1).
    """

    def __init__(self, settings: CommonSettings, seed: int) -> None:
        super().__init__(settings, seed)
        self.divergence = settings.measure()

    def texts(self, fixed: list[Text], moment: Moment) -> list[Text]:
        if self.coin(moment.step) < self.settings.on_policy:
            return moment.write(fixed, self.settings)
        return fixed

    def loss(self, micro: Micro) -> torch.Tensor:
        share = self.settings.cross_entropy
        return micro.mixed_loss(lambda: micro.teacher, self.divergence, share)
