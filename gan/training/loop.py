"""One step of adversarial training, and the state that it moves."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gan.config import TrainGanSettings
from gan.network.architectures import (
    AnyDiscriminator,
    TrainedGenerator,
    new_discriminator,
    new_generator,
)
from gan.network.conditions import Conditions, draw_conditions
from gan.training import augment, losses
from gan.training.examples import Examples
from gan.training.guidance import Guidance

BASELINE_TARGETS = (0.7, 1.2)


class Guided(Protocol):
    """State beside the networks that a checkpoint keeps: what else moves the generator."""

    modules: dict[str, nn.Module]

    def state(self) -> dict[str, Any]:
        """All but the weights of the modules."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""


@dataclass
class Training:
    """All that a training run changes; `strength` is the probability of each augmentation."""

    generator: TrainedGenerator
    averaged: TrainedGenerator
    discriminator: AnyDiscriminator
    generator_optimiser: torch.optim.Adam
    discriminator_optimiser: torch.optim.Adam
    rng: torch.Generator
    strength: float
    sign_mean: float
    conditions: Conditions
    guidance: Guided | None = None
    step: int = 0


@dataclass(frozen=True)
class Schedule:
    """The values that change over a training, at one moment of it."""

    progress: float
    lr_share: float
    betas: tuple[float, float]
    gamma: float
    class_strength: float
    ema_decay: float


def new_training(
    settings: TrainGanSettings, device: torch.device, conditions: Conditions | None = None
) -> Training:
    """Initialise networks, optimisers and the stream of randomness from the seed."""
    conditions = conditions or Conditions()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        generator = new_generator(settings, conditions)
        discriminator = new_discriminator(settings, conditions)
        averaged = new_generator(settings, conditions)
    averaged.load_state_dict(generator.state_dict())
    networks: tuple[nn.Module, ...] = (generator, averaged, discriminator)
    for network in networks:
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
        conditions=conditions,
        guidance=new_guidance(settings, device),
    )


def new_guidance(settings: TrainGanSettings, device: torch.device) -> Guidance | None:
    """The guidance that the settings ask for, at its start."""
    if settings.guidance is None:
        return None
    return Guidance(settings.guidance, settings.size_px, settings.seed, device)


def total_steps(settings: TrainGanSettings) -> int:
    """Return the number of steps that show `kimg` thousand real images."""
    return math.ceil(settings.kimg * 1000 / settings.batch)


def schedule_at(step: int, settings: TrainGanSettings) -> Schedule:
    """Read the schedule at a step that shows `batch` images, as all before it."""
    seen_kimg = (step + 1) * settings.batch / 1000
    return schedule(step / total_steps(settings), seen_kimg, settings)


def schedule(progress: float, seen_kimg: float, settings: TrainGanSettings) -> Schedule:
    """Read the schedule: cosines for rates and penalty, a ramp for the class.

    Args:
        progress: share of the training that is done.
        seen_kimg: thousands of images that the generator has learned from, with the step at hand.
        settings: of the run.
    """
    begin, end = settings.class_ramp
    half_life_kimg = min(settings.ema_kimg, settings.ema_share * seen_kimg)
    return Schedule(
        progress=progress,
        lr_share=_cosine(1.0, settings.final_lr_share, progress),
        betas=(settings.beta1, _cosine(settings.beta2_start, settings.beta2_end, progress)),
        gamma=_cosine(settings.gamma_start, settings.gamma_end, progress),
        class_strength=min(max((progress - begin) / (end - begin), 0.0), 1.0),
        ema_decay=0.5 ** (settings.batch / 1000 / half_life_kimg),
    )


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def train_step(
    training: Training, real: Examples, settings: TrainGanSettings, autocast: torch.autocast
) -> dict[str, Tensor]:
    """Update discriminator, generator and averaged generator once.

    Every real image is paired with a generated one of its class and attributes. The images that
    the discriminator learns from also teach the generator, judged anew by the updated
    discriminator: that saves a pass. Where there is guidance, its losses are added.

    Args:
        real: a batch on the networks' device.
        autocast: the precision of all but the penalties.

    Returns:
        Losses and logits as scalars on the device.
    """
    now = schedule_at(training.step, settings)
    set_rates(training, settings, now)
    rng, generator, discriminator = training.rng, training.generator, training.discriminator
    told = (real.labels, now.class_strength, real.attributes)

    z = torch.randn(len(real), settings.z_dim, generator=rng).to(real.images.device)
    noise = torch.randn(len(real), generator.noise_dim, generator=rng).to(real.images.device)
    with autocast:
        fake = generator(z, noise, *told)
    real_view = augment.augment(real.images, training.strength, settings.augmentation, rng)
    fake_view = augment.augment(fake, training.strength, settings.augmentation, rng)

    # Discriminator
    with autocast:
        real_logits = discriminator(real_view, *told)
        fake_logits = discriminator(fake_view.detach(), *told)
        discriminator_loss = _discriminator_loss(real_logits, fake_logits, settings, rng)
    objective = discriminator_loss
    if now.gamma > 0 and training.step % settings.penalty_interval == 0:
        penalty = losses.gradient_penalty(discriminator, real_view, *told)
        if settings.loss == "relativistic":
            penalty = penalty + losses.gradient_penalty(discriminator, fake_view, *told)
        objective = objective + 0.5 * now.gamma * settings.penalty_interval * penalty
    training.discriminator_optimiser.zero_grad()
    objective.backward()
    training.discriminator_optimiser.step()

    # Generator
    discriminator.requires_grad_(False)
    with autocast:
        judged = discriminator(fake_view, *told)
        if settings.loss == "relativistic":
            generator_loss = losses.relativistic_loss(judged, discriminator(real_view, *told))
        else:
            generator_loss = losses.non_saturating_generator_loss(judged)
    guided, guided_metrics = _guided(training, real, fake, (real_view, fake_view), now)
    training.generator_optimiser.zero_grad()
    (generator_loss + guided).backward()
    training.generator_optimiser.step()
    discriminator.requires_grad_(True)

    average_weights(training, now.ema_decay)
    sign = (real_logits - fake_logits.mean()).sign().mean().item()
    training.sign_mean = 0.9 * training.sign_mean + 0.1 * sign
    training.strength = augment.next_strength(
        training.strength, training.sign_mean, len(real), settings.augmentation
    )
    training.step += 1
    return {
        "loss_discriminator": discriminator_loss.detach(),
        "loss_generator": generator_loss.detach(),
        "logit_gap": (real_logits - fake_logits).detach().mean(),
        **guided_metrics,
    }


def _guided(
    training: Training,
    real: Examples,
    fake: Tensor,
    views: tuple[Tensor, Tensor],
    now: Schedule,
) -> tuple[Tensor | float, dict[str, Tensor]]:
    """What the guidance, if any, adds to the generator's loss in this step, and to the log."""
    guidance = training.guidance
    if not isinstance(guidance, Guidance):
        return 0.0, {}
    loss = guidance.match_spectrum(real, fake)
    if not guidance.is_due(training.step, now.progress):
        return loss, {}
    judged, metrics = guidance.judge(
        real, *views, class_strength=now.class_strength, progress=now.progress
    )
    return loss + judged, metrics


def _discriminator_loss(
    real_logits: Tensor, fake_logits: Tensor, settings: TrainGanSettings, rng: torch.Generator
) -> Tensor:
    if settings.loss == "relativistic":
        return losses.relativistic_loss(real_logits, fake_logits)
    if settings.loss == "non_saturating":
        return losses.non_saturating_discriminator_loss(real_logits, fake_logits)
    low, high = BASELINE_TARGETS
    targets = low + (high - low) * torch.rand(len(real_logits), generator=rng)
    return losses.noisy_target_discriminator_loss(real_logits, fake_logits, targets.to(real_logits))


def set_rates(training: Training, settings: TrainGanSettings, now: Schedule) -> None:
    """Put the rates and momenta of the moment into both optimisers."""
    for optimiser, lr in (
        (training.generator_optimiser, settings.generator_lr),
        (training.discriminator_optimiser, settings.discriminator_lr),
    ):
        for group in optimiser.param_groups:
            group["lr"] = lr * now.lr_share
            group["betas"] = now.betas


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
    training: Training, settings: TrainGanSettings, columns: int = 8, rows: int = 4
) -> Tensor:
    """Draw one picture of averaged samples: two rows benign above two rows malignant.

    The latent vectors are those of the seed, so that pictures of one run can be compared.

    Returns:
        (rows * size_px, columns * size_px) float32, about [-1, 1].
    """
    rng = torch.Generator().manual_seed(settings.seed)
    labels = torch.arange(2).repeat_interleave(columns * rows // 2)
    attributes = draw_conditions(
        {"conditions": training.conditions.model_dump()}, labels, settings.seed
    )
    images = torch.cat(
        list(draw_images(training.averaged, labels, attributes, rng, settings.batch))
    )
    grid = images.view(rows, columns, settings.size_px, settings.size_px)
    return grid.permute(0, 2, 1, 3).reshape(rows * settings.size_px, columns * settings.size_px)


@torch.no_grad()
def draw_images(
    generator: TrainedGenerator,
    labels: Tensor,
    attributes: Tensor,
    rng: torch.Generator,
    batch: int,
) -> Iterator[Tensor]:
    """Draw an image for each label (N,) and row of codes (N, A), `batch` at a time, to the CPU."""
    device = generator.device
    for part, codes in zip(labels.split(batch), attributes.split(batch), strict=True):
        z = torch.randn(len(part), generator.z_dim, generator=rng).to(device)
        noise = torch.randn(len(part), generator.noise_dim, generator=rng).to(device)
        yield generator(z, noise, part.to(device), 1.0, codes.to(device)).cpu()
