"""The logistic loss with unknown and smoothed targets, and its optimum for a linear head."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def smoothed_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Mean binary cross-entropy over known targets, these pulled towards one half.

    Args:
        logits: (B, T).
        targets: (B, T) of 0, 1 or nan (left out).
        smoothing: 0 keeps the targets, 1 would make them all one half.
    """
    known = ~torch.isnan(targets)
    soft = targets[known] * (1 - smoothing) + smoothing / 2
    total: Tensor = F.binary_cross_entropy_with_logits(logits[known], soft, reduction="sum")
    return total / known.sum().clamp(min=1)


@dataclass(frozen=True)
class FittedHead:
    """weight: (T, D); bias: (T,); loss: its mean loss without the penalty."""

    weight: Tensor
    bias: Tensor
    loss: float


def fit_logistic(
    inputs: Tensor, targets: Tensor, *, l2: float, smoothing: float = 0.0
) -> FittedHead:
    """Logistic regression on all rows at once, to the optimum.

    Minimises the mean loss plus `l2` / 2 times the squared norm of the weights (not the bias).

    Args:
        inputs: (N, D).
        targets: (N, T) of 0, 1 or nan (left out).
        l2: weight of the penalty.
        smoothing: of the targets.
    """
    x, y = inputs.double(), targets.double()
    weight = torch.zeros(y.shape[1], x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(y.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=1000,
        tolerance_grad=1e-8,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        solver.zero_grad()
        penalty = l2 / 2 * weight.square().sum() / y.shape[1]
        value = smoothed_loss(x @ weight.T + bias, y, smoothing) + penalty
        value.backward()
        return value

    solver.step(objective)
    loss = smoothed_loss(x @ weight.T + bias, y, smoothing)
    return FittedHead(weight.detach().float(), bias.detach().float(), float(loss.detach()))
