"""The conditional generator, which draws the Haar bands of an image at a part of its side."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .facts import FIRST_SIDE
from .film import Film
from .layers import (
    NEGATIVE_SLOPE,
    ClassEmbedding,
    Modulation,
    NoisyConvolution,
    SkipExcitation,
    attribute_embeddings,
    band_scales,
    embedded,
    haar_kernels,
    initialise_leaky,
    stage_count,
)


class Generator(nn.Module):
    """Latent vector, noise and class -> image, by way of its Haar bands.

    Args:
        size_px: side of the square images: 4 px times a power of two.
        channels: width of each of `stage_count` stages, from 4 px up to size_px / 2^haar_levels.
        z_dim: length of the latent vector.
        haar_levels: how often the image is halved: 1 or 2.
        style_dim: length of the style vector that modulates every layer.
        attribute_levels: for each further attribute, how many known levels it has.
        findings: how many findings an image may have, each with two classes.
        film: whether a film (`film.py`) follows the network.
    """

    def __init__(
        self,
        size_px: int,
        channels: Sequence[int],
        z_dim: int,
        haar_levels: int = 1,
        style_dim: int = 128,
        *,
        attribute_levels: Sequence[int] = (),
        findings: int = 1,
        film: bool = False,
    ) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.haar_levels = haar_levels
        self.class_embedding = ClassEmbedding(findings, style_dim, std=0.5)
        self.mapping = nn.Sequential(
            nn.Linear(z_dim + style_dim, style_dim),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Linear(style_dim, style_dim),
            nn.LeakyReLU(NEGATIVE_SLOPE),
        )
        initialise_leaky(self.mapping)
        self.constant = nn.Parameter(torch.randn(1, channels[0], FIRST_SIDE, FIRST_SIDE))
        self.first_modulation = Modulation(channels[0], style_dim)
        self.stages = nn.ModuleList()
        self.skips = nn.ModuleDict()
        self.noise_sizes: list[int] = []
        for index in range(1, stage_count(size_px, haar_levels)):
            side = FIRST_SIDE * 2**index
            before, width = channels[index - 1], channels[index]
            layers = [NoisyConvolution(before, width, side, style_dim, doubles=True)]
            if side >= 16:
                layers.append(NoisyConvolution(width, width, side, style_dim, doubles=False))
            self.stages.append(nn.ModuleList(layers))
            self.noise_sizes += [side * side] * len(layers)
            if index >= 3:
                self.skips[str(index)] = SkipExcitation(channels[index - 3], channels[index])
        self.to_bands = nn.Conv2d(channels[-1], 4**haar_levels, 3, padding=1)
        self.synthesis: Tensor
        kernels = haar_kernels(haar_levels) / band_scales(haar_levels).view(-1, 1, 1, 1)
        self.register_buffer("synthesis", kernels, persistent=False)
        self.film = Film(size_px) if film else None
        self.noise_dim = sum(self.noise_sizes) + (self.film.noise_dim if self.film else 0)
        self.attribute_embeddings = attribute_embeddings(attribute_levels, style_dim, std=0.5)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.constant.device

    def forward(
        self,
        z: Tensor,
        noise: Tensor,
        labels: Tensor,
        class_strength: float = 1.0,
        attributes: Tensor | None = None,
    ) -> Tensor:
        """Generate images.

        Args:
            z: (B, z_dim) standard normal.
            noise: (B, noise_dim) standard normal, cut into one map for every convolution, and the
                film's.
            labels: (B,) int64, 1 malignant, 0 benign; of several findings (B, T), -1 unknown.
            class_strength: how much of class and attributes shows, 0 to 1.
            attributes: (B, A) int64 codes, 0 unknown; needed when there are attributes.

        Returns:
            (B, 1, size_px, size_px) float32, about [-1, 1]; not clamped.
        """
        return self.synthesise(self.styles(z, labels, class_strength, attributes), noise)

    def styles(
        self, z: Tensor, labels: Tensor, class_strength: float, attributes: Tensor | None
    ) -> Tensor:
        """The styles (B, style_dim) of latent vectors, class and attributes; see `forward`."""
        unit_z = z * z.square().mean(dim=1, keepdim=True).add(1e-8).rsqrt()
        condition = self.class_embedding(labels) + embedded(self.attribute_embeddings, attributes)
        style: Tensor = self.mapping(torch.cat([unit_z, class_strength * condition], dim=1))
        return style

    def synthesise(self, style: Tensor, noise: Tensor) -> Tensor:
        """style (B, style_dim), noise (B, noise_dim) -> images (B, 1, size_px, size_px)."""
        of_maps = sum(self.noise_sizes)
        noise_maps = iter(noise[:, :of_maps].split(self.noise_sizes, dim=1))
        constant = self.constant.expand(style.shape[0], -1, -1, -1)
        features = [self.first_modulation(constant, style)]
        for index, layers in enumerate(self.stages, start=1):
            current = features[-1]
            for layer in layers:  # type: ignore[attr-defined]  # a ModuleList, typed as a Module
                current = layer(current, next(noise_maps), style)
            if str(index) in self.skips:
                current = self.skips[str(index)](features[index - 3], current)
            features.append(current)
        bands = self.to_bands(features[-1]).float()
        with torch.autocast(bands.device.type, enabled=False):  # 8 bits of bfloat16 would show
            images = F.conv_transpose2d(bands, self.synthesis, stride=2**self.haar_levels)
            if self.film is not None:
                images = self.film(images, noise[:, of_maps:])
        return images
