"""Packing a released generator among those that come with the package."""

import shutil
from pathlib import Path

import torch
from torch import Tensor

from gan.package.description import AnyShape, read_description
from gan.package.networks import build_generator
from gan.package.pretrained import WEIGHTS
from synthdp.checkpoint import load_weights, save_weights
from synthdp.errors import InputError, RunError
from synthdp.storage.files import atomic_folder

MAX_DIFFERENCE = 2 / 255  # one grey level, of images in [-1, 1]
_CHECKED = 16


def package_generator(released: Path, out: Path) -> Path:
    """Copy a released run (`synthdp privacy --release`) to `out`, its weights as float16.

    Guarantee: the statement is the run's; a folder with a private part is refused.

    Raises:
        InputError: when it was not released, or its model is no generator.
        RunError: when an image of the packed generator differs by more than one grey level.
    """
    if (released / "private").exists():
        raise InputError(
            f"{released}: has a private part; copy out what may leave first, with `synthdp privacy "
            "--release RUN OUT`, and name OUT"
        )
    if not (released / WEIGHTS).is_file():
        raise InputError(f"{released}: its model is no generator; name a released train-gan run")
    with atomic_folder(out) as packed:
        # digests of a release's files are not those of packed ones
        left = shutil.ignore_patterns("release.json")
        shutil.copytree(released, packed, dirs_exist_ok=True, ignore=left)
        weights = load_weights(released / WEIGHTS)
        halves = {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in weights.items()
        }
        _refuse_other_images(read_description(released).shape, weights, halves)
        save_weights(packed / WEIGHTS, halves)
    return out


def _refuse_other_images(
    shape: AnyShape, weights: dict[str, Tensor], halves: dict[str, Tensor]
) -> None:
    first, second = (_images(shape, state) for state in (weights, halves))
    worst = float((first - second).abs().max())
    if not worst <= MAX_DIFFERENCE:
        raise RunError(
            f"in float16 the generator's images differ by {255 / 2 * worst:.2g} grey levels, more "
            "than 1; its weights need float32, so it was not packed"
        )


def example_labels(shape: AnyShape, count: int) -> Tensor:
    """Labels that take turns, (N,) int64, or (N, T) of several findings."""
    turns = torch.arange(count)
    findings = len(shape.conditions.findings)
    return (turns[:, None] + torch.arange(findings)) % 2 if findings else turns % 2


def _images(shape: AnyShape, state: dict[str, Tensor]) -> Tensor:
    generator = build_generator(shape)
    generator.load_state_dict(state)  # copies float16 into float32
    generator.eval()
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(_CHECKED, generator.z_dim + generator.noise_dim, generator=rng)
    z, noise = latents.split([generator.z_dim, generator.noise_dim], dim=1)
    labels = example_labels(shape, _CHECKED)
    codes = torch.zeros(_CHECKED, len(shape.conditions.names), dtype=torch.int64)
    with torch.no_grad():
        images: Tensor = generator(z, noise, labels, 1.0, codes)
    return images.clamp(-1, 1)
