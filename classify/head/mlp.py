"""A small multi-layer perceptron as head, its patients' gradients clipped without being made.

The gradient of a linear layer for an image is the outer product of what comes back and what came
in, so the squared norm of a patient's mean gradient is a sum over pairs of the patient's images of
products of two inner products (*Efficient Per-Example Gradient Computations*, arXiv 1510.01799,
for single images), and the clipped sum follows from one weighted product a layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from classify.head.examples import Examples, residuals
from synthdp.privacy.clipping import clip_factors

#: Inner products lose digits where a patient's images cancel: this share of the norm that they
#: would have without cancelling is added, so that rounding makes no norm too small.
_CANCELLING = 1e-6


@dataclass(frozen=True)
class MlpShape:
    """D inputs (the last the constant that the bias sees), hidden units, T targets."""

    inputs: int
    hidden: int
    targets: int

    @property
    def size(self) -> int:
        """How many weights there are."""
        return self.hidden * self.inputs + self.targets * (self.hidden + 1)

    def split(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Flat weights to (hidden, D) and (T, hidden + 1), the last column the bias."""
        n_first = self.hidden * self.inputs
        return (
            flat[:n_first].view(self.hidden, self.inputs),
            flat[n_first:].view(self.targets, self.hidden + 1),
        )

    def start(self, seed: int, input_norm: float = 1.0) -> Tensor:
        """Random weights of the first layer, normal with variance 2 / D (arXiv 1502.01852) for
        inputs whose squares sum to D, hence times sqrt(D) / `input_norm` here; zeros of the second.
        """
        generator = torch.Generator().manual_seed(seed)
        first = torch.randn(self.hidden * self.inputs, generator=generator)
        first *= math.sqrt(2) / input_norm
        return torch.cat([first, torch.zeros(self.targets * (self.hidden + 1))])


@dataclass(frozen=True, eq=False)
class MlpExamples(Examples):
    """Examples of an MLP head, whose weights are one flat vector, (P,)."""

    shape: MlpShape | None = None
    smoothing: float = 0.0

    @cached_property
    def _pairs(self) -> tuple[Tensor, Tensor]:
        """All ordered pairs of images of one patient, an image with itself too; (Q,) int64 each."""
        order = torch.argsort(self.units, stable=True)
        counts = torch.bincount(self.units, minlength=self.n_units)
        ends = torch.cumsum(counts, dim=0)
        sizes = counts[self.units[order]]
        firsts = order.repeat_interleave(sizes)
        starts = (ends - counts)[self.units[order]].repeat_interleave(sizes)
        runs = torch.arange(len(firsts)) - (torch.cumsum(sizes, 0) - sizes).repeat_interleave(sizes)
        return firsts, order[starts + runs]

    @cached_property
    def _input_products(self) -> Tensor:
        """Inner products of the inputs of each pair, (Q,) float64; nan where one is not finite."""
        first, second = self._pairs
        return (self.inputs[first] * self.inputs[second]).sum(dim=1, dtype=torch.float64)

    def of(self, drawn: Tensor) -> "MlpExamples":
        """As `Examples.of`."""
        found = super().of(drawn)
        assert isinstance(found, MlpExamples)
        return replace(found, shape=self.shape, smoothing=self.smoothing)

    def patient_sum(self, weights: Tensor, clip_norm: float | None) -> Tensor:
        """As `private_sum`: (P,).

        Guarantee: with a clip norm, adding or removing one patient moves it by at most that; a
        patient with an image that is not finite counts as zero.
        """
        assert self.shape is not None  # `MlpExamples` are made with their shape
        first, second = self.shape.split(weights)
        inputs = self.clean_inputs
        before = inputs @ first.T
        hidden = torch.cat([before.relu(), inputs.new_ones(len(inputs), 1)], dim=1)
        targets = self.targets * (1 - self.smoothing) + self.smoothing / 2
        back = residuals(hidden @ second.T, targets, "logistic")
        back_hidden = (back @ second[:, :-1]) * (before > 0)
        shares = self._shares.to(torch.float32).unsqueeze(1)
        layers = [(back_hidden * shares, inputs), (back * shares, hidden)]
        factors = torch.ones(self.n_units, dtype=torch.float64)
        if clip_norm is not None:
            factors = clip_factors(self._norms(layers), clip_norm)
        scale = factors[self.units].unsqueeze(1).to(inputs)
        sums = [_or_zero(scale, scale * out).T @ _or_zero(scale, came) for out, came in layers]
        return torch.cat([total.flatten() for total in sums])

    def _norms(self, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Norms of the patients' gradients, (U,) float64, never too small.

        Args:
            layers: for each what comes back, (N, E), and what came in, (N, F); the first layer's
                inputs are the examples'.
        """
        first, second = self._pairs
        squares = torch.zeros(self.n_units, dtype=torch.float64)
        for index, (back, came) in enumerate(layers):
            outer = (back[first] * back[second]).sum(dim=1, dtype=torch.float64)
            inner = self._input_products
            if index > 0:
                inner = (came[first] * came[second]).sum(dim=1, dtype=torch.float64)
            products = outer * inner
            squares.index_add_(0, self.units[first], products)
            own = first == second
            lengths = torch.zeros_like(squares).index_add_(
                0, self.units[first][own], products[own].sqrt()
            )
            squares += _CANCELLING * lengths.square()
        return squares.clamp(min=0).sqrt()


def _or_zero(scale: Tensor, values: Tensor) -> Tensor:
    """Rows of values, zero where their scale is: they may hold what is no number."""
    return torch.where(scale > 0, values, torch.zeros_like(values))
