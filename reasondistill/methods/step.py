"""The parts of a training that a method sees: the moment, and the micro-batch of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from reasondistill.errors import ConfigError
from reasondistill.losses.divergences import Divergence
from reasondistill.methods.settings import RolloutSettings
from reasondistill.methods.texts import Text, in_loss

if TYPE_CHECKING:
    import torch

    from reasondistill.losses.fused import TokenLosses
    from reasondistill.losses.heads import Head
    from reasondistill.losses.shared_tokens import SharedTokens
    from reasondistill.losses.teachers import LiveTeacher, TopKTeacher


@dataclass(frozen=True)
class States:
    """The output of a model on a batch: last hidden states (texts, tokens, width), and per layer
    where requested; how unevenly its routers used their experts, where its configuration has
    `output_router_logits`.
    """

    last: torch.Tensor
    layers: tuple[torch.Tensor, ...] = ()
    attentions: tuple[torch.Tensor, ...] = ()
    router_loss: torch.Tensor | None = None

    def layer(self, number: int) -> torch.Tensor:
        """The states after a layer, 0 being the embedding; the last ones where no layers were
        requested.
        """
        return self.layers[number] if self.layers else self.last


class StoredTokens(NamedTuple):
    """A teacher's most likely tokens at each position of a completion: ids and log-probabilities,
    (tokens, k) each.
    """

    ids: torch.Tensor
    log_probs: torch.Tensor


class TokenLogProbs(NamedTuple):
    """The log-probability of each completion token under student and teacher."""

    student: list[float]
    teacher: list[float]


class Write(Protocol):
    """The student's answers to the prompts of texts, with a share `mix` of the teacher's
    distribution mixed in.
    """

    def __call__(
        self, texts: Sequence[Text], settings: RolloutSettings, mix: float = 0.0
    ) -> list[Text]: ...


@dataclass(frozen=True)
class Moment:
    """The moment of a training, and what a method may request there.

    `write` lets the student answer prompts; `log_probs` are those of each completion token under
    student and teacher; `held_out_loss` is the student's cross-entropy on held-out traces; `shared`
    divides all training texts among the ranks and gathers the results.
    """

    step: int
    steps: int
    epoch: int
    write: Write
    log_probs: Callable[[Sequence[Text]], list[TokenLogProbs]]
    held_out_loss: Callable[[], float]
    shared: Callable[[Callable[[list[Text]], list[Text]]], list[Text]]

    @property
    def progress(self) -> float:
        return self.step / max(1, self.steps)


@dataclass(frozen=True)
class Micro:
    """One micro-batch: its tensors, the outputs of both models, and `scale`, which turns a sum over
    tokens into its part of the step's mean.

    Only positions whose next token is in the loss are kept: `hidden` (n, width), `labels` (n,),
    `values(...)` (n,). `stored` gives the stored tokens of a training row, by its number.
    `shared` are the tokens that student and teacher share, where their vocabularies differ.
    """

    inputs: Mapping[str, torch.Tensor]
    student: States
    head: Head
    teacher_states: States | None
    teacher_head: Head | None
    vocabulary: int
    scale: float
    progress: float
    stored: Callable[[int], StoredTokens] | None = None
    shared: SharedTokens | None = None
    # Whether each label is the student's likeliest token, (n,), once a loss has been computed.
    likeliest: list[torch.Tensor] = field(default_factory=list["torch.Tensor"])

    @cached_property
    def keep(self) -> torch.Tensor:
        return in_loss(self.inputs)

    @cached_property
    def hidden(self) -> torch.Tensor:
        return self.kept(self.student.last)

    @cached_property
    def labels(self) -> torch.Tensor:
        return self.values("labels")

    def kept(self, states: torch.Tensor) -> torch.Tensor:
        """Hidden states (texts, tokens, width) at the kept positions: (n, width)."""
        return states[:, :-1][self.keep]

    def values(self, name: str) -> torch.Tensor:
        """The value that the batch has for each predicted token: `labels`, `row`, `place`,
        `by_student`, `weight`, and the policy values of a text.
        """
        return self.inputs[name][:, 1:][self.keep]

    @cached_property
    def teacher(self) -> LiveTeacher:
        """The teacher in memory, at the kept positions."""
        from reasondistill.losses.teachers import LiveTeacher

        assert self.teacher_states is not None and self.teacher_head is not None
        hidden = self.kept(self.teacher_states.last)
        if self.shared is None:
            return LiveTeacher(hidden, self.teacher_head)
        can_tell = self.shared.places(self.labels) >= 0
        return LiveTeacher(hidden, self.teacher_head, self.shared, can_tell)

    @cached_property
    def stored_teacher(self) -> TopKTeacher:
        """The stored tokens of every kept position, in order."""
        import torch

        from reasondistill.losses.teachers import TopKTeacher

        if self.stored is None:
            raise ConfigError("no teacher's tokens are stored for this training")
        rows = self.values("row").tolist()
        tokens = {row: self.stored(row) for row in dict.fromkeys(rows)}
        starts: dict[int, int] = {}
        total = 0
        for row, stored in tokens.items():
            starts[row] = total
            total += len(stored.ids)
        index = torch.tensor([starts[row] for row in rows]) + self.values("place").cpu()
        ids = torch.cat([stored.ids for stored in tokens.values()])[index]
        log_probs = torch.cat([stored.log_probs for stored in tokens.values()])[index]
        device = self.hidden.device
        return TopKTeacher(ids.to(device), log_probs.to(device), self.shared)

    @cached_property
    def weights(self) -> torch.Tensor:
        """Each token's share of the step's mean."""
        return self.values("weight").float() * self.scale

    @cached_property
    def by_student(self) -> torch.Tensor:
        """1 at the tokens that the student wrote, 0 at those of the traces, (n,)."""
        return self.values("by_student").float()

    def losses(self, **terms: Any) -> TokenLosses:
        """`token_losses` on the kept positions."""
        from reasondistill.losses.fused import token_losses

        if self.likeliest:  # another loss of the same tokens has told
            return token_losses(self.hidden, self.head, vocabulary=self.vocabulary, **terms)
        losses = token_losses(
            self.hidden, self.head, vocabulary=self.vocabulary, targets=self.labels, **terms
        )
        assert losses.is_likeliest is not None
        self.likeliest.append(losses.is_likeliest)
        return losses

    def mixed_loss(
        self,
        teacher: Callable[[], LiveTeacher | TopKTeacher],
        divergence: Divergence,
        cross_entropy: float,
    ) -> torch.Tensor:
        """(1 − share)·divergence + share·cross-entropy, the latter on the traces' tokens alone.

        The teacher is only called where its share is above 0.
        """
        terms: dict[str, Any] = {}
        if cross_entropy < 1:
            terms["teacher"] = teacher()
            terms["divergence"] = divergence
            terms["divergence_weights"] = (1 - cross_entropy) * self.weights
        if cross_entropy > 0:
            terms["labels"] = self.labels
            terms["cross_entropy_weights"] = cross_entropy * self.weights * (1 - self.by_student)
        return self.losses(**terms).total
