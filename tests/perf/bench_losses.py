"""Memory and time of the chunked losses at a vocabulary of 151,936, beside dense PyTorch, TRL and
Liger.

    python tests/perf/bench_losses.py [--rounds 5] [--tokens 512] [--kind reverse_kl] [--quick]

Memory: the peak of a process beyond its inputs (and, in `net_mib`, beyond the gradient of the
hidden states) over forward and backward, head included, each in a process of its own. From 2k to
16k tokens it may grow 1.3-fold at most. Hidden states are 64 and 128 wide there: at 1,536 and
3,584, which --quick leaves out, 16k tokens are minutes of matrix products; 2k and 4k show that the
width adds its head's gradient and nothing that grows. Time: one process, ways in turn, the median
of each. TRL's ChunkedDivergenceFunction is private and Liger's chunked JSD (uncompiled) optional:
each is left out where it does not import. A soft-cap on both heads (Gemma 2's 30) is measured
beside dense PyTorch with the same. Float32, all threads. Prints tables, then JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from reasondistill.losses.divergences import Divergence, divergence_of_logits
from reasondistill.losses.fused import token_losses
from reasondistill.losses.heads import Head, PostProcessing
from reasondistill.losses.teachers import LiveTeacher

VOCABULARY = 151_936
SMALL, TRUE = (64, 128), (1_536, 3_584)
CAP = 30.0
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
Way = Callable[[Inputs, Divergence], Tensor]


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
    hidden, weight, teacher, head = x
    return divergence_of_logits(hidden @ weight.T, teacher @ head.T, divergence).mean()


def capped(x: Inputs, divergence: Divergence) -> Tensor:
    hidden, weight, teacher, head = x
    post_processing = PostProcessing(cap=CAP)
    told = LiveTeacher(teacher, Head(head, post_processing=post_processing))
    return token_losses(
        hidden,
        Head(weight, post_processing=post_processing),
        teacher=told,
        divergence=divergence,
        divergence_weights=1 / len(hidden),
    ).total


def dense_capped(x: Inputs, divergence: Divergence) -> Tensor:
    hidden, weight, teacher, head = x
    logits = torch.tanh(hidden @ weight.T / CAP) * CAP
    told = torch.tanh(teacher @ head.T / CAP) * CAP
    return divergence_of_logits(logits, told, divergence).mean()


def beta(divergence: Divergence) -> float:
    return {"forward_kl": 0.0, "reverse_kl": 1.0, "jsd": divergence.beta}[divergence.kind]


def trl(x: Inputs, divergence: Divergence) -> Tensor:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    hidden, weight, teacher, head = x
    return ChunkedDivergenceFunction.apply(
        hidden, weight, None, teacher, head, None, beta(divergence)
    )[0].mean()


def liger(x: Inputs, divergence: Divergence) -> Tensor:
    from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss  # pyright: ignore

    hidden, weight, teacher, head = x
    loss = LigerFusedLinearJSDLoss(0.0, 1.0, beta=beta(divergence), compiled=False)
    return loss(hidden, weight, teacher, head, torch.zeros(len(hidden), dtype=torch.int64))


WAYS: dict[str, Way] = {
    "ours": ours,
    "dense": dense,
    "trl": trl,
    "liger": liger,
    "capped": capped,
    "dense_capped": dense_capped,
}
# Timed by themselves, the first beside the second.
CAPPED = ["capped", "dense_capped"]


def make_inputs(tokens: int, widths: tuple[int, int]) -> Inputs:
    """Hidden states, and heads that make logits of about one unit: student's with gradient,
    teacher's without.
    """
    torch.manual_seed(0)
    (hidden, weight), (teacher, head) = (
        (torch.randn(tokens, width), torch.randn(VOCABULARY, width).mul_(width**-0.5))
        for width in widths
    )
    return hidden.requires_grad_(), weight.requires_grad_(), teacher, head


def available() -> list[str]:
    """The ways that import here."""
    found: list[str] = []
    small = tuple(torch.randn(shape) for shape in ((2, 4), (9, 4), (2, 4), (9, 4)))
    for name, way in WAYS.items():
        try:
            way(small, Divergence("jsd"))  # pyright: ignore
        except ImportError as error:
            print(f"{name}: left out ({error})")
        else:
            found.append(name)
    return found


def resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def measure_memory(
    way: str, tokens: int, widths: tuple[int, int], divergence: Divergence
) -> dict[str, Any]:
    """In a process of its own: the peak beyond the inputs."""
    WAYS[way](tuple(torch.randn(shape) for shape in ((2, 4), (9, 4), (2, 4), (9, 4))), divergence)  # pyright: ignore
    inputs = make_inputs(tokens, widths)
    before, started = resident_mib(), time.perf_counter()
    WAYS[way](inputs, divergence).backward()
    seconds = time.perf_counter() - started
    beyond = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    net = beyond - tokens * widths[0] * 4 / 2**20
    return {
        "way": way,
        "kind": divergence.kind,
        "tokens": tokens,
        "student": widths[0],
        "teacher": widths[1],
        "beyond_mib": round(beyond),
        "net_mib": round(net),
        "seconds": round(seconds, 1),
    }


def measure_time(
    ways: list[str], tokens: int, divergence: Divergence, rounds: int
) -> dict[str, Any]:
    """In a process of its own: seconds of forward and backward, ways in turn, and how far their
    gradients are from those of the second way, which is dense.
    """
    inputs = make_inputs(tokens, TRUE)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    gradients: dict[str, Tensor] = {}
    for number in range(rounds + 1):
        for way in ways:
            started = time.perf_counter()
            found = torch.autograd.grad(WAYS[way](inputs, divergence), inputs[:2])
            if number > 0:
                seconds[way].append(time.perf_counter() - started)
            gradients[way] = found[0]
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    subject, reference = ways[0], ways[1]
    exact = gradients[reference]
    return {
        "kind": divergence.kind,
        "tokens": tokens,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "seconds": {way: round(value, 2) for way, value in medians.items()},
        "ours_to": {
            way: round(medians[subject] / value, 3)
            for way, value in medians.items()
            if way != subject
        },
        "gradient_error": {
            way: float(f"{(g - exact).norm() / exact.norm():.1e}")
            for way, g in gradients.items()
            if way != reference
        },
    }


def in_a_process(**task: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--task", json.dumps(task)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def do_task(task: dict[str, Any]) -> dict[str, Any]:
    divergence = Divergence(task["kind"])
    if "ways" in task:
        return measure_time(task["ways"], task["tokens"], divergence, task["rounds"])
    return measure_memory(task["way"], task["tokens"], tuple(task["widths"]), divergence)


def bench_memory(kind: str, ways: list[str], quick: bool) -> list[dict[str, Any]]:
    cases = [("ours", tokens, SMALL) for tokens in (2_048, 4_096, 8_192, 16_384)]
    cases += [("dense", tokens, SMALL) for tokens in (1_024, 2_048)]
    cases += [
        (way, tokens, SMALL) for way in ("trl", "liger") if way in ways for tokens in (2_048, 8_192)
    ]
    cases += [("capped", tokens, SMALL) for tokens in (2_048, 16_384)]
    cases += [] if quick else [("ours", tokens, TRUE) for tokens in (2_048, 4_096)]
    print(
        f"{'way':12} {'kind':10} {'tokens':>6} {'student':>7} {'teacher':>7} "
        f"{'beyond MiB':>10} {'net MiB':>8} {'s':>6}"
    )
    rows: list[dict[str, Any]] = []
    for way, tokens, widths in cases:
        row = in_a_process(
            way=way, tokens=tokens, widths=widths, kind="jsd" if way == "liger" else kind
        )
        print(
            "{way:12} {kind:10} {tokens:6} {student:7} {teacher:7} {beyond_mib:10} "
            "{net_mib:8} {seconds:6}".format(**row),
            flush=True,
        )
        rows.append(row)
    return rows


def bench_time(given: argparse.Namespace, ways: list[str]) -> list[dict[str, Any]]:
    ways = [way for way in ways if way not in CAPPED]
    others = [way for way in ways if way != "liger"]
    usual = {"kind": given.kind, "tokens": given.tokens, "rounds": given.rounds}
    tasks = [usual | {"ways": others}, usual | {"ways": CAPPED}]
    if not given.quick:
        tasks += [{"kind": "jsd", "ways": ways, "tokens": given.tokens, "rounds": 1}]
        tasks += [
            {"kind": given.kind, "ways": ["ours", "dense"], "tokens": 2 * given.tokens, "rounds": 1}
        ]
    rows: list[dict[str, Any]] = []
    for task in tasks:
        row = in_a_process(**task)
        print(
            f"{row['kind']} · {row['tokens']} tokens · {row['rounds']} rounds · seconds "
            f"{row['seconds']} · the first to {row['ours_to']}",
            flush=True,
        )
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--tokens", type=int, default=512, help="for the timing; also twice as many"
    )
    parser.add_argument("--kind", choices=["forward_kl", "reverse_kl", "jsd"], default="reverse_kl")
    parser.add_argument(
        "--quick", action="store_true", help="no memory at the true widths, one timing"
    )
    parser.add_argument("--task", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        print(json.dumps(do_task(json.loads(given.task))))
        return
    ways = available()
    memory = bench_memory(given.kind, ways, given.quick)
    timing = bench_time(given, ways)
    ratio = memory[3]["net_mib"] / memory[0]["net_mib"]
    print(
        json.dumps(
            {
                "vocabulary": VOCABULARY,
                "memory": memory,
                "time": timing,
                "memory_16k_to_2k": round(ratio, 3),
            }
        )
    )
    assert ratio <= 1.3, f"memory grew {ratio:.2f}-fold from 2k to 16k tokens"


if __name__ == "__main__":
    main()
