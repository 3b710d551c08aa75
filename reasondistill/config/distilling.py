"""The methods that learn from a teacher's distributions or representations: one table each under
`[[students]]`.

[[students]]
method = "gkd"
[students.gkd]          # may be left out: the defaults are those of the method's paper, or what we tried
on_policy = 0.5
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reasondistill.sections import Section

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(gt=0, le=100)]


class Rollouts(Section):
    """How the student writes while it is trained. `max_tokens` bounds a rollout (None: what
    `max_length` leaves after the prompt).

    `wrong_weight` grades every rollout against the gold answer and weighs the tokens of those that
    are not correct (1 counts them all alike but tells their share; None grades nothing).
    """

    rollout_temperature: Annotated[float, Field(gt=0, le=5)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    wrong_weight: Weight | None = None


class Kd(Section):
    """Response distillation on fixed traces (Hinton et al. 2015, arXiv 1503.02531):
    `alpha`·T²·KL(p_T‖q_T) + (1−`alpha`)·CE.
    """

    alpha: Share = 0.5
    temperature: Temperature = 2.0


class Gkd(Rollouts):
    """Generalised knowledge distillation (Agarwal et al. 2024, arXiv 2306.13649).

    A share `on_policy` (λ) of the steps trains on what the student writes, the rest on the traces.
    `beta` = 0 is forward KL, 1 reverse KL, between them the generalised Jensen-Shannon divergence.
    """

    on_policy: Share = 0.5
    beta: Share = 0.5
    temperature: Temperature = 1.0


class ReverseKl(Rollouts):
    """Reverse KL on what the student writes (Gu et al. 2024; Agarwal et al. 2024 with β = 1)."""

    on_policy: Share = 1.0
    temperature: Temperature = 1.0


class SkewKl(Rollouts):
    """DistiLLM (Ko et al. 2024, arXiv 2402.03898): a skewed divergence and a student that writes
    only when it stops getting better.

    `alpha` skews KL(p ‖ αp+(1−α)q), or with `reverse` KL(q ‖ (1−α)p+αq). The share of steps with
    student text starts at `start_share` and grows by 0.1 whenever the loss on held-out traces,
    looked at `checks` times, has risen by `tolerance`. Student text is kept in a buffer of
    `capacity` rollouts and used again, more often towards the end.
    """

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.1
    reverse: bool = False
    start_share: Share = 0.0
    tolerance: Weight = 0.1
    checks: Annotated[int, Field(ge=1)] = 10
    capacity: Annotated[int, Field(ge=1)] = 1000


class Distillm2(Rollouts):
    """DistiLLM-2 (Ko et al. 2025, arXiv 2503.07067): skew KL on the teacher's text, skew reverse KL
    on the student's.

    The student answers all prompts anew at the start of each epoch; each step has both texts of its
    `batch_size` prompts.
    """

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.1
    rollout_temperature: Annotated[float, Field(gt=0, le=5)] = 0.8


class Minillm(Rollouts):
    """MiniLLM (Gu et al. 2024, arXiv 2306.08543): reverse KL of whole texts by policy gradient,
    with its single-step part exact.

    Rewards log p − log q of later tokens, discounted by `gamma` and, with `length_normalised`,
    divided by their number, weigh each token (clipped at ±`reward_clip`); PPO's ratio is clipped at
    1 ± `clip`. A share `teacher_mix` of the teacher's distribution is mixed into the sampling. Each
    batch of rollouts serves `reuse` steps. `gamma` = 0 leaves on-policy reverse KL.
    """

    gamma: Share = 1.0
    length_normalised: bool = True
    reward_clip: Annotated[float, Field(gt=0)] = 100.0
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    teacher_mix: Annotated[float, Field(ge=0, lt=1)] = 0.2
    reuse: Annotated[int, Field(ge=1)] = 4


class TopkKd(Section):
    """Forward KL from the teacher's `k` best tokens at each place, stored with the traces ([traces]
    logprobs), and one bucket for the rest.

    `alpha`·KL + (1−`alpha`)·CE. No teacher in memory; temperature 1, since of the rest only the
    mass is known.
    """

    k: Annotated[int, Field(ge=1)] = 16
    alpha: Share = 0.5


class Feature(Section):
    """Hidden states that imitate the teacher's, beside its distribution.

    `recipe = "distilbert"` (Sanh et al. 2019, arXiv 1910.01108): `soft`·T²·KL + `ce`·CE +
    `hidden`·(1 − cos) of the last layer. `"tinybert"` (Jiao et al. 2020, arXiv 1909.10351): for the
    share `first_stage` of all steps `hidden`·MSE of embeddings, of every student layer and its
    teacher layer, and of attention; after it KL and CE. `"layers"`: KL, CE and `hidden`·`measure`
    of every layer. A linear projector joins different widths; it is no part of the finished model.
    """

    recipe: Literal["distilbert", "tinybert", "layers"] = "distilbert"
    soft: Weight = 5.0
    ce: Weight = 2.0
    hidden: Weight = 1.0
    measure: Literal["mse", "cosine"] = "mse"
    temperature: Temperature = 2.0
    first_stage: Share = 0.5


class Relation(Section):
    """Relational distillation (Park et al. 2019, arXiv 1904.05068): distances and angles between
    the answers of a micro-batch, beside CE.

    An answer is the mean of its last hidden states; wants micro-batches of three or more.
    """

    distance: Weight = 25.0
    angle: Weight = 50.0
    ce: Weight = 1.0


class Methods(Section):
    """The methods' tables; at most the one of the student's own method is given."""

    kd: Kd | None = None
    gkd: Gkd | None = None
    reverse_kl: ReverseKl | None = None
    skew_kl: SkewKl | None = None
    distillm2: Distillm2 | None = None
    minillm: Minillm | None = None
    topk_kd: TopkKd | None = None
    feature: Feature | None = None
    relation: Relation | None = None


Method = Kd | Gkd | ReverseKl | SkewKl | Distillm2 | Minillm | TopkKd | Feature | Relation

METHODS: dict[str, type[Method]] = {
    "kd": Kd,
    "gkd": Gkd,
    "reverse_kl": ReverseKl,
    "skew_kl": SkewKl,
    "distillm2": Distillm2,
    "minillm": Minillm,
    "topk_kd": TopkKd,
    "feature": Feature,
    "relation": Relation,
}
# Those that need no teacher in memory.
CACHED = ("topk_kd",)
