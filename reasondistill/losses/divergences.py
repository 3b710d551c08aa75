"""How far the student's next-token distribution is from the teacher's: one function for each
divergence, which gives its value and its gradient in closed form.

p is the teacher, q the student, z the student's logits. All gradients are of one row, with respect
to z, at temperature 1:

    forward KL   KL(p‖q)                    q − p
    reverse KL   KL(q‖p)                    q·(log q − log p − KL)
    JSD          β·KL(p‖m) + (1−β)·KL(q‖m)  (1−β)·q·(log q − log m − KL(q‖m)),  m = βp + (1−β)q
    skew KL      KL(p‖m)                    (1−α)·q·(Σ q·p/m − p/m),            m = αp + (1−α)q
    skew reverse KL(q‖m)                    q·(r − Σ q·r),                      m = (1−α)p + αq
                                            with r = log(q/m) + (1−α)·p/m
    TVD          ½·Σ|p − q|                 q·(s − Σ q·s),                      s = ½·sign(q − p)

To add one, write its function here: `@register("name")` makes it known to `Divergence`, to every
loss, and to the `divergence` key of a pipeline file. The tests of values and gradients go over the
registry.

    @register("hellinger")
    def hellinger(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> ValueAndGradient:
        ...

Logits have to be finite: a logit of −inf makes 0·∞. Magnitudes of 10⁴ and more are fine. Imports
torch only inside functions, since a method's settings name a divergence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reasondistill.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


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

    kind: str
    beta: float = 0.5
    alpha: float = 0.1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in DIVERGENCES:
            known = ", ".join(DIVERGENCES)
            raise ConfigError(f"divergence {self.kind!r} is not known. Known: {known}")
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
    def plain_kind(self) -> str:
        """The same divergence by its simplest name: jsd and the skew ones at their ends are forward
        or reverse KL.
        """
        is_forward = (self.kind, self.beta) == ("jsd", 0) or (self.kind, self.alpha) == (
            "skew_kl",
            0,
        )
        is_reverse = (self.kind, self.beta) == ("jsd", 1) or (self.kind, self.alpha) == (
            "skew_reverse_kl",
            0,
        )
        if is_forward:
            return "forward_kl"
        return "reverse_kl" if is_reverse else self.kind


@dataclass(frozen=True)
class ValueAndGradient:
    """A divergence of each row: `value` (N,), which autograd can follow, and `gradient`, which
    makes the value's derivative with respect to the logits (N, V) when it is called.

    `gradient` may overwrite what the value was made from: call it once, and without autograd.
    """

    value: Tensor
    gradient: Callable[[], Tensor]


# Log-probabilities of student and teacher, (N, V) each, at the divergence's temperature.
Form = Callable[["Tensor", "Tensor", Divergence], ValueAndGradient]
DIVERGENCES: dict[str, Form] = {}


def register(name: str) -> Callable[[Form], Form]:
    """Make a divergence known by this name. Raises ValueError for a name that is taken."""

    def keep(form: Form) -> Form:
        if name in DIVERGENCES:
            raise ValueError(f"there is a divergence {name!r} already")
        DIVERGENCES[name] = form
        return form

    return keep


# ---- the divergences -----------------------------------------------------------------------------


@register("forward_kl")
def forward_kl(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> ValueAndGradient:
    """KL(p‖q): the student covers whatever the teacher finds likely."""
    p = log_p.exp()
    value = ((log_p - log_q) * p).sum(-1)
    return ValueAndGradient(value, lambda: log_q.exp().sub_(p))


@register("reverse_kl")
def reverse_kl(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> ValueAndGradient:
    """KL(q‖p): the student stays with what the teacher finds likely."""
    q = log_q.exp()
    gap = log_q - log_p
    value = (q * gap).sum(-1)
    return ValueAndGradient(value, lambda: gap.sub_(value.unsqueeze(-1)).mul_(q))


@register("jsd")
def jsd(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> ValueAndGradient:
    """The generalised Jensen-Shannon divergence, at its ends forward and reverse KL."""
    beta = divergence.beta
    if beta == 0:
        return forward_kl(log_q, log_p, divergence)
    if beta == 1:
        return reverse_kl(log_q, log_p, divergence)
    log_m = log_mixture(log_q, log_p, beta)
    from_teacher = kl(log_p, log_m)
    q = log_q.exp()
    gap = log_q - log_m
    from_student = (q * gap).sum(-1)
    value = beta * from_teacher + (1 - beta) * from_student
    # Σ_v of the derivative through m vanishes, since m is the mixture that minimises the value.
    return ValueAndGradient(
        value, lambda: gap.sub_(from_student.unsqueeze(-1)).mul_(q).mul_(1 - beta)
    )


@register("skew_kl")
def skew_kl(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> ValueAndGradient:
    """KL(p ‖ αp + (1−α)q), bounded where the student has no mass."""
    alpha = divergence.alpha
    if alpha == 0:
        return forward_kl(log_q, log_p, divergence)
    gap = log_p - log_mixture(log_q, log_p, alpha)
    value = (log_p.exp() * gap).sum(-1)
    # d KL(p‖m) / dq = −(1−α)·p/m, and p/m ≤ 1/α, so nothing overflows.
    return ValueAndGradient(value, lambda: through_softmax(log_q.exp(), gap.exp_().mul_(alpha - 1)))


@register("skew_reverse_kl")
def skew_reverse_kl(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> ValueAndGradient:
    """KL(q ‖ (1−α)p + αq), bounded where the teacher has no mass."""
    alpha = divergence.alpha
    if alpha == 0:
        return reverse_kl(log_q, log_p, divergence)
    q = log_q.exp()
    log_m = log_mixture(log_q, log_p, 1 - alpha)
    gap = log_q - log_m
    value = (q * gap).sum(-1)

    def gradient() -> Tensor:
        # d KL(q‖m) / dq = log(q/m) + 1 − α·q/m = log(q/m) + (1−α)·p/m.
        teacher_ratio = log_m.neg_().add_(log_p).exp_()
        return through_softmax(q, gap.add_(teacher_ratio, alpha=1 - alpha))

    return ValueAndGradient(value, gradient)


@register("tvd")
def tvd(log_q: Tensor, log_p: Tensor, divergence: Divergence) -> ValueAndGradient:
    """Total variation distance, ½·Σ|p − q|: what both cannot agree on, between 0 and 1."""
    q = log_q.exp()
    gap = q - log_p.exp()
    value = 0.5 * gap.abs().sum(-1)
    return ValueAndGradient(value, lambda: through_softmax(q, gap.sign_().mul_(0.5)))


# ---- what they are made of -----------------------------------------------------------------------


def kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """KL(a‖b) of each row."""
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def log_mixture(log_q: Tensor, log_p: Tensor, teacher_share: float) -> Tensor:
    """log(share·p + (1 − share)·q), for a share strictly between 0 and 1."""
    teacher_part = log_p + math.log(teacher_share)
    student_part = log_q + math.log1p(-teacher_share)
    return teacher_part.logaddexp(student_part)


def through_softmax(q: Tensor, slope: Tensor) -> Tensor:
    """q·(slope − Σ q·slope): a derivative with respect to q, taken through the softmax. Overwrites
    `slope`.
    """
    return slope.sub_((q * slope).sum(-1, keepdim=True)).mul_(q)


# ---- on logits -----------------------------------------------------------------------------------


def divergence_of_logits(
    student_logits: Tensor, teacher_logits: Tensor, divergence: Divergence
) -> Tensor:
    """The divergence of each row, dense and for autograd: (N, V), (N, V) → (N,). The reference, and
    good enough for small V.
    """
    both = _on_logits(student_logits, teacher_logits, divergence)
    return divergence.temperature**2 * both.value


def value_and_gradient(
    student_logits: Tensor, teacher_logits: Tensor, divergence: Divergence
) -> tuple[Tensor, Tensor]:
    """The divergence of each row (N,) and its derivative with respect to the student's logits (N,
    V), in closed form.

    Makes a handful of temporaries of the inputs' size: hand it a few rows at a time.
    """
    import torch

    with torch.no_grad():
        both = _on_logits(student_logits, teacher_logits, divergence)
        gradient = both.gradient()
        # T² of the value, 1/T of the chain rule.
        return both.value * divergence.temperature**2, gradient.mul_(divergence.temperature)


def _on_logits(
    student_logits: Tensor, teacher_logits: Tensor, divergence: Divergence
) -> ValueAndGradient:
    temperature = divergence.temperature
    if temperature != 1:
        student_logits = student_logits / temperature
        teacher_logits = teacher_logits / temperature
    log_q = student_logits.log_softmax(-1)
    log_p = teacher_logits.log_softmax(-1)
    return DIVERGENCES[divergence.kind](log_q, log_p, divergence)
