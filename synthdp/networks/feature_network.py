"""What every backbone is: grey images in, features in parts out, cut into trunk and top."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from synthdp.config import FeatureSettings, Pool, TrainableBlocks
from synthdp.errors import InputError

# How features are read from what a network gives: intensities, views, places to one vector.

#: Standard deviation of the window around the centre, as a share of the image's side.
WINDOW_SD = 0.18
#: Mean and spread that `standardised` gives to each image, and the least spread it divides by:
#: about those of the CBIS-DDSM patches, so that public weights see what they would without it.
_MEAN, _SPREAD, _LEAST_SPREAD = 0.0, 0.4, 0.02


def dihedral_views(images: Tensor, views: int) -> Iterator[Tensor]:
    """The first `views` of the eight flips and quarter turns of (B, C, S, S); itself first."""
    for index in range(views):
        turned = torch.rot90(images, index // 2, dims=(2, 3))
        yield turned.flip(3) if index % 2 else turned


def standardised(images: Tensor) -> Tensor:
    """Images (B, 1, H, W), each shifted and scaled to one mean and spread, held in [-2, 2]."""
    means = images.mean(dim=(1, 2, 3), keepdim=True)
    spreads = images.std(dim=(1, 2, 3), keepdim=True).clamp(min=_LEAST_SPREAD)
    return ((images - means) / spreads * _SPREAD + _MEAN).clamp(-2, 2)


def centre_window(height: int, width: int, *, device: torch.device) -> Tensor:
    """A Gaussian around the middle, (height, width), that sums to 1."""
    rows = (torch.arange(height, device=device) + 0.5) / height - 0.5
    columns = (torch.arange(width, device=device) + 0.5) / width - 0.5
    squares = rows.square().unsqueeze(1) + columns.square()
    window = torch.exp(-squares / (2 * WINDOW_SD**2))
    return window / window.sum()


def pooled(places: Tensor, class_token: Tensor | None, pools: Sequence[Pool]) -> list[Tensor]:
    """What a layer gives, as one vector for each way of pooling.

    Args:
        places: (B, C, H, W).
        class_token: (B, C), or None where the network has none.
        pools: what is asked for; `class_token` only where there is one.

    Returns:
        (B, C) float32 each.
    """
    places = places.float()
    found = {}
    if "class_token" in pools:
        assert class_token is not None  # the network was asked for it when it was built
        found["class_token"] = class_token.float()
    if "mean" in pools:
        found["mean"] = places.mean(dim=(2, 3))
    if "centre" in pools:
        window = centre_window(places.shape[2], places.shape[3], device=places.device)
        found["centre"] = (places * window).sum(dim=(2, 3))
    if "spread" in pools:
        found["spread"] = places.flatten(2).std(dim=2, correction=0)
    return [found[pool] for pool in pools]


class FeatureNetwork(nn.Module, ABC):
    """A network that turns grey images into features; made by `backbones.build_backbone`.

    `top(trunk(view))` are the features of one view, and `forward` takes their mean over the views
    that the settings name. Features come in parts, one for each layer and way of pooling.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, settings: FeatureSettings, trainable_blocks: TrainableBlocks
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.settings = settings
        self.trainable_blocks = trainable_blocks
        cfg: Any = network.pretrained_cfg
        for name in ("mean", "std"):
            values = torch.tensor(cfg[name])
            if settings.channels == 1:
                values = values.mean(dim=0, keepdim=True)
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)
        for parameter in self.network.parameters():
            parameter.requires_grad_(trainable_blocks == "all")
        self.eval()

    @property
    @abstractmethod
    def parts(self) -> tuple[int, ...]:
        """The length of each part of a feature vector, in order."""

    @property
    def n_features(self) -> int:
        """D, the length of a feature vector."""
        return sum(self.parts)

    @abstractmethod
    def trunk(self, images: Tensor) -> Tensor:
        """The frozen part.

        Args:
            images: (B, 1, S, S) float32 in [-1, 1].

        Returns:
            With n > 0 trainable blocks the tokens before them, (B, ...); with 0 the features,
            (B, D); with "all" the images.
        """

    @abstractmethod
    def top(self, tokens: Tensor) -> Tensor:
        """The part that is trained: what `trunk` gave to features, (B, D)."""

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S) in [-1, 1] to features (B, D), the mean over the views."""
        views = self.settings.views
        total = sum(self.top(self.trunk(view)).float() for view in dihedral_views(images, views))
        assert isinstance(total, Tensor)  # there is one view at least
        return total / views

    def _colour(self, images: Tensor) -> Tensor:
        """Grey images in [-1, 1] as the public weights know their input."""
        if self.settings.intensity == "standardised":
            images = standardised(images)
        return ((images + 1) / 2 - self.mean) / self.std

    def _check_layers(self, n_layers: int, what: str) -> None:
        """Refuse a layer that is not there; `what` names the layers of this kind of network."""
        if self.settings.layers and self.settings.layers[-1] >= n_layers:
            raise InputError(
                f"backbone.layers: {self.settings.name} has {what} 0 to {n_layers - 1}, not "
                f"{self.settings.layers[-1]}"
            )

    def _pools(self, has_class_token: bool) -> Sequence[Pool]:
        """The ways of pooling; by default the class token, if there is one, and the mean."""
        if self.settings.pools:
            if "class_token" in self.settings.pools and not has_class_token:
                raise InputError(
                    f"backbone.pools: {self.settings.name} has no class token; leave it out"
                )
            return self.settings.pools
        return ("class_token", "mean") if has_class_token else ("mean",)
