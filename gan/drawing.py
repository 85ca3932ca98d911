"""The images that a generator draws, each from the seed, its label and its place alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gan.architectures import AnyGenerator
from gan.latents import draw_latents
from gan.truncation import Truncated
from synthdp.errors import RunError


@dataclass(frozen=True)
class Drawing:
    """What is to be drawn; nothing is, before `images` is asked.

    Attributes:
        generator: in evaluation, on any device.
        labels: (N,) int64, 1 malignant, 0 benign.
        attributes: (N, A) int64 codes; A is 0 for a generator without conditions.
        seed: names the set.
        batch: how many are computed at a time; it moves an image by a grey level at most.
        truncation: in (0, 1], see `gan.truncation`.
    """

    generator: AnyGenerator
    labels: Tensor
    attributes: Tensor
    seed: int
    batch: int = 64
    truncation: float = 1.0

    def images(self, places: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the images at `places` (M,), all when None, as (<= batch, 1, S, S) in [-1, 1].

        Raises:
            RunError: when a pixel is not a number.
        """
        generator, device = self.generator, self.generator.device
        truncated = Truncated(generator, self.truncation)
        size = generator.z_dim + generator.noise_dim
        for part in (torch.arange(len(self.labels)) if places is None else places).split(
            self.batch
        ):
            latents = draw_latents(self.seed, part.tolist(), size).to(device)
            z, noise = latents.split([generator.z_dim, generator.noise_dim], dim=1)
            told = self.attributes[part].to(device) if self.attributes.shape[1] else None
            with torch.inference_mode():
                images = truncated.images(z, noise, self.labels[part].to(device), told)
            if not torch.isfinite(images).all():
                raise RunError(
                    "the generator draws pixels that are no numbers: its weights have diverged or "
                    "are damaged; restore them, or train it again"
                )
            yield images.clamp(-1, 1)
