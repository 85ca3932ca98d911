"""DP training of a head on cached features: closed-form gradients, every patient each step.

The clipped sum over patients (`classify.head.examples`) gets one Gaussian in each step. With all
patients in each step all steps together are one mu-Gaussian release (`synthdp.privacy.mechanism`);
Poisson samples of patients are there for published recipes. What follows a gradient, descent or
AdamW and averaging, is computed from what was released, so that it costs nothing.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from classify.head.examples import HeadExamples, PublicExamples, private_sum, private_sums
from classify.settings.by_epsilon import number_at
from classify.settings.head import HeadSettings, Optimizer
from synthdp.checkpoint import load_checkpoint, save_checkpoint
from synthdp.errors import InputError, RunError
from synthdp.machine.progress import progress
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.steps import Observer, Training, run_steps_together
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import noisy_mean
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.noisy_sum.sampling import sampled_units

#: AdamW's constants, those of torch.optim.AdamW (arXiv 1711.05101).
_BETAS, _EPS, _WEIGHT_DECAY = (0.9, 0.999), 1e-8, 0.01
#: epsilon -> learning rate x steps for unit-norm features, by the linear scaling rule of
#: arXiv 2212.04486. The points come from a feasibility probe on the public CBIS-DDSM patches.
LR_TIMES_STEPS = {1.0: 100.0, 6.0: 400.0, 12.0: 1000.0, 20.0: 2000.0}


@dataclass(frozen=True)
class HeadRecipe:
    """How the head is trained: public numbers.

    steps and lr set the optimizer; the iterates from `average_from` (a share of the steps) on are
    averaged, none for 1; `block_steps` are reserved in the ledger at a time.
    """

    steps: int
    lr: float
    average_from: float
    block_steps: int
    optimizer: Optimizer = "sgd"


def lr_times_steps(epsilon: float, rule: float | Mapping[float, float] | None = None) -> float:
    """Learning rate x steps for a stage's epsilon.

    Args:
        epsilon: of the stage; inf for none.
        rule: one number for all, numbers by epsilon (log-linear between two, flat beyond; inf has
            its own or that of the largest), or None for `LR_TIMES_STEPS`.
    """
    return number_at(epsilon, rule or LR_TIMES_STEPS)


def head_recipe(
    head: HeadSettings, stage_epsilon: float, n_units: float | None = None
) -> HeadRecipe:
    """How a head is trained.

    Args:
        head: its settings.
        stage_epsilon: of its stage alone; inf for none.
        n_units: how many patients there are, by declaration; None where nothing is promised.
    """
    as_noisy = stage_epsilon
    if head.lr_population is not None and n_units is not None:
        as_noisy *= n_units / head.lr_population
    return HeadRecipe(
        steps=head.steps,
        lr=lr_times_steps(as_noisy, head.lr_times_steps) / head.steps,
        average_from=head.average_from,
        block_steps=head.block_steps,
        optimizer=head.optimizer,
    )


def train_head(
    start: Tensor,
    examples: HeadExamples,
    recipe: HeadRecipe,
    *,
    sampling: Mechanism,
    noise_source: NoiseSource | None = None,
    public: PublicExamples | None = None,
) -> Tensor:
    """Train without privacy: the same recipe without clipping and noise.

    Args:
        start: weights to begin with, (T, D) of a linear head.
        examples: the patients' images.
        recipe: steps, learning rate, averaging.
        sampling: whose sampling rate and normaliser hold here too.
        noise_source: what samples of patients are drawn from, at a rate below 1.
        public: images mixed in at their own weight.

    Returns:
        As `start`: the averaged iterate.

    Raises:
        RunError: when the weights are not finite.
    """
    state = _new_state(start, recipe)
    for step in progress(range(recipe.steps), what="training the head", public_unit="steps"):
        drawn = _drawn(examples, sampling, noise_source, step)
        total = private_sum(state.weights, drawn, clip_norm=None)
        known = None if public is None else public.mean(state.weights, step)
        gradient = _mixed(total / sampling.normaliser, public, known)
        _descend(state, gradient, step, recipe)
    return _finite(state.result)


def train_private_head(
    start: Tensor,
    examples: HeadExamples,
    recipe: HeadRecipe,
    *,
    ledger: Ledger,
    noise_source: NoiseSource,
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
        ledger: claimed for the release of this run, whose mechanism has sampling, noise, clip norm,
            steps and normaliser.
        noise_source: where noise and samples come from.
        checkpoints: folder of this run's checkpoints.
        public: images mixed in at their own weight, without noise.
        on_block: given the steps spent, after each block.
        observe: given each step's number, the weights before it, and the noisy mean released.

    Returns:
        As `start`: the averaged iterate.

    Guarantee: the sequence of iterates costs a patient what the ledger's mechanism says; with
    everybody in each step it is one Gaussian release with its mu.

    Raises:
        InputError: when a checkpoint stands without its ledger.
        RunError: when the weights are not finite, which noise on bounded sums can't make them
            unless lr is beyond all bounds.
    """
    head = PrivateHead(start, recipe, ledger, noise_source, checkpoints, on_block, observe)
    (trained,) = train_private_heads([head], examples, public=public)
    if not isinstance(trained, Tensor):
        raise trained
    return trained


@dataclass(frozen=True, eq=False)
class PrivateHead:
    """One of the heads that are trained on the same patients: as of `train_private_head`."""

    start: Tensor
    recipe: HeadRecipe
    ledger: Ledger
    noise_source: NoiseSource
    checkpoints: Path
    on_block: Callable[[int], None] = lambda spent: None
    observe: Observer = lambda step, weights, released: None

    @property
    def mechanism(self) -> Mechanism:
        """That of the ledger."""
        return self.ledger.mechanism

    def training(self) -> tuple["_State", Training]:
        """The newest state, and how it goes on.

        Raises:
            InputError: when the recipe has other steps than the mechanism.
        """
        if self.recipe.steps != self.mechanism.steps:
            raise InputError("the head takes each of the mechanism's steps, no more and no fewer")
        state, first_step = _resumed(self.start, self.recipe, self.checkpoints)

        def keep(step: int) -> None:
            save_checkpoint(self.checkpoints, step, state.tensors(), {"averaged": state.averaged})
            self.on_block(self.ledger.spent_steps)

        return state, Training(self.ledger, first_step, self.recipe.block_steps, keep)


def train_private_heads(
    heads: Sequence[PrivateHead], examples: HeadExamples, *, public: PublicExamples | None = None
) -> list[Tensor | InputError | RunError]:
    """Train several heads on the same patients, a step of each at a time.

    Where all patients take part in each step, the sums of all heads of one shape and clip norm
    come from the same products. A head has its own ledger, noise, checkpoints and recipe, and goes
    on from where it was. Beside public images it comes out as it would alone but for the rounding
    of `PublicExamples.means`, else to the last bit.

    Args:
        heads: the trainings.
        examples: the patients' images, of all of them.
        public: as of `train_private_head`, of all of them.

    Returns:
        For each head what `train_private_head` gives, or what ended it.

    Guarantee: of each head that of `train_private_head`: its sum of a step is that of its weights
    alone (`private_sums`), its noise comes from its own source, and its ledger reserves its steps.

    Raises:
        InputError: when a checkpoint stands without its ledger.
    """
    states, trainings = zip(*(head.training() for head in heads), strict=True)

    def take(at: Mapping[int, int]) -> None:
        known = _public_means(public, {index: states[index].weights for index in at}, at)
        for index, total in _sums(heads, examples, states, at):
            head, state, step = heads[index], states[index], at[index]
            released = noisy_mean(total, head.mechanism, head.noise_source, step)
            head.observe(step, state.weights, released)
            _descend(state, _mixed(released, public, known.get(index)), step, head.recipe)

    ended = run_steps_together(trainings, take, what="training the head")
    return [ended.get(index) or _finished(state) for index, state in enumerate(states)]


def _sums(
    heads: Sequence[PrivateHead],
    examples: HeadExamples,
    states: Sequence["_State"],
    at: Mapping[int, int],
) -> Iterator[tuple[int, Tensor]]:
    """The clipped sum of each head that takes a step, by its index.

    Those that ask all patients at one clip norm come from the same products; who asks a sample has
    patients of its own.
    """
    together: dict[tuple[float, torch.Size], list[int]] = {}
    for index, step in at.items():
        mechanism, weights = heads[index].mechanism, states[index].weights
        if mechanism.sampling_rate == 1 and len(at) > 1:
            together.setdefault((mechanism.clip_norm, weights.shape), []).append(index)
        else:
            drawn = _drawn(examples, mechanism, heads[index].noise_source, step)
            yield index, private_sum(weights, drawn, mechanism.clip_norm)
    for (clip_norm, _), indices in together.items():
        totals = private_sums([states[index].weights for index in indices], examples, clip_norm)
        yield from zip(indices, totals, strict=True)


def _public_means(
    public: PublicExamples | None, weights: Mapping[int, Tensor], at: Mapping[int, int]
) -> dict[int, Tensor]:
    """The mean gradient of public images for each head that takes a step, by its index."""
    if public is None:
        return {}
    if len(weights) == 1 or public.sampling_rate < 1:
        return {index: public.mean(one, at[index]) for index, one in weights.items()}
    return dict(zip(weights, public.means([*weights.values()]), strict=True))


def _finished(state: "_State") -> Tensor | RunError:
    try:
        return _finite(state.result)
    except RunError as error:
        return error


def _drawn(
    examples: HeadExamples, sampling: Mechanism, noise_source: NoiseSource | None, step: int
) -> HeadExamples:
    """The images of the patients who take part in a step."""
    if sampling.sampling_rate == 1:
        return examples
    assert noise_source is not None  # where patients are sampled there is a key to sample them by
    return examples.of(sampled_units(sampling, examples.tags, noise_source, step))


def _finite(weights: Tensor) -> Tensor:
    if not bool(torch.isfinite(weights).all()):
        raise RunError("the head diverged; lower head.lr_times_steps")
    return weights


@dataclass
class _State:
    """A training between two steps: weights, their average, and AdamW's two moments, if any."""

    weights: Tensor
    average: Tensor
    moments: tuple[Tensor, ...] = ()
    averaged: int = 0

    @property
    def result(self) -> Tensor:
        """The averaged iterate, or the last one where none was averaged."""
        return self.average if self.averaged else self.weights

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for a checkpoint."""
        moments = {f"moment.{index}": value for index, value in enumerate(self.moments)}
        return {"weights": self.weights, "average": self.average, **moments}

    def load(self, tensors: Mapping[str, Tensor], *, averaged: int) -> None:
        """Go on from what `tensors` gave."""
        self.weights, self.average = tensors["weights"], tensors["average"]
        self.moments = tuple(tensors[f"moment.{index}"] for index in range(len(self.moments)))
        self.averaged = averaged


def _new_state(start: Tensor, recipe: HeadRecipe) -> _State:
    zeros = torch.zeros_like(start)
    moments = (zeros, zeros.clone()) if recipe.optimizer == "adamw" else ()
    return _State(start.clone(), zeros.clone(), moments)


def _resumed(start: Tensor, recipe: HeadRecipe, folder: Path) -> tuple[_State, int]:
    """The newest state, and the step that it goes on with."""
    state = _new_state(start, recipe)
    checkpoint = load_checkpoint(folder)
    if checkpoint is None:
        return state, 0
    state.load(checkpoint.weights, averaged=int(checkpoint.state["averaged"]))
    return state, checkpoint.step


def _mixed(gradient: Tensor, public: PublicExamples | None, known: Tensor | None) -> Tensor:
    """The patients' gradient, mixed with that of public images, `known`, where there are any.

    The patients' is noisy by now, and public images need no noise.
    """
    if public is None or known is None:
        return gradient
    return (1 - public.weight) * gradient + public.weight * known


def _descend(state: _State, gradient: Tensor, step: int, recipe: HeadRecipe) -> None:
    """Take step number `step` along a gradient, in place."""
    if recipe.optimizer == "adamw":
        _adamw(state, gradient, step, recipe.lr)
    else:
        state.weights = state.weights - recipe.lr * gradient
    if step >= math.floor(recipe.average_from * recipe.steps):
        state.averaged += 1
        state.average = state.average + (state.weights - state.average) / state.averaged


def _adamw(state: _State, gradient: Tensor, step: int, lr: float) -> None:
    """torch.optim.AdamW in two of our tensors, so that a checkpoint holds tensors alone."""
    first, second = (
        beta * moment + (1 - beta) * power
        for beta, moment, power in zip(
            _BETAS, state.moments, (gradient, gradient.square()), strict=True
        )
    )
    state.moments = (first, second)
    unbiased = [m / (1 - beta ** (step + 1)) for m, beta in zip(state.moments, _BETAS, strict=True)]
    decayed = state.weights * (1 - lr * _WEIGHT_DECAY)
    state.weights = decayed - lr * unbiased[0] / (unbiased[1].sqrt() + _EPS)
