"""The conditional generator and its discriminator: both work on the four Haar bands of an image."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan.network.film import Film
from gan.network.layers import (
    FIRST_SIDE,
    NEGATIVE_SLOPE,
    Modulation,
    NoisyConvolution,
    SkipExcitation,
    append_batch_deviation,
    attribute_embeddings,
    band_scales,
    embedded,
    haar_kernels,
    initialise_leaky,
    stage_count,
)


class Generator(nn.Module):
    """Latent vector, noise and class -> image, by way of the four Haar bands at half the size.

    Args:
        size_px: side of the square images: 32, 64 or 128.
        channels: width of each stage, from 4 px up to size_px / 2 (`stage_count(size_px)` of them).
        z_dim: length of the latent vector.
        style_dim: length of the style vector that modulates every layer.
        attribute_levels: for each further attribute, how many known levels it has.
        film: whether a film (`gan.network.film`) follows the network.
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
        film: bool = False,
    ) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.haar_levels = haar_levels
        self.class_embedding = nn.Embedding(2, style_dim)
        nn.init.normal_(self.class_embedding.weight, std=0.5)
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
        """Where the weights are."""
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
            labels: (B,) int64, 1 malignant, 0 benign.
            class_strength: how much of class and attributes is told, 0 to 1.
            attributes: (B, A) int64 codes, 0 unknown; needed when there are attributes.

        Returns:
            (B, 1, size_px, size_px) float32, about [-1, 1]; not clamped.
        """
        return self.synthesise(self.styles(z, labels, class_strength, attributes), noise)

    def styles(
        self, z: Tensor, labels: Tensor, class_strength: float, attributes: Tensor | None
    ) -> Tensor:
        """The style vectors (B, style_dim) of latent vectors and what is told; see `forward`."""
        unit_z = z * z.square().mean(dim=1, keepdim=True).add(1e-8).rsqrt()
        told = self.class_embedding(labels) + embedded(self.attribute_embeddings, attributes)
        style: Tensor = self.mapping(torch.cat([unit_z, class_strength * told], dim=1))
        return style

    def synthesise(self, style: Tensor, noise: Tensor) -> Tensor:
        """style (B, style_dim), noise (B, noise_dim) -> images (B, 1, size_px, size_px)."""
        of_maps = sum(self.noise_sizes)
        noise_maps = iter(noise[:, :of_maps].split(self.noise_sizes, dim=1))
        constant = self.constant.expand(len(style), -1, -1, -1)
        features = [self.first_modulation(constant, style)]
        for index, layers in enumerate(self.stages, start=1):
            current = features[-1]
            for layer in layers:  # type: ignore[attr-defined]
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


class Discriminator(nn.Module):
    """Judge images by their scaled Haar bands; class and attributes enter by projection.

    logit = o(h) + class_strength * <E_y + sum of E_a, h> (Miyato and Koyama, arXiv 1802.05637, eq.
    4), with one embedding E_a for each attribute. Without `batch_deviation` it judges each image
    alone.
    """

    def __init__(
        self,
        channels: Sequence[int],
        haar_levels: int = 1,
        attribute_levels: Sequence[int] = (),
        *,
        batch_deviation: bool = True,
    ) -> None:
        super().__init__()
        self.haar_levels = haar_levels
        self.batch_deviation = batch_deviation
        self.analysis: Tensor
        kernels = haar_kernels(haar_levels) * band_scales(haar_levels).view(-1, 1, 1, 1)
        self.register_buffer("analysis", kernels, persistent=False)
        widths = list(reversed(channels))
        layers: list[nn.Module] = [nn.Conv2d(4**haar_levels, widths[0], 3, padding=1)]
        for inputs, outputs in pairwise(widths):
            layers += [nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)]
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1)]
        layers.append(nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))
        self.body = nn.Sequential(*layers)
        hidden_dim = widths[-1]
        self.head = nn.Sequential(
            nn.Conv2d(hidden_dim + int(batch_deviation), hidden_dim, 3, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Flatten(),
            nn.Linear(hidden_dim * FIRST_SIDE**2, hidden_dim),
            nn.LeakyReLU(NEGATIVE_SLOPE),
        )
        initialise_leaky(self.body)
        initialise_leaky(self.head)
        self.realness = nn.Linear(hidden_dim, 1)
        self.class_direction = nn.Embedding(2, hidden_dim)
        std = 1 / math.sqrt(hidden_dim)
        nn.init.normal_(self.class_direction.weight, std=std)
        self.attribute_directions = attribute_embeddings(attribute_levels, hidden_dim, std=std)

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        class_strength: float = 1.0,
        attributes: Tensor | None = None,
    ) -> Tensor:
        """images (B, 1, size_px, size_px) in [-1, 1], labels (B,), attributes (B, A) -> (B,)."""
        return self.judge(self.bands(images), labels, class_strength, attributes)

    def bands(self, images: Tensor) -> Tensor:
        """images (B, 1, S, S) -> scaled Haar bands (B, 4^levels, h, w), of like variance each."""
        with torch.autocast(images.device.type, enabled=False):
            bands: Tensor = F.conv2d(images.float(), self.analysis, stride=2**self.haar_levels)
        return bands

    def judge(
        self,
        bands: Tensor,
        labels: Tensor,
        class_strength: float = 1.0,
        attributes: Tensor | None = None,
    ) -> Tensor:
        """Scaled bands (B, 4^levels, h, w), labels (B,), attributes (B, A) -> logits (B,)."""
        features = self.body(bands)
        if self.batch_deviation:
            features = append_batch_deviation(features)
        hidden = self.head(features).float()
        directions = self.class_direction(labels) + embedded(self.attribute_directions, attributes)
        projection = (directions * hidden).sum(dim=1)
        logits: Tensor = self.realness(hidden).squeeze(1) + class_strength * projection
        return logits
