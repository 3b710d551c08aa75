"""From hidden states to logits, a few rows at a time.

A vocabulary of 151,936 makes one float32 tensor of 16k tokens 10 GB. So everything here works on
chunks, whose logits live in one buffer that is used again and again, and inside a chunk on blocks
of a few rows, whose temporaries stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reasondistill.errors import ConfigError

# 256 MiB of float32. Smaller chunks add to the gradient of the head more often, which is bound by
# memory, not by arithmetic.
CHUNK_ELEMENTS = 2**26
# 16 MiB of float32: log_softmax and exp over such blocks ran 2.5 to 4 times faster on a CPU (L3 32
# MiB) than over a chunk of 128 MiB.
BLOCK_ELEMENTS = 2**22
# torch.addmm(out_dtype=float32) came with torch 2.8, for CUDA only.
_ADDS_HALVES_EXACTLY = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 8)


@dataclass(frozen=True)
class PostProcessing:
    """What a model does to the products of hidden states and head before they are its logits:

        logit = cap·tanh(scale·product/cap),    or scale·product without a cap.

    Cohere and Falcon-H1 scale, Granite divides, Gemma 2 caps (arXiv 2408.00118, section 2).
    """

    scale: float = 1.0
    cap: float | None = None

    @property
    def is_nothing(self) -> bool:
        return self.scale == 1 and self.cap is None

    def apply_(self, products: Tensor) -> Tensor:
        """The logits, written over the products."""
        if self.cap is None:
            return products.mul_(self.scale)
        return products.mul_(self.scale / self.cap).tanh_().mul_(self.cap)

    def slope(self, logits: Tensor) -> Tensor | float:
        """d logit / d product, from the logits: scale·(1 − (logit/cap)²)."""
        if self.cap is None:
            return self.scale
        bent = (logits / self.cap).square_()
        return bent.neg_().add_(1).mul_(self.scale)


@dataclass(frozen=True)
class Head:
    """What makes logits of hidden states: `weight` (vocab, hidden), `bias` (vocab,), and what comes
    after them. Tied to the embedding or not makes no difference here.
    """

    weight: Tensor
    bias: Tensor | None = None
    post_processing: PostProcessing = PostProcessing()


@dataclass(frozen=True)
class Projection:
    """Hidden states and the head that turns them into logits, both in the type that the product is
    made in.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    post_processing: PostProcessing

    def write(self, rows: slice, buffer: Tensor) -> Tensor:
        """The logits of these rows, written over the first rows of `buffer`: a view of it, (rows,
        vocabulary).
        """
        hidden = self.hidden[rows]
        out = buffer[: len(hidden)]
        if hidden.dtype == out.dtype:
            torch.mm(hidden, self.weight.T, out=out)
        else:
            out.copy_(hidden @ self.weight.T)
        if self.bias is not None:
            out.add_(self.bias)
        if not self.post_processing.is_nothing:
            for block in blocks(out):
                self.post_processing.apply_(out[block])
        return out


def project(hidden: Tensor, head: Head, vocabulary: int) -> Projection:
    """The projection to the first `vocabulary` rows of a head, in the hidden states' type, or
    autocast's where that is on.
    """
    if hidden.ndim != 2 or head.weight.ndim != 2 or hidden.shape[1] != head.weight.shape[1]:
        raise ValueError(
            f"hidden states {tuple(hidden.shape)} and head {tuple(head.weight.shape)}: want "
            "(N, hidden) and (vocab, hidden)"
        )
    if not 0 < vocabulary <= len(head.weight):
        raise ConfigError(
            f"vocabulary is {vocabulary:,}, but the head has {len(head.weight):,} rows. "
            "Give at most the smaller head's rows"
        )
    kind = hidden.device.type
    dtype = hidden.dtype
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    weight = head.weight.detach()[:vocabulary].to(dtype)
    bias: Tensor | None = None
    if head.bias is not None:
        bias = head.bias.detach()[:vocabulary]
    return Projection(hidden.detach().to(dtype), weight, bias, head.post_processing)


@torch.no_grad()
def logits_of(hidden: Tensor, head: Head, vocabulary: int) -> Tensor:
    """The logits of a few rows at once, (N, vocabulary), as losses make them chunk by chunk."""
    whole = new_buffer(hidden, vocabulary, len(hidden))
    return project(hidden, head, vocabulary).write(slice(None), whole)


def exact_dtype(hidden: Tensor) -> torch.dtype:
    """What losses are computed in: float32, or float64 for float64 inputs."""
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def new_buffer(hidden: Tensor, vocabulary: int, chunk_tokens: int) -> Tensor:
    """Room for the logits of one chunk."""
    return torch.empty(
        min(chunk_tokens, len(hidden)), vocabulary, dtype=exact_dtype(hidden), device=hidden.device
    )


def default_chunk(vocabulary: int, count: int) -> int:
    """Rows of a chunk of `count`, about 441 for a vocabulary of 151,936. All alike: a short last
    one would read both heads once more.
    """
    usual = max(1, CHUNK_ELEMENTS // vocabulary)
    number = max(1, round(count / usual))
    return max(1, math.ceil(count / number))


def chunks(count: int, size: int) -> Iterator[slice]:
    """`slice(0, size)`, `slice(size, 2·size)`, … up to count."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def blocks(logits: Tensor) -> Iterator[slice]:
    """The rows of a chunk in groups whose temporaries are small."""
    return chunks(len(logits), max(1, BLOCK_ELEMENTS // logits.shape[1]))


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right in float32 (or float64), whatever the operands' type.

    Products that are rounded to bfloat16 before they are added drift: TRL saw a student's entropy
    sink over a few dozen steps.
    """
    half = right.dtype in (torch.float16, torch.bfloat16)
    if half and total.device.type == "cuda" and _ADDS_HALVES_EXACTLY:
        # Float32 products cost about ten times as much there; this one takes halves and adds in
        # float32.
        torch.addmm(total, left.to(right.dtype), right, out_dtype=torch.float32, out=total)
    else:
        total.addmm_(left, right.to(total.dtype))
