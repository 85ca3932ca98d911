"""A second discriminator, on frozen public features of the images (projected GAN).

It gives the generator what a small set of images can't teach a network from scratch: what tissue
and edges look like. Sauer et al., arXiv 2111.01007; here with relativistic pairs of one class and
the class by projection, in each of four heads.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan.layers import FIRST_SIDE, NEGATIVE_SLOPE, append_batch_deviation
from gan.losses import relativistic_loss


class ScaleHead(nn.Module):
    """A logit from one feature map: fixed random mixing of channels, then small convolutions.

    Args:
        channels: C of the map.
        side: its height and width.
        width: channels after mixing.
        class_std: standard deviation of the class directions at the start.
    """

    mixing: Tensor

    def __init__(self, channels: int, side: int, width: int, class_std: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("mixing", torch.randn(width, channels, 1, 1) / math.sqrt(channels))
        layers: list[nn.Module] = []
        while side > FIRST_SIDE:
            layers += [nn.Conv2d(width, width, 4, 2, 1), nn.LeakyReLU(NEGATIVE_SLOPE)]
            side = (side + 1) // 2
        self.body = nn.Sequential(*layers)
        self.hidden = nn.Conv2d(width + 1, width, min(side, FIRST_SIDE))
        self.realness = nn.Linear(width, 1)
        self.class_direction = nn.Embedding(2, width)
        nn.init.normal_(self.class_direction.weight, std=class_std)

    def forward(self, features: Tensor, labels: Tensor, class_strength: float) -> Tensor:
        """Features (B, C, s, s), labels (B,) -> logits (B,)."""
        mixed = self.body(F.conv2d(features, self.mixing))
        hidden = self.hidden(append_batch_deviation(mixed)).mean(dim=(2, 3))
        hidden = F.leaky_relu(hidden, NEGATIVE_SLOPE).float()
        told = (self.class_direction(labels) * hidden).sum(dim=1)
        logits: Tensor = self.realness(hidden).squeeze(1) + class_strength * told
        return logits


class ProjectedHeads(nn.Module):
    """One head for each map of a `FrozenPyramid`."""

    def __init__(self, widths: Sequence[int], sides: Sequence[int], width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            ScaleHead(channels, side, width) for channels, side in zip(widths, sides, strict=True)
        )

    def forward(
        self, maps: Sequence[Tensor], labels: Tensor, class_strength: float
    ) -> list[Tensor]:
        """One map (B, C, s, s) for each head -> one vector of logits (B,) each."""
        return [
            head(features, labels, class_strength)
            for head, features in zip(self.heads, maps, strict=True)
        ]


def paired_loss(preferred: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """The mean over heads of the relativistic loss of their logits, (B,) each."""
    found = [relativistic_loss(a, b) for a, b in zip(preferred, other, strict=True)]
    return torch.stack(found).mean()
