"""The gradient of one patient, by ordinary backward passes over parts of its images."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def added_gradients(
    parameters: Sequence[Tensor], losses: Iterable[tuple[Tensor, float]]
) -> list[Tensor]:
    """The sum of losses' gradients times their weights: float32, shaped as each parameter.

    The losses are asked for one after another, so that one part's graph is in memory at a time. A
    parameter that is used more than once has one gradient, and one that is not used has zeros.
    """
    total: list[Tensor] = []
    for loss, weight in losses:
        parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        dense = [part.detach().to_dense().float() for part in parts]
        # never in place: autograd may give two parameters one tensor
        if total:
            total = [sum_.add(part, alpha=weight) for sum_, part in zip(total, dense, strict=True)]
        else:
            total = dense if weight == 1 else [part * weight for part in dense]
    return total
