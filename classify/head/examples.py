"""What a head is trained on: patients' images as inputs, and the sum of their clipped gradients.

A patient's gradient is the mean over its images, clipped as one vector
(`synthdp.privacy.clipping`). It is seldom made: the gradient of a linear layer for an image is the
outer product of what comes back and what came in, so that norms follow from inner products
(*Efficient Per-Example Gradient Computations*, arXiv 1510.01799, for single images), and the
clipped sum from one weighted product.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from classify.config import LinearLoss
from synthdp.privacy.clipping import clip_factors, clip_rows, surely_unclipped, unit_means

#: Inner products lose digits where a patient's images cancel: this share of the norm that they
#: would have without cancelling is added, so that rounding makes no norm too small.
_CANCELLING = 1e-6


@dataclass(frozen=True)
class HeadExamples:
    """Examples of a linear head, whose weights are (T, D); one row an image.

    inputs: (N, D) float32; targets: (N, T) float32 in {0, 1}, nan unknown; units: (N,) int64,
    the patient that each image belongs to, counted from 0; loss: of the head; tags: a secret name
    for each patient, needed where patients are sampled.
    """

    inputs: Tensor
    targets: Tensor
    units: Tensor
    loss: LinearLoss = "logistic"
    tags: Sequence[bytes] = ()

    @property
    def n_units(self) -> int:
        """How many patients there are (private)."""
        return int(self.units.max()) + 1 if len(self.units) else 0

    def of(self, drawn: Tensor) -> "HeadExamples":
        """The images of the patients `drawn`, (K,) int64 ascending, counted anew from 0."""
        kept = torch.isin(self.units, drawn)
        return replace(
            self,
            inputs=self.inputs[kept],
            targets=self.targets[kept],
            units=torch.searchsorted(drawn, self.units[kept]),
            tags=(),
        )

    def gradients(self, weights: Tensor) -> Tensor:
        """Per-image gradients at weights (T, D): (N, T * D), rows as in `units`."""
        return image_gradients(weights, self.inputs, self.targets, self.loss)

    def patient_sum(self, weights: Tensor, clip_norm: float | None) -> Tensor:
        """As `private_sum`.

        A patient whose images' gradients are short enough is never clipped, whatever their
        directions: such patients are summed by one product, without a gradient being made. With
        inputs of norm 1 that is nearly everybody.
        """
        if clip_norm is None:
            return self.explicit_sum(weights, None)
        # An image's gradient, outer(residual, x), is as long as the residual times the input. The
        # mean of these lengths over a patient's images bounds the length of the mean gradient.
        towards = residuals(self.clean_inputs @ weights.T, self.targets, self.loss)
        lengths = towards.double().norm(dim=1) * self._input_norms
        shares = self.shares
        bounds = shares.new_zeros(self.n_units).index_add_(0, self.units, shares * lengths)
        short = surely_unclipped(bounds, clip_norm)
        counted = torch.where(short, 1.0, 0.0)[self.units] * shares
        parts = torch.where(counted.unsqueeze(1) > 0, counted.unsqueeze(1) * towards, 0.0)
        total: Tensor = parts.to(weights.dtype).T @ self.clean_inputs
        if not bool(short.all()):
            total = total + self.of(torch.nonzero(~short).flatten()).explicit_sum(
                weights, clip_norm
            )
        return total

    def explicit_sum(self, weights: Tensor, clip_norm: float | None) -> Tensor:
        """As `private_sum`, over gradients that are all made."""
        means = unit_means(self.gradients(weights), self.units, self.n_units)
        rows = means if clip_norm is None else clip_rows(means, clip_norm)
        return rows.sum(dim=0).reshape(weights.shape)

    @cached_property
    def clean_inputs(self) -> Tensor:
        """The inputs, with zeros for an image that is not finite; such an image is clipped out."""
        finite = torch.isfinite(self.inputs).all(dim=1, keepdim=True)
        return torch.where(finite, self.inputs, torch.zeros_like(self.inputs))

    @cached_property
    def shares(self) -> Tensor:
        """What each image counts in the mean of its patient, (N,) float64."""
        counts = torch.bincount(self.units, minlength=self.n_units)
        return counts[self.units].double().reciprocal()

    @cached_property
    def _input_norms(self) -> Tensor:
        """Norms of the inputs, (N,) float64, not finite where an input isn't."""
        norms: Tensor = torch.linalg.vector_norm(self.inputs, dim=1, dtype=torch.float64)
        return norms


def residuals(logits: Tensor, targets: Tensor, loss: LinearLoss) -> Tensor:
    """The derivative of an image's loss by its logits, (N, T); zero for an unknown target.

    With s = 2 y - 1 and z the logit: `logistic`, softplus(z) - y z, gives sigmoid(z) - y;
    `least_squares`, (z - s)^2 / 4, gives (z - s) / 2; `class_means`, -s z / 2, gives -s / 2, so
    that weights from zero become a multiple of the difference of the classes' sums. At z = 0 all
    three are equal.
    """
    if loss == "logistic":
        derivative = torch.sigmoid(logits) - targets
    else:
        signs = 2 * targets - 1
        derivative = (logits - signs if loss == "least_squares" else -signs) / 2
    return torch.where(torch.isnan(targets), torch.zeros_like(derivative), derivative)


def image_gradients(
    weights: Tensor, inputs: Tensor, targets: Tensor, loss: LinearLoss = "logistic"
) -> Tensor:
    """Per-image gradients of a linear head's loss, (N, T * D); an unknown target gives zero.

    Formula: with logits z = W x, d/dW of the loss is outer(dloss/dz, x).
    """
    towards = residuals(inputs @ weights.T, targets, loss)
    return (towards.unsqueeze(2) * inputs.unsqueeze(1)).flatten(1)


def private_sum(weights: Tensor, examples: HeadExamples, clip_norm: float | None) -> Tensor:
    """Sum over patients of the mean gradient of each, clipped to `clip_norm`; as `weights`.

    Guarantee: with a clip norm, adding or removing one patient moves it by at most that.
    """
    return examples.patient_sum(weights, clip_norm)


@dataclass(frozen=True)
class PublicExamples:
    """Images that cost no privacy here (phantoms, or synthetic ones already in the lineage).

    weight: of their mean gradient, beside the patients'; sampling_rate: chance of each made-up
    patient to take part in a step; seed: of the draws, which need not be secret.
    """

    examples: HeadExamples
    weight: float
    sampling_rate: float = 1.0
    seed: int = 0

    def mean(self, weights: Tensor, step: int) -> Tensor:
        """Mean gradient of those drawn for a step, by the number expected; as `weights`."""
        drawn = self.examples
        if self.sampling_rate < 1:
            chances = np.random.default_rng([self.seed, step]).random(drawn.n_units)
            drawn = drawn.of(torch.from_numpy(np.flatnonzero(chances < self.sampling_rate)))
        total = private_sum(weights, drawn, clip_norm=None)
        return total / (self.sampling_rate * self.examples.n_units)


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
class MlpExamples(HeadExamples):
    """Examples of a head with one hidden layer, whose weights are one flat vector, (P,)."""

    shape: MlpShape = field(kw_only=True)
    smoothing: float = 0.0

    def patient_sum(self, weights: Tensor, clip_norm: float | None) -> Tensor:
        """As `private_sum`: (P,).

        Guarantee: with a clip norm, adding or removing one patient moves it by at most that; a
        patient with an image that is not finite counts as zero.
        """
        first, second = self.shape.split(weights)
        inputs = self.clean_inputs
        before = inputs @ first.T
        hidden = torch.cat([before.relu(), inputs.new_ones(len(inputs), 1)], dim=1)
        targets = self.targets * (1 - self.smoothing) + self.smoothing / 2
        back = residuals(hidden @ second.T, targets, "logistic")
        back_hidden = (back @ second[:, :-1]) * (before > 0)
        # An image's gradient of a layer is outer(back, came). With each image's share of its
        # patient's mean in what comes back, a patient's gradient is the sum over its images.
        shares = self.shares.to(torch.float32).unsqueeze(1)
        layers = [(back_hidden * shares, inputs), (back * shares, hidden)]
        factors = torch.ones(self.n_units, dtype=torch.float64)
        if clip_norm is not None:
            factors = clip_factors(self._norms(layers), clip_norm)
        # A patient's factor scales what comes back for each of its images: one product a layer
        # then clips and sums over everybody.
        scale = factors[self.units].unsqueeze(1).to(inputs)
        sums = [_or_zero(scale, scale * out).T @ _or_zero(scale, came) for out, came in layers]
        return torch.cat([total.flatten() for total in sums])

    @cached_property
    def _pairs(self) -> tuple[Tensor, Tensor]:
        """All ordered pairs of images of one patient, an image with itself too; (Q,) int64 each."""
        order = torch.argsort(self.units, stable=True)
        counts = torch.bincount(self.units, minlength=self.n_units)
        ends = torch.cumsum(counts, dim=0)
        sizes = counts[self.units[order]]  # of the patient of each image, images by patient
        firsts = order.repeat_interleave(sizes)
        # the second image of a pair runs from the patient's first image to its last one
        starts = (ends - counts)[self.units[order]].repeat_interleave(sizes)
        runs = torch.arange(len(firsts)) - (torch.cumsum(sizes, 0) - sizes).repeat_interleave(sizes)
        return firsts, order[starts + runs]

    @cached_property
    def _input_products(self) -> Tensor:
        """Inner products of the inputs of each pair, (Q,) float64; nan where one is not finite."""
        first, second = self._pairs
        return (self.inputs[first] * self.inputs[second]).sum(dim=1, dtype=torch.float64)

    def _norms(self, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Norms of the patients' gradients, (U,) float64, never too small.

        The squared norm of a sum of outer products is the sum over all pairs of them of the inner
        product of what comes back times that of what came in.

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
