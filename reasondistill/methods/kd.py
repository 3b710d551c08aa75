"""Response distillation: the teacher's distribution beside the labels, on fixed traces."""

from __future__ import annotations

from reasondistill.methods.common import CommonMethod
from reasondistill.methods.method import register
from reasondistill.methods.settings import (
    AlphaSettings,
    CommonSettings,
    DivergenceName,
    Share,
    Temperature,
)


class KdSettings(AlphaSettings, CommonSettings):
    """Response distillation on fixed traces (Hinton et al. 2015, arXiv 1503.02531):
    `alpha`·T²·KL(p_T‖q_T) + (1−`alpha`)·CE.

    `divergence` replaces forward KL, and with `on_policy` that share of the steps trains on the
    student's own texts: both are then no longer Hinton's method.
    """

    LATER = frozenset(
        {
            "divergence",
            "beta",
            "skew",
            "on_policy",
            "cross_entropy",
            "rollout_temperature",
            "max_tokens",
            "wrong_weight",
        }
    )

    alpha: Share = 0.5
    """The share of the divergence."""
    temperature: Temperature = 2.0
    """Softens both distributions."""
    divergence: DivergenceName = "forward_kl"
    """How far two distributions are apart."""
    on_policy: Share = 0.0
    """The share of steps that train on the student's own texts; Hinton's method has none."""
    cross_entropy: Share = 0.5
    """The share of the cross-entropy: 1 − alpha. Give one of the two."""


@register
class Kd(CommonMethod):
    """Hinton et al. 2015."""

    name = "kd"
    settings_class = KdSettings
