"""What a teacher says about each position: its hidden state and head, or the K likeliest tokens
that were kept of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reasondistill.errors import ConfigError
from reasondistill.losses.divergences import Divergence
from reasondistill.losses.heads import Head, blocks, chunks, default_chunk, new_buffer, project
from reasondistill.losses.shared_tokens import SharedTokens


@dataclass(frozen=True)
class LiveTeacher:
    """A teacher that is at hand: `hidden` (N, teacher hidden), of a width of its own, and its head.
    Knows the whole distribution.

    `shared` are the tokens of both, where the vocabularies differ, and `can_tell` (N,) says at
    which positions the next token is one of them: the others are out of the divergence.
    """

    hidden: Tensor
    head: Head
    shared: SharedTokens | None = None
    can_tell: Tensor | None = None

    @property
    def positions(self) -> int:
        return len(self.hidden)


@dataclass(frozen=True)
class TopKTeacher:
    """What was kept of a teacher: `ids` (N, K) of any integer type and their `log_probs` (N, K) at
    temperature 1.

    Rows with fewer tokens are padded with id −1. A token stands in a row once. K may be anything
    from 1 to the vocabulary. `shared` are the tokens of both, where the vocabularies differ: ids
    are the student's, log-probabilities those among the shared tokens, and a row of padding alone
    is out of the divergence.
    """

    ids: Tensor
    log_probs: Tensor
    shared: SharedTokens | None = None

    @property
    def positions(self) -> int:
        return len(self.ids)


def check_top_k(teacher: TopKTeacher, divergence: Divergence, vocabulary: int) -> None:
    """Raise ConfigError where kept tokens cannot answer: another divergence than forward KL at
    temperature 1, or a foreign vocabulary.
    """
    if divergence.plain_kind != "forward_kl" or divergence.temperature != 1:
        name = divergence.kind
        if divergence.temperature != 1:
            name += f" at temperature {divergence.temperature:g}"
        raise ConfigError(
            f"{name} cannot be computed from a teacher's top-{teacher.ids.shape[1]} tokens: "
            "how the rest of its probability is spread was "
            "not kept, and reverse KL, JSD, skewed KL, TVD and any temperature but 1 ask for it. "
            'Use divergence "forward_kl" at temperature 1, or a live teacher'
        )
    if (
        teacher.ids.ndim != 2
        or teacher.ids.shape != teacher.log_probs.shape
        or teacher.ids.shape[1] == 0
    ):
        raise ValueError(
            f"top-K ids {tuple(teacher.ids.shape)} and log_probs "
            f"{tuple(teacher.log_probs.shape)}: want (N, K) both, K ≥ 1"
        )
    if len(teacher.ids) == 0:
        return
    highest = int(teacher.ids.max())
    if highest >= vocabulary:
        raise ConfigError(
            f"the teacher's kept tokens reach id {highest:,}, but the vocabulary has "
            f"{vocabulary:,} entries. "
            "Keep them again from a teacher that shares the student's tokenizer, or raise "
            "vocabulary"
        )
    if teacher.shared is None and int(teacher.ids.amax(-1).min()) < 0:
        raise ValueError(
            "a row of the teacher's kept tokens holds padding only: leave that position out"
        )


@torch.no_grad()
def tail_value_and_gradient(
    logits: Tensor, ids: Tensor, log_probs: Tensor
) -> tuple[Tensor, Tensor]:
    """Forward KL on K tokens and one bucket for all others: its value (N,) and derivative with
    respect to the logits (N, V).

    Σ_k p_k·(log p_k − log q_k) + p_tail·(log p_tail − log q_tail). With K = V the tail is empty,
    and this is forward KL; otherwise a lower bound of it (what the bucket lumps together can only
    lose divergence). q_tail is summed over the other tokens themselves: 1 − Σ q_k would cancel as
    soon as the student is sure. Then, with s the softmax over the tail and M = Σ p_k + p_tail: dz_k
    = M·q_k − p_k, and in the tail dz_v = s_v·(M·q_tail − p_tail).
    """
    is_padding = ids < 0
    # Padding repeats the row's highest id, so that gather and scatter need no case of their own.
    columns = torch.where(
        is_padding, ids.argmax(-1, keepdim=True), torch.arange(ids.shape[1], device=ids.device)
    )
    ids = ids.long().gather(-1, columns)
    log_p = log_probs.to(logits.dtype).gather(-1, columns)
    log_q = torch.log_softmax(logits, -1)
    log_q_kept = log_q.gather(-1, ids)
    log_q.scatter_(-1, ids, -torch.inf)
    log_q_tail = log_q.logsumexp(-1)
    p, p_tail = log_p.exp(), _tail(log_p, is_padding).masked_fill(log_q_tail.isneginf(), 0.0)
    log_q_tail = log_q_tail.clamp(min=-1e30)
    p_counted = p.masked_fill(is_padding, 0.0)
    # Of a p that was stored as 0, log p is −inf: then p·log p is 0.
    kept_part = torch.where(p_counted > 0, p_counted * (log_p - log_q_kept), 0.0).sum(-1)
    value = kept_part + torch.xlogy(p_tail, p_tail) - p_tail * log_q_tail
    mass = p_counted.sum(-1) + p_tail
    gradient = (
        log_q.sub_(log_q_tail.unsqueeze(-1))
        .exp_()
        .mul_((mass * log_q_tail.exp() - p_tail).unsqueeze(-1))
    )
    return value, gradient.scatter_(-1, ids, mass.unsqueeze(-1) * log_q_kept.exp() - p)


def _tail(log_p: Tensor, is_padding: Tensor) -> Tensor:
    """1 − Σ p_k, never below 0: log-probabilities that were stored in 16 bits can add up to more
    than 1.
    """
    return -torch.expm1(log_p.masked_fill(is_padding, -torch.inf).logsumexp(-1).clamp(max=0.0))


@torch.no_grad()
def top_k(
    hidden: Tensor, head: Head, k: int, vocabulary: int | None = None
) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens of each position, likeliest first: ids (N, k) int64 and
    log-probabilities (N, k) at temperature 1.

    Log-probabilities are over the first `vocabulary` tokens and float32 (float64 for float64).
    Works in chunks, without gradient.
    """
    if vocabulary is None:
        vocabulary = len(head.weight)
    if not 1 <= k <= vocabulary:
        raise ConfigError(
            f"top-k of {k} tokens from a vocabulary of {vocabulary:,}: k lies between 1 and that"
        )
    projection = project(hidden, head, vocabulary)
    size = default_chunk(vocabulary, len(hidden))
    buffer = new_buffer(hidden, vocabulary, size)
    ids = torch.empty(len(hidden), k, dtype=torch.int64, device=hidden.device)
    log_probs = torch.empty(len(hidden), k, dtype=buffer.dtype, device=hidden.device)
    for rows in chunks(len(hidden), size):
        logits = projection.write(rows, buffer)
        for block in blocks(logits):
            highest = torch.log_softmax(logits[block], -1).topk(k, -1)
            ids[rows][block] = highest.indices
            log_probs[rows][block] = highest.values
    return ids, log_probs


@torch.no_grad()
def log_probs_of(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    vocabulary: int | None = None,
    temperature: float = 1.0,
    shared: SharedTokens | None = None,
) -> Tensor:
    """The log-probability of each label (N,) over the first `vocabulary` tokens, logits divided by
    `temperature`.

    With `shared`, head and hidden states are a teacher's and labels the student's: the
    log-probabilities are over the shared tokens, NaN for a label that is none of them. Float32
    (float64 for float64); works in chunks, without gradient.
    """
    if vocabulary is None:
        vocabulary = len(head.weight)
    check_labels(labels, len(hidden), vocabulary)
    is_foreign: Tensor | None = None
    if shared is not None:
        vocabulary = shared.teacher_vocabulary
        labels = shared.places(labels)
        is_foreign = labels < 0
        labels = labels.clamp(min=0)
    projection = project(hidden, head, vocabulary)
    size = default_chunk(vocabulary, len(hidden))
    buffer = new_buffer(hidden, vocabulary, size)
    log_probs = torch.empty(len(hidden), dtype=buffer.dtype, device=hidden.device)
    for rows in chunks(len(hidden), size):
        logits = projection.write(rows, buffer).div_(temperature)
        if shared is not None:
            logits = shared.of_teacher(logits)
        for block in blocks(logits):
            log_q = torch.log_softmax(logits[block], -1)
            columns = labels[rows][block].long().unsqueeze(-1)
            log_probs[rows][block] = log_q.gather(-1, columns).squeeze(-1)
    if is_foreign is not None:
        log_probs.masked_fill_(is_foreign, torch.nan)
    return log_probs


def check_labels(labels: Tensor, count: int, vocabulary: int) -> None:
    """Raise where labels do not fit: one for each position, every one a token of the vocabulary."""
    if labels.shape != (count,):
        raise ValueError(
            f"labels {tuple(labels.shape)}: want one for each of the {count} positions"
        )
    if count and not 0 <= int(labels.min()) <= int(labels.max()) < vocabulary:
        low, high = int(labels.min()), int(labels.max())
        raise ValueError(
            f"labels lie between {low} and {high}, the vocabulary has {vocabulary} entries: "
            "pass only positions of the loss"
        )
