"""The order in which a training goes through its rows: of seed and epoch alone, on any machine."""

from __future__ import annotations


def order_of_epoch(count: int, seed: int, epoch: int) -> list[int]:
    """Each of so many rows once."""
    import torch

    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(count, generator=generator).tolist()
