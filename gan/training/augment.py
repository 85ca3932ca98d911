"""Differentiable augmentation of what the discriminator sees, and the controller of its strength.

Every transform acts on real and generated images alike, so the discriminator cannot memorise a
small set and the generator does not learn the transform (Zhao et al., arXiv 2006.10738; Karras et
al., arXiv 2006.06676).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gan.settings.parts import AugmentationSettings, Symmetry
from synthdp.networks.readout import dihedral_copy


def augment(
    images: Tensor, strength: float, settings: AugmentationSettings, rng: torch.Generator
) -> Tensor:
    """Apply each transform to each image with probability `strength`.

    Args:
        images: (B, 1, S, S) float32 in [-1, 1]; gradients flow through.
        strength: probability of each transform, 0 to 1; 0 returns the images themselves.
        rng: a generator on the CPU; the draws do not depend on the device.

    Returns:
        (B, 1, S, S), possibly beyond [-1, 1].
    """
    if strength == 0:
        return images
    images = change_grey_levels(images, strength, settings, rng)
    images = translate(images, strength, settings.translation, rng)
    return cut_out(images, strength, settings.cutout, rng)


def change_grey_levels(
    images: Tensor, strength: float, settings: AugmentationSettings, rng: torch.Generator
) -> Tensor:
    """Stretch the contrast about each image's mean and shift its brightness."""
    batch = len(images)
    contrast = 1 + settings.contrast * _symmetric(batch, rng) * _chosen(batch, strength, rng)
    brightness = settings.brightness * _symmetric(batch, rng) * _chosen(batch, strength, rng)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * _per_image(contrast, images) + mean + _per_image(brightness, images)


def translate(images: Tensor, strength: float, share: float, rng: torch.Generator) -> Tensor:
    """Shift by up to `share` of the side in whole pixels; the gap is filled by mirroring."""
    batch, side = len(images), images.shape[-1]
    reach = round(share * side)
    offsets = torch.randint(-reach, reach + 1, (batch, 2), generator=rng)
    offsets = offsets * _chosen(batch, strength, rng)[:, None].long() + reach
    padded = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    shifted = [
        image[:, top : top + side, left : left + side]
        for image, (top, left) in zip(padded.unbind(0), offsets.tolist(), strict=True)
    ]
    return torch.stack(shifted)


def cut_out(images: Tensor, strength: float, share: float, rng: torch.Generator) -> Tensor:
    """Set a square of `share` of the side, its centre anywhere in the image, to mid grey (0)."""
    batch, side = len(images), images.shape[-1]
    half = share * side / 2
    centres = torch.rand((batch, 2), generator=rng) * side
    pixels = torch.arange(side) + 0.5
    rows = (pixels[None, :] - centres[:, :1]).abs() < half
    columns = (pixels[None, :] - centres[:, 1:]).abs() < half
    hole = rows[:, None, :, None] & columns[:, None, None, :]
    chosen = _chosen(batch, strength, rng).bool()[:, None, None, None]
    return images * (~(hole & chosen)).to(images)


def random_symmetry(images: Tensor, symmetry: Symmetry, rng: torch.Generator) -> Tensor:
    """Move each image (B, 1, S, S) by a symmetry drawn at random; for real images only.

    `mirror` is the identity or left for right: a left breast looks as a mirrored right one.
    `dihedral` is one of the eight symmetries of the square. Film digitisers leave other noise along
    rows than along columns, and breasts hang down, so turned images are not like real ones: on
    CBIS-DDSM their Frechet distance (DINOv2) to the images themselves is 26, that of mirrored 3.
    """
    if symmetry == "none":
        return images
    if symmetry == "mirror":
        chosen = torch.rand(len(images), generator=rng) < 0.5
        return torch.where(_per_image(chosen, images).bool(), images.flip(-1), images)
    numbers = torch.randint(0, 8, (len(images),), generator=rng).tolist()
    drawn = zip(images.unbind(0), numbers, strict=True)
    return torch.stack([dihedral_copy(image, number) for image, number in drawn])


def next_strength(
    strength: float, sign_mean: float, images_seen: int, settings: AugmentationSettings
) -> float:
    """Move the strength towards the target of the discriminator's sign statistic.

    Args:
        strength: the present probability.
        sign_mean: mean sign of D(real) - mean D(generated), -1 to 1; near 1 is overfitting.
        images_seen: how many images the statistic covers; 0 to 1 takes `settings.ramp_kimg`.

    The floor `strength_min` keeps some augmentation: with relativistic pairs the statistic may stay
    below its target while the discriminator already overfits. Source: Karras et al., arXiv
    2006.06676, section 3.
    """
    step = images_seen / (1000 * settings.ramp_kimg)
    moved = strength + (step if sign_mean > settings.target_sign else -step)
    return min(max(moved, settings.strength_min), settings.strength_max)


def _symmetric(count: int, rng: torch.Generator) -> Tensor:
    return 2 * torch.rand(count, generator=rng) - 1


def _chosen(count: int, strength: float, rng: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=rng) < strength).float()


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images)[:, None, None, None]
