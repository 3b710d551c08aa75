"""Losses of distillation at a vocabulary of 151,936: time, memory and gradient of ours, dense
PyTorch, TRL and Liger.

Each way is first held against a dense float32 reference on the same numbers, at a small size; one
whose gradient is wrong is not timed. Then forward and backward together, head included: the median
of the rounds, and the peak beyond the inputs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from device import Device, Row, attempt, said, shown
from torch import Tensor

from reasondistill.losses.divergences import Divergence, divergence_of_logits
from reasondistill.losses.fused import token_losses
from reasondistill.losses.heads import Head
from reasondistill.losses.teachers import LiveTeacher

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
Way = Callable[[Inputs, Divergence], Tensor]

KINDS = ("forward_kl", "reverse_kl", "jsd", "skew_kl")
# Relative, of the gradients of hidden states and head: bfloat16 keeps 8 bits.
TOLERANCES = {torch.bfloat16: 0.05, torch.float32: 1e-3}
WARM_UP = 2


@dataclass(frozen=True)
class Sizes:
    """`checked` is how many tokens gradients are compared on."""

    vocabulary: int
    student: int
    teacher: int
    tokens: tuple[int, ...]
    checked: int
    rounds: int
    dtype: torch.dtype


LARGE = Sizes(151_936, 1_536, 3_584, (8_192, 16_384, 32_768), 256, 5, torch.bfloat16)
TINY = Sizes(1_000, 32, 64, (48,), 16, 5, torch.float32)


def ours(x: Inputs, divergence: Divergence) -> Tensor:
    hidden, weight, teacher, head = x
    told = LiveTeacher(teacher, Head(head))
    return token_losses(
        hidden,
        Head(weight),
        teacher=told,
        divergence=divergence,
        divergence_weights=1 / len(hidden),
    ).total


def dense(x: Inputs, divergence: Divergence) -> Tensor:
    """Logits in the inputs' type, everything after in float32: what one would write."""
    hidden, weight, teacher, head = x
    return divergence_of_logits(
        (hidden @ weight.T).float(), (teacher @ head.T).float(), divergence
    ).mean()


def trl_chunked(x: Inputs, divergence: Divergence) -> Tensor:
    """What TRL's DistillationTrainer computes with."""
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    hidden, weight, teacher, head = x
    return ChunkedDivergenceFunction.apply(
        hidden, weight, None, teacher, head, None, beta(divergence)
    )[0].mean()


def trl_gkd(x: Inputs, divergence: Divergence) -> Tensor:
    """GKDTrainer's loss on dense logits, under autocast as in its training."""
    from trl.experimental.gkd import GKDTrainer

    hidden, weight, teacher, head = x
    half = hidden.dtype == torch.bfloat16
    with torch.autocast(hidden.device.type, dtype=torch.bfloat16) if half else nullcontext():
        logits, told = hidden @ weight.T, teacher @ head.T
        return GKDTrainer.generalized_jsd_loss(
            logits, told, beta=beta(divergence), reduction="sum"
        ) / len(hidden)


def liger_triton(x: Inputs, divergence: Divergence) -> Tensor:
    from liger_kernel.transformers.fused_linear_jsd import LigerFusedLinearJSD  # pyright: ignore

    return LigerFusedLinearJSD(jsd_beta=beta(divergence))(*x, _no_labels(x))


def liger_chunked(x: Inputs, divergence: Divergence) -> Tensor:
    from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss  # pyright: ignore

    return LigerFusedLinearJSDLoss(0.0, 1.0, beta=beta(divergence), compiled=False)(
        *x, _no_labels(x)
    )


def _no_labels(x: Inputs) -> Tensor:
    """Labels are asked for and weigh nothing."""
    return torch.zeros(len(x[0]), dtype=torch.int64, device=x[0].device)


def beta(divergence: Divergence) -> float:
    """TRL's and Liger's name of a divergence."""
    return {"forward_kl": 0.0, "reverse_kl": 1.0, "jsd": divergence.beta}[divergence.kind]


WAYS: Mapping[str, Way] = {
    "ours": ours,
    "dense": dense,
    "trl_chunked": trl_chunked,
    "trl_gkd": trl_gkd,
    "liger_triton": liger_triton,
    "liger_chunked": liger_chunked,
}


def is_offered(way: str, kind: str) -> bool:
    """Whether a library has this divergence at all."""
    return kind != "skew_kl" or way in ("ours", "dense")


def make_inputs(sizes: Sizes, tokens: int, device: Device) -> Inputs:
    """Hidden states, and heads that make logits of about two units: the student's with gradient,
    the teacher's without.
    """
    torch.manual_seed(0)

    def draw(width: int) -> tuple[Tensor, Tensor]:
        hidden = torch.randn(tokens, width, device=device.torch)
        weight = torch.randn(sizes.vocabulary, width, device=device.torch).mul_(2 * width**-0.5)
        return hidden.to(sizes.dtype), weight.to(sizes.dtype)

    (hidden, weight), (teacher, head) = draw(sizes.student), draw(sizes.teacher)
    return hidden.requires_grad_(), weight.requires_grad_(), teacher, head


def gradient_error(way: str, divergence: Divergence, sizes: Sizes, device: Device) -> float:
    """The larger of the two gradients' distances from dense float32, relative to its norm."""
    inputs = make_inputs(sizes, sizes.checked, device)
    found = torch.autograd.grad(WAYS[way](inputs, divergence), inputs[:2])
    exact_inputs = tuple(x.detach().float().requires_grad_(x.requires_grad) for x in inputs)
    exact = torch.autograd.grad(dense(exact_inputs, divergence), exact_inputs[:2])  # pyright: ignore[reportArgumentType]
    return max(float((g.float() - e).norm() / e.norm()) for g, e in zip(found, exact, strict=True))


def measure(way: str, divergence: Divergence, tokens: int, sizes: Sizes, device: Device) -> Row:
    """Seconds of forward and backward, GiB beyond the inputs."""
    inputs, seconds = make_inputs(sizes, tokens, device), list[float]()
    held = device.watch_memory()
    for _ in range(WARM_UP + sizes.rounds):
        device.wait()
        started = time.perf_counter()
        torch.autograd.grad(WAYS[way](inputs, divergence), inputs[:2])
        device.wait()
        seconds.append(time.perf_counter() - started)
    median, peak = statistics.median(seconds[WARM_UP:]), device.peak_gib()
    return {
        "seconds": median,
        "tokens_per_s": tokens / median,
        "beyond_gib": None if peak is None else peak - held,
    }


def bench(device: Device, tokens: tuple[int, ...] = ()) -> Iterator[Row]:
    """One row for each divergence, number of tokens and way, printed as it comes."""
    sizes = LARGE if device.is_gpu else TINY
    print(
        f"\nDivergences: vocabulary {sizes.vocabulary:,}, student {sizes.student}, "
        f"teacher {sizes.teacher}, {sizes.dtype} · {device.title}"
    )
    print(
        f"{'divergence':11} {'tokens':>6} {'way':14} {'ms':>9} {'tokens/s':>10} "
        f"{'beyond GiB':>10} {'gradient':>8} {'time to ours':>12}"
    )
    for kind in KINDS:
        divergence = Divergence(kind)
        checks = {
            way: check(way, divergence, sizes, device) for way in WAYS if is_offered(way, kind)
        }
        for count in tokens or sizes.tokens:
            own: Row = {}
            for way, checked in checks.items():
                row = {"divergence": kind, "tokens": count, "way": way, "failed": None} | checked
                if row["failed"] is None:
                    row |= attempt(
                        lambda way=way, d=divergence, count=count: measure(
                            way, d, count, sizes, device
                        ),
                        device,
                    )
                own = row if way == "ours" else own
                if row.get("seconds") and own.get("seconds"):
                    row["time_to_ours"] = row["seconds"] / own["seconds"]
                print(line(row, device), flush=True)
                yield row


def check(way: str, divergence: Divergence, sizes: Sizes, device: Device) -> Row:
    """The gradient's error, and why the way is not timed if it is not."""
    found = attempt(
        lambda: {"gradient_error": gradient_error(way, divergence, sizes, device)}, device
    )
    if "failed" not in found and not found["gradient_error"] <= TOLERANCES[sizes.dtype]:
        found["failed"] = f"wrong gradient, off by {found['gradient_error']:.1e}: not timed"
    return found


def line(row: Row, device: Device) -> str:
    milliseconds = 1e3 * row["seconds"] if "seconds" in row else None
    numbers = [
        shown(milliseconds, ",.2f", 9),
        shown(row.get("tokens_per_s"), ",.0f", 10),
        shown(row.get("beyond_gib"), ".2f", 10),
        shown(row.get("gradient_error"), ".0e", 8),
        shown(row.get("time_to_ours"), ".2f", 12),
    ]
    about = f"{row['divergence']:11} {row['tokens']:6} {row['way']:14}"
    return " ".join([about, *numbers, said(row, device)]).rstrip()
