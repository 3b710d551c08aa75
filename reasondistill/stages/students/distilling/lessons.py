"""What the methods have in common: which texts a step trains on, and what the loss of a micro-batch
is made of. Imports torch late.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch

from reasondistill.config import Rollouts
from reasondistill.losses import Head, LiveTeacher, TokenLosses, token_losses
from reasondistill.stages.students.distilling.texts import Text, in_loss
from reasondistill.stages.students.hidden import States


class Write(Protocol):
    """The student's answers to the prompts of texts, with a share `mix` of the teacher's
    distribution mixed in.
    """

    def __call__(
        self, texts: Sequence[Text], settings: Rollouts, mix: float = 0.0
    ) -> list[Text]: ...


@dataclass(frozen=True)
class Moment:
    """Where training is, and what a method may ask for there.

    `write` lets the student answer prompts; `log_probs` are those of each completion token under
    student and teacher; `held_out_loss` is the student's cross-entropy on held-out traces; `shared`
    deals all training texts to the ranks and gathers what each made of its own.
    """

    step: int
    steps: int
    epoch: int
    write: Write
    log_probs: Callable[[Sequence[Text]], list[tuple[list[float], list[float]]]]
    held_out_loss: Callable[[], float]
    shared: Callable[[Callable[[list[Text]], list[Text]]], list[Text]]

    @property
    def progress(self) -> float:
        return self.step / max(1, self.steps)


@dataclass(frozen=True)
class Micro:
    """One micro-batch: its tensors, what both models computed, and `scale`, by which a sum over
    tokens becomes its part of the step's mean.

    Only positions whose next token is in the loss are kept: `hidden` (n, width), `labels` (n,),
    `values(...)` (n,).
    """

    inputs: Mapping[str, torch.Tensor]
    student: States
    head: Head
    teacher_states: States | None
    teacher_head: Head | None
    vocabulary: int
    scale: float
    progress: float

    @cached_property
    def keep(self) -> torch.Tensor:
        return in_loss(self.inputs)

    @cached_property
    def hidden(self) -> torch.Tensor:
        return self.student.last[:, :-1][self.keep]

    @cached_property
    def labels(self) -> torch.Tensor:
        return self.inputs["labels"][:, 1:][self.keep]

    def values(self, name: str) -> torch.Tensor:
        """What `collate` put beside each token that is predicted."""
        return self.inputs[name][:, 1:][self.keep]

    @cached_property
    def teacher(self) -> LiveTeacher:
        assert self.teacher_states is not None and self.teacher_head is not None
        return LiveTeacher(self.teacher_states.last[:, :-1][self.keep], self.teacher_head)

    @cached_property
    def weights(self) -> torch.Tensor:
        """Each token's share of the step's mean."""
        return self.values("weight").float() * self.scale

    def losses(self, **terms: Any) -> TokenLosses:
        """`token_losses` on the kept positions."""
        return token_losses(self.hidden, self.head, vocabulary=self.vocabulary, **terms)


class Lesson:
    """A method: `texts` says what a step trains on (by default the traces), `loss` what a
    micro-batch costs.

    `state` and `restore` carry what must survive a checkpoint.
    """

    needs_teacher = True
    needs_layers = False
    needs_attentions = False

    def texts(self, fixed: list[Text], moment: Moment) -> list[Text]:
        return fixed

    def loss(self, micro: Micro) -> torch.Tensor:
        raise NotImplementedError

    def layers_now(self, progress: float) -> bool:
        """Whether layers (and attention, where needed) are looked at in this part of the training."""
        return self.needs_layers

    def prepare(self, model: Any, teacher: Any) -> None:
        """Add what is trained beside the student. Raises ConfigError when student and teacher do
        not fit each other.
        """

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None: ...


def coin(seed: int, step: int, name: str = "") -> float:
    """A number in [0, 1) that depends on seed and step alone: all ranks toss the same, and a
    resumed training tosses it again.
    """
    return random.Random(f"{seed} {step} {name}").random()
