"""Muon: momentum, orthogonalised (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/),
for weights learned from scratch.

`torch.optim.Muon` runs its Newton-Schulz steps in bfloat16, which a CPU without bfloat16
instructions emulates 50 times slower, and takes matrices only. This one works in the gradient's own
precision and carries AdamW for embeddings, heads and norms, so that a Trainer saves and restores
one optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


def orthogonalise(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrix, about: quintic Newton-Schulz, singular values end within
    [0.7, 1.2].
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix
    if tall:
        x = matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    if tall:
        return x.T
    return x


class Muon(torch.optim.Optimizer):
    """Muon for hidden matrices, AdamW for the rest.

    The update is scaled by 0.2·√max(rows, columns), which gives it the RMS of an AdamW update (Liu
    et al. 2025, arXiv 2502.16982, eq. 4), so one learning rate serves both.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ) -> None:
        matrices: list[torch.nn.Parameter] = []
        others: list[torch.nn.Parameter] = []
        for name, parameter in named_parameters:
            hidden = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
            if hidden:
                matrices.append(parameter)
            else:
                others.append(parameter)
        groups = [{"params": matrices, "muon": True}, {"params": others, "muon": False}]
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "betas": betas,
            "weight_decay": weight_decay,
            "eps": 1e-8,
        }
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        closure: Callable[[], float] | None = None,
    ) -> float | None:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            loss = closure()
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update(parameter, parameter.grad, group)
        return loss

    def _muon(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        nesterov = gradient.lerp(state["momentum"], group["momentum"])
        step_size = 0.2 * max(parameter.shape) ** 0.5 * group["lr"]
        parameter.add_(orthogonalise(nesterov), alpha=-step_size)

    def _adamw(
        self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]
    ) -> None:
        state = self.state[parameter]
        if not state:
            state.update(
                step=0, first=torch.zeros_like(parameter), second=torch.zeros_like(parameter)
            )
        state["step"] += 1
        beta1, beta2 = group["betas"]
        state["first"].lerp_(gradient, 1 - beta1)
        state["second"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        corrected = state["second"] / (1 - beta2 ** state["step"])
        step_size = group["lr"] / (1 - beta1 ** state["step"])
        parameter.addcdiv_(state["first"], corrected.sqrt().add_(group["eps"]), value=-step_size)
