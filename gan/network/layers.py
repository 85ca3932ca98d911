"""What generator and discriminator are built of."""

import math
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .facts import FIRST_SIDE

NEGATIVE_SLOPE = 0.2


def stage_count(size_px: int, levels: int = 1) -> int:
    """How many stages (4 px, 8 px, ..., size_px / 2^levels) a network for `size_px` images has."""
    return round(math.log2(size_px // (FIRST_SIDE * 2**levels))) + 1


class Modulation(nn.Module):
    """Group normalisation with scale and shift from the style vector (AdaGN), then LeakyReLU."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(8, channels), channels, affine=False)
        self.scale_shift = nn.Linear(style_dim, 2 * channels)
        nn.init.normal_(self.scale_shift.weight, std=1.5 / math.sqrt(style_dim))
        nn.init.zeros_(self.scale_shift.bias)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """features (B, C, H, W), style (B, style_dim) -> (B, C, H, W)."""
        scale, shift = self.scale_shift(style)[:, :, None, None].chunk(2, dim=1)
        modulated = torch.addcmul(shift, self.norm(features), 1 + scale)
        return F.leaky_relu(modulated, NEGATIVE_SLOPE, inplace=True)


class NoisyConvolution(nn.Module):
    """A 3x3 convolution, noise of learned strength, modulation by the style.

    With `doubles`, the features are first enlarged by nearest neighbour. Both together are one
    transposed convolution whose 4x4 kernel is the 3x3 kernel convolved with a 2x2 box: the same
    numbers in 4/9 of the multiplications, and no checkerboard, which only a free 4x4 kernel could
    draw.
    """

    def __init__(
        self, inputs: int, outputs: int, side: int, style_dim: int, *, doubles: bool
    ) -> None:
        super().__init__()
        self.side = side
        self.doubles = doubles
        self.kernel = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        nn.init.kaiming_normal_(self.kernel, a=NEGATIVE_SLOPE)
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.modulation = Modulation(outputs, style_dim)

    def forward(self, features: Tensor, noise: Tensor, style: Tensor) -> Tensor:
        """features (B, inputs, h, w), noise (B, side * side) -> (B, outputs, side, side)."""
        if self.doubles:
            flipped = self.kernel.transpose(0, 1).flip(2, 3)
            wide = F.pad(flipped, (0, 1)) + F.pad(flipped, (1, 0))
            kernel = F.pad(wide, (0, 0, 0, 1)) + F.pad(wide, (0, 0, 1, 0))
            convolved = F.conv_transpose2d(features, kernel, stride=2, padding=1)
        else:
            convolved = F.conv2d(features, self.kernel, padding=1)
        noise_map = self.noise_strength * noise.view(-1, 1, self.side, self.side)
        modulated: Tensor = self.modulation(convolved + noise_map, style)
        return modulated


class SkipExcitation(nn.Module):
    """Gate the channels of a fine stage by a coarse one (Liu et al., arXiv 2101.04775, eq. 1)."""

    def __init__(self, coarse_channels: int, fine_channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(coarse_channels, fine_channels, FIRST_SIDE)
        self.excite = nn.Linear(fine_channels, fine_channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """coarse (B, Cc, h, w), fine (B, Cf, H, W) -> (B, Cf, H, W)."""
        pooled = F.adaptive_avg_pool2d(coarse, FIRST_SIDE)
        hidden = F.leaky_relu(self.squeeze(pooled).flatten(1), NEGATIVE_SLOPE)
        return fine * torch.sigmoid(self.excite(hidden))[:, :, None, None]


class ClassEmbedding(nn.Embedding):
    """One vector for each class of a finding; those of several findings are added.

    A finding that is unknown adds nothing.

    Args:
        findings: T; with 1 it is an embedding of the two classes.
        width: of a vector.
        std: standard deviation of the sum's entries at the start.
    """

    def __init__(self, findings: int, width: int, *, std: float) -> None:
        super().__init__(2 * findings, width)
        self.findings = findings
        nn.init.normal_(self.weight, std=std / math.sqrt(findings))

    def forward(self, labels: Tensor) -> Tensor:
        """Labels (B,), or (B, T) of 1, 0 and -1 for unknown, int64 -> (B, width)."""
        if self.findings == 1:
            return super().forward(labels)
        first = 2 * torch.arange(self.findings, device=labels.device)
        vectors = super().forward(first + labels.clamp(min=0))
        return (vectors * (labels >= 0)[:, :, None]).sum(dim=1)


def attribute_embeddings(levels: Sequence[int], width: int, *, std: float) -> nn.ModuleList:
    """One embedding of its known levels and of `unknown` (row 0) for each attribute."""
    tables = [nn.Embedding(1 + count, width) for count in levels]
    for table in tables:
        nn.init.normal_(table.weight, std=std)
    return nn.ModuleList(tables)


def embedded(tables: nn.ModuleList, attributes: Tensor | None) -> Tensor | float:
    """Sum the embeddings of attributes (B, A) to (B, width); 0 without any attribute.

    Raises:
        ValueError: when there are tables, but no attributes were given.
    """
    if not len(tables):
        return 0.0
    if attributes is None:
        raise ValueError("this network is conditioned on attributes; give their codes")
    columns = zip(tables, attributes.unbind(1), strict=True)
    total: Tensor = torch.stack([table(codes) for table, codes in columns]).sum(dim=0)
    return total


def append_batch_deviation(features: Tensor, group_size: int = 4) -> Tensor:
    """Append a channel with the standard deviation over groups of images: sameness shows.

    Images i, i + G, i + 2 G, ... of a batch form a group (Karras et al., arXiv 1710.10196, section
    3); a batch that `group_size` does not divide is one group. (B, C, H, W) -> (B, C + 1, H, W).
    """
    batch, _, height, width = features.shape
    size = group_size if batch % group_size == 0 else batch
    groups = features.reshape(size, batch // size, -1)
    groups = groups.float()
    variance = (groups - groups.mean(dim=0)).square().mean(dim=0)  # var() is ten times as slow
    deviation = (variance + 1e-8).sqrt().mean(dim=1)
    channel = deviation.repeat(size).view(batch, 1, 1, 1).expand(-1, 1, height, width)
    return torch.cat([features, channel.to(features)], dim=1)


def initialise_leaky(network: nn.Module) -> None:
    """Draw the weights of a stack so that LeakyReLU keeps the variance (arXiv 1502.01852)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=NEGATIVE_SLOPE)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


# The Haar bands of an image: fixed, orthonormal, and scaled to a like variance.

#: Rows: average, vertical difference, horizontal difference, diagonal; orthonormal, so that its
#: transpose inverts it.
HAAR_KERNELS = 0.5 * torch.tensor(
    [
        [[1.0, 1.0], [1.0, 1.0]],
        [[1.0, 1.0], [-1.0, -1.0]],
        [[1.0, -1.0], [1.0, -1.0]],
        [[1.0, -1.0], [-1.0, 1.0]],
    ]
)
#: Public constants, not fitted: the amplitude of a natural image falls with frequency about as
#: f^-1.5.
BAND_SCALES = {
    1: (1.0, 8.0, 8.0, 16.0),
    2: (0.5, 3.0, 3.0, 6.0, *4 * (8.0,), *4 * (8.0,), *4 * (16.0,)),
}


@cache
def haar_kernels(levels: int) -> Tensor:
    """The orthonormal kernels (4^levels, 1, 2^levels, 2^levels) that make one band each.

    Each further level splits every band of the one before (a wavelet packet): band 4 a + b is band
    b of band a.
    """
    kernels = HAAR_KERNELS
    for _ in range(levels - 1):
        finer = [torch.kron(fine, coarse) for coarse in kernels for fine in HAAR_KERNELS]
        kernels = torch.stack(finer)
    return kernels.unsqueeze(1)


def band_scales(levels: int) -> Tensor:
    """The factors (1, 4^levels, 1, 1) that give the bands of a natural image a like variance."""
    return torch.tensor(BAND_SCALES[levels], device=HAAR_KERNELS.device).view(1, -1, 1, 1)
