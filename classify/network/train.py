"""DP-SGD on the last blocks of a ViT together with its head; the unit is the patient.

A step: a Poisson sample of patients, for each the mean gradient over its views, clipped as one
vector, summed; one Gaussian; the public normaliser. Momentum, rates and averaging come after
(Abadi et al. 2016, arXiv 1607.00133; by user: arXiv 1710.06963).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from classify.config import NetworkSettings
from classify.network.gradients import PatientGradients, TokenExamples, all_views, weighted_loss
from classify.network.top import TrainedTop
from synthdp.checkpoint import load_checkpoint, save_checkpoint
from synthdp.errors import RunError
from synthdp.machine.progress import progress
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.steps import Observer, run_steps
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import noisy_mean
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.noisy_sum.sampling import sampled_units


@dataclass
class _State:
    """weights: (P,), of the newest iterate; average: of the last ones; velocity: (P,)."""

    weights: Tensor
    average: Tensor
    velocity: Tensor
    averaged: int = 0

    @property
    def result(self) -> Tensor:
        """The averaged iterate, or the last one where none was averaged."""
        return self.average if self.averaged else self.weights


def train_network(
    top: TrainedTop,
    examples: TokenExamples,
    recipe: NetworkSettings,
    *,
    normaliser: float,
    noise_source: NoiseSource,
) -> None:
    """Train in place without privacy: the same recipe without clipping and noise.

    Args:
        top: blocks and head, where the training begins.
        examples: the patients' images.
        recipe: steps, sampling rate, learning rate and so on.
        normaliser: the sum over the patients of a step is divided by it.
        noise_source: what the samples of patients are drawn from.

    Raises:
        RunError: when the weights are not finite.
    """
    sampling = Mechanism(
        sampling_rate=recipe.sampling_rate,
        noise_multiplier=0,
        steps=recipe.steps,
        normaliser=normaliser,
    )
    state, parameters = _new_state(top), top.trained()
    for step in progress(range(recipe.steps), what="training the network", public_unit="steps"):
        views = all_views(examples, sampled_units(sampling, examples.tags, noise_source, step))
        total, shares = torch.zeros_like(state.weights), views.shares
        for part in progress(list(views.batches(recipe.batch)), what="gradients of a step"):
            loss, _ = weighted_loss(top, examples, views, part, shares)
            total += torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
        _descend(top, state, total / normaliser, step, recipe)
    if not bool(torch.isfinite(state.weights).all()):
        raise RunError("the network diverged; lower network.lr or network.scale")
    top.load_flat(state.result)


def train_private_network(
    top: TrainedTop,
    examples: TokenExamples,
    recipe: NetworkSettings,
    *,
    ledger: Ledger,
    noise_source: NoiseSource,
    checkpoints: Path,
    on_block: Callable[[int], None] = lambda spent: None,
    observe: Observer = lambda step, weights, released: None,
    gradients: Callable[[TrainedTop], PatientGradients] = PatientGradients,
) -> None:
    """Train in place with differential privacy, going on from the newest checkpoint.

    Args:
        top: blocks and head, where the training begins: without a cost, or in the lineage.
        examples: the patients' images.
        recipe: learning rate, momentum, averaging; clip norm, sampling rate and steps are the
            mechanism's.
        ledger: claimed by this run's release, whose mechanism has sampling, clip norm, noise, steps
            and normaliser.
        noise_source: where noise and samples come from.
        checkpoints: folder of this run's checkpoints.
        on_block: given the steps spent, after each block.
        observe: given each step's number, the parameters before it, and what it released.
        gradients: makes what sums the patients' gradients; an audit plants canaries in it.

    Guarantee: all iterates together cost a patient what the loss of the ledger's mechanism says. A
    step that samples nobody releases noise alone.

    Raises:
        InputError: when a checkpoint stands without its ledger.
    """
    mechanism = ledger.mechanism
    state, first_step = _resumed(top, checkpoints)
    patient_gradients = gradients(top)

    def take(step: int) -> None:
        views = all_views(examples, sampled_units(mechanism, examples.tags, noise_source, step))
        total = patient_gradients.clipped_sum(
            examples, views, clip_norm=mechanism.clip_norm, batch=recipe.batch
        )
        released = noisy_mean(total, mechanism, noise_source, step)
        observe(step, state.weights, released)
        _descend(top, state, released, step, recipe)

    def keep(step: int) -> None:
        tensors = {"weights": state.weights, "average": state.average, "velocity": state.velocity}
        save_checkpoint(checkpoints, step, tensors, {"averaged": state.averaged})
        on_block(ledger.spent_steps)

    run_steps(
        ledger,
        state_at=first_step,
        block_steps=recipe.block_steps,
        take=take,
        keep=keep,
        what="training the network",
    )
    top.load_flat(state.result)


def _descend(
    top: TrainedTop, state: _State, gradient: Tensor, step: int, recipe: NetworkSettings
) -> None:
    """A step of momentum, the average of the later iterates; puts the weights in place."""
    state.velocity = recipe.momentum * state.velocity + gradient
    state.weights = state.weights - recipe.lr * top.units() * state.velocity
    if step >= math.floor(recipe.average_from * recipe.steps):
        state.averaged += 1
        state.average = state.average + (state.weights - state.average) / state.averaged
    top.load_flat(state.weights)


def _new_state(top: TrainedTop) -> _State:
    flat = top.flat()
    return _State(flat, torch.zeros_like(flat), torch.zeros_like(flat))


def _resumed(top: TrainedTop, folder: Path) -> tuple[_State, int]:
    """The newest state, put in place, and the step that it goes on with."""
    checkpoint = load_checkpoint(folder)
    state = _new_state(top)
    if checkpoint is None:
        return state, 0
    stored = {name: tensor.to(state.weights) for name, tensor in checkpoint.weights.items()}
    state = _State(**stored, averaged=int(checkpoint.state["averaged"]))
    top.load_flat(state.weights)
    return state, checkpoint.step
