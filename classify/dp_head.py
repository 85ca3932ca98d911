"""DP training of a head on cached features: closed-form gradients, every patient each step.

The loss of a linear head has the gradient outer(residual, x), so per-image gradients cost nothing:
they are averaged inside a patient, clipped, summed, and one Gaussian is added. With all patients
in each step all steps together are one mu-Gaussian release (`synthdp.privacy.mechanism`); Poisson
samples of patients are there for recipes of others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from classify.head_config import LinearLoss
from classify.head_optimizers import HeadRecipe, HeadState, descend, new_state
from synthdp.checkpoint import load_checkpoint, save_checkpoint
from synthdp.errors import InputError, RunError
from synthdp.privacy.clipping import clip_rows, unit_means
from synthdp.privacy.ledger import Ledger
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import NoiseSource, noisy_mean
from synthdp.privacy.sampling import sampled_units
from synthdp.privacy.steps import run_steps

#: Share of the clip norm up to which a bound on a gradient's length is beyond doubt.
_SURELY_SHORT = 1 - 1e-5
#: Told a step's number, the weights before it, and the noisy mean that it released.
Observer = Callable[[int, Tensor, Tensor], None]


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


def train_head(
    start: Tensor,
    examples: Examples,
    recipe: HeadRecipe,
    *,
    sampling: Mechanism,
    samples: NoiseSource | None = None,
    public: PublicExamples | None = None,
) -> Tensor:
    """Train without privacy: the same recipe without clipping and noise.

    Args:
        start: weights to begin with, (T, D) of a linear head.
        examples: the patients' images.
        recipe: steps, learning rate, averaging.
        sampling: whose sampling rate and normaliser hold here too.
        samples: what samples of patients are drawn from, at a rate below 1.
        public: images mixed in at their own weight.

    Returns:
        As `start`: the averaged iterate.

    Raises:
        RunError: when the weights are not finite.
    """
    state = new_state(start, recipe)
    for step in range(recipe.steps):
        seen = _seen(examples, sampling, samples, step)
        total = private_sum(state.weights, seen, clip_norm=None)
        _descend(state, total / sampling.normaliser, step, recipe, public)
    if not bool(torch.isfinite(state.result).all()):
        raise RunError("the head diverged; lower head.lr_times_steps")
    return state.result


def _seen(
    examples: Examples, sampling: Mechanism, source: NoiseSource | None, step: int
) -> Examples:
    """The patients who take part in a step."""
    if sampling.sampling_rate == 1:
        return examples
    assert source is not None  # where patients are sampled there is a key to sample them by
    return examples.of(sampled_units(sampling, examples.tags, source, step))


def train_private_head(
    start: Tensor,
    examples: Examples,
    recipe: HeadRecipe,
    *,
    mechanism: Mechanism,
    ledger: Ledger,
    source: NoiseSource,
    checkpoints: Path,
    public: PublicExamples | None = None,
    on_block: Callable[[int], None] = lambda spent: None,
    observe: Observer = lambda step, weights, released: None,
) -> Tensor:
    """Train with differential privacy, resuming from the newest checkpoint if there is one.

    Steps are reserved in `ledger` a block at a time; steps that a crash lost stay spent, and the
    training ends when the mechanism's steps are spent.

    Args:
        start: weights to begin with, (T, D) of a linear head; must cost no privacy, or stand in
            the lineage.
        examples: the patients' images.
        recipe: steps, learning rate, averaging; its steps are the mechanism's.
        mechanism: sampling, noise, clip norm, steps and normaliser.
        ledger: claimed for the release of this run.
        source: where the noise comes from.
        checkpoints: folder of this run's checkpoints.
        public: images mixed in at their own weight, without noise.
        on_block: told the steps spent, after each block.
        observe: told each step's number, the weights before it, and the noisy mean released.

    Returns:
        As `start`: the averaged iterate.

    Guarantee: the sequence of iterates costs a patient what `mechanism` says; with everybody in
    each step it is one Gaussian release with its mu.

    Raises:
        InputError: when a checkpoint stands without its ledger.
        RunError: when the weights are not finite, which noise on bounded sums can't make them
            unless lr is beyond all bounds.
    """
    if recipe.steps != mechanism.steps:
        raise InputError("the head takes each of the mechanism's steps, no more and no fewer")
    state, at = _resumed(start, recipe, checkpoints)

    def take(step: int) -> None:
        seen = _seen(examples, mechanism, source, step)
        total = private_sum(state.weights, seen, mechanism.clip_norm)
        released = noisy_mean(total, mechanism, source, step)
        observe(step, state.weights, released)
        _descend(state, released, step, recipe, public)

    def keep(step: int) -> None:
        save_checkpoint(checkpoints, step, state.tensors(), {"averaged": state.averaged})
        on_block(ledger.spent_steps)

    run_steps(ledger, state_at=at, block_steps=recipe.block_steps, take=take, keep=keep)
    if not bool(torch.isfinite(state.result).all()):
        raise RunError("the head diverged; lower head.lr_times_steps")
    return state.result


def _descend(
    state: HeadState,
    gradient: Tensor,
    step: int,
    recipe: HeadRecipe,
    public: PublicExamples | None,
) -> None:
    if public is not None:
        known = public.mean(state.weights, step)
        gradient = (1 - public.weight) * gradient + public.weight * known
    descend(state, gradient, step, recipe)


def _resumed(start: Tensor, recipe: HeadRecipe, folder: Path) -> tuple[HeadState, int]:
    """The newest state, and the step that it goes on with."""
    state = new_state(start, recipe)
    checkpoint = load_checkpoint(folder)
    if checkpoint is None:
        return state, 0
    state.load(checkpoint.weights, averaged=int(checkpoint.state["averaged"]))
    return state, checkpoint.step
