"""Every loss beside an independently written formula, its gradient beside autograd, and the memory
it may take.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from reasondistill.errors import ConfigError
from reasondistill.losses import heads as heads_module
from reasondistill.losses.classic import (
    attention_loss,
    hidden_loss,
    pool,
    relation_angle,
    relation_distance,
    uniform_layer_map,
)
from reasondistill.losses.divergences import DIVERGENCES as REGISTRY
from reasondistill.losses.divergences import Divergence, divergence_of_logits, value_and_gradient
from reasondistill.losses.fused import token_losses
from reasondistill.losses.heads import Head, PostProcessing
from reasondistill.losses.policy import Policy
from reasondistill.losses.teachers import LiveTeacher, TopKTeacher, log_probs_of, top_k

V = 50


def draw(
    *shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float64
) -> Tensor:
    return (
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        * scale
    ).to(dtype)


def kl(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(a > 0, a * (a / b).log(), 0.0).sum(-1)


def by_hand(z: Tensor, t: Tensor, d: Divergence) -> Tensor:
    """The definitions in probabilities, as the papers print them."""
    q, p = torch.softmax(z / d.temperature, -1), torch.softmax(t / d.temperature, -1)
    a, b = d.alpha, d.beta
    m = b * p + (1 - b) * q
    definitions = {
        "forward_kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "jsd": lambda: (
            kl(p, q) if b == 0 else kl(q, p) if b == 1 else b * kl(p, m) + (1 - b) * kl(q, m)
        ),
        "skew_kl": lambda: kl(p, a * p + (1 - a) * q),
        "skew_reverse_kl": lambda: kl(q, (1 - a) * p + a * q),
        "tvd": lambda: 0.5 * (p - q).abs().sum(-1),
    }
    value = definitions[d.kind]()
    return value * d.temperature**2


# What else than the default parameters is looked at: both ends, and the places between.
PARAMETERS: dict[str, list[dict[str, float]]] = {
    "jsd": [{"beta": beta} for beta in (0.0, 0.1, 0.9, 1.0)],
    "skew_kl": [{"alpha": alpha} for alpha in (0.0, 0.5, 0.9)],
    "skew_reverse_kl": [{"alpha": alpha} for alpha in (0.0, 0.5, 0.9)],
}
DIVERGENCES = [
    Divergence(kind, temperature=temperature, **parameters)
    for temperature in (0.5, 1.0, 2.0)
    for kind in REGISTRY
    for parameters in [{}, *PARAMETERS.get(kind, [])]
]
KINDS = [d for d in DIVERGENCES if (d.temperature, d.alpha, d.beta) == (1.0, 0.1, 0.5)]


def name(d: Divergence) -> str:
    return f"{d.kind}-b{d.beta:g}-a{d.alpha:g}-T{d.temperature:g}"


def test_every_registered_divergence_is_looked_at() -> None:
    assert {d.kind for d in DIVERGENCES} == {d.kind for d in KINDS} == set(REGISTRY)


# ---- divergences ---------------------------------------------------------------------------------


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=name)
def test_value_and_gradient_are_those_of_the_definition(divergence: Divergence) -> None:
    z, t = draw(7, V, seed=1, scale=2).requires_grad_(), draw(7, V, seed=2, scale=2)
    expected = by_hand(z, t, divergence)
    (slope,) = torch.autograd.grad(expected.sum(), z)
    value, gradient = value_and_gradient(z, t, divergence)
    dense = divergence_of_logits(z, t, divergence)
    (dense_slope,) = torch.autograd.grad(dense.sum(), z)
    for found, wanted in (
        (value, expected),
        (gradient, slope),
        (dense, expected),
        (dense_slope, slope),
    ):
        assert (found - wanted).abs().max() <= 1e-10


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=name)
def test_value_and_gradient_leave_their_inputs_alone(divergence: Divergence) -> None:
    z, t = draw(3, V, seed=1), draw(3, V, seed=2)
    value_and_gradient(z, t, divergence)
    assert torch.equal(z, draw(3, V, seed=1))
    assert torch.equal(t, draw(3, V, seed=2))


@pytest.mark.parametrize(
    ("end", "plain"),
    [
        (Divergence("jsd", beta=0), "forward_kl"),
        (Divergence("jsd", beta=1), "reverse_kl"),
        (Divergence("skew_kl", alpha=0), "forward_kl"),
        (Divergence("skew_reverse_kl", alpha=0), "reverse_kl"),
    ],
)
def test_an_end_of_a_divergence_is_a_plain_kl(end: Divergence, plain: str) -> None:
    z, t = draw(4, V, seed=1), draw(4, V, seed=2)
    for found, wanted in zip(
        value_and_gradient(z, t, end), value_and_gradient(z, t, Divergence(plain)), strict=True
    ):  # pyright: ignore
        assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("kind", "plain"), [("skew_kl", "forward_kl"), ("skew_reverse_kl", "reverse_kl")]
)
def test_a_small_skew_tends_to_the_plain_kl(kind: Any, plain: Any) -> None:
    z, t = draw(4, V, seed=1), draw(4, V, seed=2)
    exact = value_and_gradient(z, t, Divergence(plain))
    gaps = [
        max(
            float((a - b).abs().max())
            for a, b in zip(
                value_and_gradient(z, t, Divergence(kind, alpha=alpha)), exact, strict=True
            )
        )
        for alpha in (1e-2, 1e-4, 1e-6)
    ]
    assert gaps[0] > 50 * gaps[1] > 2_500 * gaps[2] > 0


def test_at_high_temperature_the_gradient_is_the_logit_difference() -> None:
    z, t = draw(4, V, seed=1), draw(4, V, seed=2)
    _, gradient = value_and_gradient(z, t, Divergence("forward_kl", temperature=1e5))
    difference = z - t
    assert (gradient - (difference - difference.mean(-1, keepdim=True)) / V).abs().max() < 1e-5


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_extreme_logits_stay_finite(divergence: Divergence, dtype: torch.dtype) -> None:
    z, t = torch.zeros(4, V, dtype=dtype), torch.zeros(4, V, dtype=dtype)
    z[0, 3], t[0, 4] = 1e4, 1e4
    z[1, 3], t[1, 3] = -1e4, 1e4
    z[2], t[2] = torch.linspace(-1e4, 1e4, V), torch.linspace(1e4, -1e4, V)
    value, gradient = value_and_gradient(z, t, divergence)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert value[3].abs() < 1e-6
    losses = token_losses(
        z,
        Head(torch.eye(V, dtype=dtype)),
        teacher=LiveTeacher(t, Head(torch.eye(V, dtype=dtype))),
        divergence=divergence,
    )
    assert losses.divergence is not None
    assert losses.divergence.isfinite().all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "kl"},
        {"kind": "jsd", "beta": 1.5},
        {"kind": "skew_kl", "alpha": 1.0},
        {"kind": "tvd", "temperature": 0},
    ],
)
def test_a_divergence_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Divergence(**wrong)


# ---- token_losses --------------------------------------------------------------------------------

N, HS, HT, CUT = 7, 5, 6, 17
NOTHING = PostProcessing()


def everything(
    divergence: Divergence, dtype: torch.dtype = torch.float64
) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any]]:
    """Inputs with padded heads of different widths, and all three losses on; the policy has
    positions on both clipped sides.
    """
    hidden, weight, bias = (
        draw(N, HS, seed=1, dtype=dtype),
        draw(CUT + 4, HS, seed=2, dtype=dtype),
        draw(CUT + 4, seed=3, dtype=dtype),
    )
    labels = torch.tensor([0, 3, 16, 5, 5, 9, 1])
    with torch.no_grad():
        current = torch.log_softmax((hidden @ weight.T + bias)[:, :CUT], -1).gather(
            1, labels[:, None]
        )[:, 0]
    shift = torch.tensor([0.05, -0.5, 0.5, -0.5, 0.5, 0.0, -0.1], dtype=dtype)
    policy = Policy(
        draw(N, seed=8, dtype=dtype).abs() * torch.tensor([1, 1, 1, -1, -1, -1, 1]),
        current - shift,
        0.2,
        draw(N, seed=9, dtype=dtype).abs(),
    )
    settings = {
        "labels": labels,
        "cross_entropy_weights": draw(N, seed=4, dtype=dtype).abs(),
        "teacher": LiveTeacher(
            draw(N, HT, seed=5, dtype=dtype),
            Head(draw(CUT + 9, HT, seed=6, dtype=dtype), draw(CUT + 9, seed=7, dtype=dtype)),
        ),
        "divergence": divergence,
        "divergence_weights": draw(N, seed=10, dtype=dtype).abs(),
        "policy": policy,
        "policy_weights": 0.3,
        "vocabulary": CUT,
    }
    return tuple(x.requires_grad_() for x in (hidden, weight, bias)), settings  # pyright: ignore


def post_processed(products: Tensor, post_processing: PostProcessing) -> Tensor:
    """The logits of a head's products, as Gemma 2 and Cohere write it."""
    if post_processing.cap is None:
        return products * post_processing.scale
    return torch.tanh(products * post_processing.scale / post_processing.cap) * post_processing.cap


def dense_total(
    inputs: tuple[Tensor, Tensor, Tensor],
    s: dict[str, Any],
    post_processing: PostProcessing = NOTHING,
) -> Tensor:
    """The same total with all logits at once, for autograd."""
    hidden, weight, bias = inputs
    teacher = s["teacher"].head
    z = post_processed((hidden @ weight.T + bias)[:, :CUT], post_processing)
    t = post_processed(
        (s["teacher"].hidden @ teacher.weight.T + teacher.bias)[:, :CUT], teacher.post_processing
    )
    log_q = torch.log_softmax(z, -1).gather(1, s["labels"][:, None])[:, 0]
    policy = s["policy"]
    ratio = (log_q - policy.old_log_probs).exp()
    held = ratio.clamp(1 - policy.clip, 1 + policy.clip)
    ppo = -policy.importance * torch.minimum(ratio * policy.advantages, held * policy.advantages)
    terms = (
        -s["cross_entropy_weights"] * log_q
        + s["divergence_weights"] * by_hand(z, t, s["divergence"])
        + s["policy_weights"] * ppo
    )
    return terms.sum()


def run(
    inputs: tuple[Tensor, ...], settings: dict[str, Any], post_processing: PostProcessing = NOTHING
) -> Tensor:
    hidden, weight, bias = inputs
    return token_losses(hidden, Head(weight, bias, post_processing), **settings).total


def worst(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=name)
def test_all_losses_together_equal_dense_autograd(divergence: Divergence) -> None:
    inputs, settings = everything(divergence)
    found, wanted = run(inputs, settings), dense_total(inputs, settings)
    assert abs(found - wanted) <= 1e-10
    assert worst(torch.autograd.grad(found, inputs), torch.autograd.grad(wanted, inputs)) <= 1e-10


@pytest.mark.parametrize(
    "post_processing",
    [PostProcessing(0.3), PostProcessing(cap=2.0), PostProcessing(1.7, cap=3.0)],
    ids=str,
)
@pytest.mark.parametrize("divergence", [*KINDS, Divergence("jsd", temperature=2)], ids=name)
def test_scales_and_soft_caps_of_both_heads_are_in_value_and_gradient(
    divergence: Divergence, post_processing: PostProcessing
) -> None:
    inputs, settings = everything(divergence)
    teacher = settings["teacher"]
    head = replace(teacher.head, post_processing=PostProcessing(0.6, cap=1.5))
    settings["teacher"] = replace(teacher, head=head)
    found, wanted = (
        run(inputs, settings, post_processing),
        dense_total(inputs, settings, post_processing),
    )
    assert abs(found - wanted) <= 1e-10
    assert worst(torch.autograd.grad(found, inputs), torch.autograd.grad(wanted, inputs)) <= 1e-10


@pytest.mark.parametrize("divergence", [*KINDS, Divergence("jsd", temperature=2)], ids=name)
def test_gradcheck_holds_with_everything_on(divergence: Divergence) -> None:
    inputs, settings = everything(divergence)
    assert torch.autograd.gradcheck(lambda *x: run(x, settings), inputs)


def test_a_head_that_is_tied_to_the_input_gets_both_gradients() -> None:
    weight, picks, t = (
        draw(12, 5, seed=1).requires_grad_(),
        torch.tensor([1, 4, 4]),
        draw(3, 12, seed=2),
    )
    teacher = LiveTeacher(t, Head(torch.eye(12, dtype=torch.float64)))

    def total(weight: Tensor) -> Tensor:
        hidden = torch.tanh(weight[picks])
        return token_losses(
            hidden,
            Head(weight),
            teacher=teacher,
            divergence=Divergence("reverse_kl"),
            divergence_weights=1.0,
        ).total

    assert torch.autograd.gradcheck(total, (weight,))
    dense = by_hand(torch.tanh(weight[picks]) @ weight.T, t, Divergence("reverse_kl")).sum()
    assert (
        worst(torch.autograd.grad(total(weight), weight), torch.autograd.grad(dense, weight))
        <= 1e-10
    )


@pytest.mark.parametrize("chunk", [1, 3, N, 100])
def test_the_chunk_size_does_not_change_the_result(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, settings = everything(Divergence("jsd"))
    wanted = run(inputs, settings)
    monkeypatch.setattr(heads_module, "BLOCK_ELEMENTS", 2 * CUT)
    found = run(inputs, settings | {"chunk_tokens": chunk})
    assert abs(found - wanted) <= 1e-12
    assert worst(torch.autograd.grad(found, inputs), torch.autograd.grad(wanted, inputs)) <= 1e-12


@pytest.mark.parametrize("divergence", KINDS, ids=name)
def test_float32_is_near_the_dense_float32(divergence: Divergence) -> None:
    inputs, settings = everything(divergence, torch.float32)
    found, wanted = run(inputs, settings), dense_total(inputs, settings)
    assert found.dtype == torch.float32
    assert abs(found - wanted) <= 1e-5
    assert worst(torch.autograd.grad(found, inputs), torch.autograd.grad(wanted, inputs)) <= 1e-5


@pytest.mark.parametrize("divergence", KINDS, ids=name)
def test_bfloat16_is_near_float32(divergence: Divergence) -> None:
    inputs, settings = everything(divergence, torch.bfloat16)
    teacher = settings["teacher"]
    exact = tuple(x.detach().float().requires_grad_() for x in inputs)
    exact_head = Head(teacher.head.weight.float(), teacher.head.bias.float())
    wanted = run(exact, settings | {"teacher": LiveTeacher(teacher.hidden.float(), exact_head)})
    found = run(inputs, settings)
    gradients = torch.autograd.grad(found, inputs)
    assert [g.dtype for g in gradients] == [torch.bfloat16] * 3
    assert abs(found - wanted) <= 0.02 * abs(wanted)
    for ours, theirs in zip(gradients, torch.autograd.grad(wanted, exact), strict=True):
        assert (ours - theirs).norm() <= 0.03 * theirs.norm()


def test_rows_beyond_the_vocabulary_get_no_gradient() -> None:
    inputs, settings = everything(Divergence("forward_kl"))
    _, weight, bias = torch.autograd.grad(run(inputs, settings), inputs)
    assert weight[CUT:].abs().sum() == bias[CUT:].abs().sum() == 0
    assert (weight[:CUT].abs().sum(-1) > 0).all()


def test_two_halves_add_up_to_the_whole() -> None:
    inputs, settings = everything(Divergence("skew_kl"))
    whole = torch.autograd.grad(run(inputs, settings), inputs)
    hidden, weight, bias = inputs
    for half in (slice(0, 3), slice(3, N)):
        policy, teacher = settings["policy"], settings["teacher"]
        part = {
            key: settings[key][half]
            for key in ("labels", "cross_entropy_weights", "divergence_weights")
        }
        part["teacher"] = LiveTeacher(teacher.hidden[half], teacher.head)
        part["policy"] = Policy(
            policy.advantages[half],
            policy.old_log_probs[half],
            policy.clip,
            policy.importance[half],
        )
        run((hidden[half], weight, bias), settings | part).backward()
    assert worst(tuple(x.grad for x in inputs), whole) <= 1e-12  # pyright: ignore


def test_backward_scales_and_can_be_repeated() -> None:
    inputs, settings = everything(Divergence("tvd"))
    total = run(inputs, settings)
    once = torch.autograd.grad(total, inputs, retain_graph=True)
    thrice = torch.autograd.grad(3 * total, inputs, retain_graph=True)
    assert worst(tuple(3 * g for g in once), thrice) <= 1e-12
    total.backward(retain_graph=True)
    total.backward()
    assert worst(tuple(x.grad for x in inputs), tuple(2 * g for g in once)) <= 1e-12  # pyright: ignore


def test_a_frozen_head_gets_no_gradient_and_changes_nothing_else() -> None:
    inputs, settings = everything(Divergence("jsd"))
    wanted = torch.autograd.grad(run(inputs, settings), inputs[0])
    frozen = (inputs[0], inputs[1].detach(), inputs[2].detach())
    with LargestTensor() as seen:
        found = torch.autograd.grad(run(frozen, settings), frozen[0])
    assert worst(found, wanted) == 0
    assert inputs[1].shape not in seen.made


def test_whether_targets_are_the_likeliest_tokens_is_told_and_changes_nothing() -> None:
    hidden, weight = draw(40, 8), draw(V, 8, seed=1)
    targets = torch.where(torch.arange(40) % 3 == 0, (hidden @ weight.T).argmax(-1), 7)
    head = Head(weight, post_processing=PostProcessing(cap=2.0))
    found = token_losses(hidden, head, targets=targets, labels=targets, chunk_tokens=7)
    assert found.is_likeliest is not None
    assert torch.equal(found.is_likeliest, (hidden @ weight.T).argmax(-1) == targets)
    assert 14 <= int(found.is_likeliest.sum()) < 20
    outcomes: list[Tensor] = []
    for told in (None, targets):
        ours = hidden.clone().requires_grad_()
        losses = token_losses(
            ours, head, targets=told, labels=targets, cross_entropy_weights=0.1, chunk_tokens=7
        )
        losses.total.backward()
        assert ours.grad is not None
        outcomes.append(ours.grad)
    assert torch.equal(*outcomes)


def test_evaluation_makes_no_gradient() -> None:
    inputs, settings = everything(Divergence("jsd"))
    wanted = token_losses(inputs[0], Head(*inputs[1:]), **settings)
    with torch.no_grad(), LargestTensor() as seen:
        found = token_losses(inputs[0], Head(*inputs[1:]), **settings)
    assert not found.total.requires_grad
    assert abs(found.total - wanted.total) <= 1e-12
    assert {inputs[0].shape, inputs[1].shape, inputs[2].shape} & seen.made == set()


def test_each_loss_is_reported_for_itself_and_none_where_not_asked() -> None:
    inputs, settings = everything(Divergence("reverse_kl", temperature=2))
    hidden, head = inputs[0], Head(*inputs[1:])
    losses = token_losses(hidden, head, **settings)
    z = (hidden @ head.weight.T + head.bias)[:, :CUT]
    expected = torch.nn.functional.cross_entropy(z, settings["labels"], reduction="none")
    assert (
        losses.cross_entropy is not None
        and losses.divergence is not None
        and losses.clipped is not None
    )
    assert (losses.cross_entropy - expected).abs().max() <= 1e-12
    assert not (losses.cross_entropy.requires_grad or losses.divergence.requires_grad)
    only = token_losses(
        hidden, head, labels=settings["labels"], cross_entropy_weights=1 / N, vocabulary=CUT
    )
    assert (only.divergence, only.clipped) == (None, None)
    assert abs(only.total - expected.mean()) <= 1e-12
    reported = token_losses(hidden, head, labels=settings["labels"], vocabulary=CUT)
    assert reported.total == 0
    assert torch.equal(reported.cross_entropy, only.cross_entropy)  # pyright: ignore


def test_no_position_at_all_is_a_loss_of_zero() -> None:
    hidden, weight = torch.zeros(0, 4, requires_grad=True), torch.zeros(9, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    kept = TopKTeacher(torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 3))
    losses = token_losses(
        hidden,
        Head(weight),
        labels=none,
        cross_entropy_weights=1.0,
        teacher=kept,
        divergence=Divergence("forward_kl"),
        divergence_weights=1.0,
    )
    losses.total.backward()
    assert losses.total == 0
    assert weight.grad is not None and weight.grad.abs().sum() == 0


def test_autocast_multiplies_in_its_type_and_keeps_the_rest_in_float32() -> None:
    inputs, settings = everything(Divergence("forward_kl"), torch.float32)
    wanted = run(inputs, settings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(inputs, settings)
    assert found.dtype == torch.float32
    assert found != wanted
    assert abs(found - wanted) <= 0.02 * abs(wanted)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs), torch.autograd.grad(wanted, inputs), strict=True
    ):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() <= 0.03 * theirs.norm()


class LargestTensor(TorchDispatchMode):
    """Records what every operation makes: numbers of elements, and shapes of what is not a view of
    an input.
    """

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0
        self.made: set[torch.Size] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {x.data_ptr() for x in args if isinstance(x, Tensor)}
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and tensor.data_ptr() not in given:
                self.elements = max(self.elements, tensor.numel())
                self.made.add(tensor.shape)
        return result


@pytest.mark.parametrize("divergence", KINDS, ids=name)
def test_no_tensor_of_tokens_times_vocabulary_is_made(divergence: Divergence) -> None:
    tokens, vocabulary, chunk = 400, 300, 10
    hidden, weight = (
        draw(tokens, 4, seed=1).requires_grad_(),
        draw(vocabulary, 4, seed=2).requires_grad_(),
    )
    labels = torch.zeros(tokens, dtype=torch.int64)
    settings: dict[str, Any] = {
        "labels": labels,
        "cross_entropy_weights": 1.0,
        "divergence_weights": 1.0,
        "chunk_tokens": chunk,
    }
    ids, log_probs = top_k(hidden, Head(weight), 3)
    teachers = [LiveTeacher(draw(tokens, 6, seed=3), Head(draw(vocabulary, 6, seed=4)))]
    head = Head(weight, post_processing=PostProcessing(0.5, cap=3.0))
    for teacher in (
        [*teachers, TopKTeacher(ids, log_probs)] if divergence.kind == "forward_kl" else teachers
    ):
        with LargestTensor() as seen:
            token_losses(
                hidden, head, teacher=teacher, divergence=divergence, **settings
            ).total.backward()
        assert chunk * vocabulary <= seen.elements <= max(chunk * vocabulary, tokens * 6)
    with LargestTensor() as seen:
        by_hand(hidden @ weight.T, draw(tokens, vocabulary), divergence).sum().backward()
    assert seen.elements >= tokens * vocabulary


# ---- policy --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "clipped"),
    [
        (1.5, 2.0, True),
        (0.5, 2.0, False),
        (1.5, -2.0, False),
        (0.5, -2.0, True),
        (1.1, 2.0, False),
        (0.9, -2.0, False),
        (1.5, 0.0, False),
    ],
)
def test_the_policy_term_is_ppo_and_says_where_it_is_clipped(
    ratio: float, advantage: float, clipped: bool
) -> None:
    hidden, weight = draw(1, 4, seed=1).requires_grad_(), draw(9, 4, seed=2)
    log_q = torch.log_softmax(hidden @ weight.T, -1)[:, 3]
    old = (log_q - math.log(ratio)).detach()
    policy = Policy(torch.tensor([advantage]), old, importance=torch.tensor([0.7]))
    losses = token_losses(
        hidden, Head(weight), labels=torch.tensor([3]), policy=policy, policy_weights=0.25
    )
    assert losses.clipped is not None and bool(losses.clipped[0]) is clipped
    limited = min(max(ratio, 0.8), 1.2)
    assert float(losses.total.detach()) == pytest.approx(
        -0.25 * 0.7 * min(ratio * advantage, limited * advantage), rel=1e-6
    )
    slope = 0.0 if clipped else -0.25 * 0.7 * ratio * advantage
    (expected,) = torch.autograd.grad(log_q.sum() * slope, hidden)
    (found,) = torch.autograd.grad(losses.total, hidden)
    assert (found - expected).abs().max() <= 1e-7


def test_a_policy_far_from_its_sampler_stays_finite() -> None:
    hidden, weight = torch.eye(2, requires_grad=True), torch.tensor([[0.0, 0.0], [-1e4, 1e4]])
    policy = Policy(torch.tensor([1.0, -1.0]), torch.tensor([0.0, -2e4]))
    losses = token_losses(
        hidden, Head(weight), labels=torch.tensor([1, 1]), policy=policy, policy_weights=1.0
    )
    losses.total.backward()
    assert losses.total.isfinite()
    assert hidden.grad is not None and hidden.grad.isfinite().all()


# ---- top-K teacher -------------------------------------------------------------------------------


def bucketed(z: Tensor, ids: Tensor, log_p: Tensor) -> Tensor:
    """Forward KL with a tail bucket, row by row, without padding."""
    rows: list[Tensor] = []
    for row, row_ids, row_log_p in zip(torch.softmax(z, -1), ids, log_p, strict=True):
        kept = row_ids >= 0
        p, q = row_log_p[kept].exp(), row[row_ids[kept]]
        value = (p * (p.log() - q.log())).sum()
        tail = 1 - p.sum()
        if kept.sum() < z.shape[1] and tail > 0:
            others = torch.ones_like(row, dtype=torch.bool).index_fill(0, row_ids[kept], False)
            value = value + tail * (tail.log() - row[others].sum().log())
        rows.append(value)
    return torch.stack(rows)


def kept_tokens(t: Tensor, k: int) -> tuple[Tensor, Tensor]:
    found = torch.log_softmax(t, -1).topk(k, -1)
    return found.indices, found.values


@pytest.mark.parametrize("k", [1, 4, V - 1, V])
@pytest.mark.parametrize("id_type", [torch.int32, torch.int64])
def test_kept_tokens_with_a_tail_bucket_equal_autograd(k: int, id_type: torch.dtype) -> None:
    z, t = draw(6, V, seed=1, scale=2).requires_grad_(), draw(6, V, seed=2, scale=2)
    ids, log_p = kept_tokens(t, k)
    if k == 4:
        ids[2, 2:], ids[3, 1:], ids[4, 0], log_p[3, 1:] = -1, -1, -1, -math.inf
    expected = bucketed(z, ids, log_p)
    teacher = TopKTeacher(ids.to(id_type), log_p)
    head = Head(torch.eye(V, dtype=torch.float64))
    losses = token_losses(
        z, head, teacher=teacher, divergence=Divergence("forward_kl"), divergence_weights=1.0
    )
    assert losses.divergence is not None
    assert (losses.divergence - expected).abs().max() <= 1e-10
    assert (
        worst(torch.autograd.grad(losses.total, z), torch.autograd.grad(expected.sum(), z)) <= 1e-10
    )


def test_all_tokens_kept_is_forward_kl_and_fewer_a_lower_bound() -> None:
    z, t = draw(6, V, seed=1, scale=2), draw(6, V, seed=2, scale=2)
    head, full = Head(torch.eye(V, dtype=torch.float64)), by_hand(z, t, Divergence("forward_kl"))
    values = [
        token_losses(
            z, head, teacher=TopKTeacher(*kept_tokens(t, k)), divergence=Divergence("forward_kl")
        ).divergence
        for k in (1, 4, 16, V - 2, V)
    ]
    assert (values[-1] - full).abs().max() <= 1e-12  # pyright: ignore
    for fewer, more in zip(values, values[1:], strict=False):
        assert (fewer <= more + 1e-12).all()  # pyright: ignore
    assert (values[0] < full - 1e-3).any()  # pyright: ignore


def test_a_student_that_is_sure_of_another_token_is_still_pulled_to_the_tail() -> None:
    """1 − Σ q_k in float32 would be 0 here, and with it the gradient of the tail."""
    z = torch.zeros(1, V, dtype=torch.float32)
    z[0, :2] = 40.0
    z.requires_grad_()
    teacher = TopKTeacher(torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.2]]).log())
    losses = token_losses(
        z,
        Head(torch.eye(V)),
        teacher=teacher,
        divergence=Divergence("forward_kl"),
        divergence_weights=1.0,
    )
    (gradient,) = torch.autograd.grad(losses.total, z)
    assert float(losses.total.detach()) == pytest.approx(
        0.6 * math.log(0.6 / 0.5)
        + 0.2 * math.log(0.2 / 0.5)
        + 0.2 * (math.log(0.2) + 40 - math.log(24)),
        rel=1e-5,
    )
    assert gradient[0, 2:].sum().item() == pytest.approx(-0.2, rel=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_kept_tokens_of_sixteen_bits_and_extreme_logits_stay_finite(scale: float) -> None:
    z, t = (
        draw(8, V, seed=1, scale=scale, dtype=torch.float32).requires_grad_(),
        draw(8, V, seed=2, scale=scale, dtype=torch.float32),
    )
    for k in (1, 16, V):
        ids, log_p = kept_tokens(t, k)
        teacher = TopKTeacher(ids, log_p.half())
        losses = token_losses(
            z,
            Head(torch.eye(V)),
            teacher=teacher,
            divergence=Divergence("forward_kl"),
            divergence_weights=1.0,
        )
        (gradient,) = torch.autograd.grad(losses.total, z)
        assert losses.total.isfinite()
        assert gradient.isfinite().all()
    # All tokens are kept: rounding to 16 bits leaves no tail that could cost anything.
    wanted = divergence_of_logits(z.double(), t.double(), Divergence("forward_kl")).sum()
    assert abs(losses.total - wanted) <= 2e-3 * wanted


@pytest.mark.parametrize(
    "divergence",
    [d for d in DIVERGENCES if (d.plain_kind, d.temperature) != ("forward_kl", 1.0)],
    ids=name,
)
def test_kept_tokens_refuse_what_they_cannot_know(divergence: Divergence) -> None:
    teacher = TopKTeacher(torch.tensor([[0, 1]]), torch.tensor([[-0.1, -3.0]]))
    with pytest.raises(ConfigError, match="was not kept.*live teacher"):
        token_losses(
            torch.zeros(1, 3), Head(torch.zeros(9, 3)), teacher=teacher, divergence=divergence
        )


def test_kept_tokens_beyond_the_vocabulary_are_refused() -> None:
    teacher = TopKTeacher(torch.tensor([[0, 8]]), torch.tensor([[-0.1, -3.0]]))
    with pytest.raises(ConfigError, match="reach id 8"):
        token_losses(
            torch.zeros(1, 3),
            Head(torch.zeros(9, 3)),
            teacher=teacher,
            divergence=Divergence("forward_kl"),
            vocabulary=8,
        )


def test_a_row_of_padding_only_is_refused() -> None:
    teacher = TopKTeacher(torch.tensor([[0, 1], [-1, -1]]), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="padding only"):
        token_losses(
            torch.zeros(2, 3),
            Head(torch.zeros(9, 3)),
            teacher=teacher,
            divergence=Divergence("forward_kl"),
        )


# ---- what does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cross_entropy_weights": 1.0}, "need labels"),
        ({"policy_weights": 1.0}, "without a policy"),
        ({"divergence": Divergence("tvd")}, "needs a teacher"),
        (
            {"teacher": LiveTeacher(torch.zeros(2, 3), Head(torch.zeros(9, 3)))},
            "a teacher a divergence",
        ),
        ({"labels": torch.tensor([0, -100])}, "only positions of the loss"),
        ({"labels": torch.tensor([0])}, "one for each"),
        (
            {
                "teacher": LiveTeacher(torch.zeros(1, 3), Head(torch.zeros(9, 3))),
                "divergence": Divergence("tvd"),
            },
            "speaks of 1 positions",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        token_losses(torch.zeros(2, 3), Head(torch.zeros(9, 3)), **settings)


def test_heads_of_different_rows_need_a_vocabulary() -> None:
    teacher = LiveTeacher(torch.zeros(2, 3), Head(torch.zeros(12, 3)))
    with pytest.raises(ConfigError, match="len\\(tokenizer\\)"):
        token_losses(
            torch.zeros(2, 3),
            Head(torch.zeros(9, 3)),
            teacher=teacher,
            divergence=Divergence("tvd"),
        )
    with pytest.raises(ConfigError, match="head has 9 rows"):
        token_losses(
            torch.zeros(2, 3),
            Head(torch.zeros(9, 3)),
            teacher=teacher,
            divergence=Divergence("tvd"),
            vocabulary=10,
        )


# ---- teachers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "post_processing", [PostProcessing(), PostProcessing(0.7, cap=1.5)], ids=str
)
def test_top_k_and_log_probs_are_those_of_the_dense_logits(
    post_processing: PostProcessing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads_module, "CHUNK_ELEMENTS", 4 * CUT)
    monkeypatch.setattr(heads_module, "BLOCK_ELEMENTS", 2 * CUT)
    hidden = draw(11, 5, seed=1)
    head = Head(draw(CUT + 3, 5, seed=2), draw(CUT + 3, seed=3), post_processing)
    logits = post_processed((hidden @ head.weight.T + head.bias)[:, :CUT], post_processing)
    expected = torch.log_softmax(logits, -1).topk(4, -1)
    ids, log_probs = top_k(hidden, head, 4, CUT)
    assert torch.equal(ids, expected.indices)
    assert (log_probs - expected.values).abs().max() <= 1e-12
    labels = torch.arange(11)
    for temperature in (1.0, 0.6):
        found = log_probs_of(hidden, head, labels, CUT, temperature)
        wanted = torch.log_softmax(logits / temperature, -1).gather(1, labels[:, None])[:, 0]
        assert (found - wanted).abs().max() <= 1e-12


def test_more_tokens_than_there_are_cannot_be_kept() -> None:
    with pytest.raises(ConfigError, match="top-k of 10"):
        top_k(torch.zeros(1, 3), Head(torch.zeros(9, 3)), 10)


# ---- classic -------------------------------------------------------------------------------------


def test_hidden_losses_are_those_of_a_hand_calculation() -> None:
    student, teacher = (
        torch.tensor([[3.0, 4.0], [1.0, 0.0]]),
        torch.tensor([[3.0, 0.0], [0.0, 2.0]]),
    )
    assert hidden_loss(student, teacher).item() == pytest.approx((0 + 16 + 1 + 4) / 4)
    assert hidden_loss(student, teacher, "cosine").item() == pytest.approx(
        ((1 - 3 / 5) + (1 - 0)) / 2
    )
    with pytest.raises(ValueError, match="project"):
        hidden_loss(student, torch.zeros(2, 3))


def test_attention_loss_leaves_out_padding_and_averages_unequal_heads() -> None:
    student = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.1, 0.9]]]])
    one = torch.tensor([[[[1.0, 0.0], [0.2, 0.8]]]])
    everyone, first = torch.ones(1, 2), torch.tensor([[1, 0]])
    assert attention_loss(student, one, everyone).item() == pytest.approx((0.1**2 + 0.1**2) / 4)
    assert attention_loss(student, one, first).item() == 0
    two = one.expand(1, 2, 2, 2)
    assert attention_loss(student, two, everyone).item() == pytest.approx(
        (2 * 0.3**2 + 2 * 0.1**2) / 8
    )
    with pytest.raises(ValueError, match="only head counts"):
        attention_loss(student, torch.zeros(1, 2, 3, 3), everyone)


def test_relation_distance_is_that_of_a_hand_calculation() -> None:
    # Distances 3, 4, 5 in units of 4, against 1, 1, 2 in units of 4/3.
    student, teacher = (
        torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]),
        torch.tensor([[0.0], [1.0], [-1.0]]),
    )
    expected = (
        sum(0.5 * (a - b) ** 2 for a, b in [(3 / 4, 3 / 4), (1.0, 3 / 4), (5 / 4, 6 / 4)]) / 3
    )
    assert relation_distance(student, teacher).item() == pytest.approx(expected)
    assert relation_distance(student, 7 * student).item() == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="at least 2"):
        relation_distance(student[:1], teacher[:1])


def test_relation_angle_is_that_of_a_hand_calculation() -> None:
    # A 3-4-5 triangle (cosines 0, 3/5, 4/5) against three points on a line (−1, 1, 1).
    student, teacher = (
        torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]),
        torch.tensor([[0.0], [1.0], [-1.0]]),
    )
    expected = sum(0.5 * (a - b) ** 2 for a, b in [(0, -1), (3 / 5, 1), (4 / 5, 1)]) / 3
    assert relation_angle(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    turned = torch.stack([-student[:, 1], student[:, 0]], -1) * 5 + 1
    assert relation_angle(student, turned).item() == pytest.approx(0, abs=1e-10)
    with pytest.raises(ValueError, match="at least 3"):
        relation_angle(student[:2], teacher[:2])


@pytest.mark.parametrize("loss", [relation_distance, relation_angle])
def test_relation_losses_pass_gradcheck_and_survive_equal_rows(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    student, teacher = draw(5, 3, seed=1).requires_grad_(), draw(5, 4, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher.detach()), (student,))
    loss(student, teacher).backward()
    assert teacher.grad is None
    alike = torch.ones(4, 3, requires_grad=True)
    loss(alike, torch.ones(4, 2)).backward()
    assert alike.grad is not None and alike.grad.isfinite().all()


def test_pool_is_the_mean_of_the_marked_tokens() -> None:
    hidden = torch.tensor(
        [[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], [[5.0, 5.0], [1.0, 1.0], [1.0, 1.0]]]
    )
    assert pool(hidden, torch.tensor([[1, 1, 0], [0, 0, 0]])).tolist() == [[2.0, 3.0], [0.0, 0.0]]


def test_the_layer_map_is_uniform_and_ends_at_the_last_layer() -> None:
    assert uniform_layer_map(6, 12) == [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12)]
    assert uniform_layer_map(3, 28) == [(1, 9), (2, 19), (3, 28)]
    assert uniform_layer_map(4, 6) == [(1, 2), (2, 3), (3, 5), (4, 6)]
    with pytest.raises(ValueError, match="at least one"):
        uniform_layer_map(0, 4)


# ---- CUDA ----------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_the_same_numbers_on_a_gpu_in_bfloat16() -> None:
    inputs, settings = everything(Divergence("jsd"), torch.bfloat16)
    teacher, policy = settings["teacher"], settings["policy"]
    there = {
        key: value.cuda() if isinstance(value, Tensor) else value for key, value in settings.items()
    }
    there["teacher"] = LiveTeacher(
        teacher.hidden.cuda(), Head(teacher.head.weight.cuda(), teacher.head.bias.cuda())
    )
    there["policy"] = replace(
        policy,
        advantages=policy.advantages.cuda(),
        old_log_probs=policy.old_log_probs.cuda(),
        importance=policy.importance.cuda(),
    )
    moved = tuple(x.detach().cuda().requires_grad_() for x in inputs)
    wanted, found = run(inputs, settings), run(moved, there)
    assert abs(found.cpu() - wanted) <= 0.02 * abs(wanted)
    for ours, theirs in zip(
        torch.autograd.grad(found, moved), torch.autograd.grad(wanted, inputs), strict=True
    ):
        assert (ours.cpu() - theirs).norm() <= 0.03 * theirs.norm()
