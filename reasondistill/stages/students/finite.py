"""Whether weights are numbers: asked of what is loaded, of what is kept, and of what a training
goes on from. Imports torch; imported late.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.distributed.tensor import DTensor

# Types that hold NaN and infinity and that torch can search; packed integers of quantised weights
# hold neither.
_SEARCHED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def bad_weight(model: Any) -> str | None:
    """The name of a weight that holds NaN or infinity, None where all are finite.

    Of weights that are split over processes each one looks at its own part.
    """
    return _bad(model.named_parameters())


def bad_weight_on_disk(folder: Path) -> str | None:
    """The same of the safetensors in a folder, read one weight at a time; what was kept in another
    format is not looked at.
    """
    for file in sorted(folder.glob("*.safetensors")):
        name = _bad(_tensors(file))
        if name is not None:
            return name
    return None


def names_on_disk(folder: Path) -> set[str]:
    """The names of the weights in a folder's safetensors."""
    names: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            names.update(tensors.keys())
    return names


def _tensors(file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(file, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a dict: it cannot be iterated
            yield name, tensors.get_tensor(name)


@torch.no_grad()
def _bad(tensors: Iterable[tuple[str, torch.Tensor]]) -> str | None:
    for name, tensor in tensors:
        if isinstance(tensor, DTensor):  # split by FSDP
            tensor = tensor.to_local()
        if tensor.numel() == 0 or tensor.dtype not in _SEARCHED:
            continue
        # NaN goes through both, and neither needs room for as many answers as there are weights.
        least, most = torch.aminmax(tensor)
        if not (torch.isfinite(least) and torch.isfinite(most)):
            return name
    return None
