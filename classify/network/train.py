"""DP-SGD on a network, or its last blocks, together with its head; the unit is the patient.

A step: a Poisson sample of patients, for each the mean gradient over its views, clipped as one
vector, summed; one Gaussian; the public normaliser. Momentum, rates and averaging come after
(Abadi et al. 2016, arXiv 1607.00133; by user: arXiv 1710.06963).
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from classify.network.descent import Descent
from classify.network.gradients import Examples, PatientGradients, Views, weighted_loss
from classify.network.images import step_views
from classify.network.team import ALONE, Task, Team
from classify.network.top import TrainedNetwork
from classify.settings.network import NetworkSettings
from synthdp.checkpoint import load_checkpoint, save_checkpoint
from synthdp.errors import RunError
from synthdp.machine.progress import progress
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.steps import Observer, run_steps
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.ahead import NoiseAhead
from synthdp.privacy.noisy_sum.lattice import noisy_mean
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.noisy_sum.sampling import sampled_units


def train_network(
    network: TrainedNetwork,
    examples: Examples,
    recipe: NetworkSettings,
    *,
    normaliser: float,
    noise_source: NoiseSource,
    seed: int = 0,
    checkpoints: Path | None = None,
    team: Team = ALONE,
) -> None:
    """Train in place without privacy: the same recipe without clipping and noise.

    It goes on from the newest checkpoint, to the bit, where there is a folder for these.

    Args:
        network: what is trained, where the training begins.
        examples: the patients' images.
        recipe: steps, sampling rate, learning rate and so on.
        normaliser: the sum over the patients of a step is divided by it.
        noise_source: what the samples of patients are drawn from.
        seed: moves what a step shows of them.
        checkpoints: folder of this run's checkpoints, one each `block_steps`.
        team: the processes that compute gradients; several round sums otherwise than one.

    Raises:
        RunError: when the weights are not finite.
    """
    sampling = Mechanism(
        sampling_rate=recipe.sampling_rate,
        noise_multiplier=0,
        steps=recipe.steps,
        normaliser=normaliser,
    )
    shown = _shown_in_steps(examples, recipe, seed)
    descent, first_step = _resumed(network, recipe, checkpoints)
    steps = range(first_step, recipe.steps)
    for step in progress(steps, what="training the network", public_unit="steps"):
        drawn = sampled_units(sampling, examples.tags, noise_source, step)
        team.send(Task(step, drawn, descent.weights))
        total = _plain_sum(network, examples, team.own_part(shown(drawn, step)), recipe.batch)
        team.add_up([total])
        descent.take(total / normaliser, step)
        network.load_flat(descent.weights)
        done = step + 1
        if done % recipe.block_steps == 0 or done == recipe.steps:
            if not bool(torch.isfinite(descent.weights).all()):
                raise RunError("the network diverged; lower network.lr or network.scale")
            if checkpoints is not None:
                save_checkpoint(checkpoints, done, descent.tensors, descent.state)
    network.load_flat(descent.result)


def train_private_network(
    network: TrainedNetwork,
    examples: Examples,
    recipe: NetworkSettings,
    *,
    ledger: Ledger,
    noise_source: NoiseSource,
    checkpoints: Path,
    seed: int = 0,
    on_block: Callable[[int], None] = lambda spent: None,
    observe: Observer = lambda step, weights, released: None,
    gradients: Callable[[TrainedNetwork], PatientGradients] = PatientGradients,
    team: Team = ALONE,
) -> None:
    """Train in place with differential privacy, going on from the newest checkpoint.

    Args:
        network: what is trained, where the training begins: without a cost, or in the lineage.
        examples: the patients' images.
        recipe: learning rate, momentum, averaging; clip norm, sampling rate and steps are the
            mechanism's.
        ledger: claimed by this run's release, whose mechanism has sampling, clip norm, noise, steps
            and normaliser.
        noise_source: where noise and samples come from.
        checkpoints: folder of this run's checkpoints.
        seed: moves what a step shows of patients, and no noise.
        on_block: given the steps spent, after each block.
        observe: given each step's number, the parameters before it, and what it released.
        gradients: makes what sums the patients' gradients; an audit plants canaries in it.
        team: the processes that compute gradients.

    Guarantee: all iterates together cost a patient what the loss of the ledger's mechanism says. A
    step that samples nobody releases noise alone.

    Raises:
        InputError: when a checkpoint stands without its ledger.
        RunError: when another process of the team is gone; its step stays spent.
    """
    mechanism = ledger.mechanism
    shown = _shown_in_steps(examples, recipe, seed)
    descent, first_step = _resumed(network, recipe, checkpoints)
    patient_gradients = gradients(network)

    def take(step: int) -> None:
        # nobody may be drawn: the sum is then zeros, and the step noise alone
        drawn = sampled_units(mechanism, examples.tags, noise_source, step)
        team.send(Task(step, drawn, descent.weights))
        with NoiseAhead(noise_source, mechanism, len(descent.weights), step) as noise:

            def add_up(sums: Sequence[Tensor]) -> None:
                noise.wait()  # the team counts it as this process's work
                team.add_up(sums)

            total = patient_gradients.clipped_sum(
                examples,
                team.own_part(shown(drawn, step)),
                clip_norm=mechanism.clip_norm,
                batch=recipe.batch,
                add_up=add_up,
            )
            released = noisy_mean(total, mechanism, noise, step)
        observe(step, descent.weights, released)
        descent.take(released, step)  # from here on all is post-processing
        network.load_flat(descent.weights)

    def keep(step: int) -> None:
        save_checkpoint(checkpoints, step, descent.tensors, descent.state)
        on_block(ledger.spent_steps)

    run_steps(
        ledger,
        state_at=first_step,
        block_steps=recipe.block_steps,
        take=take,
        keep=keep,
        what="training the network",
    )
    network.load_flat(descent.result)


def follow(
    network: TrainedNetwork,
    examples: Examples,
    recipe: NetworkSettings,
    *,
    team: Team,
    private: bool,
    seed: int = 0,
) -> None:
    """Compute gradients for the process that leads a training, as long as it asks for some.

    Args:
        network: what is trained.
        examples: the patients' images, the same as the first process has.
        recipe: of the training.
        team: the processes; this is not the first.
        private: whether gradients are clipped.
        seed: as the first has it.

    Guarantee: it draws no noise, writes nothing, and tells the first process sums of clipped
    gradients alone.
    """
    shown, gradients = _shown_in_steps(examples, recipe, seed), PatientGradients(network)
    while (task := team.next_task()) is not None:
        network.load_flat(task.weights.to(network.head.weight))
        views = team.own_part(shown(task.drawn, task.step))
        if private:
            gradients.clipped_sum(
                examples,
                views,
                clip_norm=recipe.clip_norm,
                batch=recipe.batch,
                add_up=team.add_up,
            )
        else:
            team.add_up([_plain_sum(network, examples, views, recipe.batch)])


def _plain_sum(network: TrainedNetwork, examples: Examples, views: Views, batch: int) -> Tensor:
    """The sum over the patients of some views of their mean gradients as they are, (P,)."""
    parameters = network.trained()
    total, shares = torch.zeros_like(network.flat()), views.shares
    for part in progress(list(views.batches(batch)), what="gradients of a step"):
        loss, _ = weighted_loss(network, examples, views, part, shares, towards_inputs=False)
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        total += torch.cat([gradient.flatten() for gradient in gradients])
    return total


def _shown_in_steps(
    examples: Examples, recipe: NetworkSettings, seed: int
) -> Callable[[Tensor, int], Views]:
    """What a step shows of the patients that it samples, given these and its number."""
    return partial(
        step_views,
        examples,
        fresh=recipe.augment is not None,
        max_images=recipe.max_images,
        seed=seed,
    )


def _resumed(
    network: TrainedNetwork, recipe: NetworkSettings, folder: Path | None
) -> tuple[Descent, int]:
    """The newest state, put in place, and the step that it goes on with."""
    descent = Descent(network.flat(), network.units(), recipe)
    checkpoint = None if folder is None else load_checkpoint(folder)
    if checkpoint is None:
        return descent, 0
    descent.load(checkpoint)
    network.load_flat(descent.weights)
    return descent, checkpoint.step
