"""Cross-entropy, divergence and policy term of each position, without ever holding a (tokens,
vocabulary) tensor.

Chunk by chunk: student logits, teacher logits, the losses, and their derivative with respect to the
student's logits in closed form, which is written over those logits (through the head's scale and
soft-cap, where it has them) and goes at once into the gradients of hidden states and head. Nothing
of a chunk is kept for the backward, which only scales. Two buffers of chunk × vocabulary and a few
of block × vocabulary are alive at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reasondistill.errors import ConfigError
from reasondistill.losses.divergences import Divergence, divergence_of_logits, value_and_gradient
from reasondistill.losses.heads import (
    Head,
    PostProcessing,
    Projection,
    add_product,
    blocks,
    chunks,
    default_chunk,
    exact_dtype,
    new_buffer,
    project,
)
from reasondistill.losses.policy import Policy, surrogate
from reasondistill.losses.teachers import (
    LiveTeacher,
    TopKTeacher,
    check_labels,
    check_top_k,
    tail_value_and_gradient,
)


@dataclass(frozen=True)
class TokenLosses:
    """`total` is the scalar to call backward on; the rest, (N,) each, is detached and unweighted,
    None where it was not asked for.

    `cross_entropy` is −log q(label) at temperature 1. `clipped` says where the policy term stands
    still, `is_likeliest` where no token is likelier than the target.
    """

    total: Tensor
    divergence: Tensor | None = None
    cross_entropy: Tensor | None = None
    clipped: Tensor | None = None
    is_likeliest: Tensor | None = None


def token_losses(
    hidden: Tensor,
    head: Head,
    *,
    labels: Tensor | None = None,
    cross_entropy_weights: Tensor | float | None = None,
    teacher: LiveTeacher | TopKTeacher | None = None,
    divergence: Divergence | None = None,
    divergence_weights: Tensor | float | None = None,
    policy: Policy | None = None,
    policy_weights: Tensor | float | None = None,
    targets: Tensor | None = None,
    vocabulary: int | None = None,
    chunk_tokens: int | None = None,
) -> TokenLosses:
    """total = Σ_n cross_entropy_weights[n]·CE_n + divergence_weights[n]·D_n +
    policy_weights[n]·PPO_n, with its gradients.

    `hidden` (N, hidden) holds only positions of the loss, `labels` (N,) their tokens. Weights are
    (N,) or one number for all and already hold 1/normaliser; a loss without weights is reported and
    stays out of the total:

        losses = token_losses(hidden, Head(weight), teacher=LiveTeacher(h, Head(w)),
        divergence=Divergence("reverse_kl"),
                              divergence_weights=1 / len(hidden), labels=labels)
        losses.total.backward()

    `total` is differentiable, once, with respect to hidden, head.weight and head.bias; where one
    needs no gradient (LoRA's frozen head, evaluation under no_grad) none is made. The gradient of
    the hidden states has their type, those of the head are summed in float32. Logits come from a
    product in the hidden states' type (autocast's where that is on); everything after it is
    float32, or float64 for float64 inputs. Cross-entropy and policy term are at temperature 1
    whatever the divergence's. `vocabulary` cuts both heads to that many rows (len(tokenizer):
    padding differs between sizes of a family); rows cut off get gradient zero. `chunk_tokens` is
    how many rows are worked on at a time, by default about as many as make 256 MiB; results depend
    on it by rounding only. `targets` (N,) are tokens of which is told whether they are the
    student's likeliest; they have no part in the total.

    Raises ConfigError for what the settings ask and cannot have, ValueError for tensors that do not
    fit. Where the teacher has `shared` tokens the divergence is over these alone, and zero where
    the teacher cannot tell. Not covered: a head sharded over devices, a teacher whose ordinary
    tokens are others.
    """
    if vocabulary is None:
        vocabulary = _common_vocabulary(head, teacher)
    _check(
        hidden,
        labels,
        cross_entropy_weights,
        teacher,
        divergence,
        policy,
        policy_weights,
        vocabulary,
    )
    if targets is not None:
        check_labels(targets, len(hidden), vocabulary)
    if chunk_tokens is None:
        chunk_tokens = default_chunk(vocabulary, len(hidden))
    if teacher is None:  # nothing to weigh
        divergence_weights = None
    job = _Job(
        labels=labels,
        cross_entropy_weights=_spread(cross_entropy_weights, hidden),
        teacher=teacher,
        divergence=divergence,
        divergence_weights=_spread(divergence_weights, hidden),
        policy=policy,
        policy_weights=_spread(policy_weights, hidden),
        targets=targets,
        vocabulary=vocabulary,
        chunk_tokens=max(1, chunk_tokens),
        post_processing=head.post_processing,
    )
    # Function.forward cannot see whether gradients are on: it always runs without.
    inputs = (hidden, head.weight, head.bias)
    is_on = torch.is_grad_enabled()
    wanted = tuple(is_on and tensor is not None and tensor.requires_grad for tensor in inputs)
    return TokenLosses(*_ChunkedLosses.apply(hidden, head.weight, head.bias, job, wanted))


@dataclass(frozen=True)
class _Job:
    """All that carries no gradient; weights are None or (N,)."""

    labels: Tensor | None
    cross_entropy_weights: Tensor | None
    teacher: LiveTeacher | TopKTeacher | None
    divergence: Divergence | None
    divergence_weights: Tensor | None
    policy: Policy | None
    policy_weights: Tensor | None
    targets: Tensor | None
    vocabulary: int
    chunk_tokens: int
    post_processing: PostProcessing

    @property
    def has_weights(self) -> bool:
        weights = (self.cross_entropy_weights, self.divergence_weights, self.policy_weights)
        return any(each is not None for each in weights)


def _common_vocabulary(head: Head, teacher: LiveTeacher | TopKTeacher | None) -> int:
    rows = len(head.weight)
    if not isinstance(teacher, LiveTeacher) or teacher.shared is not None:
        return rows
    if len(teacher.head.weight) != rows:
        raise ConfigError(
            f"the student's head has {rows:,} rows, the teacher's "
            f"{len(teacher.head.weight):,}: padding, or another tokenizer. "
            "If they share the tokenizer, give vocabulary=len(tokenizer)"
        )
    return rows


def _check(
    hidden: Tensor,
    labels: Tensor | None,
    cross_entropy_weights: Tensor | float | None,
    teacher: LiveTeacher | TopKTeacher | None,
    divergence: Divergence | None,
    policy: Policy | None,
    policy_weights: Tensor | float | None,
    vocabulary: int,
) -> None:
    if labels is None and (cross_entropy_weights is not None or policy is not None):
        raise ValueError("cross-entropy and policy term need labels")
    if policy is None and policy_weights is not None:
        raise ValueError("policy_weights without a policy")
    if (teacher is None) != (divergence is None):
        raise ValueError("a divergence needs a teacher, and a teacher a divergence")
    if labels is not None:
        check_labels(labels, len(hidden), vocabulary)
    if isinstance(teacher, TopKTeacher) and divergence is not None:
        check_top_k(teacher, divergence, vocabulary)
    if teacher is not None and teacher.positions != len(hidden):
        raise ValueError(
            f"the teacher speaks of {teacher.positions} positions, the student of {len(hidden)}"
        )


def _spread(weights: Tensor | float | None, hidden: Tensor) -> Tensor | None:
    """Weights as (N,), in the type that the losses are computed in."""
    if weights is None:
        return None
    spread = torch.as_tensor(weights, dtype=exact_dtype(hidden), device=hidden.device)
    return spread.detach().expand(len(hidden))


class _Tally:
    """The losses of each position, (N,), filled block by block."""

    def __init__(self, job: _Job, hidden: Tensor) -> None:
        def column(about: object, dtype: torch.dtype) -> Tensor | None:
            if about is None:
                return None
            return torch.zeros(len(hidden), dtype=dtype, device=hidden.device)

        self.job = job
        exact = exact_dtype(hidden)
        self.cross_entropy = column(job.labels, exact)
        self.divergence = column(job.teacher, exact)
        self.surrogate = column(job.policy, exact)
        self.clipped = column(job.policy, torch.bool)
        self.is_likeliest = column(job.targets, torch.bool)

    def total(self, hidden: Tensor) -> Tensor:
        """The weighted sum; rows without a weight are no part of it."""
        pairs = (
            (self.job.cross_entropy_weights, self.cross_entropy),
            (self.job.divergence_weights, self.divergence),
            (self.job.policy_weights, self.surrogate),
        )
        total = torch.zeros((), dtype=exact_dtype(hidden), device=hidden.device)
        for weights, values in pairs:
            if weights is not None and values is not None:
                total += (weights * values).sum()
        return total

    def take_targets(self, logits: Tensor, targets: Tensor, rows: slice) -> None:
        """Which targets of a block no other token beats: one reading of the logits, no softmax."""
        assert self.is_likeliest is not None
        of_targets = logits.gather(-1, targets[rows].long().unsqueeze(-1)).squeeze(-1)
        self.is_likeliest[rows] = of_targets >= logits.amax(-1)

    def take_labels(
        self, logits: Tensor, labels: Tensor, rows: slice, needs_gradient: bool
    ) -> Tensor | None:
        """Cross-entropy and policy term of a block, and their weighted derivative with respect to
        its logits.
        """
        job = self.job
        labels = labels[rows].long().unsqueeze(-1)
        log_q = torch.log_softmax(logits, -1)
        chosen = log_q.gather(-1, labels).squeeze(-1)
        # What a step of log q(label) does to the total.
        slope = torch.zeros_like(chosen)
        if self.cross_entropy is not None:
            self.cross_entropy[rows] = -chosen
            if job.cross_entropy_weights is not None:
                slope -= job.cross_entropy_weights[rows]
        if job.policy is not None and self.surrogate is not None and self.clipped is not None:
            self.surrogate[rows], steep, self.clipped[rows] = surrogate(chosen, job.policy, rows)
            if job.policy_weights is not None:
                slope += job.policy_weights[rows] * steep
        if not needs_gradient or (job.cross_entropy_weights is None and job.policy_weights is None):
            return None
        slope = slope.unsqueeze(-1)
        # d log q(label) / dz = onehot − q
        return log_q.exp_().mul_(-slope).scatter_add_(-1, labels, slope)

    def take_divergence(
        self, logits: Tensor, teacher_logits: Tensor | None, rows: slice, needs_gradient: bool
    ) -> Tensor | None:
        """Divergence of a block, and its weighted derivative with respect to its logits."""
        job = self.job
        gradient = None
        assert job.divergence is not None and self.divergence is not None and job.teacher
        shared = job.teacher.shared
        compared = logits
        if shared is not None:
            compared = shared.of_student(logits)
        can_tell: Tensor | None = None
        if isinstance(job.teacher, TopKTeacher):
            ids, log_probs = job.teacher.ids[rows], job.teacher.log_probs[rows]
            if shared is not None:
                ids = shared.places(ids)
                can_tell = (ids >= 0).any(-1)
                # A place and a probability for a row that has none; it does not count.
                ids = ids.masked_fill(~can_tell.unsqueeze(-1), 0)
            value, gradient = tail_value_and_gradient(compared, ids, log_probs)
        else:
            assert teacher_logits is not None
            if shared is not None:
                can_tell = shared.is_said(teacher_logits)
                if job.teacher.can_tell is not None:
                    can_tell &= job.teacher.can_tell[rows]
                teacher_logits = shared.of_teacher(teacher_logits)
            if needs_gradient and job.divergence_weights is not None:
                value, gradient = value_and_gradient(compared, teacher_logits, job.divergence)
            else:
                value = divergence_of_logits(compared, teacher_logits, job.divergence)
        if can_tell is not None:
            value = value.masked_fill(~can_tell, 0.0)
        self.divergence[rows] = value
        if gradient is None or job.divergence_weights is None or not needs_gradient:
            return None
        gradient = gradient.mul_(job.divergence_weights[rows].unsqueeze(-1))
        if can_tell is not None:
            gradient = gradient.masked_fill(~can_tell.unsqueeze(-1), 0.0)
        if shared is not None:
            gradient = shared.spread(gradient, logits)
        return gradient


class _Gradients:
    """Gradients of hidden states, weight and bias, as far as they are wanted, filled chunk by
    chunk.
    """

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: tuple[bool, ...]
    ) -> None:
        exact = exact_dtype(hidden)
        wants_hidden, wants_weight, wants_bias = wanted
        self.hidden: Tensor | None = None
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        if wants_hidden:
            self.hidden = torch.empty_like(hidden, requires_grad=False)
        if wants_weight:
            self.weight = torch.zeros_like(weight, dtype=exact, requires_grad=False)
        if wants_bias and bias is not None:
            self.bias = torch.zeros_like(bias, dtype=exact, requires_grad=False)

    def take(self, slopes: Tensor, student: Projection, rows: slice) -> None:
        """Add what a chunk's d total / d logits (rows, vocabulary) means for each."""
        vocabulary = slopes.shape[1]
        if self.hidden is not None:
            self.hidden[rows] = slopes.to(student.weight.dtype) @ student.weight
        if self.weight is not None:
            add_product(self.weight[:vocabulary], slopes.T, student.hidden[rows])
        if self.bias is not None:
            self.bias[:vocabulary] += slopes.sum(0)


def _run(hidden: Tensor, head: Head, job: _Job, gradients: _Gradients | None) -> _Tally:
    """One pass over all chunks."""
    tally = _Tally(job, hidden)
    student = project(hidden, head, job.vocabulary)
    buffer = new_buffer(hidden, job.vocabulary, job.chunk_tokens)
    teacher: Projection | None = None
    teacher_buffer: Tensor | None = None
    if isinstance(job.teacher, LiveTeacher):
        vocabulary = job.vocabulary
        if job.teacher.shared is not None:
            vocabulary = job.teacher.shared.teacher_vocabulary
        teacher = project(job.teacher.hidden, job.teacher.head, vocabulary)
        teacher_buffer = buffer.new_empty(len(buffer), vocabulary)
    needs_gradient = gradients is not None
    with torch.autocast(hidden.device.type, enabled=False):
        for rows in chunks(len(hidden), job.chunk_tokens):
            logits = student.write(rows, buffer)
            teacher_logits: Tensor | None = None
            if teacher is not None and teacher_buffer is not None:
                teacher_logits = teacher.write(rows, teacher_buffer)
            for block in blocks(logits):
                here = slice(rows.start + block.start, rows.start + block.stop)
                teacher_block = teacher_logits[block] if teacher_logits is not None else None
                _run_block(tally, logits[block], teacher_block, here, needs_gradient)
            if gradients is not None:
                gradients.take(logits, student, rows)
    return tally


def _run_block(
    tally: _Tally, logits: Tensor, teacher_logits: Tensor | None, rows: slice, needs_gradient: bool
) -> None:
    """Record the losses of a few rows and, where gradients are needed, write the derivative with
    respect to the head's products over their logits.
    """
    job = tally.job
    parts: list[Tensor | None] = []
    if job.targets is not None:
        tally.take_targets(logits, job.targets, rows)
    if job.labels is not None:
        parts.append(tally.take_labels(logits, job.labels, rows, needs_gradient))
    if job.teacher is not None:
        parts.append(tally.take_divergence(logits, teacher_logits, rows, needs_gradient))
    if needs_gradient:
        weighted = [part for part in parts if part is not None]
        total = weighted[0]
        for part in weighted[1:]:
            total.add_(part)
        if not job.post_processing.is_nothing:
            total.mul_(job.post_processing.slope(logits))
        logits.copy_(total)


class _ChunkedLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        job: _Job,
        wanted: tuple[bool, ...],
    ) -> tuple[Any, ...]:
        gradients: _Gradients | None = None
        if any(wanted) and job.has_weights:
            gradients = _Gradients(hidden, weight, bias, wanted)
        tally = _run(hidden, Head(weight, bias, job.post_processing), job, gradients)
        if gradients is not None:
            # Saved, not kept as attributes: autograd lets go of them before it hands them on, so
            # that .grad takes them over uncopied.
            ctx.save_for_backward(gradients.hidden, gradients.weight, gradients.bias)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        details = (tally.divergence, tally.cross_entropy, tally.clipped, tally.is_likeliest)
        ctx.mark_non_differentiable(*(values for values in details if values is not None))
        return (tally.total(hidden), *details)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        grad_total: Tensor,
        *_: Any,
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors or (None, None, None)
        # A multiplication copies the head's gradient, 0.9 GB for 151,936 × 1,536, and the usual
        # factor is 1.
        is_one = bool(grad_total == 1)
        gradients: list[Tensor | None] = []
        for gradient, dtype in zip(saved, ctx.dtypes, strict=True):
            if gradient is None:
                gradients.append(None)
                continue
            if not is_one:
                gradient = gradient * grad_total.to(gradient.dtype)
            gradients.append(gradient.to(dtype))
        return (*gradients, None, None)
