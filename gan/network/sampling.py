"""The images that a generator draws, each from the seed, its label and its place alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gan.network.architectures import AnyGenerator
from gan.network.dcgan import DcganGenerator
from gan.network.generator import Generator
from gan.network.latents import draw_latents
from gan.network.mixture import Mixture
from synthdp.errors import RunError

# Truncation: images nearer to the typical one of their class, at the cost of variety.

#: How many latent vectors a mean style is taken over, and their seed: public constants.
MEAN_OF = 4096
MEAN_SEED = 0


class Truncated:
    """Draws from a generator with its styles pulled towards the mean style of what is told.

    style' = mean + truncation * (style - mean), the truncation of Karras et al. (arXiv 1812.04948,
    appendix B) with one mean for each class and combination of attributes, so that neither changes.
    A shorter z would change nothing in `gan.network.generator`, which brings z to unit length; the
    DCGAN takes z as it is, so there it is shortened itself. The noise maps stay: they draw fine
    texture. A truncation of 1 is the generator as it is.

    Args:
        generator: in evaluation.
        truncation: in (0, 1].
    """

    def __init__(self, generator: AnyGenerator, truncation: float) -> None:
        self._generator = generator
        self._truncation = truncation
        self._means: dict[tuple[int, ...], Tensor] = {}
        members = generator.generators if isinstance(generator, Mixture) else []
        self._members = [Truncated(member, truncation) for member in members]

    def images(
        self, z: Tensor, noise: Tensor, labels: Tensor, attributes: Tensor | None = None
    ) -> Tensor:
        """As the generator's own `forward`: images (B, 1, S, S) float32."""
        generator = self._generator
        if self._truncation == 1:
            images: Tensor = generator(z, noise, labels, 1.0, attributes)
            return images
        if isinstance(generator, Mixture):

            def draw(
                place: int, z: Tensor, noise: Tensor, labels: Tensor, attributes: Tensor | None
            ) -> Tensor:
                return self._members[place].images(z, noise, labels, attributes)

            return generator.by_member(draw, z, noise, labels, attributes)
        if isinstance(generator, DcganGenerator):
            images = generator(self._truncation * z, noise, labels)
            return images
        styles = generator.styles(z, labels, 1.0, attributes)
        means = self._mean_styles(generator, labels, attributes)
        return generator.synthesise(means + self._truncation * (styles - means), noise)

    def _mean_styles(
        self, generator: Generator, labels: Tensor, attributes: Tensor | None
    ) -> Tensor:
        """The mean style (B, style_dim) of the class and attributes of each image."""
        columns = labels[:, None]
        if attributes is not None:
            columns = torch.cat([columns, attributes], dim=1)
        told = [tuple(row) for row in columns.tolist()]
        for one in set(told) - self._means.keys():
            z = draw_latents(MEAN_SEED, range(MEAN_OF), generator.z_dim).to(labels.device)
            repeated = torch.tensor(one, device=labels.device).expand(MEAN_OF, -1)
            codes = repeated[:, 1:] if attributes is not None else None
            self._means[one] = generator.styles(z, repeated[:, 0], 1.0, codes).mean(dim=0)
        return torch.stack([self._means[one] for one in told])


@dataclass(frozen=True)
class Drawing:
    """What is to be drawn; nothing is, before `images` is asked.

    Attributes:
        generator: in evaluation, on any device.
        labels: (N,) int64, 1 malignant, 0 benign.
        attributes: (N, A) int64 codes; A is 0 for a generator without conditions.
        seed: names the set.
        batch: how many are computed at a time; it moves an image by a grey level at most.
        truncation: in (0, 1], see `gan.network.sampling`.
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
