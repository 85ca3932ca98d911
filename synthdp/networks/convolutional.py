"""Convolutional networks of timm: frozen, read after some of their stages."""

from typing import Any

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn

from synthdp.config import FeatureSettings, TrainableBlocks
from synthdp.errors import InputError
from synthdp.networks.feature_network import FeatureNetwork, pooled

_PROBE_PX = 64


def stages_of(network: Any) -> list[nn.Module] | None:
    """The stages of a convolutional network of timm; None where it has none that are known here."""
    if any(isinstance(layer, PatchEmbed) for layer in network.modules()):
        return None  # a transformer or mixer, which sees a grid of patches of one size alone
    for name in ("blocks", "stages"):
        found = getattr(network, name, None)
        if isinstance(found, nn.Sequential) and hasattr(network, "forward_features"):
            return list(found)
    if all(hasattr(network, f"layer{index}") for index in range(1, 5)):
        return [getattr(network, f"layer{index}") for index in range(1, 5)]
    return None


class ConvolutionalBackbone(FeatureNetwork):
    """A convolutional network, read after some of its stages; never trained.

    Its normalisation over a batch is used as the public weights fixed it, so that an image's
    features depend on that image alone; training it would couple the images.
    """

    def __init__(
        self, network: nn.Module, settings: FeatureSettings, trainable_blocks: TrainableBlocks
    ) -> None:
        super().__init__(network, settings, trainable_blocks)
        if trainable_blocks != 0:
            raise InputError(self._untrainable())
        self.network.to(memory_format=torch.channels_last)
        self.stages = stages_of(network) or []
        self._check_layers(len(self.stages), "stages")
        self.pools = self._pools(has_class_token=False)
        with torch.inference_mode():
            probe = torch.zeros(1, 1, _PROBE_PX, _PROBE_PX)
            self._parts = tuple(part.shape[1] for part in self._read(probe))

    def _untrainable(self) -> str:
        coupled = next(
            (
                name
                for name, layer in self.network.named_modules()
                if isinstance(layer, nn.modules.batchnorm._BatchNorm)
            ),
            None,
        )
        why = f"its layer {coupled} normalises over a batch" if coupled else "it is no ViT or Swin"
        return (
            f"backbone.name: {self.settings.name} gives frozen features only ({why}); set "
            "trainable_blocks to 0 and leave `network` out, or take a plain ViT"
        )

    @property
    def parts(self) -> tuple[int, ...]:
        """The length of each part of a feature vector, in order."""
        return self._parts

    def trunk(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S) in [-1, 1] to features (B, D)."""
        return torch.cat(self._read(images), dim=1)

    def top(self, tokens: Tensor) -> Tensor:
        """Nothing is trained: the features themselves."""
        return tokens

    def _read(self, images: Tensor) -> list[Tensor]:
        colour = self._colour(images).expand(-1, self.settings.channels, -1, -1)
        colour = colour.contiguous(memory_format=torch.channels_last)
        kept: list[Tensor] = []
        hooks = [
            self.stages[layer].register_forward_hook(lambda _m, _i, output: kept.append(output))
            for layer in self.settings.layers
        ]
        try:
            last = self.network.forward_features(colour)
        finally:
            for hook in hooks:
                hook.remove()
        return [part for places in kept or [last] for part in pooled(places, None, self.pools)]
