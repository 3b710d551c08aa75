"""Generalised knowledge distillation: the student learns on its own texts."""

from __future__ import annotations

from reasondistill.methods.common import CommonMethod
from reasondistill.methods.method import register
from reasondistill.methods.settings import CommonSettings, DivergenceName, Share


class GkdSettings(CommonSettings):
    """Generalised knowledge distillation (Agarwal et al. 2024, arXiv 2306.13649).

    A share `on_policy` (λ) of the steps trains on the student's own texts, the rest on the traces.
    With `divergence` at jsd, `beta` = 0 is forward KL, 1 reverse KL, between them the generalised
    Jensen-Shannon divergence.
    """

    LATER = frozenset({"divergence", "skew", "cross_entropy"})

    divergence: DivergenceName = "jsd"
    """How far two distributions are apart."""
    on_policy: Share = 0.5
    """The share of steps that train on the student's own texts (λ); the rest train on the
    traces.
    """


@register
class Gkd(CommonMethod):
    """Agarwal et al. 2024, algorithm 1."""

    name = "gkd"
    settings_class = GkdSettings
