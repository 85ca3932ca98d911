"""What a head is trained on: patients' images as inputs, and the sum of their clipped gradients.

A patient's gradient is the mean over its images, clipped as one vector
(`synthdp.privacy.noisy_sum.clipping`). It is seldom made: the gradient of a linear layer for an
image is the outer product of what comes back and what came in, so that norms follow from inner
products (*Efficient Per-Example Gradient Computations*, arXiv 1510.01799, for single images), and
the clipped sum from one weighted product.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from classify.head.lengths import MOST_PAIRED, Images, Pairs, longest_sums, truncation_errors
from classify.settings.head import LinearLoss
from synthdp.privacy.noisy_sum.clipping import clip_factors, clip_rows, surely_unclipped, unit_means
from synthdp.privacy.noisy_sum.exact import ExactRows, logistic, row_norms
from synthdp.privacy.noisy_sum.lattice import clip_bound, lattice_step, on_lattice, whole_vectors

#: Patients whose gradients are all made at a time, for memory.
_MADE_AT_ONCE = 256
#: Weights up to which clipped gradients are made where most are clipped: of more, that takes longer
#: than all else. A public number, so that no patient decides how another is summed.
_MADE_UP_TO = 1024
#: Clip norm below which a single target's gradients are not made either: an input of norm 1 begins
#: with a gradient of half of that, so that nearly everybody is clipped. A public number, too.
_MADE_FROM_NORM = 0.5
#: Images whose residuals are computed at a time, so that they stay in the processor's cache.
_RESIDUALS_AT_ONCE = 4096


@dataclass(frozen=True)
class HeadExamples:
    """Examples of a linear head, whose weights are (T, D); one row an image.

    inputs: (N, D) float32; targets: (N, T) float32 in {0, 1}, nan unknown; units: (N,) int64,
    the patient that each image belongs to, counted from 0; loss: of the head; tags: a secret name
    for each patient, needed where patients are sampled; positive_weights: (T,) public numbers by
    which the loss of a positive is multiplied, None for 1.
    """

    inputs: Tensor
    targets: Tensor
    units: Tensor
    loss: LinearLoss = "logistic"
    tags: Sequence[bytes] = ()
    positive_weights: Tensor | None = None

    @property
    def n_units(self) -> int:
        """How many patients there are (private)."""
        return int(self.units.max()) + 1 if len(self.units) else 0

    def of(self, drawn: Tensor) -> "HeadExamples":
        """The images of the patients `drawn`, (K,) int64 ascending, counted anew from 0."""
        kept = self.images.of_patients(drawn)
        some = replace(
            self,
            inputs=self.inputs[kept],
            targets=self.targets[kept],
            units=torch.searchsorted(drawn, self.units[kept]),
            tags=(),
        )
        if "rows" in self.__dict__:  # known already: a row is a function of its image alone
            some.__dict__["rows"] = self.rows.some(kept)
        if "pairs" in self.__dict__:
            some.__dict__["pairs"] = self.pairs.of_patients(drawn)
        return some

    def gradients(self, weights: Tensor) -> Tensor:
        """Per-image gradients at weights (T, D): (N, T * D) float64, rows as in `units`.

        Formula: with logits z = W x, d/dW of the loss is outer(dloss/dz, x); zero for an unknown
        target. Each row is a function of its image alone, and not finite where the image isn't.
        """
        towards = self.residuals(self.rows.times(weights))
        return (towards.unsqueeze(2) * self.inputs.double().unsqueeze(1)).flatten(1)

    def residuals(self, logits: Tensor, some: slice = slice(None)) -> Tensor:
        """As `residuals`, of some of the images, whose logits are (n, T)."""
        return residuals(logits, self.targets[some], self.loss, self.positive_weights)

    def patient_sum(self, weights: Tensor, clip_norm: float | None) -> Tensor:
        """As `private_sum`."""
        if clip_norm is None:
            return self.plain_sum(weights)
        return self.patient_sums([weights], clip_norm)[0]

    def patient_sums(self, heads: Sequence[Tensor], clip_norm: float) -> list[Tensor]:
        """As `private_sums`.

        A patient whose images' gradients are short enough is never clipped, whatever their
        directions: such patients are summed by one product, without a gradient being made. With
        inputs of norm 1 that is nearly everybody.
        """
        n_heads, (n_targets, width) = len(heads), heads[0].shape
        clips_most = n_targets > 1 or clip_norm < _MADE_FROM_NORM
        if clips_most and n_targets * width > _MADE_UP_TO:
            return self._factored_sums(heads, clip_norm)
        bound, step = clip_bound(clip_norm, n_targets * width), lattice_step(clip_norm)
        lengths = self.shares.new_empty(len(self.units), n_heads)
        parts = self.shares.new_empty(len(self.units), n_heads, n_targets)

        def weigh(some: slice, logits: Tensor) -> Tensor:
            # An image's gradient, outer(residual, input), is as long as the residual times the
            # input.
            towards, lengths[some] = self._towards(logits, some, n_targets)
            short = (lengths[some] <= bound).unsqueeze(2)
            parts[some] = torch.where(short, self.shares[some].view(-1, 1, 1) * towards, 0.0)
            return parts[some].flatten(1)

        totals = self.rows.sum_weighted_by(torch.cat([*heads]), weigh, step).split(n_targets)
        for index, (weights, total) in enumerate(zip(heads, totals, strict=True)):
            bounds = self._bounds(lengths[:, index])
            long = torch.nonzero(~surely_unclipped(bounds, bound)).flatten()
            for some in long.split(_MADE_AT_ONCE) if len(long) else ():  # none splits into one
                # Whoever may be too long comes out of the sum again, exactly, and is clipped.
                # Integers that have wrapped around on the way are back.
                kept = self.images.of_patients(some)
                total.sub_(self.rows.some(kept).weighted_sum(parts[kept, index], step))
                total.add_(self.of(some).made_sum(weights, clip_norm))
        return [on_lattice(total, clip_norm) for total in totals]

    def _towards(self, logits: Tensor, some: slice, n_targets: int) -> tuple[Tensor, Tensor]:
        """What comes back for some images, whose logits of H heads are (n, H * T), (n, H, T), and
        how long each image's part of its patient's mean gradient is at most, (n, H)."""
        each = logits.unflatten(1, (-1, n_targets))
        targets = self.targets[some].unsqueeze(1).expand_as(each)
        towards = residuals(each, targets, self.loss, self.positive_weights).double()
        norms = row_norms(towards.reshape(-1, n_targets)).view(towards.shape[:2])
        shares, rows = self.shares[some].unsqueeze(1), self.rows.norms[some].unsqueeze(1)
        return towards, shares * norms * rows

    def _bounds(self, lengths: Tensor) -> Tensor:
        """Upper bounds on the lengths of the patients' mean gradients, (U,), from their images'.

        The mean of lengths bounds the length of the mean. An image that is not finite has no row;
        its patient is to be clipped to zero.
        """
        bounds = lengths.new_zeros(self.n_units).index_add_(0, self.units, lengths)
        return bounds.index_fill_(0, self.units[self.rows.scales == 0], math.inf)

    def _factored_sums(self, heads: Sequence[Tensor], clip_norm: float) -> list[Tensor]:
        """As `private_sums`, without a gradient being made.

        Of several targets, or to a small norm, nearly everybody is clipped where a training begins.
        What a patient's mean gradient is scaled by follows from its length, and scales the
        residuals of its images: one product then clips and sums over everybody.
        """
        n_targets = len(heads[0])
        step = lattice_step(clip_norm)
        parts = self.rows.times(torch.cat([*heads])).unflatten(1, (-1, n_targets))
        lengths = self.shares.new_empty(parts.shape[:2])
        for start in range(0, len(parts), _RESIDUALS_AT_ONCE):
            some = slice(start, start + _RESIDUALS_AT_ONCE)
            towards, lengths[some] = self._towards(parts[some].flatten(1), some, n_targets)
            parts[some] = self.shares[some].view(-1, 1, 1) * towards
        for index, weights in enumerate(heads):
            factors = self._factors(parts[:, index], lengths[:, index], weights.numel(), clip_norm)
            parts[:, index] = _scaled(parts[:, index], factors[self.units].unsqueeze(1))
        totals = self.rows.weighted_sum(parts.flatten(1), step).split(n_targets)
        return [on_lattice(total, clip_norm) for total in totals]

    def _factors(self, parts: Tensor, lengths: Tensor, size: int, clip_norm: float) -> Tensor:
        """What each patient's mean gradient, of `size` numbers, is to be scaled by, (U,).

        parts: (N, T) of its images; lengths: (N,), how long each makes it at most.
        """
        bound = clip_bound(clip_norm, size)
        bounds = self._bounds(lengths)
        factors = torch.where(surely_unclipped(bounds, bound), 1.0, clip_factors(bounds, bound))
        # The mean of lengths is the length of one image's gradient; of several, more than that.
        several = (self.images.counts > 1) & (self.images.counts <= MOST_PAIRED)
        long = torch.nonzero(several & (factors > 0) & (factors < 1)).flatten()
        if len(long):
            longest = longest_sums(self.pairs, self.images, long, parts, lengths)
            # rounding the parts of images that cancel may add to their sum: room is left for it
            step = lattice_step(clip_norm)
            added = truncation_errors(self.rows, self.images, long, step)
            added *= math.sqrt(parts.shape[1])
            longest = torch.where(added < bound / 2, longest * bound / (bound - added), math.inf)
            factors[long] = torch.maximum(factors[long], clip_factors(longest, bound))
        return factors

    def made_sum(self, weights: Tensor, clip_norm: float) -> Tensor:
        """The clipped sum over gradients that are all made, as weights, in finer steps."""
        means = unit_means(self.gradients(weights), self.units, self.n_units)
        rows = clip_rows(means, clip_bound(clip_norm, weights.numel()))
        return whole_vectors(rows, clip_norm).sum(dim=0).reshape(weights.shape)

    def plain_sum(self, weights: Tensor) -> Tensor:
        """The sum of the patients' mean gradients as they are, float32, as weights."""
        towards = self.residuals(self.inputs @ weights.T)
        parts = (self.shares.unsqueeze(1) * towards.double()).to(weights.dtype)
        return parts.T @ self.inputs

    def plain_sums(self, heads: Sequence[Tensor]) -> list[Tensor]:
        """`plain_sum` of several heads by one product, whose float32 sums round otherwise."""
        if len(heads) == 1:
            return [self.plain_sum(heads[0])]
        n_targets = len(heads[0])
        logits = (self.inputs @ torch.cat([*heads]).T).unflatten(1, (-1, n_targets))
        targets = self.targets.unsqueeze(1).expand_as(logits)
        towards = residuals(logits, targets, self.loss, self.positive_weights)
        parts = (self.shares.view(-1, 1, 1) * towards.double()).to(heads[0].dtype)
        return [*(parts.flatten(1).T @ self.inputs).split(n_targets)]

    @cached_property
    def images(self) -> Images:
        """Which images each patient has."""
        return Images.of(self.units, self.n_units)

    @cached_property
    def pairs(self) -> Pairs:
        """Inner products of the images of each patient."""
        return Pairs.of(self.rows, self.images)

    @cached_property
    def rows(self) -> ExactRows:
        """The inputs as rows whose products are exact, and zero where they are not finite."""
        return ExactRows.of(self.inputs)

    @cached_property
    def shares(self) -> Tensor:
        """What each image counts in the mean of its patient, (N,) float64."""
        counts = torch.bincount(self.units, minlength=self.n_units)
        return counts[self.units].double().reciprocal()


def residuals(
    logits: Tensor, targets: Tensor, loss: LinearLoss, positive_weights: Tensor | None = None
) -> Tensor:
    """The derivative of an image's loss by its logits, (..., T); zero for an unknown target.

    With s = 2 y - 1 and z the logit: `logistic`, softplus(z) - y z, gives sigmoid(z) - y;
    `least_squares`, (z - s)^2 / 4, gives (z - s) / 2; `class_means`, -s z / 2, gives -s / 2, so
    that weights from zero become a multiple of the difference of the classes' sums. At z = 0 all
    three are equal. With weights, (T,), that of a positive is multiplied by its target's.
    """
    if loss == "logistic":
        derivative = logistic(logits).to(logits.dtype) - targets
    else:
        signs = 2 * targets - 1
        derivative = (logits - signs if loss == "least_squares" else -signs) / 2
    if positive_weights is not None:
        weights = positive_weights.to(derivative.dtype)
        derivative = torch.where(targets > 0.5, derivative * weights, derivative)
    return torch.where(torch.isnan(targets), torch.zeros_like(derivative), derivative)


def private_sum(weights: Tensor, examples: HeadExamples, clip_norm: float | None) -> Tensor:
    """Sum over patients of the mean gradient of each, clipped to `clip_norm`; as `weights`.

    With a clip norm it is on that norm's lattice (`synthdp.privacy.noisy_sum.lattice`), in float64.

    Guarantee: with a clip norm, adding or removing one patient moves it by at most that, whoever
    else is there: what is rounded is an exact sum.
    """
    return examples.patient_sum(weights, clip_norm)


def private_sums(heads: Sequence[Tensor], examples: HeadExamples, clip_norm: float) -> list[Tensor]:
    """`private_sum` of several heads of one shape on the same patients, by products for all.

    Guarantee: each is that of its head alone, to the last bit, and so keeps that one's: products
    of whole numbers are exact in any order, and all else is computed by the row and the head.
    """
    return examples.patient_sums(heads, clip_norm)


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
        drawn = self._drawn(step)
        total = private_sum(weights, drawn, clip_norm=None)
        return total / (self.sampling_rate * self.examples.n_units)

    def means(self, heads: Sequence[Tensor]) -> list[Tensor]:
        """`mean` of several heads of one shape where all take part, by one product.

        Sums of float32 round otherwise than those of a head alone: relatively by about 2^-24 times
        the root of the number of images. They are public, so that no promise depends on that.
        """
        assert self.sampling_rate == 1
        totals = self.examples.plain_sums(heads)
        return [total / self.examples.n_units for total in totals]

    def _drawn(self, step: int) -> HeadExamples:
        drawn = self.examples
        if self.sampling_rate < 1:
            chances = np.random.default_rng([self.seed, step]).random(drawn.n_units)
            drawn = drawn.of(torch.from_numpy(np.flatnonzero(chances < self.sampling_rate)))
        return drawn


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

    def patient_sums(self, heads: Sequence[Tensor], clip_norm: float) -> list[Tensor]:
        """As `private_sums`, one after the other: each head has hidden units of its own."""
        return [self.patient_sum(weights, clip_norm) for weights in heads]

    def patient_sum(self, weights: Tensor, clip_norm: float | None) -> Tensor:
        """As `private_sum`: (P,).

        A patient is clipped by the mean length of its images' gradients, which the length of its
        mean gradient never exceeds, so that no gradient has to be made.

        Guarantee: with a clip norm, adding or removing one patient moves it by at most that; a
        patient with an image that is not finite counts as zero.
        """
        first, second = self.shape.split(weights.double())
        before = self.rows.times(first)
        active = torch.cat([before.clamp(min=0), before.new_ones(len(before), 1)], dim=1)
        hidden = ExactRows.of(active)
        targets = self.targets * (1 - self.smoothing) + self.smoothing / 2
        back = residuals(hidden.times(second), targets, "logistic", self.positive_weights)
        back_hidden = torch.zeros_like(before)
        for index in range(self.shape.targets):  # elementwise: no order of sums to depend on
            back_hidden = back_hidden + back[:, index : index + 1] * second[index, :-1]
        back_hidden = torch.where(before > 0, back_hidden, torch.zeros_like(before))
        # An image's gradient of a layer is outer(back, came). With each image's share of its
        # patient's mean in what comes back, a patient's gradient is the sum over its images.
        shares = self.shares.unsqueeze(1)
        layers = [(back_hidden * shares, self.rows), (back * shares, hidden)]
        if clip_norm is None:
            return torch.cat([_plain_sum(out, came).flatten() for out, came in layers]).float()
        lengths = torch.stack([row_norms(out) * came.norms for out, came in layers], dim=1)
        by_patient = lengths.new_zeros(self.n_units)
        by_patient.index_add_(0, self.units, row_norms(lengths))
        by_patient.index_fill_(0, self.units[self.rows.scales == 0], math.inf)
        factors = clip_factors(by_patient, clip_bound(clip_norm, weights.numel()))
        # A patient's factor scales what comes back for each of its images: one product a layer
        # then clips and sums over everybody.
        scale, step = factors[self.units].unsqueeze(1), lattice_step(clip_norm)
        sums = [came.weighted_sum(_scaled(out, scale), step) for out, came in layers]
        return on_lattice(torch.cat([total.flatten() for total in sums]), clip_norm)


def _plain_sum(weights: Tensor, rows: ExactRows) -> Tensor:
    """The sum of weights (N, E) times row, (E, D) float64, as it comes."""
    return (weights * rows.scales.unsqueeze(1)).T @ rows.whole.double()


def _scaled(values: Tensor, scale: Tensor) -> Tensor:
    """Rows of values times their scale, zero where that is: they may hold what is no number."""
    return torch.where(scale > 0, values * scale, torch.zeros_like(values))
