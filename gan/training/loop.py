"""Adversarial training of a generator: its state, its schedule, one step, and the loop of steps.

The private methods (`gan.private`) move the same state by the same schedule, along other gradients.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gan.network.dcgan import DcganDiscriminator
from gan.network.discriminator import Discriminator
from gan.network.sampling import draw_codes, draw_findings
from gan.package.conditions import Conditions
from gan.package.description import DcganShape, TrainedShape
from gan.package.networks import TrainedGenerator, build_generator
from gan.settings.parts import AugmentationSettings
from gan.settings.train import TrainGanSettings
from gan.training import augment, losses
from gan.training.examples import Examples, draw_batch
from gan.training.guidance import Guidance
from gan.training.losses import AnyDiscriminator
from synthdp.errors import RunError
from synthdp.machine.devices import reduced_precision
from synthdp.machine.progress import progress
from synthdp.machine.time_budget import TimeBudget, budget_of

#: Metrics are logged about every so many thousand images.
LOG_KIMG = 1.0
#: The targets of real images with `loss: bce`, drawn anew for each (`gan.network.dcgan`).
BASELINE_TARGETS = (0.7, 1.2)


@dataclass
class Training:
    """All that a training moves; `strength` is the probability of each augmentation.

    budget: its steps, and the clock that may end it before.
    """

    generator: TrainedGenerator
    averaged: TrainedGenerator
    discriminator: AnyDiscriminator
    generator_optimiser: torch.optim.Adam
    discriminator_optimiser: torch.optim.Adam
    rng: torch.Generator
    strength: float
    sign_mean: float
    budget: TimeBudget
    step: int = 0

    @property
    def share(self) -> float:
        """The share of the training that is done, by steps or by the clock that ends it."""
        return self.budget.share(self.step)


@dataclass(frozen=True)
class Scheduled:
    """The values that change over a training, as they are in one step of it."""

    progress: float
    generator_lr: float
    discriminator_lr: float
    betas: tuple[float, float]
    gamma: float
    class_strength: float
    ema_decay: float


@dataclass(frozen=True)
class Schedule:
    """How rates, penalty, class and average change over the steps of the generator: public numbers.

    Cosines for rates and penalty, a ramp for the class. `beta2` and `gamma` are (start, end);
    `steps` is how often the generator is moved in all, by `batch` images each time.
    """

    steps: int
    batch: int
    generator_lr: float
    discriminator_lr: float
    final_lr_share: float
    beta1: float
    beta2: tuple[float, float]
    gamma: tuple[float, float]
    class_ramp: tuple[float, float]
    ema_kimg: float
    ema_share: float

    @classmethod
    def of(cls, settings: TrainGanSettings, steps: int | None = None) -> "Schedule":
        """The schedule that the settings name, over `steps`, or as many as show `kimg` images."""
        return cls(
            steps=math.ceil(settings.kimg * 1000 / settings.batch) if steps is None else steps,
            batch=settings.batch,
            generator_lr=settings.generator_lr,
            discriminator_lr=settings.discriminator_lr,
            final_lr_share=settings.final_lr_share,
            beta1=settings.beta1,
            beta2=(settings.beta2_start, settings.beta2_end),
            gamma=(settings.gamma_start, settings.gamma_end),
            class_ramp=settings.class_ramp,
            ema_kimg=settings.ema_kimg,
            ema_share=settings.ema_share,
        )

    def at(self, step: int, share: float | None = None) -> Scheduled:
        """The values of step number `step` of the generator, from 0.

        `share` of the training is done before it, where that is not `step` / `steps`.
        """
        progress = step / self.steps if share is None else share
        begin, end = self.class_ramp
        lr_share = _cosine(1.0, self.final_lr_share, progress)
        seen_kimg = (step + 1) * self.batch / 1000
        half_life_kimg = min(self.ema_kimg, self.ema_share * seen_kimg)
        return Scheduled(
            progress=progress,
            generator_lr=self.generator_lr * lr_share,
            discriminator_lr=self.discriminator_lr * lr_share,
            betas=(self.beta1, _cosine(*self.beta2, progress)),
            gamma=_cosine(*self.gamma, progress),
            class_strength=min(max((progress - begin) / (end - begin), 0.0), 1.0),
            ema_decay=0.5 ** (self.batch / 1000 / half_life_kimg),
        )


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@dataclass(frozen=True)
class AdversarialRecipe:
    """How generator and discriminator are trained against each other: public numbers."""

    schedule: Schedule
    loss: Literal["relativistic", "non_saturating", "bce"]
    penalty_interval: int
    augmentation: AugmentationSettings
    checkpoint_kimg: float

    @classmethod
    def of(cls, settings: TrainGanSettings) -> "AdversarialRecipe":
        """The recipe that the settings name."""
        return cls(
            schedule=Schedule.of(settings),
            loss=settings.loss,
            penalty_interval=settings.penalty_interval,
            augmentation=settings.augmentation,
            checkpoint_kimg=settings.checkpoint_kimg,
        )


def new_training(
    settings: TrainGanSettings, device: torch.device, conditions: Conditions | None = None
) -> Training:
    """Initialise networks, optimisers and the stream of randomness from the seed."""
    shape = settings.shape(conditions or Conditions())
    private = settings.method == "dp_discriminator"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        generator = build_generator(shape)
        discriminator = _build_discriminator(
            shape, settings.dp_discriminator.channels if private else None
        )
        averaged = build_generator(shape)
    averaged.load_state_dict(generator.state_dict())
    networks: tuple[nn.Module, ...] = (generator, averaged, discriminator)
    for network in networks:
        # torch's stubs know no `to` with a memory format; a float32 network needs it to be fast.
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Training(
        generator=generator,
        averaged=averaged.requires_grad_(False),
        discriminator=discriminator,
        generator_optimiser=torch.optim.Adam(
            generator.parameters(), lr=settings.generator_lr, fused=True
        ),
        discriminator_optimiser=torch.optim.Adam(
            discriminator.parameters(), lr=settings.discriminator_lr, fused=True
        ),
        rng=torch.Generator().manual_seed(settings.seed + 1),
        strength=settings.augmentation.strength_start,
        sign_mean=settings.augmentation.target_sign,
        budget=budget_of(Schedule.of(settings).steps, settings.minutes),
    )


def _build_discriminator(
    shape: TrainedShape, private_channels: Sequence[int] | None = None
) -> AnyDiscriminator:
    """A discriminator for a generator of this shape, drawn from torch's global stream.

    Args:
        shape: of the generator.
        private_channels: width of its stages where it learns by DP-SGD: then it judges each image
            alone.
    """
    if isinstance(shape, DcganShape):
        return DcganDiscriminator(shape.size_px, shape.channels)
    if private_channels is not None:
        return Discriminator(private_channels, shape.haar_levels, batch_deviation=False)
    return Discriminator(
        shape.channels,
        shape.haar_levels,
        shape.conditions.level_counts,
        findings=shape.conditions.n_findings,
    )


def train_adversarially(
    training: Training,
    examples: Examples,
    recipe: AdversarialRecipe,
    guidance: Guidance | None = None,
    *,
    log: Callable[..., None],
    keep: Callable[[], None],
) -> None:
    """Train from the step that `training` has reached to the last.

    Args:
        training: moved in place.
        examples: the real images, on the CPU.
        recipe: schedule, losses and augmentation.
        guidance: what a frozen network adds; moved in place too.
        log: takes one line of metrics about every thousand images.
        keep: saves a checkpoint; called every `checkpoint_kimg` and at the end.

    Raises:
        RunError: when a loss or a weight is no longer a number; no such weight is kept.
    """
    device = training.generator.device
    autocast = reduced_precision(device)
    schedule, batch = recipe.schedule, recipe.schedule.batch
    kept_step = training.step
    recent: dict[str, list[Tensor]] = {}
    since, steps_since = time.monotonic(), 0
    for step in steps_left(training, what="training the generator"):
        share = training.share
        real = draw_batch(examples, batch, recipe.augmentation.symmetry, training.rng).to(device)
        metrics = train_step(training, real, recipe, autocast, guidance)
        last = training.budget.is_over(training.step)
        is_kept = last or _passes(recipe.checkpoint_kimg, step, batch)
        if not math.isfinite(float(sum(metrics.values()))) or (
            is_kept and not weights_are_finite(training)
        ):
            raise RunError(_divergence_words(step, kept_step, schedule))
        for name, value in metrics.items():  # the frozen network is not asked in every step
            recent.setdefault(name, []).append(value)
        steps_since += 1
        if last or _passes(LOG_KIMG, step, batch):
            seconds = time.monotonic() - since
            log(
                step=training.step,
                kimg=round(training.step * batch / 1000, 3),
                **{
                    name: round(torch.stack(values).mean().item(), 5)
                    for name, values in recent.items()
                },
                sign_mean=round(training.sign_mean, 4),
                augmentation=round(training.strength, 4),
                class_strength=round(schedule.at(step, share).class_strength, 4),
                images_per_s=round(steps_since * batch / seconds, 2),
            )
            recent, since, steps_since = {}, time.monotonic(), 0
        if is_kept:
            keep()
            kept_step = training.step
        if last:
            return


def steps_left(training: Training, *, what: str) -> Iterator[int]:
    """The numbers of the steps that are left; whoever takes them stops when the budget is over."""
    budget, begun = training.budget, training.step
    if budget.is_over(begun):  # stopped between its last step and its end
        return
    for step in progress(
        range(begun, int(budget.steps)),
        what=what,
        public_unit="steps",
        begun=begun,
        estimate=budget.seconds_left,
    ):
        yield step
        budget.note(training.step)


def _passes(every_kimg: float, step: int, batch: int) -> bool:
    """Whether a step takes the count of images seen over a multiple of `every_kimg` thousand."""
    every = max(1, round(every_kimg * 1000))
    return (step + 1) * batch // every > step * batch // every


def _divergence_words(step: int, kept_step: int, schedule: Schedule) -> str:
    last_good = f"the last good checkpoint is that of step {kept_step}"
    kept = last_good if kept_step else "no checkpoint was kept"
    return (
        f"the training diverged at step {step + 1}: a loss or a weight is no longer a number; "
        f"{kept}. Start a new run with lower learning rates (generator_lr "
        f"{schedule.generator_lr:g}, discriminator_lr {schedule.discriminator_lr:g}) or a higher "
        "gamma_start"
    )


def train_step(
    training: Training,
    real: Examples,
    recipe: AdversarialRecipe,
    autocast: torch.autocast,
    guidance: Guidance | None = None,
) -> dict[str, Tensor]:
    """Update discriminator, generator and averaged generator once.

    Every real image is paired with a generated one of its class and attributes. The images that
    the discriminator learns from also teach the generator, judged anew by the updated
    discriminator: that saves a pass. Where there is guidance, its losses are added.

    Args:
        training: moved in place.
        real: a batch on the networks' device.
        recipe: schedule, losses and augmentation.
        autocast: the precision of all but the penalties.
        guidance: what a frozen network adds; moved in place too.

    Returns:
        Losses and logits as scalars on the device.
    """
    now = recipe.schedule.at(training.step, training.share)
    set_rates(training, now)
    rng, generator, discriminator = training.rng, training.generator, training.discriminator
    condition = (real.labels, now.class_strength, real.attributes)

    # One generated image for each real one; both are augmented alike.
    z, noise = random_inputs(generator, len(real), rng)
    with autocast:
        fake = generator(z, noise, *condition)
    real_view = augment.augment(real.images, training.strength, recipe.augmentation, rng)
    fake_view = augment.augment(fake, training.strength, recipe.augmentation, rng)

    # The discriminator learns to tell them apart. The penalty is taken every few steps, weighed by
    # as much: its second derivatives are the slowest part of a step.
    with autocast:
        real_logits = discriminator(real_view, *condition)
        fake_logits = discriminator(fake_view.detach(), *condition)
        discriminator_loss = _discriminator_loss(recipe.loss, real_logits, fake_logits, rng)
    objective = discriminator_loss
    if now.gamma > 0 and training.step % recipe.penalty_interval == 0:
        penalty = losses.gradient_penalty(discriminator, real_view, *condition)
        if recipe.loss == "relativistic":
            penalty = penalty + losses.gradient_penalty(discriminator, fake_view, *condition)
        objective = objective + 0.5 * now.gamma * recipe.penalty_interval * penalty
    training.discriminator_optimiser.zero_grad()
    objective.backward()
    training.discriminator_optimiser.step()

    # The generator learns from the same images, as the updated discriminator sees them.
    discriminator.requires_grad_(False)
    with autocast:
        fake_logits_now = discriminator(fake_view, *condition)
        if recipe.loss == "relativistic":
            real_logits_now = discriminator(real_view, *condition)
            generator_loss = losses.relativistic_loss(fake_logits_now, real_logits_now)
        else:
            generator_loss = losses.non_saturating_generator_loss(fake_logits_now)
    guided_loss: Tensor | float = 0.0
    guided_metrics: dict[str, Tensor] = {}
    if guidance is not None:
        guided_loss, guided_metrics = guidance.loss(
            real,
            fake,
            (real_view, fake_view),
            step=training.step,
            progress=now.progress,
            class_strength=now.class_strength,
        )
    training.generator_optimiser.zero_grad()
    (generator_loss + guided_loss).backward()
    training.generator_optimiser.step()
    discriminator.requires_grad_(True)

    # The average follows; the augmentation gets stronger where the discriminator is too sure.
    average_weights(training, now.ema_decay)
    sign = (real_logits - fake_logits.mean()).sign().mean().item()
    training.sign_mean = 0.9 * training.sign_mean + 0.1 * sign
    training.strength = augment.next_strength(
        training.strength, training.sign_mean, len(real), recipe.augmentation
    )
    training.step += 1
    return {
        "loss_discriminator": discriminator_loss.detach(),
        "loss_generator": generator_loss.detach(),
        "logit_gap": (real_logits - fake_logits).detach().mean(),
        **guided_metrics,
    }


def _discriminator_loss(
    loss: str, real_logits: Tensor, fake_logits: Tensor, rng: torch.Generator
) -> Tensor:
    if loss == "relativistic":
        return losses.relativistic_loss(real_logits, fake_logits)
    if loss == "non_saturating":
        return losses.non_saturating_discriminator_loss(real_logits, fake_logits)
    low, high = BASELINE_TARGETS
    targets = low + (high - low) * torch.rand(len(real_logits), generator=rng)
    return losses.noisy_target_discriminator_loss(real_logits, fake_logits, targets.to(real_logits))


def set_rates(training: Training, now: Scheduled) -> None:
    """Put the rates and momenta of a step into both optimisers."""
    for optimiser, lr in (
        (training.generator_optimiser, now.generator_lr),
        (training.discriminator_optimiser, now.discriminator_lr),
    ):
        for group in optimiser.param_groups:
            group["lr"] = lr
            group["betas"] = now.betas


def random_inputs(
    generator: TrainedGenerator, count: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Standard normal z (B, z_dim) and noise (B, noise_dim), on the generator's device.

    They are drawn on the CPU, z first, so that a run draws the same on any device.
    """
    z = torch.randn(count, generator.z_dim, generator=rng)
    noise = torch.randn(count, generator.noise_dim, generator=rng)
    return z.to(generator.device), noise.to(generator.device)


@torch.no_grad()
def average_weights(training: Training, decay: float) -> None:
    """Move the averaged generator a share of 1 - `decay` towards the generator."""
    averaged: list[Tensor] = [*training.averaged.parameters()]
    current: list[Tensor] = [*training.generator.parameters()]
    torch._foreach_lerp_(averaged, current, 1 - decay)


def weights_are_finite(training: Training) -> bool:
    """Whether every weight of the three networks is a number."""
    networks = (training.generator, training.averaged, training.discriminator)
    return all(bool(p.isfinite().all()) for network in networks for p in network.parameters())


def sample_grid(
    generator: TrainedGenerator,
    conditions: Conditions,
    *,
    seed: int,
    batch: int,
    columns: int = 8,
    rows: int = 4,
) -> Tensor:
    """Draw one picture of samples: two rows benign above two rows malignant.

    Of several findings, what the conditions' own draw gives.

    The latent vectors are those of the seed, so that pictures of one run can be compared.

    Returns:
        (rows * S, columns * S) float32, about [-1, 1].
    """
    rng = torch.Generator().manual_seed(seed)
    if conditions.findings:
        count = columns * rows
        labels, attributes = draw_findings(conditions.tables, count, seed, len(conditions.findings))
    else:
        labels = torch.arange(2).repeat_interleave(columns * rows // 2)
        attributes = draw_codes(conditions.tables, labels, seed)
    images = torch.cat(list(draw_images(generator, labels, attributes, rng, batch)))
    size_px = images.shape[-1]
    grid = images.view(rows, columns, size_px, size_px)
    return grid.permute(0, 2, 1, 3).reshape(rows * size_px, columns * size_px)


@torch.no_grad()
def draw_images(
    generator: TrainedGenerator,
    labels: Tensor,
    attributes: Tensor,
    rng: torch.Generator,
    batch: int,
) -> Iterator[Tensor]:
    """Draw an image for each label and row of codes (N, A), `batch` at a time, to the CPU."""
    device = generator.device
    for part, codes in zip(labels.split(batch), attributes.split(batch), strict=True):
        z, noise = random_inputs(generator, len(part), rng)
        yield generator(z, noise, part.to(device), 1.0, codes.to(device)).cpu()
