"""DP training of a linear head on cached features: closed-form gradients, every patient each step.

The logistic loss of a linear head has the gradient outer(p - y, x), so per-image gradients cost
nothing: they are averaged inside a patient, clipped, summed, and one Gaussian is added. All steps
together are one mu-Gaussian release (`synthdp.privacy.mechanism`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from synthdp.checkpoint import load_checkpoint, save_checkpoint
from synthdp.errors import InputError, RunError
from synthdp.privacy.clipping import clip_rows, unit_means
from synthdp.privacy.ledger import Ledger
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import NoiseSource, noisy_mean
from synthdp.privacy.steps import run_steps

#: Told a step's number, the weights before it, and the noisy mean that it released.
Observer = Callable[[int, Tensor, Tensor], None]


@dataclass(frozen=True)
class Examples:
    """Inputs of a head: one row an image.

    inputs: (N, D) float32; targets: (N, T) float32 in {0, 1}, nan unknown; units: (N,) int64,
    the patient that each image belongs to, counted from 0.
    """

    inputs: Tensor
    targets: Tensor
    units: Tensor

    def gradients(self, weights: Tensor) -> Tensor:
        """Per-image gradients at weights (T, D): (N, T * D), rows as in `units`."""
        return image_gradients(weights, self.inputs, self.targets)

    @property
    def n_units(self) -> int:
        """How many patients there are (private)."""
        return int(self.units.max()) + 1 if len(self.units) else 0


@dataclass(frozen=True)
class PublicExamples:
    """Images that cost no privacy here (phantoms, or synthetic ones already in the lineage)."""

    examples: Examples
    weight: float


def image_gradients(weights: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """Per-image gradients of the logistic loss, (N, T * D); an unknown target gives zero.

    Formula: d/dW of sum_t [softplus(z_t) - y_t z_t] with z = W x is outer(sigmoid(z) - y, x).
    """
    residuals = torch.sigmoid(inputs @ weights.T) - targets
    residuals = torch.where(torch.isnan(targets), torch.zeros_like(residuals), residuals)
    return (residuals.unsqueeze(2) * inputs.unsqueeze(1)).flatten(1)


def private_sum(weights: Tensor, examples: Examples, clip_norm: float | None) -> Tensor:
    """Sum over patients of the mean gradient of each, clipped to `clip_norm`; (T, D).

    Guarantee: with a clip norm, adding or removing one patient moves it by at most that.
    """
    means = unit_means(examples.gradients(weights), examples.units, examples.n_units)
    rows = means if clip_norm is None else clip_rows(means, clip_norm)
    return rows.sum(dim=0).reshape(weights.shape)


@dataclass(frozen=True)
class HeadRecipe:
    """How the head is trained: public numbers.

    steps and lr set gradient descent; the iterates from `average_from` (a share of the steps) on
    are averaged; `block_steps` are reserved in the ledger at a time.
    """

    steps: int
    lr: float
    average_from: float
    block_steps: int


@dataclass
class _State:
    weights: Tensor
    average: Tensor
    averaged: int


def train_head(
    start: Tensor,
    examples: Examples,
    recipe: HeadRecipe,
    *,
    normaliser: float,
    public: PublicExamples | None = None,
) -> Tensor:
    """Train without privacy: the same recipe without clipping and noise.

    Args:
        start: (T, D) weights to begin with.
        examples: the patients' images.
        recipe: steps, learning rate, averaging.
        normaliser: the sum over patients is divided by it.
        public: images mixed in at their own weight.

    Returns:
        (T, D): the averaged iterate.
    """
    state = _State(start.clone(), torch.zeros_like(start), 0)
    for step in range(recipe.steps):
        total = private_sum(state.weights, examples, clip_norm=None)
        _descend(state, total / normaliser, step, recipe, public)
    if not bool(torch.isfinite(state.weights).all()):
        raise RunError("the head diverged; lower head.lr_times_steps")
    return _result(state)


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
        start: (T, D) weights to begin with; must cost no privacy, or stand in the lineage.
        examples: the patients' images.
        recipe: steps, learning rate, averaging; its steps are the mechanism's.
        mechanism: noise, clip norm, steps and normaliser; everybody takes part in each step.
        ledger: claimed for the release of this run.
        source: where the noise comes from.
        checkpoints: folder of this run's checkpoints.
        public: images mixed in at their own weight, without noise.
        on_block: told the steps spent, after each block.
        observe: told each step's number, the weights before it, and the noisy mean released.

    Returns:
        (T, D): the averaged iterate.

    Guarantee: the sequence of iterates is one Gaussian release with the mu of `mechanism`.

    Raises:
        InputError: when a checkpoint stands without its ledger.
    """
    if recipe.steps != mechanism.steps or mechanism.sampling_rate != 1:
        raise InputError("the head takes all patients in each of the mechanism's steps")
    state, at = _resumed(start, checkpoints)

    def take(step: int) -> None:
        total = private_sum(state.weights, examples, mechanism.clip_norm)
        released = noisy_mean(total, mechanism, source, step)
        observe(step, state.weights, released)
        _descend(state, released, step, recipe, public)

    def keep(step: int) -> None:
        weights = {"weights": state.weights, "average": state.average}
        save_checkpoint(checkpoints, step, weights, {"averaged": state.averaged})
        on_block(ledger.spent_steps)

    run_steps(ledger, state_at=at, block_steps=recipe.block_steps, take=take, keep=keep)
    return _result(state)


def _descend(
    state: _State,
    gradient: Tensor,
    step: int,
    recipe: HeadRecipe,
    public: PublicExamples | None,
) -> None:
    if public is not None:
        known = public.examples
        known_mean = private_sum(state.weights, known, clip_norm=None) / known.n_units
        gradient = (1 - public.weight) * gradient + public.weight * known_mean
    state.weights = state.weights - recipe.lr * gradient
    if step >= math.floor(recipe.average_from * recipe.steps):
        state.averaged += 1
        state.average = state.average + (state.weights - state.average) / state.averaged


def _result(state: _State) -> Tensor:
    return state.average if state.averaged else state.weights


def _resumed(start: Tensor, folder: Path) -> tuple[_State, int]:
    """The newest state, and the step that it goes on with."""
    checkpoint = load_checkpoint(folder)
    if checkpoint is None:
        return _State(start.clone(), torch.zeros_like(start), 0), 0
    weights, averaged = checkpoint.weights, int(checkpoint.state["averaged"])
    return _State(weights["weights"], weights["average"], averaged), checkpoint.step
