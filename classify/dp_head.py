"""DP training of a head on cached features: closed-form gradients, every patient each step.

The clipped sum over patients (`classify.head_examples`) gets one Gaussian in each step. With all
patients in each step all steps together are one mu-Gaussian release (`synthdp.privacy.mechanism`);
Poisson samples of patients are there for recipes of others.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from classify.head_examples import Examples, PublicExamples, private_sum
from classify.head_optimizers import HeadRecipe, HeadState, descend, new_state
from synthdp.checkpoint import load_checkpoint, save_checkpoint
from synthdp.errors import InputError, RunError
from synthdp.privacy.ledger import Ledger
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import NoiseSource, noisy_mean
from synthdp.privacy.sampling import sampled_units
from synthdp.privacy.steps import run_steps

#: Told a step's number, the weights before it, and the noisy mean that it released.
Observer = Callable[[int, Tensor, Tensor], None]


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
