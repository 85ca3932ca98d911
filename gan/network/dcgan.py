"""The paper's generator, a conditional DCGAN, rebuilt from its description as the baseline.

Source: Osuala et al., arXiv 2407.12669, and what `RichardObi/mammo_dp` does: 4x4 transposed
convolutions, 6x6 convolutions in the discriminator (against checkerboards, arXiv 1909.02062),
normalisation by image, no bias, the class by way of an embedding of 50 numbers and a linear layer,
cross-entropy with targets drawn from [0.7, 1.2] (synthdp's `gan/training/losses.py`), Adam 1e-4
with betas (0.5, 0.999), batches of 8: `configs/gan/dcgan.yaml`.

Not rebuilt are its bugs: it trains a network that ends in tanh on images in [0, 1]; it updates the
generator every second batch, whatever its settings say; it was left set to train on the test split;
its writer wraps negative pixels to white and its reader takes every file for benign. Here, reals
lie in [-1, 1], each step updates both, and every generated image has the class of a real one.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from .facts import Norm

EMBEDDING_DIM = 50
NEGATIVE_SLOPE = 0.1
INITIAL_STD = 0.02


class DcganGenerator(nn.Module):
    """Latent vector and class -> image by transposed convolutions.

    Args:
        channels: width of each stage from 4 px up to half the image's side, such as (1024, 512,
            256, 128, 64) for 128 px: 14.4 M parameters.
        z_dim: length of the latent vector.
        norm: by image, as the paper's code trains by default, or by batch, as its text says.
        unit_range: the weights were trained on images in [0, 1]; the output is stretched.
    """

    noise_dim = 0

    def __init__(
        self,
        channels: Sequence[int],
        z_dim: int = 100,
        norm: Norm = "instance",
        unit_range: bool = False,
    ) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.unit_range = unit_range
        self.embed_nn = nn.Sequential(
            nn.Embedding(2, EMBEDDING_DIM),
            nn.Linear(EMBEDDING_DIM, z_dim),
            nn.LeakyReLU(NEGATIVE_SLOPE),
        )
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((2 * z_dim, *channels)):
            stride, padding = (2, 1) if layers else (1, 0)
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False)]
            layers += [_normalised(norm, outputs), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(channels[-1], 1, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)
        _initialise(self)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def forward(
        self,
        z: Tensor,
        noise: Tensor,
        labels: Tensor,
        class_strength: float = 1.0,
        attributes: Tensor | None = None,
    ) -> Tensor:
        """Generate images (B, 1, S, S) in [-1, 1], or beyond where they need stretching.

        Args:
            z: (B, z_dim) standard normal.
            noise: unused; (B, 0).
            labels: (B,) int64, 1 malignant, 0 benign. The embedding counts the other way round, as
                the paper's code does, so that its checkpoints load as they are.
            class_strength: how much of the class shows, 0 to 1.
            attributes: unused.
        """
        condition = class_strength * self.embed_nn(1 - labels)
        images: Tensor = self.main(torch.cat([z, condition], dim=1)[:, :, None, None])
        images = images.float()
        return 2 * images - 1 if self.unit_range else images


class DcganDiscriminator(nn.Module):
    """Image, and the class as a second channel -> logit, by 6x6 convolutions of stride 2.

    Args:
        size_px: side of the square images.
        channels: as the generator's, from 4 px up.
    """

    def __init__(self, size_px: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.size_px = size_px
        self.embed_nn = nn.Sequential(
            nn.Embedding(2, EMBEDDING_DIM),
            nn.Linear(EMBEDDING_DIM, size_px * size_px),
            nn.LeakyReLU(NEGATIVE_SLOPE),
        )
        widths = (2, *reversed(channels))
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            layers.append(nn.Conv2d(inputs, outputs, 6, 2, 2, bias=False))
            layers += [_normalised("instance", outputs)] if index else []
            layers.append(nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))
        layers.append(nn.Conv2d(widths[-1], 1, 6, 1, 1, bias=False))
        self.main = nn.Sequential(*layers)
        _initialise(self)

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        class_strength: float = 1.0,
        attributes: Tensor | None = None,
    ) -> Tensor:
        """images (B, 1, S, S) in [-1, 1], labels (B,) int64 -> logits (B,)."""
        return self.judge(self.bands(images), labels, class_strength, attributes)

    def bands(self, images: Tensor) -> Tensor:
        """What the gradient penalty is taken with respect to: the images themselves."""
        return images

    def judge(
        self,
        bands: Tensor,
        labels: Tensor,
        class_strength: float = 1.0,
        attributes: Tensor | None = None,
    ) -> Tensor:
        """images (B, 1, S, S), labels (B,) int64 -> logits (B,)."""
        plane = class_strength * self.embed_nn(1 - labels)
        plane = plane.view(-1, 1, self.size_px, self.size_px)
        logits: Tensor = self.main(torch.cat([bands, plane.to(bands)], dim=1))
        return logits.float().flatten(1).mean(dim=1)


def _normalised(norm: Norm, width: int) -> nn.Module:
    return nn.BatchNorm2d(width) if norm == "batch" else nn.InstanceNorm2d(width)


def _initialise(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=INITIAL_STD)
