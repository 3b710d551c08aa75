"""DistiLLM: a skewed divergence, and student text only when the student stops getting better."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from reasondistill.losses.divergences import Divergence
from reasondistill.methods.method import Method, register
from reasondistill.methods.settings import RolloutSettings, Share, Skew, Weight
from reasondistill.methods.step import Micro, Moment
from reasondistill.methods.texts import Text, as_json, from_json

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# By how much the share of student text grows when the held-out loss has risen.
GROWTH = 0.1


class SkewKlSettings(RolloutSettings):
    """DistiLLM (Ko et al. 2024, arXiv 2402.03898): a skewed divergence, and student text
    only when the student stops getting better.

    `alpha` skews KL(p ‖ αp+(1−α)q), or with `reverse` KL(q ‖ (1−α)p+αq). The share of steps with
    student text starts at `start_share` and grows by 0.1 whenever the loss on held-out traces,
    measured `checks` times, has risen by `tolerance`. Student text is kept in a buffer of
    `capacity` rollouts and used again, more often towards the end. `cross_entropy` is the share of
    the cross-entropy on the traces' tokens.
    """

    LATER = frozenset({"cross_entropy"})

    alpha: Skew = 0.1
    """How far the divergence is skewed."""
    reverse: bool = False
    """Whether it is the reverse KL that is skewed."""
    start_share: Share = 0.0
    """The share of steps with student text at the beginning."""
    tolerance: Weight = 0.1
    """By how much the held-out loss must rise for the share to grow."""
    checks: Annotated[int, Field(ge=1)] = 10
    """How often the held-out loss is measured. [times]"""
    capacity: Annotated[int, Field(ge=1)] = 1000
    """How many rollouts are kept to be used again. [rollouts]"""
    cross_entropy: Share = 0.0
    """The share of the cross-entropy on the traces' tokens."""


@register
class SkewKl(Method[SkewKlSettings]):
    """DistiLLM (Ko et al. 2024), section 3: skewed divergence; adaptive off-policy share φ with a
    replay buffer.

    With progress t and u uniform: u < φ·(1 − t), or u < φ while the buffer is not full, writes new
    text; else u < φ draws from the buffer; else the traces.
    """

    name = "skew_kl"
    settings_class = SkewKlSettings

    def __init__(self, settings: SkewKlSettings, seed: int) -> None:
        super().__init__(settings, seed)
        kind = "skew_reverse_kl" if settings.reverse else "skew_kl"
        self.divergence = Divergence(kind, alpha=settings.alpha)
        self.share = settings.start_share
        self.last_loss: float | None = None
        self.checked = 0
        self.buffer: deque[Text] = deque(maxlen=settings.capacity)

    def why_not(self, *, held_out: int, micro_batch: int) -> str | None:
        if held_out:
            return None
        return (
            "skew_kl needs held-out traces, whose loss decides who writes; there are none. "
            "Set [examples] validation above 0."
        )

    def texts(self, fixed: list[Text], moment: Moment) -> list[Text]:
        self.look_at_held_out_loss(moment)
        coin = self.coin(moment.step)
        if coin >= self.share:
            return fixed
        is_full = len(self.buffer) == self.settings.capacity
        if coin < self.share * (1 - moment.progress) or not is_full:
            written = moment.write(fixed, self.settings)
            self.buffer.extend(written)
            return written
        places = sorted(
            range(len(self.buffer)), key=lambda place: self.coin(moment.step, f"replay {place}")
        )
        return [self.buffer[place] for place in places[: len(fixed)]]

    def look_at_held_out_loss(self, moment: Moment) -> None:
        """At each check: a held-out loss that rose by `tolerance` since the last change raises the
        share.
        """
        due = int(moment.progress * self.settings.checks)
        if self.share >= 1 or (self.last_loss is not None and due <= self.checked):
            return
        self.checked = due
        loss = moment.held_out_loss()
        if self.last_loss is None:
            self.last_loss = loss
        elif loss >= self.last_loss + self.settings.tolerance:
            self.share = min(1.0, self.share + GROWTH)
            self.last_loss = loss
            log.info(
                "step %d · held-out loss %.4f has risen: %.0f %% of the steps use student text",
                moment.step,
                loss,
                100 * self.share,
            )

    def loss(self, micro: Micro) -> torch.Tensor:
        share = self.settings.cross_entropy
        return micro.mixed_loss(lambda: micro.teacher, self.divergence, share)

    def state(self) -> dict[str, Any]:
        return {
            "share": self.share,
            "last_loss": self.last_loss,
            "checked": self.checked,
            "buffer": [as_json(text) for text in self.buffer],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.share = state["share"]
        self.last_loss = state["last_loss"]
        self.checked = state["checked"]
        self.buffer.clear()
        self.buffer.extend(from_json(text) for text in state["buffer"])
