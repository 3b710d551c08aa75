"""MiniLLM (Gu et al. 2024, arXiv 2306.08543): reverse KL of whole texts by policy gradient, the
single-step part exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from reasondistill.config import Minillm
from reasondistill.losses import Divergence, Policy
from reasondistill.stages.students.distilling.lessons import Lesson, Micro, Moment
from reasondistill.stages.students.distilling.texts import Text, as_json, from_json


class MinillmLesson(Lesson):
    """Single-step reverse KL at each place plus PPO's clipped surrogate of the later rewards, both
    weighed by importance (eq. 4 to 8).
    """

    def __init__(self, settings: Minillm) -> None:
        self.settings = settings
        self.divergence = Divergence("reverse_kl")
        self.served, self.batch = 0, list[Text]()

    def texts(self, fixed: list[Text], moment: Moment) -> list[Text]:
        if self.served >= self.settings.reuse or len(self.batch) != len(
            fixed
        ):  # an epoch's last batch may be a small one
            self.served, self.batch = 0, self._rollouts(fixed, moment)
        self.served += 1
        return self.batch

    def _rollouts(self, fixed: list[Text], moment: Moment) -> list[Text]:
        """What the student writes, each token with its advantage, its log-probability at the time,
        and its importance.
        """
        settings = self.settings
        written = moment.write(fixed, settings, settings.teacher_mix)
        both = moment.log_probs(written)
        rewards = [[p - q for q, p in zip(ours, theirs, strict=True)] for ours, theirs in both]
        later = [
            later_rewards(
                row, settings.gamma, clip=settings.reward_clip, normalise=settings.length_normalised
            )
            for row in rewards
        ]
        return [
            replace(
                text,
                advantages=tuple(values),
                old_log_probs=tuple(ours),
                importance=tuple(importance(ours, theirs, settings.teacher_mix)),
            )
            for text, values, (ours, theirs) in zip(written, whitened(later), both, strict=True)
        ]

    def loss(self, micro: Micro) -> torch.Tensor:
        weights = micro.weights * micro.values("importance")
        policy = Policy(
            micro.values("advantages"), micro.values("old_log_probs"), clip=self.settings.clip
        )
        return micro.losses(
            labels=micro.labels,
            teacher=micro.teacher,
            divergence=self.divergence,
            divergence_weights=weights,
            policy=policy,
            policy_weights=weights,
        ).total

    def state(self) -> dict[str, Any]:
        return {"served": self.served, "batch": [as_json(text) for text in self.batch]}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.served, self.batch = state["served"], [from_json(text) for text in state["batch"]]


def later_rewards(
    rewards: Sequence[float], gamma: float, *, clip: float = float("inf"), normalise: bool = True
) -> list[float]:
    """For each place t: Σ_{u>t} γ^{u−t}·r_u, with `normalise` divided by the number of places after
    t (eq. 7 of the paper).

    Each reward is clipped at ±`clip`. γ = 0 gives zeros: nothing after the present step counts.

    >>> later_rewards([1.0, 2.0, 4.0], 1.0)
    [3.0, 4.0, 0.0]
    """
    found, total = [0.0] * len(rewards), 0.0
    for place in range(len(rewards) - 2, -1, -1):
        total = gamma * (max(-clip, min(clip, rewards[place + 1])) + total)
        found[place] = total / (len(rewards) - 1 - place) if normalise else total
    return found


def whitened(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Mean 0 and deviation 1 over all tokens of this rank's batch; zeros stay zeros."""
    values = torch.tensor([value for row in rows for value in row], dtype=torch.float64)
    deviation = float(values.std(correction=0)) if len(values) else 0.0
    if deviation < 1e-12:
        return [[0.0] * len(row) for row in rows]
    mean = float(values.mean())
    return [[(value - mean) / deviation for value in row] for row in rows]


def importance(ours: Sequence[float], theirs: Sequence[float], mix: float) -> list[float]:
    """q / ((1 − mix)·q + mix·p) of each token, from log-probabilities of student q and teacher p
    (eq. 8, per token).
    """
    if mix == 0:
        return [1.0] * len(ours)
    gap = torch.tensor(theirs, dtype=torch.float64) - torch.tensor(ours, dtype=torch.float64)
    return (1 / ((1 - mix) + mix * gap.clamp(max=50).exp())).tolist()
