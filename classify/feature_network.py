"""What every backbone is: grey images in, features in parts out, cut into trunk and top."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from classify.readout import dihedral_views, standardised
from synthdp.config import FeatureSettings, Pool, TrainableBlocks
from synthdp.errors import InputError


class FeatureNetwork(nn.Module, ABC):
    """A network that turns grey images into features; made by `classify.backbones.build_backbone`.

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
