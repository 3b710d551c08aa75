"""DistiLLM-2: one divergence on the teacher's text, another on the student's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from reasondistill.losses.divergences import Divergence
from reasondistill.methods.method import Method, register
from reasondistill.methods.settings import RolloutSettings, Skew
from reasondistill.methods.step import Micro, Moment
from reasondistill.methods.texts import Text, as_json, from_json

if TYPE_CHECKING:
    import torch


class Distillm2Settings(RolloutSettings):
    """DistiLLM-2 (Ko et al. 2025, arXiv 2503.07067): skew KL on the teacher's text, skew reverse KL
    on the student's.

    The student answers all prompts again at the start of each epoch; each step has both texts of
    its `batch_size` prompts.
    """

    alpha: Skew = 0.1
    """How far both divergences are skewed."""
    rollout_temperature: Annotated[float, Field(gt=0, le=5)] = 0.8
    """How random the student's own texts are in training."""


@register
class Distillm2(Method[Distillm2Settings]):
    """DistiLLM-2 (Ko et al. 2025), eq. 7: skew KL where the teacher wrote, skew reverse KL where
    the student did.

    The student answers every prompt at the start of each epoch, with the weights it has then.
    """

    name = "distillm2"
    settings_class = Distillm2Settings

    def __init__(self, settings: Distillm2Settings, seed: int) -> None:
        super().__init__(settings, seed)
        self.on_teacher = Divergence("skew_kl", alpha=settings.alpha)
        self.on_student = Divergence("skew_reverse_kl", alpha=settings.alpha)
        self.epoch = -1
        self.answers: dict[int, Text] = {}

    def texts(self, fixed: list[Text], moment: Moment) -> list[Text]:
        if moment.epoch != self.epoch:
            self.epoch = moment.epoch
            written = moment.shared(lambda texts: moment.write(texts, self.settings))
            self.answers = {text.row: text for text in written}
        answers = [self.answers[text.row] for text in fixed]
        return [*fixed, *answers]

    def loss(self, micro: Micro) -> torch.Tensor:
        on_traces = micro.losses(
            teacher=micro.teacher,
            divergence=self.on_teacher,
            divergence_weights=micro.weights * (1 - micro.by_student),
        )
        on_own_text = micro.losses(
            teacher=micro.teacher,
            divergence=self.on_student,
            divergence_weights=micro.weights * micro.by_student,
        )
        return on_traces.total + on_own_text.total

    def state(self) -> dict[str, Any]:
        answers = [as_json(text) for text in self.answers.values()]
        return {"epoch": self.epoch, "answers": answers}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.epoch = state["epoch"]
        answers = [from_json(text) for text in state["answers"]]
        self.answers = {text.row: text for text in answers}
