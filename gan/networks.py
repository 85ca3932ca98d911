"""The conditional generator and its discriminator: both work on the four Haar bands of an image."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan.film import Film
from gan.haar import band_scales, haar_kernels

FIRST_SIDE = 4
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


class Generator(nn.Module):
    """Latent vector, noise and class -> image, by way of the four Haar bands at half the size.

    Args:
        size_px: side of the square images: 32, 64 or 128.
        channels: width of each stage, from 4 px up to size_px / 2 (`stage_count(size_px)` of them).
        z_dim: length of the latent vector.
        style_dim: length of the style vector that modulates every layer.
        attribute_levels: for each further attribute, how many known levels it has.
        film: whether a film (`gan.film`) follows the network.
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


def attribute_embeddings(levels: Sequence[int], width: int, *, std: float) -> nn.ModuleList:
    """One embedding of its known levels and of `unknown` (row 0) for each attribute."""
    tables = [nn.Embedding(1 + count, width) for count in levels]
    for table in tables:
        nn.init.normal_(table.weight, std=std)
    return nn.ModuleList(tables)


def embedded(tables: nn.ModuleList, attributes: Tensor | None) -> Tensor | float:
    """Sum the embeddings of attributes (B, A) to (B, width); 0 without any attribute."""
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
