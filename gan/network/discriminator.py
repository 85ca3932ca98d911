"""What judges images while the generator is trained; no run gives its weights away."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .facts import FIRST_SIDE
from .layers import (
    NEGATIVE_SLOPE,
    ClassEmbedding,
    append_batch_deviation,
    attribute_embeddings,
    band_scales,
    embedded,
    haar_kernels,
    initialise_leaky,
)


class Discriminator(nn.Module):
    """Judge images by their scaled Haar bands; class and attributes enter by projection.

    logit = o(h) + class_strength * <E_y + sum of E_a, h> (Miyato and Koyama, arXiv 1802.05637, eq.
    4), with one embedding E_a for each attribute; of several findings E_y is a sum. Without
    `batch_deviation` it judges each image alone.
    """

    def __init__(
        self,
        channels: Sequence[int],
        haar_levels: int = 1,
        attribute_levels: Sequence[int] = (),
        *,
        findings: int = 1,
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
        std = 1 / math.sqrt(hidden_dim)
        self.class_direction = ClassEmbedding(findings, hidden_dim, std=std)
        self.attribute_directions = attribute_embeddings(attribute_levels, hidden_dim, std=std)

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        class_strength: float = 1.0,
        attributes: Tensor | None = None,
    ) -> Tensor:
        """images (B, 1, size_px, size_px) in [-1, 1], labels (B,) or (B, T), attributes -> (B,)."""
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
        """Scaled bands (B, 4^levels, h, w), labels (B,) or (B, T), attributes -> logits (B,)."""
        features = self.body(bands)
        if self.batch_deviation:
            features = append_batch_deviation(features)
        hidden = self.head(features).float()
        directions = self.class_direction(labels) + embedded(self.attribute_directions, attributes)
        projection = (directions * hidden).sum(dim=1)
        logits: Tensor = self.realness(hidden).squeeze(1) + class_strength * projection
        return logits
