"""The keys that methods share: divergence × who writes × share of cross-entropy, independent of
each other.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, model_validator

from reasondistill.losses.divergences import DIVERGENCES, Divergence
from reasondistill.nearest import nearest
from reasondistill.sections import Section

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(gt=0, le=100)]
Skew = Annotated[float, Field(gt=0, lt=1)]


def known_divergence(name: str) -> str:
    """The name itself. Raises ValueError for an unknown divergence."""
    if name not in DIVERGENCES:
        hint = nearest(name, DIVERGENCES)
        raise ValueError(f"divergence: {name!r} unknown. {hint}")
    return name


DivergenceName = Annotated[
    str,
    AfterValidator(known_divergence),
    Field(json_schema_extra={"enum": list(DIVERGENCES)}),
]


class MethodSettings(Section):
    """The settings of one method: its table under `[[students]]`.

    `LATER` names the keys that were added after students had been trained with this method. At
    their defaults they are not part of a student's identity, so that those students stay the same.
    """

    LATER: ClassVar[frozenset[str]] = frozenset()

    @property
    def stored_tokens(self) -> int | None:
        """How many of the teacher's most likely tokens at each position are read from those stored
        with the traces; None for methods whose teacher is in memory.
        """
        return None

    @property
    def writes_alone(self) -> bool:
        """Whether the student writes texts with no teacher mixed in."""
        return False

    def why_not(self, *, with_lora: bool, with_packing: bool) -> str | None:
        """Why these settings exclude LoRA or packed rows; None where they do not."""
        return None

    def canonical(self) -> dict[str, Any]:
        """The settings that are part of the identity, as JSON."""
        values = self.model_dump(mode="json")
        for key in self.LATER:
            if getattr(self, key) == type(self).model_fields[key].default:
                del values[key]
        return values


class RolloutSettings(MethodSettings):
    """How the student is sampled during training. `max_tokens` bounds a rollout (None: what
    `max_length` leaves after the prompt).

    `wrong_weight` grades every rollout against the gold answer and multiplies the token losses of
    those that are not correct (1 treats all alike but logs their share; None does not grade).
    """

    rollout_temperature: Annotated[float, Field(gt=0, le=5)] = 1.0
    """How random the student's own texts are in training."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """The longest text that the student writes in training; without it what `max_length`
    leaves. [tokens] Example: 1024
    """
    wrong_weight: Weight | None = None
    """By what the losses of texts that are not correct are multiplied; 1 only logs their share,
    without it nothing is graded. Example: 1.0
    """

    @property
    def writes_alone(self) -> bool:
        return True


class CommonSettings(RolloutSettings):
    """The three common keys, independent of each other.

    `divergence` is any of losses/divergences.py; `beta` shapes jsd, `skew` the skewed ones,
    `temperature` softens both distributions. `on_policy` is the share of steps that train on the
    student's own texts; the rest train on the traces. `cross_entropy` is the share of the
    cross-entropy on the traces' tokens; on the student's own texts the loss is the divergence
    alone.
    """

    divergence: DivergenceName
    """How far two distributions are apart."""
    beta: Share = 0.5
    """The shape of the Jensen-Shannon divergence: 0 is forward KL, 1 reverse KL."""
    skew: Skew = 0.1
    """How much of the one distribution is mixed into the other, for the skewed divergences."""
    temperature: Temperature = 1.0
    """Softens both distributions."""
    on_policy: Share
    """The share of steps that train on the student's own texts; the rest train on the traces."""
    cross_entropy: Share = 0.0
    """The share of the cross-entropy on the traces' tokens."""

    @property
    def writes_alone(self) -> bool:
        return self.on_policy > 0

    def measure(self) -> Divergence:
        """The divergence with its parameters."""
        return Divergence(
            self.divergence, beta=self.beta, alpha=self.skew, temperature=self.temperature
        )


class AlphaSettings(MethodSettings):
    """`alpha` is the share of the divergence, and `cross_entropy` = 1 − `alpha` the rest: give one
    of them.
    """

    alpha: Share = 0.5
    """The share of the divergence."""
    cross_entropy: Share = 0.5
    """The share of the cross-entropy on the traces' tokens: 1 − alpha. Give one of the two."""

    @model_validator(mode="before")
    @classmethod
    def _one_share(cls, values: Any) -> Any:
        """Compute the one that is not given from the other."""
        if not isinstance(values, dict):
            return values
        given: dict[str, Any] = dict(values)  # pyright: ignore[reportUnknownArgumentType]
        for known, other in (("alpha", "cross_entropy"), ("cross_entropy", "alpha")):
            share = given.get(known)
            if other not in given and isinstance(share, int | float):
                given[other] = round(1 - share, 12)  # 1 − 0.9 is 0.09999999999999998
        return given

    @model_validator(mode="after")
    def _adds_up(self) -> AlphaSettings:
        if abs(self.alpha + self.cross_entropy - 1) > 1e-9:
            raise ValueError(
                f"cross_entropy: {self.cross_entropy} beside alpha = {self.alpha}; together they "
                "make 1, so give one of them"
            )
        return self

    def canonical(self) -> dict[str, Any]:
        """Without `cross_entropy`, which follows from `alpha`."""
        values = super().canonical()
        values.pop("cross_entropy", None)
        return values
