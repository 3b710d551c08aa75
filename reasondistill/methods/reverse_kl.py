"""Reverse KL on the student's own texts."""

from __future__ import annotations

from pydantic import model_validator

from reasondistill.methods.common import CommonMethod
from reasondistill.methods.method import register
from reasondistill.methods.settings import CommonSettings, DivergenceName, Share


class ReverseKlSettings(CommonSettings):
    """Reverse KL on the student's own texts (Gu et al. 2024, arXiv 2306.08543, without its policy
    gradient; Agarwal et al. 2024, arXiv 2306.13649, with β = 1).
    """

    LATER = frozenset({"divergence", "beta", "skew", "cross_entropy"})

    divergence: DivergenceName = "reverse_kl"
    """How far two distributions are apart: reverse KL."""
    on_policy: Share = 1.0
    """The share of steps that train on the student's own texts; the rest train on the traces."""

    @model_validator(mode="after")
    def _is_reverse_kl(self) -> ReverseKlSettings:
        if self.divergence != "reverse_kl":
            raise ValueError(
                f"divergence: {self.divergence!r} is not reverse KL; take method = 'gkd' with "
                "on_policy = 1.0, which takes any divergence"
            )
        return self


@register
class ReverseKl(CommonMethod):
    """On-policy distillation with the exact divergence of each token."""

    name = "reverse_kl"
    settings_class = ReverseKlSettings
