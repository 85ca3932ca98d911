"""Low-rank additions to linear layers, `W + B A`, of which B and A alone are trained (LoRA).

*LoRA: Low-Rank Adaptation of Large Language Models*, arXiv 2106.09685, section 4.1. Both factors
are linear layers of their own, so that whatever gives per-image gradients of a linear layer gives
theirs. After training the product is merged into W, and nothing of this file is left in a model.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from synthdp.errors import InputError


class LowRankLinear(nn.Module):
    """A frozen linear layer, (E, D), and its trained addition: `y = W x + b + B A x`.

    `up` holds B, (E, r), zeros at first, so that training begins with W itself. `down` holds A,
    (r, D), Gaussian of variance 1 / r. That stands for the paper's factor alpha / r: the mean of
    A^T A is the identity, so that B's gradient G A^T is in mean square as long as W's gradient G,
    and a first step moves `W + B A` in the mean as the same step would move W, whatever the rank.
    So the units and the clip norm of a training of W suit one of B and A; its learning rate does
    where few directions of x hold most of it, and has to fall towards r / D of it where none do.
    """

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        device = linear.weight.device
        self.linear = linear.requires_grad_(False)
        self.down = skip_init(nn.Linear, linear.in_features, rank, bias=False, device=device)
        self.up = skip_init(nn.Linear, rank, linear.out_features, bias=False, device=device)
        start = torch.randn(rank, linear.in_features, generator=generator) / math.sqrt(rank)
        self.down.weight.data.copy_(start)
        self.up.weight.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (..., D) to outputs (..., E)."""
        y: Tensor = self.linear(x) + self.up(self.down(x))
        return y

    def merged(self) -> nn.Linear:
        """The layer with the weight `W + B A`, which counts as trained."""
        with torch.no_grad():
            self.linear.weight += self.up.weight @ self.down.weight
        self.linear.weight.requires_grad_(True)
        return self.linear


def add_low_rank(network: nn.Module, rank: int, generator: torch.Generator) -> None:
    """Give each frozen linear layer inside `network` an addition of rank `rank`, in place.

    Args:
        network: whose linear layers without a trained weight become `LowRankLinear`.
        rank: r, below both sides of every matrix.
        generator: public; what A is drawn from, layer by layer.

    Raises:
        InputError: when the rank is not below a matrix's sides; names the layer.
    """
    for name, layer in list(network.named_modules()):
        if not isinstance(layer, nn.Linear) or layer.weight.requires_grad:
            continue
        if rank >= min(layer.weight.shape):
            sides = " x ".join(map(str, layer.weight.shape))
            raise InputError(
                f"network.lora_rank is {rank}, but the layer {name} is a matrix of {sides}; take a "
                "smaller rank, such as 4, or network.tune: blocks"
            )
        network.set_submodule(name, LowRankLinear(layer, rank, generator))


def merge_low_rank(network: nn.Module) -> None:
    """Put linear layers in the place of all `LowRankLinear` inside `network`, their sums merged.

    What `network` computes stays the same, up to rounding.
    """
    for name, layer in list(network.named_modules()):
        if isinstance(layer, LowRankLinear):
            network.set_submodule(name, layer.merged())
