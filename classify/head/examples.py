"""What a linear head is trained on: patients' images as inputs, and the sum of their gradients.

The loss has the gradient outer(residual, x), so per-image gradients cost nothing: they are averaged
inside a patient, clipped and summed in closed form.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from classify.config import LinearLoss
from synthdp.privacy.clipping import clip_rows, unit_means

#: Share of the clip norm up to which a bound on a gradient's length is beyond doubt.
_SURELY_SHORT = 1 - 1e-5


@dataclass(frozen=True)
class Examples:
    """Inputs of a head: one row an image.

    inputs: (N, D) float32; targets: (N, T) float32 in {0, 1}, nan unknown; units: (N,) int64,
    the patient that each image belongs to, counted from 0; loss: of the head; tags: a secret name
    for each patient, needed where patients are sampled.
    """

    inputs: Tensor
    targets: Tensor
    units: Tensor
    loss: LinearLoss = "logistic"
    tags: Sequence[bytes] = ()

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
            return self._explicit_sum(weights, None)
        towards = residuals(self.clean_inputs @ weights.T, self.targets, self.loss)
        lengths = towards.double().norm(dim=1) * self._input_norms
        shares = self._shares
        bounds = shares.new_zeros(self.n_units).index_add_(0, self.units, shares * lengths)
        short = bounds <= clip_norm * _SURELY_SHORT  # false for what is not finite
        counted = torch.where(short, 1.0, 0.0)[self.units] * shares
        parts = torch.where(counted.unsqueeze(1) > 0, counted.unsqueeze(1) * towards, 0.0)
        total: Tensor = parts.to(weights.dtype).T @ self.clean_inputs
        if not bool(short.all()):
            total = total + self.of(torch.nonzero(~short).flatten())._explicit_sum(
                weights, clip_norm
            )
        return total

    def _explicit_sum(self, weights: Tensor, clip_norm: float | None) -> Tensor:
        means = unit_means(self.gradients(weights), self.units, self.n_units)
        rows = means if clip_norm is None else clip_rows(means, clip_norm)
        return rows.sum(dim=0).reshape(weights.shape)

    @cached_property
    def clean_inputs(self) -> Tensor:
        """The inputs, with zeros for an image that is not finite; such an image is clipped out."""
        finite = torch.isfinite(self.inputs).all(dim=1, keepdim=True)
        return torch.where(finite, self.inputs, torch.zeros_like(self.inputs))

    @cached_property
    def _input_norms(self) -> Tensor:
        """Norms of the inputs, (N,) float64, not finite where an input isn't."""
        norms: Tensor = torch.linalg.vector_norm(self.inputs, dim=1, dtype=torch.float64)
        return norms

    @cached_property
    def _shares(self) -> Tensor:
        """What each image counts in the mean of its patient, (N,) float64."""
        counts = torch.bincount(self.units, minlength=self.n_units)
        return counts[self.units].double().reciprocal()

    def of(self, drawn: Tensor) -> "Examples":
        """The images of the patients `drawn`, (K,) int64 ascending, counted anew from 0."""
        kept = torch.isin(self.units, drawn)
        return replace(
            self,
            inputs=self.inputs[kept],
            targets=self.targets[kept],
            units=torch.searchsorted(drawn, self.units[kept]),
            tags=(),
        )

    @property
    def n_units(self) -> int:
        """How many patients there are (private)."""
        return int(self.units.max()) + 1 if len(self.units) else 0


@dataclass(frozen=True)
class PublicExamples:
    """Images that cost no privacy here (phantoms, or synthetic ones already in the lineage).

    weight: of their mean gradient, beside the patients'; sampling_rate: chance of each made-up
    patient to take part in a step; seed: of the draws, which need not be secret.
    """

    examples: Examples
    weight: float
    sampling_rate: float = 1.0
    seed: int = 0

    def mean(self, weights: Tensor, step: int) -> Tensor:
        """Mean gradient of those drawn for a step, by the number expected; as `weights`."""
        known = self.examples
        if self.sampling_rate < 1:
            chances = np.random.default_rng([self.seed, step]).random(known.n_units)
            known = known.of(torch.from_numpy(np.flatnonzero(chances < self.sampling_rate)))
        total = private_sum(weights, known, clip_norm=None)
        return total / (self.sampling_rate * self.examples.n_units)


def residuals(logits: Tensor, targets: Tensor, loss: LinearLoss) -> Tensor:
    """The derivative of an image's loss by its logits, (N, T); zero for an unknown target.

    With s = 2 y - 1 and z the logit: `logistic`, softplus(z) - y z, gives sigmoid(z) - y;
    `least_squares`, (z - s)^2 / 4, gives (z - s) / 2; `class_means`, -s z / 2, gives -s / 2, so
    that weights from zero become a multiple of the difference of the classes' sums. At z = 0 all
    three are equal.
    """
    if loss == "logistic":
        found = torch.sigmoid(logits) - targets
    else:
        signs = 2 * targets - 1
        found = (logits - signs if loss == "least_squares" else -signs) / 2
    return torch.where(torch.isnan(targets), torch.zeros_like(found), found)


def image_gradients(
    weights: Tensor, inputs: Tensor, targets: Tensor, loss: LinearLoss = "logistic"
) -> Tensor:
    """Per-image gradients of a linear head's loss, (N, T * D); an unknown target gives zero.

    Formula: with logits z = W x, d/dW of the loss is outer(dloss/dz, x).
    """
    towards = residuals(inputs @ weights.T, targets, loss)
    return (towards.unsqueeze(2) * inputs.unsqueeze(1)).flatten(1)


def private_sum(weights: Tensor, examples: Examples, clip_norm: float | None) -> Tensor:
    """Sum over patients of the mean gradient of each, clipped to `clip_norm`; as `weights`.

    Guarantee: with a clip norm, adding or removing one patient moves it by at most that.
    """
    return examples.patient_sum(weights, clip_norm)
