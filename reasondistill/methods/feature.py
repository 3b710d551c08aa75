"""Hidden states and attention that imitate the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from reasondistill.errors import ConfigError
from reasondistill.losses.divergences import Divergence
from reasondistill.methods.method import Method, register
from reasondistill.methods.settings import MethodSettings, Share, Temperature, Weight
from reasondistill.methods.step import Micro

if TYPE_CHECKING:
    import torch

# The linear layers from the student's widths to the teacher's: trained and saved with the
# optimizer, not part of the finished model.
PROJECTORS = "distillation_projectors"
# The measure of hidden states in the published recipes.
MEASURES: dict[str, Literal["mse", "cosine"]] = {"distilbert": "cosine", "tinybert": "mse"}


class FeatureSettings(MethodSettings):
    """Hidden states that imitate the teacher's, beside its distribution.

    `recipe = "distilbert"` (Sanh et al. 2019, arXiv 1910.01108): `soft`·T²·KL + `ce`·CE +
    `hidden`·(1 − cos) of the last layer. `"tinybert"` (Jiao et al. 2020, arXiv 1909.10351): for the
    share `first_stage` of all steps `hidden`·MSE of embeddings, of every student layer and its
    teacher layer, and of attention; after it KL and CE. `"layers"`: KL, CE and `hidden`·`measure`
    of every layer. A linear projector maps different widths; it is not part of the finished model.
    """

    recipe: Literal["distilbert", "tinybert", "layers"] = "distilbert"
    """DistilBERT's triple loss, TinyBERT's two stages, or KL, CE and every layer."""
    soft: Weight = 5.0
    """The weight of the divergence of the distributions."""
    ce: Weight = 2.0
    """The weight of the cross-entropy."""
    hidden: Weight = 1.0
    """The weight of the distance of hidden states."""
    measure: Literal["mse", "cosine"] = "mse"
    """How far hidden states are apart, with `recipe = "layers"`."""
    temperature: Temperature = 2.0
    """Softens both distributions."""
    first_stage: Share = 0.5
    """The share of the steps in TinyBERT's first stage."""

    def why_not(self, *, with_lora: bool, with_packing: bool) -> str | None:
        if with_lora:
            return "method = 'feature' trains projectors beside the whole student; leave lora out."
        if self.recipe == "tinybert" and with_packing:
            return "recipe = 'tinybert' compares attention text by text; set packing = false."
        return None


@register
class Feature(Method[FeatureSettings]):
    """DistilBERT's triple loss, TinyBERT's two stages, or KL, CE and every layer: see
    `FeatureSettings`.
    """

    name = "feature"
    settings_class = FeatureSettings

    def __init__(self, settings: FeatureSettings, seed: int) -> None:
        super().__init__(settings, seed)
        self.is_tinybert = settings.recipe == "tinybert"
        self.needs_layers = settings.recipe != "distilbert"
        self.needs_attentions = self.is_tinybert
        self.divergence = Divergence("forward_kl", temperature=settings.temperature)
        self.pairs: list[tuple[int, int]] = []
        self.projectors: torch.nn.ModuleList | None = None

    def layers_now(self, progress: float) -> bool:
        if self.is_tinybert:
            return progress < self.settings.first_stage
        return self.needs_layers

    def prepare(self, model: Any, teacher: Any) -> None:
        self.pairs = self.layer_pairs(
            model.config.num_hidden_layers, teacher.config.num_hidden_layers
        )
        width = model.config.hidden_size
        teacher_width = teacher.config.hidden_size
        if width != teacher_width:
            self.projectors = new_projectors(len(self.pairs), width, teacher_width)
            setattr(model, PROJECTORS, self.projectors)

    def strip(self, model: Any) -> None:
        if hasattr(model, PROJECTORS):
            delattr(model, PROJECTORS)

    def layer_pairs(self, layers: int, teacher_layers: int) -> list[tuple[int, int]]:
        """Which layer of the student imitates which of the teacher; 0 is the embedding. Raises
        ConfigError for a student that is deeper than its teacher.
        """
        from reasondistill.losses.classic import uniform_layer_map

        if layers > teacher_layers:
            raise ConfigError(
                f"method = 'feature': the student has {layers} layers and the teacher "
                f"{teacher_layers}; the extra layers would have none to imitate. Take a "
                "shallower student, or method = 'kd', which uses only the last distribution."
            )
        if self.settings.recipe == "distilbert":
            return [(layers, teacher_layers)]
        pairs = uniform_layer_map(layers, teacher_layers)
        if self.is_tinybert and (0, 0) not in pairs:
            pairs.insert(0, (0, 0))
        return pairs

    def loss(self, micro: Micro) -> torch.Tensor:
        if not self.is_tinybert:
            return self.imitation(micro) + self.distribution_loss(micro)
        if self.layers_now(micro.progress):
            # Head and last norm learn nothing yet; data parallelism needs a gradient of them all
            # the same.
            nothing = 0.0 * (micro.head.weight.sum() + micro.student.last.sum())
            return self.imitation(micro) + self.attention(micro) + nothing
        return self.unused_projectors(micro) + self.distribution_loss(micro)

    def distribution_loss(self, micro: Micro) -> torch.Tensor:
        """KL and CE of the last distribution."""
        losses = micro.losses(
            labels=micro.labels,
            cross_entropy_weights=self.settings.ce * micro.weights,
            teacher=micro.teacher,
            divergence=self.divergence,
            divergence_weights=self.settings.soft * micro.weights,
        )
        return losses.total

    def unused_projectors(self, micro: Micro) -> torch.Tensor:
        """Zero, with a gradient of zero for the projectors that a second stage does not use: data
        parallelism needs one.
        """
        total = micro.hidden.new_zeros(())
        if self.projectors is not None:
            for weight in self.projectors.parameters():
                total = total + 0.0 * weight.sum()
        return total

    def imitation(self, micro: Micro) -> torch.Tensor:
        """Mean over the tokens in the loss, summed over pairs of layers."""
        import torch

        from reasondistill.losses.classic import hidden_loss

        assert micro.teacher_states is not None
        measure = MEASURES.get(self.settings.recipe, self.settings.measure)
        total = micro.hidden.new_zeros((), dtype=torch.float32)
        for number, (ours, theirs) in enumerate(self.pairs):
            student = micro.student.layer(ours)
            teacher = micro.teacher_states.layer(theirs)
            lifted = micro.kept(student)
            if self.projectors is not None:
                lifted = self.projectors[number](lifted)
            total = total + hidden_loss(lifted.float(), micro.kept(teacher).float(), measure)
        return self.settings.hidden * total * len(micro.labels) * micro.scale

    def attention(self, micro: Micro) -> torch.Tensor:
        """Mean over pairs of tokens, summed over pairs of layers; embeddings attend to nothing."""
        import torch

        from reasondistill.losses.classic import attention_loss

        assert micro.teacher_states is not None
        mask = micro.inputs["attention_mask"].bool()
        total = micro.hidden.new_zeros((), dtype=torch.float32)
        for ours, theirs in self.pairs:
            if ours == 0:
                continue
            student = micro.student.attentions[ours - 1]
            teacher = micro.teacher_states.attentions[theirs - 1]
            total = total + attention_loss(student, teacher, mask)
        return self.settings.hidden * total * len(micro.labels) * micro.scale


def new_projectors(count: int, width: int, teacher_width: int) -> torch.nn.ModuleList:
    """Linear layers from the student's width to the teacher's, orthogonal at first."""
    import torch

    layers: list[torch.nn.Module] = []
    for _ in range(count):
        layer = torch.nn.Linear(width, teacher_width, bias=False)
        layers.append(layer)
    for layer in layers:
        torch.nn.init.orthogonal_(layer.weight)  # pyright: ignore[reportArgumentType]
    return torch.nn.ModuleList(layers)
