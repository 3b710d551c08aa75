"""Losses between what is inside two models: hidden states, attention maps, and the relations
between pooled vectors.

The teacher's side never gets a gradient. Each loss is a mean, computed in float32 or better.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def hidden_loss(student: Tensor, teacher: Tensor, kind: Literal["mse", "cosine"] = "mse") -> Tensor:
    """Mean squared error over all numbers, or mean of 1 − cosine over rows, of hidden states (N,
    width).

    FitNets (Romero et al. 2015) and TinyBERT (Jiao et al. 2020, eq. 8) use mse, DistilBERT (Sanh et
    al. 2019) cosine. Not covered: different widths, for which the caller projects the student
    first.
    """
    student, teacher = _pair(student, teacher)
    if student.shape != teacher.shape:
        raise ValueError(
            f"hidden states {tuple(student.shape)} of the student, {tuple(teacher.shape)} "
            "of the teacher: project the student's"
        )
    if kind == "mse":
        return functional.mse_loss(student, teacher)
    return (1 - functional.cosine_similarity(student, teacher, dim=-1)).mean()


def attention_loss(student_attention: Tensor, teacher_attention: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of attention probabilities (batch, heads, L, L) over heads and pairs of
    real tokens, by `mask` (batch, L).

    Where head counts differ, both are averaged over their heads first. TinyBERT (eq. 7) compares
    scores before the softmax; transformers hands out probabilities only, and those only with
    attn_implementation="eager", so this compares probabilities. Memory is O(heads·L²): cap the
    length. Pairs above the diagonal of a causal model count: they are 0 on both sides and lower the
    mean.
    """
    student, teacher = _pair(student_attention, teacher_attention)
    if (len(student), student.shape[2:]) != (len(teacher), teacher.shape[2:]):
        raise ValueError(
            f"attention of student {tuple(student.shape)} and teacher "
            f"{tuple(teacher.shape)}: only head counts may differ"
        )
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
    real = mask.bool()
    pairs = (real.unsqueeze(1) & real.unsqueeze(2)).unsqueeze(1).expand_as(student)
    return (student - teacher).square().masked_select(pairs).mean()


def relation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the pairwise distances of student rows (B, Hs) and teacher rows (B, Ht),
    each divided by its mean.

    RKD-D, Park et al. 2019 (arXiv 1904.05068), eq. 5–7: ψ = ‖x_i − x_j‖/μ. Mean over the B·(B−1)/2
    pairs; the paper sums, its weight is 25.
    """
    student, teacher = _pair(student, teacher)
    _require_rows(student, teacher, 2, "distance")
    return functional.smooth_l1_loss(_distances(student), _distances(teacher))


def relation_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the angles that three rows make, student (B, Hs) and teacher (B, Ht): cos
    ∠ijk, at j.

    RKD-A, Park et al. 2019, eq. 8–9. Mean over all ordered triples of different rows; the paper
    sums, its weight is 50. Memory is O(B²·H + B³).
    """
    student, teacher = _pair(student, teacher)
    _require_rows(student, teacher, 3, "angle")
    same = torch.eye(len(student), dtype=torch.bool, device=student.device)
    different = ~(same.unsqueeze(0) | same.unsqueeze(1) | same.unsqueeze(2))
    return functional.smooth_l1_loss(_angles(student)[different], _angles(teacher)[different])


def pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean hidden state of the tokens that `mask` (batch, L) marks: (batch, L, H) → (batch, H).
    A row without any gives zeros.
    """
    weights = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def uniform_layer_map(student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    """Which teacher layer each student layer learns from: m ↦ round(m·teacher/student), last to
    last.

    >>> uniform_layer_map(3, 12)
    [(1, 4), (2, 8), (3, 12)]

    Numbers index transformers' `hidden_states`, where 0 is the embedding, which is left out, and
    the last one is after the final norm.
    """
    if student_layers < 1 or teacher_layers < 1:
        raise ValueError(
            f"a student of {student_layers} and a teacher of {teacher_layers} layers: want "
            "at least one each"
        )
    return [
        (m, (2 * m * teacher_layers + student_layers) // (2 * student_layers))
        for m in range(1, student_layers + 1)
    ]


def _pair(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32, or in float64 if the student is; the teacher's without gradient."""
    dtype = torch.float64 if student.dtype == torch.float64 else torch.float32
    return student.to(dtype), teacher.detach().to(dtype)


def _require_rows(student: Tensor, teacher: Tensor, least: int, name: str) -> None:
    if len(student) != len(teacher):
        raise ValueError(
            f"{len(student)} student rows and {len(teacher)} teacher rows: they have to be "
            "the same examples"
        )
    if len(student) < least:
        raise ValueError(
            f"the relation loss by {name} needs at least {least} rows in a batch, got "
            f"{len(student)}: raise the batch size"
        )


def _distances(rows: Tensor) -> Tensor:
    """Distances of all pairs, in units of their mean."""
    distances = functional.pdist(rows)
    return distances / distances.mean().clamp(min=1e-12)


def _angles(rows: Tensor) -> Tensor:
    """cos ∠ijk as [j, i, k]."""
    directions = functional.normalize(rows.unsqueeze(0) - rows.unsqueeze(1), dim=-1)
    return directions @ directions.transpose(1, 2)
