"""PPO's clipped surrogate on the log-probability of the sampled token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# e²⁰: beyond it a ratio says only that policy and sampler disagree, and would overflow; verl clamps
# at the same place.
MAX_LOG_RATIO = 20.0


@dataclass(frozen=True)
class Policy:
    """What the policy term needs of each position (N,): its advantage and its token's
    log-probability when it was sampled.

    `importance` multiplies the term, e.g. a truncated ratio of trainer to sampler; it carries no
    gradient, like everything here.
    """

    advantages: Tensor
    old_log_probs: Tensor
    clip: float = 0.2
    importance: Tensor | None = None


def surrogate(log_probs: Tensor, policy: Policy, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, its derivative with respect to `log_probs`, and whether it was clipped: each (rows,).

    loss = −importance·min(ratio·A, clip(ratio, 1−ε, 1+ε)·A), ratio = exp(log q − log q_old)
    (Schulman et al. 2017, arXiv 1707.06347, eq. 7). Where the clipped side is the smaller one the
    derivative is 0. Log-probabilities are at temperature 1.
    """
    advantages = policy.advantages[rows].to(log_probs.dtype)
    log_ratio = log_probs - policy.old_log_probs[rows].to(log_probs.dtype)
    ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    free = ratio * advantages
    held = ratio.clamp(1 - policy.clip, 1 + policy.clip) * advantages
    importance = torch.ones_like(ratio)
    if policy.importance is not None:
        importance = policy.importance[rows].to(ratio.dtype)
    is_clipped = held < free
    moves = ~is_clipped & (log_ratio.abs() <= MAX_LOG_RATIO)
    loss = -importance * torch.minimum(free, held)
    slope = torch.where(moves, -importance * free, 0.0)
    return loss, slope, is_clipped
