"""Feature maps of a frozen public network at several scales, differentiable in the image."""

from itertools import pairwise
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from synthdp.config import BackboneSettings
from synthdp.errors import InputError
from synthdp.networks.weights import load_public_weights

#: Coarsest maps of the network that are used: strides 4, 8, 16 and 32 of an EfficientNet.
SCALES = 4


class FrozenPyramid(nn.Module):
    """The last `SCALES` feature maps of a frozen timm network, for grey images.

    Batch normalisations are folded into the convolutions before them: the same numbers in less
    time. The network sees images at the side that they have.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, size_px: int) -> None:
        super().__init__()
        shape = (1, -1, 1, 1)
        cfg = network.pretrained_cfg
        self.register_buffer("mean", torch.tensor(cfg["mean"]).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(cfg["std"]).view(shape), persistent=False)
        self.network = network.eval().requires_grad_(False)
        _fold_normalisations(self.network)
        self.network.to(memory_format=torch.channels_last)
        with torch.no_grad():
            maps = self(torch.zeros(1, 1, size_px, size_px))
        self.widths = [features.shape[1] for features in maps]
        self.sides = [features.shape[2] for features in maps]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 1, S, S), about [-1, 1], to maps (B, C, s, s), fine to coarse, float32."""
        colours = ((images.clamp(-1.2, 1.2) + 1) / 2 - self.mean) / self.std
        colours = colours.contiguous(memory_format=torch.channels_last)
        maps = self.network.forward_intermediates(
            colours, indices=SCALES, intermediates_only=True, output_fmt="NCHW"
        )
        return [features.float() for features in maps]


def build_pyramid(settings: BackboneSettings, size_px: int, *, seed: int = 0) -> FrozenPyramid:
    """Build the pyramid of a timm network with the weights that `settings` names.

    Args:
        settings: name and weights; without weights it starts at random. Its `size_px` is not used.
        size_px: side of the images to come.
        seed: drives the random start; no global state moves.

    Raises:
        InputError: when timm has no such network or it gives no feature maps, or the weights are
            missing, of another sha256, or of another network.
    """
    if not timm.is_model(settings.name):
        raise InputError(f"features: timm has no model {settings.name!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = timm.create_model(settings.name, num_classes=0)
    if not hasattr(network, "forward_intermediates"):
        raise InputError(
            f"features: {settings.name} gives no feature maps; name a network such as "
            "tf_efficientnet_lite0"
        )
    if settings.weights is not None:
        load_public_weights(network, settings)
    return FrozenPyramid(network, size_px)


def pooled(maps: list[Tensor]) -> Tensor:
    """Mean and standard deviation of each channel of each map: (B, D), D = 2 sum of widths."""
    means = [features.mean(dim=(2, 3)) for features in maps]
    spreads = [
        ((features - mean[:, :, None, None]).square().mean(dim=(2, 3)) + 1e-6).sqrt()
        for features, mean in zip(maps, means, strict=True)
    ]
    return torch.cat([*means, *spreads], dim=1)


def _fold_normalisations(module: nn.Module) -> None:
    for child in module.children():
        _fold_normalisations(child)
    names = list(module._modules)
    for before, name in pairwise(names):
        convolution, norm = module._modules[before], module._modules[name]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            plain = nn.BatchNorm2d(norm.num_features, eps=norm.eps)
            known = plain.state_dict().keys()
            plain.load_state_dict({k: v for k, v in norm.state_dict().items() if k in known})
            module._modules[before] = fuse_conv_bn_eval(convolution, plain.eval())
            # timm's layer holds its activation; torch's own holds none
            module._modules[name] = getattr(norm, "act", nn.Identity())
