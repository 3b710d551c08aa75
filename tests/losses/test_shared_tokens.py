"""A teacher with other special tokens than the student: the divergence is over the tokens that both
have.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from reasondistill.errors import ConfigError
from reasondistill.losses.divergences import DIVERGENCES, Divergence, divergence_of_logits
from reasondistill.losses.fused import token_losses
from reasondistill.losses.heads import Head
from reasondistill.losses.shared_tokens import SharedTokens
from reasondistill.losses.teachers import LiveTeacher, TopKTeacher, log_probs_of, top_k

# The student has 20 tokens in a head of 24 rows, the teacher 18 in one of 18. Ordinary tokens are
# 0–13; the student's end, 15, is the teacher's 14, its 16 the teacher's 17; 14 and 17–19 are the
# student's alone, 15 and 16 the teacher's.
STUDENT = [*range(14), 15, 16]
TEACHER = [*range(14), 14, 17]
POSITIONS, WIDTH, VOCABULARY, THEIRS = 9, 5, 20, 18


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def shared() -> SharedTokens:
    return SharedTokens(torch.tensor(STUDENT), torch.tensor(TEACHER), THEIRS)


def student_inputs() -> tuple[Tensor, Tensor, Tensor]:
    hidden = draw(POSITIONS, WIDTH, seed=1).requires_grad_()
    weight = draw(24, WIDTH, seed=2).requires_grad_()
    bias = draw(24, seed=3).requires_grad_()
    return hidden, weight, bias


def live_teacher(can_tell: Tensor | None = None) -> LiveTeacher:
    head = Head(0.3 * draw(THEIRS, WIDTH, seed=5))
    return LiveTeacher(draw(POSITIONS, WIDTH, seed=4), head, shared(), can_tell)


def dense_teacher(teacher: LiveTeacher) -> Tensor:
    return teacher.hidden @ teacher.head.weight.T


@pytest.mark.parametrize("kind", list(DIVERGENCES))
@pytest.mark.parametrize("chunk_tokens", [1, 4, 100])
def test_the_divergence_is_the_dense_one_with_the_other_logits_removed(
    kind: str, chunk_tokens: int
) -> None:
    divergence = Divergence(kind, temperature=1.7)
    weights = draw(POSITIONS, seed=6).abs()
    can_tell = torch.tensor([True] * 7 + [False, True])
    teacher = live_teacher(can_tell)
    hidden, weight, bias = student_inputs()
    losses = token_losses(
        hidden,
        Head(weight, bias),
        teacher=teacher,
        divergence=divergence,
        divergence_weights=weights,
        labels=torch.arange(POSITIONS),
        cross_entropy_weights=0.1,
        vocabulary=VOCABULARY,
        chunk_tokens=chunk_tokens,
    )
    losses.total.backward()
    found = [tensor.grad for tensor in (hidden, weight, bias)]

    hidden, weight, bias = student_inputs()
    logits = (hidden @ weight.T + bias)[:, :VOCABULARY]
    values = divergence_of_logits(
        logits[:, STUDENT], dense_teacher(teacher)[:, TEACHER], divergence
    )
    total = (weights * values * can_tell).sum()
    total = total + 0.1 * torch.nn.functional.cross_entropy(
        logits, torch.arange(POSITIONS), reduction="sum"
    )
    total.backward()
    wanted = [tensor.grad for tensor in (hidden, weight, bias)]
    assert torch.allclose(losses.total, total, atol=1e-12)
    assert losses.divergence is not None
    assert torch.allclose(losses.divergence, values.detach() * can_tell, atol=1e-12)
    for one, other in zip(found, wanted, strict=True):
        assert one is not None and other is not None
        assert torch.allclose(one, other, atol=1e-12)


def test_where_the_teacher_wants_a_token_that_only_it_has_the_divergence_is_silent() -> None:
    # The teacher's own token 16 gets nearly all of its probability at the first position.
    weight = draw(THEIRS, WIDTH, seed=5)
    hidden = draw(POSITIONS, WIDTH, seed=4)
    hidden[0] = 20 * weight[16] / weight[16].norm()
    weight[:16] *= 0.1
    hidden_s, weight_s, bias_s = student_inputs()
    losses = token_losses(
        hidden_s,
        Head(weight_s, bias_s),
        teacher=LiveTeacher(hidden, Head(weight), shared()),
        divergence=Divergence("forward_kl"),
        divergence_weights=1.0,
        vocabulary=VOCABULARY,
    )
    losses.total.backward()
    assert torch.softmax(hidden @ weight.T, -1)[0, 16] > 0.5
    assert losses.divergence is not None and losses.divergence[0] == 0
    assert bool((losses.divergence[1:] > 0).all())
    assert hidden_s.grad is not None and not hidden_s.grad[0].any()
    # Tokens that the teacher has not are moved by nothing.
    assert bias_s.grad is not None
    assert not bias_s.grad[[14, 17, 18, 19]].any()


def test_stored_tokens_are_compared_among_the_shared_ones_too() -> None:
    """With all of them stored it is the live teacher's divergence."""
    teacher = live_teacher()
    columns = dense_teacher(teacher)[:, TEACHER]
    log_probs = torch.log_softmax(columns, -1)
    ids = torch.tensor(STUDENT).expand(POSITIONS, -1).clone()
    ids[3] = -1
    stored = TopKTeacher(ids, log_probs, shared())
    answers: list[tuple[Tensor, Tensor]] = []
    for told in (stored, LiveTeacher(teacher.hidden, teacher.head, shared(), ids[:, 0] >= 0)):
        hidden, weight, bias = student_inputs()
        losses = token_losses(
            hidden,
            Head(weight, bias),
            teacher=told,
            divergence=Divergence("forward_kl"),
            divergence_weights=1.0,
            vocabulary=VOCABULARY,
        )
        losses.total.backward()
        assert hidden.grad is not None
        answers.append((losses.total.detach(), hidden.grad))
    assert torch.allclose(answers[0][0], answers[1][0], atol=1e-12)
    assert torch.allclose(answers[0][1], answers[1][1], atol=1e-12)


def test_a_row_of_padding_is_still_refused_where_the_vocabularies_are_one() -> None:
    hidden, weight, _ = student_inputs()
    with pytest.raises(ValueError, match="padding only"):
        token_losses(
            hidden,
            Head(weight),
            teacher=TopKTeacher(torch.full((POSITIONS, 1), -1), torch.zeros(POSITIONS, 1)),
            divergence=Divergence("forward_kl"),
            divergence_weights=1.0,
        )


def test_other_sizes_of_the_heads_are_refused_only_without_shared_tokens() -> None:
    hidden, weight, bias = student_inputs()
    teacher = live_teacher()
    terms: dict[str, Any] = {"divergence": Divergence("tvd"), "divergence_weights": 1.0}
    assert token_losses(hidden, Head(weight, bias), teacher=teacher, **terms).total > 0
    alone = LiveTeacher(teacher.hidden, teacher.head)
    with pytest.raises(ConfigError, match="24 rows"):
        token_losses(hidden, Head(weight, bias), teacher=alone, **terms)


def test_the_teachers_log_probabilities_of_labels_are_among_the_shared_tokens() -> None:
    teacher = live_teacher()
    labels = torch.tensor([0, 13, 15, 16, 14, 17, 19, 1, 2])
    found = log_probs_of(
        teacher.hidden, teacher.head, labels, vocabulary=VOCABULARY, shared=shared()
    )
    log_probs = torch.log_softmax(dense_teacher(teacher)[:, TEACHER], -1)
    for place, label in enumerate(labels.tolist()):
        if label in STUDENT:
            wanted = log_probs[place, STUDENT.index(label)]
            assert torch.allclose(found[place], wanted, atol=1e-12)
        else:
            assert torch.isnan(found[place])


def test_places_are_those_among_the_shared_tokens() -> None:
    ids = torch.tensor([[0, 13, 14], [15, 16, 17], [19, -1, 5]])
    wanted = [[0, 13, -1], [14, 15, -1], [-1, -1, 5]]
    assert shared().places(ids).tolist() == wanted


def test_top_k_of_a_teacher_knows_nothing_of_shared_tokens() -> None:
    teacher = live_teacher()
    ids, _ = top_k(teacher.hidden, teacher.head, 3)
    assert int(ids.max()) < THEIRS
