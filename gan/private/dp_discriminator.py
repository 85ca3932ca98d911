"""EXPERIMENTAL: a generator against a discriminator that learns from patients by DP-SGD.

A step of the discriminator: a Poisson sample of patients, for each the mean gradient over its
images and as many generated ones, clipped as one vector, summed; one Gaussian; the public
normaliser (Abadi et al. 2016, arXiv 1607.00133). The generator sees patients through the
discriminator alone, so that its steps are post-processing. Many steps of the discriminator for one
of the generator and large samples are the advice of Bie, Kamath and Zhang (arXiv 2302.02936), who
had a hundred times as many examples as a hospital has patients.

All else that could carry private values is public: no statistics over a batch, no real image in the
generator's step, augmentation of fixed strength, classes by `class_prior`.

The file reads from the game's steps down to the gradient of one patient.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import cast

import torch
from torch import Tensor

from gan.network.discriminator import Discriminator
from gan.settings.parts import AugmentationSettings, DpDiscriminatorSettings
from gan.settings.train import TrainGanSettings
from gan.training import augment, losses
from gan.training.examples import UNLABELLED
from gan.training.loop import (
    Schedule,
    Scheduled,
    Training,
    average_weights,
    random_inputs,
    set_rates,
    weights_are_finite,
)
from synthdp.errors import RunError
from synthdp.machine.progress import progress
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.steps import run_steps
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.clipping import clip_rows
from synthdp.privacy.noisy_sum.lattice import clip_bound, noisy_mean, on_lattice, whole_vectors
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.noisy_sum.sampling import sampled_units

#: Called with a step's number and the noisy mean (P,) that it released.
Observer = Callable[[int, Tensor], None]


@dataclass(frozen=True, eq=False)
class PatientImages:
    """Patients' images and who they are of.

    images: (N, 1, S, S) float32 in [-1, 1]; labels: (N,) int64; indices: for each patient the (n,)
    int64 of its images with a known label; tags: a secret name for each patient.
    """

    images: Tensor
    labels: Tensor
    indices: Sequence[Tensor]
    tags: Sequence[bytes]

    @classmethod
    def of(
        cls, images: Tensor, labels: Tensor, units: Tensor, tags: Sequence[bytes]
    ) -> "PatientImages":
        """Grouped by `units`, (N,) int64 that count the patients from 0."""
        known = labels != UNLABELLED
        indices = [((units == unit) & known).nonzero()[:, 0] for unit in range(len(tags))]
        return cls(images, labels, indices, tags)


@dataclass(frozen=True, eq=False)
class Fakes:
    """Generated images (M, 1, S, S) and their labels (M,), of public randomness alone."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class View:
    """The public values of a step that decide how a patient's images are augmented and judged."""

    seed: int
    step: int
    class_strength: float
    augmentation: AugmentationSettings


@dataclass(frozen=True)
class GameRecipe:
    """How the game is played: public numbers. `schedule` counts the steps of the generator."""

    seed: int
    discriminator: DpDiscriminatorSettings
    schedule: Schedule
    augmentation: AugmentationSettings
    class_prior: float

    @classmethod
    def of(cls, settings: TrainGanSettings) -> "GameRecipe":
        """The recipe that the settings name."""
        discriminator = settings.dp_discriminator
        generator_steps = max(1, _generator_steps(discriminator, discriminator.steps))
        return cls(
            seed=settings.seed,
            discriminator=discriminator,
            schedule=Schedule.of(settings, generator_steps),
            augmentation=settings.augmentation,
            class_prior=settings.class_prior,
        )


def _generator_steps(recipe: DpDiscriminatorSettings, step: int) -> int:
    """How often the generator is moved in the first `step` steps of the discriminator."""
    after = max(0, step - recipe.head_start)
    return math.floor(after / recipe.discriminator_steps_per_generator_step)


def play_privately(
    game: "PrivateGame",
    patients: PatientImages,
    *,
    ledger: Ledger,
    noise_source: NoiseSource,
    block_steps: int,
    observe: Observer = lambda step, released: None,
) -> None:
    """Play to the end with differential privacy, from the step that the game has reached.

    Args:
        game: moved in place.
        patients: whom the discriminator learns from.
        ledger: claimed by this run's release, whose mechanism has sampling, clip norm, noise, steps
            and normaliser.
        noise_source: where noise and samples come from.
        block_steps: as `run_steps`.
        observe: called with each step's number and what it released.

    Guarantee: what all states of both networks together reveal of a patient is bounded by
    the loss of the ledger's mechanism. A step whose sample is empty is one of noise alone.

    Raises:
        InputError: when a checkpoint stands without its ledger.
        RunError: when a weight is no longer a number.
    """
    mechanism = ledger.mechanism

    def take(step: int) -> None:
        drawn = sampled_units(mechanism, patients.tags, noise_source, step)
        total = game.gradient_sum(patients, drawn, step, mechanism.clip_norm)
        released = noisy_mean(total, mechanism, noise_source, step)
        observe(step, released)
        game.move(step, released)

    run_steps(
        ledger,
        state_at=game.training.step,
        block_steps=block_steps,
        take=take,
        keep=game.keep,
        what="training against a private discriminator",
    )


def play_plainly(
    game: "PrivateGame",
    patients: PatientImages,
    sampling: Mechanism,
    noise_source: NoiseSource,
    block_steps: int,
) -> None:
    """The same game without clipping and noise, which protects nobody.

    Args:
        game: moved in place, from the step that it has reached.
        patients: whom the discriminator learns from.
        sampling: steps, sampling rate and normaliser.
        noise_source: what the samples of patients are drawn from.
        block_steps: as many are kept at a time.

    Raises:
        RunError: when a weight is no longer a number.
    """
    begun = game.training.step
    for step in progress(
        range(begun, sampling.steps), what="training", public_unit="steps", begun=begun
    ):
        drawn = sampled_units(sampling, patients.tags, noise_source, step)
        game.move(step, game.gradient_sum(patients, drawn, step, None) / sampling.normaliser)
        if (step + 1) % block_steps == 0 or step + 1 == sampling.steps:
            game.keep(step + 1)


class PrivateGame:
    """The state of the game: both networks, moved by what the steps on patients release.

    Args:
        training: moved in place; its discriminator judges each image alone.
        recipe: how the game is played.
        autocast: the precision of the generator's steps; the discriminator's are in float32.
        log: takes one line of metrics a block, none of them a function of private values but
            through what was released.
        keep: saves a checkpoint of `training`.
    """

    def __init__(
        self,
        training: Training,
        recipe: GameRecipe,
        *,
        autocast: torch.autocast,
        log: Callable[..., None] = lambda **metrics: None,
        keep: Callable[[], None] = lambda: None,
    ) -> None:
        self.training = training
        self._recipe = recipe
        self._autocast = autocast
        self._log, self._keep = log, keep
        self._fakes: Fakes | None = None
        self._losses: list[Tensor] = []
        self._since = time.monotonic()
        self._steps_since = 0

    @property
    def discriminator(self) -> Discriminator:
        """The discriminator that learns from patients."""
        return cast(Discriminator, self.training.discriminator)

    def generator_steps_before(self, step: int) -> int:
        """How often the generator is moved in the first `step` steps of the discriminator."""
        return _generator_steps(self._recipe.discriminator, step)

    def now(self, step: int) -> Scheduled:
        """The schedule at a step of the discriminator; it moves with the generator."""
        return self._recipe.schedule.at(self.generator_steps_before(step))

    def gradient_sum(
        self, patients: PatientImages, drawn: Tensor, step: int, clip_norm: float | None
    ) -> Tensor:
        """The sum over the patients `drawn` of their clipped gradients, (P,), without noise."""
        now = self.now(step)
        if self._fakes is None:
            self._fakes = self._draw_fakes(step, now)
        view = View(self._recipe.seed, step, now.class_strength, self._recipe.augmentation)
        return clipped_gradient_sum(
            self.discriminator, patients, drawn, self._fakes, view, clip_norm=clip_norm
        )

    def move(self, step: int, gradient: Tensor) -> None:
        """Move the discriminator along a released gradient (P,), and the generator when due."""
        set_rates(self.training, self.now(step))
        parameters = list(self.discriminator.parameters())
        parts = gradient.split([parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(part.view(parameter.shape))
        self.training.discriminator_optimiser.step()
        for _ in range(self.generator_steps_before(step + 1) - self.generator_steps_before(step)):
            self._losses.append(self._move_generator(self.now(step)))
            self._fakes = None
        self.training.step = step + 1
        self._steps_since += 1

    def keep(self, step: int) -> None:
        """Save the state, to go on with the step of this number, and log a line.

        Raises:
            RunError: when a weight is no longer a number; the last checkpoint stands.
        """
        if not weights_are_finite(self.training):
            raise RunError(
                f"the training diverged before step {step}; start a new run with lower learning "
                "rates (generator_lr, discriminator_lr)"
            )
        self.training.step = step
        self._keep()
        speed = self._steps_since / (time.monotonic() - self._since)
        metrics: dict[str, float] = {
            "step": step,
            "generator_steps": self.generator_steps_before(step),
        }
        if self._losses:
            metrics["loss_generator"] = round(torch.stack(self._losses).mean().item(), 5)
        self._log(**metrics, steps_per_s=round(speed, 3))
        self._losses, self._since, self._steps_since = [], time.monotonic(), 0

    @torch.no_grad()
    def _draw_fakes(self, step: int, now: Scheduled) -> Fakes:
        """Images to set beside real ones: by seed, and how often the generator has moved, alone."""
        recipe, device = self._recipe, self.training.generator.device
        words = f"fakes {recipe.seed} {self.generator_steps_before(step)}".encode()
        seed = int.from_bytes(sha256(words).digest()[:8], "big") >> 1  # torch takes 63 bits
        rng = torch.Generator().manual_seed(seed)
        count = recipe.discriminator.fakes
        labels = (torch.arange(count) < round(recipe.class_prior * count)).long()
        images = [self._generated(part, now, rng) for part in labels.split(recipe.schedule.batch)]
        return Fakes(torch.cat(images), labels.to(device))

    def _generated(self, labels: Tensor, now: Scheduled, rng: torch.Generator) -> Tensor:
        generator = self.training.generator
        z, noise = random_inputs(generator, len(labels), rng)
        with self._autocast:
            images: Tensor = generator(z, noise, labels.to(generator.device), now.class_strength)
        return images.float()

    def _move_generator(self, now: Scheduled) -> Tensor:
        """One step of the generator towards what the discriminator takes for real; its loss."""
        recipe, training, rng = self._recipe, self.training, self.training.rng
        labels = (torch.rand(recipe.schedule.batch, generator=rng) < recipe.class_prior).long()
        self.discriminator.requires_grad_(False)
        images = self._generated(labels, now, rng)
        viewed = augment.augment(images, training.strength, recipe.augmentation, rng)
        with self._autocast:
            logits = self.discriminator(viewed, labels.to(viewed.device), now.class_strength)
            loss = losses.non_saturating_generator_loss(logits)
        training.generator_optimiser.zero_grad()
        loss.backward()
        training.generator_optimiser.step()
        self.discriminator.requires_grad_(True)
        average_weights(training, now.ema_decay)
        return loss.detach()


def clipped_gradient_sum(
    discriminator: Discriminator,
    patients: PatientImages,
    drawn: Tensor,
    fakes: Fakes,
    view: View,
    *,
    clip_norm: float | None,
) -> Tensor:
    """The sum over the patients `drawn`, (U,) int64, of their clipped mean gradients, (P,).

    Args:
        discriminator: judges each image alone (no `batch_deviation`).
        patients: all of them.
        drawn: the indices of those that take part; of none, the sum is zeros.
        fakes: the generated images to pair with, on the discriminator's device.
        view: of the step.
        clip_norm: bound on each patient's whole vector, on whose lattice the sum is then, in
            float64; None leaves the vectors as they are, in float32.

    Guarantee: adding or removing a patient moves it by at most `clip_norm`: nobody else's vector
    changes, and sums are exact. A patient whose gradient is not finite counts as zero.
    """
    # One backward pass a patient, over its few images: no example meets another's, so that nobody's
    # vector depends on who else was drawn. At these sizes it is also faster than the gradients of
    # all samples at once.
    gradients = (
        patient_gradient(discriminator, patients, patient, fakes, view)
        for patient in drawn.tolist()
        if len(patients.indices[patient])  # without a label there is nothing to learn from
    )
    zeros = torch.cat([torch.zeros_like(p).flatten() for p in discriminator.parameters()])
    if clip_norm is None:
        return sum(gradients, start=zeros)
    total, bound = zeros.to(torch.int64), clip_bound(clip_norm, len(zeros))
    for gradient in gradients:
        # All weights as one vector: clipped by layer, a patient could move each by the bound.
        # A vector that is not finite has no norm to clip by; `clip_rows` makes it zero.
        clipped = clip_rows(gradient.double().unsqueeze(0), bound)[0]
        total += whole_vectors(clipped, clip_norm)
    return on_lattice(total, clip_norm)


def patient_gradient(
    discriminator: Discriminator, patients: PatientImages, patient: int, fakes: Fakes, view: View
) -> Tensor:
    """The mean over a patient's images of the loss's gradient, (P,) float32, not clipped.

    Each image is paired with a generated one of any class. What is random here, the choice of these
    and the augmentation of both, comes from a hash of seed, step and the patient's tag.

    Guarantee: a function of the patient's own images, public state, and its tag alone, as far as
    the same kernels give the same bits for the same images.
    """
    rng = _stream(view, patients.tags[patient])
    indices = patients.indices[patient]
    device = fakes.images.device
    chosen = torch.randint(0, len(fakes.labels), (len(indices),), generator=rng).to(device)
    real = patients.images[indices]
    real = augment.random_symmetry(real, view.augmentation.symmetry, rng)
    images = torch.cat([real.to(device), fakes.images[chosen]])
    labels = torch.cat([patients.labels[indices].to(device), fakes.labels[chosen]])
    strength = view.augmentation.strength_start
    viewed = augment.augment(images, strength, view.augmentation, rng)
    logits = discriminator(viewed, labels, view.class_strength)
    of_real, of_fake = logits.split(len(indices))
    # A mean over the patient's images: one with many of them weighs no more than any other.
    loss = losses.non_saturating_discriminator_loss(of_real, of_fake)
    gradients = torch.autograd.grad(loss, list(discriminator.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])


def _stream(view: View, tag: bytes) -> torch.Generator:
    """Randomness of one patient in one step, whoever else is there."""
    digest = sha256(f"patient {view.seed} {view.step} ".encode() + tag).digest()
    seed = int.from_bytes(digest[:8], "big") & (2**63 - 1)  # torch takes 63 bits
    return torch.Generator().manual_seed(seed)
