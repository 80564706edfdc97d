"""Muon: momentum whose matrix updates are orthogonalised, for the hidden matrices of the tiny base model.

After Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". With AdamW alone the tiny
model stays for hundreds of steps where it copies nothing from its context; Muon leaves that plateau within a
hundred.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic coefficients of the source: steepest slope at zero


def orthogonalized(matrices: Tensor, iterations: int = 4) -> Tensor:
    """(count, rows, columns) -> for each roughly the nearest semi-orthogonal matrix.

    The source takes five iterations; matrices this small need four.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices / (matrices.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(iterations):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for 2-D parameters only; `lr` is the update's spectral norm."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            same_shape = defaultdict(list)  # stacked: one matrix at a time costs twice as much
            for param in group["params"]:
                same_shape[param.shape].append(param)
            for (rows, columns), params in same_shape.items():
                directions = torch.stack([self._direction(param, group["momentum"]) for param in params])
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for param, update in zip(params, orthogonalized(directions), strict=True):
                    param.add_(update, alpha=-scale)

    def _direction(self, param: nn.Parameter, momentum: float) -> Tensor:
        buffer = self.state[param].setdefault("momentum", torch.zeros_like(param))
        buffer.lerp_(param.grad, 1 - momentum)
        return param.grad.lerp(buffer, momentum)
