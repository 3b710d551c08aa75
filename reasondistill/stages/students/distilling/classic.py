"""The classic methods: hidden states, attention and relations that imitate the teacher's. Imports
torch; imported late.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from reasondistill.config import Feature, Relation
from reasondistill.errors import ConfigError
from reasondistill.losses import (
    Divergence,
    attention_loss,
    hidden_loss,
    relation_angle,
    relation_distance,
    uniform_layer_map,
)
from reasondistill.stages.students.distilling.lessons import Lesson, Micro
from reasondistill.stages.students.tokens import IGNORE

# Fewer answers have no angle between them.
LEAST_RELATED = 3
# The linear layers that lift the student's widths to the teacher's: trained and saved with the
# optimizer, no part of the finished model.
PROJECTORS = "distillation_projectors"
# How the published recipes measure hidden states.
_MEASURES: dict[str, Literal["mse", "cosine"]] = {"distilbert": "cosine", "tinybert": "mse"}


class FeatureLesson(Lesson):
    """DistilBERT's triple loss, TinyBERT's two stages, or KL, CE and every layer: see `Feature`."""

    def __init__(self, settings: Feature) -> None:
        self.settings = settings
        self.needs_layers = settings.recipe != "distilbert"
        self.needs_attentions = settings.recipe == "tinybert"
        self.divergence = Divergence("forward_kl", temperature=settings.temperature)
        self.pairs: list[tuple[int, int]] = []
        self.projectors: torch.nn.ModuleList | None = None

    def layers_now(self, progress: float) -> bool:
        if self.settings.recipe == "tinybert":
            return progress < self.settings.first_stage
        return self.needs_layers

    def prepare(self, model: Any, teacher: Any) -> None:
        ours, theirs = model.config.num_hidden_layers, teacher.config.num_hidden_layers
        if ours > theirs:
            raise ConfigError(
                f"method = 'feature': the student has {ours} layers and the teacher "
                f"{theirs}; a layer of the student would have none to "
                "imitate. Take a shallower student, or method = 'kd', which looks at the "
                "last distribution alone."
            )
        last = (ours, theirs)
        self.pairs = (
            [last] if self.settings.recipe == "distilbert" else uniform_layer_map(ours, theirs)
        )
        if self.settings.recipe == "tinybert" and (0, 0) not in self.pairs:
            self.pairs = [(0, 0), *self.pairs]
        widths = model.config.hidden_size, teacher.config.hidden_size
        if widths[0] != widths[1]:
            layers = [torch.nn.Linear(widths[0], widths[1], bias=False) for _ in self.pairs]
            for layer in layers:
                torch.nn.init.orthogonal_(layer.weight)
            self.projectors = torch.nn.ModuleList(layers)
            setattr(model, PROJECTORS, self.projectors)

    def loss(self, micro: Micro) -> torch.Tensor:
        first_stage = (
            self.settings.recipe == "tinybert" and micro.progress < self.settings.first_stage
        )
        total = (
            self._imitation(micro)
            if self.settings.recipe != "tinybert" or first_stage
            else self._nothing(micro)
        )
        if first_stage:
            # Head and last norm learn nothing yet; data parallelism wants a gradient of them all
            # the same.
            return (
                total
                + self._attention(micro)
                + 0.0 * (micro.head.weight.sum() + micro.student.last.sum())
            )
        return (
            total
            + micro.losses(
                labels=micro.labels,
                cross_entropy_weights=self.settings.ce * micro.weights,
                teacher=micro.teacher,
                divergence=self.divergence,
                divergence_weights=self.settings.soft * micro.weights,
            ).total
        )

    def _nothing(self, micro: Micro) -> torch.Tensor:
        """Zero, with a gradient of zero for the projectors that a second stage does not use: data
        parallelism wants one.
        """
        unused = (
            []
            if self.projectors is None
            else [weight.sum() for weight in self.projectors.parameters()]
        )
        return micro.hidden.new_zeros(()) + 0.0 * sum(unused)

    def _imitation(self, micro: Micro) -> torch.Tensor:
        """Mean over the tokens in the loss, summed over pairs of layers."""
        assert micro.teacher_states is not None
        measure = _MEASURES.get(self.settings.recipe, self.settings.measure)
        total = micro.hidden.new_zeros((), dtype=torch.float32)
        for number, (ours, theirs) in enumerate(self.pairs):
            student = self._layer(micro, micro.student.layers, micro.student.last, ours)
            teacher = self._layer(
                micro, micro.teacher_states.layers, micro.teacher_states.last, theirs
            ).float()
            lifted = self.projectors[number](student) if self.projectors is not None else student
            total = total + hidden_loss(lifted.float(), teacher, measure)
        return self.settings.hidden * total * len(micro.labels) * micro.scale

    @staticmethod
    def _layer(
        micro: Micro, layers: tuple[torch.Tensor, ...], last: torch.Tensor, number: int
    ) -> torch.Tensor:
        return (layers[number] if layers else last)[:, :-1][micro.keep]

    def _attention(self, micro: Micro) -> torch.Tensor:
        assert micro.teacher_states is not None
        mask = micro.inputs["attention_mask"].bool()
        total = micro.hidden.new_zeros((), dtype=torch.float32)
        for ours, theirs in self.pairs:
            if ours > 0:  # the embeddings attend to nothing
                total = total + attention_loss(
                    micro.student.attentions[ours - 1],
                    micro.teacher_states.attentions[theirs - 1],
                    mask,
                )
        return self.settings.hidden * total * len(micro.labels) * micro.scale


class RelationLesson(Lesson):
    """RKD: the distances and angles between the answers of a micro-batch, beside CE."""

    def __init__(self, settings: Relation) -> None:
        self.settings = settings

    def loss(self, micro: Micro) -> torch.Tensor:
        assert micro.teacher_states is not None
        total = micro.losses(
            labels=micro.labels, cross_entropy_weights=self.settings.ce * micro.weights
        ).total
        with torch.autocast(
            micro.hidden.device.type, enabled=False
        ):  # angles in bfloat16 would be of two digits
            ours, theirs = (
                self._pooled(micro, micro.student.last),
                self._pooled(micro, micro.teacher_states.last),
            )
            if len(ours) < LEAST_RELATED:  # what an epoch leaves over
                return total
            relations = self.settings.distance * relation_distance(
                ours, theirs
            ) + self.settings.angle * relation_angle(ours, theirs)
        return total + relations * len(micro.labels) * micro.scale

    @staticmethod
    def _pooled(micro: Micro, hidden: torch.Tensor) -> torch.Tensor:
        """One vector per text: the mean over its completion's hidden states, in float32."""
        in_answer = micro.inputs["labels"] != IGNORE
        rows = micro.inputs["row"][in_answer]
        places = torch.unique(rows, return_inverse=True)[1]
        # The same prompt may stand there twice; its texts are then one.
        sums = torch.zeros(int(places.max()) + 1, hidden.shape[-1], device=hidden.device).index_add(
            0, places, hidden[in_answer].float()
        )
        return sums / torch.bincount(places).unsqueeze(1)
