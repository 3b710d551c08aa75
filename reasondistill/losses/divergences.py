"""How far the student's next-token distribution is from the teacher's: six divergences, each with
its gradient in closed form.

p is the teacher, q the student, z the student's logits. All gradients are of one row, with respect
to z, at temperature 1:

    forward KL   KL(p‖q)                          q − p
    reverse KL   KL(q‖p)                          q·(log q − log p − KL)
    JSD          β·KL(p‖m) + (1−β)·KL(q‖m)        (1−β)·q·(log q − log m − KL(q‖m))           m = βp + (1−β)q
    skew KL      KL(p‖m)                          (1−α)·q·(Σ q·p/m − p/m)                    m = αp + (1−α)q
    skew reverse KL(q‖m)                          q·(r − Σ q·r), r = log(q/m) + (1−α)·p/m     m = (1−α)p + αq
    TVD          ½·Σ|p − q|                       q·(s − Σ q·s), s = ½·sign(q − p)

Logits have to be finite: a logit of −inf makes 0·∞. Magnitudes of 10⁴ and more are fine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from reasondistill.errors import ConfigError

Kind = Literal["forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "tvd"]


@dataclass(frozen=True)
class Divergence:
    """Which divergence, with its parameters.

    `beta` serves jsd only: 0 is forward KL, 1 reverse KL, between them the generalised JSD (GKD,
    Agarwal et al. 2024, arXiv 2306.13649; TRL's convention). The ends are special-cased, for the
    JSD itself vanishes there. `alpha` serves the skew ones only, on DistiLLM's side (Ko et al.
    2024, arXiv 2402.03898): skew_kl = KL(p ‖ αp+(1−α)q), skew_reverse_kl = KL(q ‖ (1−α)p+αq); 0 is
    the plain KL. Both logits are divided by `temperature` T, and the value is multiplied by T²
    (Hinton et al. 2015, arXiv 1503.02531).
    """

    kind: Kind
    beta: float = 0.5
    alpha: float = 0.1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(
                f"divergence {self.kind!r} is not known. Known: {', '.join(get_args(Kind))}"
            )
        if not 0 <= self.beta <= 1:
            raise ConfigError(
                f"beta of a divergence is {self.beta}; it lies between 0 (forward KL) and 1 "
                "(reverse KL)"
            )
        if not 0 <= self.alpha < 1:
            raise ConfigError(
                f"alpha of a divergence is {self.alpha}; it lies in [0, 1), 0 is the plain "
                "KL, at 1 nothing would be learned"
            )
        if not 0 < self.temperature < math.inf:
            raise ConfigError(
                f"temperature of a divergence is {self.temperature}; it has to be above 0"
            )

    @property
    def plain_kind(self) -> Kind:
        """The same divergence by its simplest name: jsd and the skew ones at their ends are forward
        or reverse KL.
        """
        if (self.kind, self.beta) == ("jsd", 0) or (self.kind, self.alpha) == ("skew_kl", 0):
            return "forward_kl"
        if (self.kind, self.beta) == ("jsd", 1) or (self.kind, self.alpha) == (
            "skew_reverse_kl",
            0,
        ):
            return "reverse_kl"
        return self.kind


def divergence_of_logits(
    student_logits: Tensor, teacher_logits: Tensor, divergence: Divergence
) -> Tensor:
    """The divergence of each row, dense and for autograd: (N, V), (N, V) → (N,). The reference, and
    good enough for small V.
    """
    log_q, log_p = _log_probs(student_logits, divergence), _log_probs(teacher_logits, divergence)
    return divergence.temperature**2 * _value(log_q, log_p, divergence)


def _value(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> Tensor:
    alpha, beta = divergence.alpha, divergence.beta
    match divergence.plain_kind:
        case "forward_kl":
            return _kl(log_p, log_q)
        case "reverse_kl":
            return _kl(log_q, log_p)
        case "skew_kl":
            return _kl(log_p, _log_mixture(log_q, log_p, alpha))
        case "skew_reverse_kl":
            return _kl(log_q, _log_mixture(log_q, log_p, 1 - alpha))
        case "jsd":
            log_m = _log_mixture(log_q, log_p, beta)
            return beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)
        case "tvd":
            return 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1)


@torch.no_grad()
def value_and_gradient(
    student_logits: Tensor, teacher_logits: Tensor, divergence: Divergence
) -> tuple[Tensor, Tensor]:
    """The divergence of each row (N,) and its derivative with respect to the student's logits (N,
    V), in closed form.

    Makes a handful of temporaries of the inputs' size: hand it a few rows at a time.
    """
    log_q, log_p = _log_probs(student_logits, divergence), _log_probs(teacher_logits, divergence)
    value, gradient = _FORMS[divergence.plain_kind](log_q, log_p, divergence)
    # T² of the value, 1/T of the chain rule.
    return value * divergence.temperature**2, gradient.mul_(divergence.temperature)


def _log_probs(logits: Tensor, divergence: Divergence) -> Tensor:
    return torch.log_softmax(
        logits if divergence.temperature == 1 else logits / divergence.temperature, -1
    )


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def _log_mixture(log_q: Tensor, log_p: Tensor, teacher_share: float) -> Tensor:
    """log(share·p + (1 − share)·q), for a share strictly between 0 and 1."""
    return torch.logaddexp(log_p + math.log(teacher_share), log_q + math.log1p(-teacher_share))


def _centred(q: Tensor, slope: Tensor) -> Tensor:
    """q·(slope − Σ q·slope): a derivative with respect to q, taken through the softmax. Overwrites
    `slope`.
    """
    return slope.sub_((q * slope).sum(-1, keepdim=True)).mul_(q)


def _forward_kl(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
    p = log_p.exp()
    value = (log_p - log_q).mul_(p).sum(-1)
    return value, log_q.exp().sub_(p)


def _reverse_kl(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
    q, gap = log_q.exp(), log_q - log_p
    value = (q * gap).sum(-1)
    return value, gap.sub_(value.unsqueeze(-1)).mul_(q)


def _jsd(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
    beta = divergence.beta
    log_m = _log_mixture(log_q, log_p, beta)
    from_teacher = _kl(log_p, log_m)
    q, gap = log_q.exp(), log_m.neg_().add_(log_q)
    from_student = (q * gap).sum(-1)
    value = beta * from_teacher + (1 - beta) * from_student
    # Σ_v of the derivative through m vanishes, since m is the mixture that minimises the value.
    return value, gap.sub_(from_student.unsqueeze(-1)).mul_(q).mul_(1 - beta)


def _skew_kl(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
    log_m = _log_mixture(log_q, log_p, divergence.alpha)
    gap = log_m.neg_().add_(log_p)
    value = (log_p.exp() * gap).sum(-1)
    # d KL(p‖m) / dq = −(1−α)·p/m, and p/m ≤ 1/α, so nothing overflows.
    return value, _centred(log_q.exp(), gap.exp_().mul_(divergence.alpha - 1))


def _skew_reverse_kl(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
    alpha, q = divergence.alpha, log_q.exp()
    log_m = _log_mixture(log_q, log_p, 1 - alpha)
    gap = log_q - log_m
    value = (q * gap).sum(-1)
    # d KL(q‖m) / dq = log(q/m) + 1 − α·q/m = log(q/m) + (1−α)·p/m.
    return value, _centred(q, gap.add_(log_m.neg_().add_(log_p).exp_(), alpha=1 - alpha))


def _tvd(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
    q = log_q.exp()
    gap = q - log_p.exp()
    value = gap.abs().sum(-1).mul_(0.5)
    return value, _centred(q, gap.sign_().mul_(0.5))


_FORMS: dict[Kind, Callable[[Tensor, Tensor, Divergence], tuple[Tensor, Tensor]]] = {
    "forward_kl": _forward_kl,
    "reverse_kl": _reverse_kl,
    "jsd": _jsd,
    "skew_kl": _skew_kl,
    "skew_reverse_kl": _skew_reverse_kl,
    "tvd": _tvd,
}
