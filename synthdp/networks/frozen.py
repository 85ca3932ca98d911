"""Frozen networks of timm that see grey images: what all have in common, and two kinds.

Every one is built by name, with a random start or public weights, is in evaluation mode, and gives
gradients to images alone. `Extractor` makes one vector of an image, which distances are measured
in; `FrozenPyramid` gives maps at several scales, by which a generator is guided. The network under
a classifier is `synthdp.networks.backbone`.
"""

import contextlib
import difflib
import hashlib
import importlib
import math
import sys
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from synthdp.checkpoint import weight_shapes
from synthdp.errors import InputError
from synthdp.networks.public.weight_files import HUB, found_weights
from synthdp.networks.public.weights import hub_file, load_public_weights
from synthdp.networks.settings import BackboneSettings

importlib.import_module("synthdp.networks.resnet9")  # timm knows it by name from here on

#: Part of every cache's name: raise it when features of the same weights change.
EXTRACTOR_VERSION = 1
#: Coarsest maps of the network that are used: strides 4, 8, 16 and 32 of an EfficientNet.
SCALES = 4
#: Parameters of the largest network that a received model may name without a file of its weights:
#: a ViT-B has 86 million.
MAX_UNASKED_PARAMETERS = 100_000_000
#: How many times the numbers of its file a network may have: at a larger side it has a larger table
#: of positions, and a file may leave the classifier out.
LARGER_SIDE = 1.2


def create_network(
    settings: BackboneSettings, *, seed: int, setting: str, channels: int = 3, **one_side: Any
) -> Any:
    """Build a network of timm by name, without its classifier, with a random start.

    Args:
        settings: name the network.
        seed: drives the random start; no global state moves.
        setting: what the settings are called in errors.
        channels: of the images that go into it.
        one_side: options of networks for images of one side, such as `img_size`; left out for a
            convolutional network, which takes any side and doesn't know them.

    Raises:
        InputError: when timm has no such network.
    """
    name = settings.name
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"{setting}: timm has no model {name!r}{hint}")
    always: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(name, **always, **one_side)
        except TypeError:
            return timm.create_model(name, **always)


def refuse_large_network(settings: BackboneSettings) -> None:
    """Refuse to build a large network because somebody else's settings name it.

    Up to `MAX_UNASKED_PARAMETERS` every network is built; a larger one where a file of weights is
    at hand that holds as many numbers, so that no few bytes of settings can ask for gigabytes.

    Raises:
        InputError: when timm has no such network, or it is larger.
    """
    size = _size(settings.name)
    if size <= MAX_UNASKED_PARAMETERS:
        return
    file = found_weights(settings)
    held = 0
    if file is not None:
        held = sum(math.prod(shape) for shape in weight_shapes(file).values())
    elif settings.weights == HUB and (cached := hub_file(settings.name)) is not None:
        held = sum(math.prod(shape) for shape in weight_shapes(cached).values())
    if size > held * LARGER_SIDE:
        raise InputError(
            f"backbone.name: {settings.name} has {size:,} parameters, more than the "
            f"{MAX_UNASKED_PARAMETERS:,} that are built because a model's settings say so; put "
            "the file of its weights beside the model, if you want it"
        )


@lru_cache(maxsize=64)
def _size(name: str) -> int:
    """How many numbers a network of timm has; it is built without memory."""
    try:
        with torch.device("meta"):
            network = create_network(BackboneSettings(name=name), seed=0, setting="backbone.name")
    except (RuntimeError, NotImplementedError):  # not to be built so: it may have any size
        return sys.maxsize
    return sum(tensor.numel() for tensor in network.state_dict().values())


class FrozenNetwork(nn.Module):
    """A network of timm for grey images, in evaluation mode, without gradients of its own.

    network: timm's own; settings: its name, weights and side; mean, std: (1, C, 1, 1), of the
    images that its weights were trained on, averaged over colours where it takes grey ones.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, settings: BackboneSettings, *, channels: int = 3) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        for name in ("mean", "std"):
            values = torch.tensor(network.pretrained_cfg[name])
            if channels == 1:
                values = values.mean(dim=0, keepdim=True)
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def normalised(self, images: Tensor) -> Tensor:
        """Grey images (B, 1, S, S) in [-1, 1] as the weights know theirs, (B, C, S, S)."""
        return ((images + 1) / 2 - self.mean) / self.std

    def tensors_digest(self, words: str, tensors: Iterable[tuple[str, Tensor]]) -> str:
        """SHA-256 of `words` and of named tensors of the network, whatever their order."""
        digest = hashlib.sha256(words.encode())
        for name, tensor in sorted(tensors):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class Extractor(FrozenNetwork):
    """A frozen network that turns grey images into pooled features, differentiably.

    A transformer with a class token gives that token after the final norm; any other network its
    own pooling. With `in_bfloat16` it multiplies in that precision: features differ a little, so
    its identity is another one.
    """

    def __init__(
        self, network: Any, settings: BackboneSettings, *, in_bfloat16: bool = False
    ) -> None:
        super().__init__(network, settings)
        self.in_bfloat16 = in_bfloat16

    @property
    def n_features(self) -> int:
        """D, the length of a feature vector."""
        return int(self.network.num_features)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S) float32 in [-1, 1], of any side, to features (B, D) float32."""
        side = self.settings.size_px
        if images.shape[-1] != side:
            images = F.interpolate(
                images, size=side, mode="bicubic", antialias=True, align_corners=False
            ).clamp(-1, 1)
        precision: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if self.in_bfloat16:  # else whatever the caller is in
            precision = torch.autocast(images.device.type, dtype=torch.bfloat16)
        with precision:
            features: Tensor = self.network(self.normalised(images))
        return features.float()

    def identity(self) -> str:
        """SHA-256 of what decides the features: name, input side, precision and all tensors."""
        words = f"extractor {EXTRACTOR_VERSION} {self.settings.name} {self.settings.size_px}"
        words += " bfloat16" if self.in_bfloat16 else ""
        return self.tensors_digest(words, self.network.state_dict().items())


def build_extractor(
    settings: BackboneSettings,
    *,
    seed: int = 0,
    in_bfloat16: bool = False,
    setting: str = "features",
) -> Extractor:
    """Build a timm network with the weights that `settings` names, without its classifier.

    Args:
        settings: name, weights (a file with its sha256, `hub`, or none) and input side.
        seed: drives the random start when there are no weights; no global state moves.
        in_bfloat16: whether the network multiplies in that precision.
        setting: what the settings are called in errors.

    Raises:
        InputError: when timm has no such model, or the weights are missing, of another sha256, or
            of another network.
    """
    network = create_network(settings, seed=seed, setting=setting, img_size=settings.size_px)
    load_public_weights(network, settings, setting=setting)
    return Extractor(network, settings, in_bfloat16=in_bfloat16)


class FrozenPyramid(FrozenNetwork):
    """The last `SCALES` feature maps of a frozen network, differentiable in the image.

    Batch normalisations are folded into the convolutions before them: the same numbers in less
    time. The network sees images at the side that they have.

    widths, sides: channels C and side s of each map, fine to coarse, for images of `size_px`.
    """

    def __init__(self, network: Any, settings: BackboneSettings, size_px: int) -> None:
        super().__init__(network, settings)
        _fold_normalisations(self.network)
        self.network.to(memory_format=torch.channels_last)
        with torch.no_grad():
            maps = self(torch.zeros(1, 1, size_px, size_px))
        self.widths = [features.shape[1] for features in maps]
        self.sides = [features.shape[2] for features in maps]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 1, S, S), about [-1, 1], to maps (B, C, s, s), fine to coarse, float32."""
        colours = self.normalised(images.clamp(-1.2, 1.2))
        colours = colours.contiguous(memory_format=torch.channels_last)
        maps = self.network.forward_intermediates(
            colours, indices=SCALES, intermediates_only=True, output_fmt="NCHW"
        )
        return [features.float() for features in maps]


def build_pyramid(
    settings: BackboneSettings, size_px: int, *, seed: int = 0, setting: str = "features"
) -> FrozenPyramid:
    """Build the pyramid of a timm network with the weights that `settings` names.

    Args:
        settings: name and weights; without weights it starts at random. Its `size_px` is not used.
        size_px: side of the images to come.
        seed: drives the random start; no global state moves.
        setting: what the settings are called in errors.

    Raises:
        InputError: when timm has no such network, it gives no feature maps or none of images of
            this side, or the weights are missing, of another sha256, or of another network.
    """
    network = create_network(settings, seed=seed, setting=setting)
    if not hasattr(network, "forward_intermediates"):
        raise InputError(
            f"{setting}: {settings.name} gives no feature maps; name a network such as "
            "tf_efficientnet_lite0"
        )
    load_public_weights(network, settings, setting=setting)
    try:
        return FrozenPyramid(network, settings, size_px)
    except (AssertionError, RuntimeError) as error:  # as timm and torch refuse a side
        raise InputError(
            f"{setting}: {settings.name} gives no feature maps of images of {size_px} px, as where "
            "attention has a table of positions; name a convolutional network, such as "
            "tf_efficientnet_lite0"
        ) from error


def channel_moments(maps: list[Tensor]) -> Tensor:
    """Mean and standard deviation of each channel of each map: (B, D), D = 2 sum of widths."""
    means = [features.mean(dim=(2, 3)) for features in maps]
    spreads = [
        ((features - mean[:, :, None, None]).square().mean(dim=(2, 3)) + 1e-6).sqrt()
        for features, mean in zip(maps, means, strict=True)
    ]
    return torch.cat([*means, *spreads], dim=1)


def _fold_normalisations(module: nn.Module) -> None:
    """Fold each batch normalisation below `module` into the convolution just before it."""
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
