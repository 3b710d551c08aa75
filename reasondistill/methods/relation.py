"""Relational distillation: distances and angles between the answers of a micro-batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reasondistill.methods.method import Method, register
from reasondistill.methods.settings import MethodSettings, Weight
from reasondistill.methods.step import Micro
from reasondistill.methods.texts import IGNORE

if TYPE_CHECKING:
    import torch

# Fewer answers have no angle between them.
LEAST_RELATED = 3


class RelationSettings(MethodSettings):
    """Relational distillation (Park et al. 2019, arXiv 1904.05068): distances and angles between
    the answers of a micro-batch, beside CE.

    An answer is the mean of its last hidden states. It needs micro-batches of three or more.
    """

    distance: Weight = 25.0
    """The weight of the distances between answers."""
    angle: Weight = 50.0
    """The weight of the angles between answers."""
    ce: Weight = 1.0
    """The weight of the cross-entropy."""


@register
class Relation(Method[RelationSettings]):
    """RKD: the distances and angles between the answers of a micro-batch, beside CE."""

    name = "relation"
    settings_class = RelationSettings

    def why_not(self, *, held_out: int, micro_batch: int) -> str | None:
        if micro_batch >= LEAST_RELATED:
            return None
        return (
            f"relation compares the angles between {LEAST_RELATED} answers; raise [train] "
            "micro_batch_size (and batch_size) to as many or more."
        )

    def loss(self, micro: Micro) -> torch.Tensor:
        import torch

        from reasondistill.losses.classic import relation_angle, relation_distance

        assert micro.teacher_states is not None
        losses = micro.losses(
            labels=micro.labels, cross_entropy_weights=self.settings.ce * micro.weights
        )
        # Angles in bfloat16 would have two digits.
        with torch.autocast(micro.hidden.device.type, enabled=False):
            student = answers(micro, micro.student.last)
            teacher = answers(micro, micro.teacher_states.last)
            if len(student) < LEAST_RELATED:  # the last, smaller micro-batch of an epoch
                return losses.total
            distance = self.settings.distance * relation_distance(student, teacher)
            angle = self.settings.angle * relation_angle(student, teacher)
            relations = distance + angle
        return losses.total + relations * len(micro.labels) * micro.scale


def answers(micro: Micro, hidden: torch.Tensor) -> torch.Tensor:
    """One vector per text: the mean over its completion's hidden states, in float32."""
    import torch

    in_answer = micro.inputs["labels"] != IGNORE
    rows = micro.inputs["row"][in_answer]
    places = torch.unique(rows, return_inverse=True)[1]
    # The same prompt may be there twice; its texts then count as one.
    empty = torch.zeros(int(places.max()) + 1, hidden.shape[-1], device=hidden.device)
    sums = empty.index_add(0, places, hidden[in_answer].float())
    return sums / torch.bincount(places).unsqueeze(1)
