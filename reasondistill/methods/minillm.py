"""MiniLLM: reverse KL of whole texts by policy gradient, the single-step part exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from reasondistill.losses.divergences import Divergence
from reasondistill.methods.method import Method, register
from reasondistill.methods.settings import RolloutSettings, Share
from reasondistill.methods.step import Micro, Moment
from reasondistill.methods.texts import Text, as_json, from_json

if TYPE_CHECKING:
    import torch


class MinillmSettings(RolloutSettings):
    """MiniLLM (Gu et al. 2024, arXiv 2306.08543): reverse KL of whole texts by policy gradient,
    with its single-step part exact.

    Rewards log p − log q of later tokens, discounted by `gamma` and, with `length_normalised`,
    divided by their number, weigh each token (clipped at ±`reward_clip`); PPO's ratio is clipped at
    1 ± `clip`. A share `teacher_mix` of the teacher's distribution is mixed into the sampling. Each
    batch of rollouts serves `reuse` steps. `gamma` = 0 leaves on-policy reverse KL.
    """

    gamma: Share = 1.0
    """How much the rewards of later tokens count; 0 leaves on-policy reverse KL."""
    length_normalised: bool = True
    """Whether the rewards of later tokens are divided by their number."""
    reward_clip: Annotated[float, Field(gt=0)] = 100.0
    """At what rewards are clipped, on both sides."""
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """How far PPO's ratio may go from 1."""
    teacher_mix: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """The share of the teacher's distribution in the sampling."""
    reuse: Annotated[int, Field(ge=1)] = 4
    """How many steps each batch of rollouts serves. [steps]"""

    @property
    def writes_alone(self) -> bool:
        return self.teacher_mix == 0


@register
class Minillm(Method[MinillmSettings]):
    """Single-step reverse KL at each position plus PPO's clipped surrogate of the later rewards,
    both weighed by importance (eq. 4 to 8).
    """

    name = "minillm"
    settings_class = MinillmSettings

    def __init__(self, settings: MinillmSettings, seed: int) -> None:
        super().__init__(settings, seed)
        self.divergence = Divergence("reverse_kl")
        self.served = 0
        self.batch: list[Text] = []

    def texts(self, fixed: list[Text], moment: Moment) -> list[Text]:
        # An epoch's last batch may be a small one.
        if self.served >= self.settings.reuse or len(self.batch) != len(fixed):
            self.batch = self.rollouts(fixed, moment)
            self.served = 0
        self.served += 1
        return self.batch

    def rollouts(self, fixed: list[Text], moment: Moment) -> list[Text]:
        """The student's texts, each token with its advantage, its log-probability at the time, and
        its importance.
        """
        settings = self.settings
        written = moment.write(fixed, settings, settings.teacher_mix)
        log_probs = moment.log_probs(written)
        later: list[list[float]] = []
        for student, teacher in log_probs:
            rewards = [p - q for q, p in zip(student, teacher, strict=True)]
            later.append(
                later_rewards(
                    rewards,
                    settings.gamma,
                    clip=settings.reward_clip,
                    normalise=settings.length_normalised,
                )
            )
        rollouts: list[Text] = []
        for text, advantages, (student, teacher) in zip(
            written, whitened(later), log_probs, strict=True
        ):
            weights = importance(student, teacher, settings.teacher_mix)
            rollouts.append(
                replace(
                    text,
                    advantages=tuple(advantages),
                    old_log_probs=tuple(student),
                    importance=tuple(weights),
                )
            )
        return rollouts

    def loss(self, micro: Micro) -> torch.Tensor:
        from reasondistill.losses.policy import Policy

        weights = micro.weights * micro.values("importance")
        policy = Policy(
            micro.values("advantages"), micro.values("old_log_probs"), clip=self.settings.clip
        )
        losses = micro.losses(
            labels=micro.labels,
            teacher=micro.teacher,
            divergence=self.divergence,
            divergence_weights=weights,
            policy=policy,
            policy_weights=weights,
        )
        return losses.total

    def state(self) -> dict[str, Any]:
        return {"served": self.served, "batch": [as_json(text) for text in self.batch]}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.served = state["served"]
        self.batch = [from_json(text) for text in state["batch"]]


def later_rewards(
    rewards: Sequence[float], gamma: float, *, clip: float = float("inf"), normalise: bool = True
) -> list[float]:
    """For each position t: Σ_{u>t} γ^{u−t}·r_u, with `normalise` divided by the number of positions
    after t (eq. 7 of the paper).

    Each reward is clipped at ±`clip`. γ = 0 gives zeros: nothing after the present step counts.

    >>> later_rewards([1.0, 2.0, 4.0], 1.0)
    [3.0, 4.0, 0.0]
    """
    later = [0.0] * len(rewards)
    total = 0.0
    for place in range(len(rewards) - 2, -1, -1):
        clipped = max(-clip, min(clip, rewards[place + 1]))
        total = gamma * (clipped + total)
        later[place] = total
        if normalise:
            later[place] /= len(rewards) - 1 - place
    return later


def whitened(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Mean 0 and deviation 1 over all tokens of this rank's batch; zeros stay zeros."""
    import torch

    every: list[float] = []
    for row in rows:
        every.extend(row)
    values = torch.tensor(every, dtype=torch.float64)
    deviation = float(values.std(correction=0)) if every else 0.0
    if deviation < 1e-12:
        return [[0.0] * len(row) for row in rows]
    mean = float(values.mean())
    whitened_rows: list[list[float]] = []
    for row in rows:
        whitened_rows.append([(value - mean) / deviation for value in row])
    return whitened_rows


def importance(student: Sequence[float], teacher: Sequence[float], mix: float) -> list[float]:
    """q / ((1 − mix)·q + mix·p) of each token, from log-probabilities of student q and teacher p
    (eq. 8, per token).
    """
    import torch

    if mix == 0:
        return [1.0] * len(student)
    p = torch.tensor(teacher, dtype=torch.float64)
    q = torch.tensor(student, dtype=torch.float64)
    ratio = (p - q).clamp(max=50).exp()
    return (1 / ((1 - mix) + mix * ratio)).tolist()
